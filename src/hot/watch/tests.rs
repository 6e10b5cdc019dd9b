//! The watch without its thread: what it reads, writes and holds, and how long it rests.

use std::fs;
use std::path::Path;
use std::sync::mpsc::channel;

use super::super::tests::{Night, meta, turning};
use super::*;
use crate::frame::FrameMeta;
use crate::ring::Ring;

const L: Layout = Layout::new(64, 48);

fn spot(x: u16, u: i8) -> Spot {
    Spot { y: 5, x, luma: 60, u, v: 0 }
}

fn list(spots: &[Spot]) -> List {
    List { layout: L, spots: spots.to_vec() }
}

fn origin() -> Origin {
    Origin { source: "a camera".into(), turn: 1, moved: false }
}

/// With one dark frame; its folder is not there yet.
fn watch(name: &str, origin: impl Fn() -> Option<Origin> + Send + 'static) -> (Watch, PathBuf) {
    let dir = std::env::temp_dir().join(format!("pastcam-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    let ring = Ring::anonymous(L.bytes(), 2, false).unwrap();
    ring.populate(false).unwrap();
    ring.take().unwrap().publish(meta(L, true)).unwrap();
    let hot = Arc::new(Hot::default());
    hot.enable(true);
    let frames = Arc::new(Frames::new(ring, None));
    (Watch { hot, frames, dir: Arc::new(Mutex::new(dir.clone())), origin: Box::new(origin) }, dir)
}

/// One that has learned this pixel and found no file.
fn learned(watch: &Watch, x: u16) -> Course {
    let mut course = None;
    watch.look(&mut course);
    let mut course = course.unwrap();
    course.learner.adopt(&list(&[spot(x, 0)]));
    course.behind = Some(Instant::now());
    course
}

fn written(dir: &Path, course: &Course) -> Vec<u16> {
    file::load(dir, &course.owner).unwrap().unwrap().spots.iter().map(|s| s.x).collect()
}

#[test]
fn what_could_not_be_written_is_written_later() {
    let (watch, dir) = watch("hot-late", || Some(origin()));
    let mut course = learned(&watch, 7);
    watch.write(&mut course);
    assert!(course.behind.is_some());
    fs::create_dir(&dir).unwrap();
    watch.write(&mut course);
    assert!(course.behind.is_none());
    assert_eq!(written(&dir, &course), [7]);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_list_on_a_card_that_is_mounted_late_is_taken_over_once() {
    let (watch, dir) = watch("hot-card", || Some(origin()));
    let mut course = learned(&watch, 7);
    fs::create_dir(&dir).unwrap();
    file::save(&dir, &course.owner, &list(&[spot(3, 0), spot(7, 9)])).unwrap();
    watch.write(&mut course);
    assert_eq!(written(&dir, &course), [3, 7]);
    assert_eq!(watch.hot.known(), 2);
    // What it knows by now stands in its own file.
    course.learner = Learner::new(L);
    course.behind = Some(Instant::now());
    watch.write(&mut course);
    assert!(written(&dir, &course).is_empty());
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_colour_that_has_become_sure_is_written_and_a_glow_that_wavers_is_not() {
    let before = list(&[spot(3, 0), spot(7, 9)]);
    assert!(differs(&before, &list(&[spot(3, -4), spot(7, 9)])));
    assert!(differs(&before, &list(&[spot(3, 0)])));
    let glow = Spot { luma: 61, ..spot(3, 0) };
    assert!(!differs(&before, &list(&[glow, spot(7, 8)])));
}

#[test]
fn where_no_frame_comes_it_soon_rests_for_long() {
    let usual = LOOKS[0];
    assert_eq!(rest(None, false, 1, usual), SOON);
    assert_eq!(rest(None, false, EARLY, usual), usual * 4);
    assert_eq!(rest(Some(0), true, 1, usual), usual);
    assert_eq!(rest(Some(0), false, 1, usual), usual * 4);
    assert_eq!(rest(Some(CALM + 1), true, 9999, LOOKS[3]), SELDOM);
}

#[test]
fn while_the_file_is_read_no_frame_is_held() {
    let (asked, asks) = channel();
    let (watch, _) = watch("hot-held", move || asked.send(()).ok().map(|()| origin()));
    let (frames, dir) = (watch.frames.clone(), watch.dir.clone());
    // The file waits for this.
    let disk = dir.lock().unwrap();
    let looks = std::thread::spawn(move || watch.look(&mut None));
    asks.recv().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    // The ring's own, and this one.
    assert_eq!(Arc::strong_count(&frames.past.newest().unwrap()), 2);
    drop(disk);
    assert!(looks.join().unwrap());
}

#[test]
fn a_change_of_the_night_mode_is_no_view() {
    let mut night = Night::new(160, 120, (20, 0, 0));
    let layout = night.layout;
    let (mut watch, _) = watch("hot-mode", || Some(origin()));
    let ring = Ring::anonymous(layout.bytes(), 2, false).unwrap();
    ring.populate(false).unwrap();
    watch.frames = Arc::new(Frames::new(ring, None));
    let mut learned = |changes: bool| {
        let mut course = None;
        for k in 0..16 {
            let mut slot = watch.frames.past.take().unwrap();
            slot.pixels()[..layout.bytes()].copy_from_slice(&night.frame(turning(k))[0]);
            slot.publish(FrameMeta { id: k as u64, ..meta(layout, changes && k % 2 == 0) }).unwrap();
            assert!(watch.look(&mut course), "dark");
        }
        course.unwrap().learner.list().spots.len()
    };
    assert_eq!(learned(true), 0);
    assert!(learned(false) >= 19);
}
