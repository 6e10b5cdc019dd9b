//! Owns what a picture says about itself: the EXIF block (EXIF 2.32, the numbers below are its sections) and its place in a JPEG.
//! Never encodes pixels, writes no file. Any thread.

use std::io::Cursor;

use exif::experimental::Writer;
use exif::{Field, In, Rational, Tag as Key, Value};

use super::super::keys::Place;
use super::super::name;
use super::super::picture::Picture;
use super::{Shot, Tag};
use crate::error::{Error, Kind, Result};
use crate::frame::Ae;
use crate::stack::{Mode, Stacked};

/// What stands in for the camera's model in a picture that no camera took.
const TEST_PATTERN: &str = "TEST PATTERN";

/// Which kind of file holds the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    /// Its samples are Y, Cb and Cr.
    Jpeg,
    /// Its samples are R, G and B.
    Png,
}

/// The block: a TIFF file without pixels.
pub fn block(shot: &Shot<'_>, inside: Inside) -> Result<Vec<u8>> {
    let fields = fields(shot, inside);
    let mut writer = Writer::new();
    for field in &fields {
        writer.push_field(field);
    }
    let mut tiff = Cursor::new(Vec::with_capacity(1024));
    let what = || format!("write the exif block of frame {}", shot.picture.meta.id);
    writer.write(&mut tiff, true).map_err(|e| Error::caused(Kind::Media, what(), e))?;
    Ok(tiff.into_inner())
}

