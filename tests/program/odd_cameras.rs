//! RTSP cameras with faults: refusals, and what they send without end. What is asked of them, what is said of them, and what it costs.

use nix::sys::signal::Signal;

use crate::harness::{Setup, until};
use crate::odd::{Odd, OddCamera};

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
