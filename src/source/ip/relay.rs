//! Owns the way to a camera that does not say on which channels of the connection its stream comes: the library would never take a
//! packet then. Stands between the two on this machine, adds the channels to the answer, and bounds heads and bodies; all else goes
//! through as it is. Used only after an attempt in which nothing came. One connection, on the thread `relay`, which ends with it.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::threads::{self, Thread};

/// How long a connection or a write may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon the end is seen (ms).
const LOOK_MS: u16 = 250;
/// The longest head of an answer, and the longest body (bytes): descriptions have a few hundred.
const HEAD: usize = 64 << 10;
const BODY: usize = 1 << 20;

/// See the module's first lines. Ends when it is dropped.
pub(super) struct Relay {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    end: Arc<AtomicBool>,
}

impl Relay {
    /// Begins to wait for the one connection.
    pub fn start(host: String, port: u16) -> crate::error::Result<Relay> {
        use crate::error::{Error, Kind};
        let failed = |e| Error::caused(Kind::Io, "listen for the receiver of this program", e);
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let own = listener.local_addr().map_err(failed)?.port();
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        Thread::Relay.spawn(move || {
            if let Err(e) = carry(listener, &host, port, &ended) {
                log::debug!("The relay to {host} has ended: {e}");
            }
        })?;
        Ok(Relay { port: own, end })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end.store(true, Relaxed);
    }
}

/// Waits until one of them can be read; which.
fn readable<const N: usize>(of: [&dyn AsFd; N], end: &AtomicBool) -> Result<[bool; N]> {
    loop {
        if end.load(Relaxed) {
            return Err(ErrorKind::Interrupted.into());
        }
        let mut polled = of.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        if poll(&mut polled, PollTimeout::from(LOOK_MS))? > 0 {
            return Ok(polled.map(|p| p.any().unwrap_or(true)));
        }
    }
}

fn carry(listener: TcpListener, host: &str, port: u16, end: &AtomicBool) -> Result<()> {
    threads::fault("work");
    readable([&listener], end)?;
    let mut client = listener.accept()?.0;
    drop(listener);
    let at = (host, port).to_socket_addrs()?.next().ok_or(ErrorKind::NotFound)?;
    let mut camera = TcpStream::connect_timeout(&at, PATIENCE)?;
    for side in [&client, &camera] {
        side.set_nodelay(true)?;
        side.set_write_timeout(Some(PATIENCE))?;
    }
    let (mut mender, mut bytes, mut out) = (Mender::default(), vec![0; 64 << 10], Vec::new());
    loop {
        let [from_client, from_camera] = readable([&client, &camera], end)?;
        if from_client {
            let n = client.read(&mut bytes)?;
            camera.write_all(&bytes[..n])?;
            if n == 0 {
                return Ok(());
            }
        }
        if from_camera {
            let n = camera.read(&mut bytes)?;
            out.clear();
            mender.take(&bytes[..n], &mut out)?;
            client.write_all(&out)?;
            if n == 0 {
                return Ok(());
            }
        }
    }
}

/// Reads along what the camera sends.
#[derive(Default)]
struct Mender {
    /// Bytes of a packet or a body that are still to come.
    left: usize,
    /// The beginning of a head.
    head: Vec<u8>,
}

impl Mender {
    fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        while let Some(&first) = bytes.first() {
            if self.left > 0 {
                let (now, later) = bytes.split_at(self.left.min(bytes.len()));
                out.extend_from_slice(now);
                self.left -= now.len();
                bytes = later;
                continue;
            }
            self.head.push(first);
            bytes = &bytes[1..];
            match self.head.as_slice() {
                [b'$', _, high, low] => {
                    self.left = usize::from(u16::from_be_bytes([*high, *low]));
                    out.append(&mut self.head);
                }
                [b'$', ..] => {}
                [letter, ..] if letter.is_ascii_alphabetic() => {
                    if self.head.ends_with(b"\r\n\r\n") {
                        let head = mended(&std::mem::take(&mut self.head));
                        self.left = length(&head)?;
                        out.extend_from_slice(&head);
                    } else if self.head.len() > HEAD {
                        return Err(Error::other("the head of an answer does not end"));
                    }
                }
                // Between two messages some cameras send a blank line or worse; the library knows what to do.
                _ => out.append(&mut self.head),
            }
        }
        Ok(())
    }
}

/// A head with the channels in it, the first two: one stream is asked for.
fn mended(head: &[u8]) -> Vec<u8> {
    let mends = |line: &str| {
        let line = line.to_ascii_lowercase();
        line.starts_with("transport:") && line.contains("/tcp") && !line.contains("interleaved")
    };
    let text = String::from_utf8_lossy(head);
    if !text.split("\r\n").any(mends) {
        return head.to_vec();
    }
    let lines = text.split("\r\n").map(|l| if mends(l) { format!("{l};interleaved=0-1") } else { l.to_string() });
    lines.collect::<Vec<_>>().join("\r\n").into_bytes()
}

/// How long the body behind a head is.
fn length(head: &[u8]) -> Result<usize> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let written = head.lines().find_map(|l| l.strip_prefix("content-length:")).map_or("0", str::trim);
    written.parse().ok().filter(|n| *n <= BODY).ok_or_else(|| Error::other("the body of an answer does not end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_added_and_nothing_else_is_touched() {
        let answer = |transport: &str| {
            format!(
                "RTSP/1.0 200 OK\r\nCSeq: 3\r\nTransport: {transport}\r\nContent-Length: 4\r\n\r\n$\0\0\x09$\0\0\x02ab\r\n$\x01\0\0RTSP/1.0 200 OK\r\n\r\n"
            )
        };
        let through = |text: &str, step: usize| {
            let (mut mender, mut out) = (Mender::default(), Vec::new());
            text.as_bytes().chunks(step).for_each(|c| mender.take(c, &mut out).unwrap());
            String::from_utf8(out).unwrap()
        };
        for step in [1, 7, 1000] {
            let (odd, right) = (answer("RTP/AVP/TCP;unicast"), answer("RTP/AVP/TCP;unicast;interleaved=0-1"));
            assert_eq!(through(&odd, step), right);
            assert_eq!(through(&right, step), right);
            let udp = answer("RTP/AVP;unicast;server_port=1-2");
            assert_eq!(through(&udp, step), udp);
        }
    }

    #[test]
    fn what_has_no_end_is_an_error() {
        let fails = |text: &str| Mender::default().take(text.as_bytes(), &mut Vec::new()).is_err();
        assert!(fails("RTSP/1.0 200 OK\r\nContent-Length: 4000000000\r\n\r\n"));
        assert!(fails(&format!("RTSP/1.0 200 OK\r\n{}", "X: y\r\n".repeat(20_000))));
        assert!(!fails(&format!("RTSP/1.0 200 OK\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(1_000_000))));
    }
}
