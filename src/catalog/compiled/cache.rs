//! What this replica serves from: compiled pools, default models and tokens, all in memory.
//!
//! When the database is gone, what is here goes on serving. Every load of pools holds one lock and begins its reads after
//! taking it, so a later load never loses to an earlier one.

use crate::{
    catalog::{
        compiled::{
            index::{Index, Names},
            load::DefaultModel,
        },
        stored::Reload,
        types::{Caller, ModelAlias, ModelKey, Pool},
    },
    provider::ModelType,
};
use dashmap::DashMap;
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

/// A model that was loaded.
pub(super) struct Entry {
    /// The tenant's row id.
    pub tenant: Uuid,
    /// The provider's row id.
    pub provider: Uuid,
    /// The model's row id.
    pub model: Uuid,
    /// `None` where compiling it has panicked. It serves nobody until it is changed.
    pub pool: Option<Arc<Pool>>,
}

impl Entry {
    /// Whether it is one of those that are loaded anew.
    fn is_within(&self, reload: Reload) -> bool {
        match reload {
            Reload::Tenant(id) => self.tenant == id,
            Reload::Provider(id) => self.provider == id,
            Reload::Model(id) => self.model == id,
            Reload::Token(_) => false,
        }
    }
}

struct Defaults {
    tenant: Uuid,
    models: HashMap<ModelType, (ModelKey, bool)>,
}

/// A token that was valid when it was looked up.
pub(super) struct CachedToken {
    /// Who comes with it.
    pub caller: Arc<Caller>,
    /// The row id of the tenant it belongs to. `None` for an operator's.
    pub tenant: Option<Uuid>,
    /// When it stops working, in milliseconds since 1970.
    pub expires_at: Option<i64>,
}

/// The memory of one replica.
pub(in crate::catalog) struct Cache {
    pools: DashMap<ModelKey, Entry>,
    /// Finds these by less than their whole key.
    index: Index,
    /// By the tenant's id.
    defaults: DashMap<String, Defaults>,
    /// By the hash of the secret.
    tokens: DashMap<[u8; 32], Arc<CachedToken>>,
    /// When each token was last used here, by its row id, and whether that is still to be stored.
    uses: DashMap<Uuid, (i64, bool)>,
    /// Counts revocations, so that a lookup that overlapped one is not kept.
    revocations: AtomicU64,
    /// The last outbox row that was taken in.
    seen: AtomicI64,
    /// Held by whoever loads pools.
    pub(super) loading: Mutex<()>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            pools: DashMap::new(),
            index: Index::default(),
            defaults: DashMap::new(),
            tokens: DashMap::new(),
            uses: DashMap::new(),
            revocations: AtomicU64::new(0),
            seen: AtomicI64::new(UNSEEN),
            loading: Mutex::new(()),
        }
    }
}

impl Cache {
    /// The number of the last outbox row that was taken in. `None` before the first load.
    pub(in crate::catalog) fn seen(&self) -> Option<i64> {
        Some(self.seen.load(Ordering::Acquire)).filter(|&seen| seen != UNSEEN)
    }

    /// Notes the last outbox row that was taken in.
    pub(super) fn set_seen(&self, number: i64) {
        self.seen.store(number, Ordering::Release);
    }

    /// A token that was looked up before.
    pub(super) fn token(&self, hash: &[u8; 32]) -> Option<Arc<CachedToken>> {
        self.tokens.get(hash).map(|known| Arc::clone(&known))
    }

