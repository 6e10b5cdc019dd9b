//! Owns recordings: one at a time, by command or by the clock, and clips of the past. Takes encoded units from the hub into a
//! queue with a limit; a slow card loses units of its own and nobody else's. Runs on the threads `recorder` and `clip`, which
//! may wait for the disk; callers only leave an order.

mod attempt;
mod take;
mod work;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Video;
use super::settings::Record;
use crate::clock::{BootUs, Clock};
use crate::error::{Error, Kind, Result};
use crate::events::{By, Events, Task};
use crate::export::{Exporter, Tag};
use crate::health::Gauges;
use crate::ring::Frames;
use crate::threads::{self, Thread};
pub use take::Recorded;

/// Called once with what became of an order.
pub type Done<T> = Box<dyn FnOnce(Result<T>) + Send>;

/// The same for somebody else.
fn again(made: &Result<Recorded>) -> Result<Recorded> {
    made.as_ref().map_err(|e| Error::new(e.kind, e.to_string())).cloned()
}

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
    /// Pictures that are missing in it.
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
    /// Those who wait for the end of the present recording, and when the first of them asked.
    stops: Vec<Done<Recorded>>,
    stopped: Option<BootUs>,
    under: Option<Under>,
    /// The last that has ended.
    last: Option<Recorded>,
    /// The same or its failure, where it ended by itself and too early: for the next who stops it.
    untold: Option<Result<Recorded>>,
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Whole at every point where a panic could strike.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Ends the recording under way; `done` gets the file once it is whole. Where one has ended by itself and too early, the first
    /// who asks gets that.
    pub fn stop(&self, done: Done<Recorded>) {
        let mut inside = self.shared.lock();
        if inside.under.is_none() {
            let untold = inside.untold.take();
            drop(inside);
            return done(untold.unwrap_or_else(|| Err(Error::new(Kind::Usage, "record stop: nothing is being recorded"))));
        }
        inside.stops.push(done);
        inside.stopped.get_or_insert(self.shared.parts.clock.boot());
    }

    /// What became of the last recording that has ended.
    pub fn last(&self) -> Option<Recorded> {
        self.shared.lock().last.clone()
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
