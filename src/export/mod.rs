//! Owns pictures on disk: from a frame in memory to files that are whole, named after their moment and there after a power
//! cut. Never takes or stacks frames and never decides when to save. An [`Exporter`] is shared by all threads that save;
//! each has [`Encoders`] of its own. `save` blocks for as long as the disk does, so it is no work for the frame path.

mod age;
mod colour;
mod encode;
mod film;
mod keep;
pub mod keys;
pub(crate) mod mend;
mod name;
mod picture;
mod retention;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

pub use self::encode::{Encoders, Label, Look, encode};
use self::encode::{Original, Trouble};
pub use self::film::{Film, Listed};
use self::keep::Written;
pub use self::picture::{Picture, Pixels};
use self::retention::Retention;
use crate::clock::{Clock, SystemClock};
use crate::disk::{self, Home, Name, Names, Unfinished};
use crate::error::{Error, Kind, Result};
use crate::events::Disk;
use crate::format::Each;
pub use crate::format::Format;
use crate::hot::Hot;
use crate::logging::Tally;
pub use crate::verbs::Tag;

/// Limits of the files of one kind, or with one tag. `None` = unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeepKind {
    /// All of them together (bytes).
    pub max_bytes: Option<u64>,
    /// Age of a file (s), by its modification time.
    pub max_age_s: Option<u64>,
}

/// What is kept and what is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keep {
    /// Space that stays free on the disk (MiB); 0 = none.
    pub min_free_mib: u64,
    /// The same as a share of the disk (%); the larger of the two counts.
    pub min_free_percent: u8,
    /// Limits per kind.
    pub kinds: Each<KeepKind>,
    /// Limits of the pictures with these tags, of any kind. Those of their kinds do not concern them.
    pub tags: Arc<[(Tag, KeepKind)]>,
}

/// How and where pictures are saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder; made if missing. A relative one counts from the current folder.
    pub dir: PathBuf,
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// Whether `latest.jpg` points at the JPEG written last, or is a copy of it where the disk has no links.
    pub latest: bool,
    /// What is kept.
    pub keep: Keep,
    /// Whether the folder may come to lie on another file system while the program runs.
    pub any_disk: bool,
    /// What pictures tell of the camera.
    pub label: Label,
    /// Text in jpg and png, with date and time as `strftime` writes them.
    pub overlay: Option<String>,
    /// Whether hot pixels are learned and repaired.
    pub hot_pixels: bool,
}

impl Settings {
    /// Quality 95, `latest.jpg`, no limits, no name, no text, hot pixels as they are.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Settings {
            dir: dir.into(),
            quality: 95,
            latest: true,
            keep: Keep::default(),
            any_disk: false,
            label: Label::default(),
            overlay: None,
            hot_pixels: false,
        }
    }

    fn believed(mut self) -> Result<Settings> {
        if !(1..=100).contains(&self.quality) {
            let what = format!("take jpeg quality {}: it must be 1 to 100", self.quality);
            return Err(Error::new(Kind::Config, what));
        }
        let absolute = std::path::absolute(&self.dir);
        self.dir = absolute.map_err(|e| Error::caused(Kind::Config, format!("take the folder {}", self.dir.display()), e))?;
        Ok(self)
    }
}

/// What one call of `save` is about.
struct Request<'a> {
    settings: &'a Settings,
    original: Original<'a>,
    tag: Option<&'a Tag>,
}

/// Saves pictures into one folder.
pub struct Exporter {
    settings: RwLock<Arc<Settings>>,
    retention: Retention,
    names: Names,
    home: Arc<Home>,
    hot: Arc<Hot>,
    tally: Tally,
    /// Size of the last file of each kind (bytes).
    last: [AtomicU64; Format::KEPT.len()],
    /// It was said that `latest.jpg` is a copy here.
    copies: AtomicBool,
}

/// A panic elsewhere leaves nothing half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.close();
    }
}

impl Exporter {
    /// Has the folder taken over by the thread `retention`: made, what a previous run left mended and swept, counted if limits ask for
    /// it. A folder that cannot be had yet (a card that is not mounted) is told in the log and tried again with each save.
    /// Errors: `config` for impossible settings.
    pub fn new(settings: Settings) -> Result<Exporter> {
        let settings = settings.believed()?;
        let names = Names::default();
        let home = Arc::new(Home::default());
        home.take_any(settings.any_disk);
        let retention = Retention::start(settings.dir.clone(), settings.keep.clone(), &names, &home)?;
        let hot = Arc::new(Hot::default());
        hot.enable(settings.hot_pixels);
        Ok(Exporter {
            hot,
            settings: RwLock::new(Arc::new(settings)),
            retention,
            names,
            home,
            tally: Tally::default(),
            copies: AtomicBool::new(false),
            last: Default::default(),
        })
    }

