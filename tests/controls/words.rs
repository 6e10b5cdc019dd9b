//! The words themselves: what is listed, what is refused and with which words, what is answered.

use std::time::Instant;

use serde_json::{Value, json};

use crate::client;
use crate::harness::{Setup, until};
use crate::{get, pattern, presets, proved, with};

#[test]
fn every_control_is_listed_with_kind_range_default_value_and_choices() {
    let r = pattern("list", "").start();
    r.until_frame(2);
    let all: Value = serde_json::from_str(&r.ask("controls id=7")).unwrap();
    assert_eq!((&all["ok"], &all["id"]), (&true.into(), &"7".into()));
    assert_eq!(all["source"], "pattern 320x240 at 10 fps");
    let one = |name: &str| all["controls"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap().clone();
    let mut brightness = one("Brightness");
    assert_eq!(brightness.as_object_mut().unwrap().remove("told"), Some(true.into()), "frames tell it");
    assert_eq!(
        brightness,
        json!({"name": "Brightness", "kind": "decimal", "min": -1.0, "max": 1.0, "default": 0.0, "current": 0.0, "by": null})
    );
    let kinds = ["ExposureTime", "AeEnable", "ColourGains", "FrameDurationLimits", "ScalerCrop", "AwbMode"]
        .map(|n| one(n)["kind"].clone());
    assert_eq!(kinds, ["integer", "bool", "pair", "integer pair", "rectangle", "choice"]);
    assert_eq!(one("ExposureTime")["max"], 3_070_000);
    assert!(one("ExposureTime")["current"].as_u64().unwrap() < 66_667, "what auto-exposure does, not the default");
    assert_eq!(one("AwbMode")["choices"]["AwbDaylight"], 5);
    assert_eq!((&one("AwbMode")["current"], &one("HorizontalFlip")["told"]), (&"AwbAuto".into(), &false.into()));
    // Before anything was set.
    let controls = &r.status()["controls"];
    assert_eq!(*controls, json!({"preset": "auto", "applied": null, "exposure": "auto", "pending": 0, "persisted": {}}));
}

#[test]
fn what_cannot_be_is_refused_with_the_reason_and_nothing_is_applied() {
    let r = with(pattern("refuse", ""), "presets", presets()).start();
    r.until_frame(2);
    for (line, words) in [
        ("get", "ERR usage get takes names of controls"),
        ("get Brihtness", "ERR usage no control Brihtness; did you mean Brightness?"),
        ("get Zoom", "ERR usage no control Zoom; controls lists what the camera has"),
        ("get Brightness=1", "ERR usage known arguments are"),
        ("set", "ERR usage set takes NAME=VALUE words"),
        ("set persist", "ERR usage set takes NAME=VALUE words"),
        ("set Brightness=0.5 now", "ERR usage set takes NAME=VALUE words and persist, not now"),
        ("set Brightness 0.5", "ERR usage set takes NAME=VALUE words and persist, not Brightness"),
        ("set Brightness=0.5 Contrst=2", "ERR usage no control Contrst; did you mean Contrast?"),
        ("set Brightness=0.5 Contrast=33", "ERR usage Contrast takes a decimal from 0 to 32, not 33"),
        ("set Brightness=0.5 Contrast=x", "ERR usage Contrast takes a decimal from 0 to 32, not x"),
        ("set Brightness=0.5 AeEnable=2", "ERR usage AeEnable takes true or false, not 2"),
        ("set Brightness=0.5 ExposureTime=1e4", "ERR usage ExposureTime takes a whole number from 100 to 3070000"),
        ("set Brightness=0.5 ColourGains=1", "ERR usage ColourGains takes two decimals A,B from 0.1,0.1 to 32,32"),
        ("set Brightness=0.5 ScalerCrop=0,0,400,240", "ERR usage ScalerCrop takes a rectangle X,Y,WIDTH,HEIGHT from"),
        ("set Brightness=0.5 AwbMode=Moon", "ERR usage AwbMode takes one of AwbAuto AwbIncandescent AwbDaylight AwbCloudy"),
        ("set Brightness=0.5 brightness=0.6", "ERR usage Brightness is named twice"),
        ("set ExposureTime=1000 AeEnable=true", "ERR usage AeEnable=true leaves ExposureTime to the camera"),
        ("reset Brihtness", "ERR usage no control Brihtness; did you mean Brightness?"),
        ("reset Brightness=0", "ERR usage known arguments are"),
        ("preset nigth", "ERR usage no preset nigth; did you mean night?"),
        ("preset day night", "ERR usage preset takes one name, or auto"),
        ("preset broken", "ERR usage Brightness takes a decimal from -1 to 1, not 7"),
        ("preset foreign", "ERR usage no control Zoom"),
    ] {
        let answer = r.ask(line);
        assert!(answer.starts_with(words), "{line}: {answer}");
        assert!(answer.len() < 240, "{answer}");
    }
    for (line, answer) in [("controls all", "all"), ("controls now id=3", "now id=3")] {
        assert_eq!(r.ask(line), format!("ERR usage controls takes only id= and token=, not {answer}"));
    }
    r.until_more_frames(8);
    assert_eq!((get(&r, "Brightness").as_str(), get(&r, "Contrast").as_str()), ("0", "1"));
    assert_eq!(r.status()["controls"]["preset"], "auto");
}

#[test]
fn values_come_in_every_form_and_names_in_any_case() {
    let r = pattern("forms", "").start();
    r.until_frame(2);
    for (line, begin) in [
        ("set Brightness=.25 Contrast=2 id=a:1", "OK Brightness=0.25 Contrast=2 frame="),
        ("SET saturation=1.5", "OK Saturation=1.5 frame="),
        ("set aeenable=OFF", "OK AeEnable=false frame="),
        ("set AeEnable=1", "OK AeEnable=true frame="),
        ("set ColourGains=2.0,1.5", "OK ColourGains=2,1.5 with AwbEnable=false frame="),
        ("set AwbEnable=on AwbMode=awbcloudy", "OK AwbEnable=true AwbMode=AwbCloudy frame="),
        ("set AwbMode=5", "OK AwbMode=AwbDaylight frame="),
        ("set ScalerCrop=80,60,160,120", "OK ScalerCrop=80,60,160,120 frame="),
        ("set FrameDurationLimits=50000,50000", "OK FrameDurationLimits=50000,50000 frame="),
        ("set ColourTemperature=3000", "OK ColourTemperature=3000 with AwbEnable=false frame="),
    ] {
        proved(&r.ask(line), begin);
    }
    assert!(r.ask("set Brightness=0 id=b:2").ends_with(" id=b:2"));
    assert_eq!(r.ask("get awbmode FRAMEDURATIONLIMITS"), "OK AwbMode=AwbDaylight FrameDurationLimits=50000,50000");
    assert_eq!(r.status()["frame"]["colour_temperature"], 3000);
    // The same again is proved by the next frame.
    proved(&r.ask("set Contrast=2"), "OK Contrast=2 frame=");
    // And all of it goes.
    proved(&r.ask("reset Contrast"), "OK reset Contrast=1 frame=");
    let answer = r.ask("reset");
    proved(&answer, "OK reset ");
    assert!(answer.contains(" ScalerCrop=0,0,320,240"), "{answer}");
    assert_eq!(r.ask("reset"), "OK reset");
    until("white balance to be automatic again", || (get(&r, "AwbEnable") == "true").then_some(()));
    for (name, value) in [("Saturation", "1"), ("FrameDurationLimits", "100000,100000"), ("AwbMode", "AwbAuto")] {
        assert_eq!(get(&r, name), value, "{name}");
    }
}

#[test]
fn a_browser_s_get_is_nobody_s_control() {
    let r = pattern("browser", "").start();
    assert_eq!(r.ask("GET Brightness"), "UNKNOWN_COMMAND");
    assert!(r.ask("get Brightness").starts_with("OK Brightness="));
}

#[test]
fn without_a_camera_there_is_nothing_to_set() {
    let setup = Setup::new("nobody").controlled("unplug=1").frameless();
    let r = setup.start();
    assert_eq!(r.ask("controls"), r#"{"ok":true,"source":"","controls":[]}"#);
    for line in ["get Brightness", "set Brightness=1", "reset"] {
        assert!(r.ask(line).starts_with("ERR source there is no camera yet"), "{line}");
    }
}

#[test]
fn twenty_clients_set_at_once_and_each_is_answered() {
    let r = pattern("crowd", "").start();
    r.until_frame(2);
    let port = r.setup.port;
    let answers: Vec<(u32, String)> = std::thread::scope(|s| {
        let clients: Vec<_> = (1..=20)
            .map(|n| {
                s.spawn(move || (n, client::ask(port, &format!("set Brightness={} Contrast=1.{n:02}", f64::from(n) / 100.0))))
            })
            .collect();
        // Whoever waits for a proof holds up nobody.
        let begin = Instant::now();
        assert_eq!(client::ask(port, "ping"), "PONG");
        let pong = begin.elapsed();
        assert!(pong.as_secs_f64() < 2.0, "{pong:?}");
        clients.into_iter().map(|c| c.join().unwrap()).collect()
    });
    let mut own = 0;
    for (n, answer) in &answers {
        proved(answer, "OK Brightness=");
        assert!(!answer.contains("clamped") && !answer.contains("do not tell"), "{answer}");
        own += u32::from(answer.starts_with(&format!("OK Brightness={} Contrast=", f64::from(*n) / 100.0)));
        let overtaken = answer.contains("(another command came after");
        assert!(overtaken || answer.contains(&format!("Brightness={} ", f64::from(*n) / 100.0)), "{answer}");
    }
    assert!(own >= 1);
    // One of them came last, with both of its values.
    let (b, c) = (get(&r, "Brightness").parse::<f64>().unwrap(), get(&r, "Contrast").parse::<f64>().unwrap());
    assert!((c - 1.0 - b).abs() < 1e-6 && b > 0.0, "{b} {c}");
    assert_eq!(r.status()["controls"]["pending"], 0);
}
