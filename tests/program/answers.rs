//! What is answered: the four commands of the program before this one byte for byte, and everything that is new beside them.

use std::io::Write;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::client::{self, exchange, read_line};
use crate::harness::{PATIENCE, Setup, free_port, until};
use crate::said;
use pastcam::verbs;

#[test]
fn the_four_commands_answer_in_the_form_people_know() {
    let r = Setup::new("four").start();
    let (rss, swap) = said::health(&r.ask("health"));
    assert!(rss > 1.0 && (0.0..=100.0).contains(&swap));
    let (level, threshold, mode) = said::night_level(&r.ask("night_level"));
    assert!(level > 35.0 && level < 256.0, "{level}");
    assert_eq!((threshold.as_str(), mode.as_str()), ("35", "DAY"));

    let s = said::single(&r.ask("save"));
    assert!(s.age >= 0.0 && s.timestamp > 1.7e9);
    assert_eq!(s.path.extension().unwrap(), "jpg");
    assert!(s.path.with_extension("png").is_file() && !s.path.with_extension("npy").exists());

    r.until_frame(4);
    let s = said::stacked(&r.ask("pastStack"));
    assert_eq!((s.frames, s.path.extension().unwrap().to_str()), (4, Some("jpg")));
    assert!((s.before - 5.0).abs() < 1e-9 && s.first < s.last && s.first_age > s.last_age);
    assert!(((s.first_age - s.last_age) - (s.last - s.first)).abs() < 0.011);
    assert!(s.path.with_extension("png").is_file());
}

#[test]
fn a_threshold_is_shown_as_it_is_written() {
    let r = Setup::new("threshold").set("night.dark_threshold", 35.0).set("night.bright_threshold", 60).start();
    assert_eq!(said::night_level(&r.ask("night_level")).1, "35.0");
}

#[test]
fn with_stacking_off_every_frame_of_the_window_is_a_picture() {
    let r = Setup::new("separate").set("export.stack_dark_frames", false).set("export.save_before_s", 1.5).start();
    r.until_frame(25);
    let s = said::separate(&r.ask("pastStack jpg npy"));
    assert_eq!(s.files, r.names().iter().filter(|n| *n != "latest.jpg").count());
    // 1.5 s at 10 fps in two formats; a busy machine may lose some.
    assert!((20..=32).contains(&s.files) && s.files % 2 == 0, "{}", s.files);
    assert!((s.before - 1.5).abs() < 1e-9 && s.age >= 1.0 && s.age < 10.0 && s.timestamp > 1.7e9);
    // A count asks for one average all the same.
    assert_eq!(said::stacked(&r.ask("pastStack npy count=3 before=0.5")).frames, 3);
}

#[test]
fn formats_are_words_in_any_order_and_unknown_ones_are_passed_over() {
    let r = Setup::new("formats").start();
    let extension = |line: &str| said::single(&r.ask(line)).path.extension().unwrap().to_str().unwrap().to_string();
    let count = || r.names().iter().filter(|n| *n != "latest.jpg").count();
    let mut files = count();
    // Line, the format that is named, how many files appear.
    for (line, named, more) in [
        ("save png jpg", "jpg", 2),
        ("save npy png", "png", 2),
        ("save npy", "npy", 1),
        ("save jpg jpg jpg", "jpg", 1),
        ("save bmp JPG png tiff", "png", 1),
        ("save npy npy png jpg png", "jpg", 3),
    ] {
        assert_eq!(extension(line), named, "{line}");
        assert_eq!(count() - files, more, "{line}");
        files = count();
    }
    for line in ["save bmp", "save JPG", "save ,jpg", "pastStack bmp gif", "pastStack .jpg"] {
        assert_eq!(r.ask(line), "NOT_SAVED", "{line}");
    }
    assert_eq!(count(), files);
}

