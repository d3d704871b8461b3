//! Reads many things at once: all that a tenant has configured, or one provider with its models.
//!
//! Each read sees one snapshot of the database. It takes a fixed number of statements, however much the tenant has.

use crate::{
    catalog::{
        compiled::{
            compile,
            load::{self, Filter},
        },
        handle::Catalog,
        names,
        read::{
            credentials::credential,
            models::model,
            providers::{active, provider},
        },
        secrets::tenant_keys,
        stored::{
            Paging, aliases,
            entity::{credentials, model_aliases, providers},
            find,
        },
        types::{
            ConfigFrom, ConfigSet, Credential, Error, Model, ModelAlias, ModelKey, Page, PageRequest,
            Provider,
        },
    },
    provider::ModelType,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use std::collections::HashMap;
use uuid::Uuid;

/// One page of all that a tenant has: its providers come first, then its credentials, its models and its aliases.
#[derive(Debug, Default)]
pub struct Configurations {
    /// By id.
    pub providers: Vec<Provider>,
    /// By id, secrets masked.
    pub credentials: Vec<Credential>,
    /// By id, each with its configs.
    pub models: Vec<(Model, ConfigSet)>,
    /// By id.
    pub aliases: Vec<ModelAlias>,
    /// The default model of each type that has one, and whether it was computed; on the first page.
    pub defaults: Vec<(ModelKey, bool)>,
    /// Empty on the last page.
    pub next: String,
}

/// One provider, with what calls of its models use.
#[derive(Debug)]
pub struct Bundle {
    /// The provider.
    pub provider: Provider,
    /// Its active credential, secrets masked.
    pub credential: Option<Credential>,
    /// Its models of one type, each with the id of the credential that serves it without balancing.
    pub models: Page<(Model, Option<Uuid>)>,
}

/// What a page is filled with, in this order. The place in a page token is one of these and the last id.
const PROVIDERS: &str = "p";
const CREDENTIALS: &str = "c";
const MODELS: &str = "m";
const ALIASES: &str = "a";

impl Catalog {
    /// All that a tenant has configured, page by page.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the tenant, [`Error::Invalid`] for a bad page.
    pub async fn configurations(&self, tenant: &str, page: PageRequest) -> Result<Configurations, Error> {
        let paging = Paging::new(&page, 2)?;
        let (section, after) = paging.place([PROVIDERS, CREDENTIALS, MODELS, ALIASES])?;
        let tx = self.db().begin_read().await?;
        let owner = find::tenant(&tx, tenant).await?;
        let keys = tenant_keys::of_tenant(&tx, self.ring(), owner.id).await?;
        let all = providers::Entity::find().filter(providers::Column::TenantId.eq(owner.id));
        let all = all.order_by_asc(providers::Column::Id).all(&tx).await?;
        let by_id: HashMap<Uuid, &providers::Model> = all.iter().map(|row| (row.id, row)).collect();
        let mut found = Configurations::default();
        let mut room = paging.size;
        if section == PROVIDERS {
            let rest = all.iter().filter(|row| row.id > after);
            let rows: Vec<_> = rest.take(usize::try_from(room).unwrap_or(usize::MAX)).cloned().collect();
            let active = active(&tx, rows.iter().map(|row| row.id)).await?;
            if after.is_nil() {
                let defaults = load::defaults(&tx, Some(owner.id)).await?;
                found.defaults =
                    defaults.into_iter().map(|default| (default.key, default.computed)).collect();
            }
            room -= rows.len() as u64;
            found.next = Paging::token(PROVIDERS, rows.last().map_or(after, |row| row.id));
            found.providers = rows
                .into_iter()
                .map(|row| {
                    let active = active.get(&row.id).copied();
                    provider(row, tenant, active)
                })
                .collect();
        }
        if room > 0 && [PROVIDERS, CREDENTIALS].contains(&section) {
            let after = if section == CREDENTIALS { after } else { Uuid::nil() };
            let rows = credentials::Entity::find()
                .filter(credentials::Column::TenantId.eq(owner.id))
                .filter(credentials::Column::Id.gt(after))
                .order_by_asc(credentials::Column::Id)
                .limit(room)
                .all(&tx)
                .await?;
            room -= rows.len() as u64;
            found.next = Paging::token(CREDENTIALS, rows.last().map_or(after, |row| row.id));
            let shown = rows.into_iter().filter_map(|row| {
                let provider = by_id.get(&row.provider_id)?;
                Some(credential(row, tenant, provider, &keys))
            });
            found.credentials = shown.collect();
        }
        // Whether the models are all told, so that the aliases are next.
        let mut told = section == ALIASES;
        if room > 0 && !told {
            let after = if section == MODELS { after } else { Uuid::nil() };
            let page = load::page(&tx, self.ring(), Filter::Tenant(owner.id), Some(after), room).await?;
            told = page.next.is_none();
            found.next = page.next.map(|last| Paging::token(MODELS, last)).unwrap_or_default();
            room -= page.parts.len() as u64;
            for parts in page.parts {
                let set = compile::config_set(&parts, ConfigFrom::Any);
                found.models.push((model(parts.model, parts.key), set));
            }
        }
        if told {
            let after = if section == ALIASES { after } else { Uuid::nil() };
            let mut rows: Vec<aliases::Row> = aliases::select()
                .filter(model_aliases::Column::TenantId.eq(owner.id))
                .filter(model_aliases::Column::Id.gt(after))
                .order_by_asc(model_aliases::Column::Id)
                .limit(room + 1)
                .into_model()
                .all(&tx)
                .await?;
            let more = rows.len() as u64 > room;
            rows.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            let last = rows.last().map_or(after, |row| row.id);
            found.next = if more { Paging::token(ALIASES, last) } else { String::new() };
            found.aliases = rows.into_iter().filter_map(aliases::Row::alias).collect();
        }
        tx.commit().await?;
        Ok(found)
    }

    /// One provider with its models of that type.
    ///
    /// # Errors
    /// [`Error::NotFound`] for tenant and provider, [`Error::Invalid`] for a bad page.
    pub async fn provider_bundle(
        &self,
        tenant: &str,
        name: &str,
        model_type: ModelType,
        page: PageRequest,
    ) -> Result<Bundle, Error> {
        let name = names::provider("provider", name)?;
        let paging = Paging::new(&page, 2)?;
        let (_, after) = paging.place([MODELS; 4])?;
        let tx = self.db().begin_read().await?;
        let owner = find::tenant(&tx, tenant).await?;
        let row = find::provider(&tx, owner.id, name).await?;
        let active = active(&tx, [row.id]).await?.remove(&row.id);
        let filter = Filter::Type(row.id, model_type);
        let page = load::page(&tx, self.ring(), filter, Some(after), paging.size).await?;
        let used = match active {
            Some(id) => credentials::Entity::find_by_id(id).one(&tx).await?,
            None => None,
        };
        let keys = tenant_keys::of_tenant(&tx, self.ring(), owner.id).await?;
        tx.commit().await?;
        let models = page.parts.into_iter().map(|parts| {
            let inherit = parts.inherit.map(|inherit| inherit.id);
            (model(parts.model, parts.key), inherit)
        });
        let next = page.next.map(|last| Paging::token(MODELS, last)).unwrap_or_default();
        let models = Page { items: models.collect(), next };
        Ok(Bundle {
            credential: used.map(|used| credential(used, tenant, &row, &keys)),
            provider: provider(row, tenant, active),
            models,
        })
    }
}
