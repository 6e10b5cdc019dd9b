//! A group of every kind of key, read, refused, written and kept.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::*;

settings! {
    /// For these tests.
    pub struct Group {
        /// Age (s).
        age_s: f64 = 1.0, from(0.0, 1e6);
        /// Silence (ms).
        idle_ms: Duration = Duration::from_millis(200), from(60.0, 100_000.0).whole();
        /// Bytes.
        max_bytes: u64 = 0, any();
        /// Space (MiB).
        free_mib: u8 = 64, any();
        /// Where.
        dir: Option<PathBuf> = None, any().at_start();
        /// Below.
        inner: Inner = Inner::default(), any();
    }
}

settings! {
    /// All of it waits.
    pub struct Inner {
        /// On or off.
        on: bool = false, any().at_start();
        /// A word.
        word: String = "a".into(), bytes(4).at_start();
    }
}

fn read(written: &Value) -> Result<Group> {
    let mut group = Group::default();
    take(&mut group, written, "g")?;
    Ok(group)
}

fn said(written: &Value) -> String {
    read(written).unwrap_err().to_string()
}

#[test]
fn spans_and_sizes_are_numbers_or_texts() {
    let g = read(&json!({"age_s": "36h", "idle_ms": "1.5 s", "max_bytes": "2 GiB", "free_mib": "500 kB"})).unwrap();
    assert_eq!((g.age_s, g.idle_ms, g.max_bytes, g.free_mib), (129_600.0, Duration::from_millis(1500), 2 << 30, 1));
    assert_eq!(read(&json!({"age_s": "0.5min", "max_bytes": "0.1GB"})).unwrap().max_bytes, 100_000_000);
    assert_eq!(read(&json!({"age_s": "90 s", "idle_ms": 61})).unwrap().idle_ms, Duration::from_millis(61));
    // What was a text is a number from then on.
    assert_eq!(value(&mut read(&json!({"age_s": "2 d", "idle_ms": "1s"})).unwrap())["age_s"], json!(172_800.0));
    let times = "or a text such as \"36h\" with us, ms, s, min, h, d or w";
    assert_eq!(said(&json!({"age_s": "36 hours"})), format!("g.age_s: a number, {times}, not \"36 hours\""));
    assert_eq!(said(&json!({"idle_ms": "200"})), format!("g.idle_ms: a whole number of 0 or more, {times}, not \"200\""));
    assert!(said(&json!({"max_bytes": "2 gb"})).contains("with B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, not \"2 gb\""));
    assert_eq!(said(&json!({"idle_ms": "1 h"})), "g.idle_ms: from 60 to 100000, not 3600000");
    assert_eq!(said(&json!({"free_mib": "1 GiB"})), "g.free_mib: at most 255, not \"1 GiB\"");
    assert_eq!(said(&json!({"age_s": -0.5})), "g.age_s: from 0 to 1000000, not -0.5");
    assert_eq!(said(&json!({"idle_ms": 60.5})), "g.idle_ms: a whole number of 0 or more, not 60.5");
    for odd in ["", "s", ".", "1e3s", "inf s", "-1s", "1,5 h"] {
        assert!(read(&json!({"age_s": odd})).is_err(), "{odd}");
    }
}

#[test]
fn only_a_shell_knows_home() {
    let home = std::env::var("HOME").expect("whoever tests has a home");
    for (written, rest) in [("~", ""), ("~/a", "/a"), ("$HOME/a", "/a"), ("${HOME}/a", "/a")] {
        let cure = format!("g.dir: ~ and $HOME mean nothing here; write {home}{rest}, not {written:?}");
        assert_eq!(said(&json!({"dir": written})), cure);
    }
    assert!(said(&json!({"dir": "~bob/a"})).contains("write the whole path, not"));
    assert_eq!(read(&json!({"dir": "./~"})).unwrap().dir, Some("./~".into()));
    assert_eq!(read(&json!({"dir": ""})).unwrap().dir, None);
}

#[test]
fn what_waits_is_put_back_and_told() {
    let mut old = Group::default();
    let mut new = read(&json!({"age_s": 5, "dir": "/a", "inner": {"on": true, "word": "b"}})).unwrap();
    let mut told = Vec::new();
    put_back(&mut new, &mut old, "", &mut |key| told.push(key.to_string())).unwrap();
    assert_eq!(told, ["dir", "inner"]);
    assert_eq!(new, Group { age_s: 5.0, ..Group::default() });
}

#[test]
fn the_nearest_key_is_found() {
    let known = ["width", "height", "framerate"];
    assert_eq!(nearest("widht", known.into_iter()), Some("width"));
    assert_eq!(nearest("frame_rate", known.into_iter()), Some("framerate"));
    assert_eq!(nearest("colour", known.into_iter()), None);
}
