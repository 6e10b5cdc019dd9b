//! Owns the small client `pastcam send`: one command, one answer, an exit code that can be believed.
//! Never retries: a command that got no answer may have been carried out. Main thread.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::error::{Error, Kind, Result};

/// Time to reach the server.
const CONNECT: Duration = Duration::from_secs(5);
/// Time to answer: at night a picture takes seconds, a camera that is being recovered some more.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest answer taken in [bytes].
const LONGEST: u64 = 1 << 20;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The line, without its end.
    pub line: String,
    /// Whether the command was carried out.
    pub done: bool,
}

/// Takes `HOST`, `HOST:PORT`, `[IPV6]:PORT` or `IPV6` apart; the port is 9999 where none is named.
pub fn address(text: &str) -> Result<(String, u16)> {
    let bad = || Error::new(Kind::Usage, format!("the address must be HOST, HOST:PORT or [IPV6]:PORT, not {text:?}"));
    let port = |p: &str| p.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(bad);
    if let Some(rest) = text.strip_prefix('[') {
        let (host, tail) = rest.split_once(']').ok_or_else(bad)?;
        let port = if tail.is_empty() { 9999 } else { port(tail.strip_prefix(':').ok_or_else(bad)?)? };
        return Ok((host.into(), port));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text.into(), 9999));
    }
    match text.rsplit_once(':') {
        Some((host, p)) if !host.is_empty() => Ok((host.into(), port(p)?)),
        None if !text.is_empty() => Ok((text.into(), 9999)),
        _ => Err(bad()),
    }
}

/// Sends one command and waits for its answer. An error means: no answer.
pub fn send(host: &str, port: u16, command: &str) -> Result<Answer> {
    let what = |step: &str| format!("{step} {host} port {port}");
    let addresses = (host, port).to_socket_addrs().map_err(|e| Error::caused(Kind::Io, what("find"), e))?;
    let mut last = None;
    let mut connected = None;
    for a in addresses {
        match TcpStream::connect_timeout(&a, CONNECT) {
            Ok(s) => {
                connected = Some(s);
                break;
            }
            Err(e) => last = Some(e),
        }
    }
    let Some(mut stream) = connected else {
        return Err(match last {
            Some(e) => Error::caused(Kind::Io, what("reach"), e),
            None => Error::new(Kind::Io, what("find an address of")),
        });
    };
    let failed = |e: std::io::Error| Error::caused(Kind::Io, what("talk to"), e);
    stream.set_read_timeout(Some(ANSWER)).map_err(failed)?;
    stream.write_all(format!("{command}\n").as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    let ended = stream.take(LONGEST).read_to_end(&mut answer);
    // A whole line is an answer, whatever the connection did behind it.
    if !answer.ends_with(b"\n") {
        return Err(match ended {
            Err(e) => Error::caused(Kind::Timeout, what("wait for the answer of"), e),
            Ok(_) => Error::new(Kind::Io, format!("{}: it closed without an answer", what("ask"))),
        });
    }
    let line = String::from_utf8_lossy(&answer).trim_end().to_string();
    let first = line.split_whitespace().next().unwrap_or("");
    let done = !["ERR", "UNKNOWN_COMMAND", "NOT_SAVED", "NO_FRAMES", "NO_DATA"].contains(&first);
    Ok(Answer { line, done })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (text, host, port) in [
            ("cam", "cam", 9999),
            ("cam:80", "cam", 80),
            ("192.168.1.5:9998", "192.168.1.5", 9998),
            ("::1", "::1", 9999),
            ("[fe80::1]:7", "fe80::1", 7),
            ("[::1]", "::1", 9999),
        ] {
            assert_eq!(address(text).unwrap(), (host.to_string(), port), "{text}");
        }
        for bad in ["", ":9", "cam:", "cam:0", "cam:70000", "[::1", "[::1]9"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
