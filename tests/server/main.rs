//! The trigger port over real sockets, with a fake in place of the commands. Rules: `docs/protocol.md`.

mod clients;
mod limits;
mod persistent;
mod rig;
mod tcp;
