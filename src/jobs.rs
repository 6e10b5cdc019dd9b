//! Owns pictures on their way from the ring to the disk: who waits for the next frame, what waits for an encoder.
//! Never touches the camera, never speaks to a client. The thread `shutter` waits for frames, the threads `export-N`
//! stack, encode and write; callers only put jobs in, which takes a short lock.

pub mod burst;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::{BootUs, Clock};
use crate::error::{Error, Kind, Result};
use crate::events::{By, Event, Events, Moment, Task};
use crate::export::{Encoders, Exporter, Format, Picture, Pixels, Tag};
use crate::frame::FrameMeta;
use crate::health::Gauges;
use crate::lock::{Guard, Ordered, Rank};
use crate::ring::{Frames, Slot, Wanted};
use crate::stack::{self, Mode, Stacked, Stacker};
use crate::threads::{self, Thread};

use self::burst::Burst;

/// What became of a job.
#[derive(Debug, Clone)]
pub struct Saved {
    /// All files, absolute, in order.
    pub files: Vec<PathBuf>,
    /// The first frame that went in.
    pub first: FrameMeta,
    /// The last one.
    pub last: FrameMeta,
    /// How many went in.
    pub frames: usize,
}

impl Saved {
    /// Tells listeners what became of a job.
    pub fn tell(events: &Events, result: &Result<Saved>, by: By) {
        match result {
            Ok(s) => s.tell_of_it(events, by),
            Err(e) => events.failed(Task::Save, by, e),
        }
    }

    /// Tells listeners of these files.
    pub fn tell_of_it(&self, events: &Events, by: By) {
        let moment = |m: &FrameMeta| Moment { boot: m.boot, wall: m.wall };
        let (first, last) = (moment(&self.first), moment(&self.last));
        events.publish(Event::Saved { files: self.files.clone(), first, last, by });
    }
}

/// Called once, from a thread of this module, with what became of the job.
pub type Done = Box<dyn FnOnce(Result<Saved>) + Send>;

/// What to write.
#[derive(Clone)]
pub struct Order {
    /// At least one.
    pub formats: Vec<Format>,
    /// Kept in the file's name.
    pub tag: Option<Tag>,
    /// Only a frame of this mode will do, night or day; one of the other is refused.
    pub night: Option<bool>,
}

/// What to do with frames of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// One picture of at most this many, made by this rule.
    Stack(usize, Mode),
    /// A picture each.
    Separate,
}

/// A picture that was made of several frames.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LastStack {
    /// How it came of them.
    pub stacked: Stacked,
    /// Id of the frame nearest to the moment that was asked for.
    pub reference: u64,
}

/// Jobs that may wait for an encoder; beyond, clients are told to come again.
const QUEUE: usize = 512;

struct Waiting {
    trigger: BootUs,
    until: BootUs,
    then: Then,
    /// From shortly before the trigger.
    wanted: Option<Wanted>,
}

/// What becomes of the frame.
enum Then {
    /// One picture.
    Once(Order, Done),
    /// The next picture of a burst.
    Next(burst::Rest),
}

impl Waiting {
    fn refuse(self, e: Error) {
        match self.then {
            Then::Once(_, done) => done(Err(e)),
            Then::Next(rest) => rest.fail(e),
        }
    }
}

const STOPPING: &str = "the program is stopping";

/// What becomes of the frames of a job.
#[derive(Clone, Copy)]
enum Make {
    /// A picture each.
    Each,
    /// One picture by this rule; the frame at this place is the one that was asked for.
    Stack(Mode, usize),
}

struct Job {
    frames: Vec<Arc<Slot>>,
    make: Make,
    order: Order,
    done: Done,
}

impl Job {
    fn refuse(self, why: &str) {
        (self.done)(Err(Error::new(Kind::Busy, why)));
    }
}

#[derive(Default)]
struct Queues {
    waiting: Vec<Waiting>,
    jobs: VecDeque<Job>,
    /// Jobs being worked on.
    busy: usize,
    /// Of the stack made last.
    stacked: Option<LastStack>,
    closed: bool,
}

