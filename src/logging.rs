//! Owns the log: console and rotating files, local time in front of each line, and a tally of what repeats.
//! Never fails the program and never makes a caller wait for a disk or a terminal: lines go through a channel to the thread
//! `log`, and what does not fit is counted. A folder that cannot be written means console only.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter};
use nix::fcntl::OFlag;
use simplelog::{ConfigBuilder, LevelPadding, WriteLogger};

use crate::disk;
use crate::settings::{Refusal, Word, any, one_of, settings};
use crate::threads::{self, Thread};

/// Bytes after which a file is moved aside, and how many such are kept: the reference's 5 MiB × 3.
const ROTATE: u64 = 5 << 20;
const KEPT: u32 = 3;
/// The file's name, as the reference has it.
const NAME: &str = "camera_service.log";
/// Lines that may wait for a slow card.
const WAITING: usize = 256;

settings! {
    /// `logging` in the configuration.
    pub struct Settings {
        /// `CRITICAL`, `ERROR`, `WARNING`, `INFO`, `DEBUG` or `TRACE`.
        level: LevelFilter = LevelFilter::Info, any();
        /// Folder of the log files; empty: console only.
        dir: Option<PathBuf> = Some("logs".into()), any().at_start();
    }
}

/// The words of `logging.level`. `CRITICAL` and `WARN` are the reference's for levels that `log` calls otherwise.
const LEVELS: [&str; 8] = ["CRITICAL", "FATAL", "ERROR", "WARNING", "WARN", "INFO", "DEBUG", "TRACE"];

impl Word for LevelFilter {
    fn read(text: &str) -> Result<Self, Refusal> {
        use LevelFilter::{Debug, Error, Info, Trace, Warn};
        let place = one_of(&LEVELS, &text.to_uppercase())?;
        Ok([Error, Error, Error, Warn, Warn, Info, Debug, Trace][place])
    }
    fn word(&self) -> String {
        self.to_string()
    }
    fn range() -> String {
        LEVELS.join(", ")
    }
}

