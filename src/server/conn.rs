//! Owns one TCP connection: its framing, its output and the way it ends. Never runs a command and never decides about other
//! connections. Thread `server`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use nix::poll::PollFlags;

use super::Channel;
use super::answer::{Answer, Wire};
use super::body::Body;
use super::line::{Framer, Rules};
use crate::clock::BootUs;

/// A client that takes nothing for so long while output waits is given up.
const STALL: Duration = Duration::from_secs(10);
/// Output that may wait for a client that reads slowly (bytes), beside one long answer: hundreds of events.
const OUT_MAX: usize = 80 * 1024;

/// Where in its life a connection is.
///
/// ```text
/// Open ──finish──► Ending ──all written──► Draining ──EOF or time──► Closed
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Lines are taken.
    Open,
    /// The last answer is being written.
    Ending,
    /// Writing is shut down; unread input is thrown away so that closing does not destroy the answer on its way.
    Draining {
        /// When to close without waiting for the client any longer.
        until: BootUs,
    },
    /// To be dropped.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscription {
    No,
    /// Asked for: events wait until the answer with the state has gone out, so none falls between.
    Asked,
    Yes,
}

#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts about two directions and two parties; as one state they would be sixty"
)]
#[derive(Debug)]
pub(super) struct Conn {
    /// `None` once the client is known to be gone; its commands still run.
    stream: Option<TcpStream>,
    pub peer: SocketAddr,
    pub channel: Channel,
    pub framer: Framer,
    wire: Wire,
    drain: Duration,
    /// When it was accepted.
    pub since: BootUs,
    /// It has been silent long enough to make room for others.
    pub aged: bool,
    /// It has sent something and has a place.
    pub active: bool,
    pub phase: Phase,
    /// A request has been handed over and not been answered.
    pub busy: bool,
    /// No further line after the answer that is due.
    pub last: bool,
    pub subscription: Subscription,
    /// A refusal that goes out only then, so that guessing is slow.
    held_back: Option<(Answer, BootUs)>,
    eof: bool,
    /// Writing has failed.
    deaf: bool,
    answered: bool,
    /// A line of this connection has succeeded: it is no HTTP client or other stranger.
    trusted: bool,
    out: Vec<u8>,
    /// Most bytes that `out` may hold: [`OUT_MAX`] behind the longest answer in it.
    out_max: usize,
    /// Since when output waits for the client.
    stuck: Option<BootUs>,
    /// Event lines held back while `Asked`.
    held: Vec<u8>,
}

