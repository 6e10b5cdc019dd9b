//! Owns the small client behind `pastcam send`: one command, one answer, an exit code that can be believed.
//! Never retries: a command that got no answer may have been carried out. Main thread.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::disk;
use crate::error::{Error, Kind, Result};
use crate::server::LONG_MAX;
use crate::verbs::{Call, DAY, Rights};

/// Time to reach the server.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for the command and its answer, for each picture of a burst: at night one takes seconds, a camera that is being recovered
/// some more.
const ANSWER: Duration = Duration::from_secs(60);
/// Time for a piece of a file to be taken, and for the verdict on it: it is checked, and written to a slow card.
const FILE: Duration = Duration::from_secs(25 * 60);
/// Longest answer taken in bytes.
const LONGEST: usize = LONG_MAX;

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
    exchange(connect(host, port, &find(host, port)?, CONNECT)?, command, None, patience(command), &|step| {
        format!("{step} {host} port {port}")
    })
}

/// How long the answer to this command may take.
fn patience(command: &str) -> Duration {
    Call::parse(command, Rights::ALL)
        .map_or(ANSWER, |call| ANSWER * call.pictures() + Duration::from_secs_f64(call.burst_s().min(DAY)))
}

/// The same at the addresses of `host` that were found, with so much time for all of it.
pub fn send_within(host: &str, port: u16, addresses: &[SocketAddr], command: &str, patience: Duration) -> Result<Answer> {
    let begin = Instant::now();
    let stream = connect(host, port, addresses, patience)?;
    // Something is left even where connecting took all: what has been answered by then counts.
    let left = patience.saturating_sub(begin.elapsed()).max(Duration::from_millis(1));
    exchange(stream, command, None, left, &|step| format!("{step} {host} port {port}"))
}

/// Sends `update` with the file behind its line; `words` are what follows the size.
pub fn send_update(host: &str, port: u16, path: &str, words: &str) -> Result<Answer> {
    let bad = |e| Error::caused(Kind::Usage, format!("read {path}"), e);
    let file = disk::open(path.as_ref()).map_err(bad)?;
    let size = file.metadata().map_err(bad)?.len();
    let command = format!("update {size} {words}");
    let stream = connect(host, port, &find(host, port)?, CONNECT)?;
    exchange(stream, command.trim_end(), Some(file), FILE, &|step| format!("{step} {host} port {port}"))
}

fn find(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let found = (host, port).to_socket_addrs().map_err(|e| Error::caused(Kind::Io, format!("find {host} port {port}"), e))?;
    Ok(found.collect())
}

/// Tries the addresses one after the other, all of them within `patience`.
fn connect(host: &str, port: u16, addresses: &[SocketAddr], patience: Duration) -> Result<TcpStream> {
    let what = |step: &str| format!("{step} {host} port {port}");
    let until = Instant::now() + patience;
    let mut last = None;
    let mut connected = None;
    for (i, a) in addresses.iter().enumerate() {
        // One that is silent leaves time for those behind it.
        let share = until.saturating_duration_since(Instant::now()) / (addresses.len() - i) as u32;
        match TcpStream::connect_timeout(a, share.max(Duration::from_millis(1))) {
            Ok(s) => {
                connected = Some(s);
                break;
            }
            Err(e) => last = Some(e),
        }
    }
    connected.ok_or_else(|| match last {
        Some(e) => Error::caused(Kind::Io, what("reach"), e),
        None => Error::new(Kind::Io, what("find an address of")),
    })
}