struct Shared {
    frames: Arc<Frames>,
    exporter: Arc<Exporter>,
    gauges: Arc<Gauges>,
    clock: Arc<dyn Clock>,
    queues: Ordered<Queues>,
    /// For the shutter: somebody waits, or the end.
    to_shutter: Condvar,
    /// For the export threads: a job, or the end.
    to_export: Condvar,
}

/// The queues and their threads.
pub struct Jobs {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Shared {
    fn lock(&self) -> Guard<'_, Queues> {
        // Whole at every point where a panic could strike.
        self.queues.lock()
    }

    fn push(&self, job: Job) {
        let mut q = self.lock();
        if q.closed || q.jobs.len() >= QUEUE {
            let why = if q.closed { STOPPING } else { "too many pictures wait for the disk; ask again" };
            drop(q);
            job.refuse(why);
            return;
        }
        q.jobs.push_back(job);
        drop(q);
        self.to_export.notify_one();
    }
}

impl Jobs {
    /// Starts the threads: one encoder, two where that leaves a processor to the camera and the short commands. Measured with
    /// two on two processors while eight clients asked for PNGs: a `health` that takes 0.1 ms waited 7 to 20 ms (p99) for its turn.
    pub fn start(frames: Arc<Frames>, exporter: Arc<Exporter>, gauges: Arc<Gauges>, clock: Arc<dyn Clock>) -> Result<Jobs> {
        let shared = Arc::new(Shared {
            frames,
            exporter,
            gauges,
            clock,
            queues: Ordered::new(Rank::Jobs, Queues::default()),
            to_shutter: Condvar::new(),
            to_export: Condvar::new(),
        });
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut threads = Vec::new();
        let to_shutter = shared.clone();
        threads.push(Thread::Shutter.keep(move || shutter(&to_shutter))?);
        for thread in [Thread::Export1, Thread::Export2].into_iter().take(processors.saturating_sub(1).max(1)) {
            let shared = shared.clone();
            threads.push(thread.keep(move || export(&shared))?);
        }
        Ok(Jobs { shared, threads: Mutex::new(threads) })
    }

    /// Saves the first full-resolution frame at or after `trigger`; fails when none has come within `patience`.
    pub fn next(&self, trigger: BootUs, patience: Duration, order: Order, done: Done) {
        let until = self.shared.clock.boot() + patience;
        self.wait(Waiting { trigger, until, then: Then::Once(order, done), wanted: Some(self.shared.frames.want()) });
    }

    /// Saves several frames from `trigger` on, never one of them twice and none before its instant. `each` hears of every picture
    /// that is on the disk, `end` of all together.
    pub fn burst(&self, trigger: BootUs, burst: Burst, order: Order, each: burst::Each, end: burst::End) {
        let rest = burst::Rest::new(burst, trigger, order, each, end);
        self.wait(rest.waiting(None, self.shared.clock.boot()));
    }

    fn wait(&self, waiting: Waiting) {
        let mut q = self.shared.lock();
        if q.closed || q.waiting.len() >= QUEUE {
            drop(q);
            return waiting.refuse(Error::new(Kind::Busy, "too many clients wait for a picture; ask again"));
        }
        q.waiting.push(waiting);
        drop(q);
        self.shared.to_shutter.notify_one();
    }

