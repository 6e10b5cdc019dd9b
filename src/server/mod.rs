//! Owns the trigger port: listeners, clients, limits and the framing of lines. It sees neither camera nor ring nor commands;
//! every line goes to a [`Handler`]. Everything here runs on one thread named `server`; [`Reply`], [`Notifier`] and
//! [`ServerControl`] may be used from any.
//!
//! ```text
//! bytes ─► line (image, telnet) ─► conn ─► event_loop ─► Handler ─► Reply ─► mailbox ─► event_loop ─► conn ─► bytes
//! ```

mod answer;
mod body;
mod conn;
mod event_loop;
mod image;
mod keys;
pub(crate) mod line;
mod reply;
mod telnet;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::resource::rlim_t;

pub use answer::{ANSWER_MAX, Answer, HEAD_MAX, LONG_MAX};
pub use body::{Body, Got};
pub use keys::Keys;
pub use line::{Framer, Item, LINE_MAX, Rules};
pub use reply::{Notifier, Reply};

use crate::clock::BootUs;
use crate::error::{Error, Kind, Result};
use crate::net::{AllowList, bind};
use crate::threads::Thread;
use crate::verbs::{self, Spec};
use answer::Wire;
use event_loop::EventLoop;
use reply::Mailbox;

/// The way a line came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The trigger port: the connection closes after the answer.
    Tcp,
    /// The port whose connections stay open.
    Persistent,
    /// A datagram.
    Udp,
}

impl Channel {
    /// The lower-case word for logs.
    pub fn word(self) -> &'static str {
        match self {
            Channel::Tcp => "tcp",
            Channel::Persistent => "persistent",
            Channel::Udp => "udp",
        }
    }
}

/// One line from one client.
#[derive(Debug, Clone)]
pub struct Request {
    /// 1–1024 bytes of 0x20–0x7E without blanks at the ends; empty when the client sent only blank or binary input, or
    /// nothing before it closed its sending half.
    pub line: String,
    /// Arrival of the line's first byte: the moment the client means.
    pub trigger: BootUs,
    /// The client; IPv4 always in its own notation.
    pub peer: SocketAddr,
    /// The way it came.
    pub channel: Channel,
    /// The bytes behind the line of a verb with a [body](Spec::body); only over TCP. The connection ends with this line.
    pub body: Option<Body>,
}

/// Whatever understands the lines.
pub trait Handler: Send + Sync + 'static {
    /// Takes one request. Called on thread `server`, so it must return within a millisecond or so: quick commands answer
    /// through `reply` at once, slow ones move it to a thread of their own. A panic costs only this request.
    ///
    /// `subscribe` on [`Channel::Persistent`] is answered with the line of the present state; a success subscribes the
    /// connection to [`Notifier::publish`]. On other channels the handler refuses it.
    fn handle(&self, request: Request, reply: Reply);
}

/// Limits of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections that have sent nothing; the oldest makes room.
    pub silent: usize,
    /// The same for one address.
    pub silent_per_address: usize,
    /// How long after its start a silent connection is not counted: in a burst all connect before the first one sends.
    pub silent_grace: Duration,
    /// Connections that have sent something. Beyond, one with an unfinished line makes room; where there is none, the new one
    /// is answered `ERR busy`.
    pub active: usize,
    /// All connections together: what the descriptors of the process allow. The oldest silent one makes room.
    pub open: usize,
    /// Answered connections whose client has not closed yet; the oldest is closed.
    pub closing: usize,
    /// How long an answered connection waits for its client to close.
    pub drain: Duration,
    /// Lines of one connection (trigger port), lines waiting (port that stays open).
    pub lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            silent: 64,
            silent_per_address: 8,
            silent_grace: Duration::from_millis(500),
            active: 256,
            open: 640,
            closing: 64,
            drain: Duration::from_secs(1),
            lines: 8,
        }
    }
}