#[test]
fn verbs_are_known_in_any_case_and_nothing_else_is() {
    let r = Setup::new("verbs").start();
    said::single(&r.ask("SAVE jpg"));
    said::single(&r.ask("Save jpg"));
    said::stacked(&r.ask("paststack jpg"));
    said::stacked(&r.ask("PASTSTACK jpg"));
    said::night_level(&r.ask("Night_Level"));
    said::health(&r.ask("HEALTH"));
    let files = r.names().len();
    for line in ["foo", "saves", "save; save", "\"save\"", "health now", "night_level x", "health tag=a", "?"] {
        assert_eq!(r.ask(line), "UNKNOWN_COMMAND", "{line}");
    }
    // Blank input, and nothing at all with the sending half closed.
    for bytes in [&b" \n"[..], b"\r\n", b""] {
        assert_eq!(exchange(r.setup.port, bytes, true), b"UNKNOWN_COMMAND\n", "{bytes:?}");
    }
    assert_eq!(r.names().len(), files);
}

#[test]
fn before_the_first_frame_nothing_is_invented() {
    let setup = Setup::new("empty").controlled("hang=1").frameless();
    let r = setup.start();
    assert_eq!(r.ask("night_level"), "NO_DATA");
    assert_eq!(r.ask("pastStack jpg"), "NO_FRAMES");
    assert_eq!(r.ask("pastStack bmp"), "NO_FRAMES");
    assert_eq!(r.ask("save bmp"), "NOT_SAVED");
    let line = r.ask("status");
    assert!(line.starts_with("OK state=STARTING mode=DAY age=- ") && line.contains(" ring=0/0.0s "), "{line}");
    let status = r.status();
    assert!(status["frame"]["id"].is_null() && status["level"].is_null());
    said::health(&r.ask("health"));
    // A picture that is waited for is told to be missing, or taken as soon as frames come.
    assert_eq!(r.ask("save jpg"), "ERR timeout no frame came within 5.0 s");
    assert_eq!(r.names(), [""; 0]);
    setup.control("lux=400");
    said::single(&r.ask("save jpg"));
}

#[test]
fn arguments_have_rules_and_a_broken_one_takes_no_picture() {
    let r = Setup::new("arguments").start();
    let s = said::single(&r.ask("save jpg tag=Gate_2-b"));
    assert!(s.path.file_stem().unwrap().to_str().unwrap().ends_with("_Gate_2-b"));
    let longest = "x".repeat(32);
    assert!(said::stacked(&r.ask(&format!("pastStack npy tag={longest}"))).path.to_str().unwrap().contains(&longest));

    // An id comes back at the end of whatever is answered.
    let answer = r.ask("save jpg id=42");
    said::single(answer.strip_suffix(" id=42").unwrap());
    said::health(r.ask("health id=a.b:c-d_9").strip_suffix(" id=a.b:c-d_9").unwrap());
    assert_eq!(r.ask("save bmp id=7"), "NOT_SAVED id=7");
    assert_eq!(r.ask("ping id=x"), "PONG id=x");
    assert_eq!(r.ask("save id=7 count=0"), "ERR usage count= takes a number from 1 to 256, not count=0 id=7");
    assert!(r.ask("save tag=a/b id=7").ends_with(" id=7"));
    assert_eq!(r.ask("foo id=7"), "UNKNOWN_COMMAND id=7");
    let json: Value = serde_json::from_str(&r.ask("status json id=q")).unwrap();
    let commit = env!("PASTCAM_BUILT_FROM");
    assert_eq!(json["commit"], if commit.is_empty() { Value::Null } else { commit.into() });
    assert_eq!((&json["id"], &json["ok"]), (&Value::from("q"), &Value::from(true)));

    r.until_frame(10);
    let s = said::stacked(&r.ask("pastStack jpg before=0.5 count=2"));
    assert_eq!(s.frames, 2);
    assert!((s.before - 0.5).abs() < 1e-9);

    let files = r.names();
    for line in [
        "save jpg tag=",
        "save jpg tag=../../etc",
        "save jpg tag=a/b",
        "save jpg tag=a.b",
        &format!("save jpg tag={longest}y"),
        "save jpg id=",
        "save jpg id=a'b",
        &format!("save jpg id={longest}y"),
        "save jpg before=1",
        "save jpg every=2",
        "save jpg colour=red",
        "pastStack jpg before=-1",
        "pastStack jpg before=86401",
        "pastStack jpg before=nan",
        "pastStack jpg before=inf",
        "pastStack jpg before=five",
        "pastStack jpg count=0",
        "pastStack jpg count=257",
        "pastStack jpg count=1.5",
        "pastStack jpg count=-1",
        "pastStack jpg size=2",
    ] {
        let answer = r.ask(line);
        assert!(answer.starts_with("ERR usage "), "{line}: {answer}");
        let broken = line.split(' ').next_back().unwrap();
        assert!(answer.contains(broken.split('=').next().unwrap()), "{line}: {answer}");
    }
    let answer = r.ask("pastStack jpg before=4000");
    assert!(answer.starts_with("ERR past before=4000 lies beyond the ring, which reaches back "), "{answer}");
    assert_eq!(r.names(), files);
}

