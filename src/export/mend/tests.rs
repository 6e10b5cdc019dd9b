//! Recordings as crashes leave them, whole and damaged ones.

use super::*;
use crate::disk::tests::Scratch;

fn numbers(kind: Kind, n: &[u32]) -> Vec<u8> {
    boxed(kind, &n.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<_>>())
}

fn nested(path: &[&Kind], content: &[u8]) -> Vec<u8> {
    path.iter().rev().fold(content.to_vec(), |inner, kind| boxed(**kind, &inner))
}

/// Two pictures with the first index, then fragments of two and of one, as mp4mux writes them, and the beginning of a third.
fn left() -> Vec<u8> {
    let tables = [
        numbers(*b"stsd", &[0, 0]),
        table(*b"stts", [2, 1, 100, 1, 104]),
        table(*b"stss", [1, 1]),
        table(*b"stsc", [1, 1, 2, 1]),
        table(*b"stsz", [0, 2, 30, 10]),
        table(*b"stco", [1, 32]),
    ];
    let track = [
        numbers(*b"tkhd", &[0, 0, 0, 1, 0, 200]),
        nested(&[b"edts", b"elst"], &numbers(*b"free", &[0, 1, 200, 0, 0x1_0000])[8..]),
        boxed(*b"mdia", &[numbers(*b"mdhd", &[0, 0, 0, 1000, 204]), nested(&[b"minf", b"stbl"], &tables.concat())].concat()),
    ];
    let trex = numbers(*b"trex", &[0, 1, 1, 0, 0, 0x1_0000]);
    let moov = [
        numbers(*b"mvhd", &[0, 0, 0, 2000, 400]),
        boxed(*b"trak", &track.concat()),
        boxed(*b"mvex", &trex),
        boxed(*b"udta", b"name"),
    ];
    let mut file = [boxed(*b"ftyp", b"mp42mp42"), boxed(*b"free", b""), boxed(*b"mdat", &[1; 40])].concat();
    file.extend(boxed(*b"moov", &moov.concat()));
    for (time, of) in [(204u32, vec![(100u32, 20u32, 0x40), (90, 21, 0x1_0000)]), (500, vec![(80, 22, 0x1_0000)])] {
        let start = file.len() as u32;
        file.extend([boxed(*b"free", b""), boxed(*b"mdat", &vec![2; of.iter().map(|s| s.1 as usize).sum()])].concat());
        let (tfhd, trun) = if let [only] = of[..] {
            ([0x39, 1, 0, start, only.0, only.1, only.2].to_vec(), vec![1, 1, 16])
        } else {
            let each = of.iter().flat_map(|s| [s.0, s.1, s.2]);
            (vec![1, 1, 0, start], [0x701, of.len() as u32, 16].into_iter().chain(each).collect())
        };
        let fragment = [numbers(*b"tfhd", &tfhd), numbers(*b"tfdt", &[0, time]), numbers(*b"trun", &trun)];
        file.extend(nested(&[b"moof", b"traf"], &fragment.concat()));
    }
    file.extend(&boxed(*b"mdat", &[3; 50])[..40]);
    file
}

#[test]
fn an_mdat_made_large_before_its_index_had_room_is_opened_again() {
    let dir = Scratch::new("hidden");
    let plain = |bytes: &[u8]| {
        let path = dir.join("film");
        std::fs::write(&path, bytes).unwrap();
        let whole = mend(&path).unwrap();
        (whole, std::fs::read(&path).unwrap())
    };
    let whole = plain(&left());
    let mdat = left().windows(4).position(|w| w == b"mdat").unwrap() - 4;
    let size = left().len() - mdat;
    // Beyond the end of the file, and with the beginning of its index behind it.
    let mut short = left();
    short[mdat..mdat + 4].copy_from_slice(&(size as u32 + 500).to_be_bytes());
    assert_eq!(plain(&short), whole);
    short[mdat..mdat + 4].copy_from_slice(&(size as u32).to_be_bytes());
    short.extend(&boxed(*b"moov", &[0; 50])[..20]);
    assert_eq!(plain(&short), whole);
    // The long head of a file over 4 GiB.
    let mut long = left();
    let head = [&[0, 0, 0, 1], b"mdat".as_slice(), &(5u64 << 30).to_be_bytes()].concat();
    long[mdat - 8..mdat + 8].copy_from_slice(&head);
    assert_eq!(plain(&long), whole);
    // Pictures in which the letters occur, and no index.
    let none = [boxed(*b"ftyp", b""), boxed(*b"mdat", b"....\0\0\0\x0cmoovabcd....")[..20].to_vec()].concat();
    assert_eq!(plain(&none), (0, none.clone()));
}

