//! pastcam: a camera that remembers. See `docs/design.md` for the way of a frame and the way of a request.
//! What needs `GStreamer` is built with the feature `media`, a default; the rest is the core and plain Rust.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic where nobody reads"))]

#[cfg(feature = "media")]
pub mod app;
pub mod auto;
pub mod budget;
pub mod capture;
pub mod check;
pub mod claim;
pub mod clock;
pub mod codec;
#[cfg(feature = "media")]
pub mod commands;
pub mod config;
pub mod disk;
pub mod errands;
pub mod error;
pub mod events;
#[cfg(feature = "media")]
pub mod export;
/// What the core knows of pictures on disk.
#[cfg(not(feature = "media"))]
pub mod export {
    pub mod keys;
}
pub mod format;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(feature = "media")]
pub mod gst;
pub mod health;
pub mod hot;
pub mod hours;
#[cfg(feature = "media")]
pub mod jobs;
#[cfg(feature = "media")]
pub mod keeper;
pub mod lock;
pub mod logging;
pub mod net;
pub mod night;
pub mod notes;
pub mod notify;
#[cfg(feature = "media")]
pub mod overlay;
/// Text in pictures: what the configuration may say of it.
#[cfg(not(feature = "media"))]
pub mod overlay {
    pub mod letters;
}
pub mod ring;
pub mod scale;
pub mod secrets;
pub mod send;
pub mod server;
pub mod settings;
pub mod shutdown;
pub mod source;
pub mod stack;
pub mod threads;
pub mod tuning;
pub mod turn;
pub mod update;
pub mod verbs;
#[cfg(feature = "media")]
pub mod video;
/// What the core knows of the stream.
#[cfg(not(feature = "media"))]
pub mod video {
    pub mod settings;
}
