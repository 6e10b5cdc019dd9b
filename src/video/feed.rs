//! Owns the way of pictures from the ring into the encoder: when to send, what to send again, when an encoder has failed and
//! which one comes next. Never holds more than the pictures inside the encoder. Runs on the thread `video`, which sleeps
//! while nobody subscribes.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gstreamer as gst;

use super::choose;
use super::encode::{Encoder, Out, Settings};
use super::hub::Hub;
use super::pass_through::PassThrough;
use crate::clock::{BootUs, Clock, WallUs};
use crate::codec::Implementation;
use crate::error::{Error, Kind, Result};
use crate::export::Pixels;
use crate::frame::{Colour, FrameMeta, Layout};
use crate::health::{Gauges, State};
use crate::overlay;
use crate::ring::{Frames, Slot};
use crate::threads::{self, Thread};

/// What the feeder is to do; changes while it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// `video.encoder`
    pub encoder: Option<Implementation>,
    /// How to encode.
    pub settings: Settings,
    /// `video.overlay`
    pub overlay: String,
    /// Size of the camera's pictures, for the one that stands in while it is away.
    pub camera: Layout,
}

/// Makes an encoder of pictures of this size and colour.
pub type Make = fn(Implementation, (Layout, Colour), &Settings, Out) -> Result<Encoder>;

/// Everything the feeder works with.
pub struct Feeder {
    /// Where units go.
    pub hub: Arc<Hub>,
    /// The camera's own stream, which leaves nothing to encode.
    pub pass: Arc<PassThrough>,
    /// Where pictures come from.
    pub frames: Arc<Frames>,
    /// Whether the camera is there.
    pub gauges: Arc<Gauges>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// What is wished.
    pub wish: Arc<Mutex<Wish>>,
    /// Who encodes now, for others to see.
    pub at_work: Arc<Mutex<Option<Implementation>>>,
    /// Whether the hardware encoder is trusted; for others to see.
    pub hardware: Arc<AtomicBool>,
    /// [`Encoder::new`], but in tests.
    pub make: Make,
}

/// A night frame is sent this often: clients that hold back two pictures then show it at once.
const TIMES: u32 = 3;
/// Pictures sent in short order when a viewer begins, and the time between them. ffmpeg, and all players made of it, show nothing
/// before they have decoded 7 pictures and then measured 20 intervals; 28 pictures were counted (ffmpeg 5.1 and 8.1).
const WARM_UP: (u32, Duration) = (32, Duration::from_millis(80));
/// Frames that are further apart are bridged for who joins, even where that is the day's rate. Others are not: repeats are in
/// recordings, too.
const SLOW: Duration = Duration::from_millis(1500);
/// Between two key frames that were asked for: a storm of viewers must not make all frames key frames.
const KEY_PAUSE: Duration = Duration::from_millis(100);
/// A processor that had no time for so long makes up for it from the ring, so that recordings have no gap.
const BEHIND: Duration = Duration::from_secs(1);
/// One that could not make up for it within this time never will: then viewers had better see what is new.
const HOPELESS: Duration = Duration::from_secs(10);
/// Between looks at an encoder that has to take more than it can for the moment.
const FULL: Duration = Duration::from_millis(5);
/// For so long it may be full before the oldest waiting picture is driven out of it.
const STUCK: Duration = Duration::from_millis(200);
/// Between two pictures that stand in for a camera that is away.
const STAND_IN: Duration = Duration::from_millis(500);
/// A camera that has not given its first frame yet is not away before this time is over.
const STARTING: Duration = Duration::from_secs(3);
/// An encoder that was given pictures and gave nothing back for so long has fallen silent.
const SILENT: Duration = Duration::from_secs(3);
/// A second failure within this time is the next encoder's turn.
const AGAIN: Duration = Duration::from_secs(60);
/// Between looks while the camera's own stream goes out; its end wakes at once.
const RESTING: Duration = Duration::from_millis(500);
/// When no encoder is left, all are tried again after this time.
const NONE_LEFT: Duration = Duration::from_secs(5);

