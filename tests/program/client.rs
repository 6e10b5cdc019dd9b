//! Owns plain clients of the trigger ports: they send bytes and return bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::harness::PATIENCE;

pub fn connect(port: u16) -> TcpStream {
    let s = TcpStream::connect(("127.0.0.1", port)).unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    s.set_write_timeout(Some(PATIENCE)).unwrap();
    s
}

/// Sends one line, reads to the end: the answer without its newline. Fails unless the answer is one whole line.
pub fn ask(port: u16, line: &str) -> String {
    let mut s = connect(port);
    s.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    s.read_to_end(&mut answer).unwrap();
    one_line(&answer)
}

/// The text of exactly one line of printable ASCII.
pub fn one_line(bytes: &[u8]) -> String {
    let text = std::str::from_utf8(bytes).unwrap();
    let line = text.strip_suffix('\n').unwrap_or_else(|| panic!("no newline at the end of {text:?}"));
    assert!(line.bytes().all(|b| (0x20..0x7f).contains(&b)), "{line:?}");
    line.to_string()
}

/// [`ask`] of a program that may not be there yet.
pub fn try_ask(port: u16, line: &str) -> Option<String> {
    let mut s = TcpStream::connect(("127.0.0.1", port)).ok()?;
    s.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    s.write_all(format!("{line}\n").as_bytes()).ok()?;
    let mut answer = String::new();
    s.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then(|| answer.trim_end().to_string())
}

/// Sends these bytes and, with `half_close`, closes the sending half; everything that comes back. A reset on the way counts
/// as the end.
pub fn exchange(port: u16, bytes: &[u8], half_close: bool) -> Vec<u8> {
    let mut s = connect(port);
    // The server may have answered and closed before all of it is written.
    let _ = s.write_all(bytes);
    if half_close {
        let _ = s.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = s.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..n]);
    }
    answer
}

/// Reads one line from a connection that stays open, its newline included.
pub fn read_line(s: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        s.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}
