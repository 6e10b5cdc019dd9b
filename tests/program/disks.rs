//! Disks that fill, turn read-only or vanish: each is told in words, costs that picture and nothing else, and is forgotten
//! as soon as it is well again. Small file systems are mounted in the scratch folder, which needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::events::{event, subscribed};
use crate::film::has_ffmpeg;
use crate::harness::{Running, Setup, is, until};
use crate::image::Image;
use crate::recordings::{boxes, different, file_of};
use crate::said;

fn mount(options: &str, at: &Path) -> bool {
    Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output().is_ok_and(|o| o.status.success())
}

fn remount(options: &str, at: &Path) {
    let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(at).status().unwrap();
    assert!(done.success());
}

/// A setup whose folder of pictures is a file system of its own, or `None` (and says so) where mounting is not allowed.
fn small(word: &str, options: &str) -> Option<Setup> {
    let setup = Setup::new(word);
    fs::create_dir(setup.captures()).unwrap();
    if mount(options, &setup.captures()) {
        return Some(setup);
    }
    println!("SKIP: {word}: mounting a tmpfs needs root");
    None
}

/// That the camera took no notice: frames come, none was lost since `before`, the rest is answered.
fn camera_goes_on(r: &Running, before: &Value) {
    r.until_more_frames(2);
    let now = r.status();
    assert_eq!(now["state"], "RUNNING");
    assert_eq!(now["ring"]["dropped"], before["ring"]["dropped"]);
    assert!(now["frame"]["age_s"].as_f64().unwrap() < 2.0, "{now}");
    said::health(&r.ask("health"));
}

fn works_again(r: &Running) {
    let s = said::single(&r.ask("save jpg png"));
    Image::open(&s.path).code();
    Image::open(&s.path.with_extension("png")).code();
    said::stacked(&r.ask("pastStack jpg"));
}

fn temporary(r: &Running) -> Vec<String> {
    r.names().into_iter().filter(|n| is(n, "tmp")).collect()
}

fn fill(file: &Path) {
    let chunk = vec![0x5a; 4096];
    let mut f = fs::File::create(file).unwrap();
    while std::io::Write::write_all(&mut f, &chunk).is_ok() {}
}

#[test]
fn a_full_disk() {
    let Some(setup) = small("full", "size=2m") else { return };
    let r = setup.start();
    works_again(&r);
    let (before, files) = (r.status(), r.names());
    let filler = r.captures().join("filler");
    fill(&filler);
    for command in ["save jpg", "save png npy", "pastStack npy", "pastStack jpg png"] {
        let answer = r.ask(command);
        assert!(answer.starts_with("ERR disk ") && answer.contains("the disk is full"), "{command}: {answer}");
        assert!(answer.contains(r.captures().to_str().unwrap()), "{answer}");
    }
    camera_goes_on(&r, &before);
    assert_eq!(temporary(&r), [""; 0]);
    assert_eq!(r.names().len(), files.len() + 1, "{:?}", r.names());
    fs::remove_file(filler).unwrap();
    works_again(&r);
    assert!(r.status()["failed"].as_u64().unwrap() >= 4);
}

/// Begins a recording and waits until more than ten pictures are in the file, where nothing takes them away; its name.
fn recording(r: &Running) -> String {
    let name = r.ask("record start").rsplit(' ').next().unwrap().to_owned();
    // Ten fragments of a picture each, then longer ones.
    until("pictures in the file", || {
        let part = r.names().into_iter().find(|n| is(n, "part"))?;
        let bytes = fs::read(r.captures().join(part)).ok()?;
        (bytes.windows(4).filter(|w| w == b"moof").count() > 11).then_some(())
    });
    name
}

#[test]
fn a_recording_that_the_disk_ended_is_told_to_the_next_who_stops_it() {
    let Some(setup) = small("full-film", "size=4m") else { return };
    let (r, mut events) = subscribed(setup);
    let name = recording(&r);
    fill(&r.captures().join("filler"));
    let told = event(&mut events, "EVENT recorded=");
    assert!(told.contains(&name) && told.ends_with(" by=command ended=disk"), "{told}");
    let last = &r.status()["recorded"];
    assert!(last["name"] == name && last["ended"] == "disk", "{last}");
    let answer = r.ask("record stop id=7");
    assert!(answer.starts_with("Saved recording: ") && answer.contains(&name), "{answer}");
    assert!(answer.contains(" ended=disk why=ended by the full disk: "), "{answer}");
    assert!(answer.ends_with(" id=7") && answer.len() < 240, "{answer}");
    assert!(!r.log().contains("gstreamer"), "a library's words");
    assert_eq!(boxes(&file_of(&answer)), ["ftyp", "free", "mdat", "moov"], "plain, as VLC wants it");
    assert!(has_ffmpeg().then(|| different(&file_of(&answer))).is_none_or(|ids| ids.len() >= 10));
    assert_eq!(r.ask("record stop"), "ERR usage record stop: nothing is being recorded");
}

