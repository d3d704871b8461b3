//! What this replica serves from: compiled pools, default models and known tokens, all in memory.
//!
//! Every load runs under one lock and begins its reads after taking it, so a later load never loses to an earlier one.
//! When the database is gone, what is here goes on serving; what is not answers [`Error::DatabaseUnavailable`].

use crate::catalog::{
    Caller, Catalog, Error, ModelKey, Pool, Thing,
    compiled::compile,
    compiled::load::{self, DefaultModel, Filter},
    names,
    stored::database::{self, Change, Scope, begin_read, patiently},
};
use crate::provider::ModelType;
use dashmap::DashMap;
use sea_orm::{ConnectionTrait, DbErr, Statement};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};
use tokio::sync::Mutex;
use uuid::Uuid;

/// A number no outbox row has: nothing was loaded yet.
const UNSEEN: i64 = -1;

struct Entry {
    pool: Arc<Pool>,
    provider: Uuid,
}

struct Defaults {
    tenant: Uuid,
    models: HashMap<ModelType, (ModelKey, bool)>,
}

/// A token that was valid when it was looked up.
pub(in crate::catalog) struct KnownToken {
    pub caller: Arc<Caller>,
    pub tenant: Option<Uuid>,
    pub expires_at: Option<i64>,
}

/// The memory of one replica.
pub(in crate::catalog) struct Snapshot {
    pools: DashMap<ModelKey, Entry>,
    /// By the tenant's id.
    defaults: DashMap<String, Defaults>,
    /// By the hash of the secret.
    tokens: DashMap<[u8; 32], Arc<KnownToken>>,
    /// When each token was last used here, by its row id, and whether that is still to be stored.
    uses: DashMap<Uuid, (i64, bool)>,
    /// Counts revocations, so that a lookup that overlapped one is not kept.
    revocations: AtomicU64,
    /// The last outbox row that was taken in.
    seen: AtomicI64,
    loading: Mutex<()>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            pools: DashMap::new(),
            defaults: DashMap::new(),
            tokens: DashMap::new(),
            uses: DashMap::new(),
            revocations: AtomicU64::new(0),
            seen: AtomicI64::new(UNSEEN),
            loading: Mutex::new(()),
        }
    }
}

impl Snapshot {
    /// The last outbox row that was taken in; none before the first load.
    pub fn seen(&self) -> Option<i64> {
        Some(self.seen.load(Ordering::Acquire)).filter(|&seen| seen != UNSEEN)
    }

    /// Notes the last outbox row that was taken in.
    pub fn set_seen(&self, number: i64) {
        self.seen.store(number, Ordering::Release);
    }

    /// A known token.
    pub fn token(&self, hash: &[u8; 32]) -> Option<Arc<KnownToken>> {
        self.tokens.get(hash).map(|known| Arc::clone(&known))
    }

