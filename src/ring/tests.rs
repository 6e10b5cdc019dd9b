use std::path::PathBuf;

use super::*;
use crate::clock::WallUs;
use crate::frame::{Ae, Colour, Exposure, Layout, Matrix, Span};

const L: Layout = Layout::new(64, 32);

fn meta(id: u64) -> FrameMeta {
    FrameMeta {
        id,
        boot: BootUs(id * 100_000),
        wall: WallUs(1_800_000_000_000_000 + id as i64 * 100_000),
        layout: L,
        colour: Colour { matrix: Matrix::Bt709, span: Span::Limited },
        exposure: Some(Exposure { time_us: 33.0, analogue_gain: 2.0, digital_gain: 1.0 }),
        ae: Ae::Converged,
        lux: Some(3.5),
        colour_temperature: Some(5600),
        focus: Some(-3),
        night: true,
        drawn: false,
    }
}

fn put(ring: &Ring, id: u64) -> bool {
    let Some(mut t) = ring.take() else { return false };
    t.pixels().fill(id as u8);
    t.publish(meta(id)).unwrap();
    true
}

fn ids(ring: &Ring) -> Vec<u64> {
    ring.look(|m| (0..m.len()).map(|i| m.get(i).id).collect())
}

fn full(frames: usize) -> Ring {
    let ring = Ring::anonymous(L.bytes(), frames, false).unwrap();
    ring.populate(false).unwrap();
    ring
}

#[test]
fn it_holds_the_last_frames_in_order() {
    let ring = full(5);
    for id in 0..12 {
        assert!(put(&ring, id));
    }
    assert_eq!(ids(&ring), [7, 8, 9, 10, 11]);
    assert_eq!(ring.first_since(BootUs(850_000)).unwrap().meta().id, 9);
    assert!(ring.first_since(BootUs(1_100_001)).is_none());
    assert!((ring.stats().seconds - 0.4).abs() < 1e-9);
}

#[test]
fn a_held_slot_is_passed_over_and_stays_as_it_is() {
    let ring = full(4);
    (0..4).for_each(|id| assert!(put(&ring, id)));
    let held = ring.first_since(BootUs(0)).unwrap();
    (4..40).for_each(|id| assert!(put(&ring, id)));
    assert_eq!(held.meta().id, 0);
    assert!(held.pixels().iter().all(|p| *p == 0));
    assert_eq!(ids(&ring), [0, 33, 34, 35, 36, 37, 38, 39]);
    drop(held);
    (40..50).for_each(|id| assert!(put(&ring, id)));
    assert_eq!(ids(&ring), [46, 47, 48, 49]);
}

#[test]
fn the_camera_goes_on_while_readers_hold_a_whole_ring_and_only_then_loses_frames() {
    let ring = full(4);
    (0..4).for_each(|id| assert!(put(&ring, id)));
    let all = ring.hold(|m| 0..m.len()).unwrap();
    (4..20).for_each(|id| assert!(put(&ring, id)));
    assert_eq!(ring.stats().dropped, 0);
    let times = ring.look(|m| (0..m.len()).map(|i| m.get(i).boot).collect::<Vec<_>>());
    let more: Vec<_> = times.into_iter().filter_map(|t| ring.first_since(t)).collect();
    assert_eq!(more.len(), 4 + SPARE);
    assert!(!put(&ring, 20));
    assert_eq!(ring.stats().dropped, 1);
    drop((all, more));
    assert!(put(&ring, 21));
}

#[test]
fn readers_together_leave_the_camera_a_quarter_and_one_alone_the_spare_slots() {
    let ring = full(16);
    (0..16).for_each(|id| assert!(put(&ring, id)));
    let whole = ring.hold(|m| 0..m.len()).unwrap();
    assert!(ring.hold(|_| 3..7).is_some(), "held already: nothing more is taken");
    assert!(ring.has_room());
    drop(whole);
    let some = ring.hold(|_| 0..8).unwrap();
    let more = ring.hold(|_| 8..16).unwrap();
    assert_eq!((some.len(), more.len()), (8, 8), "four of twenty are left");
    assert!(put(&ring, 16));
    assert!(ring.hold(|m| m.len() - 1..m.len()).is_none(), "three would be left");
    drop(some);
    assert!(ring.hold(|m| m.len() - 1..m.len()).is_some());
}

