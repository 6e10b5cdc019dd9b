//! Owns `record`, `clip`, `files` and `delete`: their words and answers.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::{Commands, Line, Respond, failed};
use crate::budget::Budget;
use crate::error::{Error, Kind, Result};
use crate::events;
use crate::export::{Format, Listed};
use crate::health;
use crate::server::Answer;
use crate::verbs::{self, Call};
use crate::video::record::{Order, Recorded};

/// Files in a list when nobody says how many.
const FILES: f64 = 50.0;

fn saved(what: &str, result: Result<Recorded>) -> Answer {
    let r = match result {
        Err(e) => return failed(&e),
        Ok(r) => r,
    };
    let mut tail = format!(" ({:.1} s, {} pictures){}", r.seconds, r.pictures, events::shortcomings(r.files, r.lost_s));
    if !r.why.is_empty() {
        tail = format!("{tail} ended={} why={}", events::word(&r.ended), r.why);
    }
    Answer::file(&format!("Saved {what}: "), &r.file, &tail)
}

impl Commands {
    pub(super) fn record_stop(&self, respond: Respond) {
        self.recorder.stop(Box::new(move |r| respond(saved("recording", r))));
    }

    pub(super) fn record_status(&self) -> Answer {
        Answer::ok(match self.recorder.under_way() {
            None => "OK recording=-".into(),
            Some(u) => format!(
                "OK recording={} seconds={:.1} bytes={} lost={} by={}",
                if u.name.is_empty() { "?" } else { &u.name },
                u.seconds,
                u.bytes,
                u.lost,
                if u.by_clock { "clock" } else { "command" }
            ),
        })
    }

    pub(super) fn record_start(&self, line: &Line<'_>, call: &Call, respond: Respond) {
        let before = call.number(verbs::BEFORE);
        if let Some(before) = before {
            if let Err(e) = self.reaches(line, "before", before) {
                return respond(failed(&e));
            }
        }
        // What is under way already has its memory.
        let stream = self.video.encoder().is_none() && !self.video.passes_through();
        if let Err(e) =
            self.video.check().and_then(|()| self.has_memory("record start", u64::from(stream) + u64::from(before.is_some())))
        {
            return respond(failed(&e));
        }
        let order = Order {
            seconds: call.number(verbs::LENGTH),
            tag: call.tag.clone(),
            before: before.map(Duration::from_secs_f64),
            trigger: line.trigger,
        };
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

    pub(super) fn clip(&self, line: &Line<'_>, call: &Call, respond: Respond) {
        let length = call.number(verbs::LENGTH).unwrap_or_default();
        if let Err(e) = self.reaches(line, "clip", length) {
            return respond(failed(&e));
        }
        if let Err(e) = self.has_memory("clip", 1) {
            return respond(failed(&e));
        }
        let from = line.trigger.back(Duration::from_secs_f64(length));
        self.recorder.clip(from, line.trigger, call.tag.clone(), Box::new(move |r| respond(saved("clip", r))));
    }

    pub(super) fn files(&self, call: &Call, respond: Respond) {
        let kinds = if call.formats.is_empty() { Format::KEPT.to_vec() } else { call.formats.clone() };
        let (exporter, last) = (self.exporter.clone(), call.number(verbs::LAST).unwrap_or(FILES) as usize);
        let said = |list: Vec<Listed>| {
            let seconds = |t: SystemTime| t.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |d| d.as_millis() as f64 / 1e3);
            let files: Vec<_> =
                list.iter().map(|f| json!({"name": f.name, "bytes": f.bytes, "time": seconds(f.modified)})).collect();
            Answer::long(json!({ "ok": true, "files": files }).to_string())
        };
        self.errands.run(move || exporter.list(&kinds, last), move |list| respond(list.map_or_else(|e| failed(&e), said)));
    }

    pub(super) fn delete(&self, call: &Call, respond: Respond) {
        let name: String = call.words.concat();
        let exporter = self.exporter.clone();
        let delete = move || {
            exporter.delete(&name)?;
            log::info!("Deleted {name}");
            Ok(Answer::ok(format!("OK deleted {name}")))
        };
        self.errands.run(delete, move |done| respond(done.unwrap_or_else(|e| failed(&e))));
    }

    /// Whether so many encoders more leave the memory beside the ring within its limit: beyond it the program would end.
    fn has_memory(&self, word: &str, encoders: u64) -> Result<()> {
        let budget = Budget::of(&self.config(), self.gauges.sent_pixels.load(Relaxed));
        let used = health::rss_bytes().unwrap_or(0).saturating_sub(self.frames.resident() as u64);
        let (need, limit) = (encoders * budget.one_more, budget.limit());
        if encoders == 0 || used + need <= limit {
            return Ok(());
        }
        let [used, need, limit] = [used, need, limit].map(|bytes| bytes >> 20);
        let cure = "raise limits.max_rss_mib or set video.width and video.height";
        let what =
            format!("{word}: encoding takes up to {need} MiB, and {used} of limits.max_rss_mib {limit} are in use; {cure}");
        Err(Error::new(Kind::Media, what))
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
