//! Owns what an answer is and the bytes it becomes: which parts stay where it must be shortened, the `id=`, fixed lengths. Pure; any
//! thread.

use std::path::Path;

use crate::error::Kind;
use crate::export::keys::FOLDER;

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
}
