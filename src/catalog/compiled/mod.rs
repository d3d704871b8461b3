//! What is compiled from the stored rows: the pools that serve, how they are loaded, and how they are kept up to date.

pub(in crate::catalog) mod compile;
pub(in crate::catalog) mod follow;
pub(in crate::catalog) mod load;
pub(in crate::catalog) mod snapshot;
