//! Owns connections until their first request is whole: one that sends nothing, or byte by byte, or without an end, costs the
//! server library nothing. Reads without taking anything away and never waits. Bounded; runs on the thread `rtsp`.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::connections::{Shared, of_the_largest};
use crate::clock::{Clock, SystemClock};

/// The time for a whole request; players send theirs at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// Whoever has to wait after failures is let go after this time, whatever comes.
const LONGEST: Duration = Duration::from_secs(20);
/// Guests at once.
const MOST: usize = 64;
/// Guests of an address that has to wait: others behind it, of whom nobody has failed, have a chance.
const MOST_SLOW: usize = 2;
/// A first request is no longer than this (bytes).
const HEAD: usize = 8192;
/// The other side will send nothing more; nix has no word for it.
const ENDED: PollFlags = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
/// Between looks at requests that are not whole.
const TICK: Duration = Duration::from_millis(50);

pub(super) struct Guest {
    pub socket: TcpStream,
    pub peer: SocketAddr,
    since: Instant,
    /// Something has come: polling for more would return at once, again and again.
    begun: bool,
}

impl Guest {
    /// Whether nothing more will come.
    fn has_ended(&self) -> bool {
        is_over(self.socket.as_fd())
    }
}

/// Whether the peer has closed this connection.
pub(super) fn is_over(socket: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::new(socket, ENDED)], PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

#[derive(Default)]
pub(super) struct Lobby {
    guests: Vec<Guest>,
    head: Vec<u8>,
}

/// Whether these bytes hold a blank line, which ends a request's head. The library takes CR, LF and both for the end of a line.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|w| w == b"\n\n" || w == b"\r\r") || bytes.windows(3).any(|w| w == b"\n\r\n")
}

impl Lobby {
    /// Lets a connection in; where it is full, the longest there of the address that has most leaves.
    pub fn enter(&mut self, socket: TcpStream, peer: SocketAddr, shared: &Shared) {
        let ip = peer.ip().to_canonical();
        let mut ips: Vec<IpAddr> = self.guests.iter().map(|g| g.peer.ip().to_canonical()).collect();
        if !shared.slow.wait(ip, SystemClock.boot()).is_zero() && ips.iter().filter(|other| **other == ip).count() >= MOST_SLOW {
            return;
        }
        if socket.set_nonblocking(true).is_err() {
            return;
        }
        if self.guests.len() >= MOST {
            ips.push(ip);
            match of_the_largest(&ips, |_| true) {
                Some(leaves) if leaves < self.guests.len() => drop(self.guests.remove(leaves)),
                _ => return,
            }
        }
        self.guests.push(Guest { socket, peer, since: Instant::now(), begun: false });
    }

    /// What is waited for: a first byte, or the end of those who have begun.
    pub fn polled(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.guests.iter().map(|g| PollFd::new(g.socket.as_fd(), if g.begun { ENDED } else { PollFlags::POLLIN }))
    }

    /// How long nothing needs to be looked at.
    pub fn rest(&self) -> Option<Duration> {
        let oldest = self.guests.iter().map(|g| g.since.elapsed()).max()?;
        Some(if self.guests.iter().any(|g| g.begun) { TICK } else { PATIENCE.saturating_sub(oldest).max(TICK) })
    }

    /// Those whose request is whole and who need not wait. With encryption nobody sees where a request ends: its first bytes do.
    pub fn ready(&mut self, encrypted: bool, shared: &Shared) -> Vec<Guest> {
        self.head.resize(HEAD, 0);
        let mut out = Vec::new();
        for mut guest in std::mem::take(&mut self.guests) {
            let (ip, late) = (guest.peer.ip().to_canonical(), guest.since.elapsed() > PATIENCE);
            let come = match guest.socket.peek(&mut self.head) {
                Ok(n) if n > 0 => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
                // It has gone.
                _ => continue,
            };
            guest.begun = come > 0;
            if come > 0 && (encrypted || is_whole(&self.head[..come])) {
                if shared.slow.wait(ip, SystemClock.boot()).is_zero() {
                    out.push(guest);
                } else if guest.since.elapsed() < LONGEST && !guest.has_ended() {
                    self.guests.push(guest);
                }
            } else if come == HEAD {
                shared.tell("head", ip, "sends a request without an end; its connection was closed");
                shared.failed(ip);
            } else if !late && !guest.has_ended() {
                self.guests.push(guest);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener};

    use gstreamer_rtsp_server::RTSPSessionPool;
    use nix::sys::eventfd::EventFd;

    use super::*;
    use crate::net::AllowList;

    #[test]
    fn who_must_wait_and_has_gone_keeps_the_thread_no_longer_busy() {
        crate::gst::init().unwrap();
        let shared = Shared::new(AllowList::default(), 4, EventFd::new().unwrap(), RTSPSessionPool::new());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut lobby = Lobby::default();
        for _ in 0..12 {
            shared.failed(Ipv4Addr::LOCALHOST.into());
        }
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        client.write_all(b"DESCRIBE rtsp://camera/stream RTSP/1.0\r\nCSeq: 1\r\n\r\n").unwrap();
        lobby.enter(socket, peer, &shared);
        let wakes = |lobby: &Lobby| poll(&mut lobby.polled().collect::<Vec<_>>(), PollTimeout::MAX).unwrap();
        assert_eq!(wakes(&lobby), 1);
        assert!(lobby.ready(false, &shared).is_empty() && lobby.guests.len() == 1, "it waits");
        let at_once = |lobby: &Lobby| poll(&mut lobby.polled().collect::<Vec<_>>(), PollTimeout::ZERO).unwrap();
        assert_eq!(at_once(&lobby), 0, "what has come wakes nobody");
        drop(client);
        // Its end wakes once.
        assert_eq!(wakes(&lobby), 1);
        assert!(lobby.ready(false, &shared).is_empty() && lobby.guests.is_empty(), "it has gone");
    }
}
