//! What the tests of this room share: a plain picture. Only in test builds.

use std::fs;

use super::*;
use crate::clock::{BootUs, WallUs};
use crate::disk::tests::Scratch;
use crate::frame::{Ae, Colour, FrameMeta, Layout};

/// A grey-ramp picture of the year 2027, frame 98.
pub(super) fn picture(layout: Layout) -> Picture {
    let mut pixels = vec![128u8; layout.bytes()];
    for (i, p) in pixels[layout.y()].iter_mut().enumerate() {
        *p = (i % 251) as u8;
    }
    let meta = FrameMeta {
        id: 98,
        boot: BootUs(65_000_000),
        wall: WallUs(1_800_000_000_123_000),
        layout,
        colour: Colour::default(),
        exposure: None,
        ae: Ae::Off,
        lux: None,
        colour_temperature: None,
        focus: None,
        night: false,
        drawn: false,
    };
    Picture { meta, pixels: Pixels::new(pixels), model: None, stacked: None }
}

/// Pixels without flat areas.
pub(super) fn noise(l: Layout) -> Vec<u8> {
    (0..l.bytes() as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn a_name_taken_behind_our_back_moves_all_files_on() {
    let dir = Scratch::new("taken");
    let names = Names::default();
    let mut claim = names.first(&dir, "20270115_080000_f1".into(), Vec::new());
    let mut files: Vec<(Format, Unfinished, u64)> = [Format::Jpg, Format::Png]
        .map(|f| {
            let (file, n) = Unfinished::write::<io::Error>(&dir, "x", None, |to| to.write_all(f.word().as_bytes())).unwrap();
            (f, file, n)
        })
        .into();
    fs::write(dir.join("20270115_080000_f1.png"), "foreign").unwrap();
    let done = Exporter::place(&mut claim, &mut files).unwrap();
    assert_eq!(done[1], (Format::Png, "20270115_080000_f1_002.png".to_owned(), 3));
    drop((files, claim));
    assert_eq!(dir.names(), ["20270115_080000_f1.png", "20270115_080000_f1_002.jpg", "20270115_080000_f1_002.png"]);
    assert_eq!(fs::read(dir.join("20270115_080000_f1.png")).unwrap(), b"foreign");
}

#[test]
fn impossible_settings_are_refused() {
    let mut s = Settings::new("/tmp/never-made");
    s.quality = 0;
    let e = s.believed().unwrap_err();
    assert!(e.kind == Kind::Config && e.what.contains("quality 0"), "{e}");
}
