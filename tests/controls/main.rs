//! Image controls of the running program, on the synthetic camera: every word and its refusals, what frames and pictures show
//! of it, what outlives a restart, who has the exposure, and what happens when the camera fails meanwhile.
//! Every wait ends on what it waits for; a deadline only ends a test that has failed already.

#[allow(dead_code, reason = "shared with tests/program, which uses all of it")]
#[path = "../program/client.rs"]
mod client;
#[allow(dead_code, reason = "shared with tests/program, which uses all of it")]
#[path = "../program/harness.rs"]
mod harness;
#[allow(dead_code, unused_imports, reason = "shared with tests/program, which uses all of it")]
#[path = "../program/image.rs"]
mod image;
#[allow(dead_code, reason = "shared with tests/program, which uses all of it")]
#[path = "../program/said.rs"]
mod said;

mod exposure;
mod faults;
mod keeping;
mod picture;
mod words;

use serde_json::{Value, json};

use harness::{Running, Setup};

/// The pattern with these words, obeying [`Setup::control`].
fn pattern(name: &str, words: &str) -> Setup {
    let setup = Setup::new(name).controlled("lux=400");
    let source =
        format!("{}{}{words}", setup.config["camera"]["source"].as_str().unwrap(), if words.is_empty() { "" } else { "," });
    setup.set("camera.source", source)
}

/// One key that may not be in the configuration yet.
fn with(mut setup: Setup, key: &str, value: Value) -> Setup {
    setup.config[key] = value;
    setup
}

/// `presets` of most tests.
fn presets() -> Value {
    json!({
        "day": {"Saturation": 1.5},
        "night": {"Saturation": 0.0, "Brightness": 0.1},
        "door": {"ExposureTime": 10_000, "AnalogueGain": 2.0, "Contrast": 1.25},
        "sky": {"AeEnable": true, "ExposureValue": -1.0},
        "broken": {"Contrast": 1.5, "Brightness": 7},
        "foreign": {"Zoom": 2},
    })
}

/// What `get` says of one control.
fn get(r: &Running, name: &str) -> String {
    let answer = r.ask(&format!("get {name}"));
    answer.strip_prefix(&format!("OK {name}=")).unwrap_or_else(|| panic!("{answer}")).to_string()
}

/// An answer that begins with these words and names a frame; the frame.
fn proved(answer: &str, begin: &str) -> u64 {
    assert!(answer.starts_with(begin), "{answer:?} does not begin with {begin:?}");
    let frame = answer.split(" frame=").nth(1).unwrap_or_else(|| panic!("no frame in {answer}"));
    frame.split(' ').next().unwrap().parse().unwrap()
}

/// Restarts and rebuilds of the source.
fn recoveries(r: &Running) -> (u64, u64) {
    let s = r.status();
    (s["source"]["restarts"].as_u64().unwrap(), s["source"]["rebuilds"].as_u64().unwrap())
}

fn exposure_us(r: &Running) -> f64 {
    r.status()["frame"]["exposure_us"].as_f64().unwrap_or(0.0)
}
