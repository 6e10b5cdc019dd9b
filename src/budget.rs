//! Owns what the program needs beside the ring, as measured (docs/design.md has the figures): memory for its source, its pictures in
//! work and its encoder, by their sizes; and the limit that follows from it. Never reads the machine. Pure; any thread.

use std::fmt::Write as _;

use crate::config::Config;
use crate::frame::Layout;
use crate::source::Spec;

/// One MiB (bytes).
const MIB: u64 = 1 << 20;
/// The program with its libraries, before a pixel is counted (bytes). Measured: 19 MiB.
const PROGRAM: u64 = 24 * MIB;
/// What an encoder of H.264 takes whatever the size, its stream on the way to files and viewers included (bytes). Measured: 13 MiB.
const ENCODER: u64 = 16 * MIB;
/// And for each pixel (bytes). Measured with x264: 19 to 24.
const ENCODER_PER_PIXEL: u64 = 24;
/// What an encoder alone was measured to take, and a little more (bytes, and bytes a pixel).
const ENCODER_ALONE: u64 = 8 * MIB;
const ENCODER_ALONE_PER_PIXEL: u64 = 10;
/// A picture in work: the stack of several frames, the text in it, its encoder (bytes a pixel). Measured: 2 to 5.
const PICTURE_PER_PIXEL: u64 = 6;
/// Threads that make pictures, at most.
const PICTURES: u64 = 2;
/// The limit is so many halves of what is needed: an encoder that is made anew stands beside the old one for a moment.
const HALVES: u64 = 3;
/// No limit is below this (bytes): small pictures leave room for many viewers.
const LEAST: u64 = 160 * MIB;

/// Memory beside the ring (bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The source of frames and what it decodes.
    pub source: u64,
    /// Pictures in work.
    pub pictures: u64,
    /// The encoder of the stream, where one is needed.
    pub encoder: u64,
    /// What must be free for one more encoder: `encoder` is generous, for a limit; this is a reason to refuse.
    pub one_more: u64,
    /// `limits.max_rss_mib`, where it is set.
    explicit: Option<u64>,
}

impl Budget {
    /// What this configuration needs; `sent` is the size of the pictures that the source really sends (pixels), 0 while that is unknown.
    pub fn of(config: &Config, sent: u64) -> Budget {
        let camera = Layout::new(config.camera.width, config.camera.height);
        let v = &config.video;
        let stream = if v.width == 0 { camera } else { Layout::new(v.width, v.height) };
        let (once, per_pixel) = match config.camera.spec() {
            // Scene, three buffers, and what it takes to make the scene: 6 to 7.
            Spec::Pattern(_) => (0, 7),
            // Buffers of the camera, and one picture made of them. Not measured.
            Spec::Auto | Spec::Camera(_) => (0, 10),
            // Queues; pictures that a decoder of H.264 or H.265 holds back and works on. Measured: 27 MiB and 27.
            Spec::File(_) | Spec::Url(..) => (32 * MIB, 30),
        };
        let text = if config.letters().is_some() { 2 } else { 0 };
        Budget {
            source: once + per_pixel * camera.pixels().max(sent),
            pictures: PICTURES * (PICTURE_PER_PIXEL + text) * camera.pixels(),
            encoder: ENCODER + ENCODER_PER_PIXEL * stream.pixels(),
            one_more: ENCODER_ALONE + ENCODER_ALONE_PER_PIXEL * stream.pixels(),
            explicit: Some(config.limits.max_rss_mib * MIB).filter(|limit| *limit > 0),
        }
    }

    /// All of it while everything is in use.
    pub fn need(&self) -> u64 {
        self.least() + self.encoder
    }

    /// What it takes to deliver frames and to save one picture.
    fn least(&self) -> u64 {
        PROGRAM + self.source + self.pictures
    }

    /// Memory beyond the ring above which the program ends with code 42.
    pub fn limit(&self) -> u64 {
        self.explicit.unwrap_or_else(|| (self.need() * HALVES / 2).max(LEAST))
    }

    /// What is wrong with a limit that was set, and whether nothing can come of it.
    pub fn complaint(&self) -> Option<(String, bool)> {
        let limit = self.explicit?;
        let beyond_hope = limit < self.least();
        let (need, what) = if beyond_hope {
            (self.least(), "frames and pictures of this size need")
        } else if limit < self.need() {
            (self.need(), "with a recording, frames and pictures of this size need")
        } else {
            return None;
        };
        let (limit, need) = (limit / MIB, need.div_ceil(MIB));
        Some((
            format!("limits.max_rss_mib is {limit}, but {what} up to {need} MiB; set it higher, or to 0 for the program's own"),
            beyond_hope,
        ))
    }