impl Conn {
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        channel: Channel,
        rules: Rules,
        wire: Wire,
        drain: Duration,
        now: BootUs,
    ) -> Self {
        Conn {
            stream: Some(stream),
            peer,
            channel,
            framer: Framer::new(rules),
            wire,
            drain,
            since: now,
            aged: false,
            active: false,
            phase: Phase::Open,
            busy: false,
            last: false,
            subscription: Subscription::No,
            held_back: None,
            eof: false,
            deaf: false,
            answered: false,
            trusted: false,
            out: Vec::new(),
            out_max: OUT_MAX,
            stuck: None,
            held: Vec::new(),
        }
    }

    /// The socket and the events to wait for; `None` when nothing can happen on it.
    pub(super) fn interest(&self) -> Option<(&TcpStream, PollFlags)> {
        let mut wanted = PollFlags::empty();
        let reads = match self.phase {
            Phase::Open => !self.framer.is_done() && !self.framer.is_body(),
            Phase::Draining { .. } => true,
            Phase::Ending | Phase::Closed => false,
        };
        if reads && !self.eof {
            wanted |= PollFlags::POLLIN;
        }
        if !self.out.is_empty() {
            wanted |= PollFlags::POLLOUT;
        }
        // A subscriber that only closed its sending half is still watched for its going (POLLHUP and POLLERR always come).
        let watched = !wanted.is_empty() || self.subscription == Subscription::Yes;
        self.stream.as_ref().filter(|_| watched).map(|s| (s, wanted))
    }

    /// True while it is open and has sent nothing.
    pub(super) fn is_silent(&self) -> bool {
        self.phase == Phase::Open && self.framer.is_silent()
    }

    /// True while it holds a place without need: nothing of it is in work or waits to be, and either a line of it has begun
    /// and not ended or it never had one.
    pub(super) fn dawdles(&self) -> bool {
        let idle = self.phase == Phase::Open && self.active && !self.busy && !self.framer.has_items();
        // Between its lines a connection that stays open is a controller's, and its place is earned.
        idle && self.subscription == Subscription::No && (self.framer.collecting() || !self.answered)
    }

    /// The next instant at which [`Conn::tick`] has something to do. `grace`: how long silence is not counted.
    pub(super) fn deadline(&self, grace: Duration) -> Option<BootUs> {
        let own = match self.phase {
            Phase::Open => self.framer.deadline(),
            Phase::Draining { until } => Some(until),
            Phase::Ending | Phase::Closed => None,
        };
        let ageing = (!self.aged && self.is_silent()).then(|| self.since + grace);
        let stuck = self.stuck.map(|s| s + STALL);
        let held_back = self.held_back.as_ref().map(|(_, due)| *due);
        [own, ageing, stuck, held_back].into_iter().flatten().min()
    }

    /// Does what time asks for.
    pub(super) fn tick(&mut self, now: BootUs, grace: Duration) {
        if self.stuck.is_some_and(|s| now >= s + STALL) {
            self.lose(now);
        }
        if let Some((answer, _)) = self.held_back.take_if(|(_, due)| now >= *due) {
            self.answer(&answer, now);
        }
        match self.phase {
            Phase::Open => {
                self.framer.quiet(now);
                self.aged |= now >= self.since + grace;
            }
            Phase::Draining { until } if now >= until => self.phase = Phase::Closed,
            _ => {}
        }
    }

    /// Takes one segment. Instants are those of the call: the loop reads as soon as bytes are there.
    pub(super) fn read(&mut self, buffer: &mut [u8], now: BootUs) {
        let Some(stream) = &mut self.stream else { return };
        match stream.read(buffer) {
            Ok(0) => {
                self.eof = true;
                match self.phase {
                    Phase::Open => self.framer.end(now),
                    Phase::Draining { .. } => self.phase = Phase::Closed,
                    _ => {}
                }
            }
            Ok(n) if self.phase == Phase::Open => self.framer.feed(&buffer[..n], now),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => {
                // A reset.
                self.lose(now);
            }
        }
    }

    /// The body behind the line that was just taken, to be read by somebody else from here on; no further line follows it.
    pub(super) fn take_body(&mut self) -> Option<Body> {
        let (head, behind_cr) = self.framer.take_body()?;
        self.last = true;
        let stream = self.stream.as_ref().and_then(|s| s.try_clone().ok())?;
        Some(Body::new(head, behind_cr, stream))
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self, now: BootUs) {
        let Some(stream) = &mut self.stream else { return };
        if !self.out.is_empty() {
            match stream.write(&self.out) {
                Ok(n) if n == self.out.len() => {
                    self.out.clear();
                    self.stuck = None;
                }
                Ok(n) => {
                    self.out.drain(..n);
                    self.stuck = Some(now);
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    self.stuck.get_or_insert(now);
                }
                // Nobody listens any more, but lines sent before may still be unread: the next read ends it.
                Err(_) if self.phase == Phase::Open && !self.eof => self.hush(),
                Err(_) => return self.lose(now),
            }
        }
        if self.phase == Phase::Ending && self.out.is_empty() {
            self.shut(now);
        }
    }

    /// Sends the answer to the request that was handed over, or an error of the framing.
    pub(super) fn answer(&mut self, answer: &Answer, now: BootUs) {
        self.busy = false;
        self.answered = true;
        self.trusted |= answer.ok;
        self.append(answer, now);
        if self.subscription == Subscription::Asked {
            self.subscription = if answer.ok { Subscription::Yes } else { Subscription::No };
            let held = std::mem::take(&mut self.held);
            if answer.ok && self.stream.is_some() {
                self.out.extend(held);
            }
        }
        // Where the connection stays open, an error ends it only until its first success. HTTP, TLS and the rest never
        // have one, so nothing in their bodies runs, and a PLC keeps its connection over a full disk.
        if !answer.ok && (self.channel != Channel::Persistent || !self.trusted) {
            self.last = true;
        }
        if self.last {
            self.finish(now);
        } else {
            self.flush(now);
        }
    }

    /// Sends this answer at `due`; until then no further line is taken.
    pub(super) fn hold_back(&mut self, answer: Answer, due: BootUs) {
        self.busy = true;
        self.held_back = Some((answer, due));
    }

    /// Whether an answer is held back.
    pub(super) fn is_held_back(&self) -> bool {
        self.held_back.is_some()
    }

    /// Closes without an answer.
    pub(super) fn dismiss(&mut self, now: BootUs) {
        self.framer.close();
        self.busy = false;
        self.last = true;
        self.lose(now);
    }

    /// Sends an event, if subscribed.
    pub(super) fn event(&mut self, line: &str, now: BootUs) {
        match self.subscription {
            Subscription::No => {}
            Subscription::Asked if self.held.len() < OUT_MAX => self.wire.append(&Answer::event(line), &mut self.held),
            Subscription::Asked => self.lose(now),
            Subscription::Yes => {
                self.append(&Answer::event(line), now);
                self.flush(now);
            }
        }
    }

    fn append(&mut self, answer: &Answer, now: BootUs) {
        // One answer may be longer; what comes behind it must not pile up.
        if self.out.is_empty() {
            self.out_max = OUT_MAX;
        }
        let before = self.out.len();
        if self.stream.is_some() && !self.deaf {
            self.wire.append(answer, &mut self.out);
        }
        self.out_max = self.out_max.max(OUT_MAX + self.out.len() - before);
        if self.out.len() > self.out_max {
            self.lose(now);
        }
    }

    /// Writes no more.
    fn hush(&mut self) {
        self.deaf = true;
        self.out.clear();
        self.held.clear();
        self.stuck = None;
        self.subscription = Subscription::No;
    }

    /// True when the next line may be handed over.
    pub(super) fn may_proceed(&self) -> bool {
        self.phase == Phase::Open && !self.busy && self.out.is_empty()
    }

    /// True when no line waits or can come any more, so that the connection has done its work.
    pub(super) fn has_ended(&self) -> bool {
        let served = self.channel == Channel::Tcp && self.answered && !self.framer.collecting();
        let ended = self.eof && self.subscription != Subscription::Yes;
        self.last || self.stream.is_none() || served || ended
    }

    /// A last look before the end: a line may have come while the one before was worked on and not been read yet.
    pub(super) fn has_more(&mut self, buffer: &mut [u8], now: BootUs) -> bool {
        if self.last || self.eof || self.deaf || self.framer.is_done() || self.framer.is_body() {
            return false;
        }
        self.read(buffer, now);
        self.framer.has_items() || self.framer.collecting()
    }

    /// Writes what is left, then shuts down, drains and closes.
    pub(super) fn finish(&mut self, now: BootUs) {
        self.framer.close();
        self.phase = Phase::Ending;
        if self.stream.is_none() {
            self.phase = Phase::Closed;
        } else {
            self.flush(now);
        }
    }

    fn shut(&mut self, now: BootUs) {
        let shut = self.stream.as_ref().is_some_and(|s| s.shutdown(Shutdown::Write).is_ok());
        // After an EOF nothing is left unread, so closing cannot reset the connection.
        self.phase = if self.eof || !shut { Phase::Closed } else { Phase::Draining { until: now + self.drain } };
    }

    /// The client is gone. What it sent before was meant and still runs; there is nobody to answer. Nothing at all was a
    /// port check.
    pub(super) fn lose(&mut self, now: BootUs) {
        self.stream = None;
        self.eof = true;
        self.hush();
        if self.phase != Phase::Open {
            self.phase = Phase::Closed;
        } else if !self.framer.is_silent() {
            self.framer.end(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Item;
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use nix::poll::{PollFd, poll};
    use nix::sys::socket::{setsockopt, sockopt};
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    fn pair() -> (TcpStream, Conn) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let rules = Rules { idle: Duration::from_millis(200), verbs: &[], at_once: true, lines: 8, stays_open: false };
        let now = SystemClock.boot();
        (client, Conn::new(accepted, peer, Channel::Tcp, rules, Wire::default(), Duration::from_secs(1), now))
    }

    fn wait(conn: &Conn, what: PollFlags) {
        let mut fds = [PollFd::new(conn.stream.as_ref().unwrap().as_fd(), what)];
        poll(&mut fds, 30_000u16).unwrap();
        assert!(fds[0].revents().unwrap().intersects(what), "{:?}", fds[0].revents());
    }

    #[test]
    fn lines_still_unread_when_writing_fails_are_not_lost() {
        let (mut client, mut conn) = pair();
        let now = SystemClock.boot();
        client.write_all(b"save a\n").unwrap();
        setsockopt(&client, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
        drop(client);
        wait(&conn, PollFlags::POLLHUP);
        conn.busy = true;
        conn.answer(&Answer::ok("to the line before"), now);
        let mut buffer = [0; 64];
        conn.read(&mut buffer, now);
        assert!(matches!(conn.framer.next_item(), Some(Item::Line { text, .. }) if text == "save a"));
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_up() {
        let (client, mut conn) = pair();
        let now = SystemClock.boot();
        while conn.stuck.is_none() {
            conn.answer(&Answer::long("x".repeat(60_000)), now);
        }
        assert_eq!(conn.deadline(Duration::from_secs(60)), Some(now + STALL));
        assert!(conn.interest().unwrap().1.contains(PollFlags::POLLOUT));
        conn.tick(now + STALL, Duration::ZERO);
        assert!(conn.stream.is_none() && conn.has_ended());
        drop(client);
    }
}
