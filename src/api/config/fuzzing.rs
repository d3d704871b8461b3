//! ConfigService's part of the fuzz target `requests`: the requests that hold more than ids and texts.

use super::{aliases, balancing, cooldown, credentials, models, policy};
use crate::{
    api::{from_pb, pb},
    catalog::Caller,
};
use prost::{DecodeError, Message};
use tonic::Status;

/// Reads a request as its RPC does, up to the point where a catalog is needed.
pub(in crate::api) fn read(
    kind: u8,
    bytes: &[u8],
    caller: &Caller,
) -> Result<Result<(), Status>, DecodeError> {
    Ok(match kind {
        0 => policy::change_in(pb::UpdateBalancingPolicyRequest::decode(bytes)?, caller).map(drop),
        1 => balancing::update_in(pb::UpdateLoadBalancingConfigsRequest::decode(bytes)?, caller).map(drop),
        2 => models::model_in(pb::PutModelRequest::decode(bytes)?, caller).map(drop),
        3 => credentials::credential_in(pb::CreateCredentialRequest::decode(bytes)?, caller).map(drop),
        4 => cooldown::override_in(&pb::SetCooldownRequest::decode(bytes)?).map(drop),
        5 => aliases::alias_in(pb::PutModelAliasRequest::decode(bytes)?, caller).map(drop),
        _ => {
            let request = pb::ListModelsRequest::decode(bytes)?;
            from_pb::tenant(caller, &request.tenant_id, "tenant_id")
                .and(from_pb::optional_model_type(request.model_type, "model_type"))
                .map(drop)
        }
    })
}
