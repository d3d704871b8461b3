//! Replaces a model's set of configs, all or nothing: checks what the request alone tells, and saves what `config_plan` makes
//! of it.

use crate::{
    balance::Limits,
    catalog::{
        compiled::compile,
        names::{self, Check},
        stored::{Reload, entity::lb_configs, locate, patiently},
        types::{Bounds, ConfigFrom, ConfigSet, Error, INHERIT, ModelKey, NewConfig},
        write::{
            config_plan::{CONFIGS_OF_MODEL, Ready, Request},
            quota,
            writer::{Write, Writer},
        },
    },
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter};
use std::collections::HashSet;

/// How often a set is prepared outside the lock before it is prepared under it.
const TRIES: usize = 2;
/// The integers of the weighted strategy stay exact in Lua up to here.
const MOST_WEIGHT: i32 = 10_000;
const MOST_LIMIT: u32 = 1_000_000_000;

impl Writer {
    /// Replaces the configs of that source, and those of no source. Configs that the request omits are deleted.
    ///
    /// What takes time with a large set is prepared before the change takes the lock that all writers wait for. Under the lock
    /// it is only seen whether anything has changed since, and the rows are written.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`] for the model, a config or a credential, [`Error::StaleRevision`],
    /// [`Error::Quota`]. Then nothing has changed.
    pub async fn update_configs(
        &self,
        key: &ModelKey,
        from: ConfigFrom,
        revision: i64,
        configs: Vec<NewConfig>,
    ) -> Result<ConfigSet, Error> {
        let key = names::key(key)?;
        self.check_request(&configs)?;
        self.check_count(&key, &configs).await?;
        let request = Request { key: &key, from, revision, configs: &configs };
        let mut turn = self.turn().await?;
        for _ in 0..TRIES {
            let moment = self.catalog.db().begin_read().await?;
            let ready = request.prepare(&moment, &self.catalog).await?;
            moment.commit().await?;
            let write = self.begin_in(turn).await?;
            if ready.still_holds(&write).await? {
                return save(write, ready, from).await;
            }
            turn = write.abandon().await?;
        }
        // What it builds on changes all the time.
        let write = self.begin_in(turn).await?;
        let ready = request.prepare(&write.tx, &self.catalog).await?;
        save(write, ready, from).await
    }

    /// Refuses a set that is above the quota before anything is done with it. One that was above it before may be saved as
    /// long as it does not grow.
    async fn check_count(&self, key: &ModelKey, configs: &[NewConfig]) -> Result<(), Error> {
        let most = self.catalog.bounds().configs_per_model;
        let wanted = configs.iter().filter(|config| config.id != INHERIT).count() as u64;
        if wanted <= most {
            return Ok(());
        }
        let db = self.catalog.db();
        let model = locate(db, key).await?.model.id;
        let stored = lb_configs::Entity::find().filter(lb_configs::Column::ModelId.eq(model)).count(db);
        quota::check_growth(patiently(stored).await?, wanted, most, CONFIGS_OF_MODEL)
    }

    /// What the request alone tells.
    fn check_request(&self, configs: &[NewConfig]) -> Result<(), Error> {
        if configs.len() as u64 > Bounds::MOST_CONFIGS_PER_MODEL {
            return Err(Error::invalid(
                "configs",
                format!("are more than {}", Bounds::MOST_CONFIGS_PER_MODEL),
            ));
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

/// Writes what was prepared, and commits.
async fn save(write: Write<'_>, ready: Ready, from: ConfigFrom) -> Result<ConfigSet, Error> {
    let Ready { statements, event, parts, added, .. } = ready;
    if added > 0 {
        let of_tenant = lb_configs::Column::TenantId.eq(parts.tenant.id);
        let stored = lb_configs::Entity::find().filter(of_tenant).count(&write.tx).await?;
        quota::check(stored + added, write.bounds().configs, "configs of a tenant")?;
    }
    for statement in statements {
        write.tx.execute_raw(statement).await?;
    }
    write.commit(Some(parts.tenant.id), Reload::Model(parts.model.id), event).await?;
    Ok(compile::config_set(&parts, from))
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
