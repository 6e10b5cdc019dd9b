//! pastcam: a camera that remembers. See `docs/design.md` for the way of a frame and the way of a request.

pub mod app;
pub mod capture;
pub mod clock;
pub mod commands;
pub mod config;
pub mod error;
pub mod export;
pub mod frame;
pub mod gst;
pub mod health;
pub mod jobs;
pub mod keeper;
pub mod logging;
pub mod night;
pub mod notify;
pub mod ring;
pub mod scale;
pub mod send;
pub mod server;
pub mod shutdown;
pub mod source;
pub mod stack;
pub mod tuning;
pub mod update;
pub mod video;
