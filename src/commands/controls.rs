//! Owns the words for image controls: `controls`, `get`, `set`, `reset`, `preset`. Checks every word against what the camera
//! offers, then gives one order to the capture; the answer comes from the thread `tuning` when frames have proved it.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::{Commands, Respond, failed};
use crate::capture;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::server::Answer;
use crate::settings::nearest;
use crate::tuning::{self, End, Order, Outcome, Shown, What, value};
use crate::verbs::Call;

fn usage(what: impl Into<String>) -> Error {
    Error::new(Kind::Usage, what)
}

/// The board, if the camera has controls now.
fn offered(shown: Shown) -> Result<Shown> {
    match (shown.controls.is_empty(), shown.source.is_empty()) {
        (false, _) => Ok(shown),
        (true, false) => Err(Error::new(Kind::Source, format!("{} offers no controls now; see status", shown.source))),
        (true, true) => Err(Error::new(Kind::Source, "there is no camera yet, so there are no controls; see status")),
    }
}

impl Commands {
    /// All controls, as one line of JSON.
    pub(super) fn controls(&self) -> Answer {
        let shown = self.board.shown();
        let list: Vec<Json> = (shown.controls.iter().enumerate())
            .map(|(i, c)| {
                let json = |v| value::to_json(c, v);
                let origin = shown.force.get(i).copied().flatten().map(|(_, origin)| origin.word());
                let mut entry = json!({
                    "name": c.name,
                    "kind": value::kind(c),
                    "min": json(&c.min),
                    "max": json(&c.max),
                    "default": json(&c.default),
                    "current": json(&shown.current(i)),
                    "told": shown.told.get(i).copied().flatten().is_some(),
                    "by": origin,
                });
                if !c.choices.is_empty() {
                    entry["choices"] =
                        c.choices.iter().map(|(name, n)| (name.clone(), json!(n))).collect::<serde_json::Map<_, _>>().into();
                }
                entry
            })
            .collect();
        Answer::long(json!({"ok": true, "source": shown.source, "controls": list}).to_string())
    }

    /// The part of `status json` about controls.
    pub(super) fn tuning_json(&self) -> Json {
        let shown = self.board.shown();
        json!({
            "preset": shown.preset.as_deref().unwrap_or("auto"),
            "applied": shown.applied,
            "exposure": if shown.held { "held" } else { "auto" },
            "pending": self.board.pending(),
            "persisted": shown.persisted,
        })
    }

    /// `OK NAME=VALUE…`: what the newest frame told, else what is in force, else the default.
    pub(super) fn get(&self, call: &Call) -> Answer {
        let read = || {
            let shown = offered(self.board.shown())?;
            call.words.iter().try_fold("OK".to_string(), |mut line, name| {
                let i = value::find(&shown.controls, name)?;
                let c = &shown.controls[i];
                // Writing to a text cannot fail.
                let _ = write!(line, " {}={}", c.name, value::text(c, &shown.current(i)));
                Ok(line)
            })
        };
        read().map_or_else(|e| failed(&e), Answer::long)
    }

    /// Sets several controls with one request, or keys of the stream; nothing is set if one of them is wrong.
    pub(super) fn set(self: &Arc<Self>, call: &Call, respond: Respond) {
        let persist = !call.words.is_empty();
        if !persist && call.pairs.iter().all(|(key, _)| key.starts_with("video.")) {
            return respond(self.set_video(&call.pairs));
        }
        self.order(self.wanted(&call.pairs, persist), String::new(), respond);
    }

    fn wanted(&self, wanted: &[(String, String)], persist: bool) -> Result<What> {
        let shown = offered(self.board.shown())?;
        let mut settings: Vec<(usize, crate::source::Value)> = Vec::new();
        for (name, word) in wanted {
            let i = value::find(&shown.controls, name)?;
            let read = value::read(&shown.controls[i], word)?;
            if settings.iter().any(|(known, _)| *known == i) {
                return Err(usage(format!("{} is named twice", shown.controls[i].name)));
            }
            settings.push((i, read));
        }
        if let Some((automatic, fixed)) = tuning::contradiction(&shown.controls, &settings) {
            return Err(usage(format!("{automatic}=true leaves {fixed} to the camera; set one of them")));
        }
        let values = settings.into_iter().map(|(i, v)| (shown.controls[i].name.clone(), v)).collect();
        Ok(What::Set { values, persist })
    }

