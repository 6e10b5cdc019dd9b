//! Owns what is known of each connection that the server library has, and who must leave when there are too many: always
//! somebody of the address that has most of them. Bounded; a lock that is held for a look through the list. Any thread.

use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::glib::WeakRef;
use gstreamer_rtsp_server::prelude::*;
use log::Level;
use nix::sys::eventfd::EventFd;

use super::lobby;
use crate::clock::{Clock, SystemClock};
use crate::logging::Tally;
use crate::net::{AllowList, Slowdown};

/// A connection that has not set a stream up (SETUP) in this time is closed.
const IDLE: Duration = Duration::from_secs(15);
/// Sessions of one connection: a player has one, and one with sound that forgets to name it has two.
const SESSIONS: usize = 2;
/// Looks in a row after which whoever sends without a pause and without an end is closed: 2 s.
const FLOODED: u32 = 8;
/// A place is kept for so long for who was given the description.
const KEPT: Duration = Duration::from_secs(3);

/// One connection; the socket is a second descriptor of the library's, to shut that down from here.
pub(super) struct Connection {
    pub number: u64,
    pub ip: IpAddr,
    pub socket: TcpStream,
    pub client: WeakRef<rtsp::RTSPClient>,
    /// Its beginning, or the end of its last session.
    pub since: Instant,
    /// It has sent a whole request.
    pub asked: bool,
    /// Wrong logins since the last right one.
    wrong: u32,
    /// When it was given the description.
    pub described: Option<Instant>,
    /// Its sessions, so that they end with it: a player that was killed would otherwise be sent pictures for a minute.
    pub sessions: Vec<rtsp::RTSPSession>,
    /// It was shut down; the library has not noticed yet.
    ended: bool,
    /// Looks in a row at which the library had not come to the end of what it sends, and the beginning of that.
    floods: u32,
    ahead: [u8; 32],
}

impl Connection {
    pub fn new(number: u64, ip: IpAddr, socket: TcpStream) -> Connection {
        let (since, ahead) = (Instant::now(), [0; 32]);
        Connection {
            number,
            ip,
            socket,
            client: WeakRef::new(),
            since,
            asked: false,
            wrong: 0,
            described: None,
            sessions: Vec::new(),
            ended: false,
            floods: 0,
            ahead,
        }
    }

    /// It has sent a user and password. Players that come again begin with what the last connection was asked: wrong once, then right.
    pub fn tried_to_log_in(&mut self, right: bool, slow: &Slowdown) {
        if right {
            let wrong = std::mem::take(&mut self.wrong);
            if wrong > 0 {
                slow.forgive(self.ip, wrong);
            }
            return;
        }
        self.wrong += 1;
        if !slow.failed(self.ip, SystemClock.boot()).is_zero() && self.wrong > 1 {
            // The answer still goes out; the next try comes over a connection that waits.
            let _ = self.socket.shutdown(Shutdown::Read);
        }
    }

