//! How configuration is written: each change is one transaction with its outbox row and its audit event.

pub(in crate::catalog) mod audit;
pub(in crate::catalog) mod configs;
pub(in crate::catalog) mod credentials;
pub(in crate::catalog) mod defaults;
pub(in crate::catalog) mod fallbacks;
pub(in crate::catalog) mod models;
pub(in crate::catalog) mod policy;
pub(in crate::catalog) mod providers;
pub(in crate::catalog) mod tenants;
pub(in crate::catalog) mod tokens;
