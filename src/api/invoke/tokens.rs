//! CountTokens.

use super::{chat, service::InvokeApi, texts};
use crate::{
    api::{from_pb, pb, status},
    provider::Countable,
};
use tonic::{Request, Status};

impl InvokeApi {
    pub(super) async fn counted(
        &self,
        request: Request<pb::CountTokensRequest>,
    ) -> Result<pb::CountTokensResponse, Status> {
        let caller = from_pb::caller(&request)?;
        let (metadata, _, request) = request.into_parts();
        let countable = match (request.messages.is_empty(), request.texts.is_empty()) {
            (false, true) => {
                let request = pb::InvokeLlmRequest {
                    messages: request.messages,
                    tools: request.tools,
                    ..Default::default()
                };
                Countable::Chat(Box::new(chat::request_in(request, None)?))
            }
            (true, false) if request.tools.is_empty() => {
                texts::check_number(request.texts.len(), "texts")?;
                Countable::Texts(request.texts)
            }
            (true, false) => return Err(status::invalid("tools", "go with messages, not with texts")),
            _ => return Err(status::invalid("messages", "or texts must be there, and not both")),
        };
        let key = request.key.unwrap_or_default();
        let model_type = from_pb::model_type(key.model_type, "key.model_type")?;
        let call = self.call(&metadata, &caller, Some(key), model_type, None, 0).await?;
        let counted = self.engine.count_tokens(&call, countable).await.map_err(status::from_call)?;
        Ok(pb::CountTokensResponse {
            tokens: counted
                .tokens
                .into_iter()
                .map(|tokens| i32::try_from(tokens).unwrap_or(i32::MAX))
                .collect(),
            estimated: counted.estimated,
        })
    }
}
