//! Owns the thread `retention`: it takes the folder over at the start, lets old files go in slices, makes room for whoever must
//! write below the floor of free space, and measures that space. Nobody else waits for any of it, and no lock is held meanwhile:
//! the rules' own knowledge ([`RetentionKeeper`]) belongs to the thread alone, callers leave a word in a mailbox.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::statvfs::{FsFlags, Statvfs};

use super::age::Ages;
use super::keep::{RetentionKeeper, Written};
use super::{Keep, film, lock};
use crate::clock::{SystemClock, WallUs};
use crate::disk::{self, Home, Names};
use crate::error::{Error, Kind, Result};
use crate::events::Disk;
use crate::threads::Thread;

/// How long files are deleted at a time, and how much longer the disk is left to others then: 40,000 files past their age take
/// minutes, in which a picture is saved as fast as ever. At most [`REST`].
const SLICE: Duration = Duration::from_millis(10);
const SHARE: u32 = 4;
const REST: Duration = Duration::from_secs(1);
/// Between looks when nobody saves: pictures age by themselves, and others fill the disk.
const MINUTE: Duration = Duration::from_secs(60);
/// The same while something is the matter.
const TROUBLED: Duration = Duration::from_secs(5);
/// Behind the camera, and behind the pictures on their way (nice).
const BEHIND: i32 = 15;

/// Somebody who must not write so many bytes before there is room.
type Room = (u64, Sender<Result<()>>);

/// What callers leave, and what they may know.
#[derive(Default)]
pub(super) struct Mailbox {
    dir: PathBuf,
    rules: Keep,
    /// Folder or rules are new.
    changed: bool,
    /// Files that are in the folder and not counted yet.
    written: Vec<Written>,
    /// The names of the last request among them.
    spare: Vec<String>,
    /// Files that somebody deleted.
    deleted: u64,
    /// A save failed or made a difference: measure again.
    poked: bool,
    /// Those who must not write before there is room.
    rooms: Vec<Room>,
    /// Those who wait until nothing is left to be done.
    rests: Vec<Sender<()>>,
    /// Youngest modification time in the folder; `None` before it was read.
    newest: Option<SystemTime>,
    free: Option<u64>,
    trouble: Option<(Disk, String)>,
    /// Why the bounds by age rest, if they do.
    doubt: Option<String>,
    closed: bool,
}

/// The mailbox and its two bells.
#[derive(Default)]
pub(super) struct Shared {
    inside: Mutex<Mailbox>,
    /// For the thread.
    work: Condvar,
    /// The folder was read.
    read: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Mailbox> {
        lock(&self.inside)
    }