#[test]
fn status_is_one_short_line_with_everything_in_it() {
    let r = Setup::new("status").start();
    r.until_frame(12);
    let line = r.ask("status");
    assert!(line.len() < 240, "{} bytes: {line}", line.len());
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some("OK"));
    let fields: Vec<(&str, &str)> = words.map(|w| w.split_once('=').unwrap()).collect();
    let keys: Vec<&str> = fields.iter().map(|f| f.0).collect();
    assert_eq!(
        keys,
        ["state", "mode", "age", "fps", "exp", "gain", "ring", "drops", "clients", "disk", "temp", "clock", "up", "source"],
        "{line}"
    );
    let value = |key: &str| fields.iter().find(|f| f.0 == key).unwrap().1;
    let real = |key: &str, unit: &str| value(key).strip_suffix(unit).unwrap().parse::<f64>().unwrap();
    assert_eq!((value("state"), value("mode"), value("source")), ("RUNNING", "DAY", "pattern"));
    assert!(
        real("age", "s") < 3.0 && (2.0..15.0).contains(&real("fps", "")) && real("exp", "ms") > 0.0 && real("gain", "") >= 1.0
    );
    assert!(value("ring").split_once('/').is_some_and(|(n, s)| n.parse::<usize>().unwrap() > 5 && s.ends_with('s')));
    assert!(real("disk", "MiB") > 0.0 && ["synced", "free"].contains(&value("clock")) && value("clients") == "1");

    let s = r.status();
    assert_eq!((&s["ok"], &s["state"], &s["mode"]), (&true.into(), &"RUNNING".into(), &"DAY".into()));
    assert_eq!((&s["frame"]["width"], &s["frame"]["height"]), (&320.into(), &240.into()));
    assert_eq!((&s["ring"]["capacity"], &s["source"]["spec"]), (&100.into(), &"pattern".into()));
    assert_eq!(s["source"]["kind"], "pattern");
    for key in ["version", "level", "uptime_s", "switches", "saved", "failed", "jobs", "rss_bytes", "disk_free_bytes", "clock"] {
        assert!(!s[key].is_null(), "{key}");
    }
}

#[test]
fn help_version_and_ping_fit_one_line() {
    let r = Setup::new("help").start();
    assert_eq!(r.ask("ping"), "PONG");
    assert_eq!(r.ask("version"), concat!("OK pastcam ", env!("PASTCAM_VERSION")));
    let help = r.ask("help");
    assert!(help.starts_with("OK ") && help.len() < 240, "{} bytes", help.len());
    for word in ["save", "pastStack", "night_level", "health", "status", "tag=", "before=", "count=", "id="] {
        assert!(help.contains(word), "{word}");
    }
}

