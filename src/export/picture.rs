//! Owns what is handed in to be saved: the picture and the tag. Never encodes or writes. Any thread.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::frame::{FrameMeta, Planes};
use crate::stack::Stacked;

/// Shared pixels of one picture: I420 as the picture's [`crate::frame::Layout`] places it. Cloning shares, never copies.
#[derive(Clone)]
pub struct Pixels(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Pixels {
    /// Wraps anything that owns bytes: a ring slot, a `Vec<u8>`.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Pixels(Arc::new(owner))
    }
    /// Wraps an owner that is shared already.
    pub fn shared(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        Pixels(owner)
    }
    /// A `GStreamer` buffer over these very bytes; it holds the owner until the buffer dies.
    pub fn to_buffer(&self) -> gstreamer::Buffer {
        gstreamer::Buffer::from_slice(self.clone())
    }
}

impl AsRef<[u8]> for Pixels {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pixels({} bytes)", self.as_ref().len())
    }
}

/// One picture to save.
#[derive(Debug, Clone)]
pub struct Picture {
    /// What is known of it; of a stack, the frame that gives the name and the time.
    pub meta: FrameMeta,
    /// Its pixels, at least `meta.layout.bytes()` of them.
    pub pixels: Pixels,
    /// What the camera that took it calls itself, where it does.
    pub model: Option<Arc<str>>,
    /// How it came of several frames; `None`: it is one frame.
    pub stacked: Option<Stacked>,
}

impl Picture {
    /// The planes, or an error when size and bytes do not belong together.
    pub fn planes(&self) -> Result<Planes<'_>> {
        let (l, bytes) = (self.meta.layout, self.pixels.as_ref());
        let even = l.width % 2 == 0 && l.height % 2 == 0 && l.width > 0 && l.height > 0;
        if !even || bytes.len() < l.bytes() {
            let have = bytes.len();
            let why = format!("save frame {}: {}x{} does not fit its {have} bytes of i420", self.meta.id, l.width, l.height);
            return Err(Error::new(Kind::Media, why));
        }
        Ok(Planes::of(l, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_shares_the_pixels() {
        crate::gst::init().unwrap();
        let px = Pixels::new(vec![1u8, 2, 3]);
        let buffer = px.to_buffer();
        assert_eq!(buffer.map_readable().unwrap().as_ptr(), px.as_ref().as_ptr());
        assert_eq!(Arc::strong_count(&px.0), 2);
        drop(buffer);
        assert_eq!(Arc::strong_count(&px.0), 1);
    }
}
