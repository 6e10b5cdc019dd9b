//! Owns the camera's loop: takes each frame from the source into the ring, lets the night rule see it, and recovers the
//! source when it fails. The ring's only writer. Never writes to disk or network, and allocates nothing per frame.
//! Runs on the thread `capture`, which makes, drives and drops the source.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use log::Level;

use crate::clock::{BootUs, Clock, WallUs};
use crate::error::{Error, Kind, Result};
use crate::frame::{FrameMeta, Layout};
use crate::health::{Gauges, State};
use crate::logging::Tally;
use crate::night::level::Histogram;
use crate::night::{Command, Measurement, Night, Settings};
use crate::ring::{Frames, Ring, Taken};
use crate::scale::Shrink;
use crate::shutdown::Shutdown;
use crate::source::{Camera, Incoming, Light, Patience, Polled, Source, Spec};

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
}

/// Everything the loop works with.
pub struct Capture {
    /// Where frames come from.
    pub spec: Spec,
    /// What is asked of it.
    pub camera: Camera,
    /// Size of the ring's pictures.
    pub ring_layout: Layout,
    /// Where frames go.
    pub frames: Arc<Frames>,
    /// What others see of it.
    pub gauges: Arc<Gauges>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// The day and night rule.
    pub night: Night,
    /// Changes.
    pub orders: Receiver<Order>,
    /// First frame id.
    pub first_id: u64,
    /// `camera.capture_timeout_s`.
    pub late: Duration,
    /// `camera.frozen_s`; zero: never.
    pub frozen: Duration,
    /// Told after each switch between day and night; must not block.
    pub events: Box<dyn Fn() + Send>,
}

/// The step between luma samples of the night rule, in both directions: 12,288 samples of 1024×768.
const SAMPLE_STEP: usize = 8;
/// How long one wait for a frame lasts at most: how soon a stop is seen.
const POLL: Duration = Duration::from_millis(250);

/// No frame for this long means the source is lost: `max(5 s, 3 · frame time + 2 s)`.
pub fn silence(frame_time: Duration) -> Duration {
    Duration::from_secs(5).max(3 * frame_time + Duration::from_secs(2))
}

/// The loop with its state.
struct Loop<'a> {
    c: &'a mut Capture,
    histogram: Histogram,
    shrink: Option<Shrink>,
    fit: Option<Shrink>,
    next_id: u64,
    last_frame: BootUs,
    last_kept: BootUs,
    /// Frame times of the exposure in force and of the one before [µs].
    frame_us: [f64; 2],
    frozen: Frozen,
    tally: Tally,
    command: Option<Command>,
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
            frame_us: [day_us, day_us],
            frozen: Frozen::default(),
            tally: Tally::default(),
            command: None,
            c: self,
        };
        run.run(shutdown)
    }
}

