//! The command line: what it prints and the codes it ends with.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::harness::{Setup, free_port};
use crate::said;

fn pastcam(arguments: &[&str]) -> Output {
    let dir = Setup::new("cli").dir;
    Command::new(env!("CARGO_BIN_EXE_pastcam")).args(arguments).current_dir(&**dir).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn version_and_help() {
    for word in ["--version", "-V"] {
        let out = pastcam(&[word]);
        assert_eq!((out.status.code(), text(&out.stdout)), (Some(0), concat!("pastcam ", env!("PASTCAM_VERSION"), "\n")));
    }
    for word in ["--help", "-h"] {
        let out = pastcam(&[word]);
        assert_eq!(out.status.code(), Some(0));
        for part in ["--config FILE", "--source SPEC", "check-config", "send HOST[:PORT] COMMAND", "simulate-night", "--json"] {
            assert!(text(&out.stdout).contains(part), "{part}");
        }
    }
}

#[test]
fn wrong_arguments_end_with_64_and_say_why() {
    for (arguments, word) in [
        (&["--nonsense"][..], "--nonsense"),
        (&["nonsense"], "nonsense"),
        (&["--config"], "--config"),
        (&["--json"], "--json"),
        (&["--source", "webcam"], "webcam"),
        (&["check-config", "x"], "check-config"),
        (&["check-config", "--json"], "check-config"),
        (&["simulate-night"], "simulate-night"),
        (&["simulate-night", "a", "b"], "simulate-night"),
        (&["send"], "HOST"),
        (&["send", "127.0.0.1"], "command"),
        (&["send", "127.0.0.1:0", "ping"], "127.0.0.1:0"),
        (&["send", "cam:99999", "ping"], "cam:99999"),
    ] {
        let out = pastcam(arguments);
        assert_eq!(out.status.code(), Some(64), "{arguments:?}: {}", text(&out.stderr));
        assert!(out.stdout.is_empty() && text(&out.stderr).lines().count() == 1, "{arguments:?}");
        assert!(
            text(&out.stderr).starts_with("pastcam: ") && text(&out.stderr).contains(word),
            "{arguments:?}: {}",
            text(&out.stderr)
        );
    }
}

/// `pastcam … | true`: nobody reads what it says.
fn unread(arguments: &[&str], both: bool) -> (Option<i32>, String) {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pastcam"));
    command.args(arguments).stdin(Stdio::null()).stdout(writer.try_clone().unwrap());
    command.stderr(if both { Stdio::from(writer) } else { Stdio::piped() });
    let out = command.output().unwrap();
    (out.status.code(), text(&out.stderr).to_string())
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let r = Setup::new("unread").start();
    let here = format!("127.0.0.1:{}", r.setup.port);
    let night = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/night/plateau_4.csv");
    let night = night.to_str().unwrap();
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["check-config"], 0),
        (&["simulate-night", night], 0),
        (&["simulate-night", night, "--json"], 0),
        (&["send", &here, "ping"], 0),
        (&["send", &here, "nonsense"], 1),
    ] {
        assert_eq!(unread(arguments, false), (Some(code), String::new()), "{arguments:?}");
    }
    for (arguments, code) in [(&["--defaults"][..], 64), (&["--config", "nowhere.json"], 1), (&["send"], 64)] {
        assert_eq!(unread(arguments, true).0, Some(code), "{arguments:?}");
    }
    // A full disk is one.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_pastcam")).arg("--help").stdout(full).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).starts_with("pastcam: write the answer to stdout: "), "{}", text(&out.stderr));
}

#[test]
fn an_argument_that_is_no_text_is_a_wrong_argument() {
    let odd = OsStr::from_bytes(b"x\xffy");
    for first in ["--config", "send"] {
        let out = Command::new(env!("CARGO_BIN_EXE_pastcam")).arg(first).arg(odd).output().unwrap();
        assert_eq!(out.status.code(), Some(64), "{}", text(&out.stderr));
        assert!(text(&out.stderr).starts_with("pastcam: ") && text(&out.stderr).contains("UTF-8"), "{}", text(&out.stderr));
    }
}

/// `pastcam check …`: its exit code and its one line.
fn check(arguments: &[&str]) -> (Option<i32>, String) {
    let out = pastcam(&[&["check"], arguments].concat());
    assert_eq!((text(&out.stderr), text(&out.stdout).lines().count()), ("", 1), "{arguments:?}");
    (out.status.code(), text(&out.stdout).trim_end().to_string())
}

