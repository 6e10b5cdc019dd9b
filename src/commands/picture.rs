//! Owns `save` and `pastStack`: which formats, which frames, and the sentence that names the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Commands, Line, Respond, failed};
use crate::clock::BootUs;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::events::{By, Task};
use crate::export::Format;
use crate::frame::FrameMeta;
use crate::jobs::burst::{Burst, Outcome};
use crate::jobs::{Order, Past, Saved};
use crate::server::{Answer, HEAD_MAX};
use crate::stack::Mode;
use crate::verbs::{self, Call, Rule};

/// The formats to write: the configured ones where none are named. Words of which none is known are refused with the bare word
/// that old clients compare.
fn formats(call: &Call, config: &Config) -> std::result::Result<Vec<Format>, Answer> {
    match (call.formats.is_empty(), call.words.first()) {
        (false, _) => Ok(call.formats.clone()),
        (true, None) => Ok(config.export.formats.clone()),
        (true, Some(word)) => Err(Answer::refused("NOT_SAVED", call.verb.spec().slip(word))),
    }
}

/// What `count=` and `every=` ask for; one picture without them.
fn burst(call: &Call, frame_time: Duration) -> Result<Burst> {
    let (count, every) = (call.number(verbs::COUNT), call.number(verbs::EVERY));
    if let (None, Some(every)) = (count, every) {
        return Err(Error::new(Kind::Usage, format!("save takes every= with count= only, not every={every} alone")));
    }
    let (count, every, length) = (count.unwrap_or(1.0), every.unwrap_or(0.0), call.burst_s());
    if length > verbs::DAY {
        let what = format!("save takes at most {} s from the first picture to the last, not {length} s", verbs::DAY);
        return Err(Error::new(Kind::Usage, what));
    }
    Ok(Burst { count: count as usize, every: Duration::from_secs_f64(every), frame_time })
}

// What the table lets through is what a stack takes.
const _: () = assert!(matches!(verbs::COUNT.rule, Rule::Number(1, most) if most == crate::stack::MAX as u64));

/// What `save` says ahead of the file, the longest words there are ahead of one.
const SINGLE: &str = "Saved single full-resolution image: ";
const _: () = assert!(SINGLE.len() <= HEAD_MAX);

/// The answer that names the first file.
fn naming(head: &str, files: &[PathBuf], tail: &str) -> Answer {
    // The jobs answer with at least one file, or with an error.
    Answer::file(head, files.first().map_or(Path::new(""), PathBuf::as_path), tail)
}

impl Commands {
    pub(super) fn save(self: &Arc<Self>, line: &Line<'_>, config: &Config, call: &Call, respond: Respond) {
        let formats = match formats(call, config) {
            Ok(formats) => formats,
            Err(answer) => return respond(answer),
        };
        let burst = match burst(call, Duration::from_secs_f64(1.0 / config.camera.framerate)) {
            Ok(burst) => burst,
            Err(e) => return respond(failed(&e)),
        };
        if let Err(e) = self.debounced(call.verb, line.trigger, config) {
            return respond(failed(&e));
        }
        let (this, order) = (self.clone(), Order { formats, tag: call.tag.clone(), night: None });
        if burst.count == 1 {
            let done = Box::new(move |result: Result<Saved>| respond(this.said(result, saved_line)));
            return self.jobs.next(line.trigger, self.patience(config), order, done);
        }
        let events = self.events.clone();
        let each = Box::new(move |saved: &Saved| saved.tell_of_it(&events, By::Command));
        let end = Box::new(move |outcome: Outcome| respond(this.burst_said(outcome, burst.count)));
        self.jobs.burst(line.trigger, burst, order, each, end);
    }

    fn burst_said(&self, outcome: Outcome, count: usize) -> Answer {
        let now = self.clock.boot();
        let answer = match (outcome.failed, outcome.saved) {
            (None, Some(saved)) => burst_line(&saved, now),
            (Some(e), Some(saved)) => {
                self.events.failed(Task::Save, By::Command, &e);
                broken_off_line(&saved, count, &e)
            }
            (e, None) => {
                return self.said(Err(e.unwrap_or_else(|| Error::new(Kind::Io, "the burst took no picture"))), saved_line);
            }
        };
        let level = if answer.ok { log::Level::Info } else { log::Level::Warn };
        log::log!(level, "{}", answer.line);
        answer
    }