#[test]
fn a_recording_whose_disk_is_pulled_out_is_told_to_the_next_who_stops_it() {
    let Some(setup) = small("pulled-film", "size=8m") else { return };
    let (r, mut events) = subscribed(setup);
    let name = recording(&r);
    assert!(Command::new("umount").arg("-l").arg(r.captures()).status().unwrap().success());
    assert!(event(&mut events, "EVENT failed=record").contains(" kind=disk why="));
    let answer = r.ask("record stop");
    assert!(answer.starts_with("ERR disk ") && answer.contains(&name), "{answer}");
    assert_eq!(r.ask("record stop"), "ERR usage record stop: nothing is being recorded");
}

#[test]
fn a_read_only_disk() {
    let Some(setup) = small("read-only", "size=8m") else { return };
    let r = setup.start();
    works_again(&r);
    let (before, files) = (r.status(), r.names());
    remount("ro", &r.captures());
    for command in ["save jpg", "save npy", "pastStack png"] {
        let answer = r.ask(command);
        assert!(answer.starts_with("ERR disk ") && answer.contains("read-only"), "{command}: {answer}");
    }
    camera_goes_on(&r, &before);
    assert_eq!(r.names(), files);
    remount("rw", &r.captures());
    works_again(&r);
}

#[test]
fn a_disk_that_is_pulled_out() {
    let Some(setup) = small("pulled", "size=8m") else { return };
    let r = setup.start();
    works_again(&r);
    let before = r.status();
    // The card is gone and its mount point is no folder any more.
    unmount(&r.captures());
    fs::remove_dir_all(r.captures()).unwrap();
    fs::write(r.captures(), "in the way").unwrap();
    for command in ["save jpg", "pastStack npy"] {
        let answer = r.ask(command);
        assert!(answer.starts_with("ERR disk ") && answer.contains(r.captures().to_str().unwrap()), "{command}: {answer}");
    }
    camera_goes_on(&r, &before);
    fs::remove_file(r.captures()).unwrap();
    fs::create_dir(r.captures()).unwrap();
    assert!(mount("size=8m", &r.captures()));
    works_again(&r);
}

fn bind(from: &Path, to: &Path) {
    assert!(Command::new("mount").arg("--bind").args([from, to]).status().unwrap().success());
}

fn unmount(at: &Path) {
    assert!(Command::new("umount").arg("-l").arg(at).status().unwrap().success());
}

#[test]
fn a_disk_that_is_unmounted_is_missed_and_its_return_is_noticed() {
    let Some(setup) = small("unmounted", "size=8m") else { return };
    // The folder itself is not the mount point: what shows through has none.
    let setup = setup.set("export.base_dir", "captures/gate").set("export.auto_save_interval_s", 0.5);
    let (stick, dir) = (setup.captures(), setup.captures().join("gate"));
    // A second mount of the stick keeps what is on it.
    let pocket = setup.captures().with_extension("pocket");
    fs::create_dir(&pocket).unwrap();
    bind(&stick, &pocket);
    let (r, mut s) = subscribed(setup);
    works_again(&r);
    let name = said::single(&r.ask("save jpg")).path.file_name().unwrap().to_string_lossy().into_owned();
    let before = r.status();
    assert!(r.ask("record start").starts_with("OK recording "));
    until("a recording that grows", || (r.status()["recording"]["bytes"].as_u64()? > 0).then_some(()));
    unmount(&stick);
    let answer = r.ask("record stop");
    assert!(answer.starts_with("ERR disk ") && answer.contains("lies on another disk than at the start"), "{answer}");
    let recording = answer.split_once("keep the recording ").unwrap().1.split_once(": ").unwrap().0.to_owned();
    for command in ["save jpg png", "pastStack npy", "record start", "clip 1", "files", &format!("delete {name}")] {
        let answer = r.ask(command);
        assert!(
            answer.starts_with("ERR disk ") && answer.contains("lies on another disk than at the start"),
            "{command}: {answer}"
        );
        assert!(answer.contains(&format!("mount the disk at {} again", stick.display())), "{answer}");
    }
    assert!(event(&mut s, "EVENT disk=").starts_with("EVENT disk=gone why=use "));
    assert_eq!(r.status()["disk"], "gone");
    camera_goes_on(&r, &before);
    assert!(r.names().is_empty(), "written beneath the mount point: {:?}", r.names());
    bind(&pocket, &stick);
    unmount(&pocket);
    assert_eq!(event(&mut s, "EVENT disk="), "EVENT disk=back");
    until("the recording that the disk was pulled from", || dir.join(&recording).is_file().then_some(()));
    works_again(&r);
    // Another stick.
    unmount(&stick);
    assert!(r.ask("save jpg").starts_with("ERR disk "));
    assert!(mount("size=8m", &stick));
    works_again(&r);
    assert!(dir.is_dir());
}

