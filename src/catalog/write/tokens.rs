//! Changes of access tokens. Only the SHA-256 of a secret is stored. A secret has 256 random bits, so it needs no slow hash.

use crate::catalog::{
    names::{self, Check, shown},
    read::tokens::token,
    secrets::key_ring::{new_token_secret, sha256},
    stored::{
        Reload,
        entity::{tenants, tokens},
        find, now,
    },
    types::{Error, NewToken, ResourceKind, Role, Token},
    write::{audit::Event, quota, writer::Writer},
};
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, ModelTrait, PaginatorTrait, QueryFilter};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

/// How much of a secret is shown to recognise it by.
const PREFIX_LENGTH: usize = 10;

fn resource(row: &tokens::Model) -> String {
    format!("token {} ({})", row.prefix, row.name)
}

impl Writer {
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
        let secret = new_token_secret()?;
        let write = self.begin().await?;
        let tenant = match role {
            Role::Operator => None,
            _ => Some(find::tenant(&write.tx, &new.tenant).await?.id),
        };
        if let Some(tenant) = tenant {
            let of_tenant = tokens::Entity::find().filter(tokens::Column::TenantId.eq(tenant));
            quota::check(of_tenant.count(&write.tx).await? + 1, write.bounds().tokens, "tokens")?;
        }
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
        write.commit(tenant, Reload::Token(row.id), event).await?;
        Ok((token(row, new.tenant)?, secret))
    }

    /// Revokes a token: on this replica before this returns.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn revoke_token(&self, id: &str) -> Result<(), Error> {
        let missing = || Error::NotFound(ResourceKind::Token, shown(id));
        let id: Uuid = id.parse().map_err(|_| missing())?;
        let write = self.begin().await?;
        let row = tokens::Entity::find_by_id(id).one(&write.tx).await?.ok_or_else(missing)?;
        let tenant = row.tenant_id;
        let owner = match tenant {
            Some(tenant) => tenants::Entity::find_by_id(tenant).one(&write.tx).await?,
            None => None,
        };
        let owner = owner.map(|owner| owner.name).unwrap_or_default();
        let event = Event::new("RevokeToken", &owner, resource(&row)).before(&row);
        row.delete(&write.tx).await?;
        write.commit(tenant, Reload::Token(id), event).await
    }
}