/// What goes to the thread `log`.
enum Line {
    Text(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

static TO_LOG: OnceLock<SyncSender<Line>> = OnceLock::new();

/// Starts logging to stderr and, where there is a writable folder, to files there. Returns why there are none.
/// A second start in one process only changes the level.
pub fn start(settings: &Settings) -> Option<String> {
    let level = settings.level;
    log::set_max_level(level);
    if TO_LOG.get().is_some() {
        return None;
    }
    let (mut file, why) = match &settings.dir {
        None => (None, None),
        Some(dir) => match Rotating::open(dir.join(NAME)) {
            Ok(file) => (Some(file), None),
            Err(e) => (None, Some(format!("no log files: open {NAME} in {}: {e}", dir.display()))),
        },
    };
    let (to_log, lines) = sync_channel(WAITING);
    let thread = Thread::Log.keep(move || write_lines(&lines, &mut file));
    if let Err(e) = thread {
        return Some(format!("no log at all: {e}"));
    }
    let config = ConfigBuilder::new()
        .set_time_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .set_level_padding(LevelPadding::Off)
        .build();
    // The filter of `log` itself decides, so that SIGHUP can change it; the logger lets everything through.
    let stamped = Stamped { to_log: to_log.clone(), line: Vec::new(), lost: 0 };
    let taken = WriteLogger::init(LevelFilter::Trace, config, stamped);
    log::set_max_level(level);
    if TO_LOG.set(to_log).is_err() || taken.is_err() {
        return Some("no log: another logger was there first".into());
    }
    why
}

/// Whether somebody writes the log.
pub fn is_started() -> bool {
    TO_LOG.get().is_some()
}

/// Waits until what was logged so far is written, half a second at most.
pub fn flush() {
    if let Some(to_log) = TO_LOG.get() {
        let (done, wait) = sync_channel(1);
        if to_log.try_send(Line::Flush(done)).is_ok() {
            // Out of time or written: both end the wait.
            let _ = wait.recv_timeout(Duration::from_millis(500));
        }
    }
}

/// The thread `log`. A log that cannot be written must not take anything else down, so write errors end here.
fn write_lines(lines: &Receiver<Line>, file: &mut Option<Rotating>) {
    for line in lines {
        threads::fault("work");
        match line {
            Line::Text(bytes) => {
                let _ = io::stderr().write_all(&bytes);
                if let Some(file) = file {
                    let _ = file.write_all(&bytes);
                }
            }
            Line::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

/// Collects one record, with `YYYY-mm-dd HH:MM:SS ` in front, and sends it on. The local time zone is asked each time:
/// summer time comes and goes.
struct Stamped {
    to_log: SyncSender<Line>,
    line: Vec<u8>,
    lost: u32,
}

impl Write for Stamped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.line.is_empty() {
            self.line.extend_from_slice(now().as_bytes());
            self.line.push(b' ');
        }
        self.line.extend_from_slice(bytes);
        if bytes.ends_with(b"\n") {
            let mut line = std::mem::take(&mut self.line);
            if self.lost > 0 {
                line.extend_from_slice(
                    format!("({} lines before this one were lost: the log is too slow)\n", self.lost).as_bytes(),
                );
            }
            match self.to_log.try_send(Line::Text(line)) {
                Ok(()) => self.lost = 0,
                Err(_) => self.lost += 1,
            }
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "media")]
fn now() -> String {
    use gstreamer::glib::DateTime;
    DateTime::now_local().and_then(|t| t.format("%Y-%m-%d %H:%M:%S")).map_or_else(|_| String::new(), Into::into)
}

/// Who knows the time zone is `GLib`, which the core alone does without.
#[cfg(not(feature = "media"))]
fn now() -> String {
    String::new()
}

/// A file that moves itself aside: `x.log` → `x.log.1` → … → `x.log.3`.
struct Rotating {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Rotating {
    fn open(path: PathBuf) -> io::Result<Rotating> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        // A pipe without a reader is refused at once; regular files do not know the flag.
        let file = OpenOptions::new().create(true).append(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path)?;
        disk::regular(file.metadata()?.file_type())?;
        let bytes = file.metadata()?.len();
        Ok(Rotating { path, file, bytes })
    }

    /// Moves the files on and begins a new one. Where that fails, the old one is written on.
    fn rotate(&mut self) -> io::Result<()> {
        // Also after a failure: the next try is a whole file later, not with the next line.
        self.bytes = 0;
        let aside = |n: u32| {
            let mut p = self.path.clone().into_os_string();
            p.push(format!(".{n}"));
            PathBuf::from(p)
        };
        // Somebody may have moved or deleted the file. Then the older ones stay where they are.
        if self.path.exists() {
            for n in (1..KEPT).rev() {
                // The older file may not exist yet.
                let _ = fs::rename(aside(n), aside(n + 1));
            }
            match fs::rename(&self.path, aside(1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        *self = Rotating::open(self.path.clone())?;
        Ok(())
    }
}

impl Write for Rotating {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes + bytes.len() as u64 > ROTATE {
            // A file that grows too large is better than a log that ends.
            let _ = self.rotate();
        }
        let n = self.file.write(bytes)?;
        self.bytes += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Repeats of a message are counted and told once in this time.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Different messages one tally remembers; the rest are logged as they come.
const REMEMBERED: usize = 64;

/// Counts messages that come again and again, so that the log carries changes and sums instead of a line per loop.
#[derive(Default)]
pub struct Tally(Mutex<HashMap<String, (Instant, u32)>>);

impl Tally {
    /// Logs `message` the first time, then at most once a minute with the number of repeats.
    pub fn log(&self, level: Level, message: &str) {
        if let Some(line) = self.line(Instant::now(), message, message) {
            log::log!(level, "{line}");
        }
    }

    /// The same for messages that differ but are about one `subject`: one of them a minute is logged. Where more subjects come
    /// than are remembered, the further ones count as one, so that strangers cannot fill the log.
    pub fn log_about(&self, level: Level, subject: &str, message: &str) {
        if let Some(line) = self.line(Instant::now(), subject, message) {
            log::log!(level, "{line}");
        }
    }

    fn line(&self, now: Instant, subject: &str, message: &str) -> Option<String> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED && !seen.contains_key(subject) {
            seen.retain(|_, (told, _)| now.duration_since(*told) < TELL_EVERY);
        }
        let shared = subject != message && seen.len() >= REMEMBERED && !seen.contains_key(subject);
        let subject = if shared { "" } else { subject };
        match seen.get_mut(subject) {
            Some((told, repeats)) if now.duration_since(*told) < TELL_EVERY => {
                *repeats += 1;
                None
            }
            Some((told, repeats)) => {
                let n = std::mem::take(repeats);
                *told = now;
                Some(if n == 0 { message.to_string() } else { format!("{message} ({n} times more before)") })
            }
            None => {
                if seen.len() < REMEMBERED || shared {
                    seen.insert(subject.to_string(), (now, 0));
                }
                Some(message.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_summed() {
        let (t, start) = (Tally::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        let line = |s, message| t.line(at(s), message, message);
        assert_eq!(line(0, "lost").as_deref(), Some("lost"));
        assert_eq!(line(1, "lost"), None);
        assert_eq!(line(2, "other").as_deref(), Some("other"));
        assert_eq!(line(2, "lost"), None);
        assert_eq!(line(61, "lost").as_deref(), Some("lost (2 times more before)"));
    }

    #[test]
    fn of_many_subjects_few_are_told() {
        let (t, start) = (Tally::default(), Instant::now());
        let told = (0..1000).filter(|i| t.line(start, &format!("subject {i}"), "refused").is_some()).count();
        assert_eq!(told, REMEMBERED + 1);
        let later = start + TELL_EVERY;
        assert_eq!(t.line(later, "subject 1", "another").as_deref(), Some("another"));
        assert_eq!(t.0.lock().unwrap().len(), REMEMBERED + 1);
    }

    #[test]
    fn files_rotate_and_three_are_kept() {
        let dir = std::env::temp_dir().join(format!("pastcam-log-{}", std::process::id()));
        let mut log = Rotating::open(dir.join(NAME)).unwrap();
        let mib = vec![b'x'; 1 << 20];
        for _ in 0..30 {
            log.write_all(&mib).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, [NAME.to_string(), format!("{NAME}.1"), format!("{NAME}.2"), format!("{NAME}.3")]);
        assert!(fs::read_dir(&dir).unwrap().all(|e| e.unwrap().metadata().unwrap().len() <= ROTATE));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_log_that_somebody_deleted_begins_anew_and_moves_nothing() {
        let dir = std::env::temp_dir().join(format!("pastcam-log-deleted-{}", std::process::id()));
        let mut log = Rotating::open(dir.join(NAME)).unwrap();
        let older = dir.join(format!("{NAME}.1"));
        fs::write(&older, "older").unwrap();
        fs::remove_file(dir.join(NAME)).unwrap();
        let mib = vec![b'x'; 1 << 20];
        for _ in 0..7 {
            log.write_all(&mib).unwrap();
        }
        assert_eq!(fs::metadata(dir.join(NAME)).unwrap().len(), 2 << 20);
        assert_eq!(fs::read_to_string(older).unwrap(), "older");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_log_that_cannot_be_moved_is_written_on_and_its_elders_move_once() {
        let dir = std::env::temp_dir().join(format!("pastcam-log-stuck-{}", std::process::id()));
        let mut log = Rotating::open(dir.join(NAME)).unwrap();
        let (first, second) = (dir.join(format!("{NAME}.1")), dir.join(format!("{NAME}.2")));
        // Folders with something in them: nothing can be moved onto them.
        fs::create_dir_all(first.join("x")).unwrap();
        fs::create_dir_all(second.join("x")).unwrap();
        fs::create_dir_all(dir.join(format!("{NAME}.3")).join("x")).unwrap();
        let mib = vec![b'x'; 1 << 20];
        for _ in 0..6 {
            log.write_all(&mib).unwrap();
        }
        // From now on a try would succeed.
        fs::remove_dir_all(&first).unwrap();
        log.write_all(&mib).unwrap();
        assert_eq!(fs::metadata(dir.join(NAME)).unwrap().len(), 7 << 20);
        assert!(!first.exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