/// What the server is to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses to listen on; none: every address of both families.
    pub bind: Vec<IpAddr>,
    /// The trigger port; 0 takes any free one.
    pub port: u16,
    /// The port whose connections stay open.
    pub persistent_port: Option<u16>,
    /// Length of every line on that port (bytes), newline and NUL included, reached with blanks; 0: as long as it is.
    pub persistent_pad: u16,
    /// A NUL follows every newline on that port.
    pub persistent_nul: bool,
    /// The port for datagrams.
    pub udp_port: Option<u16>,
    /// Silence that completes an unterminated line, 60–2000 ms.
    pub idle: Duration,
    /// Who may use the ports.
    pub allow: AllowList,
    /// The verbs; what is none gets no answer to a datagram.
    pub verbs: &'static [Spec],
    /// Verbs that can run at once do so. Not where a token is needed, which may still be on its way.
    pub at_once: bool,
    /// Limits of clients.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            bind: Vec::new(),
            port: 9999,
            persistent_port: None,
            persistent_pad: 0,
            persistent_nul: false,
            udp_port: None,
            idle: Duration::from_millis(200),
            allow: AllowList::default(),
            verbs: verbs::TABLE,
            at_once: true,
            limits: Limits::default(),
        }
    }
}

/// Descriptors that the rest of the program keeps: pictures, the stream and its viewers, the camera. `GLib` ends the process where it
/// finds none. With the pattern, eight clients and no viewer 21 were open.
const DESCRIPTORS: rlim_t = 128;

/// How many connections the process's limit of descriptors leaves to the ports, after raising it where that is allowed.
fn room_for_connections() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    /// Enough for [`Limits::open`] and the rest.
    const WANTED: rlim_t = 1024;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return usize::MAX };
    let most = soft.max(WANTED.min(hard));
    if most > soft && setrlimit(Resource::RLIMIT_NOFILE, most, hard).is_err() {
        return soft.saturating_sub(DESCRIPTORS).max(8) as usize;
    }
    most.saturating_sub(DESCRIPTORS).max(8) as usize
}

/// Shortest fixed length that still holds a word and its ending.
const PAD_MIN: u16 = 16;

impl Settings {
    fn wire(&self) -> Wire {
        Wire::fixed(self.persistent_pad, self.persistent_nul)
    }

    fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::new(Kind::Config, what));
        if !(60..=2000).contains(&self.idle.as_millis()) {
            return refuse(format!("network.idle_ms is 60 to 2000, not {}", self.idle.as_millis()));
        }
        if self.persistent_pad != 0 && !(PAD_MIN..=LINE_MAX as u16).contains(&self.persistent_pad) {
            return refuse(format!("network.persistent_pad is 0 or {PAD_MIN} to {LINE_MAX}, not {}", self.persistent_pad));
        }
        Ok(())
    }
}

/// How many clients there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clients {
    /// All connections, closing ones included.
    pub open: usize,
    /// Those that have sent nothing yet.
    pub silent: usize,
    /// Those that have sent something and wait for an answer or stay open.
    pub active: usize,
    /// Those that get events.
    pub subscribers: usize,
}

impl Clients {
    /// Those that are connected and not on their way out.
    pub fn here(self) -> usize {
        self.silent + self.active
    }
}

#[derive(Debug, Default)]
struct Gauges {
    open: AtomicUsize,
    silent: AtomicUsize,
    active: AtomicUsize,
    subscribers: AtomicUsize,
}

/// What thread `server` shares with the others.
#[derive(Debug)]
struct Shared {
    mailbox: Arc<Mailbox>,
    allow: Mutex<Arc<AllowList>>,
    allow_changed: AtomicBool,
    stop: Mutex<Option<Duration>>,
    gauges: Gauges,
    /// Numbers of connections; never used twice, so a late answer cannot reach a stranger.
    number: AtomicU64,
}

