//! Holds what is deleted, and in which order. Only in test builds.

use super::super::KeepKind;
use super::*;
use crate::clock::FakeClock;
use crate::disk::tests::Scratch;
use crate::error::Kind;

fn keeper(dir: &Path, rules: Keep) -> RetentionKeeper {
    let mut keeper = RetentionKeeper::new(dir.to_path_buf(), rules, Ages::watch(&SystemClock), Arc::default(), Names::default());
    keeper.take_over(true).unwrap();
    keeper
}

fn tidy(k: &mut RetentionKeeper, now: WallUs) {
    let now = Present::confirmed(now);
    while k.tidy(&[], now, Instant::now()).unwrap() {
        assert!(!k.tidy(&[], now, Instant::now() + Duration::from_secs(60)).unwrap());
    }
}

fn note(k: &mut RetentionKeeper, name: &str) {
    k.count(vec![Written { format: Format::Jpg, name: name.to_owned(), bytes: 100 }]);
    assert!(!k.tidy(&[name], Present::confirmed(NOW), Instant::now() + Duration::from_secs(60)).unwrap());
}

const NOW: WallUs = WallUs(1_800_000_000_000_000);

/// `n` files of 100 bytes, the one called f0 the oldest, a minute apart; the youngest as old as `NOW`.
fn fill(dir: &Scratch, n: u64, extension: &str) {
    for id in 0..n {
        let path = dir.join(format!("20261120_083408_f{id}.{extension}"));
        fs::write(&path, [0; 100]).unwrap();
        let ago = Duration::from_secs(60 * (n - 1 - id));
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_micros(NOW.0 as u64) - ago).unwrap();
    }
}

fn jpg(max_bytes: Option<u64>, max_age_s: Option<u64>) -> Keep {
    let mut keep = Keep::default();
    keep.kinds[Format::Jpg] = KeepKind { max_bytes, max_age_s };
    keep
}

#[test]
fn the_oldest_go_first_and_foreign_files_stay() {
    let dir = Scratch::new("oldest");
    fill(&dir, 5, "jpg");
    fill(&dir, 2, "png");
    fs::write(dir.join("holiday.jpg"), [0; 1000]).unwrap();
    std::os::unix::fs::symlink("holiday.jpg", dir.join("20200101_000000_f0.jpg")).unwrap();
    fs::create_dir(dir.join("20200101_000000_f1.jpg")).unwrap();
    let mut k = keeper(&dir, jpg(Some(250), None));
    tidy(&mut k, NOW);
    let left = dir.names();
    assert_eq!(
        left,
        [
            "20200101_000000_f0.jpg",
            "20200101_000000_f1.jpg",
            "20261120_083408_f0.png",
            "20261120_083408_f1.png",
            "20261120_083408_f3.jpg",
            "20261120_083408_f4.jpg",
            "holiday.jpg"
        ]
    );
}

#[test]
fn age_counts_only_while_the_clock_is_set() {
    let dir = Scratch::new("age");
    fill(&dir, 5, "jpg");
    let mut k = keeper(&dir, jpg(None, Some(90)));
    tidy(&mut k, WallUs(0));
    assert_eq!(dir.names().len(), 5);
    tidy(&mut k, NOW);
    assert_eq!(dir.names(), ["20261120_083408_f3.jpg", "20261120_083408_f4.jpg"]);
}

/// A minute apart, the youngest as old as `NOW`: untagged, tagged, tagged by somebody else, in turn.
fn fill_tagged(dir: &Scratch, n: u64) {
    for id in 0..n {
        let tag = ["", "_night", "_gate"][id as usize % 3];
        let path = dir.join(format!("20261120_083408_f{id:02}{tag}.jpg"));
        fs::write(&path, [0; 100]).unwrap();
        let ago = Duration::from_secs(60 * (n - 1 - id));
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_micros(NOW.0 as u64) - ago).unwrap();
    }
}

fn night(kinds: &Keep, max_bytes: Option<u64>, max_age_s: Option<u64>) -> Keep {
    Keep { tags: [(crate::verbs::Tag::new("night").unwrap(), KeepKind { max_bytes, max_age_s })].into(), ..kinds.clone() }
}

