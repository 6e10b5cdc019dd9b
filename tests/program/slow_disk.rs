//! A disk that answers late, or not for seconds: whoever does not need it notices nothing, whoever does is told. The disk is slow
//! for the program alone, through a library that is loaded before it and made by the C compiler of this machine.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::client::{ask, try_ask};
use crate::events::{event, subscribed};
use crate::harness::{Running, Scratch, Setup, is, until};
use crate::said;

/// The library, in a folder that must outlive its use; `None`, and why, where it cannot be made.
pub fn library() -> Option<(Scratch, PathBuf)> {
    let dir = Scratch::new("preload");
    let library = dir.join("slow_disk.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/program/slow_disk.c");
    let made = Command::new("cc").args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    match made {
        Ok(status) => assert!(status.success(), "slow_disk.c does not compile"),
        Err(e) => {
            println!("SKIP: cc: {e}");
            return None;
        }
    }
    Some((dir, library))
}

/// A setup whose folder of pictures lies on such a disk.
pub fn slow(word: &str, library: &std::path::Path) -> Setup {
    let setup = Setup::new(word);
    fs::create_dir(setup.captures()).unwrap();
    let dir = fs::canonicalize(setup.captures()).unwrap().display().to_string();
    let file = setup.dir.join("slow").display().to_string();
    setup.env("LD_PRELOAD", library.display().to_string()).env("SLOW_DIR", dir).env("SLOW_FILE", file)
}

/// From now on the disk takes so many seconds for these, or the clock and the links are as the words say.
pub fn take(setup: &Setup, words: &str) {
    let draft = setup.dir.join("slow.new");
    fs::write(&draft, words).unwrap();
    fs::rename(draft, setup.dir.join("slow")).unwrap();
}

