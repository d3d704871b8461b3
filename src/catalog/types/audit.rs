//! Audit events: who changed what.

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

/// One change, or one read of a credential.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// Its row id; ids grow with time.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// The tenant's id then; empty where the operator's own things were changed.
    pub tenant: String,
    /// The RPC, or the command.
    pub action: String,
    /// What it was done to, such as `provider openai`.
    pub resource: String,
    /// The token's row id; empty for the command line.
    pub token: String,
    /// The token's name, or `command line`.
    pub actor: String,
    /// The token's role; empty for the command line.
    pub role: String,
    /// What was there; null where nothing was.
    pub before: Value,
    /// What is there since; null where nothing is.
    pub after: Value,
}

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of this tenant; empty: of all.
    pub tenant: String,
    /// Of this action; empty: of all.
    pub action: String,
}