    /// Gives controls back to what lies beneath them and forgets what was persisted of them.
    pub(super) fn reset(self: &Arc<Self>, call: &Call, respond: Respond) {
        let what = (|| {
            let shown = offered(self.board.shown())?;
            let found = call.words.iter().map(|name| Ok(shown.controls[value::find(&shown.controls, name)?].name.clone()));
            Ok(What::Reset(found.collect::<Result<_>>()?))
        })();
        self.order(what, " reset".into(), respond);
    }

    /// Applies a preset until `preset auto`; without a name it tells which there are.
    pub(super) fn preset(self: &Arc<Self>, call: &Call, config: &Config, respond: Respond) {
        let Some(name) = call.words.first() else {
            let shown = self.board.shown();
            let known: Vec<&str> = config.presets.keys().map(String::as_str).collect();
            let line = format!(
                "OK preset={} applied={} known={}",
                shown.preset.as_deref().unwrap_or("auto"),
                shown.applied.as_deref().unwrap_or("-"),
                if known.is_empty() { "-".into() } else { known.join(",") }
            );
            return respond(Answer::long(line));
        };
        if name.eq_ignore_ascii_case("auto") {
            return self.order(Ok(What::Preset(None)), " preset=auto".into(), respond);
        }
        let keys = || config.presets.keys().map(String::as_str);
        let found = keys().find(|k| k == name).or_else(|| keys().find(|k| k.eq_ignore_ascii_case(name)));
        let what = found.ok_or_else(|| {
            usage(match nearest(name, keys()) {
                Some(near) => format!("no preset {name}; did you mean {near}?"),
                None => format!("no preset {name}; config.json names them under presets"),
            })
        });
        let what = what.and_then(|name| {
            let shown = offered(self.board.shown())?;
            for (control, json) in &config.presets[name] {
                let i = value::find(&shown.controls, control)?;
                value::from_json(&shown.controls[i], json)?;
            }
            Ok(name)
        });
        let said = format!(" preset={}", what.as_ref().copied().unwrap_or_default());
        self.order(what.map(|name| What::Preset(Some(name.into()))), said, respond);
    }

    fn order(&self, what: Result<What>, said: String, respond: Respond) {
        let what = match what {
            Ok(what) => what,
            Err(e) => return respond(failed(&e)),
        };
        let done: tuning::Done = Box::new(move |outcome| {
            respond(match outcome {
                Ok(outcome) => {
                    let line = line(&outcome, &said);
                    log::info!("Controls: {}", line.strip_prefix("OK ").unwrap_or(&line));
                    Answer::long(line)
                }
                Err(e) => {
                    log::warn!("Controls: {e}");
                    failed(&e)
                }
            });
        });
        // A capture that has gone drops the order, and the reply answers by itself.
        let _ = self.orders.send(capture::Order::Tune(Order { what, done }));
    }
}

/// `OK [said] NAME=VALUE [(why not what was asked)]… [with …] [frame=N] [persisted] [(who has the exposure)]`
fn line(o: &Outcome, said: &str) -> String {
    let mut line = format!("OK{said}");
    let mut add = |words: String| line.push_str(&words);
    for (i, asked, end) in &o.ends {
        let c = &o.controls[*i];
        let (name, text) = (&c.name, |v| value::text(c, v));
        add(match end {
            End::Shown(v) => format!(" {name}={}", text(v)),
            End::Clamped(v) => format!(" {name}={} (clamped from {})", text(v), text(asked)),
            End::Overtaken(v) => format!(" {name}={} (another command came after {})", text(v), text(asked)),
            End::Untold => format!(" {name}={} (asked; frames do not tell it)", text(asked)),
        });
    }
    for (n, (i, v)) in o.implied.iter().enumerate() {
        let c = &o.controls[*i];
        add(format!("{}{}={}", if n == 0 { " with " } else { " " }, c.name, value::text(c, v)));
    }
    if let Some(frame) = o.frame {
        add(format!(" frame={frame}"));
    }
    if o.persisted {
        add(" persisted".into());
    }
    if o.held {
        add(" (exposure held: the night rule waits for reset or preset auto)".into());
    } else if o.released {
        add(" (the night rule has the exposure again)".into());
    }
    line
}
