//! Blocks are read back field by field.

use super::super::super::tests::picture;
use super::super::Label;
use super::*;
use crate::clock::{BootUs, WallUs};
use crate::frame::{Exposure, Layout};

fn labelled(picture: &Picture, tag: Option<&Tag>, label: &Label) -> exif::Exif {
    read(&segment(&Shot { picture, quality: 95, tag, label }).unwrap())
}

fn told(picture: &Picture, tag: Option<&str>) -> exif::Exif {
    labelled(picture, tag.map(|tag| Tag::new(tag).unwrap()).as_ref(), &Label::default())
}

fn read(segment: &[u8]) -> exif::Exif {
    assert_eq!(usize::from(u16::from_be_bytes([segment[2], segment[3]])) + 2, segment.len());
    exif::Reader::new().read_raw(segment[10..].to_vec()).unwrap()
}

fn shown(exif: &exif::Exif, key: Key) -> Option<String> {
    exif.get_field(key, In::PRIMARY).map(|f| f.display_value().to_string())
}

#[test]
fn a_drawn_picture_says_so() {
    let mut p = picture(Layout::new(6, 4));
    assert!(shown(&told(&p, None), Key::Model).is_none());
    p.model = Some("imx708".into());
    p.meta.drawn = true;
    let exif = told(&p, Some("gate"));
    assert_eq!(shown(&exif, Key::Model).unwrap(), "\"TEST PATTERN\"");
    assert_eq!(shown(&exif, Key::ImageDescription).unwrap(), "\"TEST PATTERN; gate\"");
    // Nor does it pass for one by a name or a place.
    let label = Label { name: "Gate".into(), place: Place(Some([473_769_000, 85_417_000])) };
    let exif = labelled(&p, None, &label);
    assert_eq!(shown(&exif, Key::Model).unwrap(), "\"TEST PATTERN\"");
    assert!(exif.fields().all(|f| f.tag.context() != exif::Context::Gps));
}

#[test]
fn light_and_description_are_told() {
    let mut p = picture(Layout::new(6, 4));
    p.stacked = Some(Stacked { mode: Mode::Mean, frames: 4, share: 1.0 });
    p.meta.exposure = Some(Exposure { time_us: 8333.0, analogue_gain: 2.0, digital_gain: 1.5 });
    let exif = told(&p, Some("gate"));
    assert_eq!(shown(&exif, Key::ImageDescription).unwrap(), "\"gate; average of 4 frames\"");
    for (mode, words) in [(Mode::Steady, "steady stack of 4 frames, 87 % averaged"), (Mode::Still, "median of 4 frames")] {
        p.stacked = Some(Stacked { mode, frames: 4, share: 0.872 });
        let description = shown(&told(&p, None), Key::ImageDescription);
        assert_eq!(description.unwrap(), format!("\"{words}\""));
    }
    assert_eq!(shown(&exif, Key::PhotographicSensitivity).unwrap(), "300");
    match &exif.get_field(Key::ExposureTime, In::PRIMARY).unwrap().value {
        Value::Rational(r) => assert_eq!((r[0].num, r[0].denom), (8333, 1_000_000)),
        other => panic!("{other:?}"),
    }
    assert!(shown(&exif, Key::Software).unwrap().contains("pastcam "));
    assert!(shown(&exif, Key::FNumber).is_none() && shown(&exif, Key::UserComment).is_none());
}