#[test]
fn an_abandoned_slot_comes_back() {
    let ring = full(2);
    for _ in 0..50 {
        drop(ring.take().unwrap());
    }
    assert!(put(&ring, 1));
    assert_eq!(ids(&ring), [1]);
}

#[test]
fn a_frame_that_is_too_large_is_refused_and_the_slot_kept() {
    let ring = full(2);
    let mut m = meta(1);
    m.layout = Layout::new(128, 128);
    let e = ring.take().unwrap().publish(m).unwrap_err();
    assert!(e.what.contains("camera.width"), "{e}");
    assert!(put(&ring, 2));
}

#[test]
fn a_waiter_wakes_with_the_next_frame() {
    let ring = full(4);
    std::thread::scope(|s| {
        let (ring, seen) = (&ring, ring.published());
        let waiter = s.spawn(move || ring.wait_published(seen, Duration::from_secs(30)));
        put(ring, 0);
        assert_eq!(waiter.join().unwrap(), 1);
    });
    assert_eq!(ring.wait_published(1, Duration::ZERO), 1);
}

/// Readers and the writer at full speed, until each reader has looked at many frames: none ever sees a slot change under it.
#[test]
fn readers_never_see_a_frame_change() {
    let ring = full(8);
    std::thread::scope(|s| {
        let read = || {
            let mut looks = 0;
            while looks < 5000 {
                let Some(slot) = ring.newest() else { continue };
                let first = slot.meta().id as u8;
                assert!(slot.pixels().iter().all(|p| *p == first));
                looks += 1;
            }
        };
        let readers = [s.spawn(read), s.spawn(read), s.spawn(read)];
        let mut id = 0;
        while readers.iter().any(|r| !r.is_finished()) {
            id += u64::from(put(&ring, id));
        }
    });
}

fn shm(name: &str) -> PathBuf {
    PathBuf::from(format!("/dev/shm/pastcam-test-{}-{name}", std::process::id()))
}

