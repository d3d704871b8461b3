//! Reads that answer from the database.

pub(in crate::catalog) mod configs;
pub(in crate::catalog) mod overview;