    /// What is wrong where the ring leaves so much memory (bytes): the kernel would end the program before its own limit does.
    pub fn shortage(&self, left: u64) -> Option<String> {
        let (left, need) = (left / MIB, self.need().div_ceil(MIB));
        (left < need).then(|| {
            format!(
                "The ring leaves {left} MiB of memory, but what else is in use takes up to {need} MiB; lower ring.size, \
                 ring.memory_percent, or camera.width and camera.height"
            )
        })
    }

    /// For a person, beneath the ring's calculation.
    pub fn words(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        let mut s = format!(
            "  Needed beside it     : {:.1} MiB (program {:.1}, source {:.1}, pictures {:.1}, encoder {:.1})\n",
            mib(self.need()),
            mib(PROGRAM),
            mib(self.source),
            mib(self.pictures),
            mib(self.encoder)
        );
        let _ = write!(s, "  Limit beside it      : {:.1} MiB", mib(self.limit()));
        s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Budget {
        Budget::of(&Config::parse(text.as_bytes()).unwrap(), 0)
    }

    #[test]
    fn the_limit_follows_the_sizes_unless_it_is_set() {
        let small = of(r#"{"camera": {"width": 320, "height": 240, "source": "pattern"}}"#);
        assert_eq!(small.limit(), LEAST);
        let large = of(r#"{"camera": {"width": 4056, "height": 3040, "source": "pattern"}}"#);
        assert!((500 * MIB..600 * MIB).contains(&large.need()) && large.limit() == large.need() * 3 / 2, "{large:?}");
        let stream = of(r#"{"camera": {"width": 4056, "height": 3040}, "video": {"width": 640, "height": 480}}"#);
        assert!(stream.encoder < 40 * MIB, "{stream:?}");
        let set = of(r#"{"camera": {"width": 320, "height": 240}, "limits": {"max_rss_mib": 90}}"#);
        assert_eq!((set.limit(), set.complaint()), (90 * MIB, None));
    }

    #[test]
    fn one_more_encoder_is_reckoned_a_little_above_what_was_measured() {
        for (width, height, measured) in [(640, 480, 9), (1920, 1080, 27), (2592, 1944, 48), (4056, 3040, 119), (8160, 6144, 393)]
        {
            let budget = of(&format!(r#"{{"camera": {{"width": {width}, "height": {height}, "source": "pattern"}}}}"#));
            let (one, measured) = (budget.one_more, measured * MIB);
            assert!(measured < one && one < measured * 4 / 3 + 4 * MIB && one < budget.encoder, "{width}x{height}: {one}");
        }
    }

    #[test]
    fn a_source_that_sends_more_than_was_asked_for_counts_as_it_is() {
        let config = Config::parse(br#"{"camera": {"width": 1024, "height": 768, "source": "rtsp://cam/1"}}"#).unwrap();
        let (told, seen) = (Budget::of(&config, 0), Budget::of(&config, 3840 * 2160));
        assert!(seen.source > 4 * told.source && seen.limit() > told.limit(), "{seen:?}");
    }

    #[test]
    fn a_limit_below_the_need_is_told_with_both_numbers() {
        let film = of(r#"{"camera": {"width": 1920, "height": 1080}, "limits": {"max_rss_mib": 100}}"#);
        let (why, hopeless) = film.complaint().unwrap();
        assert!(
            !hopeless && why.starts_with("limits.max_rss_mib is 100, but with a recording, ") && why.contains(" MiB"),
            "{why}"
        );
        let (why, hopeless) =
            of(r#"{"camera": {"width": 1920, "height": 1080}, "limits": {"max_rss_mib": 16}}"#).complaint().unwrap();
        assert!(
            hopeless && why.starts_with("limits.max_rss_mib is 16, but frames and pictures of this size need up to "),
            "{why}"
        );
    }

    #[test]
    fn a_ring_that_leaves_too_little_is_told() {
        let budget = of("{}");
        assert_eq!(budget.shortage(budget.need() + MIB), None);
        let said = budget.shortage(50 * MIB).unwrap();
        assert!(
            said.starts_with("The ring leaves 50 MiB of memory, but what else is in use takes up to 75 MiB; lower "),
            "{said}"
        );
    }
}
