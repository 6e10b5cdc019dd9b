//! Owns what keys must be together. Every refusal names the key, the rule and the value. Pure; runs on the main thread.

use super::file::File;
use crate::auto;
use crate::codec::Implementation;
use crate::error::Result;
use crate::frame::Layout;
use crate::settings::{Refusal, from};

/// Combinations.
pub(super) fn values(f: &File) -> Result<()> {
    let (c, r) = (&f.camera, &f.ring.downscale);
    for (key, value, most) in [("ring.downscale.width", r.width, c.width), ("ring.downscale.height", r.height, c.height)] {
        if r.enable {
            from(16.0, f64::from(most)).even().number(&value.into(), false).map_err(|r| r.of(key))?;
        }
    }
    f.night.check()?;
    f.export.check()?;
    auto::check(&f.auto)?;
    f.video.check()?;
    let (r, n) = (&f.rtsp, &f.network);
    let most = Implementation::ALL.into_iter().max_by_key(|i| i.max_pixels());
    let stream = if f.video.width == 0 { Layout::new(c.width, c.height) } else { Layout::new(f.video.width, f.video.height) };
    if let Some(most) =
        most.filter(|most| (r.enable || !f.record.schedule.is_empty()) && !most.takes(stream.width, stream.height))
    {
        let rule =
            format!("at most {} pixels, as H.264 has, where rtsp.enable or record.schedule encodes them", most.max_pixels());
        let value = format!("{}x{}; set video.width and video.height", stream.width, stream.height);
        return Err(Refusal::new(rule, value).of("camera.width and camera.height"));
    }
    if r.enable && (r.port == n.trigger_port || r.port == n.persistent_port) {
        return Err(Refusal::new("a port of its own", r.port).of("rtsp.port"));
    }
    r.check()?;
    n.check()?;
    n.holds_answers(&f.export.base_dir)?;
    f.limits.check()
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
