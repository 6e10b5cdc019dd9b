//! A USB webcam from the plug to the picture: emulated device, real uvcvideo, real libcamera, this program.
//! `scripts/test-uvc` runs it in a virtual machine; elsewhere it is skipped, for want of a kernel that takes such devices.
//! One test at a time, `--test-threads=1`.

#[expect(dead_code, reason = "the program's tests use all of it")]
#[path = "../program/client.rs"]
mod client;
#[expect(dead_code, reason = "the program's tests use all of it")]
#[path = "../program/harness.rs"]
mod harness;
mod webcam;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};
use harness::{Setup, until};
use pastcam::frame::{Colour, Layout};
use pastcam::source::{Camera, Incoming, Light, Polled, Source, Spec, Value};
use pastcam::turn::Turn;
use webcam::{AE_MODE, BRIGHTNESS, BY_HAND, EXPOSURE, PORT, SIZES, Webcam};

fn jpeg(width: u16, height: u16, luma: u8) -> Vec<u8> {
    let layout = Layout::new(width.into(), height.into());
    let mut pixels = vec![128; layout.bytes()];
    pixels[layout.y()].fill(luma);
    gstreamer::init().unwrap();
    let line = "appsrc name=in ! jpegenc quality=95 ! appsink name=out sync=false";
    let pipeline = gstreamer::parse::launch(line).unwrap().downcast::<gstreamer::Pipeline>().unwrap();
    let entry = pipeline.by_name("in").unwrap().downcast::<AppSrc>().unwrap();
    let exit = pipeline.by_name("out").unwrap().downcast::<AppSink>().unwrap();
    entry.set_caps(Some(&pastcam::gst::caps(layout, Colour::default(), gstreamer::Fraction::new(0, 1)).unwrap()));
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    entry.push_buffer(gstreamer::Buffer::from_slice(pixels)).unwrap();
    let bytes = exit.pull_sample().unwrap().buffer().unwrap().map_readable().unwrap().to_vec();
    pipeline.set_state(gstreamer::State::Null).unwrap();
    bytes
}

/// Plugs the webcam in and waits for the kernel and udev to know it; `None` where the kernel takes none.
fn plug() -> Option<Webcam> {
    if !Path::new(PORT).exists() {
        println!("SKIP: a USB webcam: this kernel has no vhci-hcd; scripts/test-uvc brings one that has");
        return None;
    }
    let webcam = Webcam::plug(jpeg);
    until("the kernel's video device", || Path::new("/dev/video0").exists().then_some(()));
    let _ = std::process::Command::new("udevadm").args(["settle", "--timeout=20"]).status();
    Some(webcam)
}

fn camera((width, height): (u16, u16)) -> Camera {
    Camera {
        layout: Layout::new(width.into(), height.into()),
        fps: 15.0,
        day_gain_ceiling: 8.0,
        turn: Turn::default(),
        low: None,
    }
}

fn open(size: (u16, u16)) -> Box<dyn Source> {
    let mut source = until("the camera in libcamera's list", || {
        Spec::Camera(String::new()).make(&camera(size), &pastcam::source::no_outlet()).ok()
    });
    source.start(0).unwrap();
    source.expose(Light::Auto).unwrap();
    source
}