    fn watches(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// Places of viewers that it keeps: none once one side has ended it, although the library may take a moment to notice.
    fn places(&self) -> usize {
        if self.ended || lobby::is_over(self.socket.as_fd()) { 0 } else { self.sessions.len() }
    }

    /// The library reads the end of the stream and does the rest.
    pub fn end(&mut self) {
        self.ended = true;
        // Already closed is as good.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Ends it at once, unread bytes and all: a shutdown is not seen by who still has something to read.
    fn cut(&mut self) {
        self.ended = true;
        // Already gone is as good.
        let _ = rustix::net::connect_unspec(&self.socket);
    }

    /// Whether it keeps a thread of the library busy: it sends faster than can be read, and never the end of a request. What others
    /// have sent meanwhile waits unread on the same thread, and is whole or, encrypted, the same at each look.
    fn is_flooding(&mut self, encrypted: bool) -> bool {
        let mut ahead = [0; 4096];
        // Watched connections are the library's; it has set them to return at once.
        let full = matches!(self.socket.peek(&mut ahead), Ok(n) if n == ahead.len());
        let moves = !ahead.starts_with(&self.ahead);
        self.ahead.copy_from_slice(&ahead[..32]);
        let endless = full && if encrypted { moves } else { !lobby::is_whole(&ahead) };
        self.floods = if endless { self.floods + 1 } else { 0 };
        self.floods >= FLOODED
    }
}

#[derive(Default)]
pub(super) struct Inside {
    pub connections: Vec<Connection>,
    pub next: u64,
    pub allow: AllowList,
}

pub(super) struct Shared {
    inside: Mutex<Inside>,
    pub stop: EventFd,
    pub sessions: rtsp::RTSPSessionPool,
    /// Addresses that have to wait.
    pub slow: Slowdown,
    /// What is told once a minute for each address.
    pub tally: Tally,
    /// Viewers at once.
    most: usize,
}

/// Of those who may go, the first of the address that has most; `all` are counted.
pub(super) fn of_the_largest(all: &[IpAddr], may_go: impl Fn(usize) -> bool) -> Option<usize> {
    let count = |ip: IpAddr| all.iter().filter(|other| **other == ip).count();
    // `max_by_key` gives the last of equals.
    (0..all.len()).rev().filter(|i| may_go(*i)).max_by_key(|i| count(all[*i]))
}

impl Shared {
    pub fn new(allow: AllowList, most: usize, stop: EventFd, sessions: rtsp::RTSPSessionPool) -> Shared {
        let inside = Mutex::new(Inside { allow, ..Inside::default() });
        Shared { inside, stop, sessions, slow: Slowdown::default(), tally: Tally::default(), most }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inside> {
        // Whole at every point where a panic could strike.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of this address, once a minute.
    pub fn tell(&self, about: &str, ip: IpAddr, what: &str) {
        self.tally.log_about(Level::Warn, &format!("{about} {ip}"), &format!("RTSP: {ip} {what}"));
    }

    /// Notes a failure of this address.
    pub fn failed(&self, ip: IpAddr) -> Duration {
        self.slow.failed(ip, SystemClock.boot())
    }

    /// A place for a connection of this address, whose number is returned; where there is none, somebody leaves who only asks. Twice as
    /// many connections as viewers: a player asks in one and watches in another.
    pub fn admit(&self, ip: IpAddr, second: TcpStream) -> Option<u64> {
        let mut inside = self.lock();
        // Those who were shut down leave within milliseconds, unless the library's threads are busy.
        if inside.connections.len() >= 4 * self.most {
            return None;
        }
        let here: Vec<usize> = (0..inside.connections.len()).filter(|i| !inside.connections[*i].ended).collect();
        if here.len() >= 2 * self.most {
            let ips: Vec<IpAddr> = here.iter().map(|i| inside.connections[*i].ip).collect();
            let leaves = of_the_largest(&ips, |i| !inside.connections[here[i]].watches())?;
            inside.connections[here[leaves]].end();
        }
        inside.next += 1;
        let number = inside.next;
        inside.connections.push(Connection::new(number, ip, second));
        Some(number)
    }

    /// Forgets a connection, with its sessions.
    pub fn forget(&self, number: u64) {
        let mut inside = self.lock();
        let at = inside.connections.iter().position(|c| c.number == number);
        let gone = at.map(|i| inside.connections.remove(i));
        drop(inside);
        if let Some(c) = gone.as_ref().filter(|c| c.wrong > 0) {
            self.tell("login", c.ip, "sent a wrong user or password (rtsp.user, rtsp.password); its next tries have to wait");
        }
        for session in gone.iter().flat_map(|c| &c.sessions) {
            // One that was torn down is no longer there.
            let _ = self.sessions.remove(session);
        }
    }

    /// Ends what is over its time.
    pub fn look(&self, encrypted: bool) {
        let mut inside = self.lock();
        for c in &mut inside.connections {
            // The lobby cannot see whole requests of encrypted ones; these need a handshake, too.
            let silent = encrypted && !c.asked && c.since.elapsed() > 2 * lobby::PATIENCE;
            if c.ended {
                c.cut();
            } else if silent || (!c.watches() && c.since.elapsed() > IDLE) {
                c.end();
            } else if c.is_flooding(encrypted) {
                self.tell("flood", c.ip, "sends without an end; its connection was closed");
                self.failed(c.ip);
                c.cut();
            }
        }
    }

    /// Whoever was given the description is going to watch. Where all places are taken, the newest viewer of the address that has
    /// most leaves, if that has more than the newcomer would have.
    pub fn make_room(&self, number: u64) {
        let mut inside = self.lock();
        let full = inside.connections.iter().map(Connection::places).sum::<usize>() >= self.most;
        let Some(c) = inside.connections.iter_mut().find(|c| c.number == number) else { return };
        c.described = Some(Instant::now());
        let newcomer = c.ip;
        if !full {
            return;
        }
        let watch: Vec<usize> = (0..inside.connections.len()).rev().filter(|i| inside.connections[*i].places() > 0).collect();
        let ips: Vec<IpAddr> = watch.iter().map(|i| inside.connections[*i].ip).collect();
        let count = |ip: IpAddr| ips.iter().filter(|other| **other == ip).count();
        let Some(leaves) = of_the_largest(&ips, |i| count(ips[i]) > count(newcomer) + 1) else { return };
        let leaves = &mut inside.connections[watch[leaves]];
        log::info!("RTSP: a viewer at {} leaves, so that {newcomer} has a place", leaves.ip);
        // Its sessions end with it, on the library's thread that serves it: taken from it here, while that thread sends, they made the
        // library end the process (1.22).
        leaves.end();
    }

    /// Whether this connection may have one session more.
    pub fn may_watch(&self, number: u64) -> bool {
        let inside = self.lock();
        let taken: usize = inside.connections.iter().map(Connection::places).sum();
        let Some(c) = inside.connections.iter().find(|c| c.number == number) else { return false };
        let has = |ip: IpAddr| inside.connections.iter().filter(|c| c.ip == ip).map(Connection::places).sum::<usize>();
        let waits = |other: &Connection| {
            let asks = !other.watches() && !other.ended && other.described.is_some_and(|at| at.elapsed() < KEPT);
            asks && other.ip != c.ip && has(other.ip) < has(c.ip)
        };
        c.sessions.len() < SESSIONS && taken + usize::from(inside.connections.iter().any(waits)) < self.most
    }

    /// A session is over.
    pub fn session_ended(&self, session: &rtsp::RTSPSession) {
        for c in &mut self.lock().connections {
            let before = c.sessions.len();
            c.sessions.retain(|s| s != session);
            if c.sessions.len() < before {
                c.since = Instant::now();
            }
        }
    }

    /// Does something with the connection of this client.
    pub fn with_client<R>(&self, client: &rtsp::RTSPClient, act: impl FnOnce(&mut Connection) -> R) -> Option<R> {
        self.lock().connections.iter_mut().find(|c| c.client.upgrade().as_ref() == Some(client)).map(act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_with_most_gives_way_and_its_first_goes() {
        let ips: Vec<IpAddr> =
            ["10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap()).to_vec();
        assert_eq!(of_the_largest(&ips, |_| true), Some(1));
        assert_eq!(of_the_largest(&ips, |i| i != 1), Some(2));
        assert_eq!(of_the_largest(&ips, |i| i == 0 || i == 3), Some(0));
        assert_eq!(of_the_largest(&ips, |_| false), None);
        assert_eq!(of_the_largest(&[], |_| true), None);
    }
}
