//! Owns what every port of this program needs: who may use it, who has to wait, and listening on addresses. Knows no protocol and
//! never accepts.

mod allow;
pub(crate) mod bind;
mod owner;
mod slowdown;

pub use allow::{AllowList, LOCAL_NETWORKS, Network};
pub use slowdown::Slowdown;
