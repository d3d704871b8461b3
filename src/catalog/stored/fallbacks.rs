//! A model's fallbacks: the models of the same tenant that a call goes on with. They are stored by name. That is safe, since
//! providers and models cannot be renamed, and a model that is a fallback cannot be deleted.

use crate::catalog::{
    names::{self, shown},
    stored::{
        entity::{models, providers},
        find::{self, Located},
    },
    types::{Error, ModelKey, ResourceKind},
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use std::collections::HashMap;
use uuid::Uuid;

/// The most of one model.
const MOST: usize = 8;

/// A model's name within its tenant and type: provider and model.
type Name = (String, String);

/// The fallbacks that a row holds.
pub(in crate::catalog) fn read(json: &str, of: &ModelKey) -> Vec<ModelKey> {
    let names: Vec<Name> = serde_json::from_str(json).unwrap_or_default();
    names.into_iter().map(|(provider, model)| ModelKey { provider, model, ..of.clone() }).collect()
}

/// Checks the fallbacks of `key` against what is stored, and returns what its row is to hold. Inside the write, so that
/// two writers cannot close a circle between them.
pub(in crate::catalog) async fn checked(
    db: &impl ConnectionTrait,
    tenant: Uuid,
    key: &ModelKey,
    fallbacks: &[ModelKey],
) -> Result<String, Error> {
    if fallbacks.is_empty() {
        return Ok(String::new());
    }
    if fallbacks.len() > MOST {
        return Err(Error::invalid("fallbacks", format!("are at most {MOST}")));
    }
    let mut chosen: Vec<Name> = Vec::new();
    for (index, fallback) in fallbacks.iter().enumerate() {
        let at = |field: &str| format!("fallbacks[{index}]{field}");
        if fallback.tenant != key.tenant {
            return Err(Error::NotFound(ResourceKind::Tenant, shown(&fallback.tenant)));
        }
        if fallback.model_type != key.model_type {
            return Err(Error::invalid(at(".model_type"), "is not the type of the model"));
        }
        let fallback = names::key_parts(fallback).map_err(|error| error.under(&at("")))?;
        // Says which of provider and model is not there.
        let Located { .. } = find::locate(db, &fallback).await?;
        let name = (fallback.provider.clone(), fallback.model.clone());
        if name == (key.provider.clone(), key.model.clone()) {
            return Err(Error::invalid(at(""), "leads back to this model"));
        }
        if chosen.contains(&name) {
            return Err(Error::invalid(at(""), "stands there twice"));
        }
        chosen.push(name);
    }
    let edges = edges(db, tenant, key).await?;
    for (index, name) in chosen.iter().enumerate() {
        if leads_to(&edges, name, &(key.provider.clone(), key.model.clone())) {
            return Err(Error::invalid(format!("fallbacks[{index}]"), "leads back to this model"));
        }
    }
    serde_json::to_string(&chosen).map_err(|_| Error::Internal)
}

/// The name of a model that falls back to this one.
pub(in crate::catalog) async fn user_of(
    db: &impl ConnectionTrait,
    tenant: Uuid,
    key: &ModelKey,
) -> Result<Option<String>, Error> {
    let wanted = (key.provider.clone(), key.model.clone());
    let edges = edges(db, tenant, key).await?;
    Ok(edges.into_iter().find(|(_, to)| to.contains(&wanted)).map(|((_, model), _)| model))
}

/// Who falls back to whom, among the tenant's models of that type.
async fn edges(
    db: &impl ConnectionTrait,
    tenant: Uuid,
    of: &ModelKey,
) -> Result<HashMap<Name, Vec<Name>>, Error> {
    let rows = models::Entity::find()
        .find_also_related(providers::Entity)
        .filter(models::Column::TenantId.eq(tenant))
        .filter(models::Column::ModelType.eq(of.model_type.name()))
        .filter(models::Column::Fallbacks.ne(""))
        .all(db)
        .await?;
    let edge = |(model, provider): (models::Model, Option<providers::Model>)| {
        let to: Vec<Name> = serde_json::from_str(&model.fallbacks).unwrap_or_default();
        Some(((provider?.name, model.name), to))
    };
    Ok(rows.into_iter().filter_map(edge).collect())
}

fn leads_to(edges: &HashMap<Name, Vec<Name>>, from: &Name, to: &Name) -> bool {
    let mut seen: Vec<&Name> = vec![from];
    let mut at = 0;
    while let Some(name) = seen.get(at).copied() {
        for next in edges.get(name).into_iter().flatten() {
            if next == to {
                return true;
            }
            if !seen.contains(&next) {
                seen.push(next);
            }
        }
        at += 1;
    }
    false
}
