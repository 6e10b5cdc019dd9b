//! Owns an update file on its way from a client to the folder where the image's root helper waits for it, and the helper's verdict
//! on its way back. Never looks into the file: signature, board and slot are the helper's matter. Each runs on a thread `update`
//! of its own, one at a time, which steps behind the camera and gives up when the program ends.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::server::{Body, Got};
use crate::settings::{any, settings};
use crate::threads::{self, Thread};

/// Largest file taken (bytes): several times a root partition.
pub const LARGEST: u64 = 512 << 20;
/// What stays free on the card beside the file (bytes).
const BESIDE: u64 = 16 << 20;
/// A sender that is silent for so long has gone.
const SILENCE: Duration = Duration::from_secs(30);
/// One that is slower than this for the whole file holds the only place for nothing: 100 MB in so long are 14 kB a second.
const WHOLE: Duration = Duration::from_secs(2 * 60 * 60);
/// How long the helper may take: a Pi 1 writes its 100 MB in about two minutes, a worn card takes several times that.
const PATIENCE: Duration = Duration::from_secs(20 * 60);
/// Between looks for the verdict, and for the end of the program.
const LOOK: Duration = Duration::from_millis(250);
/// Bytes taken at once, and written before they are made to reach the card, so that they never pile up in memory.
const PIECE: usize = 64 << 10;
const FLUSH: u64 = 4 << 20;
/// Behind the camera and the pictures (nice).
const BEHIND: i32 = 10;

/// The names in the folder. The helper takes `INCOMING` away and writes `VERDICT`.
const INCOMING: &str = "incoming.raucb";
const PART: &str = "incoming.raucb.part";
const VERDICT: &str = "verdict";

settings! {
    /// `update` in the configuration.
    pub struct Settings {
        /// Folder in which the image's helper waits for a file from `update`; empty: this is no image, and there are no updates.
        dir: Option<PathBuf> = None, any().at_start();
    }
}

/// The way of updates.
#[derive(Debug)]
pub struct Updates {
    dir: Option<PathBuf>,
    /// One is on its way.
    busy: Mutex<bool>,
    closed: AtomicBool,
    silence: Duration,
    whole: Duration,
    patience: Duration,
}

fn on_disk(what: &str, path: &Path, e: std::io::Error) -> Error {
    Error::caused(Kind::Disk, format!("{what} {}", path.display()), e)
}

fn failed(what: impl Into<String>) -> Error {
    Error::new(Kind::Update, what)
}

impl Updates {
    /// What a start before left unfinished is removed.
    pub fn new(settings: &Settings) -> Arc<Updates> {
        let dir = settings.dir.clone();
        if let Some(dir) = &dir {
            let _ = fs::remove_file(dir.join(PART));
        }
        Arc::new(Updates {
            dir,
            busy: Mutex::new(false),
            closed: AtomicBool::new(false),
            silence: SILENCE,
            whole: WHOLE,
            patience: PATIENCE,
        })
    }

    /// Ends what is under way, soon.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Takes `size` bytes in and waits for the helper; `done` is told from a thread of its own, or at once when nothing
    /// begins. Touches no disk itself.
    pub fn begin(self: &Arc<Self>, size: u64, body: Body, done: impl FnOnce(Result<String>) + Send + 'static) {
        let dir = match self.admit(size) {
            Ok(dir) => dir,
            Err(e) => return done(Err(e)),
        };
        let own = Arc::clone(self);
        // What the thread does not take over is answered here.
        let done = Arc::new(Mutex::new(Some(done)));
        let told = Arc::clone(&done);
        let tell = move |result| {
            if let Some(done) = told.lock().unwrap_or_else(PoisonError::into_inner).take() {
                done(result);
            }
        };
        let started = Thread::Update.spawn({
            let tell = tell.clone();
            move || {
                // A card or a kernel that refuses costs nothing but the politeness.
                let _ = rustix::process::setpriority_process(None, BEHIND);
                let take = || {
                    Self::room(&dir, size)?;
                    own.receive(&dir, size, &body)?;
                    own.verdict(&dir)
                };
                let result = threads::guarded("update", take).and_then(|taken| taken);
                let _ = fs::remove_file(dir.join(PART));
                *own.busy.lock().unwrap_or_else(PoisonError::into_inner) = false;
                tell(result);
            }
        });
        if let Err(e) = started {
            *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = false;
            tell(Err(e));
        }
    }