#[test]
fn a_disk_that_is_mounted_over_the_folder_is_used_only_if_that_is_wanted() {
    for any in [false, true] {
        let setup = Setup::new("over").set("export.any_disk", any);
        let r = setup.start();
        works_again(&r);
        if !mount("size=8m", &setup.captures()) {
            println!("SKIP: mounting a tmpfs needs root");
            return;
        }
        if any {
            works_again(&r);
            continue;
        }
        let answer = r.ask("save jpg");
        assert!(
            answer.starts_with("ERR disk ") && answer.contains("restart to use this one, or set export.any_disk"),
            "{answer}"
        );
        assert!(!answer.contains("again") && r.names().is_empty(), "{answer}");
        unmount(&setup.captures());
        works_again(&r);
    }
}

#[test]
fn a_folder_that_is_deleted_while_pictures_are_written() {
    let r = Setup::new("deleted").start();
    works_again(&r);
    let before = r.status();
    let (over, dir) = (AtomicBool::new(false), r.captures());
    let mut saved = 0;
    std::thread::scope(|s| {
        let thief = s.spawn(|| {
            for n in 0u64.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let _ = fs::remove_dir_all(&dir);
                // So that some pictures get through and others do not.
                std::thread::sleep(std::time::Duration::from_millis(n * 70 % 280));
            }
        });
        for n in 0..20 {
            let answer = r.ask(if n % 2 == 0 { "save jpg png npy" } else { "pastStack png npy" });
            // Which of the two depends on the moment; a third thing must not happen.
            if answer.starts_with("Saved ") {
                saved += 1;
            } else {
                assert!(answer.starts_with("ERR disk "), "{answer}");
            }
        }
        over.store(true, Ordering::Relaxed);
        thief.join().unwrap();
    });
    println!("{saved} of 20 were saved between two deletions");
    camera_goes_on(&r, &before);
    works_again(&r);
    assert_eq!(temporary(&r), [""; 0]);
}

#[test]
fn the_floor_of_free_space_costs_the_oldest_pictures_and_then_refuses() {
    let Some(setup) = small("floor", "size=6m") else { return };
    let r = setup.set("export.min_free_mib", 4).start();
    let free = || nix::sys::statvfs::statvfs(&r.captures()).map(|v| v.blocks_available() * v.fragment_size()).unwrap();
    let first = said::single(&r.ask("save npy")).path;
    let mut last: PathBuf = first.clone();
    // 225 KiB each: more than twice what fits above the floor.
    for _ in 0..20 {
        last = said::single(&r.ask("save npy")).path;
        assert!(free() >= 4 << 20, "{} bytes free", free());
    }
    assert!(!first.exists() && last.exists());
    // What others have put there is never deleted: then there is no room.
    let filler = r.captures().join("holiday.jpg");
    fs::write(&filler, vec![0; 3 << 20]).unwrap();
    let before = r.status();
    let answer = r.ask("save npy");
    assert!(answer.starts_with("ERR disk "), "{answer}");
    assert!(filler.exists());
    camera_goes_on(&r, &before);
    fs::remove_file(filler).unwrap();
    works_again(&r);
}

#[test]
fn the_floor_counts_what_is_coming_and_leaves_a_small_disk_alone() {
    let Some(setup) = small("coming", "size=6m") else { return };
    let r = setup.clone().set("export.min_free_mib", 4).start();
    // A picture of 225 KiB does not fit between this and the floor, and nothing of ours can go.
    fs::write(r.captures().join("holiday.jpg"), vec![0; (2 << 20) - (150 << 10)]).unwrap();
    let answer = r.ask("save npy");
    assert!(
        answer.starts_with("ERR disk keep 4 MiB free in ") && answer.contains(" beside a file of 0.2 MiB: only 4 MiB are"),
        "{answer}"
    );
    assert_eq!((r.names(), r.status()["disk"].as_str()), (vec!["holiday.jpg".to_string()], Some("low")));
    drop(r);
    // Without a number the floor is 64 MiB, or a twentieth of a larger disk.
    let r = setup.set("export.min_free_mib", "auto").start();
    let answer = r.ask("save jpg");
    assert!(answer.starts_with("ERR disk keep 64 MiB free in "), "{answer}");
}

#[test]
fn bounds_per_kind_are_kept() {
    let r = Setup::new("bounds").set("export.keep.npy.max_bytes", 700_000).start();
    let jpg = said::single(&r.ask("save jpg")).path;
    for _ in 0..6 {
        said::single(&r.ask("save npy"));
    }
    until("the bound to be kept", || {
        let bytes: u64 =
            r.names().iter().filter(|n| is(n, "npy")).map(|n| fs::metadata(r.captures().join(n)).map_or(0, |m| m.len())).sum();
        (bytes > 0 && bytes <= 700_000).then_some(())
    });
    assert!(jpg.exists());
}

#[test]
fn a_folder_that_cannot_be_had_at_start_is_told_and_taken_up_later() {
    let setup = Setup::new("no-folder");
    fs::write(setup.captures(), "in the way").unwrap();
    let r = setup.start();
    let log = r.log();
    assert!(log.contains("create the folder") && log.contains(setup.captures().to_str().unwrap()), "{log}");
    let answer = r.ask("save jpg");
    assert!(answer.starts_with("ERR disk ") && answer.contains(setup.captures().to_str().unwrap()), "{answer}");
    fs::remove_file(setup.captures()).unwrap();
    works_again(&r);
}
