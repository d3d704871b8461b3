//! Recognises callers by their tokens.
//!
//! A token that was valid is kept in memory, so that callers are still known when the database is gone. A revocation
//! reaches the other replicas through the outbox.

use crate::catalog::{
    compiled::cache::CachedToken,
    handle::Catalog,
    secrets::key_ring::sha256,
    stored::{
        entity::{tenants, tokens},
        find, now, patiently,
    },
    types::{Caller, Error, Role},
};
use sea_orm::{ColumnTrait, EntityTrait, ExprTrait, QueryFilter};
use std::sync::Arc;

/// The length of a secret: `rota_` and 43 characters of base64url.
const SECRET_LENGTH: usize = 48;

/// What a replica knows of a secret without asking the database.
#[derive(Debug)]
pub enum Recognised {
    /// Who it stands for. `None` for a wrong, revoked or expired one.
    As(Option<Arc<Caller>>),
    /// The database must be asked. This is the secret's SHA-256.
    NotYet([u8; 32]),
}

impl Catalog {
    /// Who a secret stands for. `None` for a wrong, revoked or expired one.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`] for one that is not known here yet.
    pub async fn authenticate(&self, secret: &str) -> Result<Option<Arc<Caller>>, Error> {
        match self.authenticate_here(secret) {
            Recognised::As(caller) => Ok(caller),
            Recognised::NotYet(hash) => self.look_up_token(hash).await,
        }
    }

    /// The same, as far as this replica knows without asking the database.
    #[must_use]
    pub fn authenticate_here(&self, secret: &str) -> Recognised {
        if secret.len() != SECRET_LENGTH || !secret.starts_with("rota_") {
            return Recognised::As(None);
        }
        let hash = sha256(secret.as_bytes());
        match self.cache().token(&hash) {
            Some(cached) => Recognised::As(self.current(&cached)),
            None => Recognised::NotYet(hash),
        }
    }

    /// Asks the database for a token that is [not known yet](Recognised::NotYet).
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`].
    pub async fn look_up_token(&self, hash: [u8; 32]) -> Result<Option<Arc<Caller>>, Error> {
        self.recognise(hash).await
    }

    /// Whether the token that a call came with is neither revoked nor expired since. While the database is away, one
    /// that cannot be looked up stays valid.
    pub async fn still_valid(&self, caller: &Caller) -> bool {
        !matches!(self.recognise(caller.hash).await, Ok(None))
    }

    async fn recognise(&self, hash: [u8; 32]) -> Result<Option<Arc<Caller>>, Error> {
        let cached = match self.cache().token(&hash) {
            Some(cached) => cached,
            // Apart, so that what happens once in a while takes no room in every call.
            None => match Box::pin(self.look_up(hash)).await? {
                Some(cached) => cached,
                None => return Ok(None),
            },
        };
        Ok(self.current(&cached))
    }

    /// Who uses that token, unless it has expired.
    fn current(&self, cached: &CachedToken) -> Option<Arc<Caller>> {
        let now = now();
        if cached.expires_at.is_some_and(|at| at <= now) {
            self.cache().forget_token(&cached.caller.hash);
            return None;
        }
        self.cache().used(cached.caller.token, now);
        Some(Arc::clone(&cached.caller))
    }

    /// Stores when tokens were last used here: one statement for each that was used since the last time. What fails is lost
    /// until the next use.
    pub(in crate::catalog) async fn store_last_uses(&self) -> Result<(), Error> {
        let mut uses = self.cache().take_uses();
        // In one order, so that two replicas never wait for each other.
        uses.sort_unstable();
        for (id, at) in uses {
            let update = tokens::Entity::update_many()
                .col_expr(tokens::Column::LastUsedAt, at.into())
                .filter(tokens::Column::Id.eq(id))
                .filter(tokens::Column::LastUsedAt.is_null().or(tokens::Column::LastUsedAt.lt(at)));
            patiently(update.exec(self.db())).await?;
        }
        Ok(())
    }

    async fn look_up(&self, hash: [u8; 32]) -> Result<Option<Arc<CachedToken>>, Error> {
        let before = self.cache().revocations();
        let query = tokens::Entity::find().filter(tokens::Column::Hash.eq(hash.to_vec()));
        let Some(row) = patiently(query.one(self.db())).await? else { return Ok(None) };
        let tenant = match row.tenant_id {
            None => None,
            Some(id) => match tenants::Entity::find_by_id(id).one(self.db()).await? {
                Some(tenant) => Some(tenant.name),
                // Deleted between the two reads.
                None => return Ok(None),
            },
        };
        let caller = Arc::new(Caller {
            token: row.id,
            role: Role::from_name(&row.role).ok_or_else(|| find::unknown_role(row.id))?,
            tenant,
            name: row.name,
            may_read_credentials: row.may_read_credentials,
            hash,
        });
        let cached = Arc::new(CachedToken { caller, tenant: row.tenant_id, expires_at: row.expires_at });
        self.cache().keep_token(hash, Arc::clone(&cached), before);
        Ok(Some(cached))
    }
}
