//! Owns answers on their way back: what a handler says, the bytes it becomes, and the mailbox through which any thread
//! reaches thread `server`. Never writes to a socket; no call here blocks for longer than a short lock.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Error, Kind, Result};

/// Longest ordinary answer, its newline included (bytes): what one `recv` of every known client takes in.
pub const ANSWER_MAX: usize = 240;
/// Longest answer marked `long` (bytes).
const LONG_MAX: usize = 64 * 1024;
/// Events that may wait for thread `server`; it normally takes each within a millisecond.
const EVENTS_MAX: usize = 256;

/// One answer line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The text without a newline. Whatever is not printable ASCII is sent as `?`; a `long` one keeps letters of other scripts.
    pub line: String,
    /// False stops the lines that follow on the same connection.
    pub ok: bool,
    /// May exceed [`ANSWER_MAX`] (JSON, the names of files).
    pub long: bool,
    /// For the log: why a line was refused. What failed for another reason is told by whoever it failed for.
    pub refused: Option<String>,
}

impl Answer {
    /// A success.
    pub fn ok(line: impl Into<String>) -> Self {
        Answer { line: line.into(), ok: true, long: false, refused: None }
    }
    /// A failure, worded as the protocol wants it.
    pub fn failed(line: impl Into<String>) -> Self {
        Answer { line: line.into(), ok: false, long: false, refused: None }
    }
    /// A failure that the client's words are to blame for.
    pub fn refused(line: impl Into<String>, why: impl Into<String>) -> Self {
        Answer { refused: Some(why.into()), ..Answer::failed(line) }
    }
    /// A success that may be longer than one segment.
    pub fn long(line: impl Into<String>) -> Self {
        Answer { line: line.into(), ok: true, long: true, refused: None }
    }
    /// `ERR <word> text`.
    pub(super) fn error(kind: Kind, text: &str) -> Self {
        Answer::failed(format!("ERR {} {text}", kind.word()))
    }
}

/// How lines look on one port.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wire {
    /// Whole length of every line (bytes), newline and NUL included, reached with blanks; 0: as long as it is.
    pub pad: usize,
    /// A NUL follows the newline.
    pub nul: bool,
}

impl Wire {
    /// Appends `line` as it goes over the wire.
    pub(super) fn append(self, line: &str, long: bool, out: &mut Vec<u8>) {
        let ending = 1 + usize::from(self.nul);
        let most = if self.pad > 0 {
            self.pad
        } else if long {
            LONG_MAX
        } else {
            ANSWER_MAX
        };
        let from = out.len();
        for c in line.trim_end_matches(['\n', '\r']).chars() {
            let room = from + most - ending - out.len();
            match c {
                ' '..='~' if room > 0 => out.push(c as u8),
                // A folder's name as it is, in UTF-8, or nobody finds the file; every other answer is plain ASCII.
                _ if long && !c.is_control() && c.len_utf8() <= room => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
                _ if room > 0 => out.push(b'?'),
                _ => break,
            }
        }
        if self.pad > 0 {
            out.resize(from + self.pad - ending, b' ');
        }
        out.push(b'\n');
        if self.nul {
            out.push(0);
        }
    }
}

/// Whom an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The connection of this number.
    Connection(u64),
    /// A datagram's sender, through the socket of this index.
    Datagram(usize, SocketAddr),
}

/// What reaches thread `server` from elsewhere.
#[derive(Debug)]
pub(super) enum Message {
    Answer(Target, Answer),
    Event(String),
    /// So many events came at once that some are lost.
    EventsLost,
}

#[derive(Debug, Default)]
struct Inside {
    messages: VecDeque<Message>,
    events: usize,
    /// The thread that empties the box; it needs no waking.
    reader: Option<ThreadId>,
}

/// The mailbox of thread `server`.
#[derive(Debug)]
pub(super) struct Mailbox {
    inside: Mutex<Inside>,
    /// Readable while something waits that the thread may not have seen.
    pub bell: EventFd,
}

impl Mailbox {
    pub(super) fn new() -> Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(|e| {
            Error::caused(Kind::Io, "open an eventfd for the trigger port; if too many files are open, raise LimitNOFILE", e)
        })?;
        Ok(Mailbox { inside: Mutex::default(), bell })
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Nothing that can panic runs under this lock.
        self.inside.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn read_by(&self, thread: Option<ThreadId>) {
        self.lock().reader = thread;
    }

