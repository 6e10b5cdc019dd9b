//! Owns the question whose a port is: the process that has it, as far as `/proc` shows it to our user. Never touches a socket. Any
//! thread.

use std::fs;

/// `TCP_LISTEN` of the kernel's `net/tcp_states.h`.
const LISTEN: &str = "0A";

/// The process that listens on a TCP port or has a UDP port; `None` where there is none or it may not be seen.
pub(super) fn of(port: u16, tcp: bool) -> Option<u32> {
    let tables = if tcp { ["tcp", "tcp6"] } else { ["udp", "udp6"] };
    let text: String = tables.iter().filter_map(|t| fs::read_to_string(format!("/proc/net/{t}")).ok()).collect();
    let sockets: Vec<String> = text.lines().filter_map(|row| socket(row, port, tcp)).collect();
    let processes = || fs::read_dir("/proc").into_iter().flatten().flatten();
    processes().filter(|_| !sockets.is_empty()).find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(process.path().join("fd")).ok()?.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        open.any(|to| sockets.iter().any(|s| to.as_os_str() == s.as_str())).then_some(pid)
    })
}

/// The socket of one row of `/proc/net/tcp` or its brothers, as a descriptor's link names it: columns are number, local, remote,
/// state, queues, timer, retransmits, user, timeout, inode (proc(5)).
fn socket(row: &str, port: u16, tcp: bool) -> Option<String> {
    let words: Vec<&str> = row.split_whitespace().collect();
    let own = u16::from_str_radix(words.get(1)?.rsplit(':').next()?, 16).ok()?;
    (own == port && (!tcp || words.get(3) == Some(&LISTEN))).then(|| words.get(9).map(|inode| format!("socket:[{inode}]")))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn whose_a_port_is_can_be_seen() {
        let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("[::1]:0").ok());
        let port = tcp.local_addr().unwrap().port();
        assert_eq!(of(port, true), Some(std::process::id()));
        if let Some(port) = udp.and_then(|s| Some((s.local_addr().ok()?.port(), s))) {
            assert_eq!(of(port.0, false), Some(std::process::id()));
        }
        drop(tcp);
        assert_eq!(of(port, true), None);
    }
}
