//! Prepares the replacement of a model's set of configs: checks the request against what is stored, seals secrets, and writes
//! out the statements and the audit event.
//!
//! It is prepared from what was stored at one moment, before the change takes the lock that all writers wait for. Under the
//! lock [`Ready::still_holds`] says whether anything that it builds on has changed since.

use crate::catalog::{
    addresses::{config_address, provider_address, same_origin},
    compiled::load::{self, Parts},
    handle::Catalog,
    names::{Check, shown},
    secrets::{
        fields::{self, Holder, Writing},
        key_ring::DataKey,
        tenant_keys::sealing_key,
    },
    stored::{
        Inherit, Located,
        entity::{credentials, lb_configs, models, outbox, tenants},
        find, in_listing, locate, source_name,
    },
    types::{ConfigFrom, Error, INHERIT, ModelKey, NewConfig, ResourceKind},
    write::{
        audit::{self, Event},
        quota,
        writer::{Write, check_revision},
    },
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, DbErr, EntityTrait, IntoActiveModel, Iterable,
    PaginatorTrait, QueryFilter, QueryTrait, Statement,
    sea_query::{Expr, OnConflict},
};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use uuid::Uuid;

/// Of what there may be so many.
pub(in crate::catalog) const CONFIGS_OF_MODEL: &str = "configs of a model";
/// How many configs an audit event tells in full.
const TOLD_IN_FULL: usize = 100;

/// What is asked for.
pub(in crate::catalog) struct Request<'a> {
    /// In its one spelling.
    pub key: &'a ModelKey,
    pub from: ConfigFrom,
    /// 0: whichever there is.
    pub revision: i64,
    pub configs: &'a [NewConfig],
}

/// A change that is ready to be written.
pub(in crate::catalog) struct Ready {
    /// What writes it.
    pub statements: Vec<Statement>,
    /// What tells of it.
    pub event: Event,
    /// The model as it is afterwards.
    pub parts: Parts,
    /// By how many configs the set grows.
    pub added: u64,
    /// The last change before the moment that it was prepared from.
    seen: i64,
    /// Whether all secrets that it writes are under the tenant's current key. A rotation takes no number, and deletes the
    /// others.
    settled: bool,
}

impl Request<'_> {
    /// Prepares it from what that transaction sees.
    pub async fn prepare(&self, db: &impl ConnectionTrait, catalog: &Catalog) -> Result<Ready, Error> {
        let Self { key, from, revision, configs } = *self;
        let seen = find::last_number(db).await?;
        let Located { tenant, model, .. } = locate(db, key).await?;
        check_revision(revision, model.lb_revision)?;
        let parts = load::one(db, catalog.ring(), model.id).await?;
        let linked = linked(db, &parts, configs).await?;
        let seal_with = sealing_key(&parts.keys, &tenant)?;
        let planned = Plan { parts: &parts, from, linked: &linked, seal_with }.build(configs)?;
        let (before, added) = (parts.configs.len() as u64, planned.added.len() as u64);
        let after = before + added - planned.deleted.len() as u64;
        quota::check_growth(before, after, catalog.bounds().configs_per_model, CONFIGS_OF_MODEL)?;
        let current = seal_with.id;
        let written = planned.changed.iter().chain(&planned.added);
        Ok(Ready {
            statements: planned.statements(&parts.model, db.get_database_backend()),
            event: planned.event(key, &parts),
            added: after.saturating_sub(before),
            seen,
            settled: written.into_iter().all(|row| fields::are_under(&row.fields, current)),
            parts: planned.applied(parts, linked),
        })
    }
}

