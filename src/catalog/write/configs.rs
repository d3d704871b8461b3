//! Replaces a model's set of configs, all or nothing.
//!
//! What the request alone tells is checked before the transaction begins, so that a malformed request holds up nobody. The rest
//! is checked against the stored rows inside the transaction.

use crate::{
    balance::Limits,
    catalog::{
        addresses::{config_address, provider_address, same_origin},
        compiled::{
            compile,
            load::{self, Parts},
        },
        names::{self, Check, shown},
        secrets::{
            fields::{self, Holder, Writing},
            key_ring::DataKey,
            tenant_keys::sealing_key,
        },
        stored::{
            Inherit, Located, Reload,
            entity::{credentials, lb_configs},
            in_listing, locate, source_name,
        },
        types::{ConfigFrom, ConfigSet, Error, INHERIT, ModelKey, NewConfig, ResourceKind},
        write::{
            audit::{self, Event},
            writer::{Writer, check_revision},
        },
    },
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, Iterable,
    QueryFilter, Set, sea_query::OnConflict,
};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// The most configs of a model.
const MOST: usize = 1000;
/// The integers of the weighted strategy stay exact in Lua up to here.
const MOST_WEIGHT: i32 = 10_000;
const MOST_LIMIT: u32 = 1_000_000_000;

impl Writer {
    /// Replaces the configs of that source, and those of no source. Configs that the request omits are deleted.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`] for the model, a config or a credential, [`Error::StaleRevision`]. Then
    /// nothing has changed.
    pub async fn update_configs(
        &self,
        key: &ModelKey,
        from: ConfigFrom,
        revision: i64,
        configs: Vec<NewConfig>,
    ) -> Result<ConfigSet, Error> {
        let key = names::key(key)?;
        self.check_request(&configs)?;
        let write = self.begin().await?;
        let Located { tenant, model, .. } = locate(&write.tx, &key).await?;
        check_revision(revision, model.lb_revision)?;
        let parts = load::one(&write.tx, self.catalog.ring(), model.id).await?;
        let linked = linked(&write.tx, &parts, &configs).await?;
        let seal_with = sealing_key(&parts.keys, &tenant)?;
        let plan = Plan { parts: &parts, from, linked, seal_with }.build(&configs)?;

        let event = plan.event(&key, &parts);
        // Two statements whatever the size of the set: a thousand round trips would hold up all other writers.
        if !plan.deleted.is_empty() {
            lb_configs::Entity::delete_many()
                .filter(lb_configs::Column::Id.is_in(plan.deleted))
                .exec(&write.tx)
                .await?;
        }
        let mut written = plan.changed.into_iter().chain(plan.added).map(Into::into).peekable();
        if written.peek().is_some() {
            lb_configs::Entity::insert_many::<lb_configs::ActiveModel, _>(written)
                .on_conflict(replaced())
                .exec_without_returning(&write.tx)
                .await?;
        }
        let mut update = model.into_active_model();
        update.inherit = Set(plan.inherit.name().to_owned());
        update.next_ordinal = Set(plan.next_ordinal);
        update.lb_revision = Set(parts.model.lb_revision + 1);
        let model = update.update(&write.tx).await?;

        let parts = load::one(&write.tx, self.catalog.ring(), model.id).await?;
        let set = compile::config_set(&parts, from);
        write.commit(Some(tenant.id), Reload::Model(model.id), event).await?;
        Ok(set)
    }

    /// What the request alone tells.
    fn check_request(&self, configs: &[NewConfig]) -> Result<(), Error> {
        if configs.len() > MOST {
            return Err(Error::invalid("configs", format!("are more than {MOST}")));
        }
        let mut check = Check::default();
        let mut ids = HashSet::new();
        for (index, config) in configs.iter().enumerate() {
            let at = |field: &str| format!("configs[{index}].{field}");
            if !config.id.is_empty() && !ids.insert(config.id.as_str()) {
                check.add(at("id"), "stands in this set twice");
            }
            if config.enabled.is_none() {
                check.add(at("enabled"), "is required");
            }
            if config.id == INHERIT {
                check_inherit(config, &at, &mut check);
                continue;
            }
            if config.name == INHERIT {
                check.add(at("name"), "is reserved");
            }
            check.text(&at("name"), &config.name);
            if !config.credential_id.is_empty() && !config.credentials.is_empty() {
                check.add(at("credential_id"), "cannot stand together with credentials");
            }
            if config.weight.is_some_and(|weight| weight < 0) {
                check.add(at("weight"), "must not be negative");
            }
            if config.weight.is_some_and(|weight| weight > MOST_WEIGHT) {
                check.add(at("weight"), format!("is at most {MOST_WEIGHT}"));
            }
            let Limits { requests_per_minute, tokens_per_minute, max_concurrency } = config.limits;
            let limits = [
                ("requests_per_minute", requests_per_minute),
                ("tokens_per_minute", tokens_per_minute),
                ("max_concurrency", max_concurrency),
            ];
            for (field, limit) in limits {
                if limit > MOST_LIMIT {
                    check.add(at(&format!("limits.{field}")), format!("is at most {MOST_LIMIT}"));
                }
            }
            check.address(&at("base_url"), &config.base_url, self.catalog.networks());
            check.text(&at("upstream_model"), &config.upstream_model);
        }
        check.finish()
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

/// The virtual config can be switched on and off, nothing else: there is no row to keep more in.
fn check_inherit(config: &NewConfig, at: &impl Fn(&str) -> String, check: &mut Check) {
    const FIXED: &str = "cannot be set for __inherit__";
    if !config.credentials.is_empty() {
        check.add(at("credentials"), FIXED);
    }
    if !config.credential_id.is_empty() {
        check.add(at("credential_id"), FIXED);
    }
    if config.weight.is_some_and(|weight| weight != 1) {
        check.add(at("weight"), FIXED);
    }
    if config.priority != 0 {
        check.add(at("priority"), FIXED);
    }
    if !config.base_url.is_empty() {
        check.add(at("base_url"), FIXED);
    }
    if !config.upstream_model.is_empty() {
        check.add(at("upstream_model"), FIXED);
    }
    if !config.limits.is_none() {
        check.add(at("limits"), FIXED);
    }
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
    linked: HashMap<Uuid, credentials::Model>,
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
    /// Of a large set, what changes alone.
    fn event(&self, key: &ModelKey, parts: &Parts) -> Event {
        let changed = self.changed.iter().map(|new| new.id);
        let touched: HashSet<Uuid> = self.deleted.iter().copied().chain(changed).collect();
        let before: Vec<_> = parts.configs.iter().filter(|row| touched.contains(&row.id)).collect();
        let after: Vec<_> = self.changed.iter().chain(&self.added).collect();
        Event::new("UpdateLoadBalancingConfigs", &key.tenant, audit::model(key))
            .before(&json!({ INHERIT: parts.model.inherit, "configs": before }))
            .after(&json!({ INHERIT: self.inherit.name(), "configs": after }))
    }
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
