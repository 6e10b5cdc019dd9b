//! Owns what every port of this program needs: who may use it, and listening on addresses. Knows no protocol and never accepts.

mod allow;
pub(crate) mod bind;

pub use allow::{AllowList, LOCAL_NETWORKS, Network};
