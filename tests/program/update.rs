//! Updates as users send them, with real netcats, to the real program; the image's helper is a stand-in that moves the file away and
//! writes a verdict. Nothing here knows what is in an update.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::client::{self, connect, exchange, one_line};
use crate::harness::{Running, Setup, until};

const TOKEN: &str = "river-stone-42";

/// An image with a token.
fn image(word: &str) -> Setup {
    let setup = Setup::new(word).set("network.token", TOKEN).set("update.dir", "update").frameless();
    fs::create_dir(setup.dir.join("update")).unwrap();
    setup
}

/// Starts it and waits for an answer and a frame; every question carries the token.
fn start(setup: &Setup) -> Running {
    let r = setup.start();
    until("a first frame", || (ask(&r, "night_level") != "NO_DATA").then_some(()));
    r
}

fn ask(r: &Running, line: &str) -> String {
    r.ask(&format!("{line} token={TOKEN}"))
}

fn folder(r: &Running) -> PathBuf {
    r.setup.dir.join("update")
}

/// Bytes that hold line ends, commands and telnet's 255.
fn bundle(size: usize) -> Vec<u8> {
    let mut bytes = b"hsqs\nsave\r\n\xff\xf4\xff\xff\0delete x\n".to_vec();
    let mut x = 1u32;
    while bytes.len() < size {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.push((x >> 24) as u8);
    }
    bytes.truncate(size);
    bytes
}

/// Plays the helper: waits for the file, gives its bytes back, writes the verdict.
fn help(r: &Running, verdict: &str) -> Vec<u8> {
    let dir = folder(r);
    let came = until("the update in its folder", || fs::read(dir.join("incoming.raucb")).ok());
    fs::rename(dir.join("incoming.raucb"), dir.join("taken")).unwrap();
    fs::write(dir.join("verdict.new"), format!("{verdict}\n")).unwrap();
    fs::rename(dir.join("verdict.new"), dir.join("verdict")).unwrap();
    came
}

/// What a shell user types: the line and the file into a netcat.
fn netcat(setup: &Setup, nc: &str, head: &str, bytes: &[u8]) -> std::process::Child {
    let file = setup.dir.join("sent.raucb");
    fs::write(&file, bytes).unwrap();
    let script = format!("{{ printf '{head}'; cat sent.raucb; }} | {nc} 127.0.0.1 {}", setup.port);
    let mut shell = Command::new("timeout");
    shell.args(["60", "sh", "-c", &script]).current_dir(&**setup.dir).stdin(Stdio::null()).stdout(Stdio::piped());
    shell.spawn().unwrap()
}

fn answer(child: std::process::Child) -> String {
    let out: Output = child.wait_with_output().unwrap();
    one_line(&out.stdout)
}

#[test]
fn a_file_from_any_netcat_reaches_the_helper_and_its_verdict_comes_back() {
    let setup = image("update");
    let r = start(&setup);
    let sent = bundle(3_000_000);
    let mut ran = 0;
    for nc in ["nc.openbsd", "nc.traditional", "busybox nc", "ncat"] {
        let there = Command::new("sh").args(["-c", &format!("command -v {}", nc.split(' ').next().unwrap())]).output().unwrap();
        if !there.status.success() {
            println!("SKIP: {nc} is not installed");
            continue;
        }
        for end in ["\\n", "\\r\\n"] {
            let head = format!("update {} token={TOKEN} id=u1{end}", sent.len());
            let client = netcat(&setup, nc, &head, &sent);
            assert!(help(&r, "OK installed 0.2.0") == sent, "{nc} {end}: other bytes arrived");
            assert_eq!(answer(client), "OK update installed 0.2.0, restarts in 5 s id=u1", "{nc} {end}");
            fs::remove_file(folder(&r).join("taken")).unwrap();
            fs::remove_file(folder(&r).join("verdict")).unwrap();
        }
        ran += 1;
    }
    assert!(ran > 0, "no netcat at all");
    assert!(crate::harness::names(&r.captures()).is_empty(), "something of the file ran as a command");
}

