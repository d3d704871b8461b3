//! Which role may call which RPC: one table.

use crate::catalog::Role;
use std::{collections::HashMap, sync::LazyLock};

/// What an RPC asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
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
    pub(super) const fn allows(self, role: Role) -> bool {
        match role {
            Role::Operator => true,
            Role::TenantAdmin => matches!(self, Self::Write | Self::Read | Self::Call | Self::Look),
            Role::Invoker => matches!(self, Self::Call | Self::Look),
            Role::Viewer => matches!(self, Self::Read | Self::Look),
        }
    }
}

const RPCS: &[(Access, &str, &[&str])] = &[
    (
        Access::Operate,
        "AdminService",
        &[
            "CreateTenant",
            "GetTenant",
            "ListTenants",
            "DeleteTenant",
            "RotateTenantKey",
            "CreateToken",
            "ListTokens",
            "RevokeToken",
            "ListAuditEvents",
        ],
    ),
    (
        Access::Read,
        "ConfigService",
        &[
            "ListProviderKinds",
            "GetConfigurations",
            "GetProviderModelBundle",
            "GetProvider",
            "ListProviders",
            "GetCredential",
            "ListCredentials",
            "GetModel",
            "ListModels",
            "GetDefaultModel",
            "GetLoadBalancingConfigs",
            "GetLoadBalancingConfig",
            "GetCooldown",
            "WatchPool",
        ],
    ),
    (
        Access::Write,
        "ConfigService",
        &[
            "CreateProvider",
            "UpdateProvider",
            "DeleteProvider",
            "CreateCredential",
            "UpdateCredential",
            "DeleteCredential",
            "ActivateCredential",
            "PutModel",
            "DeleteModel",
            "EnableModel",
            "DisableModel",
            "SetDefaultModel",
            "EnableModelLoadBalancing",
            "DisableModelLoadBalancing",
            "UpdateLoadBalancingConfigs",
            "UpdateBalancingPolicy",
            "SetCooldown",
            "ClearCooldown",
            // They store nothing, but they send a stored secret out.
            "ValidateLoadBalancingCredentials",
            "ValidateCredential",
        ],
    ),
    (
        Access::Call,
        "InvokeService",
        &[
            "InvokeLlm",
            "StreamLlm",
            "InvokeTextEmbedding",
            "InvokeRerank",
            "InvokeModeration",
            "InvokeSpeechToText",
            "InvokeTts",
            "ListTtsVoices",
            "CountTokens",
            "Forward",
            "Acquire",
            "RenewLease",
            "Release",
        ],
    ),
    (Access::Look, "InvokeService", &["Explain"]),
];

static BY_PATH: LazyLock<HashMap<String, Access>> = LazyLock::new(|| {
    let rows = RPCS.iter().flat_map(|(access, service, methods)| {
        methods.iter().map(move |method| (format!("/rota.v1.{service}/{method}"), *access))
    });
    rows.collect()
});

/// The RPC at that path as `package.Service/Method`, and what it asks; `None` for those that are not ours, such as health
/// and reflection.
pub(super) fn of(path: &str) -> Option<(&'static str, Access)> {
    let (path, access) = BY_PATH.get_key_value(path)?;
    Some((path.trim_start_matches('/'), *access))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb::FILE_DESCRIPTOR_SET;
    use prost::Message;
    use std::collections::BTreeSet;

    #[test]
    fn every_rpc_of_the_contract_has_a_row_and_every_row_an_rpc() {
        let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let contract: BTreeSet<_> = set
            .file
            .iter()
            .filter(|file| file.package() == "rota.v1")
            .flat_map(|file| &file.service)
            .flat_map(|service| {
                service
                    .method
                    .iter()
                    .map(move |method| format!("/rota.v1.{}/{}", service.name(), method.name()))
            })
            .collect();
        assert_eq!(contract, BY_PATH.keys().cloned().collect());
    }

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