    /// What [`keep_token`](Self::keep_token) wants to know: read before the lookup.
    pub(super) fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::SeqCst)
    }

    /// Keeps a token that was looked up, unless something was revoked meanwhile.
    pub(super) fn keep_token(&self, hash: [u8; 32], known: Arc<CachedToken>, before: u64) {
        self.tokens.insert(hash, known);
        if self.revocations() != before {
            self.tokens.remove(&hash);
        }
    }

    /// Notes that a call came with that token.
    pub(super) fn used(&self, token: Uuid, now: i64) {
        self.uses.insert(token, (now, true));
    }

    /// When a call last came here with that token.
    pub(in crate::catalog) fn last_use(&self, token: Uuid) -> Option<i64> {
        self.uses.get(&token).map(|entry| entry.0)
    }

    /// The uses that are still to be stored.
    pub(super) fn take_uses(&self) -> Vec<(Uuid, i64)> {
        let mut taken = Vec::new();
        for mut entry in self.uses.iter_mut() {
            if std::mem::replace(&mut entry.1, false) {
                taken.push((*entry.key(), entry.0));
            }
        }
        taken
    }

    /// Forgets a token that is no longer of use.
    pub(super) fn forget_token(&self, hash: &[u8; 32]) {
        self.tokens.remove(hash);
    }

    /// Forgets the tokens that `gone` names.
    pub(super) fn forget_tokens(&self, gone: impl Fn(&CachedToken) -> bool) {
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

    /// The pool of a model that was loaded and can be used.
    pub(super) fn pool(&self, key: &ModelKey) -> Option<Arc<Pool>> {
        self.pools.get(key)?.pool.clone()
    }

    /// Whether a model was loaded and cannot be used.
    pub(super) fn is_unusable(&self, key: &ModelKey) -> bool {
        self.pools.get(key).is_some_and(|entry| entry.pool.is_none())
    }

    /// The pools that `wanted` picks.
    pub(super) fn pools(&self, wanted: impl Fn(&Pool) -> bool) -> Vec<Arc<Pool>> {
        let usable = self.pools.iter().filter_map(|entry| entry.pool.clone());
        usable.filter(|pool| wanted(pool)).collect()
    }

    /// Whether a model was loaded under that name and row id, even if it cannot be used.
    pub(super) fn is_loaded(&self, key: &ModelKey, model: Uuid) -> bool {
        self.pools.get(key).is_some_and(|entry| entry.model == model)
    }

    /// Swaps in a model. Returns what it replaces.
    pub(super) fn set_pool(&self, key: ModelKey, entry: Entry) -> Option<Entry> {
        self.index.add(&key);
        self.pools.insert(key, entry)
    }

    /// Removes all models but these, by row id. Returns those that were there.
    pub(super) fn keep_pools(&self, present: &HashSet<Uuid>) -> Vec<(ModelKey, Entry)> {
        self.remove_pools(|entry| !present.contains(&entry.model))
    }

    /// Removes those of the models to be loaded anew that are not among these, by row id. Returns those that were there.
    pub(super) fn keep_pools_within(
        &self,
        reload: Reload,
        present: &HashSet<Uuid>,
    ) -> Vec<(ModelKey, Entry)> {
        self.remove_pools(|entry| entry.is_within(reload) && !present.contains(&entry.model))
    }

    fn remove_pools(&self, leaves: impl Fn(&Entry) -> bool) -> Vec<(ModelKey, Entry)> {
        let leaving = self.pools.iter().filter(|entry| leaves(entry.value()));
        let keys: Vec<_> = leaving.map(|entry| entry.key().clone()).collect();
        let removed = keys.iter().filter_map(|key| self.pools.remove_if(key, |_, entry| leaves(entry)));
        removed.inspect(|(key, _)| self.index.remove(key)).collect()
    }

    /// What a tenant calls its models.
    pub(super) fn names(&self, tenant: &str) -> Names {
        self.index.of(tenant)
    }

    /// Swaps in the aliases of tenants, each with its tenant's row id. Removes those of the tenants that `gone` names, by
    /// row id, where none was found.
    pub(super) fn set_aliases(&self, found: Vec<(Uuid, ModelAlias)>, gone: impl Fn(Uuid) -> bool) {
        self.index.set_aliases(found, gone);
    }

    /// The default model, and whether it was computed.
    pub(super) fn default_model(&self, tenant: &str, model_type: ModelType) -> Option<(ModelKey, bool)> {
        self.defaults.get(tenant)?.models.get(&model_type).cloned()
    }

    /// Swaps in the default models of tenants. Removes those of the tenants that `gone` names, by row id, where none was
    /// found.
    pub(super) fn set_defaults(&self, found: Vec<DefaultModel>, gone: impl Fn(Uuid) -> bool) {
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
