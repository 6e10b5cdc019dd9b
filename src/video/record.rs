//! Owns recordings: one at a time, by command or by the clock, and clips of the past. Takes encoded units from the hub into a
//! queue with a limit; a slow card loses units of its own and nobody else's. Runs on the threads `recorder` and `clip`, which
//! may wait for the disk; callers only leave an order.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gstreamer::glib::DateTime;

use super::access_unit::AccessUnit;
use super::mp4::Mp4Writer;
use super::queue::AccessUnitQueue;
use super::schedule::{self, Span};
use super::settings::Record;
use super::{Video, past};
use crate::clock::{BootUs, Clock};
use crate::error::{Error, Kind, Result};
use crate::events::{By, Ended, Event, Events, Moment, Task};
use crate::export::{Exporter, Film, Tag};
use crate::health::Gauges;
use crate::ring::Frames;
use crate::threads::{self, Thread};

/// Between looks at the free space.
const LOOK: Duration = Duration::from_secs(2);
/// A recording whose first picture does not come in this time has failed.
const FIRST: Duration = Duration::from_secs(10);
/// Between looks at the clock, and how long one wait for a unit lasts.
const ROUND: Duration = Duration::from_millis(500);

/// Whether the schedule covers the present, in local time.
fn due_now(lines: &[Span]) -> bool {
    // Most have no schedule, and then nobody's time zone is asked for.
    if lines.is_empty() {
        return false;
    }
    let Ok(now) = DateTime::now_local() else { return false };
    schedule::covered(lines, now.day_of_week() as u32 - 1, (now.hour() * 60 + now.minute()) as u32)
}

/// What became of a recording or a clip.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The file, absolute.
    pub file: PathBuf,
    /// From the first picture to the last (s).
    pub seconds: f64,
    /// Pictures in it.
    pub pictures: u64,
}

/// Called once with what became of an order.
pub type Done<T> = Box<dyn FnOnce(Result<T>) + Send>;

/// A recording to be made.
pub struct Order {
    /// How long (s); without: until it is stopped.
    pub seconds: Option<f64>,
    /// Kept in the file's name.
    pub tag: Option<Tag>,
    /// How far back in the ring it begins.
    pub before: Option<Duration>,
    /// When it was asked for.
    pub trigger: BootUs,
}

/// What a recording under way looks like.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Under {
    /// The name the file will have, as far as one can say; empty before the first picture.
    pub name: String,
    /// So far (s).
    pub seconds: f64,
    /// So far (bytes).
    pub bytes: u64,
    /// Units lost because the disk was too slow.
    pub lost: u64,
    /// Begun by the clock.
    pub by_clock: bool,
}

/// What recordings are made with.
pub struct Parts {
    /// The stream.
    pub video: Arc<Video>,
    /// The past.
    pub frames: Arc<Frames>,
    /// The folder.
    pub exporter: Arc<Exporter>,
    /// Counters.
    pub gauges: Arc<Gauges>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// Told of each finished file, and how a recording ended.
    pub events: Events,
}

#[derive(Default)]
struct Inside {
    order: Option<(Order, Done<String>)>,
    /// Those who wait for the end of the present recording.
    stops: Vec<Done<Recorded>>,
    under: Option<Under>,
    clock: Record,
    clipping: bool,
    closed: bool,
}

struct Shared {
    parts: Parts,
    inside: Mutex<Inside>,
    changed: Condvar,
}

/// The recorder and its threads.
pub struct Recorder {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// One file while it grows.
struct Segment {
    film: Film,
    mp4: Mp4Writer,
    parameter_sets: Vec<u8>,
    pictures: u64,
    first: Moment,
    last: Moment,
}

fn moment(unit: &AccessUnit) -> Moment {
    Moment { boot: BootUs(unit.time().useconds()), wall: unit.wall }
}

fn parameter_sets(unit: &AccessUnit) -> Vec<u8> {
    match (unit.codec(), unit.buffer.map_readable()) {
        (Ok(codec), Ok(bytes)) => (codec.parameter_sets)(&bytes),
        _ => Vec::new(),
    }
}

impl Segment {
    fn begin(parts: &Parts, unit: &AccessUnit, tag: Option<&Tag>) -> Result<Segment> {
        let first = moment(unit);
        let film = Film::begin(&parts.exporter, unit.wall, first.boot, unit.id, tag)?;
        let mp4 = film.step(|| Mp4Writer::begin(film.part(), unit, unit.wall, tag.map(Tag::as_str)))?;
        Ok(Segment { film, mp4, parameter_sets: parameter_sets(unit), pictures: 0, first, last: first })
    }

