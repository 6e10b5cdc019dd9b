//! Measures what several frames are worth as one picture, on films: `cargo bench --bench past -- [OPTION]… [FILM]…`.
//!
//! A film is the truth. Noise is added to some frames of it, they become one picture by each mode, and the picture is compared
//! with the clean frame of the moment asked for, the middle one. A film is a file that `GStreamer` decodes, or `made:NAME`
//! (`made.rs`): walk, dim, tint, thin, pan, leaf, fade.
//!
//! `--sigma 3,6,12`, `--frames 4,8`, `--steps 1,2`: noise, frames in a picture, film frames from one to the next. `--moments 32`
//! spread over each film. `--noise plain|shot|blotchy` (`noise.rs`). `--still` measures the median too, which is slow.
//! `--only films|rest|light` runs one part. `--keep FILE` writes all numbers as JSON. `--worst DIR` writes the worst moment
//! of each film as PNG: clean, single, mean, steady and the moving part.
//!
//! Started by `cargo test`, it does nothing.

mod film;
mod light;
mod made;
mod moments;
mod noise;
mod rest;
mod score;
mod sheet;

use std::path::PathBuf;

use film::Film;
use noise::Kind;
use pastcam::error::Result;
use serde_json::{Value, json};

/// What is measured.
pub struct Plan {
    sigmas: Vec<f64>,
    counts: Vec<usize>,
    steps: Vec<usize>,
    moments: usize,
    noise: Kind,
    still: bool,
    worst: Option<PathBuf>,
}

struct Words(Vec<String>);

impl Words {
    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|a| a == word)
    }
    fn after(&self, key: &str) -> Option<&str> {
        self.0.iter().position(|a| a == key).and_then(|i| self.0.get(i + 1)).map(String::as_str)
    }
    fn list<T: std::str::FromStr>(&self, key: &str, default: &str) -> Vec<T> {
        let text = self.after(key).unwrap_or(default);
        text.split(',').map(|w| w.parse().unwrap_or_else(|_| panic!("{key} takes numbers, not {text:?}"))).collect()
    }
    fn films(&self) -> Vec<&str> {
        let mut out = Vec::new();
        let mut words = self.0.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "--still" | "--bench" => {}
                option if option.starts_with("--") => drop(words.next()),
                film => out.push(film),
            }
        }
        out
    }
}

fn main() -> Result<()> {
    let words = Words(std::env::args().skip(1).collect());
    let films = words.films();
    if films.is_empty() {
        return Ok(());
    }
    let plan = Plan {
        sigmas: words.list("--sigma", "3,6,12"),
        counts: words.list("--frames", "4,8"),
        steps: words.list("--steps", "1,2"),
        moments: words.list("--moments", "32")[0],
        noise: Kind::of(words.after("--noise").unwrap_or("plain")),
        still: words.has("--still"),
        worst: words.after("--worst").map(PathBuf::from),
    };
    let only = |part: &str| words.after("--only").is_none_or(|o| o == part);
    let (mut all, mut rest, mut light) = (Vec::new(), Vec::new(), Vec::new());
    moments::head();
    for name in films {
        let film = Film::open(name)?;
        if only("films") {
            all.extend(moments::measure(&plan, &film));
        }
        if only("rest") {
            rest.extend(rest::measure(&plan, &film));
        }
        if only("light") {
            light.extend(light::measure(&plan, &film));
        }
    }
    if only("rest") {
        rest.extend(rest::flat(&plan));
    }
    let verdicts: Vec<Value> = [moments::verdicts(&all), rest::verdicts(&rest), light::verdicts(&light)]
        .into_iter()
        .flatten()
        .map(Verdict::told)
        .collect();
    if let Some(file) = words.after("--keep") {
        let rows = |rows: Vec<Value>| Value::from(rows);
        let kept = json!({
            "noise": plan.noise.word(),
            "films": rows(all.iter().map(moments::Row::told).collect()),
            "rest": rows(rest.iter().map(rest::Row::told).collect()),
            "light": rows(light.iter().map(light::Row::told).collect()),
            "verdicts": verdicts,
        });
        std::fs::write(file, format!("{kept:#}\n")).unwrap_or_else(|e| panic!("{file}: {e}"));
    }
    Ok(())
}

/// A target and what became of it.
pub struct Verdict {
    what: &'static str,
    value: f64,
    target: f64,
    met: bool,
    at: String,
}

impl Verdict {
    /// `value` is to be at least `target`.
    pub fn least(what: &'static str, (value, at): (f64, String), target: f64) -> Verdict {
        Verdict { what, value, target, met: value >= target, at }
    }
    /// `value` is to be at most `target`.
    pub fn most(what: &'static str, (value, at): (f64, String), target: f64) -> Verdict {
        Verdict { what, value, target, met: value <= target, at }
    }
    fn told(self) -> Value {
        let Verdict { what, value, target, met, at } = self;
        println!(
            "{}  {what}: {value:.3} (target {target}){}{at}",
            if met { "met   " } else { "MISSED" },
            if at.is_empty() { "" } else { ", " }
        );
        json!({ "what": what, "value": value, "target": target, "met": met, "at": at })
    }
}
