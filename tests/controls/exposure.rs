//! Who has the exposure: limits, the night rule and the hand, and a night that comes and goes without a gap.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Setup, until};
use crate::{exposure_us, get, pattern, presets, proved, recoveries, with};

/// Large enough that the bright code in the picture does not make a day of the night.
fn wide(name: &str) -> Setup {
    let setup = with(pattern(name, ""), "night", json!({"enable": true}));
    setup.set("camera.width", 1024).set("camera.height", 768).set("ring.size", 60)
}

#[test]
fn an_exposure_that_the_camera_cuts_is_answered_as_it_is() {
    let setup = pattern("clamp", "");
    let r = setup.start();
    r.until_frame(4);
    proved(&r.ask("set FrameDurationLimits=10000,10000"), "OK FrameDurationLimits=10000,10000 ");
    let answer = r.ask("set ExposureTime=20000");
    proved(&answer, "OK ExposureTime=10000 (clamped from 20000) with AeEnable=false");
    // The frames go with it where they may.
    proved(&r.ask("reset FrameDurationLimits"), "OK reset FrameDurationLimits=100000,100000 ");
    until("the exposure in full", || ((exposure_us(&r) - 20_000.0).abs() < 1.0).then_some(()));
    setup.control("lux=400 clamp=15000");
    let answer = r.ask("set ExposureTime=30000");
    proved(&answer, "OK ExposureTime=15000 (clamped from 30000)");
}

#[test]
fn exposures_up_and_down_are_never_taken_for_a_hang() {
    // The longest way of a control that was ever measured.
    let r = pattern("long", "latency=11,longest=3200000").start();
    r.until_frame(4);
    proved(&r.ask("set ExposureTime=1000000"), "OK ExposureTime=1000000 with AeEnable=false FrameDurationLimits=1000000,1000000");
    // While the long frames are on their way, a short one is asked for.
    proved(&r.ask("set ExposureTime=3000000 AnalogueGain=1"), "OK ExposureTime=3000000 ");
    proved(&r.ask("set ExposureTime=5000"), "OK ExposureTime=5000 with FrameDurationLimits=100000,100000");
    // A picture during a long frame waits for it.
    assert_eq!(recoveries(&r), (0, 0));
    assert!(!r.log().contains("no frame for"));
}

#[test]
fn a_fixed_exposure_holds_through_the_dark_until_it_is_given_back() {
    let setup = wide("hold");
    let r = setup.start();
    r.until_frame(4);
    let answer = r.ask("set ExposureTime=20000 AnalogueGain=4");
    assert!(answer.ends_with("(exposure held: the night rule waits for reset or preset auto)"), "{answer}");
    setup.control("lux=0.02");
    until("the mode to follow the light", || (r.status()["mode"] == "NIGHT").then_some(()));
    r.until_more_frames(20);
    assert!((exposure_us(&r) - 20_000.0).abs() < 1.0, "the night must not take it");
    assert!(!r.log().contains("less than asked"), "what is held is no limit of the camera");
    let answer = r.ask("preset auto");
    assert!(answer.ends_with("(the night rule has the exposure again)"), "{answer}");
    until("the night's exposure", || (exposure_us(&r) > 1e6).then_some(()));
    r.until_logged("Light: the camera exposes 2000000 us at gain 6.00 (asked for 2000000 us at 6.00)");
    // And by hand again in the night: at once, without a restart.
    proved(&r.ask("set ExposureTime=50000"), "OK ExposureTime=50000 ");
    assert!((exposure_us(&r) - 50_000.0).abs() < 1.0);
    assert_eq!(recoveries(&r), (0, 0));
}

#[test]
fn a_night_comes_and_goes_while_a_viewer_counts_frames() {
    let setup = with(wide("night"), "presets", presets());
    let r = setup.start();
    r.until_frame(4);
    let night_us = 2e6;
    // What a viewer sees: the age of the newest frame, asked for again and again.
    let (mut oldest, mut modes, mut polls) = (0.0f64, vec!["DAY".to_string()], 0u32);
    let (mut last_id, mut frames) = (0, 0u64);
    let mut saw = Vec::new();
    setup.control("lux=0.02");
    let begin = Instant::now();
    while modes.len() < 3 || saw.len() < 2 {
        assert!(begin.elapsed() < Duration::from_secs(240), "{modes:?} {saw:?} after {polls} looks\n{}", r.status());
        let s = r.status();
        polls += 1;
        oldest = oldest.max(s["frame"]["age_s"].as_f64().unwrap());
        let id = s["frame"]["id"].as_u64().unwrap();
        frames += u64::from(id != last_id);
        last_id = id;
        let mode = s["mode"].as_str().unwrap().to_string();
        if modes.last() != Some(&mode) {
            modes.push(mode.clone());
        }
        let saturation = get(&r, "Saturation");
        if mode == "NIGHT" && saw.is_empty() && saturation == "0" && s["frame"]["exposure_us"].as_f64().unwrap() > 1.9e6 {
            assert_eq!(s["controls"]["applied"], "night");
            saw.push("night");
            setup.control("lux=400");
        }
        if modes.len() == 3 && saw.len() == 1 && saturation == "1.5" && s["frame"]["exposure_us"].as_f64().unwrap() < 1e5 {
            assert_eq!(s["controls"]["applied"], "day");
            saw.push("day");
        }
        std::thread::sleep(Duration::from_millis(40));
    }
    assert_eq!((modes, saw), (["DAY", "NIGHT", "DAY"].map(String::from).to_vec(), vec!["night", "day"]));
    // One night frame, the day frame after it, and what a busy machine adds to a look.
    let most = night_us / 1e6 + 0.1 + 0.9;
    assert!(oldest < most, "the newest frame was {oldest} s old");
    let s = r.status();
    assert_eq!((&s["source"]["lost"], &s["ring"]["dropped"]), (&0.into(), &0.into()));
    assert_eq!(recoveries(&r), (0, 0));
    assert!(frames > 60, "{frames} frames in {:?}", begin.elapsed());
    println!(
        "{frames} frames seen in {polls} looks, the oldest newest frame was {oldest:.2} s old, switches {}",
        json!(s["switches"])
    );
}