fn tagged(dir: &Scratch, tag: &str) -> Vec<String> {
    dir.names().into_iter().filter(|n| n.contains(tag)).collect()
}

#[test]
fn a_tag_with_bounds_of_its_own_has_these_and_not_those_of_its_kind() {
    let dir = Scratch::new("tagged");
    fill_tagged(&dir, 12);
    fs::write(dir.join("20200101_000000_f1_night.mp4"), [0; 1000]).unwrap();
    let mut k = keeper(&dir, night(&jpg(Some(300), None), Some(250), None));
    tidy(&mut k, NOW);
    assert_eq!(tagged(&dir, "_night.jpg"), ["20261120_083408_f07_night.jpg", "20261120_083408_f10_night.jpg"]);
    // Of the others the youngest three, whatever their tags.
    let others: Vec<String> = dir.names().into_iter().filter(|n| !n.contains("_night")).collect();
    assert_eq!(others, ["20261120_083408_f08_gate.jpg", "20261120_083408_f09.jpg", "20261120_083408_f11_gate.jpg"]);
    // A recording is none of the entry's pictures.
    assert_eq!(tagged(&dir, ".mp4").len(), 1);
    // What is written from now on is counted there too.
    let new = "20261120_083409_f90_night.jpg".to_owned();
    fs::write(dir.join(&new), [0; 100]).unwrap();
    note(&mut k, &new);
    assert_eq!(tagged(&dir, "_night.jpg"), ["20261120_083408_f10_night.jpg", &new]);
    // Bounds that are gone leave the files to those of their kind.
    k.set_rules(jpg(Some(200), None));
    tidy(&mut k, NOW);
    assert_eq!(dir.names().len(), 3, "{:?}", dir.names());
}

#[test]
fn age_of_a_tag_counts_only_while_the_clock_is_set() {
    let dir = Scratch::new("tagage");
    fill_tagged(&dir, 12);
    let mut k = keeper(&dir, night(&Keep::default(), None, Some(300)));
    tidy(&mut k, WallUs(0));
    assert_eq!(dir.names().len(), 12);
    tidy(&mut k, NOW);
    assert_eq!((tagged(&dir, "_night").len(), dir.names().len()), (2, 10), "{:?}", dir.names());
}

#[test]
fn a_clock_that_is_doubted_deletes_nothing_of_a_tag() {
    let dir = Scratch::new("tagdoubt");
    fill_tagged(&dir, 3);
    let ahead = WallUs(SystemClock.wall().0 + 315_360_000_000_000);
    let clock = FakeClock::at(SystemClock.boot(), ahead);
    let rules = night(&Keep::default(), None, Some(3600));
    let mut k = RetentionKeeper::new(dir.to_path_buf(), rules, Ages::watch(&clock), Arc::default(), Names::default());
    k.take_over(true).unwrap();
    let (now, why) = k.present(&clock);
    assert!(why.unwrap().contains("ahead of the newest picture"));
    assert!(!k.tidy(&[], now, Instant::now() + Duration::from_secs(60)).unwrap());
    assert_eq!(tagged(&dir, "_night").len(), 1);
    // A time server says that ten years have passed.
    clock.synced(true);
    let (now, why) = k.present(&clock);
    assert!(why.is_none() && !k.tidy(&[], now, Instant::now() + Duration::from_secs(60)).unwrap());
    assert_eq!(tagged(&dir, "_night").len(), 0);
}

#[test]
fn what_is_certain_of_the_time_outlives_a_run_with_a_wrong_clock() {
    let dir = Scratch::new("certain");
    fill(&dir, 1, "jpg");
    let (rules, ahead) = (jpg(None, Some(3600)), WallUs(SystemClock.wall().0 + 315_360_000_000_000));
    let clock = FakeClock::at(SystemClock.boot(), ahead);
    for _ in 0..2 {
        let mut k = RetentionKeeper::new(dir.to_path_buf(), rules.clone(), Ages::watch(&clock), Arc::default(), Names::default());
        k.take_over(true).unwrap();
        let (now, why) = k.present(&clock);
        assert!(why.unwrap().contains("ahead of the newest picture"));
        assert!(!k.tidy(&[], now, Instant::now() + Duration::from_secs(60)).unwrap());
        assert_eq!(dir.names(), [name::CERTAIN, "20261120_083408_f0.jpg"]);
    }
    clock.synced(true);
    let mut k = RetentionKeeper::new(dir.to_path_buf(), rules.clone(), Ages::watch(&clock), Arc::default(), Names::default());
    k.take_over(true).unwrap();
    let (now, why) = k.present(&clock);
    assert!(why.is_none() && !k.tidy(&[], now, Instant::now() + Duration::from_secs(60)).unwrap());
    assert_eq!(dir.names(), [""; 0], "a time server says that ten years have passed");
}

