//! Owns the making of every thread of the program: its name, its stack, what a panic in it means, and the heartbeat of those that
//! the watchdogs ask for. The list in `docs/design.md` is held to the one here by a test. Never knows what a thread does, and
//! never ends the program itself. Any thread.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::secrets;

/// What a panic in a thread means. It is logged and told to [`on_panic`] in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPanic {
    /// The part starts again after a pause. What it was working on has failed, and whoever waits for that is answered.
    Restart,
    /// What the thread drove cannot be trusted any more: the program ends, and the supervisor starts it again.
    End,
    /// The thread does one thing for one owner, who notices that it is gone.
    Ignore,
}

impl OnPanic {
    /// The word in the table of threads.
    pub fn word(self) -> &'static str {
        match self {
            OnPanic::Restart => "starts again",
            OnPanic::End => "ends the program",
            OnPanic::Ignore => "its owner notices",
        }
    }
}

/// Makes [`Thread`] of one list, so that each kind of thread stands in one place: kind, name, stack (KiB), what a panic means, and
/// whether the watchdogs ask for its heartbeat.
macro_rules! threads {
    ($($kind:ident $name:literal $stack:literal $on_panic:ident $watched:literal;)*) => {
        /// A kind of thread.
        #[allow(missing_docs, reason = "the table of threads in docs/design.md says what each does")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Thread { $($kind),* }

        impl Thread {
            /// All of them.
            pub const ALL: &[Thread] = &[$(Thread::$kind),*];

            const fn row(self) -> (&'static str, usize, OnPanic, bool) {
                match self { $(Thread::$kind => ($name, $stack, OnPanic::$on_panic, $watched)),* }
            }
        }
    };
}

threads! {
    Signals   "signals"   256 Restart false;
    Reload    "reload"    512 Restart false;
    Capture   "capture"   512 End     false;
    Tuning    "tuning"    512 Restart false;
    Sensor    "sensor"    256 Ignore  false;
    Relay     "relay"     256 Ignore  false;
    Video     "video"     512 Restart false;
    VideoEnd  "video-end" 2048 Ignore false;
    Rtsp      "rtsp"      512 Restart false;
    Tls       "tls"       2048 Ignore false;
    Sound     "sound"     256 Restart false;
    Recorder  "recorder"  512 Restart false;
    Clip      "clip"      512 Ignore  false;
    Shutter   "shutter"   512 Restart true;
    Export1   "export-1"  512 Restart true;
    Export2   "export-2"  512 Restart true;
    Server    "server"    2048 Restart true;
    Retention "retention" 512 Restart false;
    Files     "files"     512 Restart false;
    Notes     "notes"     256 Restart false;
    Update    "update"    512 Ignore  false;
    Keeper    "keeper"    512 Restart false;
    HotPixels "hot-pixels" 256 Restart false;
    Log       "log"       256 Restart false;
    WarmUp    "warm-up"   512 Restart false;
    Stop      "stop"      512 End     false;
}

/// A watched thread that has worked for so long without coming to rest hangs. Nothing they do takes a tenth of it, but what may
/// wait for a disk, during which they count as resting.
const HANGS: Duration = Duration::from_secs(10);
/// The pause before a part starts again: the first, and the longest. A part that ran for [`CALM`] begins with the first again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(if cfg!(test) { 1 } else { 100 }), Duration::from_secs(30));
const CALM: Duration = Duration::from_secs(60);
/// A watched part that has failed so often without [`CALM`] between does not get well by itself: 6 s of pauses.
const ATTEMPTS: u32 = 7;
/// Between looks for the end of the program during a pause.
const LOOK: Duration = Duration::from_millis(100);

/// One panic, for whoever acts on it.
#[derive(Debug)]
pub struct Panic<'a> {
    /// The kind of thread; `None` for one that a library made, and for a piece of work that fails alone.
    pub thread: Option<Thread>,
    /// Its name, or that of the work.
    pub name: &'a str,
    /// Message and place.
    pub why: &'a str,
    /// The program must end.
    pub fatal: bool,
}

