//! Explain: the next pick, with reasons.

use super::service::InvokeApi;
use crate::{
    api::{from_pb, pb, status},
    catalog::{Caller, ConfigFrom, ConfigSet, INHERIT},
    invoke::{ExplainInput, explain},
};
use tonic::Status;

impl InvokeApi {
    pub(super) async fn explained(
        &self,
        caller: &Caller,
        request: pb::ExplainRequest,
    ) -> Result<pb::ExplainResponse, Status> {
        let mut key = from_pb::key(caller, request.key, "key")?;
        if key.provider.is_empty() {
            let meant = self.catalog.meant(&key.tenant, key.model_type, &key.model).await;
            key = meant.map_err(|error| status::from_catalog(error.under("key")))?;
        }
        let set = self.catalog.configs(&key, ConfigFrom::Any).await.map_err(status::from_catalog)?;
        let inputs: Vec<ExplainInput> = set.configs.iter().map(ExplainInput::from).collect();
        let seen = self.engine.state().inspect(&set.roster).await;
        if !set.enabled {
            return Ok(unbalanced(set));
        }
        let (explained, picked) = explain(&set.roster, &inputs, &seen);
        let picked = picked.and_then(|place| set.configs.get(place)).map(|config| config.id.clone());
        let candidates = set.configs.into_iter().zip(explained).map(|(config, explained)| pb::Candidate {
            config_id: config.id,
            config_name: config.name,
            eligible: explained.eligible,
            reason: explained.reason.to_string(),
            score: explained.score,
        });
        Ok(pb::ExplainResponse { candidates: candidates.collect(), picked: picked.unwrap_or_default() })
    }
}

/// Without balancing, the active credential serves every call.
fn unbalanced(set: ConfigSet) -> pb::ExplainResponse {
    let candidates = set.configs.into_iter().map(|config| {
        let eligible = config.id == INHERIT;
        let reason =
            if eligible { "balancing is off: the active credential serves" } else { "balancing is off" };
        pb::Candidate {
            config_id: config.id,
            config_name: config.name,
            eligible,
            reason: reason.to_owned(),
            score: 0.0,
        }
    });
    let candidates: Vec<_> = candidates.collect();
    let picked = candidates.iter().find(|candidate| candidate.eligible).map(|one| one.config_id.clone());
    pb::ExplainResponse { candidates, picked: picked.unwrap_or_default() }
}