#[test]
fn more_files_than_a_shelf_holds() {
    let dir = Scratch::new("shelf");
    let n = SHELF as u64 + 44;
    fill(&dir, n, "jpg");
    let mut k = keeper(&dir, jpg(Some(1000), None));
    assert!(k.stocks[0].more && k.stocks[0].oldest.len() == SHELF);
    tidy(&mut k, NOW);
    let mut left = dir.names();
    left.sort_by_key(String::len);
    assert_eq!(left, (n - 10..n).map(|id| format!("20261120_083408_f{id}.jpg")).collect::<Vec<_>>());
}

#[test]
fn what_others_deleted_is_not_counted() {
    let dir = Scratch::new("others");
    fill(&dir, 6, "jpg");
    let mut k = keeper(&dir, jpg(Some(600), None));
    for id in 0..3 {
        fs::remove_file(dir.join(format!("20261120_083408_f{id}.jpg"))).unwrap();
    }
    let new = "20261120_083409_f9.jpg".to_owned();
    fs::write(dir.join(&new), [0; 100]).unwrap();
    note(&mut k, &new);
    assert_eq!(dir.names().len(), 4, "six were allowed and four are there: {:?}", dir.names());
}

#[test]
fn a_file_just_written_stays_even_when_it_alone_is_too_much() {
    let dir = Scratch::new("spare");
    fill(&dir, 2, "jpg");
    let mut k = keeper(&dir, jpg(Some(50), None));
    let new = "20261120_083409_f9.jpg".to_owned();
    fs::write(dir.join(&new), [0; 100]).unwrap();
    note(&mut k, &new);
    assert_eq!(dir.names(), [new]);
}

#[test]
fn what_is_on_its_way_is_counted_once_and_left_alone() {
    let dir = Scratch::new("way");
    fill(&dir, 3, "jpg");
    let names = Names::default();
    let reserved = names.first(&dir, "20261120_083408_f1".into(), Vec::new());
    let half = dir.join(".20261120_083408_f9.jpg.1-1.tmp");
    fs::write(&half, "half").unwrap();
    let in_work = Step::on("write", &half);
    let mut k = RetentionKeeper::new(dir.to_path_buf(), jpg(Some(1000), None), Ages::watch(&SystemClock), Arc::default(), names);
    k.take_over(true).unwrap();
    assert_eq!((k.stocks[0].bytes, half.exists()), (200, true));
    note(&mut k, "20261120_083408_f1.jpg");
    drop((reserved, in_work));
    k.take_over(true).unwrap();
    assert_eq!((k.stocks[0].bytes, half.exists()), (300, false));
}

#[test]
fn a_floor_out_of_reach_deletes_nothing() {
    let dir = Scratch::new("floor");
    fill(&dir, 3, "jpg");
    let rules = Keep { min_free_mib: u64::MAX >> 20, ..Keep::default() };
    let e = keeper(&dir, rules).make_room(0).unwrap_err();
    assert!(e.kind == Kind::Disk && e.what.contains("min_free_mib"), "{e}");
    assert_eq!(dir.names().len(), 3);
}

#[test]
fn the_floor_is_the_larger_of_size_and_share() {
    let disk = disk::ask(Path::new("/proc")).unwrap();
    let rules = Keep { min_free_mib: 64, min_free_percent: 5, ..Keep::default() };
    assert_eq!(rules.floor(&disk), 64 << 20, "a disk without a size");
    let disk = disk::ask(&std::env::temp_dir()).unwrap();
    assert_eq!(rules.floor(&disk), (64 << 20).max(disk::size_of(&disk) / 100 * 5));
    assert!(disk::size_of(&disk) >= disk::free_of(&disk));
}
