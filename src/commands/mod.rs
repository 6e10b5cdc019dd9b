//! Owns what each word of the protocol does and the words of its answer. Never sees a socket, a disk, never waits: what takes time
//! goes to the jobs or is an errand, and the answer comes from another thread. Called on the thread `server`.

mod controls;
mod picture;
mod record;
mod status;
mod update;
mod video;
mod words;

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::capture;
use crate::clock::{BootUs, Clock};
use crate::config::Config;
use crate::errands::Errands;
use crate::error::{Error, Kind};
use crate::events::{Event, Events};
use crate::export::Exporter;
use crate::health::{self, Gauges};
use crate::jobs::Jobs;
use crate::notes::Notes;
use crate::ring::Frames;
use crate::server::{Answer, Body};
use crate::tuning::Board;
use crate::update::Updates;
use crate::video::Video;
use crate::video::record::Recorder;
use crate::video::rtsp::Rtsp;

pub use words::Words;

/// Takes the answer of one command, once.
pub type Respond = Box<dyn FnOnce(Answer) + Send>;

/// One line from a client.
pub struct Line<'a> {
    /// Its text, trimmed, printable ASCII.
    pub text: &'a str,
    /// When its first byte arrived.
    pub trigger: BootUs,
    /// Whether the connection stays open, so that it can carry events.
    pub stays_open: bool,
    /// The bytes behind the line, for `update`.
    pub body: Option<Body>,
}

/// What commands work with.
pub struct Commands {
    /// The configuration in force.
    pub config: RwLock<Arc<Config>>,
    /// Past and present.
    pub frames: Arc<Frames>,
    /// Pictures on their way.
    pub jobs: Arc<Jobs>,
    /// The folder.
    pub exporter: Arc<Exporter>,
    /// The image controls as they stand.
    pub board: Arc<Board>,
    /// The way to the capture.
    pub orders: Sender<capture::Order>,
    /// Counters.
    pub gauges: Arc<Gauges>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// When the program started.
    pub started: BootUs,
    /// The encoded stream.
    pub video: Arc<Video>,
    /// Recordings and clips.
    pub recorder: Recorder,
    /// The server of the stream, where it is enabled.
    pub rtsp: Option<Rtsp>,
    /// What else is wanted of the disk.
    pub errands: Errands,
    /// What the machine has to say.
    pub notes: Notes,
    /// Updates of the image.
    pub updates: Arc<Updates>,
    /// Told of every file that a command or the clock saved.
    pub events: Events,
    /// How many clients are connected.
    pub clients: Box<dyn Fn() -> usize + Send + Sync>,
    /// When `save` and `pastStack` last ran, for the debounce.
    pub last_run: Mutex<[Option<BootUs>; 2]>,
}

/// The whole answer to a word nobody knows, as the reference gives it.
const UNKNOWN: &str = "UNKNOWN_COMMAND";
/// One line that fits into one answer.
const HELP: &str = "OK save|pastStack [jpg png npy] [before=S] [count=N] [tag=W] | record start|stop|status | clip S | files | delete NAME | night_level | health | status [json] | controls | get | set NAME=VALUE | reset | preset | ping | version | help; id=W";

/// `ERR <word> text`, for what the reference has no answer to.
fn failed(e: &Error) -> Answer {
    Answer::failed(format!("ERR {} {e}", e.kind.word()))
}

impl Commands {
    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives up an update that is coming in, finishes what is being recorded, then ends viewers and encoder.
    pub fn close_stream(&self) {
        self.updates.close();
        self.errands.close();
        self.recorder.close();
        if let Some(rtsp) = &self.rtsp {
            rtsp.close();
        }
        self.video.close();
    }