impl Shared {
    fn allow(&self) -> Arc<AllowList> {
        Arc::clone(&self.allow.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_allow(&self, list: AllowList) {
        *self.allow.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
    }

    fn stop_asked(&self) -> Option<Duration> {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask_stop(&self, grace: Option<Duration>) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = grace;
        self.mailbox.wake();
    }

    fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }
}

/// The handle to a server that may not have started yet: handlers need it before, and the server needs them. For one
/// server at a time.
#[derive(Debug, Clone)]
pub struct ServerControl(Arc<Shared>);

impl ServerControl {
    /// A handle for a server to come.
    pub fn new() -> Result<Self> {
        Ok(ServerControl(Arc::new(Shared {
            mailbox: Arc::new(Mailbox::new()?),
            allow: Mutex::default(),
            allow_changed: AtomicBool::new(false),
            stop: Mutex::new(None),
            gauges: Gauges::default(),
            number: AtomicU64::new(0),
        })))
    }

    /// Replaces the list of networks at once. Connections from outside the new list end after the answer that is due.
    pub fn set_allow(&self, list: AllowList) {
        self.0.set_allow(list);
        self.0.allow_changed.store(true, Ordering::Release);
        self.0.mailbox.wake();
    }

    /// How many clients there are now.
    pub fn clients(&self) -> Clients {
        let read = |gauge: &AtomicUsize| gauge.load(Ordering::Relaxed);
        let g = &self.0.gauges;
        Clients { open: read(&g.open), silent: read(&g.silent), active: read(&g.active), subscribers: read(&g.subscribers) }
    }

    /// The way to subscribers.
    pub fn notifier(&self) -> Notifier {
        Notifier(Arc::clone(&self.0.mailbox))
    }
}

/// The running server. Dropping it stops it without grace.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    port: u16,
    persistent_port: Option<u16>,
    udp_port: Option<u16>,
}

impl Server {
    /// Opens all ports and starts thread `server`. When a port cannot be had, nothing stays open and the error says why
    /// and what to do.
    pub fn start(settings: Settings, control: &ServerControl, handler: Arc<dyn Handler>) -> Result<Self> {
        settings.check()?;
        let mut settings = settings;
        settings.limits.open = settings.limits.open.min(room_for_connections());
        let asked = |e| Error::caused(Kind::Io, "ask a socket for its port", e);
        let mut listeners = Vec::new();
        for socket in bind::tcp(&settings.bind, settings.port, "network.trigger_port")? {
            listeners.push((socket, Channel::Tcp));
        }
        let port = listeners[0].0.local_addr().map_err(asked)?.port();
        let mut persistent_port = None;
        if let Some(wanted) = settings.persistent_port {
            let sockets = bind::tcp(&settings.bind, wanted, "network.persistent_port")?;
            persistent_port = Some(sockets[0].local_addr().map_err(asked)?.port());
            listeners.extend(sockets.into_iter().map(|s| (s, Channel::Persistent)));
        }
        let mut datagrams = Vec::new();
        let mut udp_port = None;
        if let Some(wanted) = settings.udp_port {
            datagrams = bind::udp(&settings.bind, wanted, "network.udp_port")?;
            udp_port = Some(datagrams[0].local_addr().map_err(asked)?.port());
        }
        let shared = Arc::clone(&control.0);
        shared.set_allow(settings.allow.clone());
        shared.ask_stop(None);
        log::info!("the trigger port is {port}, it serves {}", settings.allow);
        let mut event_loop = EventLoop::new(settings, handler, Arc::clone(&shared), listeners, datagrams);
        let thread = Thread::Server.keep(move || event_loop.run())?;
        Ok(Server { shared, thread: Some(thread), port, persistent_port, udp_port })
    }

    /// The trigger port, also where any free one was asked for.
    pub fn local_port(&self) -> u16 {
        self.port
    }

    /// The port whose connections stay open.
    pub fn persistent_port(&self) -> Option<u16> {
        self.persistent_port
    }

    /// The port for datagrams.
    pub fn udp_port(&self) -> Option<u16> {
        self.udp_port
    }

    /// Closes: no new connections and no further lines at once; answers that are due get up to `grace`.
    pub fn stop(mut self, grace: Duration) {
        self.close(grace);
    }

    fn close(&mut self, grace: Duration) {
        if let Some(thread) = self.thread.take() {
            self.shared.ask_stop(Some(grace));
            // A panic has been told.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}
