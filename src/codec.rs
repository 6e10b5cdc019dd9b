//! Owns what is to be known of a video codec, in one place: its caps, the `GStreamer` elements that parse, pay and decode it, how
//! an MP4 file holds it, what its bitstream says of a picture, and which encoders make it. Another codec is one more [`Codec`] in
//! [`Codec::ALL`], a file beside `h264` and its encoders. Plain data: makes no element and touches no frame. Any thread.

pub mod h264;

use crate::settings::{Refusal, Word, one_of};

/// How pictures are coded.
#[derive(Debug)]
pub struct Codec {
    /// For people.
    pub name: &'static str,
    /// `encoding-name` of RTP caps, and in SDP.
    pub encoding_name: &'static str,
    /// Caps of the access units that are handed round here: each whole, so that anybody may begin at a key frame.
    pub caps: &'static str,
    /// Caps of access units as MP4 holds them.
    pub mp4_caps: &'static str,
    /// The parser's element, and the properties by which it puts parameter sets in front of every key frame.
    pub parser: (&'static str, &'static str),
    /// The RTP payloader's element and properties.
    pub payloader: (&'static str, &'static str),
    /// The RTP depayloader's element.
    pub depayloader: &'static str,
    /// Decoders that are known to be right, best first.
    pub decoders: &'static [&'static str],
    /// The largest picture of its highest level in use (pixels).
    pub max_pixels: u64,
    /// Whether decoding may begin with an access unit that the parser takes for a key frame.
    pub is_random_access: fn(&[u8]) -> bool,
    /// Whether an access unit needs a picture that is shown after it.
    pub is_b_picture: fn(&[u8]) -> bool,
}

/// H.264 (AVC).
pub static H264: Codec = Codec {
    name: "H.264",
    encoding_name: "H264",
    caps: "video/x-h264,stream-format=byte-stream,alignment=au",
    mp4_caps: "video/x-h264,stream-format=avc,alignment=au",
    parser: ("h264parse", "config-interval=-1"),
    // Parameter sets are in the units; the payloader's own way of repeating them breaks pictures of several slices (1.22).
    payloader: ("rtph264pay", "config-interval=0 aggregate-mode=zero-latency"),
    depayloader: "rtph264depay",
    decoders: &["avdec_h264", "openh264dec", "v4l2h264dec"],
    // Level 5.2.
    max_pixels: 36_864 * 256,
    is_random_access: h264::is_random_access,
    is_b_picture: h264::is_b_picture,
};

impl Codec {
    /// All that can be passed on and recorded.
    pub const ALL: [&'static Codec; 1] = [&H264];

    /// The name of its caps.
    pub fn media_type(&self) -> &'static str {
        self.caps.split_once(',').map_or(self.caps, |(name, _)| name)
    }
}

/// Who encodes: one implementation of a codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implementation {
    /// The processor's own encoder behind V4L2 (a Raspberry Pi 1 to 4).
    Hardware,
    /// The x264 library.
    X264,
    /// The openh264 library.
    OpenH264,
}

/// `video.encoder`: `auto` is nobody by name.
impl Word for Option<Implementation> {
    fn read(text: &str) -> Result<Self, Refusal> {
        let known = Implementation::ALL.map(Implementation::word);
        let place = one_of(&[&["auto"], &known[..]].concat(), text)?;
        Ok(place.checked_sub(1).map(|place| Implementation::ALL[place]))
    }
    fn word(&self) -> String {
        self.map_or("auto", Implementation::word).into()
    }
    fn range() -> String {
        format!("auto, {}", Implementation::ALL.map(Implementation::word).join(", "))
    }
}

impl Implementation {
    /// In the order in which they are tried.
    pub const ALL: [Implementation; 3] = [Implementation::Hardware, Implementation::X264, Implementation::OpenH264];

    /// Word, element, codec, and the largest picture in macroblocks of 16×16 pixels: of level 4, which the hardware is told; of
    /// level 6.2, the highest of all (H.264, table A-1); of level 5.2, which openh264 ends at.
    const fn row(self) -> (&'static str, &'static str, &'static Codec, u32) {
        match self {
            Implementation::Hardware => ("hardware", "v4l2h264enc", &H264, 8192),
            Implementation::X264 => ("x264", "x264enc", &H264, 139_264),
            Implementation::OpenH264 => ("openh264", "openh264enc", &H264, 36_864),
        }
    }
    /// Pixels of the largest picture.
    pub fn max_pixels(self) -> u32 {
        self.row().3 * 256
    }
    /// Whether it takes pictures of this size.
    pub fn takes(self, width: u32, height: u32) -> bool {
        width.div_ceil(16) * height.div_ceil(16) <= self.row().3
    }
    /// The word in the configuration and in `status json`.
    pub fn word(self) -> &'static str {
        self.row().0
    }
    /// The implementation of this word.
    pub fn of(word: &str) -> Option<Implementation> {
        Implementation::ALL.into_iter().find(|i| i.word() == word)
    }
    /// The element that does it.
    pub fn element(self) -> &'static str {
        self.row().1
    }
    /// The codec it makes.
    pub fn codec(self) -> &'static Codec {
        self.row().2
    }
}
