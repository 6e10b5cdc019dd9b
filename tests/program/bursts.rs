//! Several pictures from one command: which frames, when, and what is told when not all of them come about.

use std::io::{Read, Write};
use std::time::Duration;

use nix::sys::signal::Signal;
use pastcam::clock::{Clock, SystemClock};

use crate::client;
use crate::harness::{Setup, names, until};
use crate::image::Image;
use crate::said::{self, id_of};

/// The boot-time instants (µs) of the frames in these pictures, in the order of their names.
fn instants(names: &[String], dir: &std::path::Path) -> Vec<u64> {
    names.iter().map(|n| Image::open(&dir.join(n)).code().1).collect()
}

/// The pictures with this tag.
fn tagged(dir: &std::path::Path, tag: &str) -> Vec<String> {
    names(dir).into_iter().filter(|n| !n.starts_with('.') && n.contains(&format!("_{tag}"))).collect()
}

#[test]
fn a_burst_takes_different_frames_none_before_its_instant() {
    let r = Setup::new("burst").start();
    let before = SystemClock.boot().0;
    let all = said::burst(&r.ask("save npy count=6 tag=all"));
    let names = tagged(&r.captures(), "all");
    assert_eq!((all.pictures, names.len(), all.path.clone()), (6, 6, r.captures().join(&names[0])));
    // Without `every=` each frame is one: the ids are neighbours.
    let ids: Vec<u64> = names.iter().map(|n| id_of(n.as_ref())).collect();
    assert!(ids.windows(2).all(|w| w[1] == w[0] + 1), "{ids:?}");
    let at = instants(&names, &r.captures());
    assert!(at[0] >= before, "a frame from {} us before the command", before - at[0]);
    assert!((all.last - all.first - (at[5] - at[0]) as f64 / 1e6).abs() < 0.01, "{} to {} of {at:?}", all.first, all.last);

    // Others are served meanwhile, and the instants do not drift.
    let (mut s, mut every) = (client::connect(r.setup.port), client::connect(r.setup.port));
    every.write_all(b"save npy count=20 tag=every\n").unwrap();
    let before = SystemClock.boot().0;
    s.write_all(b"save npy count=4 every=0.35 tag=beat id=7\n").unwrap();
    let between = said::single(&r.ask("save jpg"));
    let mut answer = Vec::new();
    s.read_to_end(&mut answer).unwrap();
    let line = client::one_line(&answer);
    let beat = said::burst(line.strip_suffix(" id=7").unwrap());
    assert!(between.timestamp < beat.last, "the save waited for the burst");
    let beats = tagged(&r.captures(), "beat");
    let at = instants(&beats, &r.captures());
    for (k, at) in at.iter().enumerate() {
        let due = before + 350_000 * k as u64;
        assert!(*at >= due, "picture {k} is {} us early", due - at);
    }
    // The frame before each was too early; the trigger instant is not after the first picture.
    let mut answer = Vec::new();
    every.read_to_end(&mut answer).unwrap();
    let neighbours = tagged(&r.captures(), "every");
    let neighbour_at = instants(&neighbours, &r.captures());
    for (k, name) in beats.iter().enumerate().skip(1) {
        let id = id_of(name.as_ref());
        let before = neighbours.iter().position(|n| id_of(n.as_ref()) == id - 1).map(|i| neighbour_at[i]);
        let due = at[0] + 350_000 * k as u64;
        assert!(
            before.is_some_and(|before| before < due),
            "picture {k} is frame {id}, the one before at {before:?}, due at {due}"
        );
    }
    assert_eq!(at.len(), 4);
    assert!(!r.ask("save jpg count=1 every=9").contains("images"), "one picture is answered as ever");
}

#[test]
fn frames_slower_than_the_pictures_are_each_taken_once() {
    let r = Setup::new("slowburst").set("camera.framerate", 4.0).start();
    let slow = said::burst(&r.ask("save npy count=4 every=0.05 tag=slow"));
    let ids: Vec<u64> = tagged(&r.captures(), "slow").iter().map(|n| id_of(n.as_ref())).collect();
    assert_eq!((slow.pictures, ids.len()), (4, 4));
    assert!(ids.windows(2).all(|w| w[1] == w[0] + 1), "{ids:?}");
}

/// PNG takes longer than a frame here, and the ring is short: pictures are taken later, and none is refused.
#[test]
fn a_burst_longer_than_the_ring_waits_for_the_disk() {
    let r = Setup::new("longburst").set("ring.size", 4).set("camera.framerate", 60.0).start();
    let long = said::burst(&r.ask("save png count=20 tag=long"));
    let ids: Vec<u64> = tagged(&r.captures(), "long").iter().map(|n| id_of(n.as_ref())).collect();
    assert_eq!((long.pictures, ids.len()), (20, 20));
    assert!(ids.windows(2).all(|w| w[0] < w[1]), "{ids:?}");
    assert_eq!(r.status()["failed"], 0);
}

#[test]
fn what_was_written_stays_and_is_named_when_a_burst_ends_early() {
    let setup = Setup::new("brokenburst");
    let mut r = setup.start();
    let ask = |line: &str| {
        let mut s = client::connect(setup.port);
        s.write_all(line.as_bytes()).unwrap();
        s
    };
    let answer = |mut s: std::net::TcpStream| {
        let mut answer = Vec::new();
        s.read_to_end(&mut answer).unwrap();
        client::one_line(&answer)
    };
    // The disk has no room any more.
    let full = ask("save jpg count=9 every=0.2 tag=full\n");
    until("the first picture", || (!tagged(&setup.captures(), "full").is_empty()).then_some(()));
    let config = std::fs::read_to_string(setup.config_file()).unwrap();
    let set = |min_free_mib: &str| {
        let mut all: serde_json::Value = serde_json::from_str(&config).unwrap();
        all["export"]["min_free_mib"] = min_free_mib.parse::<u64>().map_or("auto".into(), serde_json::Value::from);
        std::fs::write(setup.config_file(), all.to_string()).unwrap();
        r.signal(Signal::SIGHUP);
    };
    set("100000000");
    let (full, files) = (answer(full), tagged(&setup.captures(), "full"));
    let first = setup.captures().join(&files[0]);
    let named = format!("ERR disk {} of 9 saved, first {} why=keep 100000000 MiB free in ", files.len(), first.display());
    assert!(full.starts_with(&named), "{full}");
    assert!(r.ask("save count=3").starts_with("ERR disk keep 100000000 MiB free in "), "nothing was written");
    set("auto");
    until("room", || r.ask("save jpg").starts_with("Saved").then_some(()));
    // The program stops; a client that has gone stops nothing before that.
    drop(ask("save jpg count=100 every=0.2 tag=gone\n"));
    let stopped = ask("save jpg count=100 every=0.2 tag=stop\n");
    until("two pictures each", || {
        (tagged(&setup.captures(), "stop").len() >= 2 && tagged(&setup.captures(), "gone").len() >= 2).then_some(())
    });
    r.signal(Signal::SIGTERM);
    let (stopped, _) = (answer(stopped), r.ended(Duration::from_secs(10)));
    let files = tagged(&setup.captures(), "stop");
    let named = format!(
        "ERR busy {} of 100 saved, first {} why=the program is stopping",
        files.len(),
        setup.captures().join(&files[0]).display()
    );
    assert_eq!(stopped, named);
}
