//! Owns the program under test: its folder, its configuration, its ports, its process. Knows nothing of answers.

use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::client;

/// How long anything may take before the test has failed; far beyond what a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of one test, removed at the end, with what was mounted in it.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(word: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pastcam-program-{}-{n}-{word}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }
}

impl Deref for Scratch {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let own = self.0.to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        for at in mounts.lines().filter_map(|l| l.split(' ').nth(1)).filter(|m| m.starts_with(&own)) {
            let _ = Command::new("umount").args(["-l", at]).status();
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether the machine had time for everybody in the last minute, so that a limit on time says something of the program.
pub fn is_quiet() -> bool {
    let load = std::fs::read_to_string("/proc/loadavg").ok().and_then(|l| l.split(' ').next()?.parse::<f64>().ok());
    load.is_some_and(|l| l < std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64))
}

/// A port nobody listens on, below the range from which the kernel takes the ports of clients.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(37);
    for _ in 0..2000 {
        let n = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + (n % 18_000) as u16;
        let free = |ip: &str| std::net::TcpListener::bind((ip, port)).is_ok();
        if free("127.0.0.1") && std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("2000 ports in a row are taken");
}

/// Polls until `f` gives something; panics with `what` after `patience`.
pub fn until_within<T>(what: &str, patience: Duration, mut f: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = f() {
            return found;
        }
        assert!(Instant::now() < end, "waited {patience:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// [`until_within`] a minute.
pub fn until<T>(what: &str, f: impl FnMut() -> Option<T>) -> T {
    until_within(what, PATIENCE, f)
}

/// A program to be started, any number of times, in one folder.
#[derive(Clone)]
pub struct Setup {
    pub dir: Arc<Scratch>,
    pub config: Value,
    pub port: u16,
    env: Vec<(String, String)>,
    frames: bool,
}

impl Setup {
    /// 320×240 pictures of the pattern ten times a second, on loopback, no periodic pictures.
    pub fn new(word: &str) -> Self {
        let port = free_port();
        let config = json!({
            "camera": {"width": 320, "height": 240, "framerate": 10.0, "source": "pattern"},
            "ring": {"size": 100, "lock": false},
            "export": {"base_dir": "captures", "auto_save_interval_s": 0.0, "min_free_mib": 0},
            "network": {"trigger_port": port, "bind": ["127.0.0.1"]},
            "logging": {"level": "INFO", "dir": ""},
        });
        Setup { dir: Arc::new(Scratch::new(word)), config, port, env: Vec::new(), frames: true }
    }

    /// Sets one key, by its dotted name.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let mut at = &mut self.config;
        for part in key.split('.') {
            at = &mut at[part];
        }
        *at = value.into();
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// It will deliver no frames, so `start` does not wait for one.
    pub fn frameless(mut self) -> Self {
        self.frames = false;
        self
    }

    /// The pattern obeying [`Setup::control`].
    pub fn controlled(self, words: &str) -> Self {
        self.control(words);
        let source = format!("pattern:control={}", self.control_file().display());
        self.set("camera.source", source)
    }

    fn control_file(&self) -> PathBuf {
        self.dir.join("control")
    }

    /// Writes the pattern's control file; renamed into place, so that it is never read half written.
    pub fn control(&self, words: &str) {
        let draft = self.dir.join("control.new");
        fs::write(&draft, words).unwrap();
        fs::rename(draft, self.control_file()).unwrap();
    }

    pub fn config_file(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    pub fn captures(&self) -> PathBuf {
        self.dir.join("captures")
    }

    /// The command line, ready to run; its configuration is written.
    pub fn command(&self) -> Command {
        fs::write(self.config_file(), serde_json::to_vec_pretty(&self.config).unwrap()).unwrap();
        self.command_as_it_is()
    }

    /// The same with the configuration file left as it stands.
    pub fn command_as_it_is(&self) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_pastcam"));
        c.arg("--config").arg("config.json").current_dir(&**self.dir).stdin(Stdio::null());
        // Whatever supervises this test is no business of the program in it.
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            c.env_remove(name);
        }
        c.envs(self.env.iter().map(|(k, v)| (k, v)));
        c
    }

    /// Starts it and waits for nothing.
    pub fn spawn(&self) -> Running {
        let log = self.dir.join("log");
        let out = File::options().create(true).append(true).open(&log).unwrap();
        let child = self.command().stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        Running { child, setup: self.clone(), log }
    }

    /// Starts it and waits until it answers and, where it has a camera, until the ring holds a frame.
    pub fn start(&self) -> Running {
        let mut r = self.spawn();
        until("an answer on the trigger port", || {
            r.expect_alive();
            client::try_ask(self.port, "ping")
        });
        if self.frames {
            until("a first frame", || {
                r.expect_alive();
                (r.ask("night_level") != "NO_DATA").then_some(())
            });
        }
        r
    }

    /// Runs it to its end, which must come by itself: exit code and everything it said.
    pub fn end(&self) -> (i32, String) {
        let mut r = self.spawn();
        let status = r.ended(PATIENCE);
        (status.code().unwrap_or(-1), r.log())
    }
}

/// A running program; killed when dropped. In a test that fails its log is shown.
pub struct Running {
    child: Child,
    pub setup: Setup,
    log: PathBuf,
}

impl Running {
    pub fn ask(&self, line: &str) -> String {
        client::ask(self.setup.port, line)
    }

    /// `status json`, parsed.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.ask("status json")).unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn captures(&self) -> PathBuf {
        self.setup.captures()
    }

    /// Names in the folder of pictures, sorted.
    pub fn names(&self) -> Vec<String> {
        names(&self.captures())
    }

    pub fn expect_alive(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the program has ended: {status}");
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// How it ended, if it has.
    pub fn ended_already(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub fn ended(&mut self, patience: Duration) -> ExitStatus {
        until_within("the end of the program", patience, || self.child.try_wait().unwrap())
    }

    /// Asks it to stop and waits; how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended(PATIENCE)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn until_logged(&self, text: &str) {
        until(&format!("the log to say {text:?}"), || self.log().contains(text).then_some(()));
    }

    /// Waits until the newest frame in the ring has at least this id.
    pub fn until_frame(&self, id: u64) {
        until(&format!("frame {id}"), || (self.newest_id()? >= id).then_some(()));
    }

    pub fn newest_id(&self) -> Option<u64> {
        self.status()["frame"]["id"].as_u64()
    }

    /// Waits for this many frames more.
    pub fn until_more_frames(&self, n: u64) {
        let now = self.newest_id().map_or(0, |id| id + 1);
        self.until_frame(now + n - 1);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(12_000);
            let from = (from..=log.len()).find(|i| log.is_char_boundary(*i)).unwrap_or(0);
            eprintln!("--- log of the program ---\n{}\n--- end of the log ---", &log[from..]);
        }
    }
}

/// Whether a name ends with this extension.
pub fn is(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == extension)
}

/// Names in a folder, sorted; none where there is no folder.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).into_iter().flatten().filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}
