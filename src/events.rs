//! Owns what happened, as values, on its way from whoever saw it to whoever listens: one outlet, a bounded queue per listener. Never
//! waits: a listener that is slow loses what comes while its queue is full, and is told how many. Any thread; nobody publishes per
//! frame.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Frames the source lost.
    Lost,
    /// Frames that found every slot of the ring in use.
    Dropped,
    /// Pictures sent again to viewers and recordings.
    Repeated,
    /// The source was started again.
    Restarts,
}

/// What happened.
#[allow(missing_docs, reason = "the line of each variant says what it carries")]
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Files are whole and in their folder: absolute, at least one, with the first and the last frame in them.
    Saved { files: Vec<PathBuf>, first: Moment, last: Moment, by: By },
    /// A recording is over, its files were told as saved: the last of them, how many, and of all together the length (s), the
    /// pictures, and how long those that are missing would have lasted (s).
    Recorded { file: PathBuf, seconds: f64, pictures: u64, files: u32, lost_s: f64, ended: Ended, by: By },
    /// Something that was asked for did not come about: the error's kind and sentence.
    Failed { task: Task, by: By, kind: Kind, why: String },
    /// The night rule has switched, at this level.
    Mode { night: bool, level: f32 },
    /// The camera was lost, with the reason, or is back, without.
    State { state: State, why: String },
    /// Something about the disk, with the sentence, or all is well again, without.
    Disk { disk: Disk, why: String },
    /// A counter has grown: by how much since it was told last, and what it is now.
    Counted { counter: Counter, more: u64, total: u64 },
    /// The wall clock was set, by so much (s).
    ClockStepped { by_s: f64 },
    /// The notes that `status` shows have changed to these.
    Notes(Vec<String>),
    /// A thread panicked: its name, message and place.
    Thread { name: String, why: String },
}

impl Event {
    /// The line that subscribers of the trigger port get.
    pub fn line(&self) -> String {
        match self {
            Event::Saved { files, .. } => {
                format!("EVENT saved={}", files.first().map_or(String::new(), |p| p.display().to_string()))
            }
            Event::Recorded { file, seconds, pictures, files, lost_s, ended, by } => {
                let (file, by, ended, short) = (file.display(), word(by), word(ended), shortcomings(*files, *lost_s));
                format!("EVENT recorded={file} seconds={seconds:.1} pictures={pictures}{short} by={by} ended={ended}")
            }
            Event::Failed { task, by, kind, why } => {
                format!("EVENT failed={} by={} kind={} why={why}", word(task), word(by), kind.word())
            }
            Event::Mode { night, level } => format!("EVENT mode={} level={level:.1}", if *night { "NIGHT" } else { "DAY" }),
            Event::State { state, why } => with_why(format!("EVENT state={}", state.word()), why),
            Event::Disk { disk, why } => with_why(format!("EVENT disk={}", word(disk)), why),
            Event::Counted { counter, more, total } => format!("EVENT counter={} more={more} total={total}", word(counter)),
            Event::ClockStepped { by_s } => format!("EVENT clock=stepped by={by_s:+.3}"),
            Event::Notes(notes) => with_why(format!("EVENT notes={}", notes.len()), notes.first().map_or("", String::as_str)),
            Event::Thread { name, why } => format!("EVENT failed=thread name={name} why={why}"),
        }
    }
}

/// A variant's name, as it goes over the wire.
pub fn word(variant: &impl Debug) -> String {
    format!("{variant:?}").to_ascii_lowercase()
}

/// The words about a recording that is not one file without a gap.
pub fn shortcomings(files: u32, lost_s: f64) -> String {
    let files = if files > 1 { format!(" files={files}") } else { String::new() };
    let lost = if lost_s > 0.0 { format!(" lost={:.1}s", lost_s.max(0.1)) } else { String::new() };
    files + &lost
}

fn with_why(mut line: String, why: &str) -> String {
    if !why.is_empty() {
        line.push_str(" why=");
        line.push_str(why);
    }
    line
}

type Call = Arc<dyn Fn(&Event) + Send + Sync>;

#[derive(Clone)]
enum Ear {
    /// A bounded queue, and how many events have not found room in it.
    Queue(SyncSender<Arc<Event>>, Arc<AtomicU64>),
    Call(Call),
}

/// The outlet. Clones share it.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Vec<Ear>>>);

