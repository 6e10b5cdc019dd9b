//! Owns answers on their way back: what a handler says, the bytes it becomes, and the mailbox through which any thread
//! reaches thread `server`. Never writes to a socket; no call here blocks for longer than a short lock.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Error, Kind, Result};
use crate::export::keys::FOLDER;
use crate::verbs;

/// Longest ordinary answer, its newline included (bytes): what one `recv` of every known client takes in.
pub const ANSWER_MAX: usize = 240;
/// What stands ahead of prose that reaches to the end of a line.
const WHY: &str = " why=";
/// Longest words ahead of a file's name (bytes).
pub const HEAD_MAX: usize = 36;
/// Longest answer marked `long` (bytes): far beyond the list of 500 files and a `tuning.json` of a mebibyte. Where one is longer, an
/// error takes its place, for a part of a JSON object is none.
pub const LONG_MAX: usize = 4 << 20;
/// The longest answer a datagram holds (bytes): 65,535 less the heads of IPv4 and UDP.
const DATAGRAM_MAX: usize = 65_507;
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
    /// So many bytes at the beginning of `line`, a file's name at their end, stay where the rest must be shortened.
    kept: usize,
    /// Is shortened to [`ANSWER_MAX`] although it is `long`.
    bounded: bool,
    /// The line's `id=`.
    id: Option<String>,
}

impl Answer {
    fn new(line: impl Into<String>, ok: bool) -> Self {
        Answer { line: line.into(), ok, long: false, refused: None, kept: 0, bounded: false, id: None }
    }
    /// A success.
    pub fn ok(line: impl Into<String>) -> Self {
        Answer::new(line, true)
    }
    /// A failure, worded as the protocol wants it.
    pub fn failed(line: impl Into<String>) -> Self {
        Answer::new(line, false)
    }
    /// A failure that the client's words are to blame for.
    pub fn refused(line: impl Into<String>, why: impl Into<String>) -> Self {
        Answer { refused: Some(why.into()), ..Answer::failed(line) }
    }
    /// A success that may be longer than one segment.
    pub fn long(line: impl Into<String>) -> Self {
        Answer { long: true, ..Answer::ok(line) }
    }
    /// A success that names a file: `head` and the file stay whole, `tail` is shortened where the line must be. It must be on a port
    /// with a fixed length, and everywhere where the folder is no deeper than [`FOLDER`]; a deeper folder makes the line longer. The
    /// prose behind ` why=` is what goes in any folder.
    pub fn file(head: &str, file: &Path, tail: &str) -> Self {
        let named = format!("{head}{}", file.display());
        let (prose, usual) = (tail.find(WHY), file.parent().is_some_and(|folder| folder.as_os_str().len() <= FOLDER.len()));
        let kept = named.len() + prose.unwrap_or(0);
        Answer { kept, bounded: usual || prose.is_some(), ..Answer::long(named + tail) }
    }
    /// `ERR <word> text`.
    pub(super) fn error(kind: Kind, text: &str) -> Self {
        Answer::failed(format!("ERR {} {text}", kind.word()))
    }
    /// An event. On a port with a fixed length it ends with a whole word.
    pub(super) fn event(line: &str) -> Self {
        // Long: a deep folder must not cut what stands behind its path.
        Answer { kept: 1, ..Answer::long(line) }
    }
    /// The same with the line's `id=`: at the end of a text, as the first member of JSON.
    pub(super) fn with_id(mut self, id: Option<&str>) -> Self {
        match id {
            Some(id) if self.is_json() => self.line.insert_str(1, &format!("\"id\":\"{id}\",")),
            _ => self.id = id.map(str::to_owned),
        }
        self
    }
    /// Whether the client was refused as a stranger or for its token.
    pub fn is_denied(&self) -> bool {
        self.line.strip_prefix("ERR ").is_some_and(|rest| rest.split(' ').next() == Some(Kind::Denied.word()))
    }
    fn is_json(&self) -> bool {
        self.line.starts_with('{')
    }
}

/// How lines look on one port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire {
    /// Whole length of every line (bytes), newline and NUL included, reached with blanks; 0: as long as it is.
    pub pad: usize,
    /// A NUL follows the newline.
    pub nul: bool,
    /// The longest line there is (bytes).
    most: usize,
}

impl Default for Wire {
    fn default() -> Self {
        Wire { pad: 0, nul: false, most: LONG_MAX }
    }
}

impl Wire {
    /// Lines of a datagram.
    pub(super) const DATAGRAM: Wire = Wire { pad: 0, nul: false, most: DATAGRAM_MAX };

