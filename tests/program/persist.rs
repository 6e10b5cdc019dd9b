//! A ring in a file on tmpfs: what `kill -9` leaves is there after the next start, and no two programs share one.

use std::fs;
use std::path::PathBuf;

use pastcam::clock::{Clock, SystemClock};

use crate::harness::{Setup, until};
use crate::image::Image;
use crate::said::{self, id_of};

/// A ring's file, removed at the end.
struct RingFile(PathBuf);

impl RingFile {
    fn new(word: &str) -> Option<Self> {
        let path = PathBuf::from(format!("/dev/shm/pastcam-program-{}-{word}.ring", std::process::id()));
        if fs::write(&path, "").is_err() {
            println!("SKIP: /dev/shm cannot be written");
            return None;
        }
        fs::remove_file(&path).unwrap();
        Some(RingFile(path))
    }

    fn setup(&self, word: &str) -> Setup {
        Setup::new(word).set("ring.persist", true).set("ring.persist_path", self.0.to_str().unwrap())
    }
}

impl Drop for RingFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn frames_from_before_a_kill_are_still_reached() {
    let Some(file) = RingFile::new("kill") else { return };
    let setup = file.setup("kill");
    let mut first = setup.start();
    first.until_frame(30);
    let asked = SystemClock.boot().0;
    let before = said::stacked(&first.ask("pastStack png npy before=1 count=1"));
    let old = Image::open(&before.path);
    let (old_id, old_time) = old.code();
    first.kill();
    drop(first);

    let second = setup.start();
    assert!(second.log().contains("frames from before the restart are still there"));
    // One new frame, whose number goes on behind the old ones.
    let new = said::single(&second.ask("save png"));
    let (new_id, new_time) = Image::open(&new.path).code();
    assert!(new_id > old_id && new_id == id_of(&new.path) && new_time > asked, "{new_id} after {old_id}");
    // The same old frame, by its moment: same number, same pixels, same answer.
    let since = |t: u64| (SystemClock.boot().0 - t) as f64 / 1e6;
    // On a busy machine a question arrives later than it was asked, and the moment it names has moved on.
    let again = until("the frame of that moment", || {
        let answer = second.ask(&format!("pastStack png npy before={:.3} count=1", since(old_time)));
        let again = said::stacked(&answer);
        (id_of(&again.path) == old_id).then_some(again)
    });
    assert_ne!(again.path, before.path);
    assert_eq!(Image::open(&again.path).worst(&old), 0);
    assert!((again.first - before.first).abs() < 1e-9);
    // A stack of frames from before.
    let stack = said::stacked(&second.ask(&format!("pastStack npy before={:.3} count=4", since(old_time))));
    assert_eq!(stack.frames, 4);
    assert!(stack.last <= before.first + 0.5 && stack.first >= before.first - 0.5);
    // Every frame still there is whole and in order.
    let status = second.status();
    assert_eq!((&status["ring"]["kept"], status["ring"]["capacity"].as_u64()), (&true.into(), Some(100)));
    assert!(status["ring"]["frames"].as_u64().unwrap() > 25);
}

#[test]
fn a_program_killed_again_and_again_never_shows_a_torn_frame() {
    let Some(file) = RingFile::new("torn") else { return };
    // Fast frames and a small ring, so that the writer is mostly at work when it dies.
    let setup = file
        .setup("torn")
        .set("camera.framerate", 60.0)
        .set("ring.size", 30)
        .set("export.stack_dark_frames", false)
        .set("export.save_before_s", 60.0);
    let mut last = None;
    for _ in 0..4 {
        let mut r = setup.start();
        r.until_more_frames(40);
        r.kill();
        let _ = fs::remove_dir_all(r.captures());
        let r = setup.start();
        said::separate(&r.ask("pastStack npy"));
        let mut codes: Vec<(u64, u64)> = Vec::new();
        for name in r.names() {
            let path = r.captures().join(name);
            let code = Image::open(&path).code();
            assert_eq!(code.0, id_of(&path));
            codes.push(code);
        }
        codes.sort_unstable();
        assert!(codes.len() >= 20, "{} frames", codes.len());
        assert!(codes.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1), "{codes:?}");
        assert!(last.is_none_or(|l| codes[0].0 > l));
        last = Some(codes[0].0);
    }
}

