//! What serves: pools compiled from the stored rows, kept in memory, and kept up to date.

pub(super) mod cache;
pub(super) mod compile;
pub(super) mod follow;
pub(super) mod gone;
pub(super) mod index;
pub(super) mod load;
pub(super) mod named;
pub(super) mod refresh;
pub(super) mod rounds;
pub(super) mod serve;
pub(super) mod similar;
pub(super) mod tokens;