    /// Whether it may begin; then it has.
    fn admit(&self, size: u64) -> Result<PathBuf> {
        let Some(dir) = &self.dir else {
            return Err(failed("this is no image that could be updated (update.dir is empty)"));
        };
        if !(1..=LARGEST).contains(&size) {
            return Err(Error::new(Kind::Usage, format!("update takes a file of 1 to {LARGEST} bytes, not {size}")));
        }
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if *busy {
            return Err(Error::new(Kind::Busy, "another update is on its way"));
        }
        *busy = true;
        Ok(dir.clone())
    }

    /// Whether the disk takes it.
    fn room(dir: &Path, size: u64) -> Result<()> {
        if dir.join(INCOMING).exists() {
            return Err(Error::new(Kind::Busy, "another update is on its way"));
        }
        let free = disk::free_bytes(dir).map_err(|e| on_disk("measure the free space of", dir, e))?;
        if size + BESIDE > free {
            return Err(Error::new(
                Kind::Disk,
                format!(
                    "an update of {} MiB wants {} MiB free, and {} are; delete pictures",
                    size >> 20,
                    (size + BESIDE) >> 20,
                    free >> 20
                ),
            ));
        }
        Ok(())
    }

    fn going_on(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) { Err(Error::new(Kind::Busy, "the program is stopping")) } else { Ok(()) }
    }

    /// From the client to the folder, under its final name only when it is all there and on the card.
    fn receive(&self, dir: &Path, size: u64, body: &Body) -> Result<()> {
        let part = dir.join(PART);
        let mut file = File::create(&part).map_err(|e| on_disk("create", &part, e))?;
        let mut piece = vec![0; PIECE];
        threads::fault("work");
        let (mut taken, mut unsaved) = (0u64, 0u64);
        let begun = Instant::now();
        let mut heard = begun;
        while taken < size {
            self.going_on()?;
            if begun.elapsed() > self.whole {
                let waited = self.whole.as_secs();
                return Err(Error::new(Kind::Timeout, format!("the sender gave only {taken} of {size} bytes in {waited} s")));
            }
            let most = PIECE.min(usize::try_from(size - taken).unwrap_or(PIECE));
            match body.read(&mut piece[..most], LOOK).map_err(|e| Error::caused(Kind::Io, "read the update", e))? {
                Got::Bytes(n) => {
                    file.write_all(&piece[..n]).map_err(|e| on_disk("write", &part, e))?;
                    taken += n as u64;
                    unsaved += n as u64;
                    heard = Instant::now();
                }
                Got::Nothing if heard.elapsed() > self.silence => {
                    let waited = self.silence.as_secs();
                    return Err(Error::new(
                        Kind::Timeout,
                        format!("the sender was silent for {waited} s after {taken} of {size} bytes"),
                    ));
                }
                Got::Nothing => {}
                Got::End => return Err(failed(format!("the sender ended after {taken} of {size} bytes"))),
            }
            if unsaved >= FLUSH || taken == size {
                file.sync_data().map_err(|e| on_disk("write", &part, e))?;
                unsaved = 0;
            }
        }
        drop(file);
        let gone = fs::remove_file(dir.join(VERDICT));
        if let Err(e) = gone.or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) }) {
            return Err(on_disk("remove the last verdict in", dir, e));
        }
        let place = dir.join(INCOMING);
        fs::rename(&part, &place).map_err(|e| on_disk("name", &place, e))?;
        disk::sync_folder(dir).map_err(|e| on_disk("write the folder", dir, e))?;
        log::info!("An update of {size} bytes has come in");
        Ok(())
    }

    /// What the helper says: one line, `OK …` or `ERR …`.
    fn verdict(&self, dir: &Path) -> Result<String> {
        let until = Instant::now() + self.patience;
        loop {
            self.going_on()?;
            if let Ok(said) = disk::read_text(&dir.join(VERDICT), disk::SMALL) {
                let line = said.lines().next().unwrap_or("").trim();
                return match line.split_once(' ') {
                    Some(("OK", text)) => Ok(text.to_string()),
                    Some((_, text)) => Err(failed(text)),
                    None => Err(failed("the helper gave no reason, see the log")),
                };
            }
            if Instant::now() > until {
                let _ = fs::remove_file(dir.join(INCOMING));
                return Err(Error::new(
                    Kind::Timeout,
                    format!(
                        "nobody took the update in {} within {} min; is this an image of this project?",
                        dir.display(),
                        self.patience.as_secs() / 60
                    ),
                ));
            }
            std::thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::channel;

    /// A folder, and a way of updates into it that loses patience soon.
    fn way(word: &str) -> (PathBuf, Arc<Updates>) {
        let dir = std::env::temp_dir().join(format!("pastcam-update-{}-{word}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let soon = Duration::from_millis(300);
        let dir_of = Some(dir.clone());
        let updates = Updates {
            dir: dir_of,
            busy: Mutex::new(false),
            closed: AtomicBool::new(false),
            silence: soon,
            whole: 10 * soon,
            patience: soon,
        };
        (dir, Arc::new(updates))
    }

    fn body(head: &[u8]) -> (TcpStream, Body) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        server.set_nonblocking(true).unwrap();
        (client, Body::new(head.to_vec(), false, server))
    }

    fn told(updates: &Arc<Updates>, size: u64, body: Body) -> Result<String> {
        let (to, from) = channel();
        updates.begin(size, body, move |result| to.send(result).unwrap());
        from.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    #[test]
    fn a_silent_sender_is_given_up_and_the_way_is_free() {
        let (dir, updates) = way("silent");
        for _ in 0..2 {
            let (_client, body) = body(b"abc");
            let e = told(&updates, 9, body).unwrap_err();
            assert!(e.kind == Kind::Timeout && e.what.ends_with("after 3 of 9 bytes"), "{e}");
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_sender_that_only_trickles_is_given_up_too() {
        let (dir, updates) = way("trickle");
        let (mut client, body) = body(b"a");
        let (to, from) = channel();
        updates.begin(1 << 20, body, move |result| to.send(result).unwrap());
        // Never silent for long, and never done.
        let e = loop {
            let _ = client.write_all(b"a");
            if let Ok(result) = from.recv_timeout(Duration::from_millis(50)) {
                break result.unwrap_err();
            }
        };
        assert!(e.kind == Kind::Timeout && e.what.contains("of 1048576 bytes in 3 s"), "{e}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_helper_that_is_not_there_is_told_and_the_file_goes() {
        let (dir, updates) = way("nobody");
        // Of an update before.
        fs::write(dir.join(VERDICT), "OK installed 1\n").unwrap();
        let (_client, body) = body(b"abc");
        let e = told(&updates, 3, body).unwrap_err();
        assert!(e.kind == Kind::Timeout && e.what.starts_with("nobody took the update"), "{e}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_that_would_not_fit_is_refused() {
        let (_client, body) = body(b"");
        // A file system without any room.
        let full = Updates::new(&Settings { dir: Some("/proc".into()) });
        let e = told(&full, 3, body).unwrap_err();
        assert!(e.kind == Kind::Disk && e.what.contains("16 MiB free, and 0 are"), "{e}");
    }
}
