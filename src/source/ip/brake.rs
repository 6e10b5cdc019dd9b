//! Owns the brake on a description without end: the library takes one of any length, and cannot be interrupted while it does. What
//! arrives from the network and stays in memory before a camera has described its stream is such a description; its connection is shut
//! then, from outside. Looked at by the capture thread, a few times a second and only while a camera is being connected.

use std::fs;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::RawFd;

use nix::sys::socket::{Shutdown, SockaddrStorage, getpeername, shutdown};

use crate::health;

/// More than any description (bytes); the program itself makes room for a receiver meanwhile, and others use the network.
const MOST: u64 = 32 << 20;

/// What was in memory, and had arrived, at the beginning (bytes).
pub(super) struct Brake {
    memory: u64,
    arrived: u64,
}

impl Brake {
    pub fn new() -> Brake {
        Brake { memory: health::rss_bytes().unwrap_or(u64::MAX), arrived: arrived().unwrap_or(u64::MAX) }
    }

    /// Whether so much has come and stayed. Either alone means nothing: the ring is being populated, a viewer sends.
    pub fn is_needed(&self) -> bool {
        let more = |now: Option<u64>, before: u64| now.is_some_and(|n| n.saturating_sub(before) > MOST);
        more(health::rss_bytes(), self.memory) && more(arrived(), self.arrived)
    }
}

/// Shuts the connections of this process to that port of that host.
pub(super) fn cut(host: &str, port: u16) {
    let mut addresses = None;
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else { continue };
        let Ok(peer) = getpeername::<SockaddrStorage>(fd) else { continue };
        let four = peer.as_sockaddr_in().map(|p| (IpAddr::V4(p.ip()), p.port()));
        let Some((address, at)) = four.or_else(|| peer.as_sockaddr_in6().map(|p| (p.ip().to_canonical(), p.port()))) else {
            continue;
        };
        if at != port {
            continue;
        }
        // Found out only where there may be such a connection, so that the name has just been found. None: it has gone meanwhile.
        let known: &Vec<IpAddr> = addresses.get_or_insert_with(|| {
            (host, port).to_socket_addrs().map(|all| all.map(|a| a.ip().to_canonical()).collect()).unwrap_or_default()
        });
        if known.is_empty() || known.contains(&address) {
            // One that is closed already needs nothing.
            let _ = shutdown(fd, Shutdown::Both);
        }
    }
}

/// Bytes that have arrived over all networks of this machine.
fn arrived() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/net/netstat").ok()?;
    let mut lines = text.lines().filter(|l| l.starts_with("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split(' ').position(|n| n == "InOctets")?;
    values.split(' ').nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_counted_and_a_connection_can_be_cut() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut server = listener.accept().unwrap().0;
        let before = arrived().unwrap();
        server.write_all(&[0; 10_000]).unwrap();
        client.read_exact(&mut [0; 10_000]).unwrap();
        assert!(arrived().unwrap() >= before + 10_000);
        cut("127.0.0.2", port);
        server.write_all(b"x").unwrap();
        assert_eq!(client.read(&mut [0; 2]).unwrap(), 1, "another host is meant");
        cut("127.0.0.1", port);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert!(!Brake::new().is_needed());
    }
}
