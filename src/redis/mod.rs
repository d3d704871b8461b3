//! How Rota reaches Redis, whatever it keeps there: connections, scripts, word of changes, facts for `rota doctor`.
//!
//! Nothing here knows what a key means. [`crate::state`] keeps pools there and brings its own scripts.
//!
//! When Redis is gone, whatever is asked of it returns an error at once (no queue, no retry). The client reconnects for
//! ever with a growing pause of up to 200 ms.

mod changes;
mod connect;
mod error;
mod facts;
mod script;
mod words;

pub use changes::ChangeFeed;
pub(crate) use changes::Hearing;
pub(crate) use connect::Connection;
pub use connect::{CommandWatch, RedisOptions};
pub use error::{RedisError, Result};
pub use facts::RedisFacts;
pub(crate) use script::{Args, Run, Script};
pub(crate) use words::listen;
