//! Owns what one encoded picture is on its way from the encoder to those who take it. Pure; any thread.

use gstreamer as gst;

use crate::clock::WallUs;
use crate::codec::Codec;
use crate::error::{Error, Kind, Result};

/// One access unit, an encoded picture: what its codec's `caps` say, parameter sets in front of every key frame.
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
    /// How it is coded.
    pub fn codec(&self) -> Result<&'static Codec> {
        let name = self.caps.structure(0).map_or("", |s| s.name().as_str());
        Codec::ALL
            .into_iter()
            .find(|c| c.media_type() == name)
            .ok_or_else(|| Error::new(Kind::Media, format!("read the stream: its codec {name:?} is not known here")))
    }

    /// Width and height (pixels), where the caps tell.
    pub fn size(&self) -> Option<(i32, i32)> {
        let caps = self.caps.structure(0)?;
        Some((caps.get("width").ok()?, caps.get("height").ok()?))
    }

    /// The frame's boot-time instant; units have one by construction.
    pub fn time(&self) -> gst::ClockTime {
        self.buffer.pts().unwrap_or_default()
    }
}
