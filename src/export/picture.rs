//! Owns what is handed in to be saved: the picture and the tag. Never encodes or writes. Any thread.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::frame::{FrameMeta, Planes};

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
    /// How many frames were averaged; 1 = a single frame.
    pub stacked: u32,
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

/// A word a client puts into the file's name: 1 to 32 of `A-Z a-z 0-9 _ -`, so it can never leave the folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag(String);

impl Tag {
    /// Longest tag (characters).
    pub const MAX: usize = 32;

    /// Takes the word, or says what is wrong with it.
    pub fn new(word: &str) -> Result<Tag> {
        let refuse = |why: String| Err(Error::new(Kind::Usage, format!("take the tag {word:?}: {why}")));
        if let Some(c) = word.chars().find(|&c| !is_tag_char(c)) {
            return refuse(format!("it contains {c:?}; use letters a to z, digits, _ and -"));
        }
        match word.len() {
            0 => refuse("it is empty; leave it out instead".into()),
            n if n > Tag::MAX => refuse(format!("it has {n} characters; at most {} are taken", Tag::MAX)),
            _ => Ok(Tag(word.to_owned())),
        }
    }
    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = Error;
    fn from_str(word: &str) -> Result<Tag> {
        Tag::new(word)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a tag may contain `c`.
pub(super) fn is_tag_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stay_in_the_folder() {
        assert_eq!(Tag::new("gate_2-b").unwrap().as_str(), "gate_2-b");
        assert!(Tag::new(&"a".repeat(32)).is_ok());
        for (bad, word) in [("../x", "'.'"), ("a b", "' '"), ("", "empty"), ("ü", "'ü'"), ("a\0", "'\\0'")] {
            let e = Tag::new(bad).unwrap_err();
            assert!(e.kind == Kind::Usage && e.what.contains(word), "{e}");
        }
        assert!(Tag::new(&"a".repeat(33)).unwrap_err().what.contains("33 characters"));
    }

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