    /// Saves frames of the past: one picture of those around `trigger − before`, or each frame since then. The frames are held
    /// from now on, however long the queue is; where readers hold so many already that the camera would have too few slots
    /// left, the answer is `busy`.
    ///
    /// `slack`: how far the nearest frame may be from the moment asked for; without it the nearest is taken, however far.
    pub fn past(&self, trigger: BootUs, before: Duration, slack: Option<Duration>, what: Past, order: Order, done: Done) {
        let target = trigger.back(before);
        let mut nearest = None;
        let frames = self.shared.frames.past.hold(|m| {
            let run = match what {
                Past::Stack(count, _) => stack::centred(m, target, count),
                Past::Separate => {
                    let run = stack::window(m, trigger, before);
                    // A window between two night frames, or of no length: the frame nearest to it.
                    if run.is_empty() { stack::centred(m, trigger, 1) } else { run }
                }
            };
            // Of two equally near the earlier, as `centred` has it.
            let away = |i: usize| (m.get(i).boot - target).unsigned_abs();
            nearest = run.clone().min_by_key(|i| away(*i)).map(|i| (i - run.start, Duration::from_micros(away(i))));
            if nearest.zip(slack).is_some_and(|((_, off), slack)| off > slack) { 0..0 } else { run }
        });
        let refused = match (&frames, nearest) {
            (None, _) => Error::new(Kind::Busy, "too many frames wait for the disk; ask again"),
            (Some(_), None) => Error::new(Kind::Past, "the ring is empty"),
            (Some(frames), Some((_, off))) if frames.is_empty() => {
                let what = format!("the ring has a gap there: its nearest frame is {:.1} s off", off.as_secs_f64());
                Error::new(Kind::Past, what)
            }
            (Some(_), Some((reference, _))) => {
                let frames = frames.unwrap_or_default();
                let make = match what {
                    Past::Stack(_, mode) => Make::Stack(mode, reference),
                    Past::Separate => Make::Each,
                };
                return self.shared.push(Job { frames, make, order, done });
            }
        };
        done(Err(refused));
    }

    /// What the last picture of several frames was made of; none since the start.
    pub fn last_stack(&self) -> Option<LastStack> {
        self.shared.lock().stacked
    }

    /// How many jobs wait or are being worked on.
    pub fn pending(&self) -> usize {
        let q = self.shared.lock();
        q.waiting.len() + q.jobs.len() + q.busy
    }

    /// Takes no more jobs, tells those whose picture has not been begun, finishes what is being written, and ends the threads.
    pub fn close(&self) {
        let (waiting, queued) = {
            let mut q = self.shared.lock();
            q.closed = true;
            (std::mem::take(&mut q.waiting), std::mem::take(&mut q.jobs))
        };
        for w in waiting {
            w.refuse(Error::new(Kind::Busy, STOPPING));
        }
        for job in queued {
            job.refuse(STOPPING);
        }
        self.shared.to_shutter.notify_all();
        self.shared.to_export.notify_all();
        self.shared.frames.whole().wake();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked has already said so; there is nothing more to wait for.
            let _ = thread.join();
        }
    }
}

/// How long before its instant a picture of a burst asks for full frames, and the shutter looks for it.
const AHEAD: Duration = Duration::from_millis(50);

