//! What happens to controls when the camera fails: hang, cancelled requests, unplugged and plugged in again.

use crate::harness::{PATIENCE, Setup, until};
use crate::{exposure_us, get, pattern, proved, recoveries};

#[test]
fn after_a_hang_the_ladder_brings_the_controls_back() {
    let setup = pattern("hang", "");
    let mut r = setup.start();
    r.until_frame(4);
    proved(&r.ask("set ExposureTime=1500000 Contrast=1.5"), "OK ExposureTime=1500000 Contrast=1.5 ");
    r.until_more_frames(16);
    setup.control("hang=1");
    // An order on its way when the camera hangs is answered when it is lost, and kept for its return.
    let answer = r.ask("set Contrast=2");
    assert!(
        answer.starts_with("OK Contrast=2 ")
            || answer.starts_with("ERR source the camera was lost before a frame showed the change"),
        "{answer}"
    );
    // Frames of 1.5 s: the limit is 3 × 1.5 s + 2 s and not 5 s.
    r.until_logged("no frame for 6.5 s");
    setup.control("lux=400");
    until("frames again", || (r.status()["state"] == "RUNNING").then_some(()));
    until("the controls again", || (get(&r, "Contrast") == "2" && get(&r, "ExposureTime") == "1500000").then_some(()));
    let (restarts, rebuilds) = recoveries(&r);
    assert!(restarts == 1 && rebuilds <= 1, "{restarts} {rebuilds}");
    r.expect_alive();
}

#[test]
fn a_cancelled_request_costs_one_restart_and_no_control() {
    let setup = pattern("cancel", "");
    let r = setup.start();
    r.until_frame(4);
    proved(&r.ask("set Brightness=0.3"), "OK Brightness=0.3 ");
    let id = r.newest_id().unwrap();
    setup.control("lux=400 cancel=1");
    r.until_logged("came back cancelled");
    until("frames again", || (r.status()["state"] == "RUNNING" && r.newest_id()? > id + 8).then_some(()));
    until("the control again", || (get(&r, "Brightness") == "0.3").then_some(()));
    assert_eq!(recoveries(&r), (1, 0));
}

#[test]
fn a_webcam_that_cancels_fixed_exposures_under_auto_exposure_gets_both_in_one_request() {
    let r = pattern("strict", "strict=1").start();
    r.until_frame(4);
    proved(&r.ask("set ExposureTime=20000"), "OK ExposureTime=20000 with AeEnable=false ");
    assert_eq!(recoveries(&r), (0, 0));
}

#[test]
fn a_webcam_is_unplugged_and_taken_up_again() {
    let setup = pattern("unplug", "");
    let mut r = setup.start();
    r.until_frame(4);
    proved(&r.ask("set Brightness=0.3 ExposureTime=20000 persist"), "OK Brightness=0.3 ExposureTime=20000 ");
    let id = r.newest_id().unwrap();
    setup.control("unplug=1");
    until("the loss", || (r.status()["state"] == "LOST").then_some(()));
    until("refusals", || r.ask("set Brightness=0.1").starts_with("ERR source ").then_some(()));
    // Everything else goes on.
    crate::said::stacked(&r.ask("pastStack jpg before=0"));
    r.until_logged("trying again after a pause");
    setup.control("lux=400");
    until("frames again", || (r.status()["state"] == "RUNNING" && r.newest_id()? > id + 8).then_some(()));
    until("the controls again", || (get(&r, "Brightness") == "0.3").then_some(()));
    assert!((exposure_us(&r) - 20_000.0).abs() < 1.0);
    let (restarts, rebuilds) = recoveries(&r);
    assert!(restarts == 1 && rebuilds >= 1, "{restarts} {rebuilds}");
    r.expect_alive();
}

#[test]
fn a_camera_that_stays_away_is_the_supervisor_s_matter() {
    let setup = Setup::new("away").controlled("unplug=1").frameless();
    let mut r = setup.start();
    assert_eq!(r.ended(PATIENCE).code(), Some(43));
    assert!(r.log().contains("leaving for the supervisor"));
}