#[test]
fn check_has_the_codes_of_monitors() {
    let r = Setup::new("well").start();
    let here = format!("127.0.0.1:{}", r.setup.port);
    let (code, line) = check(&[&here]);
    assert_eq!(code, Some(0), "{line}");
    let (said, data) = line.split_once(" | ").unwrap();
    assert!(said.starts_with("PASTCAM OK - RUNNING, frame ") && data.contains("age=") && data.contains("s;5;30 fps="), "{line}");
    let (code, line) = check(&[&here, "-w", "0", "-c", "1000"]);
    assert!(code == Some(1) && line.starts_with("PASTCAM WARNING - the newest frame is "), "{line}");
    let (code, line) = check(&["-w", "0", "-c", "0", &here]);
    assert!(code == Some(2) && line.starts_with("PASTCAM CRITICAL - the newest frame is "), "{line}");
    let (code, line) = check(&[&here, "--wrong"]);
    assert!(code == Some(3) && line.starts_with("PASTCAM UNKNOWN - ") && line.contains("--wrong"), "{line}");
    assert_eq!(check(&[]).0, Some(3));
    // A drawn picture that nobody asked for.
    let drawn = Setup::new("drawn").set("camera.source", "auto").start();
    let (code, line) = check(&[&format!("127.0.0.1:{}", drawn.setup.port)]);
    assert!(code == Some(1) && line.contains("no camera: the picture is a drawn test pattern"), "{line}");
}

#[test]
fn check_tells_what_it_cannot_judge_from_what_is_bad() {
    let setup = Setup::new("unwell").set("network.token", "river-stone").controlled("hang=1").frameless();
    let r = setup.start();
    let here = format!("127.0.0.1:{}", r.setup.port);
    let (code, line) = check(&[&here, "token=wrong"]);
    assert!(code == Some(3) && line.contains("token="), "{line}");
    let (code, line) = check(&[&here, "token=river-stone"]);
    assert!(code == Some(2) && line.starts_with("PASTCAM CRITICAL - STARTING: no frame yet"), "{line}");
    let own = r.setup.command().args(["check", "here"]).output().unwrap();
    assert_eq!(own.status.code(), Some(2), "the token of the configuration: {}", text(&own.stdout));
    setup.control("fail=1");
    crate::harness::until("the camera's loss", || {
        check(&[&here, "token=river-stone"]).1.contains("the camera is lost (").then_some(())
    });

    // A port that says nothing, one that says something else, and none.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = listener.local_addr().unwrap().to_string();
    let (code, line) = check(&[&other, "--timeout", "0.2"]);
    assert!(code == Some(2) && line.starts_with("PASTCAM CRITICAL - wait for the answer of 127.0.0.1 port "), "{line}");
    drop(listener.accept());
    let server = std::thread::spawn(move || {
        std::io::Write::write_all(&mut listener.accept().unwrap().0, b"HTTP/1.1 400 Bad | Request\r\n").unwrap();
    });
    let (code, line) = check(&[&other]);
    assert!(code == Some(3) && line.contains("HTTP/1.1 400 Bad / Request"), "{line}");
    server.join().unwrap();
    assert_eq!(check(&[&other]).0, Some(2), "nobody listens");
}

#[test]
fn send_tells_done_from_refused_from_unanswered() {
    let r = Setup::new("send").start();
    let here = format!("127.0.0.1:{}", r.setup.port);
    let out = pastcam(&["send", &here, "save", "jpg", "tag=cli"]);
    assert_eq!(out.status.code(), Some(0));
    assert!(said::single(text(&out.stdout).trim_end()).path.to_str().unwrap().ends_with("_cli.jpg"));
    // The command in one word, as a shell may pass it.
    let out = pastcam(&["send", &here, "health"]);
    assert_eq!(out.status.code(), Some(0));
    said::health(text(&out.stdout).trim_end());
    assert_eq!(pastcam(&["send", &here, "status json"]).status.code(), Some(0));
    for (command, answer) in [("save bmp", "NOT_SAVED"), ("nonsense", "UNKNOWN_COMMAND"), ("save tag=/", "ERR usage ")] {
        let out = pastcam(&["send", &here, command]);
        assert_eq!(out.status.code(), Some(1), "{command}");
        assert!(text(&out.stdout).starts_with(answer), "{command}");
    }
    // Nobody there.
    let out = pastcam(&["send", &format!("127.0.0.1:{}", free_port()), "ping"]);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0));
    assert!(text(&out.stderr).starts_with("pastcam: reach 127.0.0.1 port "), "{}", text(&out.stderr));
    // Somebody who takes the command and closes without an answer, or in the middle of one.
    for said in [&b""[..], b"Saved sin"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let n = client.read(&mut [0; 64]).unwrap();
            client.write_all(said).unwrap();
            n
        });
        let out = pastcam(&["send", &there, "save"]);
        assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0));
        assert_eq!(server.join().unwrap(), b"save\n".len());
    }
}