#[test]
fn the_scene_stands_in_the_comment() {
    let mut p = picture(Layout::new(6, 4));
    (p.meta.lux, p.meta.colour_temperature, p.meta.focus) = (Some(3.5), Some(5600), None);
    let exif = told(&p, None);
    match &exif.get_field(Key::UserComment, In::PRIMARY).unwrap().value {
        Value::Undefined(bytes, _) => assert_eq!(bytes, b"ASCII\0\0\0lux=3.500 colour_temperature=5600"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_clock_there_is_no_date() {
    let mut p = picture(Layout::new(6, 4));
    (p.meta.wall, p.meta.boot) = (WallUs(5_000_000), BootUs(42_900_000));
    let exif = told(&p, None);
    assert!(shown(&exif, Key::DateTimeOriginal).is_none() && shown(&exif, Key::OffsetTimeOriginal).is_none());
    assert_eq!(shown(&exif, Key::ImageDescription).unwrap(), "\"clock not set, 42 s after boot\"");
}

#[test]
fn the_segment_goes_behind_jfif() {
    assert_eq!(place(&[0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xdb]), 8);
    assert_eq!(place(&[0xff, 0xd8, 0xff, 0xdb]), 2);
    assert_eq!(place(&[0xff, 0xd8, 0xff, 0xe0, 0xff, 0xff]), 6);
}

/// All there is and nothing else, in words, so that a field that goes missing or comes without a reason is seen.
#[test]
fn every_field_is_as_the_standard_has_it() {
    let mut p = picture(Layout::new(640, 480));
    p.model = Some("imx708".into());
    p.stacked = Some(Stacked { mode: Mode::Steady, frames: 8, share: 0.874 });
    p.meta.exposure = Some(Exposure { time_us: 10_000.0, analogue_gain: 2.0, digital_gain: 1.0 });
    (p.meta.ae, p.meta.lux) = (Ae::Converged, Some(3.5));
    let label = Label { name: "T\u{fc}r\t1".into(), place: Place(Some([-338_568_123, 1_512_153_000])) };
    let tag = Tag::new("gate").unwrap();
    let shot = Shot { picture: &p, quality: 95, tag: Some(&tag), label: &label };
    let exif = exif::Reader::new().read_raw(block(&shot, Inside::Jpeg).unwrap()).unwrap();
    let local = name::local(p.meta.wall).unwrap();
    let (date, offset) = (local.format("%Y-%m-%d %H:%M:%S").unwrap(), format!("\"{}\"", local.format("%:z").unwrap()));
    let software = concat!("\"pastcam ", env!("CARGO_PKG_VERSION"), "\"");
    let mut want: Vec<(Key, &str)> = vec![
        (Key::ImageDescription, "\"gate; steady stack of 8 frames, 87 % averaged\""),
        (Key::Model, "\"T\\xc3\\xbcr1\""),
        (Key::Orientation, "row 0 at top and column 0 at left"),
        (Key::XResolution, "72 pixels per inch"),
        (Key::YResolution, "72 pixels per inch"),
        (Key::ResolutionUnit, "inch"),
        (Key::Software, software),
        (Key::YCbCrPositioning, "centered"),
        (Key::ExposureTime, "1/100 s"),
        (Key::ExposureProgram, "normal program"),
        (Key::PhotographicSensitivity, "200"),
        (Key::ExifVersion, "2.32"),
        (Key::ComponentsConfiguration, "YCbCr_"),
        (Key::FlashpixVersion, "1.0"),
        (Key::ColorSpace, "sRGB"),
        (Key::PixelXDimension, "640 pixels"),
        (Key::PixelYDimension, "480 pixels"),
        (Key::ExposureMode, "auto exposure"),
        (Key::CompositeImage, "composite (at the moment of shooting)"),
        (Key::SourceImageNumberOfCompositeImage, "total 8, used 8"),
        (Key::UserComment, "0x41534349490000006c75783d332e353030"),
        (Key::GPSVersionID, "2.3.0.0"),
        (Key::GPSLatitudeRef, "S"),
        (Key::GPSLatitude, "33 deg 51 min 24.52428 sec S"),
        (Key::GPSLongitudeRef, "E"),
        (Key::GPSLongitude, "151 deg 12 min 55.08 sec E"),
        (Key::GPSMapDatum, "\"WGS-84\""),
        (Key::GPSProcessingMethod, "\"ASCII\\x00\\x00\\x00MANUAL\""),
    ];
    let (date, offset) = (date.as_str(), offset.as_str());
    for key in [Key::DateTime, Key::DateTimeOriginal, Key::DateTimeDigitized] {
        want.push((key, date));
    }
    for key in [Key::SubSecTime, Key::SubSecTimeOriginal, Key::SubSecTimeDigitized] {
        want.push((key, "\"123\""));
    }
    for key in [Key::OffsetTime, Key::OffsetTimeOriginal, Key::OffsetTimeDigitized] {
        want.push((key, offset));
    }
    let mut got: Vec<(Key, String)> = exif.fields().map(|f| (f.tag, f.display_value().with_unit(&exif).to_string())).collect();
    let order = |key: &Key| (key.context() as u8, key.number());
    got.sort_by_key(|(key, _)| order(key));
    want.sort_by_key(|(key, _)| order(key));
    let got: Vec<(Key, &str)> = got.iter().map(|(key, text)| (*key, text.as_str())).collect();
    assert_eq!(got, want);
    // A PNG has no Y, Cb and Cr.
    let png = exif::Reader::new().read_raw(block(&shot, Inside::Png).unwrap()).unwrap();
    assert_eq!(png.fields().count(), got.len() - 2);
    assert!(shown(&png, Key::ComponentsConfiguration).is_none() && shown(&png, Key::YCbCrPositioning).is_none());
}

#[test]
fn a_camera_has_the_name_it_was_given_else_its_own() {
    let mut p = picture(Layout::new(6, 4));
    let named = Label { name: "Gate".into(), place: Place(None) };
    let model = |p: &Picture, label: &Label| shown(&labelled(p, None, label), Key::Model);
    assert_eq!((model(&p, &Label::default()), model(&p, &named).unwrap()), (None, "\"Gate\"".into()));
    p.model = Some("imx708".into());
    assert_eq!((model(&p, &Label::default()).unwrap(), model(&p, &named).unwrap()), ("\"imx708\"".into(), "\"Gate\"".into()));
}