    /// Lines of the port that stays open.
    pub(super) fn fixed(pad: u16, nul: bool) -> Self {
        Wire { pad: usize::from(pad), nul, most: LONG_MAX }
    }

    /// Appends an answer as it goes over the wire.
    pub(super) fn append(self, answer: &Answer, out: &mut Vec<u8>) {
        let ending = 1 + usize::from(self.nul);
        let id = answer.id.as_ref().map_or_else(String::new, |id| format!(" id={id}"));
        let most = match answer.long {
            _ if self.pad > 0 => self.pad,
            true if !answer.bounded => self.most,
            _ => ANSWER_MAX.max(answer.kept + id.len() + ending),
        };
        let room = most - ending;
        let from = out.len();
        if answer.is_json() && answer.line.len() > room {
            let text = format!("the answer has {} bytes, and {room} have room here; ask on the trigger port", answer.line.len());
            let id = id_in(&answer.line).map_or(id, |id| format!(" id={id}"));
            out.extend(fitted("", &format!("ERR usage {text}"), &id, room).bytes());
        } else {
            let line = answer.line.trim_end_matches(['\n', '\r']);
            let (head, tail) = line.split_at_checked(answer.kept).unwrap_or(("", line));
            let [head, tail] = [head, tail].map(|text| printable(text, answer.long));
            out.extend(fitted(&head, &tail, &id, room).bytes());
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

/// The `id` that [`Answer::with_id`] has put into JSON.
fn id_in(json: &str) -> Option<&str> {
    json.strip_prefix("{\"id\":\"")?.split('"').next()
}

/// Printable ASCII; a long answer keeps a folder's name as it is, in UTF-8, or nobody finds the file.
fn printable(text: &str, long: bool) -> String {
    let shown = |c: char| matches!(c, ' '..='~') || (long && !c.is_control() && !c.is_ascii());
    text.chars().map(|c| if shown(c) { c } else { '?' }).collect()
}

/// Head, tail and id in at most `room` bytes: first the tail is shortened, before whole words where there is a head, then the head.
fn fitted(head: &str, tail: &str, id: &str, room: usize) -> String {
    if head.len() + tail.len() + id.len() <= room {
        return format!("{head}{tail}{id}");
    }
    let id = start(id, room);
    let left = room - id.len();
    let head = start(head, left);
    let most = left - head.len();
    if head.is_empty() {
        return format!("{}{id}", start(tail, most));
    }
    if tail.find(WHY).is_some_and(|at| at + WHY.len() <= most) {
        return format!("{head}{}{id}", start(tail, most));
    }
    // A number cut in two would be another number. Sentences about files have their parts behind these.
    let ends = |mark: &'static str, of_it: usize| tail.match_indices(mark).map(move |(at, _)| at + of_it);
    let last = |ends: &mut dyn Iterator<Item = usize>| ends.filter(|at| *at <= most).last();
    let parts = [last(&mut ends(" | ", 0)), last(&mut ends(" (", 0)), last(&mut ends(")(", 1))].into_iter().flatten().max();
    let end = parts.or_else(|| last(&mut ends(" ", 0))).unwrap_or(0);
    format!("{head}{}{id}", &tail[..end])
}

/// The beginning of a text, at most so many bytes.
fn start(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
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
    use super::*;

    fn sent(wire: Wire, answer: &Answer) -> String {
        let mut out = Vec::new();
        wire.append(answer, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn wire(pad: u16, nul: bool, line: &str, long: bool) -> String {
        sent(Wire::fixed(pad, nul), &Answer { long, ..Answer::ok(line) })
    }

    #[test]
    fn an_answer_is_one_ascii_line_of_at_most_240_bytes() {
        assert_eq!(wire(0, false, "Saved /t\u{fc}r/\x07a\nb.jpg\n", false), "Saved /t?r/?a?b.jpg\n");
        assert_eq!(wire(0, false, "Saved /t\u{fc}r/\x07a\nb.jpg\n", true), "Saved /t\u{fc}r/?a?b.jpg\n");
        let long = "x".repeat(1000);
        assert_eq!(wire(0, false, &long, false).len(), ANSWER_MAX);
        assert_eq!(wire(0, false, &long, true).len(), 1001);
    }

    #[test]
    fn a_fixed_length_counts_the_newline_and_the_nul() {
        assert_eq!(wire(8, false, "DAY", false), "DAY    \n");
        assert_eq!(wire(8, true, "DAY", false), "DAY   \n\0");
        assert_eq!(wire(8, true, "0123456789", true), "012345\n\0");
        assert_eq!(wire(0, true, "DAY", false), "DAY\n\0");
    }

    #[test]
    fn the_id_comes_back_in_text_and_in_json_and_is_never_cut_off() {
        let echoed = |answer: &str| sent(Wire::default(), &Answer::ok(answer).with_id(Some("7")));
        assert_eq!(echoed("PONG"), "PONG id=7\n");
        assert_eq!(echoed("{\"ok\":true}"), "{\"id\":\"7\",\"ok\":true}\n");
        let cut = echoed(&"x".repeat(1000));
        assert!(cut.len() == ANSWER_MAX && cut.ends_with("x id=7\n"), "{cut}");
        for pad in 16..60 {
            let line = sent(Wire::fixed(pad, true), &Answer::failed("y".repeat(100)).with_id(Some("0123456789")));
            assert!(line.len() == usize::from(pad) && line.ends_with(" id=0123456789\n\0"), "{line}");
        }
    }

    #[test]
    fn json_is_whole_or_an_error() {
        let json = format!("{{\"a\":\"{}\"}}", "x".repeat(1_000_000));
        assert_eq!(sent(Wire::default(), &Answer::long(json.as_str())).len(), json.len() + 1);
        for wire in [Wire::fixed(128, false), Wire::DATAGRAM] {
            let said = sent(wire, &Answer::long(json.as_str()).with_id(Some("q")));
            assert!(
                said.starts_with("ERR usage the answer has 1000017 bytes, and ") && said.trim_end().ends_with(" id=q"),
                "{said}"
            );
        }
        let more = format!("{{\"a\":\"{}\"}}", "x".repeat(LONG_MAX));
        assert!(sent(Wire::default(), &Answer::long(more)).starts_with("ERR usage "));
    }

    #[test]
    fn a_file_s_name_and_the_id_outlive_the_rest_of_the_sentence() {
        let tail = " | stack of 4 frames | first frame timestamp: 1795175161.643 (age: 3.16s)(export.save_before_s: 3.000 s)";
        let answer = Answer::file("Saved stacked image: ", Path::new("/a/20261120_114601_f81.jpg"), tail).with_id(Some("42"));
        let head = "Saved stacked image: /a/20261120_114601_f81.jpg";
        let on = |pad| sent(Wire::fixed(pad, false), &answer).trim_end().to_string();
        assert_eq!(sent(Wire::default(), &answer), format!("{head}{tail} id=42\n"));
        assert_eq!(on(240), format!("{head}{tail} id=42"));
        let parts = [" | stack of 4 frames", " | first frame timestamp: 1795175161.643", " (age: 3.16s)"];
        let at = |n: usize| format!("{head}{} id=42", parts[..n].concat());
        for (pad, n) in [(141, 3), (122, 2), (110, 1), (76, 1), (70, 0), (55, 0)] {
            assert_eq!(on(pad), at(n), "{pad}");
        }
        // A folder of the usual length keeps the promise of 240 bytes, a deeper one does not lose anything.
        let long = "t".repeat(150);
        let deep = format!("{FOLDER}/a/x.jpg");
        let usual = format!("{FOLDER}/x.jpg");
        let said = |file: &str| sent(Wire::default(), &Answer::file("Saved: ", Path::new(file), &format!(" ({long} | {long})")));
        assert_eq!(said(&usual), format!("Saved: {usual} ({long}\n"));
        assert!(said(&deep).ends_with(&format!("{long})\n")));
        let file = format!("{FOLDER}/deeper/x.mp4");
        let prose = Answer::file("Saved: ", Path::new(&file), &format!(" (7.0 s) ended=disk why={}", "w".repeat(900)));
        let said = sent(Wire::default(), &prose.with_id(Some("7")));
        assert!(said.len() == 240 && said.contains("mp4 (7.0 s) ended=disk why=ww") && said.ends_with("ww id=7\n"), "{said}");
        let deep = format!("/{}/x.mp4", "d".repeat(250));
        let said = sent(Wire::default(), &Answer::file("Saved: ", Path::new(&deep), " ended=disk why=because"));
        assert_eq!(said, format!("Saved: {deep} ended=disk\n"));
        let event = Answer::event("EVENT recorded=/a/b.mp4 seconds=17.0 pictures=176");
        assert_eq!(sent(Wire::fixed(36, false), &event), "EVENT recorded=/a/b.mp4            \n");
    }

    #[test]
    fn a_dropped_reply_still_answers() {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        drop(Reply::new(Target::Connection(7), "save id=3", Arc::clone(&mailbox)));
        let mut got = VecDeque::new();
        mailbox.empty(&mut got);
        let Message::Answer(Target::Connection(7), answer) = &got[0] else { panic!("{got:?}") };
        let said = sent(Wire::default(), answer);
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
