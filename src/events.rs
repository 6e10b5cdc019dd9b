//! Owns what happened, as values, on its way from whoever saw it to whoever listens: one outlet, a bounded queue per listener. Never
//! waits and never keeps anything back: a listener that is slow loses its own oldest events and is told how many. Any thread; nobody
//! publishes per frame.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::clock::{BootUs, WallUs};
use crate::error::{Error, Kind};
use crate::health::State;

/// The instant of a frame on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The boot-time clock.
    pub boot: BootUs,
    /// The wall clock.
    pub wall: WallUs,
}

/// Who asked for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A client.
    Command,
    /// The interval of periodic pictures, or the schedule of recordings.
    Clock,
}

impl By {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            By::Command => "command",
            By::Clock => "clock",
        }
    }
}

/// Why a recording is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Somebody stopped it, or the program stops.
    Stopped,
    /// Its seconds or its hours of the schedule are over, or a command takes the place of one by the clock.
    Over,
    /// The disk is full or gone.
    Disk,
}

impl Ended {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Ended::Stopped => "stopped",
            Ended::Over => "over",
            Ended::Disk => "disk",
        }
    }
}

/// What has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A picture, or several.
    Save,
    /// A recording.
    Record,
    /// A clip.
    Clip,
}

impl Task {
    /// The word on the wire: the command's.
    pub fn word(self) -> &'static str {
        match self {
            Task::Save => "save",
            Task::Record => "record",
            Task::Clip => "clip",
        }
    }
}

/// What is the matter with the pictures' disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Less is free than `export.min_free_mib`, and nothing more can go.
    Low,
    /// It does not answer.
    Hung,
    /// Folder or file system is away or cannot be written.
    Gone,
    /// All is well again.
    Back,
}

impl Disk {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Disk::Low => "low",
            Disk::Hung => "hung",
            Disk::Gone => "gone",
            Disk::Back => "back",
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Files are whole and in their folder: of one picture in several formats, of several pictures, a recording or a clip.
    Saved {
        /// Absolute, at least one.
        files: Vec<PathBuf>,
        /// The first frame in them.
        first: Moment,
        /// The last one.
        last: Moment,
        /// Who asked.
        by: By,
    },
    /// A recording is over; its files were told as saved.
    Recorded {
        /// The last of its files.
        file: PathBuf,
        /// From that file's first picture to its last (s).
        seconds: f64,
        /// Pictures in that file.
        pictures: u64,
        /// Why.
        ended: Ended,
        /// Who asked.
        by: By,
    },
    /// Something that was asked for did not come about.
    Failed {
        /// What.
        task: Task,
        /// Who asked.
        by: By,
        /// Kind of the error, as on the wire.
        kind: Kind,
        /// The sentence.
        why: String,
    },
    /// The night rule has switched.
    Mode {
        /// To night.
        night: bool,
        /// The level at the switch.
        level: f32,
    },
    /// The camera was lost, or is back.
    State {
        /// What it is now.
        state: State,
        /// What was wrong; empty when it is well.
        why: String,
    },
    /// Something about the disk.
    Disk {
        /// What.
        disk: Disk,
        /// The sentence; empty when all is well.
        why: String,
    },
    /// The wall clock was set.
    ClockStepped {
        /// By so much (s).
        by_s: f64,
    },
    /// The notes that `status` shows have changed.
    Notes(Vec<String>),
    /// A thread panicked or hangs.
    Thread {
        /// Its name.
        name: String,
        /// The sentence.
        why: String,
    },
}

impl Event {
    /// The line that subscribers of the trigger port get.
    pub fn line(&self) -> String {
        let path = |p: &Path| p.display().to_string();
        match self {
            Event::Saved { files, .. } => format!("EVENT saved={}", files.first().map_or_else(String::new, |p| path(p))),
            Event::Recorded { file, seconds, pictures, ended, by } => format!(
                "EVENT recorded={} seconds={seconds:.1} pictures={pictures} by={} ended={}",
                path(file),
                by.word(),
                ended.word()
            ),
            Event::Failed { task, by, kind, why } => {
                format!("EVENT failed={} by={} kind={} why={why}", task.word(), by.word(), kind.word())
            }
            Event::Mode { night, level } => format!("EVENT mode={} level={level:.1}", if *night { "NIGHT" } else { "DAY" }),
            Event::State { state, why } => with_why(format!("EVENT state={}", state.word()), why),
            Event::Disk { disk, why } => with_why(format!("EVENT disk={}", disk.word()), why),
            Event::ClockStepped { by_s } => format!("EVENT clock=stepped by={by_s:+.3}"),
            Event::Notes(notes) => with_why(format!("EVENT notes={}", notes.len()), notes.first().map_or("", String::as_str)),
            Event::Thread { name, why } => format!("EVENT failed=thread name={name} why={why}"),
        }
    }
}

fn with_why(mut line: String, why: &str) -> String {
    if !why.is_empty() {
        line.push_str(" why=");
        line.push_str(why);
    }
    line
}

/// One listener's queue.
struct Queue {
    name: &'static str,
    most: usize,
    inside: Mutex<(VecDeque<Arc<Event>>, u64)>,
    more: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, (VecDeque<Arc<Event>>, u64)> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Call = Arc<dyn Fn(&Event) + Send + Sync>;

#[derive(Clone)]
enum Ear {
    Queue(Weak<Queue>),
    Call(Call),
}

/// The outlet. Clones share it.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Vec<Ear>>>);

impl Events {
    /// Tells all listeners. Waits for none.
    pub fn publish(&self, event: Event) {
        let ears = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let event = Arc::new(event);
        for ear in ears {
            match ear {
                Ear::Call(call) => call(&event),
                Ear::Queue(queue) => {
                    let Some(queue) = queue.upgrade() else { continue };
                    let mut inside = queue.lock();
                    if inside.0.len() == queue.most {
                        inside.0.pop_front();
                        inside.1 += 1;
                    }
                    inside.0.push_back(event.clone());
                    drop(inside);
                    queue.more.notify_one();
                }
            }
        }
    }