    /// Rings without a message.
    pub(super) fn wake(&self) {
        // The counter of an eventfd overflows at 2^64; a full one rings already.
        let _ = self.bell.write(1);
    }

    pub(super) fn post(&self, message: Message) {
        let mut inside = self.lock();
        if matches!(message, Message::Event(_)) {
            if inside.events == EVENTS_MAX {
                inside.events += 1;
                inside.messages.push_back(Message::EventsLost);
            }
            if inside.events > EVENTS_MAX {
                return;
            }
            inside.events += 1;
        }
        let first = inside.messages.is_empty();
        inside.messages.push_back(message);
        let own = inside.reader == Some(std::thread::current().id());
        drop(inside);
        // Whoever put the first message in has rung already for all that follow.
        if first && !own {
            self.wake();
        }
    }

    /// Moves everything that waits into `into`.
    pub(super) fn empty(&self, into: &mut VecDeque<Message>) {
        let mut inside = self.lock();
        inside.events = 0;
        into.append(&mut inside.messages);
    }
}

/// The way back to one client. May be moved to any thread; dropping it unsent answers that the command failed.
#[derive(Debug)]
pub struct Reply {
    target: Target,
    mailbox: Arc<Mailbox>,
    sent: bool,
}

impl Reply {
    pub(super) fn new(target: Target, mailbox: Arc<Mailbox>) -> Self {
        Reply { target, mailbox, sent: false }
    }

    /// Sends the answer. Never blocks and never fails: a client that has gone is no concern of the command.
    pub fn send(mut self, answer: Answer) {
        self.sent = true;
        self.mailbox.post(Message::Answer(self.target, answer));
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.sent {
            let answer = Answer::error(Kind::Io, "the command ended without an answer, the log says why");
            self.mailbox.post(Message::Answer(self.target, answer));
        }
    }
}

/// Tells subscribers what happens.
#[derive(Debug, Clone)]
pub struct Notifier(pub(super) Arc<Mailbox>);

impl Notifier {
    /// Sends one line to every subscriber. Never blocks; a subscriber that does not keep up is dropped.
    pub fn publish(&self, line: impl Into<String>) {
        self.0.post(Message::Event(line.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(pad: usize, nul: bool, line: &str, long: bool) -> Vec<u8> {
        let mut out = Vec::new();
        Wire { pad, nul }.append(line, long, &mut out);
        out
    }

    #[test]
    fn an_answer_is_one_ascii_line_of_at_most_240_bytes() {
        assert_eq!(wire(0, false, "Saved /t\u{fc}r/\x07a\nb.jpg\n", false), b"Saved /t?r/?a?b.jpg\n");
        assert_eq!(wire(0, false, "Saved /t\u{fc}r/\x07a\nb.jpg\n", true), "Saved /t\u{fc}r/?a?b.jpg\n".as_bytes());
        let long = "x".repeat(1000);
        assert_eq!(wire(0, false, &long, false).len(), ANSWER_MAX);
        assert_eq!(wire(0, false, &long, true).len(), 1001);
        assert_eq!(wire(0, false, &"x".repeat(100_000), true).len(), LONG_MAX);
    }

    #[test]
    fn a_fixed_length_counts_the_newline_and_the_nul() {
        assert_eq!(wire(8, false, "DAY", false), b"DAY    \n");
        assert_eq!(wire(8, true, "DAY", false), b"DAY   \n\0");
        assert_eq!(wire(8, true, "0123456789", true), b"012345\n\0");
        assert_eq!(wire(0, true, "DAY", false), b"DAY\n\0");
    }

    #[test]
    fn a_dropped_reply_still_answers() {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        drop(Reply::new(Target::Connection(7), Arc::clone(&mailbox)));
        let mut got = VecDeque::new();
        mailbox.empty(&mut got);
        assert!(
            matches!(&got[0], Message::Answer(Target::Connection(7), a) if !a.ok && a.line.starts_with("ERR io ")),
            "{got:?}"
        );
    }

    #[test]
    fn a_flood_of_events_is_cut_and_said() {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let notifier = Notifier(Arc::clone(&mailbox));
        (0..EVENTS_MAX * 3).for_each(|i| notifier.publish(i.to_string()));
        let mut got = VecDeque::new();
        mailbox.empty(&mut got);
        assert_eq!(got.len(), EVENTS_MAX + 1);
        assert!(matches!(got.back(), Some(Message::EventsLost)));
    }
}
