//! Owns what keys must be together, and what texts must hold. Every refusal names the key, the rule and the value. Pure; runs on
//! the main thread.

use super::file::{self, File};
use crate::error::Result;
use crate::format::Format;
use crate::settings::Refusal;

fn refuse(key: &str, rule: &str, value: impl std::fmt::Display) -> Result<()> {
    Err(Refusal::new(rule, value).of(key))
}

fn one_of(key: &str, value: &str, known: &[&str]) -> Result<()> {
    if known.contains(&value) { Ok(()) } else { refuse(key, &format!("one of {}", known.join(", ")), format!("{value:?}")) }
}

/// Texts and combinations.
pub(super) fn values(f: &File) -> Result<()> {
    let (c, r) = (&f.camera, &f.ring.downscale);
    for (key, value, most) in [("ring.downscale.width", r.width, c.width), ("ring.downscale.height", r.height, c.height)] {
        let rule = crate::settings::from(16.0, f64::from(most)).even();
        if r.enable {
            rule.number(&value.into(), false).map_err(|r| r.of(key))?;
        }
    }
    f.night.check()?;
    export(&f.export)?;
    video(&f.video)?;
    for text in &f.record.schedule {
        super::schedule::Span::parse(text).map_err(|rule| Refusal::text(rule, text).of("record.schedule"))?;
    }
    rtsp(&f.rtsp, &f.network)?;
    f.network.check()?;
    f.limits.check()
}

fn export(e: &file::Export) -> Result<()> {
    if e.base_dir.is_empty() {
        return refuse("export.base_dir", "a folder", "empty");
    }
    if e.base_dir.chars().any(char::is_control) {
        return refuse(
            "export.base_dir",
            "a folder without control characters, which would break the answer's line",
            format!("{:?}", e.base_dir),
        );
    }
    if e.formats.is_empty() {
        return refuse("export.formats", &format!("at least one of {}", Format::words(&Format::ALL)), "an empty list");
    }
    e.formats.iter().try_for_each(|w| one_of("export.formats", w, &Format::ALL.map(Format::word)))
}

fn video(v: &file::Video) -> Result<()> {
    one_of("video.encoder", &v.encoder, &["auto", "hardware", "x264", "openh264"])?;
    if (v.width == 0) != (v.height == 0) {
        return refuse("video.width", "0 together with video.height, or neither", format!("{} and {}", v.width, v.height));
    }
    Ok(())
}

fn rtsp(r: &file::Rtsp, n: &crate::server::Keys) -> Result<()> {
    if r.enable && (r.port == n.trigger_port || r.port == n.persistent_port) {
        return refuse("rtsp.port", "a port of its own", r.port);
    }
    let word = |w: &str| w.len() <= 64 && w.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != ':');
    if !word(&r.user) || !word(&r.password) || r.user.is_empty() != r.password.is_empty() {
        let rule = "both or none, at most 64 visible ASCII characters without blanks, colons and quotes";
        return refuse("rtsp.user and rtsp.password", rule, "these");
    }
    if r.tls_certificate.is_empty() != r.tls_key.is_empty() {
        let value = format!("{:?} and {:?}", r.tls_certificate, r.tls_key);
        return refuse("rtsp.tls_certificate", "a file together with rtsp.tls_key, or neither", value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn presets_are_free_in_names_and_strict_in_kinds() {
        let parse = |text: &str| crate::config::Config::parse(text.as_bytes());
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
