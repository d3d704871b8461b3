//! What is stored: the tables, their migrations, and how the catalog talks to its database.

pub(super) mod change;
pub(super) mod columns;
pub(super) mod connect;
pub(super) mod database;
pub(super) mod entity;
pub(super) mod facts;
pub(super) mod fallbacks;
pub(super) mod find;
pub(super) mod migration;
pub(super) mod paging;
pub(super) mod redacted;
