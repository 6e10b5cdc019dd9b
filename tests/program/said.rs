//! Owns the reading of answers: each reader puts together again what it has read and compares, so that the form is held to
//! byte for byte.

use std::path::{Path, PathBuf};

/// The text between two texts, and what follows the second.
fn between<'a>(text: &'a str, a: &str, b: &str) -> (&'a str, &'a str) {
    let rest = text.strip_prefix(a).unwrap_or_else(|| panic!("{text:?} does not begin with {a:?}"));
    rest.split_once(b).unwrap_or_else(|| panic!("{rest:?} does not contain {b:?}"))
}

/// A number written with exactly so many decimals.
fn number(text: &str, decimals: usize) -> f64 {
    let value: f64 = text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"));
    assert_eq!(format!("{value:.decimals$}"), text);
    value
}

/// `Saved single full-resolution image: …`
pub struct Single {
    pub path: PathBuf,
    pub timestamp: f64,
    pub age: f64,
}

pub fn single(answer: &str) -> Single {
    let (path, rest) = between(answer, "Saved single full-resolution image: ", " (timestamp: ");
    let (timestamp, rest) = between(rest, "", ", age: ");
    let age = rest.strip_suffix("s)").unwrap();
    let s = Single { path: path.into(), timestamp: number(timestamp, 3), age: number(age, 2) };
    absolute(&s.path);
    s
}

/// `Saved stacked image: …`
pub struct Stacked {
    pub path: PathBuf,
    pub frames: usize,
    pub first: f64,
    pub last: f64,
    pub first_age: f64,
    pub last_age: f64,
    pub before: f64,
}

pub fn stacked(answer: &str) -> Stacked {
    let (path, rest) = between(answer, "Saved stacked image: ", " | stack of ");
    let (frames, rest) = between(rest, "", " frames | first frame timestamp: ");
    let (first, rest) = between(rest, "", " (age: ");
    let (first_age, rest) = between(rest, "", "s) | last frame timestamp: ");
    let (last, rest) = between(rest, "", " (age: ");
    let (last_age, rest) = between(rest, "", "s)(export.save_before_s: ");
    let before = rest.strip_suffix(" s)").unwrap();
    let s = Stacked {
        path: path.into(),
        frames: frames.parse().unwrap(),
        first: number(first, 3),
        last: number(last, 3),
        first_age: number(first_age, 2),
        last_age: number(last_age, 2),
        before: number(before, 3),
    };
    assert_eq!(s.frames.to_string(), frames);
    absolute(&s.path);
    s
}

/// `Saved N images, the first: …`
pub struct Burst {
    pub pictures: usize,
    pub path: PathBuf,
    pub first: f64,
    pub last: f64,
}

pub fn burst(answer: &str) -> Burst {
    let (pictures, rest) = between(answer, "Saved ", " images, the first: ");
    let (path, rest) = between(rest, "", " | first frame timestamp: ");
    let (first, rest) = between(rest, "", " (age: ");
    let (first_age, rest) = between(rest, "", "s) | last frame timestamp: ");
    let (last, rest) = between(rest, "", " (age: ");
    let ages = [first_age, rest.strip_suffix("s)").unwrap()].map(|age| number(age, 2));
    assert!(ages[0] >= ages[1] && ages[1] >= 0.0, "{answer}");
    absolute(Path::new(path));
    Burst { pictures: pictures.parse().unwrap(), path: path.into(), first: number(first, 3), last: number(last, 3) }
}

/// `Saved N separate images …`
pub struct Separate {
    pub files: usize,
    pub timestamp: f64,
    pub age: f64,
    pub before: f64,
}

pub fn separate(answer: &str) -> Separate {
    let (files, rest) = between(answer, "Saved ", " separate images from ring buffer, starting at timestamp: ");
    let (timestamp, rest) = between(rest, "", " (age: ");
    let (age, rest) = between(rest, "", "s)(export.save_before_s: ");
    let before = rest.strip_suffix(" s)").unwrap();
    Separate { files: files.parse().unwrap(), timestamp: number(timestamp, 3), age: number(age, 2), before: number(before, 3) }
}

/// `RSS=…MiB SWAP=…%`: both numbers.
pub fn health(answer: &str) -> (f64, f64) {
    let (rss, rest) = between(answer, "RSS=", "MiB SWAP=");
    (number(rss, 1), number(rest.strip_suffix('%').unwrap(), 1))
}

/// `LEVEL=… THRESH=… STATUS=…`: the level, the threshold as written, the mode.
pub fn night_level(answer: &str) -> (f64, String, String) {
    let (level, rest) = between(answer, "LEVEL=", " THRESH=");
    let (threshold, mode) = between(rest, "", " STATUS=");
    assert!(["DAY", "NIGHT"].contains(&mode), "{answer}");
    (number(level, 1), threshold.into(), mode.into())
}

fn absolute(path: &Path) {
    assert!(path.is_absolute() && path.is_file(), "{}", path.display());
}

/// The frame id in a picture's name: `YYYYmmdd_HHMMSS_f<id>…`
pub fn id_of(path: &Path) -> u64 {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let digits: String = stem.split_once("_f").unwrap().1.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}