    /// Whether a file is on its way into the count, so that reading the folder must not count it too.
    pub fn will_be_counted(&self, name: &str) -> bool {
        self.lock().written.iter().any(|w| w.name == name)
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

/// The callers' side.
pub(super) struct Retention {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Retention {
    /// Starts the thread, which takes `dir` over.
    pub fn start(dir: PathBuf, rules: Keep, names: &Names, home: &Arc<Home>) -> Result<Retention> {
        let shared = Arc::new(Shared::default());
        (shared.lock().dir, shared.lock().rules) = (dir, rules);
        let (own, names, home) = (shared.clone(), names.clone(), home.clone());
        let thread = Thread::Retention.keep(move || Worker::new((&own, &names, &home), Ages::watch(&SystemClock)).run())?;
        Ok(Retention { shared, thread: Mutex::new(Some(thread)) })
    }

    fn leave(&self, word: impl FnOnce(&mut Mailbox)) {
        word(&mut self.shared.lock());
        self.shared.work.notify_one();
    }

    /// Another folder, which exists, or other rules.
    pub fn set(&self, dir: PathBuf, rules: Keep) {
        self.leave(|m| {
            if m.dir != dir {
                (m.newest, m.dir) = (None, dir);
                m.written.clear();
            }
            (m.rules, m.changed) = (rules, true);
        });
    }

    /// Files have got their names in `dir`; told while those are still reserved.
    pub fn wrote(&self, dir: &Path, files: impl Iterator<Item = Written>) {
        self.leave(|m| {
            if m.dir == dir {
                let before = m.written.len();
                m.written.extend(files);
                m.spare = m.written[before..].iter().map(|w| w.name.clone()).collect();
            }
            m.poked = true;
        });
    }

    /// A file was deleted.
    pub fn deleted(&self) {
        self.leave(|m| m.deleted += 1);
    }

    /// Something went wrong with the disk.
    pub fn look(&self) {
        self.leave(|m| m.poked = true);
    }

    /// Waits until nothing is left to be deleted.
    pub fn rest(&self) {
        let (to, rested) = channel();
        self.leave(|m| {
            m.poked = true;
            if !m.closed {
                m.rests.push(to);
            }
        });
        // Without an answer the thread has ended, and nothing is left to wait for.
        let _ = rested.recv();
    }

    /// Returns when the floor of free space will hold in `dir` once `coming` bytes more are there. Waits for the thread only when it
    /// would not.
    pub fn make_room(&self, dir: &Path, coming: u64) -> Result<()> {
        let rules = {
            let m = self.shared.lock();
            if m.dir == dir { m.rules.clone() } else { Keep::default() }
        };
        let fits = |disk: &Statvfs| disk::free_of(disk) >= rules.floor(disk).saturating_add(coming);
        if !rules.has_floor() || fits(&disk::ask(dir).map_err(|e| disk::error("measure the free space of", dir, e))?) {
            return Ok(());
        }
        let (to, made) = channel();
        self.leave(|m| {
            if !m.closed {
                m.rooms.push((coming, to));
            }
        });
        made.recv().unwrap_or_else(|_| Err(Error::new(Kind::Busy, "no room can be made on the disk now; ask again")))
    }

    /// The modification time a file written now must be given so that files stay in the order they were written: none of
    /// its own while the clock is set, else just behind the youngest. A board that starts in 1970 after a power cut would
    /// otherwise delete its newest pictures first; so there, and only there, the first picture waits until the folder was read.
    /// Where the program ends before that, the error is `busy`.
    pub fn stamp(&self, dir: &Path, now: WallUs) -> Result<Option<SystemTime>> {
        let mut m = self.shared.lock();
        if now.is_set() || !m.rules.limited() {
            return Ok(None);
        }
        while m.newest.is_none() && m.dir == dir && !m.closed {
            m = self.shared.read.wait(m).unwrap_or_else(PoisonError::into_inner);
        }
        if m.newest.is_none() && m.closed {
            return Err(Error::new(Kind::Busy, "the program is stopping"));
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_micros(now.0.max(0) as u64);
        let stamp = now.max(m.newest.unwrap_or(SystemTime::UNIX_EPOCH) + Duration::from_millis(1));
        m.newest = m.newest.map(|_| stamp);
        Ok(Some(stamp))
    }

    /// Room on the disk (bytes), as of the last save or the last minute.
    pub fn free(&self) -> Option<u64> {
        self.shared.lock().free
    }

    /// What becomes of the bounds by age.
    pub fn age_rule(&self) -> &'static str {
        let m = self.shared.lock();
        match (m.rules.longest(), &m.doubt) {
            (None, _) => "off",
            (Some(_), None) => "on",
            (Some(_), Some(_)) => "resting",
        }
    }

    /// What is the matter with the disk, if anything is.
    pub fn trouble(&self) -> Option<(Disk, String)> {
        let hung = |(took, what): (Duration, String)| (Disk::Hung, format!("no answer for {} s: {what}", took.as_secs()));
        disk::slowest(disk::HUNG).map(hung).or_else(|| self.shared.lock().trouble.clone())
    }

    /// From now on no more room is made, and nobody waits for the folder.
    pub fn stop(&self) {
        self.leave(|m| m.closed = true);
        self.shared.read.notify_all();
    }

    /// Ends the thread, once the disk lets it.
    pub fn close(&self) {
        self.stop();
        if let Some(thread) = lock(&self.thread).take() {
            // A panic has been told.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Worker<'a> {
    shared: &'a Arc<Shared>,
    names: &'a Names,
    home: &'a Home,
    keeper: RetentionKeeper,
    /// Just written: not deleted before the next minute, even where it alone is too much.
    spare: Vec<String>,
    /// No room could be made.
    low: Option<String>,
    /// The disk is gone, or takes nothing.
    away: bool,
    /// It was, and has not been taken up yet.
    back: bool,
    /// Something is the matter with the disk.
    troubled: bool,
}

impl<'a> Worker<'a> {
    fn new((shared, names, home): (&'a Arc<Shared>, &'a Names, &'a Home), ages: Ages) -> Self {
        let (dir, rules) = {
            let mut m = shared.lock();
            m.changed = false;
            (m.dir.clone(), m.rules.clone())
        };
        let keeper = RetentionKeeper::new(dir, rules, ages, shared.clone(), names.clone());
        Worker { shared, names, home, keeper, spare: Vec::new(), low: None, away: false, back: false, troubled: false }
    }

    fn run(&mut self) {
        // On Linux this concerns the calling thread alone. Where it is refused, it costs the politeness.
        let _ = rustix::process::setpriority_process(None, BEHIND);
        self.measure();
        self.take_over(true);
        let (mut minute, mut next, mut more) = (Instant::now() + MINUTE, Instant::now(), true);
        let mut look = minute;
        loop {
            if self.troubled {
                look = look.min(Instant::now() + TROUBLED);
            }
            let until = if more { next } else { minute.min(look) };
            let Some((rooms, poked)) = self.words(until) else { return };
            if !rooms.is_empty() {
                self.make_room(rooms);
            }
            if Instant::now() >= minute {
                minute = Instant::now() + MINUTE;
                self.spare.clear();
                (more, next) = (true, Instant::now());
            }
            if Instant::now() >= look {
                look = Instant::now() + MINUTE;
                self.measure();
            }
            if std::mem::take(&mut self.back) {
                self.welcome();
            }
            more |= poked;
            if !more || Instant::now() < next {
                continue;
            }
            let begun = Instant::now();
            more = self.home.check(self.keeper.dir()).is_ok() && self.tidy(begun + SLICE);
            next = Instant::now() + REST.min(begun.elapsed() * SHARE);
            if !more {
                self.keeper.tell();
                self.measure();
                // Whoever left a word meanwhile is served first.
                let mut m = self.shared.lock();
                if !m.poked && m.written.is_empty() {
                    m.rests.clear();
                }
            }
        }
    }

    /// Lets old files go until then. Whether there are more.
    fn tidy(&mut self, until: Instant) -> bool {
        let (now, doubt) = self.keeper.present(&SystemClock);
        self.doubt(doubt);
        let spare: Vec<&str> = self.spare.iter().map(String::as_str).collect();
        self.keeper.tidy(&spare, now, until).unwrap_or_else(|e| {
            log::warn!("Old pictures stay: {e}");
            false
        })
    }

    /// Waits for words in the mailbox until then, and takes them in. `None`: the end.
    fn words(&mut self, until: Instant) -> Option<(Vec<Room>, bool)> {
        let idle = |m: &mut Mailbox| !m.closed && !m.changed && !m.poked && m.deleted == 0 && m.rooms.is_empty();
        let m = self.shared.lock();
        let wait = until.saturating_duration_since(Instant::now());
        let mut m = self.shared.work.wait_timeout_while(m, wait, idle).unwrap_or_else(PoisonError::into_inner).0;
        if m.closed {
            (m.rooms, m.rests) = Default::default();
            return None;
        }
        let poked = std::mem::take(&mut m.poked) | m.changed;
        if std::mem::take(&mut m.deleted) > 0 {
            // The folder is read again when something is to be deleted, not for each file that somebody deletes.
            self.keeper.forget();
            drop(m);
            self.measure();
            m = self.shared.lock();
        }
        if std::mem::take(&mut m.changed) {
            let (dir, rules) = (m.dir.clone(), m.rules.clone());
            drop(m);
            if self.keeper.dir() == dir {
                self.keeper.set_rules(rules);
            } else {
                *self = Worker::new((self.shared, self.names, self.home), self.keeper.ages());
                self.take_over(false);
            }
            m = self.shared.lock();
        }
        let (written, rooms) = (std::mem::take(&mut m.written), std::mem::take(&mut m.rooms));
        let spare = std::mem::take(&mut m.spare);
        drop(m);
        if !written.is_empty() {
            self.spare = spare;
            self.keeper.count(written);
            self.publish();
        }
        Some((rooms, poked))
    }

    /// Takes up a disk that was gone. It may be another one, with other files; or recordings are on it that could not be finished.
    fn welcome(&mut self) {
        self.keeper.forget();
        if let Err(e) = film::tidy(self.names, self.keeper.dir(), &|| self.shared.is_closed()) {
            log::warn!("export: {e}");
        }
    }

    /// Mends and sweeps what a previous run left, and counts. Only at the `start` can a draft that bears this
    /// process's number be a previous one's.
    fn take_over(&mut self, start: bool) {
        let dir = self.keeper.dir().to_owned();
        let taken = self
            .home
            .check(&dir)
            .and_then(|()| disk::make_folder(&dir))
            .and_then(|()| film::tidy(self.names, &dir, &|| self.shared.is_closed()))
            .and_then(|()| self.keeper.take_over(start));
        if let Err(e) = taken.or_else(|e| if self.shared.is_closed() { Ok(()) } else { Err(e) }) {
            log::error!("export: {e}; pictures cannot be saved until that is mended");
        }
        self.publish();
    }

    /// Lets others know how young the youngest file is.
    fn publish(&self) {
        let mut m = self.shared.lock();
        let newest = self.keeper.newest();
        m.newest = Some(m.newest.map_or(newest, |n| n.max(newest)));
        drop(m);
        self.shared.read.notify_all();
    }

    /// Tells when the bounds by age begin to rest, and when they are back.
    fn doubt(&self, why: Option<String>) {
        let mut m = self.shared.lock();
        match (&m.doubt, &why) {
            (None, Some(why)) => {
                log::warn!("The age limits (export.keep) rest: {why}; only what is too old for certain is deleted");
            }
            (Some(_), None) => log::info!("The age limits (export.keep) apply again: the clock is confirmed"),
            _ => {}
        }
        m.doubt = why;
    }

    fn make_room(&mut self, rooms: Vec<Room>) {
        let coming = rooms.iter().map(|(coming, _)| coming).sum();
        let made = self.home.check(self.keeper.dir()).and_then(|()| self.keeper.make_room(coming));
        self.low = made.as_ref().err().map(ToString::to_string);
        // Whoever is answered finds the same in `status`.
        self.measure();
        for (_, room) in rooms {
            // Whoever has gone needs no room.
            let _ = room.send(made.as_ref().copied().map_err(|e| Error { disk: e.disk, ..Error::new(e.kind, e.to_string()) }));
        }
        self.keeper.tell();
    }

    /// Looks how much room there is, and whether there is a disk at all.
    fn measure(&mut self) {
        let dir = self.keeper.dir();
        let (home, asked) = (self.home.check(dir), disk::ask(dir));
        let free = asked.as_ref().ok().map(disk::free_of);
        if let Ok(disk) = &asked {
            let fits = disk::free_of(disk) >= self.keeper.need(disk);
            self.low = if fits { None } else { self.keeper.shortfall(disk).or(self.low.take()) };
        }
        let trouble = match &asked {
            _ if home.is_err() => home.err().map(|e| (Disk::Gone, e.what)),
            Err(e) => Some((Disk::Gone, format!("{}: {e}", dir.display()))),
            Ok(v) if v.flags().contains(FsFlags::ST_RDONLY) => Some((Disk::Gone, format!("{} is read-only", dir.display()))),
            Ok(_) if free == Some(0) => Some((Disk::Low, format!("no room is left in {}", dir.display()))),
            Ok(_) => self.low.clone().map(|why| (Disk::Low, why)),
        };
        self.troubled = trouble.is_some();
        let away = matches!(trouble, Some((Disk::Gone, _)));
        self.back |= std::mem::replace(&mut self.away, away) && !away;
        let mut m = self.shared.lock();
        (m.free, m.trouble) = (free, trouble);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Format, KeepKind};
    use super::*;
    use crate::clock::Clock;
    use crate::disk::tests::Scratch;

    fn year_old() -> Keep {
        let mut rules = Keep::default();
        rules.kinds[Format::Jpg] = KeepKind { max_bytes: None, max_age_s: Some(365 * 86_400) };
        rules
    }

    /// Files that were written in 2025 and one of now.
    fn fill(dir: &Path, n: usize) {
        for id in 0..n {
            let file = fs::File::create(dir.join(format!("20250701_083408_f{id}.jpg"))).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_751_351_648 + id as u64)).unwrap();
        }
        fs::write(dir.join("20300701_083408_f1.jpg"), "new").unwrap();
    }

    #[test]
    fn old_pictures_go_in_slices_in_which_others_are_served() {
        let dir = Scratch::new("slices");
        fill(&dir, 1500);
        let retention =
            Retention::start(dir.to_path_buf(), Keep { min_free_mib: 1, ..year_old() }, &Names::default(), &Arc::default())
                .unwrap();
        // None of these waits for the deleting.
        retention.make_room(&dir, 0).unwrap();
        assert_eq!(retention.stamp(&dir, SystemClock.wall()).unwrap(), None);
        retention.wrote(&dir, std::iter::empty());
        let left = dir.names().len();
        assert!(left > 1, "all were deleted before the first picture could be written");
        retention.rest();
        assert_eq!(dir.names(), ["20300701_083408_f1.jpg"]);
        assert!(retention.free().is_some() && retention.trouble().is_none());
        // Rules that come later are kept too.
        retention.set(dir.to_path_buf(), Keep { min_free_mib: u64::MAX >> 20, ..Keep::default() });
        let e = retention.make_room(&dir, 0).unwrap_err();
        assert!(e.kind == Kind::Disk && e.what.contains("min_free_mib"), "{e}");
        // Who waits for room is answered first.
        retention.rest();
        // Other programs fill and free the disk meanwhile.
        let same = |why: &str| why.split(" only ").next() == e.what.split(" only ").next();
        assert!(matches!(retention.trouble(), Some((Disk::Low, why)) if same(&why)), "{:?}", retention.trouble());
        retention.close();
        assert_eq!(retention.make_room(&dir, 0).unwrap_err().kind, Kind::Busy);
        retention.rest();
    }

    #[test]
    fn without_a_clock_new_files_are_still_the_youngest() {
        let dir = Scratch::new("noclock");
        fill(&dir, 2);
        let retention = Retention::start(dir.to_path_buf(), year_old(), &Names::default(), &Arc::default()).unwrap();
        let youngest = fs::metadata(dir.join("20300701_083408_f1.jpg")).unwrap().modified().unwrap();
        let stamp = retention.stamp(&dir, WallUs(3)).unwrap().unwrap();
        assert!(stamp > youngest && retention.stamp(&dir, WallUs(3)).unwrap().unwrap() > stamp);
        retention.set(dir.to_path_buf(), Keep::default());
        assert_eq!(retention.stamp(&dir, WallUs(3)).unwrap(), None, "nothing is limited, so nothing is deleted");
    }

    #[test]
    fn a_folder_that_is_gone_is_told_and_forgotten_when_it_is_back() {
        let dir = Scratch::new("away");
        let sub = dir.join("sub");
        let retention = Retention::start(sub.clone(), Keep::default(), &Names::default(), &Arc::default()).unwrap();
        retention.rest();
        fs::remove_dir(&sub).unwrap();
        let seen = || {
            retention.look();
            retention.rest();
            retention.trouble().map(|(disk, _)| disk)
        };
        assert_eq!((seen(), retention.free()), (Some(Disk::Gone), None));
        fs::create_dir(&sub).unwrap();
        assert!(seen().is_none() && retention.free().is_some());
    }
}