#[test]
fn others_are_answered_while_a_file_comes_in_and_only_one_comes_at_a_time() {
    let setup = image("update-busy");
    let r = start(&setup);
    let sent = bundle(200_000);
    let mut slow = connect(setup.port);
    slow.write_all(format!("update {} token={TOKEN}\n", sent.len()).as_bytes()).unwrap();
    slow.write_all(&sent[..1000]).unwrap();
    until("the beginning of the file", || folder(&r).join("incoming.raucb.part").exists().then_some(()));
    assert_eq!(ask(&r, "ping"), "PONG");
    assert!(ask(&r, "save jpg").starts_with("Saved "));
    let second = exchange(setup.port, format!("update 5 token={TOKEN}\nABCDE").as_bytes(), false);
    assert_eq!(one_line(&second), "ERR busy another update is on its way");
    slow.write_all(&sent[1000..]).unwrap();
    assert!(help(&r, "ERR not accepted: signature verification failed") == sent);
    let mut text = String::new();
    slow.read_to_string(&mut text).unwrap();
    assert_eq!(text, "ERR update not accepted: signature verification failed\n");
    // The way is free again.
    let third = exchange(setup.port, format!("update 9 token={TOKEN}\nABC").as_bytes(), true);
    assert_eq!(one_line(&third), "ERR update the sender ended after 3 of 9 bytes");
}

#[test]
fn what_may_not_come_in_is_refused_before_it_comes() {
    let setup = image("update-refused");
    let r = start(&setup);
    let sent = bundle(8_000_000);
    let wrong = "ERR denied this port wants token=WORD in every command";
    for (head, expected) in [
        (format!("update {} token=guess", sent.len()), wrong),
        (format!("update {}", sent.len()), wrong),
        (format!("update 0 token={TOKEN}"), "ERR usage update takes a file of 1 to 536870912 bytes, not 0"),
        (format!("update 536870913 token={TOKEN}"), "ERR usage update takes a file of 1 to 536870912 bytes, not 536870913"),
        (
            format!("update file.raucb token={TOKEN}"),
            "ERR usage update takes the file's size in bytes, and then the file: update BYTES token=WORD",
        ),
    ] {
        // A netcat that sends on for megabytes must see the answer all the same.
        let client = netcat(&setup, "nc", &format!("{head}\\n"), &sent);
        assert_eq!(answer(client), expected, "{head}");
    }
    let unended = exchange(setup.port, format!("update 5 token={TOKEN}").as_bytes(), true);
    assert_eq!(one_line(&unended), "ERR usage update wants a line end and then the file, over TCP");
    assert!(crate::harness::names(&folder(&r)).is_empty(), "{:?}", crate::harness::names(&folder(&r)));
}

#[test]
fn a_sender_that_goes_away_leaves_nothing_behind() {
    let setup = image("update-gone");
    let mut r = start(&setup);
    let part = folder(&r).join("incoming.raucb.part");
    for half_close in [true, false] {
        let mut s = connect(setup.port);
        s.write_all(format!("update 1000000 token={TOKEN}\nabc").as_bytes()).unwrap();
        until("the beginning of the file", || part.exists().then_some(()));
        if half_close {
            s.shutdown(Shutdown::Write).unwrap();
        }
        drop(s);
        until("the rest to be removed", || (!part.exists()).then_some(()));
    }
    // A power cut leaves one; the next start removes it.
    let mut s = connect(setup.port);
    s.write_all(format!("update 1000000 token={TOKEN}\nabc").as_bytes()).unwrap();
    until("the beginning of the file", || part.exists().then_some(()));
    r.kill();
    assert!(part.exists());
    let mut again = start(&setup);
    assert!(!part.exists());
    // Stopping does not wait for a sender.
    let mut s = connect(setup.port);
    s.write_all(format!("update 1000000 token={TOKEN}\nabc").as_bytes()).unwrap();
    until("the beginning of the file", || part.exists().then_some(()));
    assert_eq!(again.terminate().code(), Some(0));
}

#[test]
fn without_an_image_or_a_token_there_are_no_updates() {
    let r = Setup::new("update-no-token").set("update.dir", "captures").start();
    let said = exchange(r.setup.port, b"update 3\nabc", false);
    assert_eq!(one_line(&said), "ERR denied update wants a token, and none is set (network.token)");
    let r = start(&Setup::new("update-no-image").set("network.token", TOKEN).frameless());
    let said = exchange(r.setup.port, format!("update 3 token={TOKEN}\nabc").as_bytes(), false);
    assert_eq!(one_line(&said), "ERR update this is no image that could be updated (update.dir is empty)");
}

