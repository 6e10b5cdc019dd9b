//! Hot pixels in pictures and their list on disk: what stays over a restart, and whose it is. That they are found is tested with
//! drawn scenes in the library; here the list is written by hand.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{Running, Setup, until};
use crate::image::Image;
use crate::said;

fn picture(r: &Running, command: &str) -> Image {
    let answer = r.ask(command);
    let path = if command.starts_with("save") { said::single(&answer).path } else { said::stacked(&answer).path };
    Image::open(&path)
}

/// The pixel that is brighter than its eight neighbours by most.
fn glowing(image: &Image) -> (usize, usize) {
    let luma = |x: usize, y: usize| i32::from(image.pixel(x, y)[1]);
    let around = |x: usize, y: usize| (y - 1..=y + 1).flat_map(move |b| (x - 1..=x + 1).map(move |a| (a, b)));
    let brightest = |x, y| around(x, y).filter(|at| *at != (x, y)).map(|(a, b)| luma(a, b)).max().unwrap_or(255);
    let all = (2..image.height - 2).flat_map(|y| (2..image.width - 2).map(move |x| (x, y)));
    all.max_by_key(|(x, y)| luma(*x, *y) - brightest(*x, *y)).unwrap()
}

#[test]
fn known_pixels_are_repaired_in_pictures_and_kept_for_the_same_source_and_size() {
    let setup = Setup::new("hot")
        .set("camera.source", "pattern:lux=0.3,noise=off,motion=off,hot=20")
        .set("camera.width", 640)
        .set("camera.height", 480)
        .set("night.enable", false)
        .set("export.hot_pixels", false);
    let mut r = setup.start();
    let hot = |r: &Running| r.status()["hot_pixels"].clone();
    assert_eq!(hot(&r), json!({"state": "off", "known": 0, "repaired_last": 0}));
    assert!(r.ask("set ExposureTime=300000 AnalogueGain=8").starts_with("OK "));
    let before = picture(&r, "save png");
    let (x, y) = glowing(&before);
    let green = |image: &Image| i32::from(image.pixel(x, y)[1]);
    println!("({x}, {y}) has {} in green", green(&before));
    let file = setup.captures().join("hot_pixels.json");
    let list = json!({"source": "pattern 640x480", "turn": 1, "width": 640, "height": 480, "pixels": [[x, y, 60, 0, 0]]});
    fs::write(&file, list.to_string()).unwrap();

    let on = setup.clone().set("export.hot_pixels", true);
    fs::write(on.config_file(), on.config.to_string()).unwrap();
    r.signal(Signal::SIGHUP);
    let known = |r: &Running, n: u32| until("the list", || (hot(r)["known"] == n && hot(r)["state"] == "learning").then_some(()));
    known(&r, 1);
    for command in ["save png", "pastStack png before=0.3 count=1", "pastStack png before=0.3 count=2"] {
        let after = picture(&r, command);
        assert!(green(&before) > green(&after) + 40, "{command}: {} and {}", green(&before), green(&after));
        assert_eq!(hot(&r)["repaired_last"], 1, "{command}");
    }
    assert_eq!(r.terminate().code(), Some(0));

    let mut r = on.clone().set("camera.framerate", 5).start();
    known(&r, 1);
    assert_eq!(r.terminate().code(), Some(0));
    assert_eq!(fs::read_to_string(&file).unwrap(), list.to_string(), "nothing was learned, nothing is written");

    let mut r = on.clone().set("camera.rotation", 180).start();
    known(&r, 0);
    assert_eq!(r.terminate().code(), Some(0));
    assert!(file.exists());

    fs::write(&file, "[]").unwrap();
    let r = on.start();
    r.until_logged("hot_pixels.json; its pixels are learned anew");
    known(&r, 0);
    picture(&r, "save png");
    assert_eq!(hot(&r)["repaired_last"], 0);
}
