//! What has left the configuration with a load: told to whoever keeps state of it.
//!
//! Each replica tells for itself, when it has taken a change in. So what a late call of one replica has brought back is gone
//! when the last has heard of the change.

use crate::{
    balance::{Gone, GoneMembers, MemberKey},
    catalog::{
        compiled::cache::Entry,
        handle::Catalog,
        types::{ModelKey, Pool},
    },
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use uuid::Uuid;

impl Catalog {
    /// Whether a pool still has a member of that key, address and upstream model, switched off or not. What a call says of
    /// another is about nothing that is there.
    #[must_use]
    pub fn has_member(&self, pool: &Arc<Pool>, key: &MemberKey) -> bool {
        self.cache().pool(&pool.key).is_some_and(|current| {
            Arc::ptr_eq(&current, pool)
                || (current.roster.id == pool.roster.id
                    && current.configured.iter().any(|(member, _)| member.record == key.record))
        })
    }

    /// The indices of those members of a pool that are no more; none where the pool itself is no more. One whose key,
    /// address and upstream model stand in another config now is still there: a call that is under way may go on with it.
    #[must_use]
    pub fn members_gone(&self, pool: &Arc<Pool>) -> Option<Vec<usize>> {
        let current = self.cache().pool(&pool.key).filter(|current| current.roster.id == pool.roster.id)?;
        if Arc::ptr_eq(&current, pool) {
            return Some(Vec::new());
        }
        let there: HashSet<_> = current.configured.iter().map(|(key, _)| &key.record).collect();
        let members = pool.roster.members.iter().enumerate();
        let gone = members.filter(|(_, member)| !there.contains(&member.key.record));
        Some(gone.map(|(index, _)| index).collect())
    }

    /// Tells what of the entries that were replaced or removed is no more, and of tenants that are gone.
    pub(super) fn tell_gone(&self, left: Vec<(ModelKey, Entry)>, tenants: &[Uuid]) {
        let mut gone: HashMap<Uuid, Gone> = HashMap::new();
        let mut credentials: HashMap<Uuid, HashSet<Arc<str>>> = HashMap::new();
        for (key, entry) in left {
            let of_tenant = gone.entry(entry.tenant).or_default();
            let Some(was) = entry.pool else { continue };
            let mut leaving: HashSet<_> = was.configured.iter().map(|(_, name)| name.clone()).collect();
            if !self.cache().is_loaded(&key, entry.model) {
                of_tenant.pools.push(entry.model);
            } else if let Some(is) = self.cache().pool(&key) {
                of_tenant.members.extend(left_members(&was, &is));
                for (_, name) in &is.configured {
                    leaving.remove(name);
                }
            } else {
                // It cannot be used now, and may be again.
                continue;
            }
            credentials.entry(entry.tenant).or_default().extend(leaving);
        }
        for &tenant in tenants {
            gone.entry(tenant).or_default().whole = true;
        }
        for (tenant, mut gone) in gone {
            gone.tenant = tenant;
            let leaving = credentials.remove(&tenant).unwrap_or_default();
            gone.credentials = self.without_used(tenant, leaving);
            if !gone.is_nothing() {
                self.gone(gone);
            }
        }
    }

    /// Those of the credentials that no pool of the tenant uses.
    fn without_used(&self, tenant: Uuid, mut leaving: HashSet<Arc<str>>) -> Vec<Arc<str>> {
        if !leaving.is_empty() {
            for pool in self.cache().pools(|pool| pool.roster.tenant == tenant) {
                for (_, name) in &pool.configured {
                    leaving.remove(name);
                }
            }
        }
        leaving.into_iter().collect()
    }
}

/// The members of a pool that are no more.
fn left_members(was: &Pool, is: &Pool) -> Option<GoneMembers> {
    let there: HashSet<_> = is.configured.iter().map(|(key, _)| key).collect();
    let records: HashSet<_> = is.configured.iter().map(|(key, _)| &key.record).collect();
    let left = was.configured.iter().map(|(key, _)| key).filter(|key| !there.contains(key));
    let keys: Vec<MemberKey> = left.cloned().collect();
    let records = keys.iter().map(|key| key.record.clone()).filter(|name| !records.contains(name)).collect();
    (!keys.is_empty()).then_some(GoneMembers { pool: is.roster.id, keys, records })
}