#[test]
fn nothing_behind_the_line_runs_as_a_command_on_the_port_that_stays_open() {
    let persistent = crate::harness::free_port();
    let setup = image("update-persistent").set("network.persistent_port", persistent);
    let r = start(&setup);
    let line = format!("ping token={TOKEN}\nupdate 40 token=guess\nsave jpg token={TOKEN}\nsave jpg token={TOKEN}\n");
    let said = exchange(persistent, line.as_bytes(), false);
    assert_eq!(String::from_utf8(said).unwrap(), "PONG\nERR denied this port wants token=WORD in every command\n");
    assert!(crate::harness::names(&r.captures()).is_empty());
}

#[test]
fn pastcam_send_brings_a_file_and_finds_the_program_here() {
    let setup = image("update-send");
    let r = start(&setup);
    let file = bundle(500_000);
    fs::write(setup.dir.join("new.raucb"), &file).unwrap();
    let send = |words: &[&str]| {
        let mut c = Command::new(env!("CARGO_BIN_EXE_pastcam"));
        c.args(words).current_dir(&**setup.dir).stdout(Stdio::piped()).stderr(Stdio::piped());
        c.spawn().unwrap()
    };
    let client = send(&["--config", "config.json", "send", "here", "update", "new.raucb"]);
    assert!(help(&r, "OK installed 7") == file);
    let out = client.wait_with_output().unwrap();
    assert_eq!((out.status.code(), one_line(&out.stdout)), (Some(0), "OK update installed 7, restarts in 5 s".into()));
    let to = format!("127.0.0.1:{}", setup.port);
    let out = send(&["send", &to, "update", "new.raucb", "token=guess"]).wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(one_line(&out.stdout).starts_with("ERR denied"));
    let out = send(&["send", &to, "update", "missing.raucb"]).wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(64));
}

#[test]
fn notes_stand_in_status_and_defaults_yield_to_the_configuration() {
    let setup = Setup::new("notes");
    fs::write(setup.dir.join("notes"), "config.json: not taken over: camera.widht: no such key\n\ndata: in RAM\n").unwrap();
    let defaults =
        r#"{"status": {"notes_file": "notes"}, "camera": {"width": 64, "source": "file:/nowhere"}, "update": {"dir": "u"}}"#;
    fs::write(setup.dir.join("defaults.json"), defaults).unwrap();
    let mut child = setup.command().args(["--defaults", "defaults.json"]).stderr(Stdio::null()).spawn().unwrap();
    let status = until("the status", || client::try_ask(setup.port, "status"));
    let json = until("the status", || client::try_ask(setup.port, "status json"));
    let checked = Command::new(env!("CARGO_BIN_EXE_pastcam"))
        .args(["check-config", "--defaults", "missing.json"])
        .current_dir(&**setup.dir)
        .output()
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(status.contains(" notes=2 (config.json: not taken over: camera.widht"), "{status}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["notes"][1], "data: in RAM");
    assert_eq!(json["source"]["spec"], "pattern", "the configuration goes before the defaults");
    assert_eq!(checked.status.code(), Some(1));
}

#[test]
fn a_copy_of_the_whole_shipped_file_leaves_the_defaults_of_the_machine() {
    let setup = Setup::new("copied");
    let (copied, base) = (setup.dir.join("copied.json"), setup.dir.join("defaults.json"));
    fs::write(&base, r#"{"limits": {"watchdog_device": "/dev/watchdog"}, "logging": {"dir": ""}, "camera": {"width": 64}}"#)
        .unwrap();
    let load = |change: fn(&mut serde_json::Value)| {
        let mut whole: serde_json::Value = serde_json::from_str(include_str!("../../config.json")).unwrap();
        change(&mut whole);
        fs::write(&copied, whole.to_string()).unwrap();
        let config = pastcam::config::Config::load(Some(&copied), Some(&base)).unwrap();
        (config.limits.watchdog_device.clone(), config.logging.dir.clone(), config.camera.width, config.camera.height)
    };
    assert_eq!(load(|whole| whole["camera"]["height"] = 480.into()), (Some("/dev/watchdog".into()), None, 64, 480));
    let own = load(|whole| {
        whole["limits"]["watchdog_device"] = "none".into();
        whole["logging"]["dir"] = "./logs".into();
        whole["camera"]["width"] = 320.into();
    });
    assert_eq!(own, (Some("none".into()), Some("./logs".into()), 320, 768));
}
