//! Owns cameras of this machine: which one is meant, how it hangs, in which format it is asked for pictures, what its
//! metadata says and what exposures it is asked for. All of that is plain data here and in the modules below; only
//! `library` and `map`, which are built with the feature `libcamera`, touch a camera. Runs on the capture thread.
#![cfg_attr(not(feature = "libcamera"), allow(dead_code, reason = "what a camera needs is tested on every machine"))]

#[cfg(feature = "libcamera")]
mod catalogue;
#[cfg(feature = "libcamera")]
mod configure;
mod exposure;
mod facts;
mod format;
#[cfg(feature = "media")]
mod jpeg;
#[cfg(feature = "libcamera")]
mod library;
#[cfg(feature = "libcamera")]
mod map;
mod pace;
mod pick;

use super::{Camera, Source};
use crate::error::Result;
use crate::frame::Layout;

/// How the camera hangs, and the second picture wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mount {
    /// `camera.hflip`
    pub hflip: bool,
    /// `camera.vflip`
    pub vflip: bool,
    /// `camera.rotation` is 180.
    pub upside_down: bool,
    /// Size of a second, smaller picture, where the hardware makes one.
    pub low: Option<Layout>,
}

impl Mount {
    /// Left-right and top-bottom mirroring that all of it comes to.
    fn mirrors(self) -> (bool, bool) {
        (self.hflip != self.upside_down, self.vflip != self.upside_down)
    }
}

/// Opens the camera that `selector` (an index, an id, a model; empty: the first) means. It does not run yet.
///
/// One camera at a time: a second one is an error until the first is dropped.
#[cfg(feature = "libcamera")]
pub fn open(selector: &str, camera: &Camera) -> Result<Box<dyn Source>> {
    Ok(Box::new(library::Library::open(selector, camera)?))
}

/// The id of the first camera of this machine.
#[cfg(feature = "libcamera")]
pub fn first() -> Result<String> {
    library::first()
}

/// Says that this program was built without libcamera.
#[cfg(not(feature = "libcamera"))]
pub fn open(_: &str, _: &Camera) -> Result<Box<dyn Source>> {
    Err(without())
}

/// Says that this program was built without libcamera.
#[cfg(not(feature = "libcamera"))]
pub fn first() -> Result<String> {
    Err(without())
}

#[cfg(not(feature = "libcamera"))]
fn without() -> crate::error::Error {
    let what = "open a camera: this program was built without libcamera; build it with --features libcamera";
    crate::error::Error::new(crate::error::Kind::Source, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upside_down_is_both_mirrors() {
        let m = |hflip, vflip, upside_down| Mount { hflip, vflip, upside_down, low: None }.mirrors();
        assert_eq!(m(false, false, true), (true, true));
        assert_eq!(m(true, false, true), (false, true));
        assert_eq!(m(true, true, true), (false, false));
        assert_eq!(m(false, true, false), (false, true));
    }
}
