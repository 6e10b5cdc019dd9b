//! Owns what each word of the protocol does and the words of its answer. Never sees a socket or a disk and never
//! waits: what takes time goes to the jobs or is an errand, and the answer comes from another thread. Called on the thread `server`.

mod answer;
mod controls;
mod picture;
mod record;
mod status;
mod update;
mod video;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::auto;
use crate::capture;
use crate::clock::{BootUs, Clock};
use crate::config::Config;
use crate::errands::Errands;
use crate::error::{Error, Kind, Result};
use crate::events::{Event, Events};
use crate::export::Exporter;
use crate::health::{self, Gauges};
use crate::jobs::Jobs;
use crate::logging::Tally;
use crate::notes::Notes;
use crate::ring::Frames;
use crate::server::{Answer, Body};
use crate::tuning::Board;
use crate::update::Updates;
use crate::verbs::{self, Call, Refused, Rights, Verb};
use crate::video::Video;
use crate::video::record::Recorder;
use crate::video::rtsp::Rtsp;

/// Takes the answer of one command, once.
pub type Respond = Box<dyn FnOnce(Answer) + Send>;

/// One line from a client.
pub struct Line<'a> {
    /// Its text, trimmed, printable ASCII.
    pub text: &'a str,
    /// Who sent it, for the log.
    pub peer: SocketAddr,
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
    /// What the keeper tells of the entries of `auto`.
    pub auto: auto::Board,
    /// Told of every file that a command or the clock saved.
    pub events: Events,
    /// How many clients are connected.
    pub clients: Box<dyn Fn() -> usize + Send + Sync>,
    /// When each verb last ran that must not bounce.
    pub last_run: Mutex<BTreeMap<Verb, BootUs>>,
    /// Refused lines, for the log.
    pub refused: Tally,
}

/// `ERR <word> text`, for what the reference has no answer to.
fn failed(e: &Error) -> Answer {
    let line = format!("ERR {} {e}", e.kind.word());
    if matches!(e.kind, Kind::Usage | Kind::Denied) { Answer::refused(line, e.to_string()) } else { Answer::failed(line) }
}

impl Commands {
    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives up an update that is coming in, finishes what is being recorded, then ends viewers and encoder. A list of files that
    /// somebody still waits for holds none of that up.
    pub fn close_stream(&self) {
        self.updates.close();
        self.errands.stop();
        self.recorder.close();
        if let Some(rtsp) = &self.rtsp {
            rtsp.close();
        }
        self.video.close();
    }

    /// Carries out one line; `respond` is called now or, for pictures, later from another thread.
    pub fn run(self: &Arc<Self>, line: &Line<'_>, respond: Respond) {
        let config = self.config();
        let respond = self.answering(line, respond);
        let call = match rights(line.text, &config).map_err(Refused::from).and_then(|r| Call::parse(line.text, r)) {
            Ok(call) => call,
            Err(Refused { why, old: Some(word) }) => return respond(Answer::refused(word, why.to_string())),
            Err(Refused { why, old: None }) => return respond(failed(&why)),
        };
        match call.verb {
            Verb::Save => self.save(line, &config, &call, respond),
            Verb::PastStack => self.past_stack(line, &config, &call, respond),
            Verb::NightLevel => respond(self.night_level(&config)),
            Verb::Health => respond(health_line()),
            Verb::Status => respond(Answer::ok(self.status_line())),
            Verb::StatusJson => respond(Answer::long(self.status_json(&config))),
            Verb::Controls => respond(self.controls()),
            Verb::Get => respond(self.get(&call)),
            Verb::Set => self.set(&call, respond),
            Verb::Reset => self.reset(&call, respond),
            Verb::Preset => self.preset(&call, &config, respond),
            Verb::Ping => respond(Answer::ok("PONG")),
            Verb::Version => respond(Answer::ok(concat!("OK pastcam ", env!("PASTCAM_VERSION")))),
            Verb::Help => respond(verbs::help(&call.words).map_or_else(|e| failed(&e), Answer::ok)),
            Verb::Subscribe if line.stays_open => respond(Answer::ok(self.state_event())),
            Verb::Subscribe => {
                respond(failed(&Error::new(Kind::Usage, "subscribe needs the port that stays open: network.persistent_port")));
            }
            Verb::RecordStart => self.record_start(line, &call, respond),
            Verb::RecordStop => self.record_stop(respond),
            Verb::RecordStatus => respond(self.record_status()),
            Verb::Clip => self.clip(line, &call, respond),
            Verb::Files => self.files(&call, respond),
            Verb::Delete => self.delete(&call, respond),
            Verb::Update => self.update(&call, line.body.clone(), respond),
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

    /// The state as a line for subscribers.
    pub fn state_event(&self) -> String {
        let level = self.gauges.level().map_or(0.0, |(l, _)| l);
        Event::Mode { night: self.gauges.night(), level }.line()
    }

    /// Refuses a verb that ran less than `network.debounce_ms` ago; remembers this run if not.
    fn debounced(&self, verb: Verb, trigger: BootUs, config: &Config) -> Result<()> {
        let gap = config.network.debounce_ms;
        let mut last = self.last_run.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(&verb).is_some_and(|t| trigger.since(*t) < gap) {
            let what = format!("{} again within {} ms (network.debounce_ms)", verb.spec().text, gap.as_millis());
            return Err(Error::new(Kind::Busy, what));
        }
        last.insert(verb, trigger);
        Ok(())
    }
}

/// `RSS=…MiB SWAP=…%`, as the reference.
fn health_line() -> Answer {
    let rss = health::rss_bytes().unwrap_or(0) as f64 / 1_048_576.0;
    Answer::ok(format!("RSS={rss:.1}MiB SWAP={:.1}%", health::swap_percent()))
}

/// What a line with this token may do.
fn rights(line: &str, config: &Config) -> Result<Rights> {
    let token = &config.network.token;
    if token.is_empty() {
        Ok(Rights::OPEN)
    } else if same(verbs::token_of(line).unwrap_or(""), token) {
        Ok(Rights::ALL)
    } else {
        Err(Error::new(Kind::Denied, "this port wants token=WORD in every command"))
    }
}

/// Compares without telling by the time it takes how many letters were right.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |d, (a, b)| d | (a ^ b)) == 0
}