impl Loop<'_> {
    fn run(&mut self, shutdown: &Shutdown) -> End {
        let mut source: Option<Box<dyn Source>> = None;
        let mut ladder = Ladder::default();
        loop {
            let failed = match self.episode(&mut source, shutdown) {
                Ok(()) => return End::Stopped,
                Err(e) => e,
            };
            self.c.gauges.set_state(State::Lost);
            self.tally.log(Level::Warn, &format!("Frames lost: {failed}"));
            let (now, gone) = (self.c.clock.boot(), source.is_none() && self.last_frame != BootUs(0));
            let patience = match self.c.spec.patience() {
                Patience::Replug if gone && now.since(self.last_frame) < UNPLUGGED => Patience::Forever,
                Patience::Replug => Patience::Ladder,
                other => other,
            };
            let step = ladder.next(now, self.last_frame, patience);
            let pause = match step {
                Step::Restart => {
                    self.c.gauges.restarts.fetch_add(1, Relaxed);
                    log::info!("Recovery: the source is stopped and started");
                    if let Some(s) = &mut source {
                        s.stop();
                    }
                    BREATH
                }
                Step::Rebuild => {
                    self.c.gauges.rebuilds.fetch_add(1, Relaxed);
                    log::info!("Recovery: the source is made anew");
                    source = None;
                    3 * BREATH
                }
                Step::Again(pause) => {
                    self.c.gauges.rebuilds.fetch_add(1, Relaxed);
                    self.tally.log(Level::Info, "Recovery: connecting again after a pause");
                    source = None;
                    pause
                }
                Step::GiveUp => {
                    log::error!("The camera does not come back: leaving for the supervisor");
                    return End::CameraLost;
                }
            };
            if shutdown.sleep(pause) {
                return End::Stopped;
            }
        }
    }

    /// From making or starting the source until it fails (`Err`) or the program stops (`Ok`).
    fn episode(&mut self, source: &mut Option<Box<dyn Source>>, shutdown: &Shutdown) -> Result<()> {
        if source.is_none() {
            self.c.spec = self.c.spec.clone().settled();
            let made = self.c.spec.make(&self.c.camera)?;
            self.tally.log(Level::Info, &format!("Source: {}", made.name()));
            let mut settings = self.c.night.settings().clone();
            settings.max_exposure_us = made.longest_exposure_us().map(|us| us as u64);
            self.c.night.reconfigure(settings);
            *source = Some(made);
        }
        let source = source.as_mut().expect("made above");
        self.frozen = Frozen::default();
        source.start(self.next_id)?;
        let command = self.c.night.restarted();
        self.expose(source.as_mut(), command)?;
        let mut since = self.c.clock.boot();
        let mut late_told = false;
        while !shutdown.requested() {
            while let Ok(Order::Night(mut settings)) = self.c.orders.try_recv() {
                settings.max_exposure_us = source.longest_exposure_us().map(|us| us as u64);
                self.c.night.reconfigure(settings);
            }
            let mut taken = Ok(());
            match source.next(POLL, &mut |frame| taken = self.take(frame))? {
                Polled::Frame => {
                    taken?;
                    if self.c.gauges.state() != State::Running {
                        self.c.gauges.set_state(State::Running);
                        log::info!("Frames come");
                        // The next loss is news again.
                        self.tally = Tally::default();
                    }
                    since = self.c.clock.boot();
                    late_told = false;
                    if let Some(command) = self.command.take() {
                        self.expose(source.as_mut(), command)?;
                    }
                }
                Polled::Nothing => {
                    let waited = self.c.clock.boot().since(since);
                    let limit = silence(Duration::from_micros(self.frame_us[0].max(self.frame_us[1]) as u64));
                    if waited > self.c.late && !late_told {
                        late_told = true;
                        self.tally.log(Level::Warn, &format!("Camera capture slow (> {:.1}s)", self.c.late.as_secs_f64()));
                    }
                    if waited > limit {
                        return Err(Error::new(Kind::Timeout, format!("no frame for {:.1} s", limit.as_secs_f64())));
                    }
                }
            }
        }
        source.stop();
        Ok(())
    }

    fn expose(&mut self, source: &mut dyn Source, command: Command) -> Result<()> {
        let day_us = 1e6 / self.c.camera.fps;
        let (light, frame_us) = match command {
            Command::Day => (Light::Auto, day_us),
            Command::Night { exposure_us, gain } => {
                (Light::Manual { time_us: exposure_us as f64, gain }, day_us.max(exposure_us as f64))
            }
        };
        self.frame_us = [frame_us, self.frame_us[0]];
        source.expose(light)
    }

    /// One frame from the source: into the ring, past the night rule.
    fn take(&mut self, frame: &Incoming<'_>) -> Result<()> {
        let id = frame.id.max(self.next_id);
        if self.last_frame != BootUs(0) && id > self.next_id {
            self.c.gauges.source_lost.fetch_add(id - self.next_id, Relaxed);
        }
        self.next_id = id + 1;
        self.last_frame = frame.boot;
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
            (self.c.events)();
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
            })?;
        }
        Ok(())
    }

    /// The one copy of the frame: as it is or, where it has outgrown the slot, made to fit the camera's configured size.
    /// `None` when every slot is being read; the ring counts the loss and the camera goes on.
    fn fill_whole<'r>(&mut self, ring: &'r Ring, frame: &Incoming<'_>) -> Option<(Taken<'r>, Layout)> {
        let mut slot = ring.take()?;
        let (sent, wanted) = (frame.main.layout, self.c.camera.layout);
        if sent.bytes() <= ring.slot_bytes() {
            frame.main.copy_to(slot.pixels());
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
        fit.run(&frame.main, slot.pixels());
        Some((slot, wanted))
    }

    /// The frame at the ring's own size, by the source's hardware where it has made such a picture.
    fn fill_small<'r>(&mut self, ring: &'r Ring, frame: &Incoming<'_>) -> Option<(Taken<'r>, Layout)> {
        let (mut slot, layout) = (ring.take()?, self.c.ring_layout);
        match (frame.low.as_ref().filter(|low| low.layout == layout), &mut self.shrink) {
            (Some(low), _) => low.copy_to(slot.pixels()),
            (None, Some(shrink)) => shrink.run(&frame.main, slot.pixels()),
            (None, None) => return None,
        }
        Some((slot, layout))
    }
}

