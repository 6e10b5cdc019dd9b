//! Owns the verbs of the protocol: one table with each verb, its arguments with type and rule, the right it needs, how its line
//! is framed, and one line of help; and [`Call`], a line read by that table. Never carries anything out, never sees a socket, a
//! camera or a file. Pure; any thread.
//!
//! Framing, access, `help`, the protocol page's test and every door read this table and nothing else. A new verb is one row here
//! and its function in `commands`.

mod arg;
mod call;
mod tag;

pub use arg::{Arg, Place, Rule};
pub use call::{Call, ID_MAX, Refused, id_of, token_of, without_token};
pub use tag::Tag;

use crate::error::{Error, Kind, Result};
use crate::format::Format;

/// What a client must be allowed to do before a verb runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Right {
    /// See how things stand.
    Reading = 1,
    /// Take pictures, record.
    Triggering = 2,
    /// List and delete files.
    Files = 4,
    /// Change the camera and the stream.
    Controls = 8,
    /// Replace the system.
    Administration = 16,
}

/// A set of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// Everything.
    pub const ALL: Rights = Rights(31);
    /// Where no token is set: everything but administration.
    pub const OPEN: Rights = Rights(31 - Right::Administration as u8);

    /// Whether the right is in the set.
    pub fn has(self, right: Right) -> bool {
        self.0 & right as u8 != 0
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Which verb.
    pub verb: Verb,
    /// Its word, and the second word where several verbs share the first: `record start`.
    pub text: &'static str,
    /// Its arguments; `id=` and `token=` are everybody's.
    pub args: &'static [Arg],
    /// The right it needs.
    pub right: Right,
    /// What it does, in printable ASCII.
    pub help: &'static str,
    /// Runs as soon as the word stands there, without waiting for a line end.
    pub at_once: bool,
    /// Raw bytes follow its line on the same connection.
    pub body: bool,
    /// A verb of the original service without arguments: old clients expect `UNKNOWN_COMMAND` where it gets one.
    pub original: bool,
}

impl Spec {
    /// A row without arguments that everybody who reads may use.
    pub const fn new(verb: Verb, text: &'static str) -> Spec {
        Spec { verb, text, args: &[], right: Right::Reading, help: "", at_once: false, body: false, original: false }
    }

    /// The first word.
    pub fn word(&self) -> &'static str {
        self.text.split(' ').next().unwrap_or(self.text)
    }

    /// The second word, where several verbs share the first.
    pub fn second(&self) -> Option<&'static str> {
        self.text.split_once(' ').map(|(_, second)| second)
    }

    /// As it is written: `pastStack [jpg] [png] [npy] [before=SECONDS] [count=N] [mode=steady|mean|still] [tag=WORD]`.
    pub fn usage(&self) -> String {
        self.args.iter().fold(self.text.to_string(), |line, arg| line + " " + &arg.usage())
    }

    /// The refusal of a word that fits none of its arguments.
    pub fn slip(&self, word: &str) -> String {
        format!("{} takes {}, not {word}", self.text, self.takes())
    }

    fn key(&self, key: &str) -> Option<&'static Arg> {
        self.args.iter().find(|a| a.place == Place::Key && a.name == key)
    }

    /// What it takes, as a refusal says it: `jpg, png, npy, mp4 and last=`.
    fn takes(&self) -> String {
        let longer = TABLE.iter().filter(|s| self.second().is_none() && s.word() == self.text);
        let second_words = longer.filter_map(Spec::second).map(String::from);
        let list: Vec<String> = second_words.chain(self.args.iter().map(Arg::takes)).collect();
        if list.is_empty() { "only id= and token=".into() } else { join(&list, "and") }
    }
}

