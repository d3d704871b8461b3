//! Finds the model that a name means. It is looked up in memory. A name that nothing has here may have been given on another
//! replica, so the outbox is read once more before it is refused.

use crate::{
    catalog::{
        compiled::index::{Found, Names},
        handle::Catalog,
        names,
        types::{Callable, Error, ModelKey, NameError, Pool, ResourceKind},
    },
    provider::ModelType,
};
use std::{borrow::Cow, sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long a call waits for what others have changed.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most names that [`Catalog::callable`] lists.
const MOST_CALLABLE: usize = 10_000;
/// The longest name that can be there, in bytes: `langgenius/provider/provider/` and a model's 256 characters.
const LONGEST: usize = 2 * 64 + 16 + 4 * 256;

impl Catalog {
    /// The pool of the model that a name means: an existing `provider/model`, else an alias, else the name of a model that
    /// only one of the tenant's providers has. Of models of one type, or of all where none is given. From memory; where
    /// nothing has the name, what other replicas have changed is taken in first.
    ///
    /// # Errors
    /// See [`NameError`].
    pub async fn named(
        &self,
        tenant: &str,
        name: &str,
        model_type: Option<ModelType>,
    ) -> Result<Arc<Pool>, NameError> {
        let found = match self.names(tenant).find(name, model_type) {
            // Apart, so that what happens once in a while takes no room in every call.
            Found::Nothing => Box::pin(self.find_again(tenant, name, model_type)).await?,
            found => found,
        };
        let unknown = || NameError::Unknown {
            name: names::shown(name),
            similar: self.names(tenant).similar(name, model_type),
        };
        match found {
            Found::Model(key) => {
                if let Some(pool) = self.cache().pool(&key) {
                    return Ok(pool);
                }
                let load = Box::pin(self.resolve(tenant, &key.provider, key.model_type, &key.model));
                load.await.map_err(|error| match error {
                    // Deleted meanwhile.
                    Error::NotFound(ResourceKind::Provider | ResourceKind::Model, _) => unknown(),
                    error => error.into(),
                })
            }
            Found::Several(candidates) => Err(NameError::Ambiguous { name: names::shown(name), candidates }),
            Found::Nothing => Err(unknown()),
        }
    }

    /// What a tenant can call, as far as it is enabled: each model as `provider/model`, and each alias. By name, at most
    /// 10,000. A model that serves several types is there once for each.
    #[must_use]
    pub fn callable(&self, tenant: &str) -> Vec<Callable> {
        let names = self.names(tenant);
        let serving = |key: &ModelKey| self.cache().pool(key).filter(|pool| pool.enabled);
        let models = names.models().filter_map(|target| {
            let context_window = serving(&target)?.context_window;
            let name = format!("{}/{}", target.provider, target.model);
            Some(Callable { name, is_alias: false, target, context_window })
        });
        let aliases = names.aliases().filter_map(|(name, target)| {
            let context_window = serving(target)?.context_window;
            Some(Callable { name: name.to_owned(), is_alias: true, target: target.clone(), context_window })
        });
        let mut callable: Vec<Callable> = models.chain(aliases).collect();
        callable.sort_unstable_by(|one, other| {
            (&one.name, one.target.model_type).cmp(&(&other.name, other.target.model_type))
        });
        callable.truncate(MOST_CALLABLE);
        callable
    }

    /// What a key without a provider means: the tenant's default model where it has no model either, else the target of
    /// the alias that stands in the model's place.
    ///
    /// # Errors
    /// [`Error::NotFound`] without a default model; [`Error::Invalid`] names fields of the key, without `key.` before
    /// them, where it is no alias, or one of a model of another type; [`Error::DatabaseUnavailable`].
    pub async fn meant(&self, tenant: &str, model_type: ModelType, model: &str) -> Result<ModelKey, Error> {
        if model.is_empty() {
            return self.default_key(tenant, model_type).await;
        }
        let known = self.names(tenant).alias(model).cloned();
        let target = if known.is_some() {
            known
        } else {
            Box::pin(self.look_again(model)).await?;
            self.names(tenant).alias(model).cloned()
        };
        match target {
            Some(target) if target.model_type == model_type => Ok(target),
            Some(target) => {
                let reason = format!("is an alias of a model of the type {}", target.model_type.name());
                Err(Error::invalid("model", reason))
            }
            None => {
                let (tenant, provider, model) = (tenant.to_owned(), String::new(), model.to_owned());
                names::key_parts(&ModelKey { tenant, provider, model_type, model }).map(Cow::into_owned)
            }
        }
    }

    async fn find_again(
        &self,
        tenant: &str,
        name: &str,
        model_type: Option<ModelType>,
    ) -> Result<Found, Error> {
        self.look_again(name).await?;
        let found = self.names(tenant).find(name, model_type);
        let (Found::Nothing, Some(model_type)) = (&found, model_type) else { return Ok(found) };
        // One that could not be loaded is in no index. Who calls it by its key is told why.
        for (provider, model) in names::readings(name) {
            match self.resolve(tenant, provider, model_type, model).await {
                Ok(pool) => return Ok(Found::Model(pool.key.clone())),
                Err(Error::NotFound(..) | Error::Invalid(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Takes in what was changed before this was called, if such a name can be there at all.
    async fn look_again(&self, name: &str) -> Result<(), Error> {
        if name.is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) {
            return Ok(());
        }
        let Some(next) = self.rounds().next() else { return self.catch_up().await };
        self.hint();
        match timeout(PATIENCE, next.complete()).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Error::DatabaseUnavailable),
        }
    }

    fn names<'t>(&self, tenant: &'t str) -> Names<'t> {
        self.cache().names(tenant)
    }
}
