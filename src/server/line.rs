//! Owns the framing of the trigger port: bytes and instants in, lines and the next deadline out. Never touches a socket or
//! a clock and never knows what a command does. Pure; used on thread `server`.
//!
//! The rules and the clients that force them are in `docs/reference/protocol.md`.

use std::collections::VecDeque;
use std::time::Duration;

use super::image::{Verdict, judge};
use super::telnet::Telnet;
use crate::clock::BootUs;
use crate::verbs::{self, Spec};

/// Longest line (bytes), terminator not counted.
pub const LINE_MAX: usize = 1024;
/// Wait after a typed byte when the text is already a command, and when it is not yet one.
const TYPED_COMMAND: Duration = Duration::from_secs(2);
const TYPED_OTHER: Duration = Duration::from_secs(10);
/// A line that trickles in for longer than this is given up: its sender must not hold a place for ever.
const LINE_TIME: Duration = Duration::from_secs(60);
/// Silence after which the rest of a line that was too long counts as over, where the connection stays open.
const SKIP_END: Duration = Duration::from_secs(2);

/// How one connection is framed.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Silence that completes an unterminated line.
    pub idle: Duration,
    /// The verbs, for what the table says of the framing of their lines.
    pub verbs: &'static [Spec],
    /// Verbs that can run at once do so.
    pub at_once: bool,
    /// Most lines of the connection; where it stays open: most lines waiting.
    pub lines: usize,
    /// The connection stays open after an answer; then blank input is a heartbeat and is not answered.
    pub stays_open: bool,
}

/// What came out of the bytes, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A line of printable ASCII without blanks at its ends. Empty only when all input was blank or binary.
    Line {
        /// The text.
        text: String,
        /// Arrival of its first byte.
        first: BootUs,
    },
    /// A line longer than [`LINE_MAX`].
    TooLong,
    /// A line that was not finished within a minute.
    TooSlow,
    /// More lines than may wait.
    TooMany,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Between lines.
    Start,
    /// In a line that may be a PLC's string image.
    Image,
    /// In a line of text.
    Text,
    /// In the rest of a line already answered by an error.
    Skip,
    /// In the stale bytes after an image; so many may follow.
    Tail(usize),
    /// Behind a line with a body: nothing is a line any more. `true` right behind a CR, whose LF belongs to the line.
    Body(bool),
    /// Nothing more is taken.
    Done,
}

/// The framing state of one connection.
#[derive(Debug)]
pub struct Framer {
    rules: Rules,
    telnet: Telnet,
    mode: Mode,
    /// Bytes of the current line, at most [`LINE_MAX`] plus an image's head.
    line: Vec<u8>,
    /// Arrival of the line's first byte and of the newest byte of all.
    first: BootUs,
    last: BootUs,
    /// The line's first segment was a single byte.
    typed: bool,
    /// The line began in the current segment.
    began_here: bool,
    /// Bytes received, telnet negotiation not counted.
    received: u64,
    /// Input that came to no line (blank or binary) and its arrival, until there is a line.
    nothing: Option<BootUs>,
    /// `nothing` holds more than blanks.
    binary: bool,
    total: usize,
    out: VecDeque<Item>,
    /// The beginning of a body, at most what came in the segment of its line.
    body: Vec<u8>,
}

/// LF, CR and NUL end a line; their pairs leave an empty line, which is skipped.
fn ends(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r' | 0)
}

/// Bytes that may stand between lines without meaning anything.
fn blank(byte: u8) -> bool {
    ends(byte) || matches!(byte, b' ' | b'\t')
}

fn graphic(byte: u8) -> bool {
    (0x21..=0x7E).contains(&byte)
}

/// Cuts everything but 0x21–0x7E off both ends.
fn trim(bytes: &[u8]) -> &[u8] {
    let from = bytes.iter().position(|&b| graphic(b)).unwrap_or(bytes.len());
    let to = bytes.iter().rposition(|&b| graphic(b)).map_or(from, |i| i + 1);
    &bytes[from..to]
}

/// Trimmed text; a tab inside is a blank and any other odd byte inside a `?`, which no command word and no option holds.
fn clean(bytes: &[u8]) -> String {
    let letter = |&b: &u8| match b {
        b'\t' => ' ',
        0x20..=0x7E => char::from(b),
        _ => '?',
    };
    trim(bytes).iter().map(letter).collect()
}

impl Framer {
    /// A connection that has received nothing.
    pub fn new(rules: Rules) -> Self {
        Framer {
            rules,
            telnet: Telnet::default(),
            mode: Mode::Start,
            line: Vec::new(),
            first: BootUs(0),
            last: BootUs(0),
            typed: false,
            began_here: false,
            received: 0,
            nothing: None,
            binary: false,
            total: 0,
            out: VecDeque::new(),
            body: Vec::new(),
        }
    }

