//! Power cuts: pictures and recordings on a disk that forgets whatever was written and not flushed. The disk is an ext4 file
//! system on a loop device over nbdkit with a write-back cache; a `kill -9` of that is the cut. Needs root and those tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::{Running, Scratch, Setup, is, until};
use crate::image::Image;
use crate::recordings::{boxes, different, file_of, films};
use crate::said;

/// The disk under the folder of pictures.
struct Disk {
    dir: Scratch,
    cache: Child,
    file: Child,
    at: PathBuf,
}

fn runs(program: &str, with: &[&str]) -> bool {
    Command::new(program).args(with).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

fn mount(image: &Path, at: &Path) -> bool {
    Command::new("mount").args(["-o", "loop"]).args([image, at]).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

impl Disk {
    /// `None`, and why, where it cannot be had.
    fn under(setup: &Setup) -> Option<Disk> {
        for (program, with) in [("nbdkit", "--version"), ("nbdfuse", "--version"), ("mkfs.ext4", "-V")] {
            if !runs(program, &[with]) {
                println!("SKIP: {program} is not installed (nbdkit, libnbd-bin, e2fsprogs)");
                return None;
            }
        }
        let dir = Scratch::new("disk");
        let (image, socket, over) = (dir.join("image"), dir.join("socket"), dir.join("over"));
        fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        fs::create_dir(&over).unwrap();
        assert!(runs("mkfs.ext4", &["-q", image.to_str().unwrap()]));
        let cache = Command::new("nbdkit")
            .args(["-f", "-U", socket.to_str().unwrap(), "--filter=cache", "file", image.to_str().unwrap(), "cache=writeback"])
            .arg("cache-min-block-size=4K")
            .spawn()
            .unwrap();
        until("nbdkit", || socket.exists().then_some(()));
        let whole = over.join("disk");
        let file = Command::new("nbdfuse").arg(&whole).arg("--unix").arg(&socket).stderr(Stdio::null()).spawn().unwrap();
        let mut disk = Disk { dir, cache, file, at: setup.captures() };
        until("the disk as a file, or nbdfuse's end", || {
            (whole.exists() || disk.file.try_wait().unwrap().is_some()).then_some(())
        });
        let _ = fs::create_dir(&disk.at);
        if mount(&whole, &disk.at) {
            return Some(disk);
        }
        println!("SKIP: mounting a loop device over FUSE is not allowed here");
        None
    }

    /// The power goes, and comes back: the program is gone, and what the disk had not been told to keep.
    fn cut(&mut self, r: &mut Running) {
        self.cache.kill().unwrap();
        self.cache.wait().unwrap();
        r.kill();
        assert!(runs("umount", &["-l", self.at.to_str().unwrap()]));
        let _ = self.file.kill();
        let _ = self.file.wait();
        let left = self.dir.join("left");
        fs::copy(self.dir.join("image"), &left).unwrap();
        assert!(mount(&left, &self.at), "the file system does not come back");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whatever is still mounted in the scratch folders goes with those.
        let _ = runs("umount", &["-l", self.at.to_str().unwrap()]);
        for child in [&mut self.file, &mut self.cache] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_power_cut_costs_two_seconds_and_nothing_that_was_answered() {
    // Within a fragment, between two, and after ext4 has written its journal of its own accord.
    for after in [1300, 2900, 6200] {
        let setup = Setup::new("power");
        let Some(mut disk) = Disk::under(&setup) else { return };
        let mut r = setup.start();
        r.until_frame(12);
        let clip = file_of(&r.ask("clip 1"));
        assert!(r.ask("record start").starts_with("OK recording "));
        std::thread::sleep(Duration::from_millis(after));
        let saved = said::single(&r.ask("save jpg png npy")).path;
        let newest = r.newest_id().unwrap();
        disk.cut(&mut r);
        let before: Vec<String> = r.names();
        drop(r);
        assert!(before.iter().any(|n| n.starts_with('.') && is(n, "part")), "nothing to mend: {before:?}");
        let r = setup.start();
        assert!(r.names().iter().all(|n| !n.starts_with('.')), "{:?}", r.names());
        for kind in ["jpg", "png"] {
            Image::open(&saved.with_extension(kind)).code();
        }
        assert_eq!(fs::metadata(saved.with_extension("npy")).unwrap().len(), 128 + 320 * 240 * 3);
        assert!(different(&clip).len() >= 9);
        let film = films(&r).into_iter().find(|f| *f != clip).expect("the recording");
        assert_eq!(boxes(&film), ["ftyp", "free", "mdat", "moov"]);
        let ids = different(&film);
        let lost = newest + 1 - ids[0] - ids.len() as u64;
        println!("cut {after} ms after the start: {lost} frames of 10 a second are lost");
        assert!(lost <= 20, "up to {newest}: {ids:?}");
    }
}

#[test]
fn a_disk_without_flushes_would_lose_it() {
    // That the disk really forgets: otherwise the test above would prove nothing.
    let setup = Setup::new("forgets");
    let Some(mut disk) = Disk::under(&setup) else { return };
    let mut r = setup.start();
    let saved = said::single(&r.ask("save npy")).path;
    let bytes = fs::read(&saved).unwrap();
    fs::write(r.captures().join("unsynced"), &bytes).unwrap();
    disk.cut(&mut r);
    assert_eq!(fs::read(&saved).unwrap(), bytes);
    assert_ne!(fs::read(r.captures().join("unsynced")).unwrap_or_default(), bytes, "the disk forgets nothing");
}