/// What was sent last.
#[derive(Default)]
struct LastSent {
    /// Boot-time instant of the newest frame sent.
    frame: BootUs,
    /// Time stamp and moment of the last picture.
    stamp: BootUs,
    at: BootUs,
    key_at: BootUs,
    /// When frames were last left out.
    leapt: Option<BootUs>,
    /// How often the newest frame was sent.
    times: u32,
    /// Pictures still to be sent in short order.
    warm_up: u32,
    /// How late the newest frame was when it was first sent.
    lag: Duration,
}

/// The encoder at work, and what tells whether it works.
struct RunningEncoder {
    encoder: Encoder,
    /// Pictures in and out at the last change of the latter, and when that was.
    out: u64,
    fed: u64,
    since: BootUs,
}

/// Encoders that failed.
#[derive(Default)]
struct EncoderFailures {
    last: Option<(Implementation, BootUs)>,
    out: Vec<Implementation>,
}

impl EncoderFailures {
    /// Notes a failure; true when this encoder is given up.
    fn note(&mut self, coder: Implementation, now: BootUs) -> bool {
        let again = self.last.is_some_and(|(c, at)| c == coder && now.since(at) < AGAIN);
        self.last = Some((coder, now));
        if again && !self.out.contains(&coder) {
            self.out.push(coder);
        }
        again
    }
}

/// From the first subscriber to the last one's going.
struct Session<'a> {
    f: &'a Feeder,
    wish: Wish,
    /// Whether the hardware encoder may be used.
    hardware: bool,
    failures: &'a mut EncoderFailures,
    work: Option<RunningEncoder>,
    sent: LastSent,
    begun: BootUs,
    /// Memory of pictures that are drawn.
    drawn: Arc<Vec<u8>>,
}

/// A picture on its way to the encoder.
struct Shot {
    picture: (Layout, Colour),
    pixels: Pixels,
    id: u64,
    stamp: BootUs,
    wall: WallUs,
}

