//! Access tokens. Only the SHA-256 of a secret is stored; 256 random bits need no slow hash.
//!
//! A token that was valid is kept in memory, so that callers are still known when the database is gone. A revocation
//! reaches the other replicas through the outbox.

use crate::catalog::{
    Caller, Catalog, Error, NewToken, Page, PageRequest, Role, Thing, Token,
    compiled::snapshot::KnownToken,
    names::{self, Check, shown},
    secrets::key_ring::{new_token_secret, sha256},
    stored::database::{self, Paging, Scope, now, time},
    stored::entity::{tenants, tokens},
    write::audit::Event,
};
use sea_orm::{
    ColumnTrait, DbErr, EntityTrait, ExprTrait, IntoActiveModel, ModelTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use secrecy::{ExposeSecret, SecretString};
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// The length of a secret: `rota_` and 43 characters of base64url.
const SECRET_LENGTH: usize = 48;
/// How much of a secret is shown to recognise it by.
const PREFIX_LENGTH: usize = 10;

impl Role {
    const ALL: [Self; 4] = [Self::Operator, Self::TenantAdmin, Self::Invoker, Self::Viewer];

    pub(in crate::catalog) const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::TenantAdmin => "tenant_admin",
            Self::Invoker => "invoker",
            Self::Viewer => "viewer",
        }
    }

    fn from_name(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|role| role.name() == name).ok_or_else(|| {
            tracing::error!("a token has a role that this build does not know");
            Error::Internal
        })
    }
}

fn token(row: tokens::Model, tenant: String) -> Result<Token, Error> {
    Ok(Token {
        id: row.id,
        tenant,
        role: Role::from_name(&row.role)?,
        name: row.name,
        prefix: row.prefix,
        expires_at: row.expires_at.map(time),
        may_read_credentials: row.may_read_credentials,
        created_at: time(row.created_at),
        last_used_at: row.last_used_at.map(time),
    })
}

fn resource(row: &tokens::Model) -> String {
    format!("token {} ({})", row.prefix, row.name)
}

impl Catalog {
    /// Makes a token. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`Error::Invalid`], or [`Error::NotFound`] for its tenant.
    pub async fn create_token(&self, new: NewToken) -> Result<(Token, SecretString), Error> {
        let mut check = Check::default();
        check.text("name", &new.name);
        match new.role {
            None => check.add("role", "is required"),
            Some(Role::Operator) if new.tenant.is_empty() => {}
            Some(Role::Operator) => check.add("tenant_id", "an operator belongs to no tenant"),
            Some(_) => drop(check.note(names::tenant("tenant_id", &new.tenant))?),
        }
        if new.may_read_credentials && new.role == Some(Role::Viewer) {
            check.add("may_read_credentials", "a viewer acquires nothing");
        }
        let created_at = now();
        let expires_at = new.expires_at.map(|at| at.timestamp_millis());
        if expires_at.is_some_and(|at| at <= created_at) {
            check.add("expires_at", "is in the past");
        }
        check.finish()?;
        let Some(role) = new.role else { return Err(Error::invalid("role", "is required")) };
        let secret = new_token_secret().map_err(|_| {
            tracing::error!("a token could not be made");
            Error::Internal
        })?;
        let write = self.write().await?;
        let tenant = match role {
            Role::Operator => None,
            _ => Some(database::tenant(&write.tx, &new.tenant).await?.id),
        };
        let row = tokens::Model {
            id: Uuid::now_v7(),
            tenant_id: tenant,
            role: role.name().to_owned(),
            name: new.name,
            hash: sha256(secret.expose_secret().as_bytes()).to_vec(),
            prefix: secret.expose_secret().chars().take(PREFIX_LENGTH).collect(),
            expires_at,
            created_at,
            may_read_credentials: new.may_read_credentials,
            last_used_at: None,
        };
        tokens::Entity::insert(row.clone().into_active_model()).exec_without_returning(&write.tx).await?;
        let event = Event::new("CreateToken", &new.tenant, resource(&row)).after(&row);
        write.commit(tenant, Scope::Token(row.id), event).await?;
        Ok((token(row, new.tenant)?, secret))
    }

