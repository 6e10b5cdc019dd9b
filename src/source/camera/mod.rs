//! Owns cameras of this machine: which one is meant, in which format it is asked for pictures, what its
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