impl Feeder {
    /// Feeds whenever somebody subscribes, until the hub is closed.
    pub fn run(&self) {
        let wish = self.wish();
        let size = wish.settings.size.unwrap_or(wish.camera);
        // By name it is used without a test; otherwise it is tested before the first viewer comes, who would have to wait.
        let hardware = match wish.encoder {
            Some(coder) => coder == Implementation::Hardware,
            None => {
                choose::candidates(None, size).contains(&Implementation::Hardware)
                    && choose::trusts_hardware(size, wish.settings.fps)
            }
        };
        self.hardware.store(hardware, Relaxed);
        let mut failures = EncoderFailures::default();
        while self.hub.wait_for_subscriber() {
            threads::fault("work");
            let (sent, drawn) = (LastSent::default(), Arc::default());
            let wish = self.wish();
            let hardware = hardware || wish.encoder == Some(Implementation::Hardware);
            Session { f: self, wish, hardware, failures: &mut failures, work: None, sent, begun: self.clock.boot(), drawn }.run();
            *self.at_work.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    fn wish(&self) -> Wish {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Session<'_> {
    fn run(mut self) {
        // Where the ring's pictures are smaller, full ones appear only while they are wanted.
        let mut wanted = None;
        while self.f.hub.has_subscribers() {
            self.follow_the_wish();
            let seen = self.f.frames.whole().published();
            let now = self.f.clock.boot();
            if self.f.hub.passes_through() {
                self.rest();
                wanted = None;
                self.f.frames.whole().wait_published(seen, RESTING);
                continue;
            }
            wanted.get_or_insert_with(|| self.f.frames.want());
            let done = match self.work.as_mut().and_then(|w| w.trouble(now)) {
                Some(e) => Err(e),
                None => self.step(now),
            };
            let wait = done.unwrap_or_else(|e| {
                log::warn!("Encoder: {e}");
                self.replace(now)
            });
            self.f.frames.whole().wait_published(seen, wait);
        }
    }

    /// The camera's own stream goes out: nothing is encoded.
    fn rest(&mut self) {
        if let Some(work) = self.work.take() {
            *self.f.at_work.lock().unwrap_or_else(PoisonError::into_inner) = None;
            drop(work);
        }
        (self.sent, self.begun) = (LastSent::default(), BootUs(0));
    }

    fn follow_the_wish(&mut self) {
        let wish = self.f.wish();
        if wish == self.wish {
            return;
        }
        let kept = wish.encoder == self.wish.encoder && self.work.as_mut().is_none_or(|w| w.encoder.adapt(&wish.settings));
        self.wish = wish;
        if !kept {
            self.failures.out.clear();
            self.work = None;
            self.sent.times = 0;
            self.f.hub.request_keyframe();
        }
    }

    /// Sends what is due; how long until something else may be.
    fn step(&mut self, now: BootUs) -> Result<Duration> {
        let gap = Duration::from_secs_f64(1.0 / self.wish.settings.fps);
        let asked = self.f.hub.keyframe_requested();
        let key = asked && now.since(self.sent.key_at) >= KEY_PAUSE;
        let soon = if asked && !key { KEY_PAUSE } else { STAND_IN };
        let asleep = now.since(self.sent.at);
        if self.f.hub.take_viewer_began() {
            self.sent.warm_up = WARM_UP.0;
        }
        let joined = self.sent.warm_up > 0;
        let slow = if joined { SLOW.min(gap * 3) } else { gap * 3 };
        let again = if joined && self.is_slow(slow) { WARM_UP.1 } else { gap * 3 / 2 };
        let stand_in = if joined { WARM_UP.1 } else { STAND_IN };
        let more = self.f.frames.whole().newest().is_some_and(|n| n.meta().boot > self.sent.frame);
        if more && asleep < STUCK && self.work.as_ref().is_some_and(|w| w.encoder.is_full()) {
            return Ok(FULL);
        }
        let due = match self.f.gauges.state() {
            State::Running => self.due(key, gap, (again, slow), now).map(|slot| self.of_slot(slot, key, now)),
            State::Starting if now.since(self.begun) < STARTING => None,
            State::Starting | State::Lost => (key || asleep >= stand_in).then(|| self.stand_in(now)),
        };
        let Some(shot) = due else {
            let next = again.saturating_sub(asleep);
            return Ok(if next.is_zero() { soon } else { next.min(soon) });
        };
        self.send(&shot, key, now)?;
        // One frame for each that comes would leave viewers behind for good after a busy moment. Twice the camera's speed and no
        // more: from a burst ffmpeg learns to hold pictures back, and then shows a night frame only when the next one is there.
        let late = self.f.frames.whole().newest().is_some_and(|n| n.meta().boot > self.sent.frame);
        Ok(if late && self.f.gauges.state() == State::Running { gap / 2 } else { soon.min(again) })
    }

    /// Whether the camera itself takes longer than this from frame to frame: by its exposure, or because none of its last
    /// frames came sooner. One that comes late on a busy machine is nothing to bridge, and a single frame tells nothing.
    fn is_slow(&self, than: Duration) -> bool {
        let exposure = Duration::from_micros(self.f.gauges.frame_us.load(Relaxed));
        exposure > than * 3 / 4
            || self.f.frames.past.look(|metas| {
                let last = metas.len().saturating_sub(4)..metas.len();
                last.len() > 1 && last.skip(1).all(|i| metas.get(i).boot.since(metas.get(i - 1).boot) > than)
            })
    }

    /// The frame to send now: the next new one, or the newest again when somebody has joined or the camera is slower than `slow`;
    /// `again`: the time between two of the same.
    fn due(&mut self, key: bool, gap: Duration, (again, slow): (Duration, Duration), now: BootUs) -> Option<Arc<Slot>> {
        let slow = now.since(self.sent.at) >= again && self.is_slow(slow);
        let (ring, sent) = (self.f.frames.whole(), &mut self.sent);
        let newest = ring.newest()?;
        // Where full pictures come on demand, what lies there may be from the last demand.
        if self.f.frames.past.newest().is_some_and(|p| p.meta().id > newest.meta().id + 1) {
            return None;
        }
        if newest.meta().boot > sent.frame {
            // In order, one after the other, unless the encoder is far behind: then straight to the newest.
            let next = ring.first_since(sent.frame + Duration::from_micros(1))?;
            let behind = newest.meta().id.saturating_sub(next.meta().id);
            let hopeless = sent.leapt.is_some_and(|at| now.since(at) < HOPELESS);
            let most = if hopeless { 2 } else { (BEHIND.as_secs_f64() / gap.as_secs_f64()).ceil().max(2.0) as u64 };
            if sent.frame == BootUs(0) {
                return Some(newest);
            }
            if behind > most {
                sent.leapt = Some(now);
                return Some(newest);
            }
            return Some(next);
        }
        // The hardware is reported to hang below 9 frames a second (raspberrypi/linux#4739).
        let steady = self.work.as_ref().is_some_and(|w| w.encoder.coder() == Implementation::Hardware);
        let room = self.work.as_ref().is_none_or(|w| !w.encoder.is_full());
        let again = slow && (sent.times < TIMES || steady || (sent.warm_up > 0 && room));
        (key || again).then_some(newest)
    }

    fn of_slot(&mut self, slot: Arc<Slot>, key: bool, now: BootUs) -> Shot {
        let meta: FrameMeta = *slot.meta();
        let fresh = meta.boot > self.sent.frame;
        // The first frame of all may have lain there for any time.
        if fresh && self.sent.frame != BootUs(0) {
            self.sent.lag = now.since(meta.boot);
        }
        self.sent.times = if fresh { 1 } else { self.sent.times + 1 };
        self.sent.frame = self.sent.frame.max(meta.boot);
        // A key frame for whoever joins bridges nothing.
        self.f.gauges.repeated.fetch_add(u64::from(!fresh && !key), Relaxed);
        let pixels = dressed(slot, &self.wish.overlay, &mut self.drawn);
        // A picture that is sent again is shown at once, so it is of the moment whose own frame would have arrived now: of no
        // later one, or the next frame could not keep its instant.
        let stamp = if fresh { meta.boot } else { now.back(self.sent.lag).max(meta.boot) };
        Shot { picture: (meta.layout, meta.colour), pixels, id: meta.id, stamp, wall: meta.wall }
    }

    /// The picture for a camera that is away.
    fn stand_in(&mut self, now: BootUs) -> Shot {
        // Of the size that viewers have before them.
        let size = self.f.pass.size().filter(|s| self.f.pass.may() && s.bytes() > 0).unwrap_or(self.wish.camera);
        let picture = self.work.as_ref().map_or((size, Colour::default()), |w| w.encoder.picture);
        let wall = self.f.clock.wall();
        let pixels = draw(&mut self.drawn, picture.0, |p| overlay::no_signal(p, picture.0, wall));
        let id = self.f.frames.past.newest().map_or(0, |s| s.meta().id);
        Shot { picture, pixels, id, stamp: now, wall }
    }

    fn send(&mut self, shot: &Shot, keyframe_requested: bool, now: BootUs) -> Result<()> {
        if self.work.as_ref().is_some_and(|w| w.encoder.picture != shot.picture) {
            log::info!("The stream changes to {}x{}", shot.picture.0.width, shot.picture.0.height);
            self.work = None;
        }
        if self.work.is_none() {
            self.work = Some(self.begin(shot.picture, now)?);
        }
        let work = self.work.as_mut().expect("made above");
        // Half a frame early is better than a frame late.
        let half_gap = 0.5 / self.wish.settings.fps;
        let key = keyframe_requested || now.since(self.sent.key_at).as_secs_f64() >= self.wish.settings.keyframe_s - half_gap;
        // A picture sent again may have overtaken the next one's instant by a little; recordings count in milliseconds.
        let stamp = shot.stamp.max(self.sent.stamp + Duration::from_millis(1));
        work.encoder.feed(&shot.pixels, gst::ClockTime::from_useconds(stamp.0), shot.id, shot.wall, key)?;
        (self.sent.stamp, self.sent.at) = (stamp, now);
        self.sent.warm_up = self.sent.warm_up.saturating_sub(1);
        if key {
            self.sent.key_at = now;
            self.f.hub.keyframe_sent();
        }
        Ok(())
    }

    fn begin(&self, picture: (Layout, Colour), now: BootUs) -> Result<RunningEncoder> {
        let size = self.wish.settings.size.unwrap_or(picture.0);
        let mut all = choose::candidates(self.wish.encoder, size);
        all.retain(|c| (*c != Implementation::Hardware || self.hardware) && !self.failures.out.contains(c));
        let Some(coder) = all.first().copied() else {
            return Err(choose::none_for(size));
        };
        *self.f.at_work.lock().unwrap_or_else(PoisonError::into_inner) = Some(coder);
        let hub = self.f.hub.clone();
        let encoder = (self.f.make)(coder, picture, &self.wish.settings, Box::new(move |unit| hub.publish(unit)))?;
        log::info!("Encoding {}x{} with {}", picture.0.width, picture.0.height, coder.word());
        Ok(RunningEncoder { encoder, out: 0, fed: 0, since: now })
    }

    /// Puts a failed encoder away; how long to wait before the next one is begun.
    fn replace(&mut self, now: BootUs) -> Duration {
        let coder = *self.f.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(work) = self.work.take() {
            // One that hangs must not take this thread along.
            if let Err(e) = Thread::VideoEnd.spawn(move || drop(work)) {
                log::warn!("Encoder: {e}");
            }
        }
        self.sent.times = 0;
        self.f.hub.request_keyframe();
        if let Some(coder) = coder.filter(|c| self.failures.note(*c, now)) {
            log::warn!("The encoder {} is given up", coder.word());
        }
        let size = self.wish.settings.size.unwrap_or(self.wish.camera);
        if choose::candidates(self.wish.encoder, size).iter().all(|c| self.failures.out.contains(c)) {
            self.failures.out.clear();
            return NONE_LEFT;
        }
        Duration::from_millis(10)
    }
}

impl RunningEncoder {
    /// What is wrong with the encoder, if anything is.
    fn trouble(&mut self, now: BootUs) -> Option<Error> {
        if let Some(e) = self.encoder.complaint() {
            return Some(e);
        }
        let (fed, out) = self.encoder.counts();
        if out != self.out || fed < self.fed + 3 {
            if out != self.out || fed == self.fed {
                (self.out, self.fed, self.since) = (out, fed, now);
            }
            return None;
        }
        let silent = now.since(self.since);
        (silent > SILENT).then(|| {
            Error::new(
                Kind::Media,
                format!("{} gave nothing back for {:.0} s", self.encoder.coder().word(), silent.as_secs_f64()),
            )
        })
    }
}

/// A picture drawn anew, in memory that is used again when the encoder has let go of it.
fn draw(memory: &mut Arc<Vec<u8>>, layout: Layout, with: impl FnOnce(&mut [u8])) -> Pixels {
    if Arc::get_mut(memory).is_none() {
        *memory = Arc::default();
    }
    let pixels = Arc::get_mut(memory).expect("made anew where it was shared");
    pixels.resize(layout.bytes(), 0);
    with(pixels);
    Pixels::shared(memory.clone())
}

/// A frame as it goes into the stream: itself, or a copy with the text in it.
pub(super) fn dressed(slot: Arc<Slot>, text: &str, memory: &mut Arc<Vec<u8>>) -> Pixels {
    if text.is_empty() {
        return Pixels::shared(slot);
    }
    let meta: FrameMeta = *slot.meta();
    draw(memory, meta.layout, |p| {
        p.copy_from_slice(slot.pixels());
        overlay::stamp(p, meta.layout, text, meta.wall);
    })
}
