//! Explain: the next pick, with reasons.

use super::{InvokeApi, convert, pb, status};
use crate::{
    catalog::{Caller, ConfigFrom},
    invoke::{Setting, explain},
    state::Inspection,
};
use tonic::Status;

impl InvokeApi {
    pub(super) async fn explained(
        &self,
        caller: &Caller,
        request: pb::ExplainRequest,
    ) -> Result<pb::ExplainResponse, Status> {
        let key = convert::key(caller, request.key, "key")?;
        let set = self.catalog.configs(&key, ConfigFrom::Any).await.map_err(status::from_catalog)?;
        let settings: Vec<_> = set
            .configs
            .iter()
            .map(|config| Setting {
                enabled: config.enabled,
                weight: config.weight,
                readable: config.readable,
            })
            .collect();
        let seen = match self.engine.state().inspect(&set.roster).await {
            Ok(seen) => seen,
            Err(_) => Inspection::blank(&set.roster, 0),
        };
        let (explained, picked) = explain(&set.roster, &settings, &seen);
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
