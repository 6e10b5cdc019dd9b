//! Owns what our files are called and which files are ours. Never touches the disk. Any thread.

use gstreamer::glib::DateTime;

use crate::clock::{BootUs, WallUs};
use crate::format::Format;
use crate::frame::FrameMeta;
use crate::verbs::Tag;

/// The link to the JPEG written last.
pub const LATEST: &str = "latest.jpg";

/// What is certain of the time while the clock is doubted (s since 1970), for the next start.
pub const CERTAIN: &str = ".pastcam-time";

/// Local time of an instant to the second, or `None` while the clock is not set.
pub fn local(wall: WallUs) -> Option<DateTime> {
    if wall.is_set() { DateTime::from_unix_local(wall.0.div_euclid(1_000_000)).ok() } else { None }
}

/// The name of a picture without suffix and extension: `YYYYmmdd_HHMMSS_f<id>[_<tag>]` in local time, or
/// `noclock_<seconds since boot>_f<id>[_<tag>]`. Seconds and ids have leading zeros, so that names sort by time.
pub fn stem(meta: &FrameMeta, tag: Option<&Tag>) -> String {
    stem_of(meta.wall, meta.boot, meta.id, tag)
}

/// The same for a frame of which no more is known.
pub fn stem_of(wall: WallUs, boot: BootUs, id: u64, tag: Option<&Tag>) -> String {
    let when = local(wall).and_then(|t| t.format("%Y%m%d_%H%M%S").ok());
    let when = when.map_or_else(|| format!("noclock_{:07}", boot.0 / 1_000_000), |s| s.to_string());
    match tag {
        None => format!("{when}_f{id:08}"),
        Some(tag) => format!("{when}_f{id:08}_{tag}"),
    }
}

/// Which kind of picture of ours carries this file name, of this version or of one without leading zeros; `None` for everything else,
/// which is never deleted.
pub fn ours(name: &str) -> Option<Format> {
    parts(name).map(|(format, _)| format)
}

/// Whether this is a picture of ours with this tag. The number of a name that was taken may stand behind it: `_002`.
pub fn has_tag(name: &str, tag: &Tag) -> bool {
    let picture = parts(name).filter(|(format, _)| Format::ALL.contains(format));
    let behind = picture.and_then(|(_, tail)| tail.strip_prefix('_')?.strip_prefix(tag.as_str()));
    behind.is_some_and(|number| number.is_empty() || number.strip_prefix('_').and_then(|n| digits(n, 3..=10)) == Some(""))
}

/// What kind of file of ours this is, and what stands behind the frame's number: `_<tag>`, `_<number>`, both or nothing.
fn parts(name: &str) -> Option<(Format, &str)> {
    let (stem, extension) = name.rsplit_once('.')?;
    let format = Format::of_file(extension)?;
    let rest = match stem.strip_prefix("noclock_") {
        Some(rest) => digits(rest, 1..=20)?,
        None => digits(digits(stem, 8..=8)?.strip_prefix('_')?, 6..=6)?,
    };
    let rest = digits(rest.strip_prefix("_f")?, 1..=20)?;
    // What is left is nothing, a tag, a number, or both: at most `_` + tag + `_` + a u32.
    let tail = rest.is_empty() || (rest.starts_with('_') && rest.len() > 1 && rest.len() <= 1 + Tag::MAX + 1 + 10);
    (tail && rest.chars().all(Tag::may_hold)).then_some((format, rest))
}

/// Whether this is an unfinished file of ours: a leading dot, one of our names, and a `.tmp` end.
pub fn temporary(name: &str) -> bool {
    // `.20260102_030405_f6.jpg.123-4.tmp`
    let parts = name.strip_prefix('.').and_then(|n| n.strip_suffix(".tmp")).and_then(|n| n.rsplit_once('.'));
    parts.is_some_and(|(inner, count)| {
        let counted = count.split_once('-').is_some_and(|(a, b)| digits(a, 1..=10) == Some("") && digits(b, 1..=20) == Some(""));
        counted && (inner == LATEST || inner == CERTAIN || ours(inner).is_some())
    })
}

/// The name an unfinished recording of this process has until it is whole: `.<name>.<pid>.part`.
pub fn part(name: &str) -> String {
    format!(".{name}.{}.part", std::process::id())
}

/// The name a recording left unfinished is to have, and the process that left it; `None` for everything else.
pub fn of_part(part: &str) -> Option<(&str, u32)> {
    let (name, pid) = part.strip_prefix('.')?.strip_suffix(".part")?.rsplit_once('.')?;
    (ours(name) == Some(Format::Mp4)).then_some((name, pid.parse().ok()?))
}

/// Takes leading digits, as many as `count` allows, and returns what follows.
fn digits(s: &str, count: std::ops::RangeInclusive<usize>) -> Option<&str> {
    let n = s.bytes().take_while(u8::is_ascii_digit).count();
    count.contains(&n).then(|| &s[n..])
}