/// The thread `shutter`: hands each waiting job the first frame after its trigger.
fn shutter(s: &Shared) {
    loop {
        {
            let mut q = s.lock();
            Thread::Shutter.rests();
            while q.waiting.is_empty() {
                if q.closed {
                    return;
                }
                q = q.wait(&s.to_shutter);
            }
            Thread::Shutter.works();
        }
        threads::fault("work");
        let ring = s.frames.whole();
        let seen = ring.published();
        let now = s.clock.boot();
        let exposure = Duration::from_micros(s.gauges.frame_us.load(Relaxed));
        let mut q = s.lock();
        let (mut ripe, mut expired, mut over) = (Vec::new(), Vec::new(), Vec::new());
        let mut i = 0;
        while i < q.waiting.len() {
            let w = &mut q.waiting[i];
            if w.trigger > now + AHEAD {
                i += 1;
                continue;
            }
            w.wanted.get_or_insert_with(|| s.frames.want());
            let found = match &w.then {
                Then::Once(..) => Some(ring.first_since(w.trigger).into_iter().collect()),
                Then::Next(rest) if rest.is_over() => {
                    over.push(q.waiting.swap_remove(i));
                    continue;
                }
                Then::Next(_) => burst::hold(ring, w.trigger),
            };
            if let Then::Next(rest) = &w.then {
                // Exposures may have grown since it began to wait.
                w.until = w.until.max(rest.until(w.trigger, exposure));
            }
            match (found, &w.then) {
                // The disk is behind: the picture is taken when there is room, and later than it might.
                (None, Then::Next(rest)) => {
                    w.until = rest.until(now, exposure);
                    i += 1;
                }
                (Some(frames), _) if !frames.is_empty() => {
                    let w = q.waiting.swap_remove(i);
                    ripe.push((w.trigger, picture(w.then, frames, now, &mut q.waiting)));
                }
                _ if now >= w.until => expired.push(q.waiting.swap_remove(i)),
                _ => i += 1,
            }
        }
        let next_end = q.waiting.iter().map(|w| w.until).min();
        // Where all wait for an instant to come and none for a frame, nobody has to look at each.
        let idle = q.waiting.iter().map(|w| w.trigger.since(now + AHEAD)).min().unwrap_or_default();
        if ripe.is_empty() && expired.is_empty() && over.is_empty() && !idle.is_zero() {
            Thread::Shutter.rests();
            drop(q.wait_timeout(&s.to_shutter, idle));
            continue;
        }
        drop(q);
        // With a burst go its callbacks and what they own: not under the lock.
        drop(over);
        // First come, first served: `swap_remove` has mixed them up.
        ripe.sort_by_key(|(trigger, _)| *trigger);
        for (_, (job, has_room)) in ripe {
            let night = job.frames[0].meta().night;
            if job.order.night.is_some_and(|wanted| wanted != night) {
                job.refuse("the camera has changed between day and night");
            } else if has_room || ring.has_room() {
                s.push(job);
            } else {
                job.refuse("the disk is too slow for so many pictures; ask again");
            }
        }
        for w in expired {
            let waited = w.until.since(w.trigger).as_secs_f64();
            w.refuse(Error::new(Kind::Timeout, format!("no frame came within {waited:.1} s")));
        }
        if let Some(end) = next_end.filter(|_| idle.is_zero()) {
            Thread::Shutter.rests();
            // Short enough that a job put in meanwhile, which cannot ring here, is not late by more than a frame time.
            ring.wait_published(seen, end.since(now).min(Duration::from_millis(250)));
        }
    }
}

/// The job that makes the picture, and whether room for its frame was looked for; the rest of a burst goes on waiting.
fn picture(then: Then, frames: Vec<Arc<Slot>>, now: BootUs, waiting: &mut Vec<Waiting>) -> (Job, bool) {
    match then {
        Then::Once(order, done) => (Job { frames, make: Make::Each, order, done }, false),
        Then::Next(mut rest) => {
            let last = frames[0].meta().boot;
            let job = rest.job(frames);
            if !rest.is_over() {
                waiting.push(rest.waiting(Some(last), now));
            }
            (job, true)
        }
    }
}

/// How far the export threads step behind the others (nice): a picture may wait, a frame or a short answer may not. With
/// everything on one processor and eight clients asking for pictures, `health` (99th of 100) took 2.1 to 3.9 ms, and 4.4 to
/// 5.6 ms without.
const BEHIND: i32 = 10;

/// What an export thread keeps from picture to picture.
#[derive(Default)]
struct Tools {
    encoders: Encoders,
    stacker: Stacker,
    /// Pixels of a stack.
    out: Arc<Vec<u8>>,
}

