//! Who may use the service: tenants, tokens, and the caller that a token stands for.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// A tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// The tenant's id.
    pub id: String,
    /// For people.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything, for every tenant.
    Operator,
    /// Configuration and calls of one tenant.
    TenantAdmin,
    /// Calls of one tenant.
    Invoker,
    /// Reads of one tenant.
    Viewer,
}

impl Role {
    const ALL: [Self; 4] = [Self::Operator, Self::TenantAdmin, Self::Invoker, Self::Viewer];

    /// As stored, and as audit events name it.
    pub(in crate::catalog) const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::TenantAdmin => "tenant_admin",
            Self::Invoker => "invoker",
            Self::Viewer => "viewer",
        }
    }

    /// From the column. `None` for a role that this build does not know.
    pub(in crate::catalog) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Who calls: what a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's row id.
    pub token: Uuid,
    /// What it may do.
    pub role: Role,
    /// The tenant it belongs to; none for an operator.
    pub tenant: Option<String>,
    /// The token's name.
    pub name: String,
    /// Whether credentials may be handed out to it.
    pub may_read_credentials: bool,
    /// SHA-256 of the token's secret, by which [`crate::catalog::Catalog::still_valid`] knows it again.
    pub hash: [u8; 32],
}

/// A token to be made.
#[derive(Debug, Clone, Default)]
pub struct NewToken {
    /// The tenant it belongs to; empty for an operator.
    pub tenant: String,
    /// What it may do; required.
    pub role: Option<Role>,
    /// For people.
    pub name: String,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether its bearer may be handed credentials.
    pub may_read_credentials: bool,
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its row id.
    pub id: Uuid,
    /// The tenant it belongs to; empty for an operator.
    pub tenant: String,
    /// What it may do.
    pub role: Role,
    /// For people.
    pub name: String,
    /// The first characters of the secret.
    pub prefix: String,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether its bearer may be handed credentials.
    pub may_read_credentials: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When a call last came with it.
    pub last_used_at: Option<DateTime<Utc>>,
}
