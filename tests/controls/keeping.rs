//! What outlives a restart, what a preset brings, and what files of all kinds do at the start.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Running, until};
use crate::{exposure_us, get, pattern, presets, proved, with};

fn tuning(r: &Running) -> Value {
    serde_json::from_slice(&fs::read(r.captures().join("tuning.json")).unwrap()).unwrap()
}

#[test]
fn exposure_and_white_balance_are_fixed_kept_and_there_after_a_restart() {
    let setup = pattern("kept", "");
    let mut r = setup.start();
    r.until_frame(4);
    let answer = r.ask("set ExposureTime=20000 AnalogueGain=2 ColourGains=2,1.5 persist");
    proved(&answer, "OK ExposureTime=20000 AnalogueGain=2 ColourGains=2,1.5 with AeEnable=false ");
    assert!(answer.contains(" persisted (exposure held: the night rule waits for reset or preset auto)"), "{answer}");
    let kept = json!({"AnalogueGain": 2.0, "ColourGains": [2.0, 1.5], "ExposureTime": 20_000});
    assert_eq!(tuning(&r), kept);
    assert_eq!(r.status()["controls"]["persisted"], kept);
    // Not kept: gone after the restart.
    proved(&r.ask("set Brightness=0.5"), "OK Brightness=0.5 ");
    assert_eq!(r.terminate().code(), Some(0));
    for hard in [true, false] {
        let mut r = setup.start();
        until("the exposure that was kept", || ((exposure_us(&r) - 20_000.0).abs() < 1.0).then_some(()));
        assert_eq!(
            r.ask("get AeEnable AwbEnable ColourGains Brightness"),
            "OK AeEnable=false AwbEnable=false ColourGains=2,1.5 Brightness=0"
        );
        assert_eq!(r.status()["controls"]["exposure"], "held");
        if hard {
            r.kill();
            continue;
        }
        // One of them forgotten, in the file too.
        proved(&r.ask("reset ColourGains"), "OK reset ");
        assert_eq!(tuning(&r), json!({"AnalogueGain": 2.0, "ExposureTime": 20_000}));
        // All of it, and the night rule has the exposure again.
        let answer = r.ask("reset");
        assert!(answer.ends_with("persisted (the night rule has the exposure again)"), "{answer}");
        assert_eq!(tuning(&r), json!({}));
        until("auto-exposure", || (get(&r, "AeEnable") == "true").then_some(()));
        assert!(r.names().iter().all(|n| !n.ends_with("tmp")), "no draft stays: {:?}", r.names());
    }
}

#[test]
fn the_file_of_the_program_before_is_read_and_what_does_not_fit_is_passed_over() {
    let setup = pattern("old", "");
    let old =
        json!({"Contrast": 1.5, "ExposureTime": 30_000.0, "Sharpness": 2, "Brightness": 9, "awbmode": 5, "AeEnable": false});
    fs::write(setup.dir.join("csi_tuning.json"), old.to_string()).unwrap();
    let mut r = setup.start();
    until("the old file's values", || (get(&r, "Contrast") == "1.5" && get(&r, "ExposureTime") == "30000").then_some(()));
    assert_eq!(get(&r, "AwbMode"), "AwbDaylight");
    for words in
        ["tuning.json: no control Sharpness", "tuning.json: Brightness takes a decimal from -1 to 1, not 9; it is passed over"]
    {
        assert!(r.log().contains(words), "{words}");
    }
    // From now on there is a new one, and it holds everything.
    proved(&r.ask("set Contrast=1.25 persist"), "OK Contrast=1.25 ");
    let mut kept = old;
    kept["Contrast"] = json!(1.25);
    assert_eq!(tuning(&r), kept);
    assert_eq!(r.terminate().code(), Some(0));
    // A broken one costs its values and nothing else.
    fs::write(setup.captures().join("tuning.json"), "{\"Contrast\": ").unwrap();
    let r = setup.start();
    r.until_logged("its controls are not applied");
    r.until_frame(8);
    assert_eq!(get(&r, "Contrast"), "1");
}

#[test]
fn a_disk_that_keeps_nothing_is_told_and_the_control_is_set_all_the_same() {
    let setup = pattern("diskless", "");
    let r = setup.start();
    r.until_frame(4);
    fs::create_dir(r.captures().join("tuning.json")).unwrap();
    let answer = r.ask("set Contrast=2 persist");
    assert!(answer.starts_with("ERR disk ") && answer.contains("tuning.json"), "{answer}");
    assert_eq!(get(&r, "Contrast"), "2");
}

#[test]
fn a_preset_holds_until_auto_and_gives_way_to_the_hand() {
    let r = with(pattern("preset", ""), "presets", presets()).start();
    until("the preset of the day", || (get(&r, "Saturation") == "1.5").then_some(()));
    assert_eq!(r.ask("preset"), "OK preset=auto applied=day known=broken,day,door,foreign,night,sky");
    proved(&r.ask("set Contrast=2"), "OK Contrast=2 ");

    let answer = r.ask("preset DOOR");
    proved(&answer, "OK preset=door ");
    assert!(
        answer.contains("ExposureTime=10000 ") && answer.contains("Contrast=1.25 ") && answer.contains("exposure held"),
        "{answer}"
    );
    let s = r.status();
    assert_eq!((&s["controls"]["preset"], &s["controls"]["applied"]), (&"door".into(), &"door".into()));
    assert_eq!(get(&r, "Saturation"), "1", "the day's is not in force now");
    proved(&r.ask("set Contrast=3"), "OK Contrast=3 ");

    let answer = r.ask("preset auto");
    assert!(answer.starts_with("OK preset=auto ") && answer.ends_with("(the night rule has the exposure again)"), "{answer}");
    until("auto-exposure", || (get(&r, "AeEnable") == "true").then_some(()));
    until("the day's preset", || (get(&r, "Saturation") == "1.5").then_some(()));
    assert_eq!((get(&r, "Contrast").as_str(), &r.status()["controls"]["preset"]), ("3", &"auto".into()));

    // Auto-exposure by a preset that was chosen: held as well, though it moves.
    let answer = r.ask("preset sky");
    assert!(answer.contains("ExposureValue=-1 ") && answer.contains("exposure held"), "{answer}");
    assert_eq!(get(&r, "AeEnable"), "true");
    assert!(r.ask("reset").ends_with("(the night rule has the exposure again)"));
    assert_eq!(r.status()["controls"]["preset"], "auto");
}

#[test]
fn presets_change_with_the_configuration_while_it_runs() {
    let setup = with(pattern("reload", ""), "presets", presets());
    let r = setup.start();
    until("the preset of the day", || (get(&r, "Saturation") == "1.5").then_some(()));
    let mut setup = setup;
    setup.config["presets"] = json!({"day": {"Saturation": 2.0}, "new": {}});
    setup.command();
    r.signal(Signal::SIGHUP);
    until("the new preset of the day", || (get(&r, "Saturation") == "2").then_some(()));
    assert_eq!(r.ask("preset"), "OK preset=auto applied=day known=day,new");
    assert!(r.ask("preset door").starts_with("ERR usage no preset door"));
}