    /// Whether this unit can follow in the same file.
    fn goes_on_with(&self, unit: &AccessUnit) -> bool {
        !unit.keyframe || parameter_sets(unit) == self.parameter_sets
    }

    fn write(&mut self, unit: &AccessUnit) -> Result<()> {
        let Segment { film, mp4, .. } = self;
        film.step(|| mp4.write(unit))?;
        self.pictures += 1;
        self.last = moment(unit);
        if self.pictures == 20 {
            threads::fault("work");
        }
        Ok(())
    }

    fn finish(self) -> Result<Recorded> {
        let Segment { film, mp4, pictures, .. } = self;
        let seconds = mp4.seconds();
        let file = match film.step(|| mp4.finish()) {
            Ok(()) => film.finish()?,
            Err(e) => {
                log::warn!("Recording: {e}; what is whole is kept");
                film.salvage()?
            }
        };
        Ok(Recorded { file, seconds, pictures })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Whole at every point where a panic could strike.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread `recorder`.
    fn run(&self) {
        // After a panic: what was under way is not any more.
        let stops = {
            let mut inside = self.lock();
            inside.under = None;
            std::mem::take(&mut inside.stops)
        };
        for stop in stops {
            stop(Err(threads::bug("record")));
        }
        // A recording by the clock that somebody stopped does not begin again within the same hours.
        let mut stopped = false;
        loop {
            let mut inside = self.lock();
            if inside.closed {
                return;
            }
            if let Some((order, started)) = inside.order.take() {
                inside.under = Some(Under::default());
                drop(inside);
                self.record(&order, false, Some(started));
                continue;
            }
            let now = due_now(&inside.clock.schedule);
            stopped &= now;
            if now && !stopped {
                inside.under = Some(Under { by_clock: true, ..Under::default() });
                drop(inside);
                let order = Order { seconds: None, tag: None, before: None, trigger: self.parts.clock.boot() };
                stopped = self.record(&order, true, None);
                continue;
            }
            // Without a schedule only an order ends the wait.
            let wait = if inside.clock.schedule.is_empty() { Duration::from_secs(3600) } else { ROUND };
            drop(self.changed.wait_timeout(inside, wait).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Makes one recording and tells everybody who asked; whether it ended because somebody stopped it or because it failed.
    fn record(&self, order: &Order, by_clock: bool, mut started: Option<Done<String>>) -> bool {
        let (by, mut segment) = (if by_clock { By::Clock } else { By::Command }, None);
        let attempt = threads::guarded("record", || self.attempt(order, by_clock, &mut segment, &mut started));
        let made = match (attempt.and_then(|made| made), segment) {
            (Ok(ended), Some(segment)) => self.finished(segment, by).map(|recorded| (recorded, ended)),
            // Only when it is stopped in the instant of its beginning.
            (Ok(_), None) => Err(Error::new(Kind::Timeout, "record: it ended before its first picture")),
            (Err(e), Some(segment)) => {
                // What there is becomes a file all the same; the answer tells of the failure.
                let kept = self.finished(segment, by).map_or_else(|e| e.to_string(), |r| r.file.display().to_string());
                Err(Error { what: format!("{} (kept: {kept})", e.what), ..e })
            }
            (Err(e), None) => Err(e),
        };
        match &made {
            Ok((Recorded { file, seconds, pictures }, ended)) => {
                let (file, seconds, pictures, ended) = (file.clone(), *seconds, *pictures, *ended);
                self.parts.events.publish(Event::Recorded { file, seconds, pictures, ended, by });
            }
            Err(e) => self.parts.events.failed(Task::Record, by, e),
        }
        let made = made.map(|(recorded, _)| recorded);
        let (stops, asked) = {
            let mut inside = self.lock();
            inside.under = None;
            let stops = std::mem::take(&mut inside.stops);
            let asked = !stops.is_empty();
            (stops, asked)
        };
        if let Err(e) = &made {
            self.parts.gauges.failed.fetch_add(1, Relaxed);
            log::error!("Recording: {e}");
        }
        let told = |e: &Error| Error::new(e.kind, e.to_string());
        if let (Some(started), Err(e)) = (started, &made) {
            started(Err(told(e)));
        }
        for stop in stops {
            stop(made.as_ref().map_err(told).cloned());
        }
        asked || made.is_err()
    }

    fn finished(&self, segment: Segment, by: By) -> Result<Recorded> {
        let (first, last) = (segment.first, segment.last);
        let recorded = segment.finish()?;
        self.parts.gauges.saved.fetch_add(1, Relaxed);
        let file = recorded.file.display();
        log::info!("Recorded {file}, {:.1} s, {} pictures", recorded.seconds, recorded.pictures);
        self.parts.events.publish(Event::Saved { files: vec![recorded.file.clone()], first, last, by });
        Ok(recorded)
    }

    /// Takes units until something ends it, into files of which the last is left to the caller.
    fn attempt(
        &self,
        order: &Order,
        by_clock: bool,
        segment: &mut Option<Segment>,
        started: &mut Option<Done<String>>,
    ) -> Result<Ended> {
        let by = if by_clock { By::Clock } else { By::Command };
        let queue = Arc::new(AccessUnitQueue::default());
        let into = queue.clone();
        let _place = self.parts.video.hub().subscribe(Box::new(move |unit| {
            into.push(unit);
            true
        }));
        let begun = Instant::now();
        let first = loop {
            if let Some(unit) = queue.pop(ROUND) {
                break unit;
            }
            if begun.elapsed() > FIRST || self.is_over() {
                let what = format!("record: no picture came within {} s", begun.elapsed().as_secs());
                return Err(Error::new(Kind::Timeout, what));
            }
        };
        let end = order.seconds.map(|s| {
            let from = order.trigger.max(BootUs(first.time().useconds()));
            from + Duration::from_secs_f64(s)
        });
        let mut put = |unit: &AccessUnit, started: &mut Option<Done<String>>| -> Result<()> {
            let split = self.lock().clock.split_s;
            let over = |t: &Segment| by_clock && !split.is_zero() && unit.keyframe && t.mp4.seconds() >= split.as_secs_f64();
            if let Some(old) = segment.take_if(|t| !t.goes_on_with(unit) || over(t)) {
                self.finished(old, by)?;
            }
            let segment = match &mut *segment {
                Some(segment) => segment,
                none => none.insert(Segment::begin(&self.parts, unit, order.tag.as_ref())?),
            };
            segment.write(unit)?;
            let name = segment.film.name();
            let under = Under {
                name: name.clone(),
                seconds: segment.mp4.seconds(),
                bytes: segment.film.bytes(),
                lost: queue.lost(),
                by_clock,
            };
            self.lock().under = Some(under);
            if let Some(started) = started.take() {
                log::info!("Recording {name}");
                started(Ok(name));
            }
            Ok(())
        };
        if let Some(before) = order.before {
            let (from, until) = (order.trigger.back(before), BootUs(first.time().useconds()));
            let stop = || self.lock().closed;
            past::encode(&self.parts.video, (&self.parts.frames.past, true), from, until, &stop, &mut |u| put(u, started))?;
        }
        let (mut next, mut looked) = (Some(first), Instant::now());
        loop {
            if let Some(unit) = next.take() {
                if end.is_some_and(|end| unit.time().useconds() >= end.0) {
                    return Ok(Ended::Over);
                }
                put(&unit, started)?;
            }
            if self.is_over() {
                return Ok(Ended::Stopped);
            }
            if by_clock && self.lock().order.is_some() {
                return Ok(Ended::Over);
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                if let Err(e) = self.parts.exporter.make_room() {
                    log::warn!("Recording: it ends here: {e}");
                    return Ok(Ended::Disk);
                }
                if by_clock && !due_now(&self.lock().clock.schedule) {
                    return Ok(Ended::Over);
                }
            }
            next = queue.pop(ROUND);
        }
    }

    fn is_over(&self) -> bool {
        let inside = self.lock();
        inside.closed || !inside.stops.is_empty()
    }

    /// The thread `clip`.
    fn clip(&self, from: BootUs, until: BootUs, tag: Option<&Tag>) -> Result<Recorded> {
        let mut segment: Option<Segment> = None;
        let closed = || self.lock().closed;
        let encoded = past::encode(&self.parts.video, (&self.parts.frames.past, false), from, until, &closed, &mut |unit| {
            if let Some(old) = segment.take_if(|t| !t.goes_on_with(unit)) {
                // The picture's size changed in these seconds: two files.
                self.finished(old, By::Command)?;
            }
            let segment = match &mut segment {
                Some(segment) => segment,
                none => none.insert(Segment::begin(&self.parts, unit, tag)?),
            };
            segment.write(unit)
        });
        match (encoded, segment) {
            (Ok(()), Some(segment)) => self.finished(segment, By::Command),
            (Ok(()), None) => Err(Error::new(Kind::Past, "clip: the ring holds no frame of that time any more")),
            (Err(e), segment) => {
                if let Some(segment) = segment {
                    let Segment { film, mp4, .. } = segment;
                    drop(mp4);
                    film.discard();
                }
                Err(e)
            }
        }
    }
}

impl Recorder {
    /// Starts the thread `recorder`.
    pub fn start(parts: Parts, clock: &Record) -> Result<Recorder> {
        let inside = Inside { clock: clock.clone(), ..Inside::default() };
        let shared = Arc::new(Shared { parts, inside: Mutex::new(inside), changed: Condvar::new() });
        let this = Recorder { shared: shared.clone(), threads: Mutex::default() };
        this.join_at_end(Thread::Recorder.keep(move || shared.run())?);
        Ok(this)
    }

    fn join_at_end(&self, thread: JoinHandle<()>) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|t| !t.is_finished());
        threads.push(thread);
    }

    /// Begins a recording; `started` gets the file's name once the first picture is in it.
    pub fn record(&self, order: Order, started: Done<String>) {
        let mut inside = self.shared.lock();
        let by_command = inside.under.as_ref().filter(|u| !u.by_clock);
        let busy = match by_command {
            _ if inside.closed => Some("the program is stopping".to_string()),
            Some(under) => Some(format!("{} is being recorded; record stop ends it", under.name)),
            None if inside.order.is_some() => Some("a recording is just beginning".into()),
            None => None,
        };
        if let Some(why) = busy {
            drop(inside);
            return started(Err(Error::new(Kind::Busy, why)));
        }
        inside.order = Some((order, started));
        drop(inside);
        self.shared.changed.notify_all();
    }

    /// Ends the recording under way; `done` gets the file once it is whole.
    pub fn stop(&self, done: Done<Recorded>) {
        let mut inside = self.shared.lock();
        if inside.under.is_none() {
            drop(inside);
            return done(Err(Error::new(Kind::Usage, "record stop: nothing is being recorded")));
        }
        inside.stops.push(done);
    }

    /// What is being recorded.
    pub fn under_way(&self) -> Option<Under> {
        self.shared.lock().under.clone()
    }

    /// Makes a file of the frames from `from` up to `until`.
    pub fn clip(&self, from: BootUs, until: BootUs, tag: Option<Tag>, done: Done<Recorded>) {
        if std::mem::replace(&mut self.shared.lock().clipping, true) {
            return done(Err(Error::new(Kind::Busy, "another clip is being made; ask again")));
        }
        // The closure may be lost with a thread that cannot be started.
        let done = Arc::new(Mutex::new(Some(done)));
        let take = move |d: &Mutex<Option<Done<Recorded>>>| d.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (shared, answer) = (self.shared.clone(), done.clone());
        let started = Thread::Clip.spawn(move || {
            let made = threads::guarded("clip", || shared.clip(from, until, tag.as_ref())).and_then(|made| made);
            if let Err(e) = &made {
                shared.parts.events.failed(Task::Clip, By::Command, e);
                shared.parts.gauges.failed.fetch_add(1, Relaxed);
                log::warn!("{e}");
            }
            shared.lock().clipping = false;
            if let Some(done) = take(&answer) {
                done(made);
            }
        });
        match started {
            Ok(thread) => self.join_at_end(thread),
            Err(e) => {
                self.shared.lock().clipping = false;
                if let Some(done) = take(&done) {
                    done(Err(e));
                }
            }
        }
    }

    /// Takes over `record` of the configuration.
    pub fn set(&self, clock: &Record) {
        self.shared.lock().clock = clock.clone();
        self.shared.changed.notify_all();
    }

    /// Finishes what is being recorded and ends the threads.
    pub fn close(&self) {
        let order = {
            let mut inside = self.shared.lock();
            inside.closed = true;
            inside.order.take()
        };
        self.shared.changed.notify_all();
        if let Some((_, started)) = order {
            started(Err(Error::new(Kind::Busy, "the program is stopping")));
        }
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            // A thread that panicked has already said so.
            let _ = thread.join();
        }
    }
}
