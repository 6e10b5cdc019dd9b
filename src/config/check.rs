//! Owns what makes a configuration wrong: unknown keys, wrong types, values out of range, values that contradict each other.
//! Every refusal names the key, the rule and the value. Pure; runs on the main thread.

use serde_json::Value;

use super::file::{self, File};
use crate::error::{Error, Kind, Result};
use crate::format::Format;

fn refuse(key: &str, rule: &str, value: impl std::fmt::Display) -> Error {
    Error::new(Kind::Config, format!("{key}: {rule}, not {value}"))
}

/// Compares what was written with the defaults: a key must exist there and hold the same type.
pub(super) fn shape(written: &Value, known: &Value, path: &str) -> Result<()> {
    let at = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match (written, known) {
        (Value::Object(w), Value::Object(_)) if path == "presets" => w.iter().try_for_each(|(name, set)| preset(name, set)),
        (Value::Object(w), Value::Object(k)) => w.iter().try_for_each(|(key, value)| match k.get(key) {
            Some(default) => shape(value, default, &at(key)),
            None => Err(Error::new(
                Kind::Config,
                match nearest(key, k.keys().map(String::as_str)) {
                    Some(near) => format!("{}: no such key; did you mean {}?", at(&visible(key)), at(near)),
                    None => format!(
                        "{}: no such key; known here: {}",
                        at(&visible(key)),
                        k.keys().cloned().collect::<Vec<_>>().join(", ")
                    ),
                },
            )),
        }),
        (Value::Array(w), Value::Array(_)) => {
            w.iter().try_for_each(|v| if v.is_string() { Ok(()) } else { Err(refuse(path, "a list of strings", v)) })
        }
        (w, Value::Object(_)) => Err(refuse(path, "a group of keys in braces", w)),
        (w, Value::Array(_)) => Err(refuse(path, "a list in brackets", w)),
        (w, Value::Bool(_)) if !w.is_boolean() => Err(refuse(path, "true or false", w)),
        (w, Value::String(_)) if !w.is_string() => Err(refuse(path, "a text in quotes", w)),
        (w, Value::Number(n)) => match (w.as_u64(), n.is_f64() || NUMBERS_AS_WRITTEN.contains(&path)) {
            (None, false) => Err(refuse(path, "a whole number of 0 or more", w)),
            (_, true) if !w.is_number() => Err(refuse(path, "a number", w)),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// A key as it may stand in one line: control characters as Rust writes them.
fn visible(key: &str) -> String {
    key.chars().map(|c| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() }).collect()
}

/// One named set of controls. Which controls there are only the camera knows; their kinds are few.
fn preset(name: &str, set: &Value) -> Result<()> {
    let at = format!("presets.{name}");
    let word = (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !word {
        return Err(refuse("presets", "names of 1 to 32 of A-Z a-z 0-9 _ . -", format!("{name:?}")));
    }
    if name.eq_ignore_ascii_case("auto") {
        return Err(refuse("presets", "names other than auto, which hands back to the night rule", name));
    }
    let Value::Object(set) = set else { return Err(refuse(&at, "a group of controls in braces", set)) };
    set.iter().try_for_each(|(control, value)| match value {
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        Value::Array(list) if list.len() >= 2 && list.iter().all(Value::is_number) => Ok(()),
        other => Err(refuse(&format!("{at}.{control}"), "true, false, a number, a text or a list of numbers", other)),
    })
}

/// What `shape` let pass can only fail by a number that is too large for its key. serde names the number but not the key, so
/// each value is tried alone.
pub(super) fn misfit(written: &Value) -> Option<Error> {
    fn walk(value: &Value, keys: &mut Vec<String>) -> Option<Error> {
        if let Value::Object(members) = value {
            return members.iter().find_map(|(key, value)| {
                keys.push(key.clone());
                let found = walk(value, keys);
                keys.pop();
                found
            });
        }
        let alone = keys.iter().rev().fold(value.clone(), |v, key| Value::Object([(key.clone(), v)].into_iter().collect()));
        let why = serde_json::from_value::<File>(alone).err()?.to_string();
        let widths = [("u8", u64::from(u8::MAX)), ("u16", u64::from(u16::MAX)), ("u32", u64::from(u32::MAX))];
        let rule = widths.iter().find(|(kind, _)| why.ends_with(kind)).map_or(why.clone(), |(_, most)| format!("at most {most}"));
        Some(refuse(&keys.join("."), &rule, value))
    }
    walk(written, &mut Vec::new())
}

/// Keys whose default is a whole number but which may be written with decimals.
const NUMBERS_AS_WRITTEN: [&str; 2] = ["night.dark_threshold", "night.bright_threshold"];

/// The known word most like `key`, if any is alike at all.
pub fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.map(|k| (distance(key, k), k)).min().filter(|(d, k)| *d <= 1 + k.len() / 3).map(|(_, k)| k)
}

/// Edits (insert, delete, replace one letter) that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(ca != *cb)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[b.len()]
}

fn between<T: PartialOrd + std::fmt::Display + Copy>(key: &str, value: T, low: T, high: T) -> Result<()> {
    if value >= low && value <= high { Ok(()) } else { Err(refuse(key, &format!("from {low} to {high}"), value)) }
}

fn even(key: &str, value: u32, high: u32) -> Result<()> {
    between(key, value, 16, high)?;
    if value % 2 == 0 { Ok(()) } else { Err(refuse(key, "an even number of pixels", value)) }
}

fn one_of(key: &str, value: &str, known: &[&str]) -> Result<()> {
    if known.contains(&value) { Ok(()) } else { Err(refuse(key, &format!("one of {}", known.join(", ")), format!("{value:?}"))) }
}

/// `CRITICAL` and `WARN` are the reference's words for levels that `log` calls otherwise.
pub(super) const LEVELS: [&str; 8] = ["CRITICAL", "FATAL", "ERROR", "WARNING", "WARN", "INFO", "DEBUG", "TRACE"];

/// Ranges and combinations.
pub(super) fn values(f: &File) -> Result<()> {
    camera_and_ring(&f.camera, &f.ring)?;
    night(&f.night)?;
    export(&f.export)?;
    video(&f.video)?;
    for text in &f.record.schedule {
        super::schedule::Span::parse(text).map_err(|rule| refuse("record.schedule", rule, format!("{text:?}")))?;
    }
    between("record.split_s", f.record.split_s, 0, 86_400)?;
    rtsp(&f.rtsp, &f.network)?;
    network(&f.network)?;
    one_of("logging.level", &f.logging.level.to_uppercase(), &LEVELS)?;
    between("limits.max_rss_mib", f.limits.max_rss_mib, 16, 1 << 20)?;
    between("limits.swap_slow_percent", f.limits.swap_slow_percent, 0.0, 100.0)?;
    between("limits.swap_pause_percent", f.limits.swap_pause_percent, f.limits.swap_slow_percent, 100.0)
}

fn camera_and_ring(c: &file::Camera, r: &file::Ring) -> Result<()> {
    // 8192: the largest picture JPEG encoders and the Pi's ISP agree on. 16: the pattern's code blocks.
    even("camera.width", c.width, 8192)?;
    even("camera.height", c.height, 8192)?;
    between("camera.framerate", c.framerate, 0.1, 240.0)?;
    between("camera.capture_timeout_s", c.capture_timeout_s, 0.1, 3600.0)?;
    between("camera.frozen_s", c.frozen_s, 0.0, 86400.0)?;
    // A slip in a stream's address must not put its password into a log.
    let shown = || format!("{:?}", crate::source::without_secrets_in_spec(&c.source));
    crate::source::Spec::parse(&c.source).map_err(|e| refuse("camera.source", &e.what, shown()))?;
    one_of("camera.transport", &c.transport, &crate::source::Transport::WORDS)?;
    if ![0, 180].contains(&c.rotation) {
        return Err(refuse("camera.rotation", "0 or 180", c.rotation));
    }
    between("ring.size", r.size, 2, 1_000_000)?;
    between("ring.memory_percent", r.memory_percent, 1, 100)?;
    between("ring.reserve_mib", r.reserve_mib, 0, 65_536)?;
    if r.downscale.enable {
        even("ring.downscale.width", r.downscale.width, c.width)?;
        even("ring.downscale.height", r.downscale.height, c.height)?;
    }
    Ok(())
}

fn night(n: &file::Night) -> Result<()> {
    let (dark, bright) = (super::real(&n.dark_threshold), super::real(&n.bright_threshold));
    between("night.dark_threshold", dark, 1.0, 250.0)?;
    between("night.bright_threshold", bright, 1.0, 250.0)?;
    if bright < dark {
        return Err(refuse("night.bright_threshold", &format!("at least night.dark_threshold ({dark})"), bright));
    }
    between("night.min_dark_frames", n.min_dark_frames, 1, 100_000)?;
    between("night.exposure_us", n.exposure_us, 100.0, 600_000_000.0)?;
    between("night.gain", n.gain, 1.0, 64.0)?;
    between("night.day_gain_ceiling", n.day_gain_ceiling, 1.0, 64.0)?;
    Ok(())
}

fn export(e: &file::Export) -> Result<()> {
    if e.base_dir.is_empty() {
        return Err(refuse("export.base_dir", "a folder", "empty"));
    }
    if e.base_dir.chars().any(char::is_control) {
        return Err(refuse(
            "export.base_dir",
            "a folder without control characters, which would break the answer's line",
            format!("{:?}", e.base_dir),
        ));
    }
    if e.formats.is_empty() {
        return Err(refuse("export.formats", &format!("at least one of {}", Format::words(&Format::ALL)), "an empty list"));
    }
    e.formats.iter().try_for_each(|w| one_of("export.formats", w, &Format::ALL.map(Format::word)))?;
    between("export.save_before_s", e.save_before_s, 0.0, 86400.0)?;
    between("export.stack_count", e.stack_count, 1, crate::stack::MAX)?;
    between("export.auto_save_interval_s", e.auto_save_interval_s, 0.0, 31_536_000.0)?;
    between("export.jpeg_quality", e.jpeg_quality, 1, 100)?;
    for (kind, bound) in e.keep.iter() {
        between(&format!("export.keep.{kind}.max_age_s"), bound.max_age_s, 0.0, 1e10)?;
    }
    Ok(())
}

fn video(v: &file::Video) -> Result<()> {
    one_of("video.encoder", &v.encoder, &["auto", "hardware", "x264", "openh264"])?;
    between("video.bitrate_kbps", v.bitrate_kbps, 50, 50_000)?;
    // Below half a second key frames are most of the stream; above, joining and seeking take that long.
    between("video.keyframe_s", v.keyframe_s, 0.5, 60.0)?;
    if (v.width == 0) != (v.height == 0) {
        return Err(refuse("video.width", "0 together with video.height, or neither", format!("{} and {}", v.width, v.height)));
    }
    for (key, value) in [("video.width", v.width), ("video.height", v.height)] {
        if value != 0 {
            // 4096: the widest that the levels of H.264 in common decoders allow.
            even(key, value, 4096)?;
        }
    }
    if v.overlay.len() > 64 || v.overlay.chars().any(char::is_control) {
        return Err(refuse("video.overlay", "at most 64 bytes without control characters", format!("{:?}", v.overlay)));
    }
    Ok(())
}

fn rtsp(r: &file::Rtsp, n: &file::Network) -> Result<()> {
    between("rtsp.port", r.port, 1, u16::MAX)?;
    if r.enable && (r.port == n.trigger_port || r.port == n.persistent_port) {
        return Err(refuse("rtsp.port", "a port of its own", r.port));
    }
    for address in &r.bind {
        address
            .parse::<std::net::IpAddr>()
            .map_err(|_| refuse("rtsp.bind", "IPv4 or IPv6 addresses of this machine", format!("{address:?}")))?;
    }
    super::allow_list(&r.allow).map_err(|e| Error { what: e.what.replace("network.allow", "rtsp.allow"), ..e })?;
    let word = |w: &str| w.len() <= 64 && w.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != ':');
    if !word(&r.user) || !word(&r.password) || r.user.is_empty() != r.password.is_empty() {
        let rule = "both or none, at most 64 visible ASCII characters without blanks, colons and quotes";
        return Err(refuse("rtsp.user and rtsp.password", rule, "these"));
    }
    if r.tls_certificate.is_empty() != r.tls_key.is_empty() {
        let value = format!("{:?} and {:?}", r.tls_certificate, r.tls_key);
        return Err(refuse("rtsp.tls_certificate", "a file together with rtsp.tls_key, or neither", value));
    }
    between("rtsp.max_clients", r.max_clients, 1, 64)?;
    if r.audio.device.len() > 128 || r.audio.device.chars().any(char::is_control) {
        return Err(refuse("rtsp.audio.device", "at most 128 bytes without control characters", format!("{:?}", r.audio.device)));
    }
    // Below, speech is hard to follow; above, encoders refuse one channel.
    between("rtsp.audio.bitrate_kbps", r.audio.bitrate_kbps, 16, 256)
}