    /// What [`keep_token`](Self::keep_token) wants to know: read before the lookup.
    pub fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::SeqCst)
    }

    /// Keeps a token that was looked up, unless something was revoked meanwhile.
    pub fn keep_token(&self, hash: [u8; 32], known: Arc<KnownToken>, before: u64) {
        self.tokens.insert(hash, known);
        if self.revocations() != before {
            self.tokens.remove(&hash);
        }
    }

    /// Notes that a call came with that token.
    pub fn used(&self, token: Uuid, now: i64) {
        self.uses.insert(token, (now, true));
    }

    /// When a call last came here with that token.
    pub fn last_use(&self, token: Uuid) -> Option<i64> {
        self.uses.get(&token).map(|entry| entry.0)
    }

    /// The uses that are still to be stored.
    pub fn take_uses(&self) -> Vec<(Uuid, i64)> {
        let mut taken = Vec::new();
        for mut entry in self.uses.iter_mut() {
            if std::mem::replace(&mut entry.1, false) {
                taken.push((*entry.key(), entry.0));
            }
        }
        taken
    }

    /// Forgets a token that is no longer of use.
    pub fn forget_token(&self, hash: &[u8; 32]) {
        self.tokens.remove(hash);
    }

    fn forget_tokens(&self, gone: impl Fn(&KnownToken) -> bool) {
        self.revocations.fetch_add(1, Ordering::SeqCst);
        self.tokens.retain(|_, known| {
            let gone = gone(known);
            // What was used and is still to be stored waits for that.
            if gone {
                self.uses.remove_if(&known.caller.token, |_, (_, unstored)| !*unstored);
            }
            !gone
        });
    }

    fn pool(&self, key: &ModelKey) -> Option<Arc<Pool>> {
        self.pools.get(key).map(|entry| Arc::clone(&entry.pool))
    }

    fn default_model(&self, tenant: &str, model_type: ModelType) -> Option<(ModelKey, bool)> {
        self.defaults.get(tenant)?.models.get(&model_type).cloned()
    }

    fn set_defaults(&self, found: Vec<DefaultModel>, gone: impl Fn(Uuid) -> bool) {
        let mut tenants: HashMap<String, Defaults> = HashMap::new();
        for default in found {
            let entry = tenants
                .entry(default.key.tenant.clone())
                .or_insert_with(|| Defaults { tenant: default.tenant, models: HashMap::new() });
            entry.models.insert(default.key.model_type, (default.key, default.computed));
        }
        self.defaults.retain(|name, defaults| !gone(defaults.tenant) || tenants.contains_key(name));
        for (name, defaults) in tenants {
            self.defaults.insert(name, defaults);
        }
    }
}

impl Catalog {
    /// Loads everything, 500 models a page. Call it before serving.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`]; what was loaded before stays.
    pub async fn load(&self) -> Result<(), Error> {
        let snapshot = self.snapshot();
        let _loading = snapshot.loading.lock().await;
        // Read first: what changes during the load is read again from the outbox.
        let last = patiently(self.last_number()).await?;
        let mut present = HashSet::new();
        self.load_pools(Filter::All, &mut present).await?;
        snapshot.pools.retain(|_, entry| present.contains(&entry.pool.roster.id));
        snapshot.set_defaults(patiently(load::defaults(self.db(), None)).await?, |_| true);
        // After a gap in the outbox a revocation may have been missed.
        snapshot.forget_tokens(|_| true);
        snapshot.set_seen(last);
        Ok(())
    }

    async fn last_number(&self) -> Result<i64, DbErr> {
        let sql = Statement::from_string(self.db().get_database_backend(), "SELECT last FROM counter");
        let row = self.db().query_one_raw(sql).await?;
        row.ok_or_else(|| DbErr::RecordNotFound("counter".to_owned()))?.try_get("", "last")
    }