#[test]
fn a_slip_is_answered_with_the_verb_s_own_rule() {
    let r = Setup::new("slips").start();
    for (line, answer) in [
        ("ping pong", "ERR usage ping takes only id= and token=, not pong"),
        ("status JSON", "ERR usage status takes json, not JSON"),
        ("status xml id=7", "ERR usage status takes json, not xml id=7"),
        ("record foo", "ERR usage record takes start, stop or status, not foo"),
        ("record", "ERR usage record takes start, stop or status"),
        ("files lst=3", "ERR usage known arguments are jpg, png, npy, mp4 and last=, not lst=3; see help files"),
        ("save before=1", "ERR usage save takes jpg, png, npy, count=, every= and tag=, not before=1"),
        ("save every=5", "ERR usage save takes every= with count= only, not every=5 alone"),
        ("save count=3 every=43201", "ERR usage save takes at most 86400 s from the first picture to the last, not 86402 s"),
        ("help me", "ERR usage help takes a verb, not me; help alone names them"),
        ("update 5", "ERR denied update wants a token, and none is set (network.token)"),
    ] {
        assert_eq!(r.ask(line), answer);
    }
    assert_eq!(r.ask("help RECORD stop"), "OK record stop: ends the recording and makes the file whole");
    assert_eq!(
        r.ask("help files"),
        "OK files [jpg] [png] [npy] [mp4] [last=N]: lists files, newest first, as JSON; last= (a number from 1 to 500)"
    );
    let help = r.ask("help");
    for verb in verbs::words() {
        assert!(help.split([' ', ';']).any(|w| w == verb), "{verb}: {help}");
        assert!(r.ask(&format!("help {verb}")).starts_with(&format!("OK {verb}")), "{verb}");
    }
}

#[test]
fn what_was_refused_is_logged_once_a_minute_with_its_reason() {
    let r = Setup::new("refused").set("logging.level", "INFO").frameless().start();
    let ask = |line: &str, answer: &str| assert_eq!(r.ask(line), answer, "{line}");
    ask("save json token=s3cr3t", "NOT_SAVED");
    ask("ping Token=s3cr3t", "ERR usage known arguments are only id= and token=, not Token=s3cr3t; see help ping");
    for i in 0..300 {
        ask(&format!("foo{i}"), "UNKNOWN_COMMAND");
    }
    ask("health x", "UNKNOWN_COMMAND");
    let log = until("the log to be written", || Some(r.log()).filter(|log| log.contains("\"health x\"")));
    let told: Vec<&str> = log.lines().filter(|l| l.contains("Refused ")).collect();
    for (line, words) in told.iter().zip([
        [
            "INFO",
            "Refused \"save json token=",
            "\" of 127.0.0.1:",
            ": save takes jpg, png, npy, count=, every= and tag=, not json",
        ],
        ["INFO", "Refused \"ping token=", "\" of 127.0.0.1:", ": known arguments are only id= and token=, not token=…"],
        ["INFO", "Refused \"foo0\"", " of 127.0.0.1:", ": there is no verb \"foo0\"; help names them"],
        ["INFO", "Refused \"health x\"", " of 127.0.0.1:", ": health takes only id= and token=, not x"],
    ]) {
        assert!(words.iter().all(|w| line.contains(w)), "{line}");
    }
    assert!(told.len() == 4 && !log.contains("s3cr3t"), "{told:#?}");
}