impl Events {
    fn ears(&self) -> MutexGuard<'_, Vec<Ear>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all listeners. Waits for none.
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        let mut calls = Vec::new();
        self.ears().retain(|ear| match ear {
            Ear::Call(call) => {
                calls.push(call.clone());
                true
            }
            Ear::Queue(queue, lost) => match queue.try_send(event.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    lost.fetch_add(1, Relaxed);
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            },
        });
        for call in calls {
            call(&event);
        }
    }

    /// Tells that something failed. What cannot be, or not now, is refused and no trouble.
    pub fn failed(&self, task: Task, by: By, e: &Error) {
        if !matches!(e.kind, Kind::Busy | Kind::Past | Kind::Usage) {
            self.publish(Event::Failed { task, by, kind: e.kind, why: e.to_string() });
        }
    }

    /// From now on events wait for the listener, at most `most` of them.
    pub fn listen(&self, most: usize) -> Listener {
        let ((queue, events), lost) = (sync_channel(most), Arc::<AtomicU64>::default());
        self.ears().push(Ear::Queue(queue, lost.clone()));
        Listener { events, lost }
    }

    /// From now on `call` gets each event, on the thread of whoever publishes: it must return at once. For listeners that have a
    /// bounded queue of their own, as the server's mailbox.
    pub fn call(&self, call: impl Fn(&Event) + Send + Sync + 'static) {
        self.ears().push(Ear::Call(Arc::new(call)));
    }
}

/// A listener with a queue of its own. Dropping it ends listening.
pub struct Listener {
    events: Receiver<Arc<Event>>,
    lost: Arc<AtomicU64>,
}

impl Listener {
    /// The oldest event that waits; `None` when none comes within `wait`.
    pub fn next(&self, wait: Duration) -> Option<Arc<Event>> {
        self.events.recv_timeout(wait).ok()
    }

    /// How many events found no room since the last call.
    pub fn lost(&self) -> u64 {
        self.lost.swap(0, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(level: f32) -> Event {
        Event::Mode { night: false, level }
    }

    #[test]
    fn a_slow_listener_loses_events_of_its_own_and_is_told_how_many() {
        let (events, soon) = (Events::default(), Duration::ZERO);
        let (slow, quick) = (events.listen(2), events.listen(9));
        for level in 1..=5u8 {
            events.publish(mode(level.into()));
            assert_eq!(quick.next(soon), Some(Arc::new(mode(level.into()))));
        }
        assert_eq!((slow.lost(), slow.lost(), quick.lost()), (3, 0, 0));
        assert_eq!([1.0, 2.0].map(|level| slow.next(soon) == Some(Arc::new(mode(level)))), [true; 2]);
        assert_eq!(slow.next(soon), None);
    }

    #[test]
    fn one_that_waits_is_woken_and_one_that_has_gone_is_forgotten() {
        let events = Events::default();
        drop(events.listen(1));
        let (to, from) = std::sync::mpsc::channel();
        events.call(move |e| to.send(e.line()).unwrap());
        let waits = events.listen(1);
        let there = std::thread::spawn(move || waits.next(Duration::from_secs(60)).unwrap().line());
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
                Event::Recorded { file, seconds: 7.04, pictures: 176, files: 2, lost_s: 1.23, ended, by: By::Command },
                "recorded=/c/a.mp4 seconds=7.0 pictures=176 files=2 lost=1.2s by=command ended=disk",
            ),
            (
                Event::Failed { task: Task::Save, by: By::Clock, kind: Kind::Disk, why },
                "failed=save by=clock kind=disk why=write /c/a.jpg: the disk is full",
            ),
            (Event::State { state: State::Lost, why: "no frame for 5.0 s".into() }, "state=LOST why=no frame for 5.0 s"),
            (Event::State { state: State::Running, why: String::new() }, "state=RUNNING"),
            (Event::Disk { disk: Disk::Back, why: String::new() }, "disk=back"),
            (Event::Counted { counter: Counter::Lost, more: 3, total: 120 }, "counter=lost more=3 total=120"),
            (Event::ClockStepped { by_s: -3600.0 }, "clock=stepped by=-3600.000"),
            (Event::Notes(vec!["wifi.txt was not taken over".into()]), "notes=1 why=wifi.txt was not taken over"),
            (Event::Thread { name: "recorder".into(), why: "a bug".into() }, "failed=thread name=recorder why=a bug"),
        ];
        for (event, line) in cases {
            assert_eq!(event.line(), format!("EVENT {line}"));
        }
    }
}
