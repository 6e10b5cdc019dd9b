//! pastcam: a camera that remembers. See `docs/design.md` for the way of a frame and the way of a request.

pub mod clock;
pub mod error;
pub mod frame;
pub mod server;