#[test]
fn fragments_become_one_plain_file() {
    let dir = Scratch::new("flatten");
    let path = dir.join("film");
    std::fs::write(&path, left()).unwrap();
    assert!(mend(&path).unwrap() > 0);
    let plain = std::fs::read(&path).unwrap();
    let kinds: Vec<Kind> = inside(&plain).map(|b| b.0).collect();
    assert_eq!(kinds, [*b"ftyp", *b"free", *b"mdat", *b"moov"]);
    let moov = inside(&plain).last().unwrap().1;
    assert_eq!(inside(moov).map(|b| b.0).collect::<Vec<_>>(), [*b"mvhd", *b"trak", *b"udta"]);
    let stbl = child(moov, &[b"trak", b"mdia", b"minf", b"stbl"]).unwrap();
    let said = |kind: &Kind| words(child(stbl, &[kind]).unwrap(), 4).collect::<Vec<_>>();
    // 90 became 196: a picture was lost behind it.
    assert_eq!(said(b"stts"), [5, 1, 100, 1, 104, 1, 100, 1, 196, 1, 80]);
    assert_eq!(said(b"stss"), [2, 1, 3]);
    assert_eq!(said(b"stsz"), [0, 5, 30, 10, 20, 21, 22]);
    assert_eq!(said(b"stsc"), [2, 1, 2, 1, 3, 1, 1]);
    let pictures: Vec<&[u8]> = said(b"stco")[1..].iter().map(|at| &plain[*at as usize..][..3]).collect();
    assert_eq!(pictures, [[1; 3], [2; 3], [2; 3]]);
    // 580 ticks of 1000 a second; the movie has 2000.
    assert_eq!(word(child(moov, &[b"trak", b"mdia", b"mdhd"]).unwrap(), 16).unwrap(), 580);
    for (path, at) in [(&[b"mvhd"] as &[&Kind], 16), (&[b"trak", b"tkhd"], 20), (&[b"trak", b"edts", b"elst"], 8)] {
        assert_eq!(word(child(moov, path).unwrap(), at).unwrap(), 1160);
    }
    // What is plain stays as it is; a crash before the last step of the mending costs nothing.
    mend(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), plain);
    let mdat = 16 + 8;
    let between = [&plain[..mdat], &48u32.to_be_bytes(), &plain[mdat + 4..]].concat();
    std::fs::write(&path, between).unwrap();
    mend(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), plain);
}

#[test]
fn what_cannot_be_read_stays_as_it_was_cut() {
    let dir = Scratch::new("unread");
    let path = dir.join("film");
    let left = left();
    let whole = left.len() - 40;
    // A step through the file that meets every box.
    for at in (60..whole).step_by(7) {
        let mut bad = left.clone();
        bad[at..at + 4].fill(0xff);
        std::fs::write(&path, &bad).unwrap();
        mend(&path).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < 3 * left.len() as u64);
    }
}

/// A first index with these tables in the place of the usual ones.
fn with_tables(tables: &[Vec<u8>]) -> Vec<u8> {
    let stbl = [&[numbers(*b"stsd", &[0, 0])], tables].concat().concat();
    let mdia = [numbers(*b"mdhd", &[0, 0, 0, 1000, 0]), nested(&[b"minf", b"stbl"], &stbl)].concat();
    let track = [numbers(*b"tkhd", &[0, 0, 0, 1, 0, 0]), boxed(*b"mdia", &mdia)].concat();
    let trex = numbers(*b"trex", &[0, 1, 1, 0, 0, 0]);
    let moov = [numbers(*b"mvhd", &[0, 0, 0, 1000, 0]), boxed(*b"trak", &track), boxed(*b"mvex", &trex)].concat();
    [boxed(*b"ftyp", b"mp42"), boxed(*b"mdat", &[1; 40]), boxed(*b"moov", &moov)].concat()
}

#[test]
fn damaged_numbers_neither_take_the_memory_nor_the_program() {
    let dir = Scratch::new("damaged");
    let path = dir.join("film");
    let all = u32::MAX;
    let runs = table(*b"stsc", [1, 1, all, 1]);
    let of = |sizes: [u32; 3], times: [u32; 3], at: Vec<u8>| {
        with_tables(&[table(*b"stts", times), table(*b"stsz", sizes), runs.clone(), at])
    };
    let offset = || table(*b"stco", [1, 20]);
    let deep = nested(&vec![b"mdia"; 20_000], &[]);
    let trun = numbers(*b"trun", &[0, all]);
    for bad in [
        of([0, 1, 8], [1, 1, 1], boxed(*b"co64", b"")),
        of([1, all, 0], [1, all, all], offset()),
        of([0, all, 0], [1, all, 1], offset()),
        of([1, 1, 0], [1, 1, 1], numbers(*b"co64", &[0, 1, all, all])),
        [of([1, 1, 0], [1, 1, 1], offset()), nested(&[b"moof", b"traf"], &[numbers(*b"tfhd", &[0, 1]), trun].concat())].concat(),
        [
            of([1, 1, 0], [1, 1, 1], offset()),
            nested(&[b"moof", b"traf"], &[numbers(*b"tfhd", &[0, 1]), numbers(*b"tfdt", &[0x100_0000, all, all])].concat()),
        ]
        .concat(),
    ] {
        std::fs::write(&path, &bad).unwrap();
        assert_eq!(mend(&path).unwrap(), bad.len() as u64);
        assert_eq!(std::fs::read(&path).unwrap(), bad, "left as it was");
    }
    let track = Track { id: 1, ..Track::default() };
    let again = rebuilt(&deep, &[], Some(&track), 0).unwrap();
    assert_eq!(again, deep);
}

#[test]
fn whatever_is_damaged_mending_comes_to_an_end() {
    let dir = Scratch::new("fuzz");
    let path = dir.join("film");
    let left = left();
    // Numerical Recipes' generator: the same damage in each run.
    let mut seed = 1u32;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % below
    };
    for _ in 0..3000 {
        let mut bad = left.clone();
        for _ in 0..=random(3) {
            let at = random(bad.len() - 4);
            let value = [0, 1, 7, 8, 0x7fff_ffff, 0x8000_0000, u32::MAX, random(1 << 24) as u32][random(8)];
            bad[at..at + 4].copy_from_slice(&value.to_be_bytes());
        }
        bad.truncate(bad.len() - random(3) * random(bad.len() / 2));
        std::fs::write(&path, &bad).unwrap();
        let whole = mend(&path).unwrap();
        assert!(whole <= bad.len() as u64 && std::fs::metadata(&path).unwrap().len() < 3 * left.len() as u64);
    }
}