/// A kill rarely falls into the copying of a frame, so here the slot is torn by hand: its first eight bytes, which the writer
/// clears before it touches the pixels, are cleared, and its pixels are half overwritten.
#[test]
fn a_torn_frame_is_left_out_and_its_neighbours_are_not() {
    let Some(file) = RingFile::new("by-hand") else { return };
    let setup = file.setup("by-hand").set("export.stack_dark_frames", false).set("export.save_before_s", 60.0);
    let mut r = setup.start();
    r.until_frame(20);
    r.kill();
    let mut bytes = fs::read(&file.0).unwrap();
    // 100 frames and some to spare of 320×240 samples, a header page before each, all on page boundaries.
    let slot = (4096 + 320 * 240 * 3 / 2usize).next_multiple_of(4096);
    assert_eq!(bytes.len() % slot, 0);
    let of = |bytes: &[u8], id: u64| {
        (0..bytes.len() / slot).map(|i| i * slot).find(|at| {
            let head = &bytes[*at..*at + 40];
            head[..8] == *b"pastrg02" && head[24..32] == id.to_le_bytes()
        })
    };
    let at = of(&bytes, 10).expect("frame 10 is in the file");
    bytes[at..at + 8].fill(0);
    bytes[at + 4096..at + 4096 + 60_000].fill(77);
    fs::write(&file.0, bytes).unwrap();

    let r = setup.start();
    said::separate(&r.ask("pastStack npy"));
    let mut ids: Vec<u64> = Vec::new();
    for name in r.names() {
        let path = r.captures().join(name);
        let id = Image::open(&path).code().0;
        assert_eq!(id, id_of(&path));
        ids.push(id);
    }
    ids.sort_unstable();
    assert!(!ids.contains(&10) && [8, 9, 11, 12].iter().all(|id| ids.contains(id)), "{ids:?}");
    assert!(ids.windows(2).all(|w| w[0] < w[1]), "{ids:?}");
}

#[test]
fn two_programs_on_one_ring_are_told_apart() {
    let Some(file) = RingFile::new("two") else { return };
    let first = file.setup("two").start();
    let (code, said) = file.setup("second").end();
    assert_eq!(code, 1, "{said}");
    let path = file.0.to_str().unwrap();
    assert!(
        said.contains(&format!("open the ring's file {path}: another pastcam (pid {}: ", first.pid()))
            && said.contains(" uses it; give each its own ring.persist_path"),
        "{said}"
    );
    until("the first to go on", || first.ask("night_level").starts_with("LEVEL=").then_some(()));
    assert!(said::single(&first.ask("save jpg")).path.is_file());
}

#[test]
fn a_ring_on_a_disk_and_a_ring_nowhere_are_refused() {
    let setup = Setup::new("on-disk").set("ring.persist", true);
    // A temporary folder may itself be a tmpfs.
    if nix::sys::statfs::statfs(&**setup.dir).unwrap().filesystem_type() == nix::sys::statfs::TMPFS_MAGIC {
        println!("SKIP: the scratch folder is a tmpfs");
        return;
    }
    let dir = setup.dir.clone();
    let (code, said) = setup.set("ring.persist_path", "ring").end();
    assert!(!dir.join("ring").exists(), "a refused path is left as it was");
    assert!(code == 1 && said.contains("tmpfs") && said.contains("ring.persist_path"), "{code}: {said}");
    let (code, said) = Setup::new("nowhere").set("ring.persist", true).set("ring.persist_path", "/no/such/folder/ring").end();
    assert!(code == 1 && said.contains("/no/such/folder/ring") && said.contains("ring.persist_path"), "{code}: {said}");
}

#[test]
fn a_ring_file_that_another_user_may_write_is_refused_and_left_alone() {
    use std::os::unix::fs::PermissionsExt;
    let Some(file) = RingFile::new("open") else { return };
    fs::write(&file.0, "theirs").unwrap();
    fs::set_permissions(&file.0, PermissionsExt::from_mode(0o666)).unwrap();
    let (code, said) = file.setup("open").end();
    assert_eq!(code, 1, "{said}");
    let why = "other users may write into it (mode 666); remove it or set ring.persist_path to another file";
    assert!(said.contains(&format!("open the ring's file {}: {why}", file.0.display())), "{said}");
    assert_eq!(fs::read(&file.0).unwrap(), b"theirs");
}
