//! Owns what one encoded picture is on its way from the encoder to those who take it. Pure; any thread.

use gstreamer as gst;

use crate::clock::WallUs;

/// One access unit, an encoded picture: H.264 as a byte stream, parameter sets in front of every key frame.
#[derive(Debug, Clone)]
pub struct AccessUnit {
    /// The bytes. Its time stamp is the frame's boot-time instant (ns).
    pub buffer: gst::Buffer,
    /// What they are; changes with the picture's size.
    pub caps: gst::Caps,
    /// Whether decoding may begin here.
    pub keyframe: bool,
    /// The frame's number.
    pub id: u64,
    /// The frame's instant on the wall clock.
    pub wall: WallUs,
    /// Units that follow it at once: it was kept for those who join, and is older than it comes. 0: it is new.
    pub behind: u32,
}

impl AccessUnit {
    /// The frame's boot-time instant; units have one by construction.
    pub fn time(&self) -> gst::ClockTime {
        self.buffer.pts().unwrap_or_default()
    }
}
