//! Owns the opening of listening sockets: both address families, their options, and the words of a failure.
//! Waits for a port of a program that is ending. Never accepts. Runs on the thread that starts the server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt};

use super::owner;
use crate::claim::wait_for_ending;
use crate::error::{Error, Kind, Result};

/// A peer that is switched off without a word is noticed after 60 + 3 × 10 s.
const KEEP_IDLE_S: u32 = 60;
const KEEP_INTERVAL_S: u32 = 10;
const KEEP_COUNT: u32 = 3;

/// [`open_now`], once a program that is ending has let the port go.
fn open(ip: IpAddr, port: u16, only_v6: bool, kind: SockType) -> nix::Result<OwnedFd> {
    let in_use_by = |e: &Errno| (*e == Errno::EADDRINUSE).then(|| owner::of(port, kind == SockType::Stream));
    wait_for_ending(&format!("port {port}"), || open_now(ip, port, only_v6, kind), in_use_by)
}

fn open_now(ip: IpAddr, port: u16, only_v6: bool, kind: SockType) -> nix::Result<OwnedFd> {
    let family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if ip.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &only_v6)?;
    }
    if kind == SockType::Stream {
        // A restart must not wait for the old connections' TIME_WAIT.
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        // Linux hands these on to every accepted connection, which saves five calls on each.
        setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
        setsockopt(&fd, sockopt::KeepAlive, &true)?;
        setsockopt(&fd, sockopt::TcpKeepIdle, &KEEP_IDLE_S)?;
        setsockopt(&fd, sockopt::TcpKeepInterval, &KEEP_INTERVAL_S)?;
        setsockopt(&fd, sockopt::TcpKeepCount, &KEEP_COUNT)?;
    }
    let address = SockaddrStorage::from(SocketAddr::new(ip, port));
    match bind(fd.as_raw_fd(), &address) {
        // A board starts faster than its network, or without one: it listens as soon as the address comes.
        Err(Errno::EADDRNOTAVAIL) if !ip.is_unspecified() => {
            setsockopt(&fd, sockopt::IpFreebind, &true)?;
            bind(fd.as_raw_fd(), &address)?;
            log::warn!("This machine has no address {ip} yet; port {port} waits for it there");
        }
        bound => bound?,
    }
    if kind == SockType::Stream {
        // The kernel's own limit (net.core.somaxconn): a burst waits in the queue instead of repeating its SYN after 1 s.
        listen(&fd, Backlog::MAXALLOWABLE)?;
    }
    Ok(fd)
}

fn refused(e: Errno, ip: IpAddr, port: u16, protocol: &str, key: &str) -> Error {
    let bind = format!("{}.bind", key.split('.').next().unwrap_or(key));
    let why = match e {
        Errno::EADDRINUSE => format!(
            "address in use: another program owns port {port}; stop it (`ss -lnp 'sport = :{port}'` names it) or change {key}"
        ),
        Errno::EACCES => format!("not permitted: ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher {key}"),
        Errno::EMFILE | Errno::ENFILE => "too many open files; raise LimitNOFILE".to_owned(),
        _ => format!("check {bind} and {key}"),
    };
    Error::caused(Kind::Io, format!("listen on {} ({protocol}): {why}", SocketAddr::new(ip, port)), std::io::Error::from(e))
}

/// Opens the sockets of one port, each through `open`; with port 0 the later ones take the port the first one got.
fn every<T>(
    addresses: &[IpAddr],
    port: u16,
    key: &str,
    kind: SockType,
    made: impl Fn(OwnedFd) -> T,
    bound: impl Fn(&T) -> std::io::Result<SocketAddr>,
) -> Result<Vec<T>> {
    let protocol = if kind == SockType::Stream { "TCP" } else { "UDP" };
    if addresses.is_empty() {
        // One IPv6 socket serves both families; a kernel without IPv6 gets the other one.
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        match open(any, port, false, kind) {
            Ok(fd) => return Ok(vec![made(fd)]),
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL | Errno::ENOPROTOOPT) => {}
            Err(e) => return Err(refused(e, any, port, protocol, key)),
        }
        return every(&[IpAddr::V4(Ipv4Addr::UNSPECIFIED)], port, key, kind, made, bound);
    }
    // `::` alone serves both families; beside `0.0.0.0` it must leave IPv4 alone.
    let v4_apart = addresses.contains(&IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mut sockets: Vec<T> = Vec::new();
    for &ip in addresses {
        let port = match sockets.first() {
            Some(first) => bound(first).map_err(|e| Error::caused(Kind::Io, "ask a socket for its port", e))?.port(),
            None => port,
        };
        let only_v6 = v4_apart || !ip.is_unspecified();
        let fd = open(ip, port, only_v6, kind).map_err(|e| refused(e, ip, port, protocol, key))?;
        sockets.push(made(fd));
    }
    Ok(sockets)
}

/// Listeners for `port` on `addresses`, or on all addresses of both families where none are listed. `key` is the
/// configuration key an error names.
pub(crate) fn tcp(addresses: &[IpAddr], port: u16, key: &str) -> Result<Vec<TcpListener>> {
    every(addresses, port, key, SockType::Stream, TcpListener::from, TcpListener::local_addr)
}

/// Sockets for datagrams, as [`tcp`].
pub(crate) fn udp(addresses: &[IpAddr], port: u16, key: &str) -> Result<Vec<UdpSocket>> {
    every(addresses, port, key, SockType::Datagram, UdpSocket::from, UdpSocket::local_addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::getsockopt;

    #[test]
    fn accepted_connections_inherit_no_delay_and_keep_alive() {
        let listener = &tcp(&["127.0.0.1".parse().unwrap()], 0, "network.port").unwrap()[0];
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
        assert!(getsockopt(&accepted, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&accepted, sockopt::TcpKeepIdle).unwrap(), KEEP_IDLE_S);
    }

    #[test]
    fn failures_say_cause_and_cure() {
        let here = ["127.0.0.1".parse().unwrap()];
        let port = tcp(&here, 0, "network.port").unwrap();
        let port = port[0].local_addr().map(|a| (a.port(), port)).unwrap();
        let said = tcp(&here, port.0, "network.port").unwrap_err().to_string();
        assert!(said.contains(&format!("another program owns port {}", port.0)) && said.contains("network.port"), "{said}");
    }

    #[test]
    fn an_address_may_come_later() {
        // 192.0.2.0/24 and 2001:db8::/32 are kept for documentation (RFC 5737, RFC 3849).
        for address in ["192.0.2.1", "2001:db8::1"] {
            let ip: IpAddr = address.parse().unwrap();
            match tcp(&[ip], 0, "network.port") {
                Ok(listeners) => assert_eq!(listeners[0].local_addr().unwrap().ip(), ip),
                Err(e) if ip.is_ipv6() && e.to_string().contains("(os error 97)") => println!("SKIP: no IPv6 here"),
                Err(e) => panic!("{e}"),
            }
        }
        assert_eq!(udp(&["192.0.2.1".parse().unwrap()], 0, "network.udp_port").unwrap().len(), 1);
    }

    #[test]
    fn both_wildcards_stand_side_by_side() {
        let both: Vec<IpAddr> = vec!["::".parse().unwrap(), "0.0.0.0".parse().unwrap()];
        match tcp(&both, 0, "network.port") {
            Ok(s) => assert_eq!(s[0].local_addr().unwrap().port(), s[1].local_addr().unwrap().port()),
            Err(e) if e.to_string().contains("(os error 97)") => println!("SKIP: no IPv6 here"),
            Err(e) => panic!("{e}"),
        }
    }
}