fn network(w: &file::Network) -> Result<()> {
    between("network.trigger_port", w.trigger_port, 1, u16::MAX)?;
    between("network.idle_ms", w.idle_ms, 60, 2000)?;
    between("network.debounce_ms", w.debounce_ms, 0, 3_600_000)?;
    between("network.max_clients", w.max_clients, 1, 4096)?;
    if w.persistent_pad != 0 {
        // A line has to hold a word and its ending.
        between("network.persistent_pad", w.persistent_pad, 16, 1024)?;
    }
    if w.persistent_port == w.trigger_port {
        return Err(refuse("network.persistent_port", "a port other than network.trigger_port", w.persistent_port));
    }
    for address in &w.bind {
        address
            .parse::<std::net::IpAddr>()
            .map_err(|_| refuse("network.bind", "IPv4 or IPv6 addresses of this machine", format!("{address:?}")))?;
    }
    super::allow_list(&w.allow)?;
    if !w.token.chars().all(|c| c.is_ascii_graphic()) || w.token.len() > 64 {
        return Err(refuse("network.token", "at most 64 visible ASCII characters without blanks", "this token"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found() {
        let known = ["width", "height", "framerate"];
        assert_eq!(nearest("widht", known.into_iter()), Some("width"));
        assert_eq!(nearest("frame_rate", known.into_iter()), Some("framerate"));
        assert_eq!(nearest("colour", known.into_iter()), None);
    }

    #[test]
    fn presets_are_free_in_names_and_strict_in_kinds() {
        let parse = |text: &str| super::super::Config::parse(text.as_bytes());
        let good = r#"{"presets": {"night": {"Saturation": 0, "AeEnable": true}, "door.2": {"ColourGains": [1.5, 2], "AwbMode": "Daylight"}, "e": {}}}"#;
        let c = parse(good).unwrap();
        assert_eq!(c.presets.keys().collect::<Vec<_>>(), ["door.2", "e", "night"]);
        assert_eq!(c.presets["night"]["Saturation"], 0);
        for (bad, words) in [
            (r#"{"presets": []}"#, "presets: a group of keys in braces"),
            (r#"{"presets": {"auto": {}}}"#, "presets: names other than auto"),
            (r#"{"presets": {"two words": {}}}"#, "presets: names of 1 to 32"),
            (r#"{"presets": {"day": 3}}"#, "presets.day: a group of controls in braces, not 3"),
            (r#"{"presets": {"day": {"Brightness": null}}}"#, "presets.day.Brightness: true, false, a number"),
            (r#"{"presets": {"day": {"Brightness": {"a": 1}}}}"#, "presets.day.Brightness: "),
            (r#"{"presets": {"day": {"ColourGains": [1]}}}"#, "presets.day.ColourGains: "),
            (r#"{"presets": {"day": {"ColourGains": ["a", "b"]}}}"#, "presets.day.ColourGains: "),
        ] {
            let e = parse(bad).unwrap_err().to_string();
            assert!(e.contains(words), "{bad}: {e}");
        }
    }
}
