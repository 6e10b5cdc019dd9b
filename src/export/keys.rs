//! Owns what the configuration says of pictures on disk. Plain data, any thread; the core, which has no `GStreamer`, knows this
//! much of the room.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;
use crate::format::{Each, Format};
use crate::settings::{AutoMib, Refusal, Word, any, at_least, bytes, from, settings, whole_path};
use crate::stack::Mode;

/// The folder of the pictures in the packages, whose length answers are made for.
pub const FOLDER: &str = "/var/lib/pastcam/captures";
/// Longest name of a file with the longest tag (bytes), for frame numbers and seconds of up to ten digits.
pub const NAME_MAX: usize = 85;

settings! {
    /// `export` in the configuration.
    pub struct Keys {
        /// Periodic pictures come from the ring (at the ring's size) instead of a fresh full one.
        auto_save_use_ring: bool = false, any();
        /// Whether `base_dir` may come to lie on another file system while the program runs.
        any_disk: bool = false, any();
        /// Folder of the pictures.
        base_dir: Folder = Folder("./captures".into()), any();
        /// Formats when a command names none: `jpg`, `png`, `npy`.
        formats: Vec<Format> = vec![Format::Jpg, Format::Png], any();
        /// How far `pastStack` reaches back (s).
        save_before_s: f64 = 5.0, from(0.0, 86_400.0);
        /// `pastStack` makes one picture of several frames; otherwise it writes every frame of the window.
        stack_dark_frames: bool = true, any();
        /// Frames of such a picture.
        stack_count: usize = 4, from(1.0, crate::stack::MAX as f64);
        /// How they become one picture.
        stack_mode: Mode = Mode::Steady, any();
        /// Time between periodic pictures (s); 0: none.
        auto_save_interval_s: Duration = Duration::from_secs(900), from(0.1, 31_536_000.0).or_zero();
        /// JPEG quality.
        jpeg_quality: u8 = 95, from(1.0, 100.0);
        /// What the camera is called, in EXIF; empty: what it calls itself.
        camera_name: String = String::new(), bytes(64);
        /// Where the camera stands, in EXIF.
        place: Place = Place::default(), any();
        /// Whether the text of `video.overlay` stands in jpg and png pictures too.
        overlay: bool = false, any();
        /// Whether hot pixels are learned in the dark and repaired in pictures.
        hot_pixels: bool = true, any();
        /// Disk space that stays free (MiB); the oldest pictures go for it.
        min_free_mib: AutoMib = AutoMib(None), any();
        /// Bounds per kind of file.
        keep: Each<Bound> = Each::default(), any();
    }
}

settings! {
    /// How much of one kind of file is kept; 0 means without bound.
    pub struct Bound {
        /// All files of the kind together (bytes).
        max_bytes: u64 = 0, at_least(0.0);
        /// Age of the oldest (s).
        max_age_s: Duration = Duration::ZERO, from(0.0, 1e10);
    }
}

impl Keys {
    /// What must be together.
    pub fn check(&self) -> Result<(), Error> {
        if self.formats.is_empty() {
            let rule = format!("at least one of {}", Format::words(&Format::ALL));
            return Err(Refusal::new(rule, "an empty list").of("export.formats"));
        }
        Ok(())
    }
}

/// A folder whose name may stand in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl std::ops::Deref for Folder {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Word for Folder {
    fn read(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() {
            return Err(Refusal::new("a folder", "empty"));
        }
        if text.chars().any(char::is_control) {
            return Err(Refusal::text("a folder without control characters, which would break the answer's line", text));
        }
        whole_path(text)?;
        Ok(Folder(text.into()))
    }
    fn word(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }
}

/// Latitude and longitude (10⁻⁷ degrees), north and east positive; none: the pictures do not tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place(pub Option<[i32; 2]>);

impl Place {
    /// One degree.
    pub const DEGREE: i32 = 10_000_000;
    /// How far each may go (degrees).
    const MOST: [f64; 2] = [90.0, 180.0];
}

impl Word for Place {
    fn read(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() {
            return Ok(Place(None));
        }
        let refused = || {
            let rule = "latitude and longitude in degrees, from -90 to 90 and from -180 to 180, such as \"47.3769, 8.5417\"";
            Refusal::text(rule, text)
        };
        let (latitude, longitude) = text.split_once(',').ok_or_else(refused)?;
        let mut place = [0; 2];
        for ((place, number), most) in place.iter_mut().zip([latitude, longitude]).zip(Place::MOST) {
            let degrees = number.trim().parse().ok().filter(|n: &f64| n.abs() <= most).ok_or_else(refused)?;
            *place = (degrees * f64::from(Place::DEGREE)).round() as i32;
        }
        Ok(Place(Some(place)))
    }
    fn word(&self) -> String {
        let degrees = |v: i32| f64::from(v) / f64::from(Place::DEGREE);
        self.0.map_or_else(String::new, |[latitude, longitude]| format!("{}, {}", degrees(latitude), degrees(longitude)))
    }
    fn range() -> String {
        "LATITUDE, LONGITUDE".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_two_numbers_in_degrees() {
        for (text, place) in [
            ("47.3769, 8.5417", [473_769_000, 85_417_000]),
            ("-90,180", [-900_000_000, 1_800_000_000]),
            ("-0.0000001 , -33.8568", [-1, -338_568_000]),
        ] {
            let read = Place::read(text).unwrap();
            assert_eq!(read, Place(Some(place)), "{text}");
            assert_eq!(Place::read(&read.word()), Ok(read), "{text}");
        }
        assert_eq!(Place::read("47.3769, 8.5417").unwrap().word(), "47.3769, 8.5417");
        assert_eq!(Place::read(""), Ok(Place(None)));
        for odd in ["47.3769", "91, 0", "0, -180.1", "nan, 0", "47,3769, 8,5417", "47.3769 N, 8.5417 E", " ", "1, 2, 3"] {
            let e = Place::read(odd).unwrap_err().to_string();
            assert!(e.starts_with("latitude and longitude in degrees, from -90") && e.ends_with(&format!("not {odd:?}")), "{e}");
        }
    }
}
