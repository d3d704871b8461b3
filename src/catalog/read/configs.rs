//! Lists a model's configs, and finds what a validation of one calls.

use crate::{
    catalog::{
        addresses::provider_address,
        compiled::{
            compile,
            load::{self, Parts},
        },
        handle::Catalog,
        names::{self, Check, shown},
        secrets::fields,
        stored::{locate, switches},
        types::{ConfigFrom, ConfigSet, Error, INHERIT, ModelKey, ResourceKind},
    },
    provider::{KindSpec, Target},
};
use std::collections::BTreeMap;
use url::Url;

impl Catalog {
    /// Everything a model is compiled from, read at one moment.
    async fn parts(&self, key: &ModelKey) -> Result<Parts, Error> {
        let tx = self.db().begin_read().await?;
        let located = locate(&tx, key).await?;
        let parts = load::one(&tx, self.ring(), located.model.id).await?;
        tx.commit().await?;
        Ok(parts)
    }

    /// A model's configs in ring order, `__inherit__` first where it is one.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn configs(&self, key: &ModelKey, from: ConfigFrom) -> Result<ConfigSet, Error> {
        let parts = self.parts(&*names::key(key)?).await?;
        Ok(compile::config_set(&parts, from))
    }

    /// What a validation of a config's credentials calls: fields that are not stored, a stored config, or a stored config
    /// with some fields replaced. A stored secret goes to the address it is stored for and nowhere else.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the fields, [`Error::NotFound`] for model and config, [`Error::SecretUnreadable`] for a
    /// stored config.
    pub async fn config_target(
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
        let parts = self.parts(&key).await?;
        let kind = parts.kind;
        let stored = if config_id.is_empty() { None } else { Some(stored_target(&parts, config_id)?) };
        let old = stored.iter().flat_map(|target| target.fields.iter());
        let old = old.map(|(name, value)| (name.to_owned(), value.clone())).collect();
        let mut check = Check::default();
        let fields = fields::to_validate(kind, &credentials, &old, "credentials", &mut check);
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
        let switches = switches(&parts.provider.switches);
        Ok((
            kind,
            Target {
                tenant: parts.tenant.id,
                base_url,
                model,
                fields: fields.into_iter().collect(),
                switches,
                connect_timeout: None,
            },
        ))
    }
}

fn stored_target(parts: &Parts, id: &str) -> Result<Target, Error> {
    let row = if id == INHERIT {
        compile::single(parts)
    } else {
        compile::rows(parts).into_iter().find(|row| row.config.id == id)
    };
    let row = row.ok_or_else(|| Error::NotFound(ResourceKind::Config, shown(id)))?;
    row.target.ok_or(Error::SecretUnreadable)
}
