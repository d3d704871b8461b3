//! Finds the pool that serves a call. It is in memory, or is loaded once.

use crate::{
    catalog::{
        compiled::{load::Filter, refresh::Loaded},
        handle::Catalog,
        names,
        stored::{find, patiently},
        types::{Error, ModelKey, Pool, ResourceKind},
    },
    provider::ModelType,
};
use std::sync::Arc;

impl Catalog {
    /// The pools in memory that `wanted` picks.
    #[must_use]
    pub fn pools(&self, wanted: impl Fn(&Pool) -> bool) -> Vec<Arc<Pool>> {
        self.cache().pools(wanted)
    }

    /// The pool of a model, from memory alone. `None` also where the model cannot be compiled.
    #[must_use]
    pub fn pool(&self, key: &ModelKey) -> Option<Arc<Pool>> {
        match names::canonical(&key.provider) {
            name if name == key.provider => self.cache().pool(key),
            name => self.cache().pool(&ModelKey { provider: name.to_owned(), ..key.clone() }),
        }
    }

    /// The pool of a call: by name, by alias where no provider is given, or the tenant's default where neither provider nor
    /// model is. From memory; one that is not there is loaded once.
    ///
    /// # Errors
    /// [`Error::NotFound`] says which of tenant, provider and model is missing; [`Error::Invalid`] names fields of the
    /// key, without `key.` before them; [`Error::Unusable`] where the model cannot be compiled.
    pub async fn resolve(
        &self,
        tenant: &str,
        provider: &str,
        model_type: ModelType,
        model: &str,
    ) -> Result<Arc<Pool>, Error> {
        let key = if provider.is_empty() {
            self.meant(tenant, model_type, model).await?
        } else {
            ModelKey {
                tenant: tenant.to_owned(),
                provider: names::canonical(provider).to_owned(),
                model_type,
                model: model.to_owned(),
            }
        };
        if let Some(pool) = self.cache().pool(&key) {
            return Ok(pool);
        }
        // Apart, so that what happens once in a while takes no room in every call.
        Box::pin(self.load_pool(key)).await
    }

    async fn load_pool(&self, key: ModelKey) -> Result<Arc<Pool>, Error> {
        // A name that is not there never reaches the lock, so that it holds up nobody.
        let key = names::key_parts(&key)?;
        let cache = self.cache();
        if cache.is_unusable(&key) {
            return Err(Error::Unusable);
        }
        let located = patiently(find::locate(self.db(), &key)).await?;
        let _loading = cache.loading.lock().await;
        if let Some(pool) = cache.pool(&key) {
            return Ok(pool);
        }
        self.load_pools(Filter::Model(located.model.id), &mut Loaded::default()).await?;
        match cache.pool(&key) {
            Some(pool) => Ok(pool),
            None if cache.is_unusable(&key) => Err(Error::Unusable),
            None => Err(Error::NotFound(ResourceKind::Model, names::shown(&key.model))),
        }
    }

    pub(super) async fn default_key(&self, tenant: &str, model_type: ModelType) -> Result<ModelKey, Error> {
        if let Some((key, _)) = self.cache().default_model(tenant, model_type) {
            return Ok(key);
        }
        Box::pin(self.default_model(tenant, model_type)).await.map(|(key, _)| key)
    }
}