    /// Changes the settings; requests under way end with the old ones. On an error everything stays as it was.
    pub fn reconfigure(&self, settings: Settings) -> Result<()> {
        let settings = settings.believed()?;
        if self.settings().dir != settings.dir {
            disk::make_folder(&settings.dir)?;
            std::fs::read_dir(&settings.dir).map_err(|e| disk::error("read the folder", &settings.dir, e))?;
        }
        self.home.take_any(settings.any_disk);
        self.hot.enable(settings.hot_pixels);
        self.retention.set(settings.dir.clone(), settings.keep.clone());
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        Ok(())
    }

    /// The settings in force, the folder absolute.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known of hot pixels.
    pub fn hot(&self) -> &Arc<Hot> {
        &self.hot
    }

    /// Changes the text alone, and waits for no disk.
    pub fn set_overlay(&self, text: Option<String>) {
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut settings).overlay = text;
    }

    /// Bytes that can still be written to the folder's file system, as of the last save or the last minute. Asks no disk.
    pub fn free(&self) -> Option<u64> {
        self.retention.free()
    }

    /// What is the matter with the folder's disk, if anything is, and a sentence. Asks no disk.
    pub fn trouble(&self) -> Option<(Disk, String)> {
        self.retention.trouble()
    }

    /// What becomes of the bounds by age: `off` there is none, `on`, `resting` while the clock is doubted. Asks no disk.
    pub fn age_rule(&self) -> &'static str {
        self.retention.age_rule()
    }

    /// Waits until the limits hold: what they no longer allow is deleted by another thread, in its own time.
    pub fn tidy(&self) {
        self.retention.rest();
    }

    /// Makes no more room and waits for nothing: what is being saved ends by itself.
    pub fn stop(&self) {
        self.retention.stop();
    }

    /// Ends the thread `retention`; pictures can still be saved.
    pub fn close(&self) {
        self.retention.close();
    }

    /// Saves one picture in each of `formats` and returns the absolute paths, in the order of [`Format::ALL`], once all of
    /// them are on the medium. All carry the same name but for the extension.
    ///
    /// Errors: `usage` without a format, `media` from an encoder, `disk` for everything else. When one format fails,
    /// those before it are kept, those after it are not tried, and the error names what was kept. A folder that was deleted is made again, once.
    pub fn save(
        &self,
        encoders: &mut Encoders,
        picture: &Picture,
        formats: &[Format],
        tag: Option<&Tag>,
    ) -> Result<Vec<PathBuf>> {
        let settings = self.settings();
        let formats: Vec<Format> = Format::ALL.into_iter().filter(|f| formats.contains(f)).collect();
        if formats.is_empty() {
            return Err(Error::new(
                Kind::Usage,
                format!("save a picture: no format was named; use {}", Format::words(&Format::ALL)),
            ));
        }
        let look = Look { quality: settings.quality, overlay: settings.overlay.as_deref(), tag, label: &settings.label };
        // The average of several frames has been repaired where it was made.
        let repaired = if picture.stacked.is_none() { self.repaired(picture) } else { None };
        let original = Original::new(repaired.as_ref().unwrap_or(picture), look, &formats)?;
        let what = Request { settings: &settings, original, tag };
        let saved = match self.attempt(encoders, &what, &formats) {
            Err(e) if disk::is_gone(&e) => {
                log::warn!("export: {e}; making it again");
                disk::make_folder(&settings.dir).and_then(|()| self.attempt(encoders, &what, &formats))
            }
            done => done,
        };
        saved.inspect_err(|_| self.retention.look())
    }

    /// A copy of the picture with its hot pixels repaired, where it has any: the picture may be the ring's own memory.
    fn repaired(&self, picture: &Picture) -> Option<Picture> {
        let pixels = self.hot.repaired(&picture.meta, picture.pixels.as_ref())?;
        Some(Picture { pixels: Pixels::new(pixels), ..picture.clone() })
    }

    fn attempt(&self, encoders: &mut Encoders, what: &Request<'_>, formats: &[Format]) -> Result<Vec<PathBuf>> {
        let dir = &what.settings.dir;
        self.home.check(dir)?;
        let stem = name::stem(&what.original.picture().meta, what.tag);
        let mut claim = self.names.first(dir, stem, Format::KEPT.map(Format::word).into());
        let mut files = Vec::with_capacity(formats.len());
        let mut failed = None;
        for &format in formats {
            match self.write(encoders, what, format, &claim) {
                Ok((file, bytes)) => files.push((format, file, bytes)),
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            }
        }
        let written = match Self::place(&mut claim, &mut files) {
            Ok(written) => written,
            Err(e) => return Err(failed.unwrap_or(e)),
        };
        let paths: Vec<PathBuf> = written.iter().map(|(_, name, _)| dir.join(name)).collect();
        let finished = if written.is_empty() { Ok(()) } else { self.finish(what, &written) };
        match failed.map_or(finished, Err) {
            Ok(()) => Ok(paths),
            Err(e) if paths.is_empty() => Err(e),
            Err(mut e) => {
                let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
                e.what = format!("{} (written all the same: {})", e.what, names.join(", "));
                Err(e)
            }
        }
    }

    /// One unfinished file and its size (bytes).
    fn write(&self, encoders: &mut Encoders, what: &Request<'_>, format: Format, claim: &Name) -> Result<(Unfinished, u64)> {
        let dir = &what.settings.dir;
        let last = &self.last[format as usize];
        self.retention.make_room(dir, what.original.expected(format, last.load(Relaxed)))?;
        let modified = self.retention.stamp(dir, SystemClock.wall())?;
        let name = claim.file(format.word());
        let written = Unfinished::write(dir, &name, modified, |file| what.original.write(encoders, format, file));
        let (file, bytes) = written.map_err(|trouble| match trouble {
            Trouble::Sink(e) => disk::error("write", &dir.join(&name), e),
            Trouble::Media(e) => e,
        })?;
        last.store(bytes, Relaxed);
        // It may be larger than the one before was. What does not fit is removed with this error.
        self.retention.make_room(dir, 0)?;
        Ok((file, bytes))
    }

    /// Gives all files their names, all the same stem: when one is taken meanwhile, all move on to the next.
    fn place(claim: &mut Name, files: &mut [(Format, Unfinished, u64)]) -> Result<Vec<(Format, String, u64)>> {
        'stem: loop {
            let mut done = Vec::with_capacity(files.len());
            for k in 0..files.len() {
                let name = claim.file(files[k].0.word());
                let path = claim.dir().join(&name);
                match files[k].1.place(&path) {
                    Ok(()) => done.push((files[k].0, name, files[k].2)),
                    Err(e) => {
                        for (file, (_, name, _)) in files.iter_mut().zip(&done) {
                            let at = claim.dir().join(name);
                            file.1.unplace(&at).map_err(|e| disk::error("take back", &at, e))?;
                        }
                        if e.kind() == io::ErrorKind::AlreadyExists {
                            claim.next();
                            continue 'stem;
                        }
                        return Err(disk::error("name the picture", &path, e));
                    }
                }
            }
            return Ok(done);
        }
    }

    /// After the files have their names: the link, the folder's own durability, the limits.
    fn finish(&self, what: &Request<'_>, written: &[(Format, String, u64)]) -> Result<()> {
        let dir = &what.settings.dir;
        if let Some((Format::Jpg, name, _)) = written.first().filter(|_| what.settings.latest) {
            match disk::point(dir, name::LATEST, name) {
                Ok(true) => {}
                Ok(false) => {
                    if !self.copies.swap(true, Relaxed) {
                        log::info!("{} has no links: {} is a copy of the newest picture", dir.display(), name::LATEST);
                    }
                }
                // The picture is saved all the same.
                Err(e) => {
                    let what = format!("export: point {} at {name} in {}: {e}", name::LATEST, dir.display());
                    self.tally.log_about(log::Level::Warn, name::LATEST, &what);
                }
            }
        }
        let synced = disk::sync_folder(dir).map_err(|e| disk::error("make the names durable in", dir, e));
        let files = written.iter().map(|(format, name, bytes)| Written { format: *format, name: name.clone(), bytes: *bytes });
        self.retention.wrote(dir, files);
        synced
    }
}

#[cfg(test)]
mod tests;
