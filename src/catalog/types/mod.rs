//! What tenants configure, as the rest of the house sees it. A file for each kind of object.

pub(super) mod access;
pub(super) mod alias;
pub(super) mod audit;
pub(super) mod bounds;
pub(super) mod config;
pub(super) mod credential;
pub(super) mod database;
pub(super) mod error;
pub(super) mod model;
pub(super) mod page;
pub(super) mod policy;
pub(super) mod pool;
pub(super) mod provider;

pub use {
    access::*, alias::*, audit::*, bounds::*, config::*, credential::*, database::*, error::*, model::*,
    page::*, policy::*, pool::*, provider::*,
};