    /// Tells that something failed. What cannot be, or not now, is refused and no trouble.
    pub fn failed(&self, task: Task, by: By, e: &Error) {
        if !matches!(e.kind, Kind::Busy | Kind::Past | Kind::Usage) {
            self.publish(Event::Failed { task, by, kind: e.kind, why: e.to_string() });
        }
    }

    /// From now on events wait for the listener, at most `most` of them; `name` is for the log.
    pub fn listen(&self, name: &'static str, most: usize) -> Listener {
        let queue = Arc::new(Queue { name, most: most.max(1), inside: Mutex::default(), more: Condvar::new() });
        let mut ears = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ears.retain(|ear| !matches!(ear, Ear::Queue(q) if q.strong_count() == 0));
        ears.push(Ear::Queue(Arc::downgrade(&queue)));
        Listener(queue)
    }

    /// From now on `call` gets each event, on the thread of whoever publishes: it must return at once and publish nothing. For
    /// listeners that have a bounded queue of their own, as the server's mailbox.
    pub fn call(&self, call: impl Fn(&Event) + Send + Sync + 'static) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Ear::Call(Arc::new(call)));
    }
}

/// A listener with a queue of its own. Dropping it ends listening.
pub struct Listener(Arc<Queue>);

impl Listener {
    /// The oldest event that waits, and how many were lost before it; `None` when none comes within `wait`.
    pub fn next(&self, wait: Duration) -> Option<(Arc<Event>, u64)> {
        let inside = self.0.lock();
        let waited = self.0.more.wait_timeout_while(inside, wait, |i| i.0.is_empty());
        let mut inside = waited.unwrap_or_else(PoisonError::into_inner).0;
        let event = inside.0.pop_front()?;
        let lost = std::mem::take(&mut inside.1);
        drop(inside);
        if lost > 0 {
            log::warn!("{lost} events were lost to {}, which does not keep up", self.0.name);
        }
        Some((event, lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(level: f32) -> Event {
        Event::Mode { night: false, level }
    }

    #[test]
    fn a_slow_listener_loses_its_oldest_events_and_is_told_how_many() {
        let (events, soon) = (Events::default(), Duration::ZERO);
        let (slow, quick) = (events.listen("slow", 2), events.listen("quick", 9));
        for level in 1..=5u8 {
            events.publish(mode(level.into()));
            assert_eq!(quick.next(soon), Some((Arc::new(mode(level.into())), 0)));
        }
        assert_eq!(slow.next(soon), Some((Arc::new(mode(4.0)), 3)));
        assert_eq!(slow.next(soon), Some((Arc::new(mode(5.0)), 0)));
        assert_eq!(slow.next(soon), None);
    }

    #[test]
    fn one_that_waits_is_woken_and_one_that_has_gone_is_forgotten() {
        let events = Events::default();
        drop(events.listen("gone", 1));
        let (to, from) = std::sync::mpsc::channel();
        events.call(move |e| to.send(e.line()).unwrap());
        let waits = events.listen("waits", 1);
        let there = std::thread::spawn(move || waits.next(Duration::from_secs(60)).unwrap().0.line());
        events.publish(mode(97.46));
        assert_eq!(there.join().unwrap(), "EVENT mode=DAY level=97.5");
        assert_eq!(from.recv().unwrap(), "EVENT mode=DAY level=97.5");
        assert_eq!(events.0.lock().unwrap().len(), 2);
    }

    #[test]
    fn each_event_has_its_line() {
        let now = Moment { boot: BootUs(1), wall: WallUs(2) };
        let files = ["/c/a.jpg", "/c/a.png"].map(PathBuf::from).to_vec();
        let why = "write /c/a.jpg: the disk is full".into();
        let (file, ended) = (PathBuf::from("/c/a.mp4"), Ended::Disk);
        let cases = [
            (Event::Saved { files, first: now, last: now, by: By::Clock }, "saved=/c/a.jpg"),
            (
                Event::Recorded { file, seconds: 7.04, pictures: 176, ended, by: By::Command },
                "recorded=/c/a.mp4 seconds=7.0 pictures=176 by=command ended=disk",
            ),
            (
                Event::Failed { task: Task::Save, by: By::Clock, kind: Kind::Disk, why },
                "failed=save by=clock kind=disk why=write /c/a.jpg: the disk is full",
            ),
            (Event::State { state: State::Lost, why: "no frame for 5.0 s".into() }, "state=LOST why=no frame for 5.0 s"),
            (Event::State { state: State::Running, why: String::new() }, "state=RUNNING"),
            (Event::Disk { disk: Disk::Back, why: String::new() }, "disk=back"),
            (Event::ClockStepped { by_s: -3600.0 }, "clock=stepped by=-3600.000"),
            (Event::Notes(vec!["wifi.txt was not taken over".into()]), "notes=1 why=wifi.txt was not taken over"),
            (Event::Thread { name: "recorder".into(), why: "a bug".into() }, "failed=thread name=recorder why=a bug"),
        ];
        for (event, line) in cases {
            assert_eq!(event.line(), format!("EVENT {line}"));
        }
    }
}
