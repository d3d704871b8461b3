//! The RPCs of our services, and what each asks of its caller: one table.

use crate::gate::{Access, Operation};
use std::{collections::HashMap, sync::LazyLock};

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
            "ListModelAliases",
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
            "PutModelAlias",
            "DeleteModelAlias",
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

/// Finds the RPC at that path. Its name is `package.Service/Method`. `None` for RPCs that are not ours, such as health and
/// reflection.
pub(super) fn at(path: &str) -> Option<Operation> {
    let (path, access) = BY_PATH.get_key_value(path)?;
    Some(Operation { name: path.trim_start_matches('/'), access: *access })
}

/// Whether the answer is streamed as a provider says it, at the pace of its reader.
pub(super) fn is_paced(operation: Operation) -> bool {
    ["rota.v1.InvokeService/StreamLlm", "rota.v1.InvokeService/InvokeTts", "rota.v1.InvokeService/Forward"]
        .contains(&operation.name)
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
}