impl Ready {
    /// Whether nothing that it builds on has changed since. While the write holds the lock, nothing will.
    pub async fn still_holds(&self, write: &Write<'_>) -> Result<bool, DbErr> {
        let Parts { tenant, provider, model, .. } = &self.parts;
        let now = tenants::Entity::find_by_id(tenant.id).one(&write.tx).await?;
        if !self.settled || now.is_none_or(|now| now.data_key_id != tenant.data_key_id) {
            return Ok(false);
        }
        if write.last() == self.seen {
            return Ok(true);
        }
        // Every other change of these, those of their credentials too, is in the outbox.
        let changes = outbox::Entity::find()
            .filter(outbox::Column::Number.gt(self.seen))
            .filter(outbox::Column::ScopeId.is_in([tenant.id, provider.id, model.id]));
        Ok(changes.count(&write.tx).await? == 0)
    }
}

/// A row that is there already gets all of the new one's columns.
fn replaced() -> OnConflict {
    let others = lb_configs::Column::iter().filter(|column| !matches!(column, lb_configs::Column::Id));
    OnConflict::column(lb_configs::Column::Id).update_columns(others).to_owned()
}

fn stored(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

/// The credentials that a request links: of this provider, and either the provider's own or this model's.
async fn linked(
    db: &impl ConnectionTrait,
    parts: &Parts,
    configs: &[NewConfig],
) -> Result<HashMap<Uuid, credentials::Model>, Error> {
    let mut wanted = HashSet::new();
    for id in configs.iter().map(|config| &config.credential_id).filter(|id| !id.is_empty()) {
        wanted.insert(id.parse::<Uuid>().map_err(|_| Error::NotFound(ResourceKind::Credential, shown(id)))?);
    }
    let own = Condition::all()
        .add(credentials::Column::ModelType.eq(parts.model.model_type.as_str()))
        .add(credentials::Column::Model.eq(parts.model.name.as_str()));
    let rows = credentials::Entity::find()
        .filter(credentials::Column::Id.is_in(wanted.iter().copied()))
        .filter(credentials::Column::ProviderId.eq(parts.provider.id))
        .filter(Condition::any().add(credentials::Column::Model.eq("")).add(own))
        .all(db)
        .await?;
    let found: HashMap<Uuid, credentials::Model> = rows.into_iter().map(|row| (row.id, row)).collect();
    match wanted.iter().find(|id| !found.contains_key(id)) {
        Some(id) => Err(Error::NotFound(ResourceKind::Credential, id.to_string())),
        None => Ok(found),
    }
}

/// What a request is checked against and built from.
struct Plan<'a> {
    parts: &'a Parts,
    from: ConfigFrom,
    linked: &'a HashMap<Uuid, credentials::Model>,
    seal_with: &'a DataKey,
}

/// What is to be done.
struct Planned {
    deleted: Vec<Uuid>,
    changed: Vec<lb_configs::Model>,
    added: Vec<lb_configs::Model>,
    inherit: Inherit,
    next_ordinal: i32,
}

impl Planned {
    /// Of a large set, what changes alone, and of many changes the first ones in full.
    fn event(&self, key: &ModelKey, parts: &Parts) -> Event {
        let old: HashMap<Uuid, &lb_configs::Model> = parts.configs.iter().map(|row| (row.id, row)).collect();
        let changed = self.changed.iter().map(|new| &new.id).chain(&self.deleted);
        let before = told(changed.filter_map(|id| old.get(id).copied()));
        let after = told(self.changed.iter().chain(&self.added));
        Event::new("UpdateLoadBalancingConfigs", &key.tenant, audit::model(key))
            .before(&json!({ INHERIT: parts.model.inherit, "configs": before }))
            .after(&json!({ INHERIT: self.inherit.name(), "configs": after }))
    }