type Listener = Box<dyn Fn(&Panic<'_>) + Send + Sync>;

static LISTENER: OnceLock<Listener> = OnceLock::new();
static ENDING: AtomicBool = AtomicBool::new(false);
/// Since when each kind is at work [ms since the first look at the clock, plus 1]; 0: it rests.
static BUSY_SINCE: [AtomicU64; Thread::ALL.len()] = [const { AtomicU64::new(0) }; Thread::ALL.len()];

thread_local! {
    /// A panic in this thread is caught, and told by whoever catches it.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
    static WHY: RefCell<String> = const { RefCell::new(String::new()) };
}

fn now_ms() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed().as_millis() as u64 + 1
}

impl Thread {
    /// Its name, at most 15 bytes, which is what Linux keeps.
    pub fn name(self) -> &'static str {
        self.row().0
    }
    /// What a panic in it means.
    pub fn on_panic(self) -> OnPanic {
        self.row().2
    }
    /// The watched thread begins to work.
    pub fn works(self) {
        BUSY_SINCE[self as usize].store(now_ms(), Relaxed);
    }
    /// The watched thread waits for something to do, or for a disk, which may take any time.
    pub fn rests(self) {
        BUSY_SINCE[self as usize].store(0, Relaxed);
    }

    /// Starts it. What must start again after a panic takes [`Thread::keep`].
    pub fn spawn(self, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
        debug_assert!(self.on_panic() != OnPanic::Restart, "{} starts again after a panic", self.name());
        let mut body = Some(body);
        self.start(move || body.take().map_or((), |body| body()))
    }

    /// Starts it; after a panic `body` is called again.
    pub fn keep(self, body: impl FnMut() + Send + 'static) -> Result<JoinHandle<()>> {
        debug_assert!(self.on_panic() == OnPanic::Restart, "{} does not start again after a panic", self.name());
        self.start(body)
    }

    fn start(self, body: impl FnMut() + Send + 'static) -> Result<JoinHandle<()>> {
        let failed = |e| {
            let what = format!("start the thread {}; if there are too many threads, raise TasksMax", self.name());
            Error::caused(Kind::Io, what, e)
        };
        let thread = std::thread::Builder::new().name(self.name().into()).stack_size(self.row().1 << 10);
        thread.spawn(move || self.run(body)).map_err(failed)
    }

    fn run(self, mut body: impl FnMut()) {
        let (mut pause, mut failed) = (PAUSES.0, 0);
        loop {
            let begun = Instant::now();
            self.rests();
            let ended = caught(|| {
                fault("start");
                body();
            });
            let Err(why) = ended else { return self.rests() };
            // A pause longer than a watched thread may hang is a hang.
            self.works();
            if begun.elapsed() > CALM {
                (pause, failed) = (PAUSES.0, 0);
            }
            failed += 1;
            let policy = if self.row().3 && failed == ATTEMPTS { OnPanic::End } else { self.on_panic() };
            let again = policy == OnPanic::Restart && !ENDING.load(Relaxed);
            let then = if again { format!("starts again in {:.1} s", pause.as_secs_f64()) } else { policy.word().into() };
            tell(Some(self), self.name(), &why, &then, policy == OnPanic::End);
            let until = Instant::now() + pause;
            while again && Instant::now() < until && !ENDING.load(Relaxed) {
                std::thread::sleep(LOOK.min(pause));
            }
            if !again || ENDING.load(Relaxed) {
                return;
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// The watched thread that hangs or keeps failing, if one does.
pub fn hung() -> Option<&'static str> {
    let now = now_ms();
    let hangs = |t: &&Thread| match BUSY_SINCE[**t as usize].load(Relaxed) {
        0 => false,
        since => now.saturating_sub(since) > HANGS.as_millis() as u64,
    };
    Thread::ALL.iter().filter(|t| t.row().3).find(hangs).map(|t| t.name())
}

/// No part starts again from now on: the program ends.
pub fn ending() {
    ENDING.store(true, Relaxed);
}

/// From now on every panic is told to `listener` too; the first one stays.
pub fn on_panic(listener: impl Fn(&Panic<'_>) + Send + Sync + 'static) {
    let _ = LISTENER.set(Box::new(listener));
}

/// From now on panics are told to the log, where they happened and why, instead of to stderr.
pub fn log_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let place = info.location().map_or_else(String::new, |l| format!(" ({}:{})", l.file(), l.line()));
        let text = text.unwrap_or("no message").replace('\n', " ");
        let why = format!("{}{place}", secrets::hidden_words(text.split(' ')));
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            before(info);
        }
        if CAUGHT.get() {
            // Told when the stack is unwound: the log's own lock may be held now.
            WHY.with_borrow_mut(|w| *w = why);
        } else {
            let name = std::thread::current().name().unwrap_or("a library's thread").to_owned();
            tell(None, &name, &why, "it is none of our threads", false);
        }
    }));
}

