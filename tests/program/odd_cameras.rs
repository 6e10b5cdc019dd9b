//! RTSP cameras with faults: refusals, and what they send without end. What is asked of them, what is said of them, and what it costs.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::harness::{Setup, until};
use crate::odd::{Odd, OddCamera};
use crate::peer::Snapshots;

/// A program in front of a camera; `None` where the library cannot do it.
fn in_front(word: &str, source: &str) -> Option<Setup> {
    let possible = ["x264enc", "rtph264pay", "rtph264depay", "h264parse", "avdec_h264"].iter().all(|e| pastcam::gst::has(e));
    if !possible {
        println!("SKIP: no x264, parser or decoder of H.264 here");
    }
    possible.then(|| Setup::new(word).set("camera.source", source).frameless())
}

const MD5: &str = r#"Digest realm="cam", nonce="abc""#;
const SHA_256: &str = r#"Digest realm="cam", nonce="abc", algorithm=SHA-256, qop="auth""#;

#[test]
fn a_wrong_login_is_tried_once_told_with_its_cure_and_tried_again_on_sighup() {
    for (asks, why) in [
        (&[MD5][..], "the camera refuses this user or password (401); correct them in camera.source"),
        (&[r#"Basic realm="cam""#], "the camera refuses this user or password (401); correct them in camera.source"),
        (&[SHA_256], "the camera takes a login only as a SHA-256 digest"),
    ] {
        let camera = OddCamera::new(Odd::Asks(asks));
        let Some(setup) = in_front("refused", &camera.url("me:wrong@")) else { return };
        let r = setup.start();
        r.until_logged(why);
        r.until_logged("trying again in 120 s, so that the camera does not lock the account");
        assert_eq!(camera.logins(), 1, "{:?}", camera.requests.lock().unwrap());
        assert!(r.status()["source"]["why"].as_str().is_some_and(|told| told.contains(why)), "{}", r.ask("status json"));
        let line = r.ask("status");
        assert!(line.contains(" why=(rtsp://127.0.0.1:") && line.contains("/live: the camera "), "{line}");
        assert!(!(r.log() + &r.ask("status json")).contains("wrong"), "{}", r.log());
        r.signal(Signal::SIGHUP);
        until("a second try", || (camera.logins() == 2).then_some(()));
        // To another camera that wants no login.
        let open = OddCamera::new(Odd::Nothing);
        let changed = r.setup.clone().set("camera.source", open.url(""));
        drop(changed.command());
        r.signal(Signal::SIGHUP);
        r.until_logged("Frames come");
        let status = r.status();
        assert_eq!((&status["source"]["spec"], status["source"]["why"].is_null()), (&open.url("").into(), true));
        assert_eq!(camera.logins(), 2);
    }
}

#[test]
fn a_camera_that_wants_another_login_for_each_request_plays_and_a_wrong_one_is_tried_once() {
    let camera = OddCamera::new(Odd::FreshNonces);
    let Some(setup) = in_front("nonces", &camera.url("me:right@")) else { return };
    let r = setup.start();
    r.until_logged("Frames come");
    assert!(!r.log().contains("refuses"), "{}", r.log());
    drop(r);
    let camera = OddCamera::new(Odd::FreshNonces);
    let r = in_front("nonces", &camera.url("wrong:wrong@")).unwrap().start();
    r.until_logged("trying again in 120 s");
    assert_eq!(camera.logins(), 1, "{:?}", camera.requests.lock().unwrap());
}

#[test]
fn the_kind_of_source_follows_sighup() {
    let camera = OddCamera::new(Odd::Asks(&[MD5]));
    let Some(setup) = in_front("kind", &camera.url("")) else { return };
    let r = setup.start();
    r.until_logged("the camera wants a user and a password");
    assert_eq!(r.status()["source"]["kind"], "rtsp");
    let other = Snapshots::new(None);
    let changed = r.setup.clone().set("camera.source", format!("http://127.0.0.1:{}/", other.port));
    drop(changed.command());
    r.signal(Signal::SIGHUP);
    r.until_logged("Frames come");
    assert_eq!(r.status()["source"]["kind"], "http");
}

/// What a run of this command says.
fn said(command: &mut Command) -> String {
    let out = command.output().unwrap();
    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
}

#[test]
fn secrets_in_any_part_of_an_address_are_shown_nowhere() {
    let camera = OddCamera::new(Odd::Asks(&[MD5]));
    for path in [
        "user=hunter1_password=hunter2_channel=1.sdp",
        "live?channel=1&pwd=hunter3",
        "channel=1;pwd=hunter4",
        "channel=1?%70wd%3Dhunter5",
    ] {
        let source = camera.url("hunter6:hunter7@").replace("live", path);
        let Some(setup) = in_front("secrets", &source) else { return };
        let r = setup.clone().set("logging.level", "TRACE").start();
        r.until_logged("refuses this user or password");
        let mut told = r.log() + &r.ask("status") + &r.ask("status json");
        assert!(told.contains("rtsp://127.0.0.1:") && told.contains("channel=1"), "{told}");
        // A second start prints the first one's command line, and a slip is shown with its rule.
        told += &said(&mut setup.command());
        told += &said(setup.command().args(["check-config", "--source", &source.replace("rtsp://", "rtsp:/")]));
        told += &said(setup.set("camera.source", [source].as_slice()).command().arg("check-config"));
        assert!(!told.contains("hunter"), "{told}");
        assert!(told.contains("is in use by another pastcam") && told.contains("camera.source: a text in quotes"), "{told}");
    }
}

#[test]
fn a_second_start_shows_the_first_one_s_command_line_without_its_secrets() {
    let setup = Setup::new("second").set("camera.source", "pattern").frameless();
    let mut first = setup.command();
    let mut first =
        first.args(["--source", "rtsp://me:hunter1@127.0.0.1:1/live?token=hunter2"]).stderr(Stdio::null()).spawn().unwrap();
    until("the first one's folder", || crate::client::try_ask(setup.port, "ping"));
    let told = said(&mut setup.command());
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(told.contains("--source rtsp://127.0.0.1:1/live?token=***)") && !told.contains("hunter"), "{told}");
}

#[test]
fn a_picture_without_end_is_a_lost_camera_and_costs_bounded_memory() {
    let camera = OddCamera::new(Odd::EndlessUnit);
    let Some(setup) = in_front("endless", &camera.url("")) else { return };
    let mut r = setup.start();
    r.until_logged("16 MiB of H264 came and no picture was complete");
    until("three connections", || {
        (camera.requests.lock().unwrap().iter().filter(|q| q.starts_with("PLAY")).count() >= 3).then_some(())
    });
    r.expect_alive();
    // The program itself has some 50 MiB in a debug build.
    let beyond = r.status()["rss_beyond_ring_bytes"].as_u64().unwrap() >> 20;
    assert!(beyond < 130, "{beyond} MiB");
}

#[test]
fn pictures_that_are_too_large_are_a_lost_camera_and_not_decoded() {
    for odd in [Odd::LargePictures, Odd::LargeVp8] {
        let camera = OddCamera::new(odd);
        let Some(setup) = in_front("large", &camera.url("")) else { return };
        let mut r = setup.start();
        r.until_logged("/live: pictures of 8192x8192, and at most 8847360 pixels are taken; choose smaller pictures");
        r.expect_alive();
        let beyond = r.status()["rss_beyond_ring_bytes"].as_u64().unwrap() >> 20;
        assert!(beyond < 130, "{beyond} MiB");
    }
}

#[test]
fn a_key_frame_that_comes_late_is_waited_for() {
    let camera = OddCamera::new(Odd::LateKeyFrame);
    let Some(setup) = in_front("late", &camera.url("")) else { return };
    let r = setup.start();
    r.until_logged("Frames come");
    assert!(!r.log().contains("Frames lost"), "{}", r.log());
}

#[test]
fn a_camera_that_does_not_name_its_channels_plays() {
    let camera = OddCamera::new(Odd::NoChannels);
    let Some(setup) = in_front("channels", &camera.url("")) else { return };
    let r = setup.start();
    r.until_logged("the camera may not say on which channel it sends");
    r.until_logged("Frames come");
    r.until_more_frames(10);
    let asked = camera.requests.lock().unwrap().iter().filter(|q| q.starts_with("PLAY")).count();
    assert_eq!((asked, &r.status()["source"]["rebuilds"]), (2, &1.into()), "the second attempt holds");
}

#[test]
fn answers_without_end_are_a_lost_camera_and_cost_bounded_memory() {
    for (odd, asks, why) in [
        (Odd::EndlessDescription, "DESCRIBE", "its description does not end; restart the camera"),
        (Odd::EndlessHead, "OPTIONS", "the camera takes the connection and then closes it or does not answer"),
    ] {
        let camera = OddCamera::new(odd);
        let Some(setup) = in_front("description", &camera.url("")) else { return };
        let mut r = setup.start();
        r.until_logged(why);
        let tries = || camera.requests.lock().unwrap().iter().filter(|q| q.starts_with(asks)).count();
        until("a second try", || (tries() >= 2).then_some(()));
        r.expect_alive();
        assert_eq!(r.terminate().code(), Some(0));
        assert!(!r.log().contains("Not everything ended in time"), "{}", r.log());
    }
}