    /// What writes it: three statements at most, whatever the size of the set, since a thousand round trips would hold up all
    /// other writers.
    fn statements(&self, model: &models::Model, backend: DbBackend) -> Vec<Statement> {
        let mut statements = Vec::new();
        if !self.deleted.is_empty() {
            let deleted = lb_configs::Column::Id.is_in(self.deleted.iter().copied());
            statements.push(lb_configs::Entity::delete_many().filter(deleted).build(backend));
        }
        let written = self.changed.iter().chain(&self.added).cloned().map(IntoActiveModel::into_active_model);
        let written: Vec<lb_configs::ActiveModel> = written.collect();
        if !written.is_empty() {
            let insert = lb_configs::Entity::insert_many(written).on_conflict(replaced());
            statements.push(insert.build(backend));
        }
        let update = models::Entity::update_many()
            .col_expr(models::Column::Inherit, Expr::value(self.inherit.name()))
            .col_expr(models::Column::NextOrdinal, Expr::value(self.next_ordinal))
            .col_expr(models::Column::LbRevision, Expr::value(model.lb_revision + 1))
            .filter(models::Column::Id.eq(model.id));
        statements.push(update.build(backend));
        statements
    }

    /// The model as it is afterwards.
    fn applied(self, mut parts: Parts, linked: HashMap<Uuid, credentials::Model>) -> Parts {
        self.inherit.name().clone_into(&mut parts.model.inherit);
        parts.model.next_ordinal = self.next_ordinal;
        parts.model.lb_revision += 1;
        let deleted: HashSet<Uuid> = self.deleted.into_iter().collect();
        let mut changed: HashMap<Uuid, lb_configs::Model> =
            self.changed.into_iter().map(|row| (row.id, row)).collect();
        parts.configs.retain(|row| !deleted.contains(&row.id));
        for row in &mut parts.configs {
            if let Some(new) = changed.remove(&row.id) {
                *row = new;
            }
        }
        // Their ordinals are the highest.
        parts.configs.extend(self.added);
        let mut credentials = (*parts.credentials).clone();
        credentials.extend(linked.into_iter().map(|(id, row)| (id, Arc::new(row))));
        parts.credentials = Arc::new(credentials);
        parts
    }
}

/// Rows as an event tells them: the first in full, of the others which ones they are.
fn told<'a>(rows: impl Iterator<Item = &'a lb_configs::Model>) -> Vec<Value> {
    let tell = |(place, row): (usize, &lb_configs::Model)| match place {
        0..TOLD_IN_FULL => serde_json::to_value(row).unwrap_or_default(),
        _ => json!({ "id": row.id, "name": row.name }),
    };
    rows.enumerate().map(tell).collect()
}