/// One command and the first line that comes back, within `patience` of the last byte sent. The end of the connection is not waited for:
/// on the port that stays open it never comes.
fn exchange(
    mut stream: TcpStream,
    command: &str,
    file: Option<File>,
    patience: Duration,
    what: &dyn Fn(&str) -> String,
) -> Result<Answer> {
    let failed = |e: std::io::Error| Error::caused(Kind::Io, what("talk to"), e);
    stream.set_write_timeout(Some(patience)).map_err(failed)?;
    stream.write_all(format!("{command}\n").as_bytes()).map_err(failed)?;
    if let Some(mut file) = file {
        // A refusal comes while the file is still on its way, and then nobody takes the rest: the answer says why.
        let _ = std::io::copy(&mut file, &mut stream);
    }
    // Behind the file: on a slow line that alone may take as long as the verdict.
    let until = Instant::now() + patience;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while !answer.contains(&b'\n') {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(Kind::Timeout, format!("{}: none within {patience:?}", what("wait for the answer of"))));
        }
        stream.set_read_timeout(Some(left)).map_err(failed)?;
        match stream.read(&mut part) {
            Ok(0) => return Err(Error::new(Kind::Io, format!("{}: it closed without an answer", what("ask")))),
            Ok(_) if answer.len() > LONGEST => {
                return Err(Error::new(Kind::Io, format!("{}: its answer has no end", what("ask"))));
            }
            Ok(n) => answer.extend_from_slice(&part[..n]),
            // The loop's head knows whether the time is over.
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(Error::caused(Kind::Io, what("wait for the answer of"), e)),
        }
    }
    let whole = String::from_utf8_lossy(&answer);
    let line = whole.split('\n').next().unwrap_or_default().trim_end().to_string();
    let first = line.split_whitespace().next().unwrap_or("");
    let done = !["ERR", "UNKNOWN_COMMAND", "NOT_SAVED", "NO_FRAMES", "NO_DATA"].contains(&first);
    Ok(Answer { line, done })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn addresses_share_the_time_to_connect() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let patience = Duration::from_secs(20);
        assert!(connect("it", 1, &[closed, open.local_addr().unwrap()], patience).is_ok(), "the second answers");
        let refused = connect("it", 1, &[closed; 3], patience).unwrap_err();
        assert!(refused.to_string().starts_with("reach it port 1: "), "{refused}");
        // Nobody answers at addresses for documentation: whatever the network says of them, they take no longer than was given.
        let (began, silent) = (Instant::now(), "192.0.2.1:9".parse().unwrap());
        let _ = connect("it", 1, &[silent; 8], Duration::from_millis(400));
        assert!(began.elapsed() < Duration::from_millis(8 * 400), "{:?}", began.elapsed());
    }

    #[test]
    fn each_picture_of_a_burst_may_take_as_long_as_one() {
        let s = Duration::from_secs;
        assert_eq!([patience("save jpg"), patience("pastStack count=8"), patience("no such verb")], [s(60); 3]);
        assert_eq!((patience("save count=10"), patience("save count=11 every=30")), (s(600), s(660 + 300)));
    }

    /// Talks to a server that does `serve` once it has read the command.
    fn exchanged(patience: Duration, serve: impl FnOnce(&mut TcpStream) + Send) -> Result<Answer> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut client = listener.accept().unwrap().0;
                client.read_exact(&mut [0; 5]).unwrap();
                serve(&mut client);
            });
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            exchange(stream, "ping", None, patience, &|step| format!("{step} the test"))
        })
    }

    #[test]
    fn the_first_line_is_the_answer_and_the_connection_may_stay_open() {
        let answer = exchanged(Duration::from_secs(60), |client| {
            client.write_all(b"PO").unwrap();
            client.write_all(b"NG   \n\0EVENT").unwrap();
            client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let mut byte = [0];
            let gone = client.read(&mut byte).map_or_else(|e| e.kind() == ErrorKind::ConnectionReset, |n| n == 0);
            assert!(gone, "the client waits for more than the line");
        });
        assert_eq!(answer.unwrap(), Answer { line: "PONG".into(), done: true });
    }

    #[test]
    fn bytes_that_trickle_in_do_not_prolong_the_wait() {
        let answer = exchanged(Duration::from_millis(300), |client| {
            // Ten seconds, each silence shorter than the whole wait.
            for _ in 0..100 {
                if client.write_all(b"x").is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        assert_eq!(answer.unwrap_err().kind, Kind::Timeout);
    }

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
