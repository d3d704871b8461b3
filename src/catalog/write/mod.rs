//! How configuration is written. `writer` makes a change; the other files say what each change is.

pub(super) mod audit;
pub(super) mod configs;
pub(super) mod credentials;
pub(super) mod defaults;
pub(super) mod models;
pub(super) mod policy;
pub(super) mod providers;
pub(super) mod tenants;
pub(super) mod tokens;
pub(super) mod writer;
