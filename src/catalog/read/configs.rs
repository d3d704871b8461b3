//! Reads of a model's configs, and what a trial of one needs.

use crate::catalog::{
    Catalog, Config, ConfigFrom, ConfigSet, Error, INHERIT, ModelKey, Thing,
    compiled::compile::{self, Row, kind_of, provider_address},
    compiled::load::{self, Parts},
    names::{self, Check, shown},
    secrets::fields,
    stored::database::{begin_read, locate},
};
use crate::provider::{KindSpec, Target};
use std::collections::BTreeMap;
use url::Url;

impl Catalog {
    /// Everything a model is compiled from, read at one moment.
    async fn parts(&self, key: &ModelKey) -> Result<(Parts, &'static KindSpec), Error> {
        let tx = begin_read(self.db()).await?;
        let located = locate(&tx, key).await?;
        let parts = load::one(&tx, self.ring(), located.model.id).await?.ok_or(Error::Internal)?;
        tx.commit().await?;
        let kind = kind_of(&parts).ok_or(Error::Internal)?;
        Ok((parts, kind))
    }

    /// A model's configs in ring order, `__inherit__` first where it is one.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn configs(&self, key: &ModelKey, from: ConfigFrom) -> Result<ConfigSet, Error> {
        let key = names::key(key)?;
        let (parts, kind) = self.parts(&key).await?;
        Ok(compile::config_set(&parts, kind, from))
    }

    /// One config of a model.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn config(&self, key: &ModelKey, id: &str) -> Result<Config, Error> {
        let set = self.configs(key, ConfigFrom::Any).await?;
        let found = set.configs.into_iter().find(|config| config.id == id);
        found.ok_or_else(|| Error::NotFound(Thing::Config, shown(id)))
    }

    /// Where a trial of credentials goes: fields that are not stored, a stored config, or a stored config with some
    /// fields replaced. A stored secret goes to the address it is stored for and nowhere else.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the fields, [`Error::NotFound`] for model and config, [`Error::SecretUnreadable`] for a
    /// stored config.
    pub async fn trial_target(
        &self,
        key: &ModelKey,
        credentials: BTreeMap<String, String>,
        config_id: &str,
        base_url: &str,
    ) -> Result<(&'static KindSpec, Target), Error> {
        let key = names::key(key)?;
        let mut check = Check::default();
        let address = check.address("base_url", base_url, self.networks());
        if !config_id.is_empty() && !base_url.is_empty() {
            check.add("base_url", "cannot be given with config_id: a stored secret stays with its address");
        }
        check.finish()?;
        let (parts, kind) = self.parts(&key).await?;
        let stored = if config_id.is_empty() { None } else { Some(stored_target(&parts, kind, config_id)?) };
        let old = stored.iter().flat_map(|target| target.fields.iter());
        let old = old.map(|(name, value)| (name.to_owned(), value.clone())).collect();
        let mut check = Check::default();
        let fields = fields::for_trial(kind, &credentials, &old, "credentials", &mut check);
        check.finish()?;
        if let Some(target) = stored {
            return Ok((kind, Target { fields: fields.into_iter().collect(), ..target }));
        }
        let base_url = match address {
            Some(url) => url,
            None => Url::parse(provider_address(kind, &parts.provider.base_url))
                .map_err(|_| Error::invalid("base_url", "is required"))?,
        };
        let upstream = &parts.model.upstream_model;
        let model = if upstream.is_empty() { parts.model.name.clone() } else { upstream.clone() };
        Ok((kind, Target { base_url, model, fields: fields.into_iter().collect() }))
    }
}

fn stored_target(parts: &Parts, kind: &'static KindSpec, id: &str) -> Result<Target, Error> {
    let row: Option<Row> = if id == INHERIT {
        compile::single(parts, kind)
    } else {
        compile::rows(parts, kind).into_iter().find(|row| row.config.id == id)
    };
    let row = row.ok_or_else(|| Error::NotFound(Thing::Config, shown(id)))?;
    row.target.ok_or(Error::SecretUnreadable)
}