#[test]
fn with_a_token_nothing_goes_without_it_and_it_stays_out_of_the_log() {
    let r = Setup::new("token").set("network.token", "s3cr3t-Word").set("logging.level", "TRACE").frameless().start();
    for line in ["save jpg", "health", "ping", "status token=", "save jpg token=s3cr3t-Wor", "save jpg token=S3CR3T-WORD"] {
        assert!(r.ask(line).starts_with("ERR denied "), "{line}");
    }
    assert_eq!(r.names(), [""; 0]);
    said::single(&r.ask("save jpg token=s3cr3t-Word"));
    said::health(&r.ask("health token=s3cr3t-Word"));
    // Sent in two pieces: `health` alone must not run before its token is there.
    let mut s = client::connect(r.setup.port);
    s.write_all(b"health").unwrap();
    s.write_all(b" token=s3cr3t-Word\n").unwrap();
    said::health(read_line(&mut s).trim_end());
    // The log shows every command at this level.
    let log = r.log();
    assert!(log.contains("save jpg token=") && !log.contains("s3cr3t"), "the log shows the token");
    // Of whoever guesses one line a minute, whatever the verbs.
    assert_eq!(log.matches("[INFO] Refused ").count(), 1);
}

#[test]
fn a_bouncing_contact_takes_one_picture() {
    let r = Setup::new("bounce").set("network.debounce_ms", 3_600_000).start();
    said::single(&r.ask("save jpg"));
    let answer = r.ask("save jpg");
    assert!(answer.starts_with("ERR busy ") && answer.contains("network.debounce_ms"), "{answer}");
    // The other verb has a memory of its own.
    said::stacked(&r.ask("pastStack jpg"));
    assert!(r.ask("pastStack jpg").starts_with("ERR busy "));
    said::health(&r.ask("health"));
}

#[test]
fn a_subscriber_hears_of_saved_files_and_of_the_night() {
    let persistent = free_port();
    let r = Setup::new("subscribe")
        .set("network.persistent_port", persistent)
        // At 320×240 the code drawn into the picture would be a third of it, and too bright for a night.
        .set("camera.width", 640)
        .set("camera.height", 480)
        .set("camera.source", "pattern:lux=0.02")
        .set("night.min_dark_frames", 3)
        .set("night.exposure_us", 300_000)
        .start();
    assert!(r.ask("subscribe").starts_with("ERR usage "));
    let mut s = client::connect(persistent);
    s.write_all(b"subscribe\n").unwrap();
    assert!(read_line(&mut s).starts_with("EVENT mode=DAY level="));
    // The connection still takes commands, and stays open.
    s.write_all(b"ping\n").unwrap();
    assert_eq!(read_line(&mut s), "PONG\n");
    let saved = said::single(&r.ask("save jpg"));
    assert_eq!(read_line(&mut s), format!("EVENT saved={}\n", saved.path.display()));
    let event = read_line(&mut s);
    let level: f64 =
        event.strip_prefix("EVENT mode=NIGHT level=").unwrap_or_else(|| panic!("{event}")).trim_end().parse().unwrap();
    assert!(level < 35.0);
    let (_, threshold, mode) = said::night_level(&r.ask("night_level"));
    assert_eq!((mode.as_str(), threshold.as_str()), ("NIGHT", "55"));
    let status = r.status();
    assert_eq!((&status["mode"], &status["switches"]), (&"NIGHT".into(), &1.into()));
}

#[test]
fn a_plc_gets_lines_of_one_length_with_a_nul() {
    let persistent = free_port();
    let r = Setup::new("plc")
        .set("network.persistent_port", persistent)
        .set("network.persistent_pad", 240)
        .set("network.persistent_nul", true)
        .start();
    let mut s = client::connect(persistent);
    for command in ["ping", "health", "save jpg", "nonsense"] {
        s.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut answer = [0; 240];
        std::io::Read::read_exact(&mut s, &mut answer).unwrap();
        assert_eq!(&answer[238..], b"\n\0", "{command}");
        let text = std::str::from_utf8(&answer[..238]).unwrap().trim_end();
        match command {
            "ping" => assert_eq!(text, "PONG"),
            "health" => assert!(said::health(text).0 > 0.0),
            "nonsense" => assert_eq!(text, "UNKNOWN_COMMAND"),
            _ => assert!(text.starts_with("Saved single full-resolution image: /"), "{text}"),
        }
    }
    assert_eq!(r.names().len(), 2);
}

