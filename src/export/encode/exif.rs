//! Owns what a JPEG says about itself: the EXIF block and its place in the file. Never encodes pixels, writes no file.
//! Any thread.

use std::io::Cursor;

use exif::experimental::Writer;
use exif::{Field, In, Rational, Tag as Key, Value};

use super::super::name;
use super::super::picture::Picture;
use super::Tag;
use crate::error::{Error, Kind, Result};
use crate::stack::{Mode, Stacked};

/// What stands in for the camera's model in a picture that no camera took.
const TEST_PATTERN: &str = "TEST PATTERN";

/// The APP1 segment for `picture`, marker and length included.
pub fn segment(picture: &Picture, tag: Option<&Tag>) -> Result<Vec<u8>> {
    let fields = fields(picture, tag);
    let mut writer = Writer::new();
    for field in &fields {
        writer.push_field(field);
    }
    let mut tiff = Cursor::new(Vec::with_capacity(512));
    let what = || format!("write the exif block of frame {}", picture.meta.id);
    writer.write(&mut tiff, true).map_err(|e| Error::caused(Kind::Media, what(), e))?;
    let tiff = tiff.into_inner();
    // The length counts itself and `Exif\0\0` (EXIF 2.32, 4.5.4). A tag is at most 32 characters: no way to 64 KiB.
    let length = u16::try_from(tiff.len() + 8).expect("a handful of short fields fits a segment");
    let mut out = vec![0xff, 0xe1];
    out.extend(length.to_be_bytes());
    out.extend(b"Exif\0\0");
    out.extend(tiff);
    Ok(out)
}

/// Where in `jpeg` the segment goes: behind the start marker and a JFIF segment if there is one.
pub fn place(jpeg: &[u8]) -> usize {
    match jpeg {
        [0xff, 0xd8, 0xff, 0xe0, hi, lo, ..] => (4 + usize::from(u16::from_be_bytes([*hi, *lo]))).min(jpeg.len()),
        _ => 2.min(jpeg.len()),
    }
}

fn fields(picture: &Picture, tag: Option<&Tag>) -> Vec<Field> {
    let meta = &picture.meta;
    let mut out = Vec::with_capacity(8);
    let mut put = |tag, value| out.push(Field { tag, ifd_num: In::PRIMARY, value });
    put(Key::ExifVersion, Value::Undefined(b"0232".to_vec(), 0));
    put(Key::Software, text(concat!("pastcam ", env!("CARGO_PKG_VERSION"))));
    if meta.drawn {
        put(Key::Model, text(TEST_PATTERN));
    }
    if let Some(local) = name::local(meta.wall) {
        let spell = |format| local.format(format).map_or(String::new(), |s| s.to_string());
        put(Key::DateTimeOriginal, text(&spell("%Y:%m:%d %H:%M:%S")));
        put(Key::SubSecTimeOriginal, text(&format!("{:03}", meta.wall.0.rem_euclid(1_000_000) / 1000)));
        put(Key::OffsetTimeOriginal, text(&spell("%:z")));
    }
    if let Some(light) = meta.exposure {
        // A cast from floating point saturates: 4294 s are more than any sensor exposes.
        let time = Rational { num: light.time_us.round() as u32, denom: 1_000_000 };
        put(Key::ExposureTime, Value::Rational(vec![time]));
        put(Key::PhotographicSensitivity, Value::Short(vec![light.iso().min(65_535) as u16]));
    }
    let scene = scene(picture);
    if !scene.is_empty() {
        // EXIF has no field for these; a comment names its letters first (EXIF 2.32, 4.6.6).
        put(Key::UserComment, Value::Undefined([b"ASCII\0\0\0", scene.as_bytes()].concat(), 0));
    }
    let description = describe(picture, tag);
    if !description.is_empty() {
        put(Key::ImageDescription, text(&description));
    }
    out
}

fn text(s: &str) -> Value {
    Value::Ascii(vec![s.as_bytes().to_vec()])
}