fn tell(thread: Option<Thread>, name: &str, why: &str, then: &str, fatal: bool) {
    let current = std::thread::current();
    let on = current.name().filter(|on| *on != name).map_or_else(String::new, |on| format!(" on the thread {on}"));
    log::error!("Panic in {name}{on}: {why}; this is a bug of the program; {then}");
    if let Some(listener) = LISTENER.get() {
        listener(&Panic { thread, name, why, fatal });
    }
}

/// Runs `f`; a panic becomes its message and place.
fn caught<T>(f: impl FnOnce() -> T) -> std::result::Result<T, String> {
    let outer = CAUGHT.replace(true);
    let done = catch_unwind(AssertUnwindSafe(f));
    CAUGHT.set(outer);
    done.map_err(|_| WHY.take())
}

/// The error of what was to be done when a thread panicked, for whoever waits for it.
pub fn bug(what: &str) -> Error {
    Error::new(Kind::Io, format!("{what}: this is a bug of the program; the log says what happened"))
}

/// Runs one piece of work whose panic costs only that piece, and then is its error; `what` names it.
pub fn guarded<T>(what: &str, f: impl FnOnce() -> T) -> Result<T> {
    caught(f).map_err(|why| {
        tell(None, what, &why, "only that fails", false);
        bug(what)
    })
}

/// A place where a test makes this thread fail, once: `PASTCAM_FAULT=panic:recorder/work` or `hang:…`, in debug builds only.
#[cfg(debug_assertions)]
pub fn fault(at: &str) {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    static DONE: AtomicBool = AtomicBool::new(false);
    let wanted = WANTED.get_or_init(|| std::env::var("PASTCAM_FAULT").ok());
    let Some((what, place)) = wanted.as_ref().and_then(|w| w.split_once(':')) else { return };
    let here = std::thread::current();
    if place.split_once('/') != here.name().map(|name| (name, at)) || DONE.swap(true, Relaxed) {
        return;
    }
    assert!(what == "hang", "asked for by PASTCAM_FAULT={what}:{place}");
    loop {
        std::thread::sleep(LOOK);
    }
}

/// Nothing but in debug builds.
#[cfg(not(debug_assertions))]
pub fn fault(_at: &str) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_part_that_panics_is_called_again_and_its_owner_sees_the_others_end() {
        let (to, from) = channel();
        let mut times = 0;
        let thread = Thread::Sound.keep(move || {
            times += 1;
            assert!(times > 2, "the first two fail");
            to.send(times).unwrap();
        });
        assert_eq!(from.recv(), Ok(3));
        thread.unwrap().join().unwrap();
        let (to, from) = channel::<()>();
        let thread = Thread::Sensor.spawn(move || {
            let _held = to;
            panic!("for the test");
        });
        assert!(from.recv().is_err());
        thread.unwrap().join().unwrap();
    }

    #[test]
    fn a_watched_part_that_keeps_failing_is_given_up() {
        let times = std::sync::Arc::new(AtomicU64::new(0));
        let count = times.clone();
        let thread = Thread::Shutter.keep(move || {
            count.fetch_add(1, Relaxed);
            panic!("for the test");
        });
        thread.unwrap().join().unwrap();
        assert_eq!(times.load(Relaxed), u64::from(ATTEMPTS));
    }

    #[test]
    fn a_piece_of_work_fails_alone() {
        assert_eq!(guarded("a sum", || 1 + 1).unwrap(), 2);
        let failed: Result<()> = guarded("a sum", || panic!("for the test"));
        assert_eq!(failed.unwrap_err().kind, Kind::Io);
    }

    #[test]
    fn names_are_what_the_system_keeps_and_no_two_are_alike() {
        let mut names: Vec<_> = Thread::ALL.iter().map(|t| t.name()).collect();
        assert!(names.iter().all(|n| n.len() <= 15));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Thread::ALL.len());
    }
}
