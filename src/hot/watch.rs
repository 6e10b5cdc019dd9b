//! Owns when frames are looked at, and when the list is written. Holds one frame of the ring for the length of a look, and rests at
//! least ten times as long. The thread `hot-pixels`, behind all others.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::file::{self, Owner};
use super::{Hot, Learner, List, Spot, State, is_dark};
use crate::frame::Layout;
use crate::ring::Frames;
use crate::shutdown::Shutdown;
use crate::threads;

#[cfg(test)]
mod tests;

/// Between looks while there is something to learn: of differing length, so that nothing that comes round at regular times is found at
/// the same place again and again.
const LOOKS: [Duration; 4] =
    [Duration::from_millis(1700), Duration::from_millis(2300), Duration::from_millis(1900), Duration::from_millis(2900)];
/// Before the first look, so many times at most: pictures shall be repaired soon after a restart.
const SOON: Duration = Duration::from_millis(250);
const EARLY: u32 = 40;
/// Between looks by day, where there are no frames, while it is off, and when nothing new has been learned for [`CALM`] looks.
const SELDOM: Duration = Duration::from_secs(10);
const CALM: u32 = 300;
/// Rests are at least so many times as long as looks.
const SHARE: u32 = 10;
/// From the first change to the first writing, and between writings: a card wears.
const FIRST: Duration = Duration::from_secs(20);
const WRITE: Duration = Duration::from_secs(600);
/// Between lines of the log about what was learned.
const TELL: Duration = Duration::from_secs(60);
/// How far this thread steps behind the others (nice): further than those who make pictures.
const BEHIND: i32 = 15;

/// Where frames come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Whose pixels they are, whatever their rate; without secrets.
    pub source: String,
    /// How they are turned, as EXIF numbers it.
    pub turn: u8,
    /// A control cuts out a part of the sensor or mirrors it.
    pub moved: bool,
}

/// The thread `hot-pixels`.
pub struct Watch {
    /// What it learns for.
    pub hot: Arc<Hot>,
    /// The ring.
    pub frames: Arc<Frames>,
    /// The folder of the pictures.
    pub dir: Arc<Mutex<PathBuf>>,
    /// Where the frames come from now; `None` while that is not decided.
    pub origin: Box<dyn Fn() -> Option<Origin> + Send>,
}

/// What is being learned, and for whom.
struct Course {
    owner: Owner,
    learner: Learner,
    /// The folder whose file holds nothing that the learner does not know. A card may be mounted late.
    read: Option<PathBuf>,
    /// Since when the file is behind.
    behind: Option<Instant>,
    /// Number of the last frame that was looked at: by night the next may not be there yet.
    seen: Option<u64>,
    /// Whether it was taken in night mode.
    night: bool,
    /// Since when the log is, and how many it was told.
    untold: Option<Instant>,
    told: usize,
    calm: u32,
}

impl Watch {
    /// Works until the program ends.
    pub fn run(&self, shutdown: &Shutdown) {
        // On Linux this concerns the calling thread alone. Where it is refused, it learns all the same.
        let _ = rustix::process::setpriority_process(None, BEHIND);
        let mut course: Option<Course> = None;
        let (mut pause, mut k, mut looks) = (SOON, 0, 0u32);
        let mut written: Option<Instant> = None;
        while !shutdown.sleep(pause) {
            threads::fault("work");
            let begun = Instant::now();
            k = (k + 1) % LOOKS.len();
            let dark = self.look(&mut course);
            looks = looks.saturating_add(1);
            pause = rest(course.as_ref().map(|c| c.calm), dark, looks, LOOKS[k]).max(begun.elapsed() * SHARE);
            if let Some(c) = &mut course {
                c.tell();
                if c.behind.is_some_and(|since| since.elapsed() >= FIRST) && written.is_none_or(|w| w.elapsed() >= WRITE) {
                    self.write(c);
                    written = Some(Instant::now());
                }
            }
        }
        if let Some(c) = &mut course {
            self.write(c);
        }
    }