/// What the camera told of the scene beside the exposure: `lux=3.5 colour_temperature=5600 focus=120`, as far as it did.
fn scene(picture: &Picture) -> String {
    let m = &picture.meta;
    let parts = [
        m.lux.map(|v| format!("lux={v:.3}")),
        m.colour_temperature.map(|v| format!("colour_temperature={v}")),
        m.focus.map(|v| format!("focus={v}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// That it was drawn, tag, how it came of several frames, and where there is no date the reason; parts that do not apply are left out.
fn describe(picture: &Picture, tag: Option<&Tag>) -> String {
    let mut parts = Vec::new();
    parts.extend(picture.meta.drawn.then(|| TEST_PATTERN.to_string()));
    parts.extend(tag.map(ToString::to_string));
    parts.extend(picture.stacked.map(|s| stack(&s)));
    if !picture.meta.wall.is_set() {
        parts.push(format!("clock not set, {} s after boot", picture.meta.boot.0 / 1_000_000));
    }
    parts.join("; ")
}

/// How a picture came of several frames.
fn stack(s: &Stacked) -> String {
    match s.mode {
        Mode::Steady => format!("steady stack of {} frames, {:.0} % averaged", s.frames, s.share * 100.0),
        Mode::Mean => format!("average of {} frames", s.frames),
        Mode::Still => format!("median of {} frames", s.frames),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::picture;
    use super::*;
    use crate::clock::{BootUs, WallUs};
    use crate::frame::{Exposure, Layout};

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
        assert!(shown(&read(&segment(&p, None).unwrap()), Key::Model).is_none());
        p.meta.drawn = true;
        let exif = read(&segment(&p, Some(&Tag::new("gate").unwrap())).unwrap());
        assert_eq!(shown(&exif, Key::Model).unwrap(), "\"TEST PATTERN\"");
        assert_eq!(shown(&exif, Key::ImageDescription).unwrap(), "\"TEST PATTERN; gate\"");
    }

    #[test]
    fn light_and_description_are_told() {
        let mut p = picture(Layout::new(6, 4));
        p.stacked = Some(Stacked { mode: Mode::Mean, frames: 4, share: 1.0 });
        p.meta.exposure = Some(Exposure { time_us: 8333.0, analogue_gain: 2.0, digital_gain: 1.5 });
        let exif = read(&segment(&p, Some(&Tag::new("gate").unwrap())).unwrap());
        assert_eq!(shown(&exif, Key::ImageDescription).unwrap(), "\"gate; average of 4 frames\"");
        for (mode, words) in [(Mode::Steady, "steady stack of 4 frames, 87 % averaged"), (Mode::Still, "median of 4 frames")] {
            p.stacked = Some(Stacked { mode, frames: 4, share: 0.872 });
            let told = shown(&read(&segment(&p, None).unwrap()), Key::ImageDescription);
            assert_eq!(told.unwrap(), format!("\"{words}\""));
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
        let exif = read(&segment(&p, None).unwrap());
        match &exif.get_field(Key::UserComment, In::PRIMARY).unwrap().value {
            Value::Undefined(bytes, _) => assert_eq!(bytes, b"ASCII\0\0\0lux=3.500 colour_temperature=5600"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_a_clock_there_is_no_date() {
        let mut p = picture(Layout::new(6, 4));
        (p.meta.wall, p.meta.boot) = (WallUs(5_000_000), BootUs(42_900_000));
        let exif = read(&segment(&p, None).unwrap());
        assert!(shown(&exif, Key::DateTimeOriginal).is_none() && shown(&exif, Key::OffsetTimeOriginal).is_none());
        assert_eq!(shown(&exif, Key::ImageDescription).unwrap(), "\"clock not set, 42 s after boot\"");
    }

    #[test]
    fn the_segment_goes_behind_jfif() {
        assert_eq!(place(&[0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xdb]), 8);
        assert_eq!(place(&[0xff, 0xd8, 0xff, 0xdb]), 2);
        assert_eq!(place(&[0xff, 0xd8, 0xff, 0xe0, 0xff, 0xff]), 6);
    }
}
