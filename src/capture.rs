//! Owns the camera's loop: takes each frame from the source into the ring, lets the night rule see it, and recovers the
//! source when it fails. The ring's only writer. Never writes to disk or network, and allocates nothing per frame.
//! Runs on the thread `capture`, which makes, drives and drops the source.

mod recovery;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use log::Level;

use crate::clock::{BootUs, Clock, WallUs};
use crate::error::{Error, Kind, Result};
use crate::events::{Event, Events};
use crate::frame::{FrameMeta, Layout};
use crate::health::{Gauges, State};
use crate::logging::Tally;
use crate::night::level::Histogram;
use crate::night::{Command, Measurement, Night, Settings};
use crate::ring::{Frames, Ring, Taken};
use crate::scale::Shrink;
use crate::shutdown::Shutdown;
use crate::source::{Camera, Incoming, Light, Outlet, Polled, Source, Spec};
use crate::threads;
use crate::tuning::{self, Held, Tuner};
pub use recovery::frame_timeout;
use recovery::{Attempt, FreezeDetector, LongestFrameTime, RecoveryLadder, RecoveryStep, SETTLE};

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Asked to stop.
    Stopped,
    /// The camera could not be brought back: the supervisor's turn.
    CameraLost,
}

/// What can be changed while the loop runs.
pub enum Order {
    /// New thresholds and exposures.
    Night(Settings),
    /// Image controls.
    Tune(tuning::Order),
    /// New presets.
    Presets(crate::tuning::Presets),
    /// The configuration was read again. A pause before the next attempt on a stream is over; one that comes from elsewhere now
    /// is connected anew.
    Source(Spec),
}

/// Everything the loop works with.
pub struct Capture {
    /// Where frames come from.
    pub spec: Spec,
    /// What is asked of it.
    pub camera: Camera,
    /// Size of the ring's pictures.
    pub ring_layout: Layout,
    /// Where goes what the source sends encoded.
    pub outlet: Outlet,
    /// Where frames go.
    pub frames: Arc<Frames>,
    /// What others see of it.
    pub gauges: Arc<Gauges>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// The day and night rule.
    pub night: Night,
    /// The image controls.
    pub tuner: Tuner,
    /// Changes.
    pub orders: Receiver<Order>,
    /// First frame id.
    pub first_id: u64,
    /// `camera.capture_timeout_s`.
    pub late: Duration,
    /// `camera.frozen_s`; zero: never.
    pub frozen: Duration,
    /// Told of switches between day and night, and when the camera is lost or back.
    pub events: Events,
}

/// The step between luma samples of the night rule, in both directions: 12,288 samples of 1024×768.
pub const SAMPLE_STEP: usize = 8;
/// How long one wait for a frame lasts at most: how soon a stop is seen.
const POLL: Duration = Duration::from_millis(250);
/// Making or starting a source that takes longer hangs; connecting to what is far away has limits of its own below that.
const START: Duration = Duration::from_secs(6 * 60);
/// The same between two looks for a frame.
const SOON: Duration = Duration::from_secs(10);

/// The loop with its state.
struct Loop<'a> {
    c: &'a mut Capture,
    histogram: Histogram,
    shrink: Option<Shrink>,
    fit: Option<Shrink>,
    next_id: u64,
    last_frame: BootUs,
    last_kept: BootUs,
    longest: LongestFrameTime,
    frozen: FreezeDetector,
    tally: Tally,
    command: Option<Command>,
    switched: bool,
    /// The exposure that was asked for and has not been seen yet (µs, gain), and the frames since.
    asked: Option<(f64, f64, u32)>,
    /// When the attempt under way began, and its first frame; since when the camera is not there, or not to be had.
    begun: BootUs,
    first_frame: Option<BootUs>,
    absent: Option<BootUs>,
    /// The configuration of the stream was read again.
    reloaded: bool,
}

impl Capture {
    /// Runs until asked to stop or until the camera cannot be brought back.
    pub fn run(&mut self, shutdown: &Shutdown) -> End {
        let shrink = (self.ring_layout != self.camera.layout).then(|| Shrink::new(self.ring_layout));
        let day_us = 1e6 / self.camera.fps;
        let next_id = self.first_id;
        let mut run = Loop {
            histogram: Histogram::default(),
            shrink,
            fit: None,
            next_id,
            last_frame: BootUs(0),
            last_kept: BootUs(0),
            longest: LongestFrameTime { in_force_us: day_us, before_us: day_us, frames: 0 },
            frozen: FreezeDetector::default(),
            tally: Tally::default(),
            command: None,
            switched: false,
            asked: None,
            begun: BootUs(0),
            first_frame: None,
            absent: None,
            reloaded: false,
            c: self,
        };
        run.run(shutdown)
    }
}

