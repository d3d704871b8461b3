//! Which role may do what, and where a token stands: one rule for every door.

use crate::catalog::Role;
use http::{HeaderMap, header::AUTHORIZATION};

/// What an operation asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The operator's own.
    Operate,
    /// Changes a tenant's configuration.
    Write,
    /// Reads a tenant's configuration.
    Read,
    /// Calls a model.
    Call,
    /// Looks at what a call would do.
    Look,
}

impl Access {
    /// Whether that role may.
    #[must_use]
    pub const fn allows(self, role: Role) -> bool {
        match role {
            Role::Operator => true,
            Role::TenantAdmin => matches!(self, Self::Write | Self::Read | Self::Call | Self::Look),
            Role::Invoker => matches!(self, Self::Call | Self::Look),
            Role::Viewer => matches!(self, Self::Read | Self::Look),
        }
    }
}

/// Something that a door offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Its name in metrics and traces, such as `rota.v1.InvokeService/InvokeLlm`.
    pub name: &'static str,
    /// What it asks of its caller.
    pub access: Access,
}

/// Reads the secret in `authorization: Bearer …`.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, secret) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_reach_what_they_are_for() {
        use Access::{Call, Look, Operate, Read, Write};
        let allowed = |role| [Operate, Write, Read, Call, Look].map(|access| access.allows(role));
        assert_eq!(allowed(Role::Operator), [true, true, true, true, true]);
        assert_eq!(allowed(Role::TenantAdmin), [false, true, true, true, true]);
        assert_eq!(allowed(Role::Invoker), [false, false, false, true, true]);
        assert_eq!(allowed(Role::Viewer), [false, false, true, false, true]);
    }
}