#[cfg(test)]
mod tests {
    use super::super::tests::picture;
    use super::*;
    use crate::disk::numbered;
    use crate::frame::Layout;

    #[test]
    fn names_are_ours_and_say_when() {
        let mut meta = picture(Layout::new(6, 4)).meta;
        let (tag, day) = (Tag::new("gate_2-b").unwrap(), local(meta.wall).unwrap().format("%Y%m%d_%H%M%S").unwrap());
        assert_eq!(stem(&meta, None), format!("{day}_f000000{}", meta.id));
        assert_eq!(stem(&meta, Some(&tag)), format!("{day}_f000000{}_gate_2-b", meta.id));
        (meta.wall, meta.boot) = (WallUs(0), BootUs(65_900_000));
        assert_eq!(numbered(&stem(&meta, None), 3), format!("noclock_0000065_f000000{}_003", meta.id));
        for n in [1, 2, u32::MAX] {
            for t in [None, Some(&Tag::new(&"x".repeat(32)).unwrap())] {
                assert_eq!(ours(&format!("{}.png", numbered(&stem(&meta, t), n))), Some(Format::Png));
            }
        }
    }

    #[test]
    fn names_of_one_second_sort_by_time() {
        let mut meta = picture(Layout::new(6, 4)).meta;
        for unset in [false, true] {
            let mut names = Vec::new();
            for (id, seconds) in [(9, 9), (10, 9), (31, 9), (99_999, 9), (100_000, 9), (100_001, 10)] {
                meta.id = id;
                if unset {
                    (meta.wall, meta.boot) = (WallUs(0), BootUs(seconds * 1_000_000));
                }
                names.extend([1, 2, 9, 10, 100].map(|n| format!("{}.jpg", numbered(&stem(&meta, None), n))));
            }
            assert!(names.is_sorted() && names.iter().all(|n| ours(n).is_some()), "{names:?}");
        }
    }

    #[test]
    fn the_longest_name_is_as_long_as_answers_expect() {
        let tag = Tag::new(&"x".repeat(Tag::MAX)).unwrap();
        for wall in [WallUs(0), picture(Layout::new(6, 4)).meta.wall] {
            let stem = stem_of(wall, BootUs(9_999_999_999_000_000), 9_999_999_999, Some(&tag));
            let name = format!("{}.jpg", numbered(&stem, u32::MAX));
            assert!(ours(&name).is_some() && name.len() <= super::super::keys::NAME_MAX, "{name}");
        }
    }

    #[test]
    fn a_tag_is_found_in_names_as_a_whole() {
        let night = Tag::new("night").unwrap();
        for yes in
            ["20261120_083408_f00000098_night.jpg", "20261120_083408_f98_night_002.png", "noclock_7_f1_night_0123456789.npy"]
        {
            assert!(has_tag(yes, &night), "{yes}");
        }
        for no in [
            "20261120_083408_f98.jpg",
            "20261120_083408_f98_nights.jpg",
            "20261120_083408_f98_my_night.jpg",
            "20261120_083408_f98_night_2.jpg",
            "20261120_083408_f98_night_gate.jpg",
            "20261120_083408_f98_night.mp4",
            "holiday_f98_night.jpg",
        ] {
            assert!(!has_tag(no, &night), "{no}");
        }
    }

    #[test]
    fn foreign_names_stay_foreign() {
        let yes = ["20261120_083408_f98.jpg", "20261120_083408_f0_2.npy", "noclock_7_f1_a.png"];
        assert!(yes.iter().all(|n| ours(n).is_some()));
        for no in [
            "latest.jpg",
            "holiday.jpg",
            "20261120_083408_f98.jpeg",
            "20261120_083408_f98.JPG",
            "20261120_083408_f.jpg",
            "20261120_083408.jpg",
            "2026112_083408_f98.jpg",
            "20261120_083408_f98_.jpg",
            "20261120_083408_f98 copy.jpg",
            "20261120_083408_f98.tar.jpg",
            "x20261120_083408_f98.jpg",
            "noclock__f1.jpg",
            "",
        ] {
            assert!(ours(no).is_none(), "{no}");
        }
    }

    #[test]
    fn only_our_own_unfinished_files_are_swept() {
        assert!(temporary(".20261120_083408_f98.jpg.17-3.tmp") && temporary(".latest.jpg.17-3.tmp"));
        assert_eq!(of_part(&part("20261120_083408_f98_x.mp4")), Some(("20261120_083408_f98_x.mp4", std::process::id())));
        for no in [
            ".20261120_083408_f98.jpg.7.part",
            "20261120_083408_f98.mp4.7.part",
            ".a.mp4.7.part",
            ".20261120_083408_f98.mp4.part",
        ] {
            assert!(of_part(no).is_none(), "{no}");
        }
        for no in ["20261120_083408_f98.jpg.17-3.tmp", ".notes.tmp", ".20261120_083408_f98.jpg.tmp", ".x.jpg.17-3.tmp"] {
            assert!(!temporary(no), "{no}");
        }
    }
}