    /// One segment and its arrival.
    pub fn feed(&mut self, bytes: &[u8], now: BootUs) {
        let silence = now.since(self.last);
        match self.mode {
            Mode::Tail(_) if silence >= self.rules.idle => self.mode = Mode::Start,
            Mode::Skip if silence >= SKIP_END => self.mode = Mode::Start,
            _ => {}
        }
        if silence >= self.rules.idle {
            // A sequence comes in one piece, or nearly: what follows is not part of one that was left open.
            self.telnet = Telnet::Plain;
        }
        self.began_here = false;
        let before = self.received;
        for (i, &raw) in bytes.iter().enumerate() {
            if let Mode::Body(behind_cr) = self.mode {
                let lf = usize::from(behind_cr && raw == b'\n');
                self.mode = Mode::Body(false);
                self.body.extend_from_slice(&bytes[i + lf..]);
                break;
            }
            self.last = now;
            if let Some(b) = self.telnet.pass(raw) {
                self.received += 1;
                self.push(b, now);
            }
        }
        if self.collecting() {
            if self.began_here {
                self.typed = self.received - before == 1;
            }
            if !self.typed && self.is_at_once() {
                self.finish();
            }
        }
    }

    /// The deadline has come (calling early does nothing).
    pub fn quiet(&mut self, now: BootUs) {
        if self.deadline().is_none_or(|due| now < due) {
            return;
        }
        if self.collecting() && now.since(self.last) < self.wait() {
            self.fail(Item::TooSlow);
            return;
        }
        if self.leaves_telnet_open() {
            self.telnet = Telnet::Plain;
            self.binary = true;
            self.note_nothing(self.last);
        }
        self.settle(now);
        if self.answers_nothing() {
            self.push_nothing();
        }
    }

    /// No more bytes will come. A connection that never held a line gets an empty one.
    pub fn end(&mut self, now: BootUs) {
        self.settle(now);
        if self.total == 0 && self.mode != Mode::Done && self.mode != Mode::Skip {
            self.nothing.get_or_insert(now);
            self.push_nothing();
        }
        if !self.is_body() {
            self.mode = Mode::Done;
        }
    }

    /// The next line or error, in order of arrival.
    pub fn next_item(&mut self) -> Option<Item> {
        self.out.pop_front()
    }

    /// Forgets the lines that wait and takes no more.
    pub fn close(&mut self) {
        self.out.clear();
        self.mode = Mode::Done;
    }

    /// When to call [`Framer::quiet`], unless more bytes come before.
    pub fn deadline(&self) -> Option<BootUs> {
        if self.collecting() {
            Some((self.last + self.wait()).min(self.first + LINE_TIME))
        } else if self.answers_nothing() || self.leaves_telnet_open() {
            Some(self.last + self.rules.idle)
        } else {
            None
        }
    }

    /// True while a line has begun and not ended.
    pub fn collecting(&self) -> bool {
        matches!(self.mode, Mode::Image | Mode::Text)
    }

    /// True once a line with a body has come: what follows it is not for the framing, and is not to be read here.
    pub fn is_body(&self) -> bool {
        matches!(self.mode, Mode::Body(_))
    }

    /// What of the body came together with its line, once; and whether a LF that comes next still belongs to the line.
    pub fn take_body(&mut self) -> Option<(Vec<u8>, bool)> {
        let Mode::Body(behind_cr) = self.mode else { return None };
        self.mode = Mode::Done;
        Some((std::mem::take(&mut self.body), behind_cr))
    }

    /// True when lines wait.
    pub fn has_items(&self) -> bool {
        !self.out.is_empty()
    }

    /// True while nothing but blanks and telnet negotiation came.
    pub fn is_silent(&self) -> bool {
        self.total == 0 && !self.binary && !self.collecting() && self.mode != Mode::Done
    }

    /// True when no further byte can have an effect.
    pub fn is_done(&self) -> bool {
        self.mode == Mode::Done
    }

    fn push(&mut self, b: u8, now: BootUs) {
        match self.mode {
            Mode::Start if ends(b) => self.note_nothing(now),
            Mode::Start => {
                self.mode = Mode::Image;
                (self.first, self.typed, self.began_here) = (now, false, true);
                self.line.clear();
                self.line.push(b);
                self.recognise(now);
            }
            Mode::Image => {
                self.line.push(b);
                self.recognise(now);
            }
            Mode::Text if ends(b) => {
                let body = self.has_body();
                self.finish();
                if body {
                    self.mode = Mode::Body(b == b'\r');
                }
            }
            Mode::Text if self.line.len() >= LINE_MAX => self.fail(Item::TooLong),
            Mode::Text => {
                self.line.push(b);
            }
            Mode::Skip if ends(b) => self.mode = Mode::Start,
            Mode::Tail(left) if left > 0 && (0x20..=0x7E).contains(&b) => self.mode = Mode::Tail(left - 1),
            Mode::Tail(_) => {
                self.mode = Mode::Start;
                self.push(b, now);
            }
            // Reached only where bytes are read once more; all others go there in one piece.
            Mode::Body(_) => self.body.push(b),
            Mode::Skip | Mode::Done => {}
        }
    }