#[test]
fn a_datagram_is_a_trigger() {
    let udp = free_port();
    let r = Setup::new("udp").set("network.udp_port", udp).start();
    let s = UdpSocket::bind("127.0.0.1:0").unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 2048];
    let mut ask = |text: &[u8]| {
        s.send_to(text, ("127.0.0.1", udp)).unwrap();
        let n = s.recv(&mut buffer).unwrap();
        client::one_line(&buffer[..n])
    };
    said::single(ask(b"save jpg id=7").strip_suffix(" id=7").unwrap());
    assert_eq!(ask(b"ping\r\n"), "PONG");
    assert!(ask(b"ping\nping\n").starts_with("ERR usage "));
    assert!(ask(&[b"save ", &[b'x'; 1500][..]].concat()).starts_with("ERR usage "));
    // No command, no answer: what comes next is the answer to the next one.
    s.send_to(b"UNKNOWN_COMMAND id=1\n", ("127.0.0.1", udp)).unwrap();
    assert_eq!(ask(b"ping id=2"), "PONG id=2");
    assert_eq!(r.names().len(), 2);
}

#[test]
fn strangers_are_refused() {
    let (udp, persistent) = (free_port(), free_port());
    let r = Setup::new("strangers")
        .set("network.allow", vec!["10.0.0.0/8", "::1"])
        .set("network.udp_port", udp)
        .set("network.persistent_port", persistent)
        .set("logging.level", "DEBUG")
        .frameless()
        .start();
    for port in [r.setup.port, persistent] {
        for _ in 0..3 {
            assert_eq!(exchange(port, b"save jpg\n", false), b"ERR denied this address is not in network.allow\n");
        }
    }
    // A datagram's sender can be forged: no answer. What a TCP client gets afterwards shows that it was dealt with.
    let s = UdpSocket::bind("127.0.0.1:0").unwrap();
    s.send_to(b"save jpg", ("127.0.0.1", udp)).unwrap();
    until("the datagram to be seen", || {
        r.log().lines().any(|l| l.contains("udp") && l.contains("not in network.allow")).then_some(())
    });
    assert_eq!(r.names(), [""; 0]);
    let log = r.log();
    let told: Vec<&str> = log.lines().filter(|l| l.contains("[INFO] Refused ")).collect();
    assert!(told.len() == 1 && told[0].contains("127.0.0.1") && told[0].contains("not in network.allow"), "{told:#?}");
}

#[test]
fn both_families_are_served() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("SKIP: no IPv6 here");
        return;
    }
    let r = Setup::new("families").set("network.bind", vec!["127.0.0.1", "::1"]).start();
    let mut s = std::net::TcpStream::connect(("::1", r.setup.port)).unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    s.write_all(b"ping").unwrap();
    assert_eq!(read_line(&mut s), "PONG\n");
    assert_eq!(r.ask("ping"), "PONG");
}

