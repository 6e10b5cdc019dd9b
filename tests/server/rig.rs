//! A server on free loopback ports with a handler that stands in for the commands, and clients to talk to it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use pastcam::server::{Answer, Channel, Handler, Reply, Request, Server, ServerControl, Settings};
use pastcam::verbs::{Spec, Verb};

/// Nothing here takes so long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Answers at once, or holds a reply until the test lets it go.
#[derive(Default)]
pub struct Fake {
    pub requests: Mutex<Vec<Request>>,
    held: Mutex<Vec<(String, Reply)>>,
    changed: Condvar,
}

impl Handler for Fake {
    fn handle(&self, request: Request, reply: Reply) {
        assert_eq!(std::thread::current().name(), Some("server"));
        let line = request.line.clone();
        let channel = request.channel;
        self.requests.lock().unwrap().push(request);
        let verb = line.split(' ').next().unwrap_or("");
        match verb {
            "save" | "pastStack" => reply.send(Answer::ok(format!("Saved {line}"))),
            "health" | "ping" | "night_level" => reply.send(Answer::ok(format!("OK {line}"))),
            "status" => reply.send(Answer::long(format!("{{\"x\":\"{}\"}}", "y".repeat(4000)))),
            "fail" => reply.send(Answer::failed("NOT_SAVED")),
            "guess" => reply.send(Answer::failed("ERR denied wrong token")),
            "odd" => reply.send(Answer::ok("a\tb\nc\u{fc}")),
            "wide" => reply.send(Answer::ok("w".repeat(1000))),
            "hold" => self.held.lock().unwrap().push((line, reply)),
            "sleep" => {
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(20));
                    reply.send(Answer::ok("slept"));
                });
            }
            "drop" => drop(reply),
            "panic" => panic!("a command's bug, as the test wants it"),
            "subscribe" if line == "subscribe late" => self.held.lock().unwrap().push((line, reply)),
            "subscribe" if channel == Channel::Persistent => reply.send(Answer::ok("STATE DAY")),
            "subscribe" => reply.send(Answer::failed("ERR usage subscribe needs the port that stays open")),
            _ => reply.send(Answer::failed("UNKNOWN_COMMAND")),
        }
        self.changed.notify_all();
    }
}

impl Fake {
    /// Waits until the lines handed over so far satisfy `wanted`.
    pub fn wait(&self, wanted: impl Fn(&[Request]) -> bool) {
        let mut got = self.requests.lock().unwrap();
        while !wanted(&got) {
            let (next, late) = self.changed.wait_timeout(got, PATIENCE).unwrap();
            got = next;
            assert!(!late.timed_out(), "still only {got:?}");
        }
    }
    pub fn lines(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|r| r.line.clone()).collect()
    }
    /// Answers every held request with its own line.
    pub fn release(&self) {
        for (line, reply) in self.held.lock().unwrap().drain(..) {
            reply.send(Answer::ok(format!("released {line}")));
        }
    }
}

pub struct Rig {
    pub server: Server,
    pub control: ServerControl,
    pub fake: Arc<Fake>,
}

const fn at_once(text: &'static str) -> Spec {
    Spec { at_once: true, ..Spec::new(Verb::Ping, text) }
}

/// What the fake handler knows.
static VERBS: &[Spec] = &[
    Spec::new(Verb::Save, "save"),
    Spec::new(Verb::PastStack, "pastStack"),
    at_once("night_level"),
    at_once("health"),
    at_once("ping"),
    Spec::new(Verb::Status, "status"),
    Spec::new(Verb::Subscribe, "subscribe"),
    Spec { body: true, ..Spec::new(Verb::Update, "update") },
    Spec::new(Verb::Ping, "hold"),
    Spec::new(Verb::Ping, "fail"),
    Spec::new(Verb::Ping, "guess"),
    Spec::new(Verb::Ping, "sleep"),
];

pub fn settings() -> Settings {
    Settings { bind: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], port: 0, verbs: VERBS, ..Settings::default() }
}

pub fn start(settings: Settings) -> Rig {
    let control = ServerControl::new().unwrap();
    let fake = Arc::new(Fake::default());
    let server = Server::start(settings, &control, Arc::clone(&fake) as Arc<dyn Handler>).unwrap();
    Rig { server, control, fake }
}

pub fn rig() -> Rig {
    start(settings())
}

impl Rig {
    pub fn port(&self) -> u16 {
        self.server.local_port()
    }
    pub fn client(&self) -> TcpStream {
        client(self.port())
    }
    /// Sends `bytes`, leaves the sending half open and reads until the server closes.
    pub fn ask(&self, bytes: &[u8]) -> String {
        let mut c = self.client();
        c.write_all(bytes).unwrap();
        rest(&mut c)
    }
    /// The same, closing the sending half.
    pub fn ask_and_shut(&self, bytes: &[u8]) -> String {
        let mut c = self.client();
        c.write_all(bytes).unwrap();
        c.shutdown(Shutdown::Write).unwrap();
        rest(&mut c)
    }
    pub fn persistent(&self) -> TcpStream {
        client(self.server.persistent_port().unwrap())
    }
}

pub fn client(port: u16) -> TcpStream {
    let c = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    c.set_read_timeout(Some(PATIENCE)).unwrap();
    c.set_nodelay(true).unwrap();
    c
}

/// A client with a loopback address of its own.
pub fn client_from(ip: Ipv4Addr, port: u16) -> TcpStream {
    let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(ip.into(), 0))).unwrap();
    connect(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))).unwrap();
    let c = TcpStream::from(fd);
    c.set_read_timeout(Some(PATIENCE)).unwrap();
    c
}

/// Everything until the server closes.
pub fn rest(c: &mut TcpStream) -> String {
    let mut got = Vec::new();
    c.read_to_end(&mut got).expect("the server answers and closes");
    String::from_utf8(got).expect("answers are ASCII")
}

/// Exactly the next line, its newline included.
pub fn line(c: &mut TcpStream) -> String {
    let mut got = Vec::new();
    let mut byte = [0];
    while got.last() != Some(&b'\n') {
        assert_eq!(c.read(&mut byte).unwrap(), 1, "closed after {:?}", String::from_utf8_lossy(&got));
        got.push(byte[0]);
    }
    String::from_utf8(got).unwrap()
}

/// Waits until `wanted` holds; ends on it, not on time.
pub fn until(what: &str, wanted: impl Fn() -> bool) {
    let began = Instant::now();
    while !wanted() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// True when the server has closed this connection; false while it is open without input.
pub fn is_closed(c: &TcpStream) -> bool {
    c.set_nonblocking(true).unwrap();
    let mut byte = [0];
    let closed = match (&*c).read(&mut byte) {
        Ok(n) => n == 0,
        Err(e) => e.kind() != std::io::ErrorKind::WouldBlock,
    };
    c.set_nonblocking(false).unwrap();
    closed
}