    fn recognise(&mut self, now: BootUs) {
        match judge(&self.line, false, LINE_MAX) {
            Verdict::More => {}
            Verdict::Not => self.as_text(now),
            Verdict::Whole { from, len, tail } => self.unwrap_image(from, len, tail),
        }
    }

    fn unwrap_image(&mut self, from: usize, len: usize, tail: usize) {
        self.line.truncate(from + len);
        self.line.drain(..from);
        self.finish();
        if self.mode == Mode::Start {
            self.mode = Mode::Tail(tail);
        }
    }

    /// What looked like the head of an image was text: its bytes are read once more. They are at most an image long, and a
    /// second reading starts behind the first byte, so this ends.
    fn as_text(&mut self, now: BootUs) {
        self.mode = Mode::Text;
        if !self.line.iter().any(|&b| ends(b)) && self.line.len() <= LINE_MAX {
            return;
        }
        let raw = std::mem::take(&mut self.line);
        let began = self.first;
        let (head, rest) = raw.split_at(1);
        self.line.extend(head);
        for &b in rest {
            self.push(b, now);
            // Which of the bytes came in which segment is not kept; all carry the arrival of the first.
            if self.collecting() {
                self.first = self.first.min(began);
            }
        }
    }

    /// Completes what stands there because nothing follows it.
    fn settle(&mut self, now: BootUs) {
        // A second reading may find a head again, each time in a shorter rest.
        while self.mode == Mode::Image {
            match judge(&self.line, true, LINE_MAX) {
                Verdict::Whole { from, len, tail } => self.unwrap_image(from, len, tail),
                _ => self.as_text(now),
            }
        }
        if self.mode == Mode::Text {
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.mode = Mode::Start;
        let text = clean(&self.line);
        if text.is_empty() {
            self.binary |= !self.line.iter().all(|&b| blank(b)) && self.total == 0;
            self.note_nothing(self.first);
        } else {
            self.emit(Item::Line { text, first: self.first });
        }
        self.line.clear();
    }

    fn emit(&mut self, item: Item) {
        self.nothing = None;
        self.binary = false;
        self.total += 1;
        if self.rules.stays_open {
            if self.out.len() < self.rules.lines {
                self.out.push_back(item);
            } else if self.out.back() != Some(&Item::TooMany) {
                self.out.push_back(Item::TooMany);
            }
        } else {
            self.out.push_back(item);
            if self.total >= self.rules.lines {
                self.mode = Mode::Done;
            }
        }
    }

    fn fail(&mut self, item: Item) {
        self.line.clear();
        self.mode = Mode::Skip;
        self.emit(item);
        if !self.rules.stays_open {
            self.mode = Mode::Done;
        }
    }

    fn note_nothing(&mut self, at: BootUs) {
        if self.total == 0 {
            self.nothing.get_or_insert(at);
        }
    }

    /// Input that came to nothing is answered once: all of it where the connection is for one answer, binary only where
    /// it stays open.
    fn answers_nothing(&self) -> bool {
        self.total == 0
            && self.nothing.is_some()
            && (self.binary || !self.rules.stays_open)
            && matches!(self.mode, Mode::Start | Mode::Tail(_))
    }

    /// A telnet sequence was begun where a line could begin, and its end is not here: no line will ever come of it.
    fn leaves_telnet_open(&self) -> bool {
        self.telnet.is_open() && self.total == 0 && matches!(self.mode, Mode::Start | Mode::Tail(_))
    }

    fn push_nothing(&mut self) {
        if let Some(first) = self.nothing {
            self.emit(Item::Line { text: String::new(), first });
        }
    }

    /// The verb the line begins with.
    fn verb(&self) -> Option<&'static Spec> {
        verbs::named(self.rules.verbs, trim(&self.line).split(|&b| b == b' ').next().unwrap_or(&[]))
    }

    /// The line begins with a verb that has a body behind its line.
    fn has_body(&self) -> bool {
        self.verb().is_some_and(|v| v.body)
    }

    /// The line is one of the verbs that run at once. A blank behind it promises an argument.
    fn is_at_once(&self) -> bool {
        let from = self.line.iter().position(|&b| graphic(b)).unwrap_or(self.line.len());
        let to = self.line.iter().rposition(|&b| graphic(b) || b == b' ').map_or(from, |i| i + 1);
        let word = self.line.get(from..to).unwrap_or(&[]);
        self.rules.at_once && verbs::named(self.rules.verbs, word).is_some_and(|v| v.at_once)
    }

    /// Silence that ends the line.
    fn wait(&self) -> Duration {
        // Only the first byte of an image's head can have been typed, and no key alone types what is not visible.
        if !self.typed || trim(&self.line).is_empty() || (self.mode == Mode::Image && self.line.len() > 1) {
            return self.rules.idle;
        }
        // A byte-wise gateway may still be sending an argument, so even such a word waits for a short silence.
        if self.is_at_once() {
            return self.rules.idle;
        }
        if self.verb().is_some() { TYPED_COMMAND } else { TYPED_OTHER }
    }
}

#[cfg(test)]
mod tests;