/// A thread `export-N`.
fn export(s: &Shared) {
    // On Linux this concerns the calling thread alone. Where it is refused, pictures are made all the same.
    let _ = rustix::process::setpriority_process(None, BEHIND);
    let mut tools = Tools::default();
    loop {
        let mut q = s.lock();
        let job = loop {
            if let Some(job) = q.jobs.pop_front() {
                break job;
            }
            if q.closed {
                return;
            }
            q = q.wait(&s.to_export);
        };
        q.busy += 1;
        drop(q);
        let Job { frames, make: how, order, done } = job;
        // A picture's bug costs that picture: its client is told, and the thread goes on with new tools.
        let made = threads::guarded("picture", || make(s, &mut tools, frames, how, &order));
        let result = made.unwrap_or_else(|bug| {
            tools = Tools::default();
            Err(bug)
        });
        match &result {
            Ok(saved) => s.gauges.saved.fetch_add(saved.files.len() as u64, Relaxed),
            Err(_) => s.gauges.failed.fetch_add(1, Relaxed),
        };
        // Whoever waits is answered all the same, by the end of what was to answer.
        let _ = threads::guarded("an answer", || done(result));
        s.lock().busy -= 1;
    }
}

/// One picture, or several.
fn make(s: &Shared, tools: &mut Tools, frames: Vec<Arc<Slot>>, how: Make, order: &Order) -> Result<Saved> {
    threads::fault("work");
    match how {
        Make::Stack(mode, reference) => save_stack(s, tools, frames, mode, reference, order),
        Make::Each => save_each(s, &mut tools.encoders, frames, order),
    }
}

fn save_stack(
    s: &Shared,
    tools: &mut Tools,
    frames: Vec<Arc<Slot>>,
    mode: Mode,
    reference: usize,
    order: &Order,
) -> Result<Saved> {
    let Tools { encoders, stacker, out } = tools;
    let (first, last) = (*frames[0].meta(), *frames[frames.len() - 1].meta());
    let (n, asked_for) = (frames.len(), frames[reference].meta().id);
    let (pixels, stacked) = if n == 1 {
        (Pixels::shared(frames[0].clone()), None)
    } else {
        if Arc::get_mut(out).is_none() {
            *out = Arc::default();
        }
        let pixels = Arc::get_mut(out).expect("made anew where it was shared");
        pixels.resize(first.layout.bytes(), 0);
        let slices: Vec<&[u8]> = frames.iter().map(|f| f.pixels()).collect();
        let stacked = stacker.merge(mode, &slices, reference, first.layout, pixels);
        s.exporter.hot().repair(&last, pixels);
        (Pixels::shared(out.clone()), Some(stacked))
    };
    // From here on the disk may take its time: the ring has its slots back.
    drop(frames);
    let picture = Picture { meta: last, pixels, model: s.gauges.model(), stacked };
    let files = s.exporter.save(encoders, &picture, &order.formats, order.tag.as_ref())?;
    if let Some(stacked) = stacked {
        let averaged = stacked.averaged_percent().map_or(String::new(), |percent| format!(": {percent:.0} % averaged"));
        log::info!("stack of {n} frames around frame {asked_for}, {}{averaged}", stacked.mode.word());
        s.lock().stacked = Some(LastStack { stacked, reference: asked_for });
    }
    Ok(Saved { files, first, last, frames: n })
}

fn save_each(s: &Shared, encoders: &mut Encoders, frames: Vec<Arc<Slot>>, order: &Order) -> Result<Saved> {
    let (first, last, n) = (*frames[0].meta(), *frames[frames.len() - 1].meta(), frames.len());
    let mut files: Vec<PathBuf> = Vec::new();
    for slot in frames {
        let picture = Picture { meta: *slot.meta(), pixels: Pixels::shared(slot), model: s.gauges.model(), stacked: None };
        let stop = s.lock().closed && !files.is_empty();
        let saved = if stop {
            Err(Error::new(Kind::Busy, STOPPING))
        } else {
            s.exporter.save(encoders, &picture, &order.formats, order.tag.as_ref())
        };
        match saved {
            Ok(more) => files.extend(more),
            Err(mut e) => {
                if let Some(from) = files.first() {
                    s.gauges.saved.fetch_add(files.len() as u64, Relaxed);
                    e.what = format!(
                        "{} ({} files of the window were written all the same, from {} on)",
                        e.what,
                        files.len(),
                        from.display()
                    );
                }
                return Err(e);
            }
        }
    }
    Ok(Saved { files, first, last, frames: n })
}
