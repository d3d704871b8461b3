//! What can be called, in the words of whoever asks.

use super::{
    call::{Answer, Asker, Whole, pool, tenant},
    error::Fault,
    options::Options,
    serving::Serving,
};
use crate::{
    catalog::Callable,
    provider::ModelType,
    wire::{ListedModel, Protocol, anthropic, gemini, openai},
};
use http::{HeaderMap, StatusCode};

/// All models of the tenant, and its aliases.
pub(super) fn all(
    door: &Serving,
    protocol: Protocol,
    asker: &Asker,
    headers: &HeaderMap,
) -> Result<Answer, Fault> {
    let listed = listed(door, &asked_of(asker, headers)?);
    let body = match protocol {
        Protocol::OpenAi => openai::server::models::all(&listed),
        Protocol::Anthropic => anthropic::server::models::all(&listed),
        Protocol::Gemini => gemini::server::models::all(&listed),
    };
    Ok(Answer::Whole(Whole::json(body)))
}

/// One of them.
pub(super) async fn one(
    door: &Serving,
    protocol: Protocol,
    asker: &Asker,
    headers: &HeaderMap,
    name: &str,
) -> Result<Answer, Fault> {
    let tenant = asked_of(asker, headers)?;
    let listed = listed(door, &tenant);
    let Some(model) = listed.iter().find(|model| model.name == name) else {
        // A bare name means what it means in a call, and the same is told of one that means nothing.
        let pool = pool(door, &tenant, name, None).await?;
        let full = format!("{}/{}", pool.key.provider, pool.key.model);
        return match listed.iter().find(|model| model.name == full) {
            Some(model) => Ok(Answer::Whole(Whole::json(written(protocol, model)))),
            None => Err(Fault::of_model(StatusCode::NOT_FOUND, format!("the model `{name}` is disabled"))),
        };
    };
    Ok(Answer::Whole(Whole::json(written(protocol, model))))
}

fn written(protocol: Protocol, model: &ListedModel) -> Vec<u8> {
    match protocol {
        Protocol::OpenAi => openai::server::models::one(model),
        Protocol::Anthropic => anthropic::server::models::one(model),
        Protocol::Gemini => gemini::server::models::one(model),
    }
}

/// The tenant whose models are asked for.
fn asked_of(asker: &Asker, headers: &HeaderMap) -> Result<String, Fault> {
    tenant(asker, &Options::read(headers)?.tenant)
}

fn listed(door: &Serving, tenant: &str) -> Vec<ListedModel> {
    let mut listed: Vec<_> = door.catalog.callable(tenant).into_iter().map(listed_model).collect();
    // A model of several types is there once for each.
    listed.dedup_by(|next, model| next.name == model.name);
    listed
}

fn listed_model(callable: Callable) -> ListedModel {
    ListedModel {
        name: callable.name,
        provider: callable.target.provider,
        context_window: callable.context_window.map_or(0, u32::from),
        embeds: callable.target.model_type == ModelType::TextEmbedding,
    }
}
