//! What is stored: the tables, their migrations, and how the catalog talks to its database.

pub(super) mod aliases;
pub(super) mod change;
pub(super) mod columns;
pub(super) mod connect;
pub(super) mod connection;
pub(super) mod database;
pub(super) mod entity;
pub(super) mod facts;
pub(super) mod fallbacks;
pub(super) mod find;
pub(super) mod migration;
pub(super) mod paging;
mod postgres;
pub(super) mod redacted;

pub(in crate::catalog) use {
    change::{Change, Reload},
    columns::{Inherit, in_listing, source_name, switches},
    connection::{Db, Transaction},
    database::{has_failed_over, now, patiently, taken, time},
    find::{Located, locate},
    paging::Paging,
};