    /// Tokens, oldest first; of all where no tenant is given.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the tenant.
    pub async fn list_tokens(&self, tenant: &str, page: PageRequest) -> Result<Page<Token>, Error> {
        let paging = Paging::new(&page, 1)?;
        let mut query = tokens::Entity::find().order_by_asc(tokens::Column::Id).limit(paging.size + 1);
        if !tenant.is_empty() {
            let tenant = database::tenant(self.db(), tenant).await?;
            query = query.filter(tokens::Column::TenantId.eq(tenant.id));
        }
        if let Some(after) = paging.after_id()? {
            query = query.filter(tokens::Column::Id.gt(after));
        }
        let rows = query.all(self.db()).await?;
        let owners: Vec<Uuid> = rows.iter().filter_map(|row| row.tenant_id).collect();
        let owners = tenants::Entity::find().filter(tenants::Column::Id.is_in(owners)).all(self.db()).await?;
        let owners: HashMap<Uuid, String> = owners.into_iter().map(|row| (row.id, row.name)).collect();
        let owner = |row: &tokens::Model| row.tenant_id.and_then(|id| owners.get(&id).cloned());
        let page = paging.page(
            rows,
            |row| vec![row.id.to_string()],
            |mut row| {
                let tenant = owner(&row).unwrap_or_default();
                row.last_used_at = Ord::max(row.last_used_at, self.snapshot().last_use(row.id));
                token(row, tenant)
            },
        );
        Ok(Page { items: page.items.into_iter().collect::<Result<_, _>>()?, next: page.next })
    }

    /// Revokes a token: on this replica before this returns.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn revoke_token(&self, id: &str) -> Result<(), Error> {
        let missing = || Error::NotFound(Thing::Token, shown(id));
        let id: Uuid = id.parse().map_err(|_| missing())?;
        let write = self.write().await?;
        let row = tokens::Entity::find_by_id(id).one(&write.tx).await?.ok_or_else(missing)?;
        let tenant = row.tenant_id;
        let owner = match tenant {
            Some(tenant) => tenants::Entity::find_by_id(tenant).one(&write.tx).await?,
            None => None,
        };
        let owner = owner.map(|owner| owner.name).unwrap_or_default();
        let event = Event::new("RevokeToken", &owner, resource(&row)).before(&row);
        row.delete(&write.tx).await?;
        write.commit(tenant, Scope::Token(id), event).await
    }

    /// Who a secret stands for; none for a wrong, revoked or expired one.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`] for one that is not known here yet.
    pub async fn authenticate(&self, secret: &str) -> Result<Option<Arc<Caller>>, Error> {
        if secret.len() != SECRET_LENGTH || !secret.starts_with("rota_") {
            return Ok(None);
        }
        self.known(sha256(secret.as_bytes())).await
    }

    /// Whether the token that a call came with is neither revoked nor expired since. While the database is away, one
    /// that cannot be looked up stays valid.
    pub async fn still_valid(&self, caller: &Caller) -> bool {
        !matches!(self.known(caller.hash).await, Ok(None))
    }

    async fn known(&self, hash: [u8; 32]) -> Result<Option<Arc<Caller>>, Error> {
        let known = match self.snapshot().token(&hash) {
            Some(known) => known,
            // Apart, so that what happens once in a while takes no room in every call.
            None => match Box::pin(self.look_up(hash)).await? {
                Some(known) => known,
                None => return Ok(None),
            },
        };
        let now = now();
        if known.expires_at.is_some_and(|at| at <= now) {
            self.snapshot().forget_token(&hash);
            return Ok(None);
        }
        self.snapshot().used(known.caller.token, now);
        Ok(Some(Arc::clone(&known.caller)))
    }

    /// Whether that token is there.
    pub(in crate::catalog) async fn has_token(&self, id: Uuid) -> Result<bool, DbErr> {
        Ok(tokens::Entity::find_by_id(id).count(self.db()).await? > 0)
    }

    /// Stores when tokens were last used here. One statement a token that was used since the last time.
    pub(in crate::catalog) async fn store_last_uses(&self) -> Result<(), Error> {
        let mut uses = self.snapshot().take_uses();
        // In one order, so that two replicas never wait for each other.
        uses.sort_unstable();
        for (id, at) in uses {
            let update = tokens::Entity::update_many()
                .col_expr(tokens::Column::LastUsedAt, at.into())
                .filter(tokens::Column::Id.eq(id))
                .filter(tokens::Column::LastUsedAt.is_null().or(tokens::Column::LastUsedAt.lt(at)));
            database::patiently(update.exec(self.db())).await?;
        }
        Ok(())
    }

    async fn look_up(&self, hash: [u8; 32]) -> Result<Option<Arc<KnownToken>>, Error> {
        let before = self.snapshot().revocations();
        let query = tokens::Entity::find().filter(tokens::Column::Hash.eq(hash.to_vec()));
        let Some(row) = database::patiently(query.one(self.db())).await? else { return Ok(None) };
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
            role: Role::from_name(&row.role)?,
            tenant,
            name: row.name,
            may_read_credentials: row.may_read_credentials,
            hash,
        });
        let known = Arc::new(KnownToken { caller, tenant: row.tenant_id, expires_at: row.expires_at });
        self.snapshot().keep_token(hash, Arc::clone(&known), before);
        Ok(Some(known))
    }
}
