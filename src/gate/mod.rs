//! What every door shares: limits, panics, connections and TLS.

mod connections;
pub(crate) mod panics;
pub(crate) mod receive;
pub(crate) mod tenant_limits;
mod tls;

pub use connections::{Connection, connections};
pub use tenant_limits::CallLimits;
pub use tls::{Tls, TlsError};