/// `a, b and c`
fn join(words: &[impl AsRef<str>], and: &str) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} {and} {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

const fn arg(name: &'static str, place: Place, rule: Rule) -> Arg {
    Arg { name, place, rule }
}

/// Longest time that can be asked for: a day (s).
pub const DAY: f64 = 86_400.0;

/// How far back (s).
pub const BEFORE: Arg = arg("before", Place::Key, Rule::Seconds(0.0, DAY));
/// Frames of a stack, at most what `stack` takes, or pictures of a burst.
pub const COUNT: Arg = arg("count", Place::Key, Rule::Number(1, 256));
/// How the frames become one picture, in the words of `stack`.
pub const MODE: Arg = arg("mode", Place::Key, Rule::Choice(&["steady", "mean", "still"]));
/// Between two pictures of a burst (s).
pub const EVERY: Arg = arg("every", Place::Key, Rule::Seconds(0.0, DAY));
/// Files in a list; 500 names make 60 kB.
pub const LAST: Arg = arg("last", Place::Key, Rule::Number(1, 500));
/// How long (s).
pub const LENGTH: Arg = arg("SECONDS", Place::One, Rule::Seconds(0.1, DAY));
/// The size of a body (bytes).
pub const BYTES: Arg =
    arg("BYTES", Place::One, Rule::Size("the file's size in bytes, and then the file: update BYTES token=WORD"));

const TAG: Arg = arg("tag", Place::Key, Rule::Tag);
// Unknown formats are passed over, as the original service did.
const FORMATS: Arg = arg("FORMAT", Place::Any, Rule::AnyFormat(&Format::ALL));
const KINDS: Arg = arg("FORMAT", Place::Any, Rule::Format(&Format::KEPT));
const FILE: Arg = arg("NAME", Place::One, Rule::Word("the name of one file, as files lists it"));
const CONTROLS: Arg = arg("NAME", Place::Some, Rule::Word("names of controls; controls lists them"));
const PRESET: Arg = arg("NAME", Place::Maybe, Rule::Word("one name, or auto"));
const SETTINGS: Arg = arg("NAME=VALUE", Place::Some, Rule::Pair);
const PERSIST: Arg = arg("persist", Place::Maybe, Rule::Flag);
const VERB: Arg = arg("VERB", Place::Any, Rule::Word("a verb"));

macro_rules! table {
    ($($verb:ident $text:literal $args:tt $right:ident $help:literal $($flag:ident)*;)*) => {
        /// Every verb; where the first word does not tell what is done, the first two do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Verb { $(#[doc = $help] $verb,)* }

        /// The table.
        pub static TABLE: &[Spec] = &[$(Spec {
            args: &$args,
            right: Right::$right,
            help: $help,
            $($flag: true,)*
            ..Spec::new(Verb::$verb, $text)
        },)*];
    };
}

table! {
    Save "save" [FORMATS, COUNT, EVERY, TAG] Triggering "saves the first frame taken at or after the command";
    PastStack "pastStack" [FORMATS, BEFORE, COUNT, MODE, TAG] Triggering "stacks frames around a past moment";
    RecordStart "record start" [Arg { place: Place::Maybe, ..LENGTH }, BEFORE, TAG] Triggering "records from now or from a moment in the ring";
    RecordStop "record stop" [] Triggering "ends the recording and makes the file whole";
    RecordStatus "record status" [] Reading "tells what is being recorded";
    Clip "clip" [LENGTH, TAG] Triggering "makes a recording of the last seconds in the ring";
    Files "files" [KINDS, LAST] Files "lists files, newest first, as JSON";
    Delete "delete" [FILE] Files "deletes one file";
    Update "update" [BYTES] Administration "installs an update of the image, which follows the line" body;
    NightLevel "night_level" [] Reading "tells brightness, threshold and mode" at_once original;
    Health "health" [] Reading "tells memory and swap in use" at_once original;
    Status "status" [] Reading "tells how things stand on one line";
    StatusJson "status json" [] Reading "tells everything as JSON";
    Controls "controls" [] Reading "lists the image controls as JSON";
    Get "get" [CONTROLS] Reading "tells values of image controls";
    Set "set" [SETTINGS, PERSIST] Controls "changes image controls, or keys of video, all or none";
    Reset "reset" [Arg { place: Place::Any, ..CONTROLS }] Controls "gives image controls back to preset and default";
    Preset "preset" [PRESET] Controls "applies a preset, or tells which there are";
    Ping "ping" [] Reading "answers PONG" at_once;
    Version "version" [] Reading "tells the program's version";
    Help "help" [VERB] Reading "names the verbs, or tells what one takes";
    Subscribe "subscribe" [] Reading "sends events from now on; only on the persistent port";
}

impl Verb {
    /// Its row.
    pub fn spec(self) -> &'static Spec {
        // The rows and the names are made from the same list.
        &TABLE[self as usize]
    }
}

/// A row of `table` whose first word this is, whatever the case of its letters.
pub fn named(table: &'static [Spec], word: &[u8]) -> Option<&'static Spec> {
    table.iter().find(|s| s.word().as_bytes().eq_ignore_ascii_case(word))
}

/// Every first word once, in the order of the table.
pub fn words() -> Vec<&'static str> {
    let mut words: Vec<&str> = TABLE.iter().map(Spec::word).collect();
    words.dedup();
    words
}

/// The answer to `help`, or to `help` with these words behind it; fits an ordinary answer.
pub fn help(about: &[impl AsRef<str>]) -> Result<String> {
    let about: Vec<&str> = about.iter().map(AsRef::as_ref).collect();
    let Some(word) = about.first() else {
        let mut keys: Vec<&str> = TABLE.iter().flat_map(|s| s.args).filter(|a| a.place == Place::Key).map(|a| a.name).collect();
        keys.sort_unstable();
        keys.dedup();
        let keys = keys.join("= ");
        return Ok(format!("OK {}; words {keys}= id= token=; see help VERB", words().join(" ")));
    };
    let rows: Vec<&Spec> = TABLE.iter().filter(|s| s.word().eq_ignore_ascii_case(word)).collect();
    let asked = about.join(" ");
    match (rows.as_slice(), rows.iter().find(|s| s.text.eq_ignore_ascii_case(&asked))) {
        // `help status` is about all that begins so.
        ([_, _, ..], _) if about.len() == 1 => {
            let all: Vec<String> = rows.iter().map(|s| format!("{}: {}", s.usage(), s.help)).collect();
            Ok(format!("OK {}", all.join("; ")))
        }
        (_, Some(row)) => Ok(explained(row)),
        _ => Err(Error::new(Kind::Usage, format!("help takes a verb, not {asked}; help alone names them"))),
    }
}

/// What one verb takes and does, with the rule of each argument.
fn explained(row: &Spec) -> String {
    let args = row
        .args
        .iter()
        .filter(|a| !matches!(a.rule, Rule::Format(_) | Rule::AnyFormat(_) | Rule::Choice(_) | Rule::Flag | Rule::Pair));
    let rules: Vec<String> = args.map(|a| format!("{} ({})", a.shown(), a.rule)).collect();
    let between = if rules.is_empty() { "" } else { "; " };
    format!("OK {}: {}{between}{}", row.usage(), row.help, rules.join(", "))
}

#[cfg(test)]
mod tests;
