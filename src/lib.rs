//! pastcam: a camera that remembers. See `docs/design.md` for the way of a frame and the way of a request.
//! What needs `GStreamer` is built with the feature `media`, a default; the rest is the core and plain Rust.

#[cfg(feature = "media")]
pub mod app;
pub mod capture;
pub mod claim;
pub mod clock;
#[cfg(feature = "media")]
pub mod commands;
pub mod config;
pub mod error;
#[cfg(feature = "media")]
pub mod export;
pub mod frame;
#[cfg(feature = "media")]
pub mod gst;
pub mod health;
#[cfg(feature = "media")]
pub mod jobs;
#[cfg(feature = "media")]
pub mod keeper;
pub mod logging;
pub mod night;
pub mod notify;
#[cfg(feature = "media")]
pub mod overlay;
pub mod ring;
pub mod scale;
pub mod send;
pub mod server;
pub mod shutdown;
pub mod source;
pub mod stack;
pub mod tuning;
pub mod update;
#[cfg(feature = "media")]
pub mod video;
