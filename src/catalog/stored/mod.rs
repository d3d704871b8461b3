//! What is stored: the tables, their migrations, and how the catalog talks to its database.

pub(in crate::catalog) mod database;
pub(in crate::catalog) mod entity;
pub(in crate::catalog) mod facts;
pub(in crate::catalog) mod migration;