#[test]
fn a_kept_ring_is_found_again_without_its_torn_slot() {
    let path = shm("kept");
    {
        let store = persist::Store::open(&path).unwrap();
        let (ring, found) = store.ring(L.bytes(), 4, false).unwrap();
        assert_eq!(found, 0);
        (0..6).for_each(|id| assert!(put(&ring, id)));
        let second = persist::Store::open(&path);
        assert!(second.is_err_and(|e| e.what.contains("another pastcam")));
        // The process dies while it writes frame 6 over the oldest slot (2): neither may be found.
        let mut torn = ring.take().unwrap();
        torn.pixels().fill(6);
        drop(torn);
    }
    let store = persist::Store::open(&path).unwrap();
    let (ring, found) = store.ring(L.bytes(), 4, false).unwrap();
    assert_eq!((found, ids(&ring)), (3, vec![3, 4, 5]));
    let slot = ring.newest().unwrap();
    assert_eq!(*slot.meta(), meta(5));
    assert!(slot.pixels().iter().all(|p| *p == 5));
    drop((slot, ring));
    // More or fewer slots, as memory allows: what still has a slot is still there.
    let store = persist::Store::open(&path).unwrap();
    assert_eq!(store.frames(L.bytes()), 4);
    assert_eq!(store.ring(L.bytes(), 9, false).unwrap().1, 3);
    // Another size: the old frames cannot be read and are not.
    let store = persist::Store::open(&path).unwrap();
    assert_eq!(store.ring(L.bytes() * 2, 4, false).unwrap().1, 0);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_ring_file_on_a_disk_is_refused() {
    let path = std::env::current_dir().unwrap().join("target/ring-on-disk.tmp");
    let e = persist::Store::open(&path).map(|_| ()).unwrap_err();
    assert!(e.what.contains("tmpfs"), "{e}");
    assert!(!path.exists(), "a refused path is left as it was");
}

#[test]
fn the_lock_on_a_kept_ring_lasts_as_long_as_its_last_slot() {
    let path = shm("lock");
    let (ring, _) = persist::Store::open(&path).unwrap().ring(L.bytes(), 4, false).unwrap();
    assert!(put(&ring, 1));
    let held = ring.newest().unwrap();
    drop(ring);
    assert!(persist::Store::open(&path).is_err_and(|e| e.what.contains("another pastcam")));
    drop(held);
    let store = persist::Store::open(&path).unwrap();
    // A ring of fewer slots cuts the file: now, nothing maps it.
    store.ring(L.bytes(), 1, false).unwrap();
    assert_eq!(persist::Store::open(&path).unwrap().frames(L.bytes()), 1);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_file_that_others_may_write_is_no_ring_and_stays_as_it_is() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    let path = shm("foreign");
    let refused = |why: &str| {
        let e = persist::Store::open(&path).map(|_| ()).unwrap_err();
        assert!(e.what.contains(why) && e.what.contains("ring.persist_path"), "{e}");
    };
    let mode = |m: u32| std::fs::set_permissions(&path, PermissionsExt::from_mode(m)).unwrap();
    std::fs::write(&path, "theirs").unwrap();
    for open in [0o666, 0o620, 0o602] {
        mode(open);
        refused("other users may write into it");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, open);
    }
    mode(0o600);
    // Only root can give a file away.
    if chown(&path, Some(65_534), None).is_ok() {
        refused("it belongs to the user with the number 65534");
        chown(&path, Some(0), None).unwrap();
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
    let link = shm("foreign-link");
    std::fs::rename(&path, &link).unwrap();
    symlink(&link, &path).unwrap();
    refused("open the ring's file");
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused("it is no regular file");
    std::fs::remove_file(&path).unwrap();
    // One that others could only read is closed to them.
    std::fs::rename(&link, &path).unwrap();
    mode(0o644);
    drop(persist::Store::open(&path).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_ring_that_finds_no_room_leaves_a_file_as_it_was_and_no_new_one() {
    let tmpfs = nix::sys::statvfs::statvfs("/dev/shm").unwrap();
    let slot = (header::HEADER_BYTES + L.bytes()).next_multiple_of(4096);
    #[allow(clippy::useless_conversion, reason = "the fields are 32 bits wide on some boards")]
    let too_many = (u64::from(tmpfs.blocks()) * u64::from(tmpfs.fragment_size()) / slot as u64) as usize + 1;
    if too_many == 1 {
        println!("SKIP: /dev/shm has no limit");
        return;
    }
    let path = shm("room");
    let fails = || persist::Store::open(&path).unwrap().ring(L.bytes(), too_many, false).map(|_| ()).unwrap_err();
    assert!(fails().what.contains("make ring.size smaller"));
    assert!(!path.exists());
    let (ring, _) = persist::Store::open(&path).unwrap().ring(L.bytes(), 4, false).unwrap();
    assert!(put(&ring, 1));
    drop(ring);
    fails();
    let store = persist::Store::open(&path).unwrap();
    assert_eq!((store.frames(L.bytes()), store.ring(L.bytes(), 4, false).unwrap().1), (4, 1));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_frame_of_the_future_or_of_another_s_number_is_torn() {
    let path = shm("future");
    let (ring, _) = persist::Store::open(&path).unwrap().ring(L.bytes(), 6, false).unwrap();
    // `meta` makes the instant of the number: a thousand years from now.
    for id in [1, 2, 2, 3, 315_360_000_000] {
        assert!(put(&ring, id));
    }
    drop(ring);
    let (ring, found) = persist::Store::open(&path).unwrap().ring(L.bytes(), 6, false).unwrap();
    assert_eq!((found, ids(&ring)), (3, vec![1, 2, 3]));
    // All slots are there.
    (4..20).for_each(|id| assert!(put(&ring, id)));
    assert_eq!(ids(&ring), [14, 15, 16, 17, 18, 19]);
    std::fs::remove_file(path).unwrap();
}
