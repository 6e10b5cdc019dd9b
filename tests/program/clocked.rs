//! The list `auto`: pictures by the clock, by day and by night, single and stacked, each entry for itself.

use std::collections::BTreeMap;
use std::path::Path;

use nix::sys::signal::Signal;
use pastcam::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::harness::{Running, Setup, names, until};
use crate::image::Image;
use crate::said::{self, id_of};

/// The pictures with this tag, by their names, in the order of their frames; also those whose name was taken: `_002`.
fn tagged(dir: &Path, tag: &str) -> Vec<String> {
    names(dir)
        .into_iter()
        .filter(|n| !n.starts_with('.') && [format!("_{tag}."), format!("_{tag}_0")].iter().any(|end| n.contains(end)))
        .collect()
}

fn setup(word: &str, auto: Value) -> Setup {
    Setup::new(word).set("auto", auto)
}

/// Changes the list and has it read again.
fn reload(r: &Running, change: impl FnOnce(&mut Value)) {
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(r.setup.config_file()).unwrap()).unwrap();
    change(&mut config["auto"]);
    std::fs::write(r.setup.config_file(), config.to_string()).unwrap();
    r.signal(Signal::SIGHUP);
}

fn taken(r: &Running, tag: &str) -> usize {
    tagged(&r.captures(), tag).len()
}

#[test]
fn each_entry_has_its_own_beat_on_the_clock() {
    let r = setup(
        "entries",
        json!([
            {"interval_s": 0.5, "tag": "half", "formats": ["npy"]},
            {"interval_s": 0.3, "tag": "ring", "take": "ring", "formats": ["jpg", "png"]},
            {"interval_s": 1, "tag": "stack", "take": "stack", "count": 3},
            {"at": ["00:00"], "tag": "daily"},
        ]),
    )
    .start();
    until("pictures of all", || (taken(&r, "half") >= 4 && taken(&r, "ring") >= 6 && taken(&r, "stack") >= 2).then_some(()));
    // The first frame at or after a half second of the wall clock: the one before it was earlier. Two clocks are read one after the
    // other, so that a beat is not known to the microsecond.
    said::burst(&r.ask("save npy count=25 tag=each"));
    let offset = SystemClock.wall().0 - SystemClock.boot().0 as i64;
    let walls = |tag: &str| -> BTreeMap<u64, i64> {
        let wall = |n: &String| offset + Image::open(&r.captures().join(n)).code().1 as i64;
        tagged(&r.captures(), tag).iter().map(|n| (id_of(n.as_ref()), wall(n))).collect()
    };
    let (each, mut compared) = (walls("each"), 0);
    for (id, wall) in walls("half") {
        let beat = (wall + 20_000).div_euclid(500_000) * 500_000;
        let Some(before) = each.get(&(id - 1)) else { continue };
        assert!(*before < beat + 20_000, "frame {id} at {wall}, the one before at {before}");
        compared += 1;
    }
    assert!(compared >= 2, "{each:?}");
    // Never one frame twice.
    for (tag, extension) in [("half", ".npy"), ("ring", ".jpg"), ("ring", ".png"), ("stack", ".jpg")] {
        let all: Vec<String> = tagged(&r.captures(), tag).into_iter().filter(|n| n.ends_with(extension)).collect();
        let ids: Vec<u64> = all.iter().map(|n| id_of(n.as_ref())).collect();
        assert!(ids.len() >= 2 && ids.windows(2).all(|w| w[0] < w[1]), "{all:?}");
    }
    assert!(r.log().contains("Auto-save \"stack\" stack of 3 frames: "));
    let status = r.status();
    let told: Vec<&str> = status["auto"].as_array().unwrap().iter().map(|e| e["tag"].as_str().unwrap()).collect();
    assert_eq!(told, ["half", "ring", "stack", "daily"]);
    assert!(status["auto"][0]["taken"].as_u64().unwrap() >= 4 && status["auto"][3]["taken"] == 0, "{}", status["auto"]);
    assert!((0.0..=86_400.0).contains(&status["auto"][3]["next_s"].as_f64().unwrap()));
    // Another list at once; the entry that stays goes on counting.
    let before = r.status()["auto"][1]["taken"].as_u64().unwrap();
    let yearly = json!({"interval_s": 31_536_000, "tag": "yearly"});
    reload(&r, |auto| *auto = json!([yearly, auto[1].clone(), {"interval_s": 0.4, "tag": "new"}]));
    let status = until("the new list", || {
        let status = r.status();
        let all = status["auto"].as_array().unwrap();
        assert!(all.iter().all(|e| e["tag"] != "yearly" || e["taken"] == 0), "counters of another entry: {all:?}");
        (all.len() == 3).then_some(status)
    });
    assert!(status["auto"][1]["taken"].as_u64().unwrap() >= before);
    until("a picture of the new entry", || (taken(&r, "new") > 0).then_some(()));
    let (half, new) = (taken(&r, "half"), taken(&r, "new"));
    until("three more beats", || (taken(&r, "new") >= new + 3).then_some(()));
    assert_eq!(taken(&r, "half"), half, "an entry that is gone takes no pictures");
}