    pub(super) fn past_stack(self: &Arc<Self>, line: &Line<'_>, config: &Config, call: &Call, respond: Respond) {
        let (before, count) = (call.number(verbs::BEFORE), call.number(verbs::COUNT).map(|n| n as usize));
        let before_s = before.unwrap_or(config.export.save_before_s);
        let mode = call.choice(verbs::MODE).and_then(Mode::of);
        let what = if config.export.stack_dark_frames || count.is_some() || mode.is_some() {
            Past::Stack(count.unwrap_or(config.export.stack_count), mode.unwrap_or(config.export.stack_mode))
        } else {
            Past::Separate
        };
        if self.frames.past.newest().is_none() {
            return respond(Answer::failed("NO_FRAMES"));
        }
        let formats = match formats(call, config) {
            Ok(formats) => formats,
            Err(answer) => return respond(answer),
        };
        // A moment that a client asked for by name is either there or refused; the configured one may still be filling up.
        let slack = before.map(|_| Duration::from_secs(1).max(2 * self.frame_time(config)));
        let reach = self.frames.past.look(|m| if m.is_empty() { Duration::ZERO } else { line.trigger.since(m.get(0).boot) });
        if slack.is_some_and(|slack| before_s > (reach + slack).as_secs_f64()) {
            let reach = reach.as_secs_f64();
            let what = format!("before={before_s} lies beyond the ring, which reaches back {reach:.1} s");
            return respond(failed(&Error::new(Kind::Past, what)));
        }
        if let Err(e) = self.debounced(call.verb, line.trigger, config) {
            return respond(failed(&e));
        }
        let this = self.clone();
        let done = Box::new(move |result: Result<Saved>| {
            respond(this.said(result, |saved, now| match what {
                Past::Stack(..) => stacked_line(saved, now, before_s),
                Past::Separate => separate_line(saved, now, before_s),
            }));
        });
        let order = Order { formats, tag: call.tag.clone(), night: None };
        self.jobs.past(line.trigger, Duration::from_secs_f64(before_s), slack, what, order, done);
    }

    /// Longest time between two frames, as exposures stand.
    pub(crate) fn frame_time(&self, config: &Config) -> Duration {
        let day = Duration::from_secs_f64(1.0 / config.camera.framerate);
        day.max(Duration::from_micros(self.gauges.frame_us.load(std::sync::atomic::Ordering::Relaxed)))
    }

    fn patience(&self, config: &Config) -> Duration {
        crate::capture::frame_timeout(self.frame_time(config))
    }

    fn said(&self, result: Result<Saved>, words: impl FnOnce(&Saved, BootUs) -> Answer) -> Answer {
        Saved::tell(&self.events, &result, By::Command);
        match result {
            Ok(saved) => {
                let answer = words(&saved, self.clock.boot());
                log::info!("{}", answer.line);
                answer
            }
            Err(e) => {
                // Being busy is an answer, not an event: at a stop it comes by the hundred.
                let level = if e.kind == Kind::Busy { log::Level::Debug } else { log::Level::Warn };
                log::log!(level, "{e}");
                failed(&e)
            }
        }
    }
}

/// Age (s), on the boot-time clock: a step of the wall clock does not change it.
fn age(frame: &FrameMeta, now: BootUs) -> f64 {
    now.since(frame.boot).as_secs_f64()
}

fn saved_line(s: &Saved, now: BootUs) -> Answer {
    naming(SINGLE, &s.files, &format!(" (timestamp: {:.3}, age: {:.2}s)", s.first.wall.secs(), age(&s.first, now)))
}

fn stacked_line(s: &Saved, now: BootUs, before_s: f64) -> Answer {
    let (a, b) = (&s.first, &s.last);
    let tail = format!(
        " | stack of {} frames | first frame timestamp: {:.3} (age: {:.2}s) | \
         last frame timestamp: {:.3} (age: {:.2}s)(export.save_before_s: {before_s:.3} s)",
        s.frames,
        a.wall.secs(),
        age(a, now),
        b.wall.secs(),
        age(b, now)
    );
    naming("Saved stacked image: ", &s.files, &tail)
}

fn burst_line(s: &Saved, now: BootUs) -> Answer {
    let (a, b) = (&s.first, &s.last);
    let tail = format!(
        " | first frame timestamp: {:.3} (age: {:.2}s) | last frame timestamp: {:.3} (age: {:.2}s)",
        a.wall.secs(),
        age(a, now),
        b.wall.secs(),
        age(b, now)
    );
    naming(&format!("Saved {} images, the first: ", s.frames), &s.files, &tail)
}

/// A burst that ended too early: how many pictures there are, the first of them, and why there are no more.
fn broken_off_line(s: &Saved, count: usize, e: &Error) -> Answer {
    let head = format!("ERR {} {} of {count} saved, first ", e.kind.word(), s.frames);
    let mut answer = naming(&head, &s.files, &format!(" why={e}"));
    answer.ok = false;
    answer
}

// Three digits are the longest count, and `timeout` the longest kind.
const _: () = assert!("ERR timeout 255 of 256 saved, first ".len() <= HEAD_MAX);

fn separate_line(s: &Saved, now: BootUs, before_s: f64) -> Answer {
    Answer::ok(format!(
        "Saved {} separate images from ring buffer, starting at timestamp: {:.3} (age: {:.2}s)(export.save_before_s: {before_s:.3} s)",
        s.files.len(),
        s.first.wall.secs(),
        age(&s.first, now)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_knows_every_mode_of_a_stack() {
        let Rule::Choice(words) = verbs::MODE.rule else { panic!("{:?}", verbs::MODE) };
        assert_eq!(words, Mode::ALL.map(Mode::word));
    }
}