    /// Looks at the newest frame. Returns whether it was dark.
    fn look(&self, course: &mut Option<Course>) -> bool {
        if self.hot.state() == State::Off {
            return false;
        }
        let newest = || self.frames.past.newest();
        let (Some(origin), Some(layout)) = ((self.origin)(), newest().map(|slot| slot.meta().layout)) else {
            self.hot.set_state(State::Waiting);
            return false;
        };
        if origin.moved {
            self.hot.set_state(State::Suspended);
            return false;
        }
        // It may wait for a disk, and holds no frame meanwhile.
        self.begin(course, &origin, layout);
        let Some(slot) = newest().filter(|slot| slot.meta().layout == layout) else { return false };
        let meta = *slot.meta();
        if !is_dark(&meta, slot.pixels()) {
            self.hot.set_state(State::Waiting);
            return false;
        }
        self.hot.set_state(State::Learning);
        let Some(c) = course.as_mut().filter(|c| c.seen != Some(meta.id)) else { return true };
        c.seen = Some(meta.id);
        if std::mem::replace(&mut c.night, meta.night) != meta.night {
            c.learner.restart_scene();
        }
        let changed = c.learner.look(slot.pixels(), meta.boot);
        drop(slot);
        c.calm = if changed { 0 } else { c.calm.saturating_add(1) };
        let now = Instant::now();
        if changed {
            c.untold.get_or_insert(now);
        }
        // What is known of each gets better with every look.
        if changed || c.calm % 16 == 0 {
            let list = c.learner.list();
            if differs(&self.hot.list(), &list) {
                c.behind.get_or_insert(now);
            }
            self.hot.set(list);
        }
        true
    }

    /// Another source, size or turn has other pixels.
    fn begin(&self, course: &mut Option<Course>, origin: &Origin, layout: Layout) {
        let owner = Owner { source: origin.source.clone(), turn: origin.turn, width: layout.width, height: layout.height };
        if course.as_ref().is_some_and(|c| c.owner == owner) {
            return;
        }
        if let Some(before) = course.as_mut() {
            self.write(before);
        }
        let learner = Learner::new(layout);
        let mut c = Course { owner, learner, read: None, behind: None, seen: None, night: false, untold: None, told: 0, calm: 0 };
        c.read(self.dir());
        let list = c.learner.list();
        c.told = list.spots.len();
        self.hot.set(list);
        *course = Some(c);
    }

    fn dir(&self) -> PathBuf {
        self.dir.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes what the file lacks; where that fails, it still lacks it.
    fn write(&self, c: &mut Course) {
        if c.behind.is_none() {
            return;
        }
        let dir = self.dir();
        if c.read.as_ref() != Some(&dir) {
            c.read(dir.clone());
            self.hot.set(c.learner.list());
        }
        match file::save(&dir, &c.owner, &c.learner.list()) {
            Ok(()) => (c.behind, c.read) = (None, Some(dir)),
            Err(e) => log::warn!("{e}"),
        }
    }
}

/// How long to rest after a look: `calm` looks of a course have brought nothing new.
fn rest(calm: Option<u32>, dark: bool, looks: u32, usual: Duration) -> Duration {
    match calm {
        None if looks < EARLY => SOON,
        Some(calm) if dark && calm <= CALM => usual,
        _ => SELDOM.min(usual * 4),
    }
}

/// Whether other pixels are known, or other planes of them; by how much they glow changes all the time.
fn differs(a: &List, b: &List) -> bool {
    let what = |s: &Spot| (s.y, s.x, s.u != 0, s.v != 0);
    !a.spots.iter().map(what).eq(b.spots.iter().map(what))
}

impl Course {
    /// Takes over the file of this folder, if there is one.
    fn read(&mut self, dir: PathBuf) {
        match file::load(&dir, &self.owner) {
            Ok(Some(list)) => {
                log::info!("Hot pixels: {} are known from {}", list.spots.len(), dir.join(file::NAME).display());
                self.learner.adopt(&list);
                self.read = Some(dir);
            }
            Ok(None) => {}
            Err(e) => log::warn!("{e}"),
        }
    }

    fn tell(&mut self) {
        if self.untold.is_some_and(|since| since.elapsed() >= TELL) {
            self.untold = None;
            let (before, now) = (self.told, self.learner.list().spots.len());
            log::info!("Hot pixels: {now} are known and repaired in pictures (before: {before})");
            self.told = now;
        }
    }
}