    /// Carries out one line; `respond` is called now or, for pictures, later from another thread.
    pub fn run(self: &Arc<Self>, line: &Line<'_>, respond: Respond) {
        let config = self.config();
        let respond = words::echo(line.text, respond);
        let words = match Words::parse(line.text) {
            Ok(words) => words,
            Err(e) => return respond(failed(&e)),
        };
        if !config.network.token.is_empty() && !same(words.token.as_deref().unwrap_or(""), &config.network.token) {
            return respond(failed(&Error::new(Kind::Denied, "this port wants token=WORD in every command")));
        }
        let rest: Vec<&str> = words.plain.iter().map(String::as_str).collect();
        match (words.verb(), rest.as_slice()) {
            ("save", _) => self.save(line, &config, &words, respond),
            ("pastStack", _) => self.past_stack(line, &config, &words, respond),
            ("night_level", []) if words.is_bare() => respond(self.night_level(&config)),
            ("health", []) if words.is_bare() => respond(health_line()),
            ("status", []) if words.is_bare() => respond(Answer::ok(self.status_line())),
            ("status", ["json"]) if words.is_bare() => respond(Answer::long(self.status_json(&config))),
            ("controls", []) if words.is_bare() => respond(self.controls()),
            ("get", names) if words.is_bare() => respond(self.get(names)),
            ("set", []) if is_of_the_stream(&words) => respond(self.set_video(&words)),
            ("set", _) => self.set(&words, respond),
            ("reset", names) if words.is_bare() => self.reset(names, respond),
            ("preset", names) if words.is_bare() => self.preset(names, &config, respond),
            ("ping", []) if words.is_bare() => respond(Answer::ok("PONG")),
            ("version", []) if words.is_bare() => respond(Answer::ok(concat!("OK pastcam ", env!("PASTCAM_VERSION")))),
            ("help", []) if words.is_bare() => respond(Answer::ok(HELP)),
            ("subscribe", []) if words.is_bare() && line.stays_open => respond(Answer::ok(self.state_event())),
            ("subscribe", []) => {
                respond(failed(&Error::new(Kind::Usage, "subscribe needs the port that stays open: network.persistent_port")));
            }
            ("record", _) => self.record(line, &words, respond),
            ("clip", _) => self.clip(line, &words, respond),
            ("files", _) => self.files(&words, respond),
            ("delete", _) => self.delete(&words, respond),
            ("update", _) => self.update(&config, &words, line.body.clone(), respond),
            _ => respond(Answer::failed(UNKNOWN)),
        }
    }

    /// `LEVEL=… THRESH=… STATUS=…`, as the reference.
    fn night_level(&self, config: &Config) -> Answer {
        let Some((level, exit)) = self.gauges.level() else {
            return Answer::failed("NO_DATA");
        };
        let night = self.gauges.night();
        let (dark, bright) = (&config.night.dark_threshold, &config.night.bright_threshold);
        let threshold = match night {
            false => dark.to_string(),
            true if (bright.real() - exit).abs() < 1e-9 => bright.to_string(),
            true => format!("{exit:.1}"),
        };
        Answer::ok(format!("LEVEL={level:.1} THRESH={threshold} STATUS={}", if night { "NIGHT" } else { "DAY" }))
    }

    /// A line as it may stand in a log: without its token.
    pub fn loggable(&self, line: &str) -> String {
        let shown = |w: &str| if w.to_ascii_lowercase().starts_with("token=") { "token=…".to_string() } else { w.to_string() };
        line.split_whitespace().map(shown).collect::<Vec<_>>().join(" ")
    }

    /// The state as a line for subscribers.
    pub fn state_event(&self) -> String {
        let level = self.gauges.level().map_or(0.0, |(l, _)| l);
        Event::Mode { night: self.gauges.night(), level }.line()
    }

    /// Whether the same command ran less than `network.debounce_ms` ago; remembers this run if not.
    fn bounces(&self, which: usize, trigger: BootUs, config: &Config) -> bool {
        let time = std::time::Duration::from_millis(config.network.debounce_ms);
        let mut last = self.last_run.lock().unwrap_or_else(PoisonError::into_inner);
        let bounces = !time.is_zero() && last[which].is_some_and(|t| trigger.since(t) < time);
        if !bounces {
            last[which] = Some(trigger);
        }
        bounces
    }
}

/// Whether all that is to be set are keys of `video`; the others are the camera's controls.
fn is_of_the_stream(words: &Words) -> bool {
    !words.settings.is_empty() && words.settings.iter().all(|(key, _)| key.starts_with("video."))
}

/// `RSS=…MiB SWAP=…%`, as the reference.
fn health_line() -> Answer {
    let rss = health::rss_bytes().unwrap_or(0) as f64 / 1_048_576.0;
    Answer::ok(format!("RSS={rss:.1}MiB SWAP={:.1}%", health::swap_percent()))
}

/// Compares without telling by the time it takes how many letters were right.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |d, (a, b)| d | (a ^ b)) == 0
}