    /// Loads and swaps in, page by page; notes which models are there.
    async fn load_pools(&self, filter: Filter, present: &mut HashSet<Uuid>) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = patiently(async {
                let tx = begin_read(self.db()).await?;
                let page = load::page(&tx, self.ring(), filter, after, load::PAGE).await?;
                tx.commit().await?;
                Ok::<_, DbErr>(page)
            })
            .await?;
            after = page.next;
            for parts in page.parts {
                if let Some(pool) = compile::pool(&parts) {
                    present.insert(parts.model.id);
                    let entry = Entry { pool: Arc::new(pool), provider: parts.provider.id };
                    self.snapshot().pools.insert(parts.key, entry);
                }
            }
            if after.is_none() || matches!(filter, Filter::Model(_)) {
                return Ok(());
            }
        }
    }

    /// Loads scopes anew: swaps in what is there and removes what is not.
    pub(in crate::catalog) async fn refresh(&self, changes: &[Change]) -> Result<(), Error> {
        let snapshot = self.snapshot();
        let _loading = snapshot.loading.lock().await;
        let mut tenants = HashSet::new();
        for &Change { tenant, scope } in changes {
            let filter = match scope {
                Scope::Tenant(id) => Filter::Tenant(id),
                Scope::Provider(id) => Filter::Provider(id),
                Scope::Model(id) => Filter::Model(id),
                Scope::Token(id) => {
                    // One that is new may be in use already, and must not need the database again.
                    if !patiently(self.has_token(id)).await? {
                        snapshot.forget_tokens(|known| known.caller.token == id);
                    }
                    continue;
                }
            };
            let mut present = HashSet::new();
            self.load_pools(filter, &mut present).await?;
            tenants.extend(tenant);
            // As with tokens: those of a tenant that is new may be in use already.
            if let Scope::Tenant(id) = scope
                && !patiently(self.has_tenant(id)).await?
            {
                snapshot.forget_tokens(|known| known.tenant == Some(id));
            }
            // One model that is there can have replaced nothing but itself.
            if matches!(scope, Scope::Model(_)) && !present.is_empty() {
                continue;
            }
            snapshot.pools.retain(|_, entry| {
                let within = match scope {
                    Scope::Tenant(id) => entry.pool.roster.tenant == id,
                    Scope::Provider(id) => entry.provider == id,
                    Scope::Model(id) => entry.pool.roster.id == id,
                    Scope::Token(_) => false,
                };
                !within || present.contains(&entry.pool.roster.id)
            });
        }
        for tenant in tenants {
            let found = patiently(load::defaults(self.db(), Some(tenant))).await?;
            snapshot.set_defaults(found, |id| id == tenant);
        }
        Ok(())
    }

    /// The pools in memory that `wanted` picks.
    #[must_use]
    pub fn pools(&self, wanted: impl Fn(&Pool) -> bool) -> Vec<Arc<Pool>> {
        let pools = self.snapshot().pools.iter().filter(|entry| wanted(&entry.pool));
        pools.map(|entry| Arc::clone(&entry.pool)).collect()
    }

    /// The pool of a model in its one spelling, from memory alone.
    #[must_use]
    pub fn pool(&self, key: &ModelKey) -> Option<Arc<Pool>> {
        match names::canonical(&key.provider) {
            name if name == key.provider => self.snapshot().pool(key),
            name => self.snapshot().pool(&ModelKey { provider: name.to_owned(), ..key.clone() }),
        }
    }

    /// The pool of a call: by name, or the tenant's default where neither provider nor model is given. From memory; one
    /// that is not there is loaded once.
    ///
    /// # Errors
    /// [`Error::NotFound`] says which of tenant, provider and model is missing; [`Error::Invalid`] names fields of the
    /// key, without `key.` before them.
    pub async fn resolve(
        &self,
        tenant: &str,
        provider: &str,
        model_type: ModelType,
        model: &str,
    ) -> Result<Arc<Pool>, Error> {
        let key = if provider.is_empty() && model.is_empty() {
            self.default_key(tenant, model_type).await?
        } else {
            ModelKey {
                tenant: tenant.to_owned(),
                provider: names::canonical(provider).to_owned(),
                model_type,
                model: model.to_owned(),
            }
        };
        if let Some(pool) = self.snapshot().pool(&key) {
            return Ok(pool);
        }
        // Apart, so that what happens once in a while takes no room in every call.
        Box::pin(self.load_pool(key)).await
    }

    async fn load_pool(&self, key: ModelKey) -> Result<Arc<Pool>, Error> {
        // A name that is not there never reaches the lock, so that it holds up nobody.
        let key = names::key_parts(&key)?;
        let located = patiently(database::locate(self.db(), &key)).await?;
        let _loading = self.snapshot().loading.lock().await;
        if let Some(pool) = self.snapshot().pool(&key) {
            return Ok(pool);
        }
        self.load_pools(Filter::Model(located.model.id), &mut HashSet::new()).await?;
        self.snapshot().pool(&key).ok_or_else(|| Error::NotFound(Thing::Model, names::shown(&key.model)))
    }

    async fn default_key(&self, tenant: &str, model_type: ModelType) -> Result<ModelKey, Error> {
        if let Some((key, _)) = self.snapshot().default_model(tenant, model_type) {
            return Ok(key);
        }
        Box::pin(self.default_model(tenant, model_type)).await.map(|(key, _)| key)
    }
}