#[test]
fn send_gets_an_empty_ring_as_a_refusal() {
    let r = Setup::new("send-empty").controlled("hang=1").frameless().start();
    let here = format!("127.0.0.1:{}", r.setup.port);
    for (command, answer) in [("night_level", "NO_DATA\n"), ("pastStack", "NO_FRAMES\n")] {
        let out = pastcam(&["send", &here, command]);
        assert_eq!((out.status.code(), text(&out.stdout)), (Some(1), answer));
    }
}

#[test]
fn check_config_shows_what_the_ring_will_hold() {
    let setup = Setup::new("check").set("ring.size", 50);
    let out = setup.command().arg("check-config").output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let shown = text(&out.stdout);
    assert!(shown.starts_with("The configuration is good.\nRing memory calculation details:\n"), "{shown}");
    assert!(shown.contains("320x240") && shown.contains("50 frames, 5.0 s at 10 fps"), "{shown}");
    // Without a file the defaults hold.
    let out = pastcam(&["check-config"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
}

/// The configuration of the service that this program follows, unchanged.
#[test]
fn the_configuration_of_the_older_service_works_as_it_is() {
    let older = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/older/config.json");
    let out = pastcam(&["check-config", "--config", older.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("Ring image size      : 1024x768"), "{}", text(&out.stdout));
    // And it runs: only its port is changed here, for other tests run beside this one.
    let mut setup = Setup::new("older");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(older).unwrap()).unwrap();
    config["network"]["trigger_port"] = setup.port.into();
    config["network"]["bind"] = serde_json::json!(["127.0.0.1"]);
    setup.config = config;
    let r = setup.start();
    let first = said::single(&r.ask("save"));
    assert!(first.path.with_extension("png").is_file() && first.path.starts_with(r.captures()));
    assert_eq!(said::night_level(&r.ask("night_level")).1, "35");
    // Its own default: a picture every 900 s, the first at once.
    crate::harness::until("the first periodic picture", || (r.status()["saved"].as_u64()? >= 3).then_some(()));
}

#[test]
fn a_day_of_light_is_simulated_in_a_moment() {
    let trace = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/night").join(name);
    let slope = trace("slope_equator_equinox.csv");
    let out = pastcam(&["simulate-night", slope.to_str().unwrap(), "--json"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let report: Value = serde_json::from_str(text(&out.stdout)).unwrap();
    assert_eq!(text(&out.stdout).lines().count(), 1);
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(trace("expected.json")).unwrap()).unwrap();
    let rule = &expected["traces"]["slope_equator_equinox"];
    assert_eq!(report["count"], rule["rule_switches"]);
    let switches = report["switches"].as_array().unwrap();
    assert_eq!(switches.len() as u64, report["count"].as_u64().unwrap());
    for (switch, due) in switches.iter().zip(rule["rule_times"].as_array().unwrap()) {
        assert!((switch["t_s"].as_f64().unwrap() - due[0].as_f64().unwrap()).abs() <= 15.0, "{switch} against {due}");
        assert_eq!(switch["to"], due[1]);
    }
    // For people: a line a switch. And with the owner's own thresholds.
    let out = pastcam(&["simulate-night", slope.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(0));
    assert!(text(&out.stdout).contains("NIGHT") && text(&out.stdout).contains("DAY"), "{}", text(&out.stdout));
    let never = Setup::new("never").set("night.enable", false);
    let out = never.command().args(["simulate-night", slope.to_str().unwrap(), "--json"]).output().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text(&out.stdout)).unwrap()["count"], 0);

    let fast = Setup::new("fast").set("camera.framerate", 240);
    let month = fast.dir.join("month.csv");
    std::fs::write(&month, "0,5\n0,50\n2678400,5\n").unwrap();
    let out = fast.command().args(["simulate-night", month.to_str().unwrap()]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("at most 26784000 frames by day, not 642816000"), "{}", text(&out.stderr));

    for (content, word) in
        [(None, "no-such.csv"), (Some("t_s,lux\n0,dark\n"), "dark"), (Some("0,5\n1e15,5\n"), "31 days"), (Some(""), "")]
    {
        let setup = Setup::new("trace");
        let file = setup.dir.join("no-such.csv");
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let out = pastcam(&["simulate-night", file.to_str().unwrap()]);
        assert_ne!(out.status.code(), Some(0), "{content:?}");
        assert!(text(&out.stderr).lines().count() == 1 && text(&out.stderr).contains(word), "{}", text(&out.stderr));
    }
}

#[test]
fn the_source_of_the_command_line_wins() {
    let setup = Setup::new("source").set("camera.source", "file:/no/such/file.mp4");
    let r = setup.clone();
    let mut child = r.command().args(["--source", "pattern"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let done =
        crate::harness::until("a picture", || crate::client::try_ask(r.port, "save jpg").filter(|a| a.starts_with("Saved ")));
    child.kill().unwrap();
    child.wait().unwrap();
    said::single(&done);
}