/// A client whose `files` hangs from now on.
pub fn hanging_list(setup: &Setup, r: &Running) -> std::thread::JoinHandle<Option<String>> {
    take(setup, "readdir=60");
    let port = setup.port;
    let list = std::thread::spawn(move || try_ask(port, "files"));
    until("the list hangs", || (r.status()["disk"] == "hung").then_some(()));
    list
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn a_slow_disk_delays_nobody_who_does_not_need_it() {
    let Some((_dir, library)) = library() else { return };
    let setup = slow("slow", &library).set("export.min_free_mib", 1);
    let r = setup.start();
    let first = said::single(&r.ask("save jpg")).path;
    let delete = format!("delete {}", first.file_name().unwrap().to_string_lossy());
    for words in ["readdir=3", "stat=3", "unlink=3", "statfs=3"] {
        take(&setup, words);
        let over = AtomicBool::new(false);
        std::thread::scope(|s| {
            let lists = || {
                while !over.load(Relaxed) {
                    let begun = Instant::now();
                    let answer = ask(setup.port, "files");
                    assert!(answer.starts_with('{'), "{answer}");
                    let slow = words.starts_with("readdir") || words.starts_with("stat=");
                    let waited = !slow || over.load(Relaxed) || begun.elapsed() > Duration::from_secs(2);
                    assert!(waited, "the disk is not slow");
                }
            };
            let files = [s.spawn(lists), s.spawn(lists)];
            let deleted = words.starts_with("unlink").then(|| {
                s.spawn(|| {
                    let begun = Instant::now();
                    (ask(setup.port, &delete), begun.elapsed())
                })
            });
            let sent = now();
            let save = s.spawn(|| ask(setup.port, "save jpg"));
            let mut worst = Duration::ZERO;
            for _ in 0..20 {
                for line in ["ping", "health", "status"] {
                    let begun = Instant::now();
                    r.ask(line);
                    worst = worst.max(begun.elapsed());
                }
            }
            // A tenth of what the disk takes; benches/drive/slow_disk.py measures it to the millisecond on a quiet machine.
            assert!(worst < Duration::from_millis(300), "{words}: {worst:?}");
            let saved = said::single(&save.join().unwrap());
            // A frame lasts 0.1 s; the answer may have waited for the disk.
            assert!((-0.01..0.4).contains(&(saved.timestamp - sent)), "{words}: frame of {} s after", saved.timestamp - sent);
            if let Some(deleted) = deleted {
                let (answer, took) = deleted.join().unwrap();
                assert!(answer.starts_with("OK deleted ") && took > Duration::from_secs(2), "{answer} after {took:?}");
            }
            over.store(true, Relaxed);
            take(&setup, "");
            for lists in files {
                lists.join().unwrap();
            }
        });
    }
}

#[test]
fn a_disk_that_does_not_answer_is_told_and_so_is_its_return() {
    let Some((_dir, library)) = library() else { return };
    let setup = slow("hung", &library);
    let (r, mut s) = subscribed(setup.clone());
    take(&setup, "fsync=8");
    let port = setup.port;
    let save = std::thread::spawn(move || ask(port, "save jpg"));
    let told = event(&mut s, "EVENT disk=");
    assert!(told.starts_with("EVENT disk=hung why=no answer for ") && told.contains("write ") && told.contains(".tmp"), "{told}");
    assert!(r.ask("status").contains(" disk=hung "), "{}", r.ask("status"));
    assert_eq!(r.status()["disk"], "hung");
    r.until_logged("The disk of the pictures is hung: no answer for ");
    take(&setup, "");
    assert_eq!(event(&mut s, "EVENT disk="), "EVENT disk=back");
    said::single(&save.join().unwrap());
    assert_eq!(r.status()["disk"], "ok");
    r.until_logged("The disk of the pictures is well again");
}

#[test]
fn periodic_pictures_do_not_pile_up_on_a_slow_disk() {
    let Some((_dir, library)) = library() else { return };
    let setup = slow("pile", &library).set("export.auto_save_interval_s", 0.1);
    let r = setup.start();
    until("a periodic picture", || r.names().iter().any(|n| n == "latest.jpg").then_some(()));
    take(&setup, "fsync=1");
    let (begun, mut most) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(2) {
        most = most.max(r.status()["jobs"].as_u64().unwrap());
    }
    assert_eq!(most, 1);
}

#[test]
fn a_disk_without_links_has_a_copy_of_the_latest_picture() {
    let Some((_dir, library)) = library() else { return };
    let setup = slow("links", &library);
    take(&setup, "links=0");
    let r = setup.start();
    let latest = setup.captures().join("latest.jpg");
    for _ in 0..3 {
        let saved = said::single(&r.ask("save jpg")).path;
        assert!(fs::symlink_metadata(&latest).unwrap().is_file());
        assert_eq!(fs::read(&latest).unwrap(), fs::read(saved).unwrap());
    }
    let log = r.log();
    assert!(log.matches("latest.jpg").count() == 1 && !log.contains("[WARN] export"), "{log}");
    assert_eq!(r.names().len(), 4, "{:?}", r.names());
}

#[test]
fn a_stop_ends_the_recording_while_a_list_hangs() {
    let Some((_dir, library)) = library() else { return };
    let setup = slow("stop", &library);
    let mut r = setup.start();
    assert!(r.ask("record start").starts_with("OK recording "));
    let list = hanging_list(&setup, &r);
    assert_eq!(r.terminate().code(), Some(0));
    assert!(r.names().iter().any(|n| is(n, "mp4") && !n.starts_with('.')), "{:?}", r.names());
    let _ = list.join();
}

#[test]
fn the_start_waits_for_no_folder_and_a_save_for_no_old_pictures() {
    const OLD: usize = 3000;
    let Some((_dir, library)) = library() else { return };
    let setup = slow("old", &library).set("export.keep.jpg.max_age_s", 86_400.0);
    let year_ago = SystemTime::now() - Duration::from_secs(365 * 86_400);
    for id in 0..OLD {
        let file = fs::File::create(setup.captures().join(format!("20250101_000000_f{id}.jpg"))).unwrap();
        file.set_modified(year_ago).unwrap();
    }
    take(&setup, "readdir=5");
    let begun = Instant::now();
    let r = setup.spawn();
    until("an answer", || try_ask(setup.port, "ping"));
    let started = begun.elapsed();
    assert!(started < Duration::from_secs(5), "the port waited for the folder: {started:?}");
    r.until_frame(1);
    let saved = said::single(&r.ask("save jpg")).path;
    assert!(begun.elapsed() < Duration::from_secs(5) || !crate::harness::is_quiet(), "the picture waited for the folder");
    take(&setup, "");
    r.until_logged(&format!("Deleted {OLD} old files, "));
    assert!(saved.exists());
    assert_eq!(r.names().iter().filter(|n| is(n, "jpg") && *n != "latest.jpg").count(), 1, "{:?}", r.names());
}
