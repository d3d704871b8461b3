//! How the database is.

/// What the database does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseState {
    /// It answers and takes changes.
    Writable,
    /// It answers, and takes no changes: a standby, or a full disk.
    ReadOnly,
    /// It does not answer.
    Away,
}
