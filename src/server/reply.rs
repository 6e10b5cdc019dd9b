//! Owns answers on their way back: the mailbox through which any thread reaches thread `server`. Never writes to a socket; no call here blocks for longer than a short lock.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::answer::Answer;
use crate::error::{Error, Kind, Result};
use crate::verbs;

/// Events that may wait for thread `server`; it normally takes each within a millisecond.
const EVENTS_MAX: usize = 256;

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
    /// The line's `id=`, which the answer carries whatever it is.
    id: Option<String>,
    mailbox: Arc<Mailbox>,
    sent: bool,
}

impl Reply {
    pub(super) fn new(target: Target, line: &str, mailbox: Arc<Mailbox>) -> Self {
        Reply { target, id: verbs::id_of(line).map(str::to_owned), mailbox, sent: false }
    }

    /// Sends the answer. Never blocks and never fails: a client that has gone is no concern of the command.
    pub fn send(mut self, answer: Answer) {
        self.sent = true;
        self.post(answer);
    }

    fn post(&self, answer: Answer) {
        self.mailbox.post(Message::Answer(self.target, answer.with_id(self.id.as_deref())));
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.sent {
            self.post(Answer::error(Kind::Io, "the command ended without an answer, the log says why"));
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
    use super::super::answer::Wire;
    use super::*;

    #[test]
    fn a_dropped_reply_still_answers() {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        drop(Reply::new(Target::Connection(7), "save id=3", Arc::clone(&mailbox)));
        let mut got = VecDeque::new();
        mailbox.empty(&mut got);
        let Message::Answer(Target::Connection(7), answer) = &got[0] else { panic!("{got:?}") };
        let mut said = Vec::new();
        Wire::default().append(answer, &mut said);
        let said = String::from_utf8(said).unwrap();
        assert!(!answer.ok && said.starts_with("ERR io ") && said.ends_with(" id=3\n"), "{said}");
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