#[test]
fn day_and_night_entries_follow_the_mode_and_stacks_wait_for_the_night() {
    let setup = setup(
        "daynight",
        json!([
            {"interval_s": 0.2, "when": "day", "tag": "day"},
            {"interval_s": 0.2, "when": "night", "tag": "night"},
            {"interval_s": 4, "when": "night", "take": "stack", "count": 4, "tag": "still", "mode": "mean"},
        ]),
    )
    .controlled("lux=400")
    .set("camera.width", 640)
    .set("camera.height", 480)
    .set("night.min_dark_frames", 3)
    .set("night.exposure_us", 300_000);
    let r = setup.start();
    until("pictures by day", || (taken(&r, "day") >= 2).then_some(()));
    assert_eq!((taken(&r, "night"), &r.status()["auto"][1]["on"]), (0, &json!(false)));
    setup.control("lux=0.02");
    until("the night", || (r.status()["mode"] == "NIGHT").then_some(()));
    // One may have been on its way.
    let by_day = taken(&r, "day") + 1;
    // Right after the switch the exposure may still be on its way; then there are fewer alike for the first one.
    r.until_logged("Auto-save \"still\" stack of 4 frames: ");
    assert!(taken(&r, "night") >= 2 && taken(&r, "day") <= by_day, "{:?}", r.names());
    assert_eq!([0, 1].map(|i| r.status()["auto"][i]["on"].clone()), [json!(false), json!(true)]);
}

/// Takes some seconds: a camera that hangs is noticed after five.
#[test]
fn a_bound_entry_takes_no_picture_of_another_time() {
    let auto = json!([
        {"interval_s": 0.1, "when": "day", "tag": "day"},
        {"interval_s": 0.1, "when": "night", "tag": "night"},
        {"interval_s": 0.1, "tag": "any"},
    ]);
    let setup = setup("bound", auto)
        .controlled("lux=400")
        .set("camera.width", 640)
        .set("camera.height", 480)
        .set("camera.framerate", 8.0)
        .set("night.min_dark_frames", 3)
        .set("night.exposure_us", 300_000)
        .set("logging.level", "DEBUG");
    let r = setup.start();
    until("a picture by day", || (taken(&r, "day") > 0).then_some(()));
    // One waits for every frame, also for that which switches.
    setup.control("lux=0.02");
    r.until_logged("Auto-save \"day\": the camera has changed between day and night");
    until("a picture by night", || (taken(&r, "night") > 0).then_some(()));
    setup.control("lux=400 hang=1");
    r.until_logged("Auto-save \"night\" failed: no frame came within 5.0 s");
    assert!(!r.log().contains("Auto-save \"any\" failed"), "a picture for any time waits for the camera");
}

#[test]
fn pictures_that_fail_are_told_as_left_out() {
    let r = setup("failing", json!([{"interval_s": 0.5, "tag": "full"}])).set("export.min_free_mib", 100_000_000).start();
    r.until_logged("Auto-save \"full\" failed: ");
    until("the count", || (r.status()["auto"][0]["left_out"].as_u64() > Some(0)).then_some(()));
    assert_eq!(r.status()["auto"][0]["taken"], 0);
}

#[test]
fn pictures_of_an_entry_have_bounds_of_their_own() {
    let keep = json!({"max_bytes": 1});
    let r = setup("kept", json!([{"interval_s": 0.3, "tag": "few", "keep": keep}, {"interval_s": 0.3, "tag": "all"}])).start();
    let first = r.ask("save jpg tag=few");
    until("pictures of both", || (r.status()["auto"][0]["taken"].as_u64() >= Some(5) && taken(&r, "all") >= 5).then_some(()));
    // The bound holds for whatever bears the tag, and the picture written last stays; one more may be on its way.
    until("the bound", || (taken(&r, "few") <= 2).then_some(()));
    let saved = Path::new(first.split(' ').nth(4).unwrap());
    assert!(first.starts_with("Saved single ") && !saved.exists(), "{first}");
    assert!(taken(&r, "all") >= 5);
}

#[test]
fn a_wrong_entry_stops_the_start_and_changes_nothing_at_sighup() {
    let (code, said) = setup("wrongentry", json!([{"interval_s": 60, "when": "dusk"}])).end();
    assert!(code != 0 && said.contains("auto[0].when: one of always, day, night, not \"dusk\""), "{code}: {said}");
    let r = setup("rightentry", json!([{"interval_s": 0.3, "tag": "good"}])).start();
    reload(&r, |auto| auto[0]["interval_s"] = json!(0.01));
    r.until_logged("auto[0].interval_s: from 0.1 to 31536000, not 0.01");
    let before = taken(&r, "good");
    until("more pictures", || (taken(&r, "good") > before).then_some(()));
}
