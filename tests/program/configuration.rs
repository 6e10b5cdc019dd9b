//! Wrong configurations, of every kind: each ends the program with code 1 and one line that names key, rule and value.

use std::fs;
use std::panic::catch_unwind;

use pastcam::config::Config;
use pastcam::error::Kind;
use serde_json::{Value, json};

use crate::harness::Setup;

/// Starts the program with this file; the one line it says.
fn refused(bytes: &[u8]) -> String {
    let setup = Setup::new("refused");
    fs::write(setup.config_file(), bytes).unwrap();
    let out = setup.command_as_it_is().output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
    assert_eq!(out.status.code(), Some(1), "{shown}: {said}");
    assert_eq!((said.lines().count(), out.stdout.len()), (1, 0), "{shown}: {said}");
    assert!(said.starts_with("pastcam: read the configuration config.json: "), "{said}");
    // check-config says the same.
    let check = setup.command_as_it_is().arg("check-config").output().unwrap();
    assert_eq!(check.status.code(), Some(1), "{shown}");
    assert_eq!(String::from_utf8(check.stderr).unwrap(), said);
    said
}

/// A file in which one key, by its dotted name, has this value, written as JSON.
fn with(key: &str, value: &str) -> Vec<u8> {
    let mut text = value.to_string();
    for part in key.rsplit('.') {
        text = format!("{{\"{part}\": {text}}}");
    }
    text.into_bytes()
}