impl Plan<'_> {
    fn build(&self, configs: &[NewConfig]) -> Result<Planned, Error> {
        let in_scope = self.parts.configs.iter().filter(|row| in_listing(&row.source, self.from));
        let mut old: HashMap<String, &lb_configs::Model> =
            in_scope.map(|row| (row.id.to_string(), row)).collect();
        let mut planned = Planned {
            deleted: Vec::new(),
            changed: Vec::new(),
            added: Vec::new(),
            inherit: Inherit::LeftOut,
            next_ordinal: self.parts.model.next_ordinal,
        };
        let mut check = Check::default();
        for (index, config) in configs.iter().enumerate() {
            let at = format!("configs[{index}]");
            if config.id == INHERIT {
                let on = config.enabled == Some(true);
                planned.inherit = if on { Inherit::Enabled } else { Inherit::Disabled };
            } else if config.id.is_empty() {
                let ordinal = planned.next_ordinal;
                planned.next_ordinal = ordinal.checked_add(1).ok_or(Error::Internal)?;
                planned.added.push(self.row(config, None, ordinal, &at, &mut check)?);
            } else {
                let row = old.remove(&config.id);
                let row = row.ok_or_else(|| Error::NotFound(ResourceKind::Config, shown(&config.id)))?;
                let new = self.row(config, Some(row), row.ordinal, &at, &mut check)?;
                if new != *row {
                    planned.changed.push(new);
                }
            }
        }
        check.finish()?;
        planned.deleted = old.into_values().map(|row| row.id).collect();
        planned.deleted.sort_unstable();
        Ok(planned)
    }

    fn row(
        &self,
        new: &NewConfig,
        old: Option<&lb_configs::Model>,
        ordinal: i32,
        at: &str,
        check: &mut Check,
    ) -> Result<lb_configs::Model, Error> {
        let id = old.map_or_else(Uuid::now_v7, |row| row.id);
        let link = self.link(new, old);
        let fields = match link {
            Some(_) => fields::NONE.to_owned(),
            None => self.fields(new, old, id, at, check)?,
        };
        if link.is_some() && !new.base_url.is_empty() {
            let home = provider_address(self.parts.kind, &self.parts.provider.base_url);
            if !same_origin(home, &new.base_url) {
                check.add(
                    format!("{at}.base_url"),
                    "a linked credential may not leave the provider's scheme, host and port",
                );
            }
        }
        if link.is_none() {
            check.required_text(&format!("{at}.name"), &new.name);
        }
        let source = match (link, old) {
            (Some(link), _) if link.model.is_empty() => source_name(ConfigFrom::PredefinedModel),
            (Some(_), _) => source_name(ConfigFrom::CustomModel),
            (None, Some(old)) if self.from == ConfigFrom::Any => &old.source,
            (None, _) => source_name(self.from),
        };
        Ok(lb_configs::Model {
            id,
            tenant_id: self.parts.tenant.id,
            model_id: self.parts.model.id,
            ordinal,
            source: source.to_owned(),
            name: if link.is_some() { String::new() } else { new.name.clone() },
            credential_id: link.map(|link| link.id),
            fields,
            enabled: new.enabled.unwrap_or_default(),
            weight: new.weight.unwrap_or(1),
            priority: new.priority,
            base_url: new.base_url.clone(),
            upstream_model: new.upstream_model.clone(),
            requests_per_minute: stored(new.limits.requests_per_minute),
            tokens_per_minute: stored(new.limits.tokens_per_minute),
            max_concurrency: stored(new.limits.max_concurrency),
        })
    }

    /// The credential a row is to use: the one sent, else the one it had where nothing takes its place.
    fn link(&self, new: &NewConfig, old: Option<&lb_configs::Model>) -> Option<&credentials::Model> {
        if let Ok(id) = new.credential_id.parse::<Uuid>() {
            return self.linked.get(&id);
        }
        if !new.credentials.is_empty() {
            return None;
        }
        let id = old?.credential_id?;
        self.parts.credentials.get(&id).map(AsRef::as_ref)
    }

    /// The fields of an inline row, ready to be stored.
    fn fields(
        &self,
        new: &NewConfig,
        old: Option<&lb_configs::Model>,
        id: Uuid,
        at: &str,
        check: &mut Check,
    ) -> Result<String, Error> {
        // Where a link is replaced, nothing is stored yet.
        let old = old.filter(|row| row.credential_id.is_none());
        let (json, kept) = match old {
            Some(row) if new.credentials.is_empty() && row.fields != fields::NONE => {
                (row.fields.clone(), fields::hold_secret(&row.fields))
            }
            _ if new.credentials.is_empty() && new.base_url.is_empty() => {
                check.add(
                    format!("{at}.credentials"),
                    "a credential_id, credentials or a base_url is required",
                );
                return Ok(fields::NONE.to_owned());
            }
            _ => {
                let writing = Writing {
                    kind: self.parts.kind,
                    holder: Holder::config(id),
                    stored: old.map(|row| row.fields.as_str()),
                    keys: &self.parts.keys,
                    seal_with: self.seal_with,
                };
                let written = writing.write(&new.credentials, &format!("{at}.credentials"), check)?;
                if !written.any && new.base_url.is_empty() {
                    check.add(
                        format!("{at}.credentials"),
                        "a credential_id, credentials or a base_url is required",
                    );
                }
                (written.json, written.kept)
            }
        };
        let home = &self.parts.provider.base_url;
        let moved = |row: &lb_configs::Model| {
            let before = config_address(self.parts.kind, home, &row.base_url);
            !same_origin(before, config_address(self.parts.kind, home, &new.base_url))
        };
        if kept && old.is_some_and(moved) {
            check.add(
                format!("{at}.base_url"),
                "another scheme, host or port needs the secrets in the same request",
            );
        }
        Ok(json)
    }
}
