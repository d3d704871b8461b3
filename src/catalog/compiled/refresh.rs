//! Loads what this replica serves from: all of it, or what a change touches.
//!
//! A panic or a row that cannot be read stops its own model alone. A model whose compiling panics is kept as unusable until
//! it is changed; one that cannot be read is left out, and its next call tries again.

use crate::catalog::{
    compiled::{
        cache::Entry,
        compile,
        load::{self, DefaultModel, Filter, Parts},
    },
    handle::Catalog,
    stored::{
        Change, Reload, aliases,
        entity::{tenants, tokens},
        find, patiently,
    },
    types::{Error, ModelAlias, ModelKey},
};
use futures::FutureExt;
use sea_orm::{DbErr, EntityTrait, PaginatorTrait};
use std::{
    collections::HashSet,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use uuid::Uuid;

/// What a load has come to.
#[derive(Default)]
pub(super) struct Loaded {
    /// The models that are there, by row id.
    pub(super) present: HashSet<Uuid>,
    /// The entries that were replaced or removed.
    left: Vec<(ModelKey, Entry)>,
    /// The tenant that turned out to be gone.
    tenant_gone: Option<Uuid>,
}

impl Catalog {
    /// Loads everything, 500 models a page. Call it before serving.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`]; what was loaded before stays.
    pub async fn load(&self) -> Result<(), Error> {
        let cache = self.cache();
        let _loading = cache.loading.lock().await;
        // Read first: what changes during the load is read again from the outbox.
        let last = patiently(find::last_number(self.db())).await?;
        let mut loaded = Loaded::default();
        self.load_pools(Filter::All, &mut loaded).await?;
        loaded.left.extend(cache.keep_pools(&loaded.present));
        self.tell_gone(loaded.left, &[]);
        cache.set_defaults(self.load_defaults(None).await?, |_| true);
        if let Some(found) = self.load_aliases(None).await? {
            cache.set_aliases(found, |_| true);
        }
        // After a gap in the outbox a revocation may have been missed.
        cache.forget_tokens(|_| true);
        cache.set_seen(last);
        Ok(())
    }

    /// Loads anew what changes touch: swaps in what is there and removes what is not. Each is loaded by itself, so that who
    /// waits to load another waits for one.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`] at once. Any other error comes after the other changes are loaded; what its change
    /// touches is out of memory then, and is loaded by the next call that needs it.
    pub(in crate::catalog) async fn refresh(&self, changes: &[Change]) -> Result<(), Error> {
        let cache = self.cache();
        let mut tenants = HashSet::new();
        let mut failed = Ok(());
        for &change in changes {
            let _loading = cache.loading.lock().await;
            match self.contain(self.refresh_one(change)).await {
                Ok(Loaded { left, tenant_gone, .. }) => self.tell_gone(left, tenant_gone.as_slice()),
                Err(Error::DatabaseUnavailable) => return Err(Error::DatabaseUnavailable),
                Err(error) => {
                    tracing::error!(?change, %error, "a change cannot be loaded: what it touches left memory");
                    self.drop_stale(change.reload);
                    failed = Err(error);
                }
            }
            if !matches!(change.reload, Reload::Token(_)) {
                tenants.extend(change.tenant);
            }
        }
        for tenant in tenants {
            let _loading = cache.loading.lock().await;
            let found = self.load_defaults(Some(tenant)).await?;
            cache.set_defaults(found, |id| id == tenant);
            if let Some(found) = self.load_aliases(Some(tenant)).await? {
                cache.set_aliases(found, |id| id == tenant);
            }
        }
        failed
    }

    async fn refresh_one(&self, change: Change) -> Result<Loaded, Error> {
        let cache = self.cache();
        let filter = match change.reload {
            Reload::Tenant(id) => Filter::Tenant(id),
            Reload::Provider(id) => Filter::Provider(id),
            Reload::Model(id) => Filter::Model(id),
            Reload::Token(id) => {
                // One that is new may be in use already, and must not need the database again.
                if !patiently(self.has_token(id)).await? {
                    cache.forget_tokens(|cached| cached.caller.token == id);
                }
                return Ok(Loaded::default());
            }
        };
        let mut loaded = Loaded::default();
        self.load_pools(filter, &mut loaded).await?;
        // As with tokens: those of a tenant that is new may be in use already.
        if let Reload::Tenant(id) = change.reload
            && !patiently(self.has_tenant(id)).await?
        {
            cache.forget_tokens(|cached| cached.tenant == Some(id));
            loaded.tenant_gone = Some(id);
        }
        // A model that is there can have replaced nothing but itself.
        if !matches!(filter, Filter::Model(_)) || loaded.present.is_empty() {
            loaded.left.extend(cache.keep_pools_within(change.reload, &loaded.present));
        }
        Ok(loaded)
    }

    /// Removes all that a change touches.
    fn drop_stale(&self, reload: Reload) {
        let cache = self.cache();
        // It is there, so that its state stays.
        drop(cache.keep_pools_within(reload, &HashSet::new()));
        match reload {
            Reload::Token(id) => cache.forget_tokens(|cached| cached.caller.token == id),
            Reload::Tenant(id) => cache.forget_tokens(|cached| cached.tenant == Some(id)),
            Reload::Provider(_) | Reload::Model(_) => {}
        }
    }

    /// Loads and swaps in, page by page; notes which models are there.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`], and any other where a single model is asked for. Otherwise a model that cannot be
    /// read is left out.
    pub(super) async fn load_pools(&self, filter: Filter, loaded: &mut Loaded) -> Result<(), Error> {
        let mut after = None;
        loop {
            after = match self.load_page(filter, after, loaded).await {
                Ok(next) => next,
                Err(Error::DatabaseUnavailable) => return Err(Error::DatabaseUnavailable),
                Err(error) if matches!(filter, Filter::Model(_)) => return Err(error),
                Err(_) => self.load_each(filter, after, loaded).await?,
            };
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Loads a page whose rows cannot be read together, model by model. Returns where the next page begins.
    async fn load_each(
        &self,
        filter: Filter,
        mut after: Option<Uuid>,
        loaded: &mut Loaded,
    ) -> Result<Option<Uuid>, Error> {
        for _ in 0..load::PAGE {
            let Some(model) = patiently(load::next(self.db(), filter, after)).await? else { return Ok(None) };
            after = Some(model);
            match self.load_page(Filter::Model(model), None, loaded).await {
                Ok(_) => {}
                Err(Error::DatabaseUnavailable) => return Err(Error::DatabaseUnavailable),
                Err(_) => tracing::error!(%model, "a model is left out: what is stored of it cannot be read"),
            }
        }
        Ok(after)
    }

    /// Loads a page and swaps it in. Returns where the next one begins.
    async fn load_page(
        &self,
        filter: Filter,
        after: Option<Uuid>,
        loaded: &mut Loaded,
    ) -> Result<Option<Uuid>, Error> {
        let page = self.contain(self.read_page(filter, after)).await?;
        for parts in page.parts {
            loaded.present.insert(parts.model.id);
            loaded.left.extend(self.compile(parts));
        }
        Ok(page.next)
    }

    async fn read_page(&self, filter: Filter, after: Option<Uuid>) -> Result<load::Page, Error> {
        patiently(async {
            let tx = self.db().begin_read().await?;
            let page = load::page(&tx, self.ring(), filter, after, load::PAGE).await?;
            tx.commit().await?;
            Ok::<_, DbErr>(page)
        })
        .await
    }

    /// Compiles a model and swaps it in. Returns what it replaces.
    fn compile(&self, parts: Parts) -> Option<(ModelKey, Entry)> {
        let pool = catch_unwind(AssertUnwindSafe(|| Arc::new(compile::pool(&parts)))).ok();
        if pool.is_none() {
            self.panicked();
            let ModelKey { tenant, provider, model, .. } = &parts.key;
            tracing::error!(tenant, provider, model, "a model is unusable: compiling it panics");
        }
        let (tenant, provider, model) = (parts.tenant.id, parts.provider.id, parts.model.id);
        let replaced = self.cache().set_pool(parts.key.clone(), Entry { tenant, provider, model, pool });
        replaced.map(|entry| (parts.key, entry))
    }

    /// The default models of a tenant, or of all. Those that cannot be read are none: a call looks its own up.
    async fn load_defaults(&self, tenant: Option<Uuid>) -> Result<Vec<DefaultModel>, Error> {
        match self.contain(patiently(load::defaults(self.db(), tenant))).await {
            Err(Error::Internal) => Ok(Vec::new()),
            found => found,
        }
    }

    /// The aliases of a tenant, or of all, each with its tenant's row id. `None` where they cannot be read: those that are
    /// known stay.
    async fn load_aliases(&self, tenant: Option<Uuid>) -> Result<Option<Vec<(Uuid, ModelAlias)>>, Error> {
        match self.contain(patiently(aliases::all(self.db(), tenant))).await {
            Err(Error::Internal) => Ok(None),
            Err(error) => Err(error),
            Ok(rows) => {
                // One whose target is of a type that this build does not know is none.
                let known = rows.into_iter().filter_map(|row| Some((row.tenant_id, row.alias()?)));
                Ok(Some(known.collect()))
            }
        }
    }

    /// Runs a step. A panic ends that step alone: it is counted, and is an [`Error::Internal`].
    fn contain<T>(
        &self,
        step: impl Future<Output = Result<T, Error>> + Send,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        // On the heap: every change carries this future, and few calls need it.
        let step = AssertUnwindSafe(Box::pin(step)).catch_unwind();
        step.map(|done| {
            done.unwrap_or_else(|_| {
                self.panicked();
                Err(Error::Internal)
            })
        })
    }

    /// Whether that tenant is there.
    async fn has_tenant(&self, id: Uuid) -> Result<bool, DbErr> {
        Ok(tenants::Entity::find_by_id(id).count(self.db()).await? > 0)
    }

    /// Whether that token is there.
    async fn has_token(&self, id: Uuid) -> Result<bool, DbErr> {
        Ok(tokens::Entity::find_by_id(id).count(self.db()).await? > 0)
    }
}