/// Tells a stream that repeats one picture: its samples never change.
#[derive(Default)]
struct Frozen {
    sum: u64,
    since: Option<BootUs>,
}

impl Frozen {
    /// For how long the picture has been the same.
    fn sees(&mut self, bins: &[u32; 256], now: BootUs) -> Duration {
        let sum = bins.iter().fold(0u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        if sum != self.sum {
            (self.sum, self.since) = (sum, Some(now));
        }
        now.since(*self.since.get_or_insert(now))
    }
}

/// A failure this long after the last step begins the ladder anew; it includes the silence that shows a failure.
const CALM: Duration = Duration::from_secs(60);
/// What a camera gets between a failure and a restart, and three of them before it is made anew: a bus that is being reset
/// answers at once, and wrongly.
const BREATH: Duration = Duration::from_secs(1);
/// How long a camera that was unplugged is waited for, the ring kept; after that the supervisor starts the program anew.
const UNPLUGGED: Duration = Duration::from_secs(300);
/// Pauses between attempts on something far away, from the first on.
const PAUSES_S: [u64; 7] = [1, 2, 4, 8, 15, 30, 60];

#[derive(Debug, PartialEq)]
enum Step {
    Restart,
    Rebuild,
    Again(Duration),
    GiveUp,
}

/// ```text
/// failure ─► Restart ─► again within 60 s ─► Rebuild ─► again within 60 s ─► GiveUp        (a camera of this machine)
/// the same; no such camera any more ─► pause 4 s ─► 8 s … 60 s for 5 min ─► GiveUp                   (a webcam unplugged)
/// failure ─► pause 1 s ─► 2 s ─► 4 s … 60 s, for ever                                       (a stream)
/// ```
#[derive(Default)]
struct Ladder {
    taken: usize,
    last: Option<BootUs>,
}

impl Ladder {
    fn next(&mut self, now: BootUs, last_frame: BootUs, patience: Patience) -> Step {
        let calm = self.last.is_none_or(|t| match patience {
            Patience::Ladder | Patience::Replug => now.since(t) > CALM,
            // A stream that delivered for a while after the last attempt was well again.
            Patience::Forever => last_frame.since(t) > CALM / 2,
        });
        if calm {
            self.taken = 0;
        }
        self.taken += 1;
        self.last = Some(now);
        match (patience, self.taken) {
            (Patience::Forever, n) => Step::Again(Duration::from_secs(PAUSES_S[(n - 1).min(PAUSES_S.len() - 1)])),
            (Patience::Ladder | Patience::Replug, 1) => Step::Restart,
            (Patience::Ladder | Patience::Replug, 2) => Step::Rebuild,
            (Patience::Ladder | Patience::Replug, _) => Step::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(t: u64) -> BootUs {
        BootUs(t * 1_000_000)
    }

    #[test]
    fn the_ladder_is_climbed_only_by_failures_close_together() {
        let mut l = Ladder::default();
        assert_eq!(l.next(s(100), s(95), Patience::Ladder), Step::Restart);
        assert_eq!(l.next(s(106), s(95), Patience::Ladder), Step::Rebuild);
        assert_eq!(l.next(s(200), s(195), Patience::Ladder), Step::Restart);
        assert_eq!(l.next(s(206), s(195), Patience::Ladder), Step::Rebuild);
        assert_eq!(l.next(s(212), s(195), Patience::Ladder), Step::GiveUp);
    }

    #[test]
    fn a_stream_is_asked_again_for_ever_with_growing_pauses() {
        let mut l = Ladder::default();
        let mut pause = |t, frame| match l.next(s(t), s(frame), Patience::Forever) {
            Step::Again(p) => p.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!([pause(10, 0), pause(12, 0), pause(15, 0)], [1, 2, 4]);
        assert_eq!((0..20).map(|i| pause(100 + i, 0)).last(), Some(60));
        assert_eq!(pause(1000, 990), 1);
    }

    #[test]
    fn silence_grows_with_the_exposure() {
        assert_eq!(silence(Duration::from_millis(100)), Duration::from_secs(5));
        assert_eq!(silence(Duration::from_secs(2)), Duration::from_secs(8));
    }

    #[test]
    fn one_picture_again_and_again_is_noticed() {
        let (mut f, mut bins) = (Frozen::default(), [0; 256]);
        assert_eq!(f.sees(&bins, s(1)), Duration::ZERO);
        assert_eq!(f.sees(&bins, s(31)), Duration::from_secs(30));
        bins[3] = 1;
        assert_eq!(f.sees(&bins, s(32)), Duration::ZERO);
    }
}
