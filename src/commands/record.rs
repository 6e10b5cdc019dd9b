//! Owns `record`, `clip`, `files` and `delete`: their words and answers.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::{Commands, Line, Respond, UNKNOWN, Words, failed};
use crate::error::{Error, Kind, Result};
use crate::export::{Format, Listed};
use crate::server::Answer;
use crate::video::record::{Order, Recorded};

/// Longest recording and clip that can be asked for (s).
const LONGEST: f64 = 86_400.0;
/// Files in a list when nobody says how many, and at most: 500 names make 60 kB.
const FILES: (usize, usize) = (50, 500);

fn usage(what: &str) -> Answer {
    failed(&Error::new(Kind::Usage, what))
}

fn seconds(word: &str) -> Option<f64> {
    word.parse().ok().filter(|s| (0.1..=LONGEST).contains(s))
}

fn saved(what: &str, result: Result<Recorded>) -> Answer {
    match result {
        Err(e) => failed(&e),
        Ok(r) => Answer::long(format!("Saved {what}: {} ({:.1} s, {} pictures)", r.file.display(), r.seconds, r.pictures)),
    }
}

impl Commands {
    pub(super) fn record(&self, line: &Line<'_>, words: &Words, respond: Respond) {
        if words.count.is_some() || words.last.is_some() {
            return respond(usage("record start takes SECONDS, before=, tag= and id="));
        }
        let plain: Vec<&str> = words.plain.iter().map(String::as_str).collect();
        match plain.as_slice() {
            ["start"] => self.record_start(line, words, None, respond),
            ["start", length] => match seconds(length) {
                Some(length) => self.record_start(line, words, Some(length), respond),
                None => respond(usage(&format!("record start takes seconds from 0.1 to {LONGEST}, not {length}"))),
            },
            ["stop"] if words.is_bare() => self.recorder.stop(Box::new(move |r| respond(saved("recording", r)))),
            ["status"] if words.is_bare() => respond(Answer::ok(match self.recorder.under_way() {
                None => "OK recording=-".into(),
                Some(u) => format!(
                    "OK recording={} seconds={:.1} bytes={} lost={} by={}",
                    if u.name.is_empty() { "?" } else { &u.name },
                    u.seconds,
                    u.bytes,
                    u.lost,
                    if u.by_clock { "clock" } else { "command" }
                ),
            })),
            _ => respond(Answer::failed(UNKNOWN)),
        }
    }

    fn record_start(&self, line: &Line<'_>, words: &Words, seconds: Option<f64>, respond: Respond) {
        if let Some(before) = words.before_s {
            if let Err(e) = self.reaches(line, "before", before) {
                return respond(failed(&e));
            }
        }
        let order =
            Order { seconds, tag: words.tag.clone(), before: words.before_s.map(Duration::from_secs_f64), trigger: line.trigger };
        self.recorder.record(
            order,
            Box::new(move |started| {
                respond(match started {
                    Ok(name) => Answer::ok(format!("OK recording {name}")),
                    Err(e) => failed(&e),
                });
            }),
        );
    }

    pub(super) fn clip(&self, line: &Line<'_>, words: &Words, respond: Respond) {
        let length = match words.plain.as_slice() {
            [word] if words.before_s.is_none() && words.count.is_none() && words.last.is_none() => seconds(word),
            _ => None,
        };
        let Some(length) = length else {
            return respond(usage(&format!("clip takes seconds from 0.1 to {LONGEST}, tag= and id=")));
        };
        if let Err(e) = self.reaches(line, "clip", length) {
            return respond(failed(&e));
        }
        let from = line.trigger.back(Duration::from_secs_f64(length));
        self.recorder.clip(from, line.trigger, words.tag.clone(), Box::new(move |r| respond(saved("clip", r))));
    }

    pub(super) fn files(&self, words: &Words, respond: Respond) {
        let kinds: Option<Vec<Format>> = words.plain.iter().map(|w| Format::of_file(w)).collect();
        let Some(kinds) = kinds.filter(|_| words.tag.is_none() && words.before_s.is_none() && words.count.is_none()) else {
            return respond(usage(&format!("files takes {}, last= and id=", Format::words(&Format::KEPT))));
        };
        let kinds = if kinds.is_empty() { Format::KEPT.to_vec() } else { kinds };
        let (exporter, last) = (self.exporter.clone(), words.last.unwrap_or(FILES.0).min(FILES.1));
        let said = |list: Vec<Listed>| {
            let seconds = |t: SystemTime| t.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |d| d.as_millis() as f64 / 1e3);
            let files: Vec<_> =
                list.iter().map(|f| json!({"name": f.name, "bytes": f.bytes, "time": seconds(f.modified)})).collect();
            Answer::long(json!({ "ok": true, "files": files }).to_string())
        };
        self.errands.run(move || exporter.list(&kinds, last), move |list| respond(list.map_or_else(|e| failed(&e), said)));
    }

    pub(super) fn delete(&self, words: &Words, respond: Respond) {
        let name = match words.plain.as_slice() {
            [name] if words.is_bare() => name.clone(),
            _ => return respond(usage("delete takes the name of one file, as files lists it")),
        };
        let exporter = self.exporter.clone();
        let delete = move || {
            exporter.delete(&name)?;
            log::info!("Deleted {name}");
            Ok(Answer::ok(format!("OK deleted {name}")))
        };
        self.errands.run(delete, move |done| respond(done.unwrap_or_else(|e| failed(&e))));
    }

    /// Whether the ring goes back that far before the command; a second less will do.
    fn reaches(&self, line: &Line<'_>, word: &str, back_s: f64) -> Result<()> {
        let oldest = self.frames.past.look(|m| (!m.is_empty()).then(|| m.get(0).boot));
        let reach = oldest.map_or(0.0, |o| line.trigger.since(o).as_secs_f64());
        if back_s <= reach + 1.0 {
            return Ok(());
        }
        Err(Error::new(Kind::Past, format!("{word}={back_s} lies beyond the ring, which reaches back {reach:.1} s")))
    }
}
