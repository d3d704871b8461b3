//! What an outbox row tells the other replicas to load anew.

use crate::catalog::stored::entity::outbox;
use uuid::Uuid;

/// What a replica loads anew when it hears of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::catalog) enum Reload {
    Tenant(Uuid),
    Provider(Uuid),
    Model(Uuid),
    Token(Uuid),
}

impl Reload {
    fn name(self) -> &'static str {
        match self {
            Self::Tenant(_) => "tenant",
            Self::Provider(_) => "provider",
            Self::Model(_) => "model",
            Self::Token(_) => "token",
        }
    }

    fn id(self) -> Uuid {
        match self {
            Self::Tenant(id) | Self::Provider(id) | Self::Model(id) | Self::Token(id) => id,
        }
    }
}

/// One change, as the outbox carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::catalog) struct Change {
    /// The tenant whose default models may have changed. `None` for an operator's token.
    pub tenant: Option<Uuid>,
    /// What to load anew.
    pub reload: Reload,
}

impl Change {
    /// Reads an outbox row. `None` where this build does not know what it names.
    pub fn from_row(row: &outbox::Model) -> Option<Self> {
        let reload = match row.scope.as_str() {
            "tenant" => Reload::Tenant(row.scope_id),
            "provider" => Reload::Provider(row.scope_id),
            "model" => Reload::Model(row.scope_id),
            "token" => Reload::Token(row.scope_id),
            _ => return None,
        };
        Some(Self { tenant: row.tenant_id, reload })
    }

    /// The outbox row of that number, written at that time in milliseconds since 1970.
    pub fn row(self, number: i64, created_at: i64) -> outbox::Model {
        outbox::Model {
            number,
            tenant_id: self.tenant,
            scope: self.reload.name().to_owned(),
            scope_id: self.reload.id(),
            created_at,
        }
    }
}