#[test]
fn every_wrong_value_is_named_with_its_key_and_rule() {
    // Key, value as written, what the line must say beside the key.
    let wrong = [
        // Of the wrong type.
        ("camera.width", "\"wide\"", &["whole number", "\"wide\""][..]),
        ("camera.width", "1024.5", &["whole number", "1024.5"]),
        ("camera.width", "-2", &["whole number", "-2"]),
        ("camera.width", "null", &["whole number", "null"]),
        ("camera.framerate", "\"10\"", &["a number", "\"10\""]),
        ("camera.source", "7", &["a text", "not this value"]),
        ("camera", "[]", &["braces", "[]"]),
        // What is meant as a secret is not shown.
        ("network.token", "12345", &["a text in quotes, not this value"]),
        ("rtsp.password", "[12345]", &["a text in quotes, not this value"]),
        ("ring.lock", "1", &["true or false", "1"]),
        ("ring.downscale", "true", &["braces", "true"]),
        ("night.dark_threshold", "\"35\"", &["a number", "\"35\""]),
        ("export.formats", "\"jpg\"", &["list", "\"jpg\""]),
        ("export.formats", "[1]", &["list of strings", "1"]),
        ("network.allow", "{}", &["list", "{}"]),
        // Out of range.
        ("camera.width", "0", &["from 16 to 8192", "not 0"]),
        ("camera.width", "1023", &["even", "1023"]),
        ("camera.height", "100000", &["from 16 to 8192", "100000"]),
        ("camera.framerate", "0", &["from 0.1 to 240", "not 0"]),
        ("camera.framerate", "-1", &["from 0.1 to 240", "-1"]),
        ("camera.framerate", "1e300", &["from 0.1 to 240"]),
        ("ring.size", "1", &["from 2 to 1000000", "not 1"]),
        ("ring.memory_percent", "101", &["from 1 to 100", "101"]),
        ("night.dark_threshold", "0", &["from 1 to 250", "not 0"]),
        ("night.dark_threshold", "300.5", &["from 1 to 250", "300.5"]),
        ("night.min_dark_frames", "0", &["not 0"]),
        ("night.exposure_us", "1", &["not 1"]),
        ("night.gain", "0.5", &["from 1 to 64", "0.5"]),
        ("export.stack_count", "0", &["from 1 to 256", "not 0"]),
        ("export.stack_count", "257", &["from 1 to 256", "257"]),
        ("export.jpeg_quality", "101", &["from 1 to 100", "101"]),
        ("export.save_before_s", "-5", &["-5"]),
        ("export.formats", "[]", &["at least one"]),
        ("export.formats", "[\"bmp\"]", &["jpg, png, npy", "bmp"]),
        ("export.base_dir", "\"\"", &["a folder"]),
        ("export.base_dir", "\"a\\nb\"", &["control characters"]),
        ("rtsp", "{\"tls_key\": \"key.pem\"}", &["rtsp.tls_certificate", "together with rtsp.tls_key", "key.pem"]),
        ("rtsp.audio.device", "\"a\\nb\"", &["control characters"]),
        ("rtsp.audio.bitrate_kbps", "300", &["from 16 to 256", "300"]),
        ("network.trigger_port", "0", &["from 1 to 65535", "not 0"]),
        ("network.idle_ms", "59", &["from 60 to 2000", "59"]),
        ("network.bind", "[\"camera.local\"]", &["IPv4 or IPv6", "camera.local"]),
        ("network.allow", "[\"10.0.0.0/33\"]", &["from 0 to 32", "10.0.0.0/33"]),
        ("network.allow", "[\"192.168.1.7/24\"]", &["192.168.1.0/24", "192.168.1.7/24"]),
        ("network.persistent_pad", "7", &["16", "not 7"]),
        ("logging.level", "\"LOUD\"", &["INFO", "LOUD"]),
        ("limits.max_rss_mib", "1", &["from 16", "not 1"]),
        // Too large for their kind of number.
        ("network.trigger_port", "65536", &["65535", "65536"]),
        ("network.udp_port", "70000", &["65535", "70000"]),
        ("export.jpeg_quality", "300", &["255", "300"]),
        ("camera.width", "4294967296", &["4294967296"]),
        ("ring.size", "99999999999999999999", &["whole number"]),
        // Sources.
        ("camera.source", "\"webcam\"", &["auto, camera", "webcam"]),
        ("camera.rotation", "45", &["0, 90, 180 or 270", "45"]),
        ("camera.transport", "\"http\"", &["one of auto, tcp, udp", "\"http\""]),
        ("camera.source", "\"pattern:speed\"", &["lux=N", "speed"]),
        ("camera.source", "\"pattern:lux=-1\"", &["lux=N", "lux=-1"]),
        ("camera.source", "\"file:\"", &["file:PATH"]),
        // Contradictions.
        ("night.bright_threshold", "20", &["at least night.dark_threshold (35", "20"]),
        ("network.persistent_port", "9999", &["other than network.trigger_port", "9999"]),
        ("limits.swap_pause_percent", "10", &["from 70", "10"]),
        ("ring.downscale", "{\"enable\": true, \"width\": 2048}", &["ring.downscale.width", "1024", "2048"]),
    ];
    for (key, value, words) in wrong {
        let said = refused(&with(key, value));
        assert!(said.contains(key), "{key}={value}: {said}");
        assert!(said.matches(&format!("{key}: ")).count() <= 1, "{key}={value} is named twice: {said}");
        for word in words {
            assert!(said.contains(word), "{key}={value}: {word:?} is not in {said}");
        }
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    for (key, nearest) in [
        ("camera.widht", "camera.width"),
        ("camera.fps", ""),
        ("ring.downscale.enabled", "ring.downscale.enable"),
        ("network.triger_port", "network.trigger_port"),
        ("Camera", "camera"),
        ("export.save_before", "export.save_before_s"),
        ("export.keep.jpeg", "export.keep.jpg"),
        ("quality", ""),
    ] {
        let said = refused(&with(key, "1"));
        assert!(said.contains(&format!("{key}: no such key")), "{said}");
        let hint = if nearest.is_empty() { "known here: ".to_string() } else { format!("did you mean {nearest}?") };
        assert!(said.contains(&hint), "{said}");
    }
}

#[test]
fn a_file_that_is_no_configuration_is_refused() {
    for (bytes, word) in [
        (&b""[..], "not JSON"),
        (b"  \n", "not JSON"),
        (b"{", "not JSON"),
        (b"{\"camera\": {\"width\": 640,}}", "line 1 column"),
        (b"camera: {}", "not JSON"),
        (b"\xff\xfe{\0}\0", "not JSON"),
        (b"{\"camera\": {\"width\": 640}} x", "not JSON"),
        (b"{\"camera\": {\"framerate\": 1e999}}", "out of range"),
        (b"{\"camera\": {\"source\": \"\xe4\"}}", "not JSON"),
        (b"[]", "braces"),
        (b"null", "braces"),
        (b"7", "braces"),
        (b"\"camera\"", "braces"),
    ] {
        let said = refused(bytes);
        assert!(said.contains(word), "{said}");
    }
    // A bracket a thousand times over must not overflow the parser's stack.
    refused("[".repeat(100_000).as_bytes());
    refused("{\"camera\":".repeat(50_000).as_bytes());
}

#[test]
fn a_byte_order_mark_and_an_empty_group_are_no_faults() {
    for bytes in [&b"\xef\xbb\xbf{\"camera\": {\"width\": 640, \"height\": 480}}"[..], b"{}", b"{\"camera\": {}}"] {
        let setup = Setup::new("good");
        fs::write(setup.config_file(), bytes).unwrap();
        let out = setup.command_as_it_is().arg("check-config").output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn a_missing_file_is_told_where_one_was_named() {
    let setup = Setup::new("missing");
    let out = setup.command_as_it_is().output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(said.contains("read the configuration config.json: ") && said.lines().count() == 1, "{said}");
}

#[test]
fn what_stands_twice_is_refused_with_its_path() {
    for (file, path) in [
        ("{\"network\": {\"token\": \"secret\"}, \"network\": {\"max_clients\": 3}}", "network"),
        ("{\"network\": {\"token\": \"secret\", \"token\": \"\"}}", "network.token"),
        ("{\"presets\": {\"day\": {\"Contrast\": 1, \"Contrast\": 2}}}", "presets.day.Contrast"),
    ] {
        let said = refused(file.as_bytes());
        assert!(said.contains(&format!("{path}: it stands twice")) && said.contains("line 1 column"), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn what_is_not_json_gets_a_hint_with_its_place() {
    for (file, hint) in [
        ("{\n  \"camera\": {} // the gate\n}", "line 2 column 16 begins a comment"),
        ("{\n  # the gate\n  \"camera\": {}\n}", "line 2 column 3 begins a comment"),
        ("{\"camera\": {\"width\": 640,}}", "line 1 column 26 closes a group or list behind a comma"),
        ("\u{0}{\u{0}}", "UTF-16; save the file as UTF-8"),
    ] {
        let said = refused(file.as_bytes());
        assert!(said.contains("it is not JSON") && said.contains(hint), "{said}");
    }
}

/// Only a shell knows `~`; the cure is the whole path, with `HOME` where it is known.
#[test]
fn a_path_that_only_a_shell_knows_is_refused() {
    let keys = [
        "export.base_dir",
        "logging.dir",
        "ring.persist_path",
        "rtsp.tls_certificate",
        "rtsp.tls_key",
        "limits.watchdog_device",
        "update.dir",
        "status.notes_file",
    ];
    for (start, home) in [("~", "/home/someone"), ("$HOME", "/home/someone"), ("~", "")] {
        for key in keys {
            let setup = Setup::new("home");
            fs::write(setup.config_file(), with(key, &format!("\"{start}/a\""))).unwrap();
            let out = setup.command_as_it_is().arg("check-config").env("HOME", home).output().unwrap();
            let said = String::from_utf8(out.stderr).unwrap();
            let cure = if home.is_empty() { "write the whole path, not" } else { "write /home/someone/a, not" };
            assert!(out.status.code() == Some(1) && said.contains(&format!("{key}: ")) && said.contains(cure), "{said}");
        }
    }
    for source in ["file:~/film.mp4", "pattern:noise=3,trace=$HOME/day.csv"] {
        let said = refused(&with("camera.source", &json!(source).to_string()));
        assert!(said.contains("camera.source: ~ and $HOME mean nothing here"), "{said}");
    }
}

#[test]
fn ages_and_sizes_take_units() {
    let text = r#"{"export": {"keep": {"jpg": {"max_age_s": "36h", "max_bytes": "2 GiB"}, "mp4": {"max_age_s": "30d"}},
        "min_free_mib": "500 MB", "auto_save_interval_s": "90 s"}, "record": {"split_s": "10 min"}, "network": {"idle_ms": "0.5 s"}}"#;
    let c = Config::parse(text.as_bytes()).unwrap();
    let whole = c.file.json();
    for (key, value) in [
        ("/export/keep/jpg/max_age_s", json!(129_600.0)),
        ("/export/keep/jpg/max_bytes", json!(2_147_483_648_u64)),
        ("/export/keep/mp4/max_age_s", json!(2_592_000.0)),
        ("/export/min_free_mib", json!(477)),
        ("/export/auto_save_interval_s", json!(90.0)),
        ("/record/split_s", json!(600)),
        ("/network/idle_ms", json!(500)),
    ] {
        assert_eq!(whole.pointer(key), Some(&value), "{key}");
    }
    let said = refused(&with("export.keep.png.max_age_s", "\"30 days\""));
    assert!(said.contains("with us, ms, s, min, h, d or w, not \"30 days\""), "{said}");
    assert!(refused(&with("export.keep.png.max_bytes", "\"2 gigs\"")).contains("KiB, MiB, GiB or TiB, not"));
    assert!(refused(&with("record.split_s", "\"2 d\"")).contains("record.split_s: from 0 to 86400, not 172800"));
}

/// A stream's password does not end up in a log by way of a slip in its address.
#[test]
fn a_refused_address_is_shown_without_its_password() {
    for source in ["rtps://me:hunter2@cam/live", "ftp://cam/?pw=hunter2"] {
        let said = refused(&with("camera.source", &json!(source).to_string()));
        assert!(!said.contains("hunter2") && said.contains("cam"), "{said}");
    }
    let setup = Setup::new("argument");
    let out = setup.command().args(["--source", "htpp://me:hunter2@cam/live"]).output().unwrap();
    assert_eq!(out.status.code(), Some(64));
    assert!(!String::from_utf8(out.stderr).unwrap().contains("hunter2"));
}

/// Seeded; the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Breaks one random leaf or group of a configuration.
fn break_value(at: &mut Value, depth: usize, r: &mut Random) {
    if depth > 0 && at.as_object().is_some_and(|m| !m.is_empty()) {
        let members = at.as_object_mut().unwrap();
        let n = r.below(members.len());
        return break_value(members.values_mut().nth(n).unwrap(), depth - 1, r);
    }
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(0.5),
        json!(1e308),
        json!(-1e-308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("jpg"),
        json!("\u{0}\u{fffd}"),
        json!([]),
        json!({}),
        json!([[]]),
        json!({"enable": {}}),
        json!("x".repeat(5000)),
        json!(["::/0", "10.0.0.0/8", ""]),
        json!(65536),
        json!(16),
        json!("pattern:lux=1e999"),
    ];
    match (r.below(4), at) {
        (0, Value::Object(m)) if !m.is_empty() => {
            let key = m.keys().nth(r.below(m.len())).unwrap().clone();
            let held = m.remove(&key).unwrap();
            // Lost, or under a name that is nearly right.
            if r.below(2) == 0 {
                m.insert(format!("{key}{}", r.pick(&["", "s", "_", "é"])), held);
            }
        }
        (1, Value::Object(m)) => {
            m.insert((*r.pick(&["x", "width", "", "camera"])).to_string(), r.pick(&values).clone());
        }
        (_, at) => *at = r.pick(&values).clone(),
    }
}

/// Whatever a file holds: it is believed whole, or refused as a configuration, with words and never with a panic.
#[test]
fn no_file_makes_the_parser_panic() {
    let whole = serde_json::to_value(pastcam::config::File::default()).unwrap();
    let mut r = Random(0x9e37_79b9_7f4a_7c15);
    let (mut good, mut bad) = (0, 0);
    for round in 0..6000 {
        let mut value = whole.clone();
        for _ in 0..=r.below(3) {
            let depth = r.below(4);
            break_value(&mut value, depth, &mut r);
        }
        let mut bytes = if r.below(2) == 0 { serde_json::to_vec(&value) } else { serde_json::to_vec_pretty(&value) }.unwrap();
        // In every third round bytes are broken as well.
        for _ in 0..if round % 3 == 0 { 1 + r.below(4) } else { 0 } {
            let at = r.below(bytes.len());
            match r.below(4) {
                0 => bytes[at] = r.below(256) as u8,
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, *r.pick(b"{}[],:\"0-9e\\\xff\n")),
                _ => {
                    bytes.remove(at);
                    bytes.push(b' ');
                }
            }
        }
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        match catch_unwind(|| Config::parse(&bytes)).unwrap_or_else(|_| panic!("the parser panicked on {shown}")) {
            Ok(config) => {
                good += 1;
                // What is believed can be written and is believed again.
                let again = Config::parse(&serde_json::to_vec(&config.file).unwrap());
                assert!(again.is_ok(), "{}: {shown}", again.unwrap_err());
                assert!(config.camera.width % 2 == 0 && config.export.stack_count > 0 && !config.export.formats.is_empty());
                let _ = (config.logging.level, config.ring.file(1));
            }
            Err(e) => {
                bad += 1;
                assert_eq!(e.kind, Kind::Config, "{e}: {shown}");
                let words = e.to_string();
                assert!(!words.is_empty() && !words.contains('\n'), "{words:?}");
            }
        }
    }
    println!("{good} believed, {bad} refused");
    assert!(good > 100 && bad > 1000, "{good} believed, {bad} refused");
}
