//! What is read from the database and listed. When the database is gone, nothing is.

pub(super) mod aliases;
pub(super) mod audit;
pub(super) mod configs;
pub(super) mod credentials;
pub(super) mod models;
pub(super) mod overview;
pub(super) mod providers;
pub(super) mod tenants;
pub(super) mod tokens;
