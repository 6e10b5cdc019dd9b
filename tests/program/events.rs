//! What subscribers are told without asking: a camera that is lost and comes back, pictures that fail, how recordings end.

use std::fs;
use std::io::Write;
use std::net::TcpStream;

use nix::sys::signal::Signal;

use crate::client::{connect, read_line};
use crate::harness::{Running, Setup, free_port, until};

/// A program and a subscriber of it.
pub fn subscribed(setup: Setup) -> (Running, TcpStream) {
    let port = free_port();
    let r = setup.set("network.persistent_port", port).start();
    let mut s = connect(port);
    s.write_all(b"subscribe\n").unwrap();
    assert!(read_line(&mut s).starts_with("EVENT mode="));
    (r, s)
}

/// The next event that begins so; others may come before it.
pub fn event(s: &mut TcpStream, start: &str) -> String {
    loop {
        let line = read_line(s);
        assert!(line.starts_with("EVENT "), "{line:?} instead of {start}");
        if line.starts_with(start) {
            return line.trim_end().to_owned();
        }
    }
}

#[test]
fn a_camera_that_is_lost_and_comes_back_is_told() {
    let setup = Setup::new("event-state").controlled("lux=400");
    let (r, mut s) = subscribed(setup.clone());
    setup.control("fail=1");
    let lost = event(&mut s, "EVENT state=");
    assert!(lost.starts_with("EVENT state=LOST why=") && lost.contains("(fail=1)"), "{lost}");
    setup.control("lux=400");
    assert_eq!(event(&mut s, "EVENT state="), "EVENT state=RUNNING");
    until("the same in status", || (r.status()["state"] == "RUNNING").then_some(()));
}

#[test]
fn counters_that_grow_are_told_in_the_log_and_to_subscribers() {
    let setup = Setup::new("event-counters").controlled("lux=400");
    let (r, mut s) = subscribed(setup.clone());
    setup.control("fail=1");
    event(&mut s, "EVENT state=LOST");
    setup.control("lux=400");
    let restarts = event(&mut s, "EVENT counter=restarts");
    assert!(restarts.starts_with("EVENT counter=restarts more=") && restarts.contains(" total="), "{restarts}");
    let total: u64 = restarts.rsplit('=').next().unwrap().parse().unwrap();
    let source = &r.status()["source"];
    assert_eq!(source["restarts"].as_u64().unwrap() + source["rebuilds"].as_u64().unwrap(), total);
    r.until_logged(&format!("Restarts of the source: {total} ({total} since the start)"));
}

/// Not only at its end: somebody may wait for each picture of a burst that takes hours.
#[test]
fn each_picture_of_a_burst_is_told_when_it_is_there() {
    let (r, mut s) = subscribed(Setup::new("event-burst"));
    let mut burst = connect(r.setup.port);
    burst.write_all(b"save jpg png count=100 every=0.3 tag=burst\n").unwrap();
    for n in 1..=3 {
        let saved = event(&mut s, "EVENT saved=");
        assert!(saved.ends_with("_burst.jpg"), "{saved}");
        let there = r.names().iter().filter(|name| name.ends_with("_burst.png")).count();
        assert!((n..100).contains(&there), "{there} pictures at event {n}");
    }
}

#[test]
fn pictures_that_fail_are_told_whoever_asked() {
    // A file stands where the folder should be: nothing can be written.
    let setup = Setup::new("event-failed");
    fs::write(setup.captures(), "").unwrap();
    let (r, mut s) = subscribed(setup.clone());
    assert!(r.ask("save jpg").starts_with("ERR disk "));
    let failed = event(&mut s, "EVENT failed=");
    assert!(failed.starts_with("EVENT failed=save by=command kind=disk why=") && failed.contains("captures"), "{failed}");
    // What is refused is no trouble.
    assert!(r.ask("pastStack jpg before=9999").starts_with("ERR past "));
    drop(r);
    let (_r, mut s) = subscribed(setup.set("export.auto_save_interval_s", 1.0));
    assert!(event(&mut s, "EVENT failed=").starts_with("EVENT failed=save by=clock kind=disk why="));
}

#[test]
fn a_recording_tells_its_files_and_why_it_ended() {
    let setup = Setup::new("event-recorded");
    let (r, mut s) = subscribed(setup.clone());
    assert!(r.ask("record start").starts_with("OK recording "));
    let answer = r.ask("record stop");
    let file = crate::recordings::file_of(&answer);
    let saved = event(&mut s, "EVENT ");
    assert_eq!(saved, format!("EVENT saved={}", file.display()));
    let recorded = event(&mut s, "EVENT ");
    let start = format!("EVENT recorded={} seconds=", file.display());
    assert!(recorded.starts_with(&start) && recorded.ends_with(" by=command ended=stopped"), "{recorded}");
    assert!(r.ask("record start 0.5").starts_with("OK recording "));
    assert!(event(&mut s, "EVENT recorded=").ends_with(" by=command ended=over"));
    assert!(r.ask("record start").starts_with("OK recording "));
    let full = setup.set("export.min_free_mib", 1u64 << 40);
    fs::write(full.config_file(), full.config.to_string()).unwrap();
    r.signal(Signal::SIGHUP);
    assert!(event(&mut s, "EVENT recorded=").ends_with(" by=command ended=disk"));
    assert!(r.ask("record start").starts_with("ERR disk "));
    assert!(event(&mut s, "EVENT failed=record").starts_with("EVENT failed=record by=command kind=disk why="));
}