impl Loop<'_> {
    fn run(&mut self, shutdown: &Shutdown) -> End {
        let mut source: Option<Box<dyn Source>> = None;
        let mut ladder = RecoveryLadder::default();
        loop {
            let failed = match self.episode(&mut source, shutdown) {
                Ok(()) => return End::Stopped,
                Err(e) => e,
            };
            if std::mem::take(&mut self.reloaded) {
                log::info!("{failed}");
                (source, ladder) = (None, RecoveryLadder::default());
                continue;
            }
            let refused = failed.kind == Kind::Denied;
            if self.c.gauges.state() != State::Lost {
                self.c.gauges.set_state(State::Lost);
                self.c.events.publish(Event::State { state: State::Lost, why: failed.to_string() });
            }
            self.c.gauges.set_lost_because(Some(failed.to_string()));
            self.at_work(START);
            self.c.tuner.lost();
            self.refuse_orders();
            self.tally.log(Level::Warn, &format!("Frames lost: {failed}"));
            let policy = self.c.spec.retry_policy();
            let attempt = Attempt {
                begun: self.begun,
                delivered: self.first_frame.take().map(|first| self.last_frame.since(first)),
                refused,
                absent: self.absent,
            };
            let step = ladder.next(self.c.clock.boot(), attempt, policy);
            let pause = match step {
                RecoveryStep::Restart => {
                    let n = self.c.gauges.restarts.fetch_add(1, Relaxed) + 1;
                    log::info!("Recovery: the source is stopped and started ({n} times since the start)");
                    if let Some(s) = &mut source {
                        s.stop();
                    }
                    SETTLE
                }
                RecoveryStep::Rebuild => {
                    let n = self.c.gauges.rebuilds.fetch_add(1, Relaxed) + 1;
                    log::info!("Recovery: the source is made anew ({n} times since the start)");
                    source = None;
                    3 * SETTLE
                }
                RecoveryStep::RetryAfter(pause) => {
                    self.c.gauges.rebuilds.fetch_add(1, Relaxed);
                    if refused {
                        let s = pause.as_secs();
                        log::info!(
                            "Recovery: trying again in {s} s, so that the camera does not lock the account; at once on SIGHUP"
                        );
                    } else {
                        self.tally.log(Level::Info, "Recovery: trying again after a pause");
                    }
                    source = None;
                    pause
                }
                RecoveryStep::GiveUp => {
                    log::error!("The camera does not come back: leaving for the supervisor");
                    return End::CameraLost;
                }
            };
            self.at_work(pause + SOON);
            if self.rest(pause, shutdown) {
                return End::Stopped;
            }
            if std::mem::take(&mut self.reloaded) {
                ladder = RecoveryLadder::default();
            }
        }
    }

    /// Sleeps for this long, or until the configuration is read again; true when the program is to stop.
    fn rest(&mut self, pause: Duration, shutdown: &Shutdown) -> bool {
        let end = self.c.clock.boot() + pause;
        loop {
            let left = end.since(self.c.clock.boot());
            if self.reloaded || left.is_zero() {
                return shutdown.requested();
            }
            if shutdown.sleep(left.min(POLL)) {
                return true;
            }
            self.refuse_orders();
        }
    }

    /// Takes over where the stream comes from now; false where nothing has changed, or it is no stream.
    fn reload(&mut self, spec: Spec) -> bool {
        let changed = spec.is_remote() && spec != self.c.spec;
        self.reloaded = spec.is_remote();
        if changed {
            self.c.spec = spec;
        }
        changed
    }

    /// Tells the keeper that what comes now may take so long; see [`Gauges::at_work_until_us`].
    fn at_work(&self, time: Duration) {
        self.c.gauges.at_work_until_us.store((self.c.clock.boot() + time).0, Relaxed);
    }

    /// From making or starting the source until it fails (`Err`) or the program stops (`Ok`).
    fn episode(&mut self, source: &mut Option<Box<dyn Source>>, shutdown: &Shutdown) -> Result<()> {
        self.begun = self.c.clock.boot();
        self.absent = self.absent.or(Some(self.begun));
        self.at_work(START);
        if source.is_none() {
            self.c.spec = self.c.spec.clone().settled();
            self.c.gauges.set_source(self.c.spec.word());
            let made = self.c.spec.make(&self.c.camera, &self.c.outlet)?;
            self.tally.log(Level::Info, &format!("Source: {}", made.name()));
            self.c.gauges.set_model(made.model());
            self.c.gauges.set_device(made.device());
            let mut settings = self.c.night.settings().clone();
            settings.max_exposure_us = made.longest_exposure_us().map(|us| us as u64);
            self.c.night.reconfigure(settings);
            *source = Some(made);
        }
        let source = source.as_mut().expect("made above");
        self.frozen = FreezeDetector::default();
        source.start(self.next_id)?;
        self.absent = None;
        self.begin(source.as_mut())?;
        let mut since = self.c.clock.boot();
        let mut late_told = false;
        while !shutdown.requested() {
            threads::fault("work");
            while let Ok(order) = self.c.orders.try_recv() {
                self.obey(source.as_mut(), order)?;
            }
            let mut taken = Ok(());
            match source.next(POLL, &mut |frame| taken = self.accept(frame))? {
                Polled::Frame => {
                    taken?;
                    if self.c.gauges.state() != State::Running {
                        // The first frames of all are no news.
                        if self.c.gauges.state() == State::Lost {
                            self.c.events.publish(Event::State { state: State::Running, why: String::new() });
                        }
                        self.c.gauges.set_state(State::Running);
                        self.c.gauges.set_lost_because(None);
                        log::info!("Frames come");
                        // The next loss is news again.
                        self.tally = Tally::default();
                    }
                    since = self.c.clock.boot();
                    late_told = false;
                    self.follow(source.as_mut())?;
                }
                Polled::Nothing => {
                    self.at_work(SOON);
                    let waited = self.c.clock.boot().since(since);
                    let limit = frame_timeout(self.longest.frame()).max(source.patience() + 2 * POLL);
                    if waited > self.c.late && !late_told {
                        late_told = true;
                        self.tally.log(Level::Warn, &format!("Camera capture slow (> {:.1}s)", self.c.late.as_secs_f64()));
                    }
                    if waited > limit {
                        let what = format!("no frame for {:.1} s from {}", limit.as_secs_f64(), source.name());
                        return Err(Error::new(Kind::Timeout, what));
                    }
                }
            }
        }
        source.stop();
        Ok(())
    }

    /// A source that has just started is told everything: who exposes, and each control in force.
    fn begin(&mut self, source: &mut dyn Source) -> Result<()> {
        let renewal = self.c.tuner.started(&source.name(), source.controls(), self.c.night.mode());
        let command = self.c.night.restarted();
        self.c.night.hold(renewal.held != Held::No);
        match renewal.held {
            Held::No => self.expose(source, command)?,
            // Its frame times are the day's, whatever of the exposure is fixed after that.
            Held::Auto | Held::Manual => self.expose(source, Command::Day)?,
        }
        if !renewal.settings.is_empty() {
            if let Err(e) = source.set(&renewal.settings) {
                log::warn!("The controls in force are set one by one: {e}");
                for setting in &renewal.settings {
                    if let Err(e) = source.set(&[*setting]) {
                        log::warn!("{} keeps its own value: {e}", source.controls()[setting.0].name);
                    }
                }
            }
        }
        self.lasts(if renewal.held == Held::Manual { None } else { Some(command) });
        Ok(())
    }

    /// What is done between two frames: switches and exposures that the night rule has decided.
    fn follow(&mut self, source: &mut dyn Source) -> Result<()> {
        if std::mem::take(&mut self.switched) {
            let renewal = self.c.tuner.renew(self.c.night.mode());
            if let Err(e) = self.send(source, &renewal, self.c.night.held() && renewal.held == Held::No) {
                log::warn!("The preset of the switch is not in force: {e}");
            }
        }
        if let Some(command) = self.command.take().filter(|_| !self.c.night.held()) {
            self.expose(source, command)?;
        }
        Ok(())
    }

    fn obey(&mut self, source: &mut dyn Source, order: Order) -> Result<()> {
        match order {
            Order::Night(mut settings) => {
                settings.max_exposure_us = source.longest_exposure_us().map(|us| us as u64);
                self.c.night.reconfigure(settings);
            }
            Order::Presets(presets) => {
                self.c.tuner.presets(presets);
                self.switched = true;
                self.follow(source)?;
            }
            Order::Source(spec) => {
                if self.reload(spec) {
                    return Err(Error::new(Kind::Config, "The camera has changed: it is connected anew"));
                }
                self.reloaded = false;
            }
            Order::Tune(order) => {
                if let Some(prepared) = self.c.tuner.prepare(order, self.c.night.mode()) {
                    let sent = self.send(source, &prepared.renewal, prepared.released);
                    self.c.tuner.sent(prepared, sent, self.c.night.mode());
                }
            }
        }
        Ok(())
    }

    /// Orders that came while there was nothing to give them to.
    fn refuse_orders(&mut self) {
        while let Ok(order) = self.c.orders.try_recv() {
            match order {
                Order::Night(settings) => self.c.night.reconfigure(settings),
                Order::Presets(presets) => self.c.tuner.presets(presets),
                Order::Source(spec) => drop(self.reload(spec)),
                Order::Tune(order) => self.c.tuner.refuse(order),
            }
        }
    }

    /// Gives settings to the source; with `released`, the exposure back to the night rule first.
    fn send(&mut self, source: &mut dyn Source, renewal: &tuning::Renewal, released: bool) -> Result<()> {
        let was = self.c.night.held();
        if renewal.held == Held::Auto {
            source.expose(Light::Auto)?;
        }
        if !renewal.settings.is_empty() {
            source.set(&renewal.settings)?;
        }
        self.c.night.hold(renewal.held != Held::No);
        if released || (was && renewal.held == Held::No) {
            let command = self.c.night.restarted();
            self.command = None;
            self.expose(source, command)?;
            if was {
                log::info!("Light: the night rule has the exposure again");
            }
        } else if renewal.held != Held::No {
            if !was {
                log::info!("Light: the exposure is held by hand; the night rule only measures");
            }
            self.asked = None;
            self.lasts(None);
        }
        Ok(())
    }

    /// Notes how long frames may take from now on.
    fn lasts(&mut self, command: Option<Command>) {
        let day_us = 1e6 / self.c.camera.fps;
        let by_rule = match command {
            Some(Command::Night { exposure_us, .. }) => exposure_us as f64,
            Some(Command::Day) | None => 0.0,
        };
        self.longest.change(day_us.max(by_rule).max(self.c.tuner.frame_us().unwrap_or(0.0)));
        self.c.gauges.frame_us.store(self.longest.frame().as_micros() as u64, Relaxed);
    }

    fn expose(&mut self, source: &mut dyn Source, command: Command) -> Result<()> {
        let light = match command {
            Command::Day => Light::Auto,
            Command::Night { exposure_us, gain } => Light::Manual { time_us: exposure_us as f64, gain },
        };
        source.expose(light)?;
        self.asked = None;
        match light {
            Light::Manual { time_us, gain } => self.asked = Some((time_us, gain, 0)),
            Light::Auto => {
                if let Some(times) = self.c.tuner.frame_times() {
                    source.set(&[times])?;
                }
            }
        }
        self.lasts(Some(command));
        Ok(())
    }

    /// Says once what the camera gave of the night's exposure: its own metadata, not what was asked.
    fn granted(&mut self, frame: &Incoming<'_>) {
        let (Some((time_us, gain, frames)), Some(got)) = (&mut self.asked, frame.exposure) else { return };
        *frames += 1;
        let near = |asked: f64, got: f64| (got - asked).abs() <= 0.1 * asked;
        // 16: the frames after which the rule takes a different exposure for the driver's limit.
        if (near(*time_us, got.time_us) && near(*gain, got.gain())) || *frames >= 16 {
            log::info!(
                "Light: the camera exposes {:.0} us at gain {:.2} (asked for {time_us:.0} us at {gain:.2})",
                got.time_us,
                got.gain()
            );
            self.asked = None;
        }
    }

    /// One frame, and then what it proves: whoever is answered finds it in the ring.
    fn accept(&mut self, frame: &Incoming<'_>) -> Result<()> {
        self.take(frame)?;
        self.c.tuner.frame(frame.shown, self.next_id - 1);
        Ok(())
    }

    /// One frame from the source: into the ring, past the night rule.
    fn take(&mut self, frame: &Incoming<'_>) -> Result<()> {
        let id = frame.id.max(self.next_id);
        if self.last_frame != BootUs(0) && id > self.next_id {
            self.c.gauges.source_lost.fetch_add(id - self.next_id, Relaxed);
        }
        self.next_id = id + 1;
        self.last_frame = frame.boot;
        self.first_frame.get_or_insert(frame.boot);
        self.granted(frame);
        self.c.gauges.sent_pixels.fetch_max(frame.sent, Relaxed);
        self.longest.frame_came(frame.exposure.map_or(0.0, |x| x.time_us));
        self.c.gauges.frame_us.store(self.longest.frame().as_micros() as u64, Relaxed);
        let pace = Duration::from_millis(u64::from(self.c.gauges.pace_ms.load(Relaxed)));
        if !pace.is_zero() && frame.boot.since(self.last_kept) < pace {
            return Ok(());
        }
        self.last_kept = frame.boot;
        let frames = self.c.frames.clone();
        let full = frames.on_demand().map(|ring| self.fill_whole(ring, frame));
        let past =
            if self.shrink.is_some() { self.fill_small(&frames.past, frame) } else { self.fill_whole(&frames.past, frame) };
        // Now that the copy has brought the picture into the cache, looking at samples of it is nearly free.
        self.histogram.clear();
        let (luma, layout) = (frame.main.samples(0), frame.main.layout);
        // Where chroma stands between the luma samples, the grid of even columns over all bytes meets luma only.
        let grid = Layout::new(layout.width * luma.step as u32, layout.height);
        self.histogram.measure(luma.data, luma.stride, grid, SAMPLE_STEP);
        let frozen = self.c.frozen;
        if !frozen.is_zero() && self.c.spec.is_remote() && self.frozen.sees(self.histogram.bins(), frame.boot) > frozen {
            return Err(Error::new(
                Kind::Timeout,
                format!("one and the same picture for {:.0} s (camera.frozen_s)", frozen.as_secs_f64()),
            ));
        }
        let step = self.c.night.step(&Measurement {
            now: frame.boot,
            histogram: &self.histogram,
            span: frame.colour.span,
            exposure: frame.exposure,
            ae: frame.ae,
        });
        let night = step.mode == crate::night::Mode::Night;
        self.command = step.command;
        let exit = self.c.night.settings().exit().0;
        self.c.gauges.set_level(step.level as f32, exit, night);
        if let Some(switch) = step.switched {
            self.c.gauges.switches.fetch_add(1, Relaxed);
            log::info!("Light: {switch}");
            self.switched = true;
            self.c.events.publish(Event::Mode { night, level: step.level as f32 });
        }
        if let Some(given) = step.clamped {
            log::warn!(
                "The camera gives {:.0} us at gain {:.1}, less than asked; the night makes do with it",
                given.time_us,
                given.gain()
            );
        }
        // The wall clock of the frame's instant, as that clock stands now.
        let wall = WallUs(self.c.clock.wall().0 - (self.c.clock.boot() - frame.boot));
        for (slot, layout) in full.into_iter().chain([past]).flatten() {
            slot.publish(FrameMeta {
                id,
                boot: frame.boot,
                wall,
                layout,
                colour: frame.colour,
                exposure: frame.exposure,
                ae: frame.ae,
                lux: frame.lux,
                colour_temperature: frame.colour_temperature,
                focus: frame.focus,
                night,
                drawn: matches!(self.c.spec, Spec::Pattern(_)),
            })?;
        }
        Ok(())
    }

    /// The one copy of the frame: turned upright, else as it is or, where it has outgrown the slot, made to fit the camera's
    /// configured size.
    /// `None` when every slot is being read; the ring counts the loss and the camera goes on.
    fn fill_whole<'r>(&mut self, ring: &'r Ring, frame: &Incoming<'_>) -> Option<(Taken<'r>, Layout)> {
        let mut slot = ring.take()?;
        let (sent, wanted) = (frame.turn.of(frame.main.layout), self.c.camera.layout);
        if sent.bytes() <= ring.slot_bytes() {
            frame.turn.copy(&frame.main, slot.pixels());
            return Some((slot, sent));
        }
        let fit = self.fit.get_or_insert_with(|| {
            log::warn!(
                "The source sends {}x{}; it is made to fit camera.width and camera.height, {}x{}",
                sent.width,
                sent.height,
                wanted.width,
                wanted.height
            );
            Shrink::new(wanted)
        });
        fit.turned(&frame.main, frame.turn, slot.pixels());
        Some((slot, wanted))
    }

    /// The frame at the ring's own size, by the source's hardware where it has made such a picture.
    fn fill_small<'r>(&mut self, ring: &'r Ring, frame: &Incoming<'_>) -> Option<(Taken<'r>, Layout)> {
        let (mut slot, layout) = (ring.take()?, self.c.ring_layout);
        match (frame.low.as_ref().filter(|low| frame.turn.of(low.layout) == layout), &mut self.shrink) {
            (Some(low), _) => frame.turn.copy(low, slot.pixels()),
            (None, Some(shrink)) => shrink.turned(&frame.main, frame.turn, slot.pixels()),
            (None, None) => return None,
        }
        Some((slot, layout))
    }
}