/// `printf save | nc host port`, as everybody does it.
#[test]
fn netcat_gets_its_answer() {
    let r = Setup::new("netcat").start();
    let nc =
        Command::new("nc").args(["127.0.0.1", &r.setup.port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut nc) = nc else {
        println!("SKIP: no nc here");
        return;
    };
    nc.stdin.take().unwrap().write_all(b"save jpg").unwrap();
    let out = nc.wait_with_output().unwrap();
    assert!(out.status.success());
    said::single(&client::one_line(&out.stdout));
}

#[test]
fn json_is_whole_at_any_length() {
    let (udp, persistent) = (free_port(), free_port());
    let setup = Setup::new("lengths").set("network.udp_port", udp).set("network.persistent_port", persistent);
    let setup = setup.set("network.persistent_pad", 256);
    std::fs::create_dir(setup.captures()).unwrap();
    let names: Vec<String> = (0..8000).map(|n| format!("NobodysControl{n}")).collect();
    let tuning: serde_json::Map<String, Value> = names.iter().map(|n| (n.clone(), 0.5.into())).collect();
    std::fs::write(setup.captures().join("tuning.json"), Value::from(tuning).to_string()).unwrap();
    for n in 0..500 {
        let name = format!("20260102_030405_f{:020}_{}_{}.jpg", n, "t".repeat(32), 4_000_000_000u32 + n);
        // A gigabyte of nothing, for a long number of bytes.
        std::fs::File::create(setup.captures().join(name)).unwrap().set_len(1_000_000_000).unwrap();
    }
    let r = setup.start();
    let whole = |line: &str| {
        let answer = r.ask(line);
        assert!(answer.len() > 1 << 16, "{} bytes", answer.len());
        let json: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(json["id"], "7");
        json
    };
    until("the tuning", || (r.ask("status json").len() > 1 << 16).then_some(()));
    assert_eq!(whole("status json id=7")["controls"]["persisted"].as_object().unwrap().len(), 8000);
    assert_eq!(whole("files last=500 id=7")["files"].as_array().unwrap().len(), 500);
    // Where it has no room, an error takes its place.
    let s = UdpSocket::bind("127.0.0.1:0").unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    s.send_to(b"status json id=7", ("127.0.0.1", udp)).unwrap();
    let mut buffer = [0; 2048];
    let n = s.recv(&mut buffer).unwrap();
    let said = client::one_line(&buffer[..n]);
    assert!(said.starts_with("ERR usage the answer has ") && said.ends_with(" id=7"), "{said}");
    let mut s = client::connect(persistent);
    s.write_all(b"ping\nstatus json id=7\nping id=8\n").unwrap();
    let mut lines = [0; 3 * 256];
    std::io::Read::read_exact(&mut s, &mut lines).unwrap();
    let lines: Vec<String> = lines.chunks(256).map(|l| client::one_line(l).trim_end().to_string()).collect();
    assert_eq!((lines[0].as_str(), lines[2].as_str()), ("PONG", "PONG id=8"));
    assert!(lines[1].starts_with("ERR usage the answer has ") && lines[1].ends_with(" id=7"), "{lines:?}");
}

#[test]
fn a_long_tag_and_id_leave_an_answer_within_240_bytes() {
    // As deep as the packages' folder.
    let dir = std::env::temp_dir().join(format!("p{}", std::process::id()));
    let folder = dir.join("x".repeat(24usize.saturating_sub(dir.as_os_str().len())));
    let persistent = free_port();
    let setup = Setup::new("usual").set("export.base_dir", folder.to_str().unwrap()).set("export.save_before_s", 0.1);
    let least = 36 + folder.as_os_str().len() as u64 + 1 + 85 + 36 + 1;
    let setup = setup.set("network.persistent_port", persistent);
    let refused = setup.clone().set("network.persistent_pad", least - 1).command().arg("check-config").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains(&format!("network.persistent_pad: 0 or at least {least} (36 bytes of words, ")), "{said}");
    let r = setup.set("network.persistent_pad", least).start();
    let (tag, id) = ("t".repeat(32), "i".repeat(32));
    let held = |answer: &str, most: usize| {
        assert!(answer.len() < most && answer.ends_with(&format!(" id={id}")), "{} bytes: {answer}", answer.len());
        let name = answer.split_whitespace().find(|w| w.starts_with('/')).unwrap();
        assert!(std::path::Path::new(name).is_file() && name.contains(&tag), "{answer}");
    };
    let mut s = client::connect(persistent);
    for command in ["save jpg", "pastStack jpg", "clip 0.3"] {
        let line = format!("{command} tag={tag} id={id}");
        held(&r.ask(&line), 240);
        s.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = vec![0; least as usize];
        std::io::Read::read_exact(&mut s, &mut answer).unwrap();
        held(client::one_line(&answer).trim_end(), least as usize);
    }
    // Without them the sentence is complete.
    said::stacked(&r.ask("pastStack jpg"));
    std::fs::remove_dir_all(dir).unwrap();
}
