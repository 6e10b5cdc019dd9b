//! Owns when frames are looked at, and when the list is written. Holds one frame of the ring for the length of a look, and rests at
//! least ten times as long. The thread `hot-pixels`, behind all others.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::file::{self, Owner};
use super::{Hot, Learner, State, is_dark};
use crate::frame::Layout;
use crate::ring::Frames;
use crate::shutdown::Shutdown;
use crate::threads;

/// Between looks while there is something to learn: of differing length, so that nothing that comes round at regular times is found at
/// the same place again and again.
const LOOKS: [Duration; 4] =
    [Duration::from_millis(1700), Duration::from_millis(2300), Duration::from_millis(1900), Duration::from_millis(2900)];
/// Before the first look: pictures shall be repaired soon after a restart.
const SOON: Duration = Duration::from_millis(250);
/// Between looks by day, and when nothing new has been learned for [`CALM`] looks.
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
    /// Its name, without secrets.
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
        let (mut pause, mut k) = (SOON, 0);
        let mut written: Option<Instant> = None;
        while !shutdown.sleep(pause) {
            threads::fault("work");
            let begun = Instant::now();
            k = (k + 1) % LOOKS.len();
            let dark = self.look(&mut course);
            let calm = course.as_ref().is_none_or(|c| c.calm > CALM);
            pause = match &course {
                None => SOON,
                Some(_) if dark && !calm => LOOKS[k],
                Some(_) => SELDOM.min(LOOKS[k] * 4),
            };
            pause = pause.max(begun.elapsed() * SHARE);
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
        let (Some(origin), Some(slot)) = ((self.origin)(), self.frames.past.newest()) else {
            self.hot.set_state(State::Waiting);
            return false;
        };
        if origin.moved {
            self.hot.set_state(State::Suspended);
            return false;
        }
        let meta = *slot.meta();
        self.begin(course, &origin, meta.layout);
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
        if changed {
            let now = Instant::now();
            c.behind.get_or_insert(now);
            c.untold.get_or_insert(now);
        }
        // What is known of each gets better with every look.
        if changed || c.calm % 16 == 0 {
            self.hot.set(c.learner.list());
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
        let mut learner = Learner::new(layout);
        let dir = self.dir();
        match file::load(&dir, &owner) {
            Ok(Some(list)) => {
                log::info!("Hot pixels: {} are known from {}", list.spots.len(), dir.join(file::NAME).display());
                learner.adopt(&list);
            }
            Ok(None) => {}
            Err(e) => log::warn!("{e}"),
        }
        let list = learner.list();
        let told = list.spots.len();
        self.hot.set(list);
        *course = Some(Course { owner, learner, behind: None, seen: None, night: false, untold: None, told, calm: 0 });
    }

    fn dir(&self) -> PathBuf {
        self.dir.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes what the file lacks.
    fn write(&self, c: &mut Course) {
        if c.behind.take().is_some() {
            if let Err(e) = file::save(&self.dir(), &c.owner, &c.learner.list()) {
                log::warn!("{e}");
            }
        }
    }
}

impl Course {
    fn tell(&mut self) {
        if self.untold.is_some_and(|since| since.elapsed() >= TELL) {
            self.untold = None;
            let (before, now) = (self.told, self.learner.list().spots.len());
            log::info!("Hot pixels: {now} are known and repaired in pictures (before: {before})");
            self.told = now;
        }
    }
}