/// The block as a JPEG has it: an APP1 segment, marker and length included.
pub fn segment(shot: &Shot<'_>) -> Result<Vec<u8>> {
    let tiff = block(shot, Inside::Jpeg)?;
    // The length counts itself and `Exif\0\0` (4.5.4). No text in it has more than some hundred bytes: no way to 64 KiB.
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

/// Fields on their way into a block, in any order.
struct Fields(Vec<Field>);

impl Fields {
    fn put(&mut self, tag: Key, value: Value) {
        self.0.push(Field { tag, ifd_num: In::PRIMARY, value });
    }

    /// The standard wants ASCII, its version 3 allows UTF-8, and that is what readers expect of other letters.
    fn text(&mut self, tag: Key, text: &str) {
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        if !text.is_empty() {
            self.put(tag, Value::Ascii(vec![text.into_bytes()]));
        }
    }

    fn short(&mut self, tag: Key, values: &[u16]) {
        self.put(tag, Value::Short(values.to_vec()));
    }
}

fn fields(shot: &Shot<'_>, inside: Inside) -> Vec<Field> {
    let (picture, meta) = (shot.picture, &shot.picture.meta);
    let mut out = Fields(Vec::with_capacity(40));
    form(&mut out, picture, inside);
    out.text(Key::Software, concat!("pastcam ", env!("CARGO_PKG_VERSION")));
    // A drawing shows no place and comes from no camera: libraries would put it on the map and among that camera's pictures.
    if meta.drawn {
        out.text(Key::Model, TEST_PATTERN);
    } else {
        // The model is what photo libraries show and search by; the maker is not known.
        let name = Some(shot.label.name.as_str()).filter(|name| !name.is_empty());
        out.text(Key::Model, name.or(picture.model.as_deref()).unwrap_or_default());
        position(&mut out, shot.label.place);
    }
    time(&mut out, picture);
    if let Some(light) = meta.exposure {
        // A cast from floating point saturates: 4294 s are more than any sensor exposes.
        let time = Rational { num: light.time_us.round() as u32, denom: 1_000_000 };
        out.put(Key::ExposureTime, Value::Rational(vec![time]));
        out.short(Key::PhotographicSensitivity, &[light.iso().min(65_535) as u16]);
        // Off means by hand, by the night rule, or a camera that tells nothing of it: then both are left out.
        if meta.ae != Ae::Off {
            out.short(Key::ExposureProgram, &[2]);
            out.short(Key::ExposureMode, &[0]);
        }
    }
    if let Some(stack) = picture.stacked {
        // Several frames made one picture while it was taken; how many there were, how many went in (4.6.6).
        let frames = u16::try_from(stack.frames).unwrap_or(u16::MAX);
        out.short(Key::CompositeImage, &[3]);
        out.short(Key::SourceImageNumberOfCompositeImage, &[frames, frames]);
    }
    let scene = scene(picture);
    if !scene.is_empty() {
        // EXIF has no field for these; a comment names its letters first (4.6.6).
        out.put(Key::UserComment, Value::Undefined([b"ASCII\0\0\0", scene.as_bytes()].concat(), 0));
    }
    out.text(Key::ImageDescription, &describe(picture, shot.tag));
    out.0
}

/// Version, size, colour and what else readers need to show the samples as they are.
fn form(out: &mut Fields, picture: &Picture, inside: Inside) {
    let layout = picture.meta.layout;
    out.put(Key::ExifVersion, Value::Undefined(b"0232".to_vec(), 0));
    out.put(Key::FlashpixVersion, Value::Undefined(b"0100".to_vec(), 0));
    out.put(Key::PixelXDimension, Value::Long(vec![layout.width]));
    out.put(Key::PixelYDimension, Value::Long(vec![layout.height]));
    // sRGB; frames are set upright on their way into the ring.
    out.short(Key::ColorSpace, &[1]);
    out.short(Key::Orientation, &[1]);
    // Nobody knows how large it will be seen; the standard wants 72 pixels an inch then.
    for key in [Key::XResolution, Key::YResolution] {
        out.put(key, Value::Rational(vec![Rational { num: 72, denom: 1 }]));
    }
    out.short(Key::ResolutionUnit, &[2]);
    if inside == Inside::Jpeg {
        // Y, Cb, Cr. JFIF has chroma in the middle of its pixels, and so does every decoder.
        out.put(Key::ComponentsConfiguration, Value::Undefined(vec![1, 2, 3, 0], 0));
        out.short(Key::YCbCrPositioning, &[1]);
    }
}

/// When it was taken: one instant for the moment, for its numbers and for the file. Nothing while the clock is not set.
fn time(out: &mut Fields, picture: &Picture) {
    let wall = picture.meta.wall;
    let Some(local) = name::local(wall) else { return };
    let spell = |format| local.format(format).map_or(String::new(), |s| s.to_string());
    let (date, fraction, offset) =
        (spell("%Y:%m:%d %H:%M:%S"), format!("{:03}", wall.0.rem_euclid(1_000_000) / 1000), spell("%:z"));
    for (key, text) in [
        (Key::DateTime, &date),
        (Key::DateTimeOriginal, &date),
        (Key::DateTimeDigitized, &date),
        (Key::SubSecTime, &fraction),
        (Key::SubSecTimeOriginal, &fraction),
        (Key::SubSecTimeDigitized, &fraction),
        (Key::OffsetTime, &offset),
        (Key::OffsetTimeOriginal, &offset),
        (Key::OffsetTimeDigitized, &offset),
    ] {
        out.text(key, text);
    }
}

/// Where it was taken (4.6.7), as somebody wrote it down. Time and altitude of a receiver there are none.
fn position(out: &mut Fields, place: Place) {
    let Some([latitude, longitude]) = place.0 else { return };
    out.put(Key::GPSVersionID, Value::Byte(vec![2, 3, 0, 0]));
    out.text(Key::GPSLatitudeRef, if latitude < 0 { "S" } else { "N" });
    out.put(Key::GPSLatitude, angle(latitude));
    out.text(Key::GPSLongitudeRef, if longitude < 0 { "W" } else { "E" });
    out.put(Key::GPSLongitude, angle(longitude));
    out.text(Key::GPSMapDatum, "WGS-84");
    out.put(Key::GPSProcessingMethod, Value::Undefined(b"ASCII\0\0\0MANUAL".to_vec(), 0));
}

/// Degrees, minutes and seconds of so many 10⁻⁷ degrees, exactly.
fn angle(place: i32) -> Value {
    let one = Place::DEGREE.unsigned_abs();
    let (degrees, rest) = (place.unsigned_abs() / one, place.unsigned_abs() % one);
    let (minutes, rest) = (rest * 60 / one, rest * 60 % one);
    // 60 × 10⁷ and less: it fits.
    let parts = [(degrees, 1), (minutes, 1), (rest * 60, one)];
    Value::Rational(parts.map(|(num, denom)| Rational { num, denom }).to_vec())
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
mod tests;