fn next(source: &mut dyn Source, look: &mut dyn FnMut(&Incoming<'_>)) {
    let end = Instant::now() + Duration::from_secs(40);
    while source.next(Duration::from_secs(1), look).unwrap() == Polled::Nothing {
        assert!(Instant::now() < end, "no frame in 40 s");
    }
}

/// The luma in the middle of the next frame, copied as into the ring.
fn luma(source: &mut dyn Source) -> u8 {
    let mut seen = 0;
    next(source, &mut |f| {
        let layout = f.main.layout;
        let mut slot = vec![0; layout.bytes()];
        f.main.copy_to(&mut slot);
        assert!(slot[layout.u()][100].abs_diff(128) <= 2 && slot[layout.v()][100].abs_diff(128) <= 2);
        seen = slot[(layout.height / 2) as usize * layout.y_stride() + 20];
    });
    seen
}

fn place(source: &dyn Source, name: &str) -> Option<usize> {
    source.controls().iter().position(|c| c.name == name)
}

#[test]
fn brightness_is_offered_set_shown_and_seen_in_every_format() {
    let Some(webcam) = plug() else { return };
    for size in SIZES {
        let mut source = open(size);
        println!("      {}", source.name());
        assert!(source.name().contains(&format!(", {}x{} ", size.0, size.1)), "{}", source.name());
        let at = place(source.as_ref(), "Brightness").expect("a control named Brightness");
        let control = source.controls()[at].clone();
        println!("      {control:?}");
        for (value, register) in [(control.max, 255), (control.min, 0), (control.default, 128)] {
            source.set(&[(at, value)]).unwrap();
            let end = Instant::now() + Duration::from_secs(60);
            while luma(source.as_mut()).abs_diff(register) > 3 {
                assert!(Instant::now() < end, "the picture does not become {register}");
            }
            assert_eq!(webcam.value(BRIGHTNESS), i32::from(register));
            let mut told = false;
            while !told {
                assert!(Instant::now() < end, "the setting is not told");
                next(source.as_mut(), &mut |f| told |= f.shown.contains(&(at, value)));
            }
        }
    }
}

#[test]
fn an_exposure_time_needs_auto_exposure_off_and_then_works() {
    let Some(webcam) = plug() else { return };
    let mut source = open(SIZES[0]);
    luma(source.as_mut());
    let exposure = place(source.as_ref(), "ExposureTime").expect("a control named ExposureTime");
    let refused = source.set(&[(exposure, Value::Int(10_000))]).unwrap_err();
    println!("      refused: {refused}");
    assert!(refused.what.contains("auto-exposure is on"), "{refused}");
    assert!(source.longest_exposure_us().is_some_and(|us| us >= 100_000.0));
    for round in 0..3 {
        source.expose(Light::Manual { time_us: 20_000.0, gain: 2.0 }).unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while (webcam.value(AE_MODE), webcam.value(EXPOSURE)) != (BY_HAND, 200) {
            luma(source.as_mut());
            assert!(Instant::now() < end, "round {round}: {:?}", webcam.registers.lock().unwrap());
        }
        source.expose(Light::Auto).unwrap();
        while webcam.value(AE_MODE) == BY_HAND {
            luma(source.as_mut());
            assert!(Instant::now() < end, "round {round}: {:?}", webcam.registers.lock().unwrap());
        }
    }
}

#[test]
fn a_camera_that_refuses_an_exposure_goes_on_without_it() {
    let Some(webcam) = plug() else { return };
    let mut source = open(SIZES[0]);
    luma(source.as_mut());
    webcam.stubborn.store(true, Ordering::Relaxed);
    source.expose(Light::Manual { time_us: 30_000.0, gain: 2.0 }).unwrap();
    // The request that asks for it comes back cancelled; that is no failure of the camera.
    for _ in 0..30 {
        luma(source.as_mut());
    }
    assert_ne!(webcam.value(EXPOSURE), 300);
    webcam.stubborn.store(false, Ordering::Relaxed);
    source.expose(Light::Manual { time_us: 30_000.0, gain: 2.0 }).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while webcam.value(EXPOSURE) != 300 {
        luma(source.as_mut());
        assert!(Instant::now() < end, "it takes the exposure when it can again");
    }
}

#[test]
fn unplugging_is_an_error_at_once_and_plugging_in_makes_it_well() {
    for round in 0..3 {
        let Some(webcam) = plug() else { return };
        let mut source = open(SIZES[0]);
        assert!(luma(source.as_mut()).abs_diff(128) <= 3);
        drop(webcam);
        let begin = Instant::now();
        let said = loop {
            match source.next(Duration::from_millis(500), &mut |_| ()) {
                Ok(_) => assert!(begin.elapsed() < Duration::from_secs(30), "round {round}: an unplugged camera is not noticed"),
                Err(e) => break e,
            }
        };
        println!("      unplugged, noticed after {:.2} s: {said}", begin.elapsed().as_secs_f64());
        source.stop();
        let started = source.start(10);
        assert!(started.is_err(), "an unplugged camera cannot start");
        drop(source);
        until("the kernel to forget the device", || (!Path::new("/dev/video0").exists()).then_some(()));
    }
}

/// Mean luma of a saved picture.
fn saved(setup: &Setup, answer: &str) -> u8 {
    let file = answer.split_whitespace().find(|w| w.contains(".jpg")).unwrap_or_else(|| panic!("{answer}"));
    let path = setup.dir.join(file);
    let line = format!("filesrc location={} ! jpegdec ! video/x-raw,format=I420 ! appsink name=out sync=false", path.display());
    let pipeline = gstreamer::parse::launch(&line).unwrap().downcast::<gstreamer::Pipeline>().unwrap();
    let exit = pipeline.by_name("out").unwrap().downcast::<AppSink>().unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let sample = exit.pull_sample().unwrap();
    let map = sample.buffer().unwrap().map_readable().unwrap();
    map[640 * 200 + 320]
}

#[test]
fn the_program_survives_an_unplugged_webcam_and_shows_brightness_in_its_pictures() {
    let Some(webcam) = plug() else { return };
    gstreamer::init().unwrap();
    let setup = Setup::new("uvc").set("camera.source", "camera").set("camera.width", 640).set("camera.height", 480);
    let mut running = setup.start();
    let before = saved(&setup, &running.ask("save jpg"));
    println!("      saved with brightness 128: {before}");
    assert!(before.abs_diff(128) < 20);
    let answer = running.ask("set Brightness=0.99");
    println!("      set: {answer}");
    if answer.starts_with("UNKNOWN") {
        println!("SKIP: set Brightness in the running program: this program has no command `set`");
    } else {
        let after = saved(&setup, &running.ask("save jpg"));
        println!("      saved with brightness 254: {after}");
        assert!(after > 230, "{answer}");
        println!("      controls: {}", running.ask("controls"));
    }
    let frames = |answer: &str| -> serde_json::Value { serde_json::from_str(answer).unwrap() };
    let held = frames(&running.ask("status json"))["ring"]["frames"].as_u64().unwrap();
    drop(webcam);
    until("the loss in the status", || (frames(&running.ask("status json"))["state"] == "LOST").then_some(()));
    std::thread::sleep(Duration::from_secs(8)); // longer than the ladder for a camera that is there
    running.expect_alive();
    let status = frames(&running.ask("status json"));
    println!("      unplugged: {}", status["source"]);
    assert!(status["ring"]["frames"].as_u64().unwrap() >= held, "past frames are kept");
    let webcam = plug();
    until("frames from the camera that came back", || {
        running.expect_alive();
        (frames(&running.ask("status json"))["state"] == "RUNNING").then_some(())
    });
    println!(
        "      plugged in again: saved {}, {}",
        saved(&setup, &running.ask("save jpg")),
        frames(&running.ask("status json"))["source"]
    );
    drop(running);
    drop(webcam);
}
