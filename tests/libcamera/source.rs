//! The source by itself: what comes, starting and stopping, what it costs.

use std::time::{Duration, Instant};

use pastcam::clock::{Clock, SystemClock};
use pastcam::frame::{Layout, Packing, Planes};
use pastcam::source::{Camera, Incoming, Light, Polled, Source, Spec, Value, no_outlet};
use pastcam::turn::Turn;

use crate::pictures::{self, REPEATED, SHOWN};

fn wanted(width: u32, height: u32) -> Camera {
    Camera { layout: Layout::new(width, height), fps: 30.0, day_gain_ceiling: 8.0, turn: Turn::default(), low: None }
}

fn open(selector: &str, wanted: &Camera) -> Box<dyn Source> {
    pictures::write();
    Spec::Camera(selector.into()).make(wanted, &no_outlet()).unwrap()
}

/// The next `n` frames.
fn frames(source: &mut dyn Source, n: usize, look: &mut dyn FnMut(&Incoming<'_>)) {
    let end = Instant::now() + Duration::from_secs(20);
    let mut seen = 0;
    while seen < n {
        assert!(Instant::now() < end, "{seen} of {n} frames came in 20 s");
        if source.next(Duration::from_millis(500), look).unwrap() == Polled::Frame {
            seen += 1;
        }
    }
}

fn copied(frame: &Incoming<'_>) -> (Layout, Vec<u8>) {
    let mut slot = vec![0; frame.main.layout.bytes()];
    frame.main.copy_to(&mut slot);
    (frame.main.layout, slot)
}

#[test]
fn frames_show_the_pictures_in_their_order() {
    let mut source = open("Pictures", &wanted(640, 480));
    source.start(100).unwrap();
    source.expose(Light::Auto).unwrap();
    let (mut shown, mut ids, mut times) = (Vec::new(), Vec::new(), Vec::new());
    frames(source.as_mut(), 3 * SHOWN.len() * REPEATED, &mut |f| {
        let (layout, pixels) = copied(f);
        assert_eq!((layout, f.main.packing), (Layout::new(640, 480), Packing::SemiPlanar));
        shown.push(pictures::which(layout, &pixels));
        ids.push(f.id);
        times.push(f.boot);
    });
    assert!(ids[0] == 100 && ids.windows(2).all(|w| w[1] > w[0]), "{ids:?}");
    assert!(times.windows(2).all(|w| w[1] > w[0]), "time goes on");
    assert!(SystemClock.boot().since(times[times.len() - 1]) < Duration::from_secs(1), "frame times are of the boot clock");
    // Every picture its number of frames, one after the other; the camera may have lost a frame to us being late.
    let changes: Vec<[usize; 2]> = shown.windows(2).map(|w| [w[0], w[1]]).filter(|w| w[0] != w[1]).collect();
    assert!(changes.iter().all(|[a, b]| (a + 1) % SHOWN.len() == *b), "{shown:?}");
    assert!(changes.len() >= 2 * SHOWN.len(), "{shown:?}");
}

#[test]
fn it_stops_starts_and_is_made_anew_in_another_size() {
    for (selector, w, h) in [("Pictures", 640, 480), ("camera of pict", 1024, 768), ("Pictures", 320, 240)] {
        let mut source = open(selector, &wanted(w, h));
        for first in [0, 50, 100] {
            source.start(first).unwrap();
            let mut id = None;
            frames(source.as_mut(), 5, &mut |f| {
                id.get_or_insert(f.id);
                let (layout, pixels) = copied(f);
                assert_eq!(layout, Layout::new(w, h));
                pictures::which(layout, &pixels);
            });
            assert_eq!(id, Some(first));
            source.stop();
            assert!(source.next(Duration::ZERO, &mut |_| ()).is_err(), "a stopped camera has no frames");
        }
    }
}

#[test]
fn the_camera_makes_the_ring_s_smaller_picture_itself() {
    let small = Layout::new(320, 240);
    let mut camera = wanted(640, 480);
    camera.low = Some(small);
    let mut source = open("Pictures", &camera);
    source.start(0).unwrap();
    frames(source.as_mut(), 10, &mut |f| {
        let low = f.low.expect("a second picture");
        let mut slot = vec![0; small.bytes()];
        low.copy_to(&mut slot);
        let (layout, pixels) = copied(f);
        assert_eq!((low.layout, pictures::which(small, &slot)), (small, pictures::which(layout, &pixels)));
    });
}

#[test]
fn quarter_turns_are_left_to_the_copy() {
    let all = || (1..=8).map(Turn::exif);
    // The virtual camera claims that it mirrors, and does not.
    for turn in all().filter(|turn| turn.is_quarter() || turn.is_none()) {
        let (lying, back) = (Layout::new(640, 480), all().find(|back| turn.then(*back).is_none()).unwrap());
        let mut source = open("Pictures", &Camera { layout: turn.of(lying), turn, ..wanted(640, 480) });
        source.start(0).unwrap();
        frames(source.as_mut(), 3, &mut |f| {
            let (mut upright, mut again) = (vec![0; lying.bytes()], vec![0; lying.bytes()]);
            f.turn.copy(&f.main, &mut upright);
            assert_eq!(f.turn.of(f.main.layout), turn.of(lying));
            back.copy(&Planes::of(turn.of(lying), &upright), &mut again);
            pictures::which(lying, &again);
        });
    }
}

#[test]
fn cameras_are_told_apart_and_listed() {
    pictures::write();
    let said = Spec::Camera("imx219".into()).make(&wanted(640, 480), &no_outlet()).err().unwrap().what;
    for word in ["\"imx219\"", "Camera of pictures (Pictures)", "Camera of bars (Bars)"] {
        assert!(said.contains(word), "{said}");
    }
    let bars = open("camera of bars", &wanted(640, 480));
    assert!(bars.name().contains("Bars"), "{}", bars.name());
    let second = Spec::Camera("Pictures".into()).make(&wanted(640, 480), &no_outlet()).err().unwrap();
    assert!(second.what.contains("open already"), "{second}");
    drop(bars);
    assert!(matches!(Spec::Auto.settled(), Spec::Camera(_)));
    let auto = Spec::Auto.make(&wanted(640, 480), &no_outlet()).unwrap();
    assert!(auto.name().starts_with("camera "), "{}", auto.name());
}

#[test]
fn a_size_that_the_camera_does_not_make_becomes_one_that_it_makes() {
    let mut source = open("Pictures", &wanted(600, 400));
    source.start(0).unwrap();
    frames(source.as_mut(), 2, &mut |f| assert_eq!(f.main.layout, Layout::new(1024, 768)));
}

#[test]
fn controls_are_offered_by_name_with_their_range() {
    let mut source = open("Pictures", &wanted(640, 480));
    source.start(0).unwrap();
    let controls = source.controls().to_vec();
    println!("      libcamera offers {controls:?}");
    // What is offered differs from version to version; what it is, may not contradict itself.
    for c in &controls {
        assert!(!c.name.is_empty() && std::mem::discriminant(&c.min) == std::mem::discriminant(&c.max), "{c:?}");
    }
    if let Some(place) = controls.iter().position(|c| c.name == "FrameDurationLimits") {
        source.set(&[(place, Value::IntPair([33_333, 33_333]))]).unwrap();
        let mut told = false;
        frames(source.as_mut(), 10, &mut |f| told |= f.shown.contains(&(place, Value::IntPair([33_333, 33_333]))));
        assert!(told, "a setting that was taken is shown");
    }
    source.expose(Light::Manual { time_us: 1e6, gain: 4.0 }).unwrap();
    frames(source.as_mut(), 10, &mut |_| ());
    source.expose(Light::Auto).unwrap();
    frames(source.as_mut(), 10, &mut |_| ());
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Memory of this process alone (KiB).
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Counts after a while of warming up against those at the end: a leak of one descriptor or of 1 KiB a time would show.
fn costs_nothing(word: &str, rounds: usize, mut round: impl FnMut()) {
    for _ in 0..rounds / 5 {
        round();
    }
    let (fds, kib, begin) = (descriptors(), memory(), Instant::now());
    for _ in 0..rounds {
        round();
    }
    let grown = memory().saturating_sub(kib);
    println!(
        "      {rounds} {word} in {:.1} s: {grown} KiB more, descriptors {fds} -> {}",
        begin.elapsed().as_secs_f64(),
        descriptors()
    );
    assert_eq!(descriptors(), fds);
    assert!((grown as usize) < rounds, "{grown} KiB more after {rounds} {word}");
}

#[test]
fn a_thousand_starts_and_stops_leak_nothing() {
    let mut source = open("Pictures", &wanted(320, 240));
    costs_nothing("starts and stops", 1000, || {
        source.start(0).unwrap();
        frames(source.as_mut(), 1, &mut |_| ());
        source.stop();
    });
}

#[test]
fn opening_and_closing_leaks_nothing() {
    costs_nothing("openings", 60, || {
        let mut source = open("Pictures", &wanted(320, 240));
        source.start(0).unwrap();
        frames(source.as_mut(), 1, &mut |_| ());
    });
}
