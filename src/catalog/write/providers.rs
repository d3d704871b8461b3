//! Changes of providers.
//!
//! A stored secret goes only to the origin that it was stored for: while secrets are stored under a provider, its address
//! cannot move to another scheme, host or port.

use crate::{
    catalog::{
        addresses::{provider_address, same_origin},
        names::{self, Check},
        read::providers::{active, provider},
        stored::{
            Reload,
            entity::{credentials, lb_configs, models, providers, tenants},
            find, taken,
        },
        types::{Error, NewProvider, Provider, ProviderChange, ResourceKind},
        write::{
            audit::Event,
            cascade::{Deleted, With},
            quota,
            writer::{Writer, check_revision},
        },
    },
    provider::{self, Switches},
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, ModelTrait,
    PaginatorTrait, QueryFilter, QuerySelect, QueryTrait, Set,
};
use uuid::Uuid;

const ORIGIN: &str =
    "another scheme, host or port is refused while secrets are stored under this provider: delete them first";

/// Whether any secret is stored under a provider: a credential, or a config's own.
async fn holds_secret(db: &impl ConnectionTrait, provider: Uuid) -> Result<bool, DbErr> {
    let credential =
        credentials::Entity::find().filter(credentials::Column::ProviderId.eq(provider)).count(db).await?;
    if credential > 0 {
        return Ok(true);
    }
    let models = models::Entity::find()
        .select_only()
        .column(models::Column::Id)
        .filter(models::Column::ProviderId.eq(provider))
        .into_query();
    // The database looks, so that one of many configs is enough. In a value the quotation marks would stand after a backslash.
    let sealed = lb_configs::Entity::find()
        .select_only()
        .column(lb_configs::Column::Id)
        .filter(lb_configs::Column::ModelId.in_subquery(models))
        .filter(lb_configs::Column::Fields.like("%\"sealed\":%"))
        .limit(1);
    Ok(sealed.into_tuple::<Uuid>().one(db).await?.is_some())
}

/// Switches as a row holds them.
fn stored(switches: Switches) -> Result<String, Error> {
    serde_json::to_string(&switches).map_err(|_| Error::Internal)
}

impl Writer {
    /// Makes a provider.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`] for the tenant, [`Error::AlreadyExists`].
    pub async fn create_provider(&self, tenant: &str, new: NewProvider) -> Result<Provider, Error> {
        let mut check = Check::default();
        check.note(names::tenant("tenant_id", tenant))?;
        let name = check.note(names::provider("name", &new.name))?;
        check.text("display_name", &new.display_name);
        check.address("base_url", &new.base_url, self.catalog.networks());
        match provider::kind(&new.kind) {
            None if new.kind.is_empty() => check.add("kind", "is required"),
            None => check.add("kind", "is not a kind that this build can talk to"),
            Some(kind) if new.base_url.is_empty() && kind.default_base_url.is_none() => {
                check.add("base_url", format!("is required for kind {}", kind.name));
            }
            Some(_) => {}
        }
        check.finish()?;
        let name = name.unwrap_or_default().to_owned();
        let write = self.begin().await?;
        let owner = find::tenant(&write.tx, tenant).await?;
        let of_tenant = providers::Entity::find().filter(providers::Column::TenantId.eq(owner.id));
        quota::check(of_tenant.count(&write.tx).await? + 1, write.bounds().providers, "providers")?;
        let row = providers::Model {
            id: Uuid::now_v7(),
            tenant_id: owner.id,
            name,
            kind: new.kind,
            display_name: new.display_name,
            base_url: new.base_url,
            enabled: new.enabled.unwrap_or(true),
            revision: 1,
            switches: stored(new.switches)?,
        };
        providers::Entity::insert(row.clone().into_active_model())
            .exec_without_returning(&write.tx)
            .await
            .map_err(taken(ResourceKind::Provider, &row.name))?;
        let event = Event::new("CreateProvider", tenant, format!("provider {}", row.name)).after(&row);
        write.commit(Some(owner.id), Reload::Provider(row.id), event).await?;
        Ok(provider(row, tenant, None))
    }

    /// Changes a provider.
    ///
    /// # Errors
    /// [`Error::StaleRevision`]; [`Error::Invalid`] for an address elsewhere while secrets are stored under it.
    pub async fn update_provider(
        &self,
        tenant: &str,
        name: &str,
        change: ProviderChange,
    ) -> Result<Provider, Error> {
        let mut check = Check::default();
        let name = check.note(names::provider("name", name))?;
        check.text("display_name", change.display_name.as_deref().unwrap_or_default());
        check.address("base_url", change.base_url.as_deref().unwrap_or_default(), self.catalog.networks());
        check.finish()?;
        let write = self.begin().await?;
        let owner = find::tenant(&write.tx, tenant).await?;
        let row = find::provider(&write.tx, owner.id, name.unwrap_or_default()).await?;
        check_revision(change.revision, row.revision)?;
        if let Some(base_url) = &change.base_url {
            self.check_move(&write.tx, &row, base_url).await?;
        }
        let revision = row.revision + 1;
        let event = Event::new("UpdateProvider", tenant, format!("provider {}", row.name)).before(&row);
        let mut update = row.into_active_model();
        if let Some(display_name) = change.display_name {
            update.display_name = Set(display_name);
        }
        if let Some(base_url) = change.base_url {
            update.base_url = Set(base_url);
        }
        if let Some(enabled) = change.enabled {
            update.enabled = Set(enabled);
        }
        if let Some(switches) = change.switches {
            update.switches = Set(stored(switches)?);
        }
        update.revision = Set(revision);
        let row = update.update(&write.tx).await?;
        let active = active(&write.tx, [row.id]).await?.remove(&row.id);
        write.commit(Some(owner.id), Reload::Provider(row.id), event.after(&row)).await?;
        Ok(provider(row, tenant, active))
    }

    async fn check_move(
        &self,
        db: &impl ConnectionTrait,
        row: &providers::Model,
        base_url: &str,
    ) -> Result<(), Error> {
        let kind = find::kind(row)?;
        let new = provider_address(kind, base_url);
        if new.is_empty() {
            return Err(Error::invalid("base_url", format!("is required for kind {}", kind.name)));
        }
        let old = provider_address(kind, &row.base_url);
        if !same_origin(old, new) && holds_secret(db, row.id).await? {
            return Err(Error::invalid("base_url", ORIGIN));
        }
        Ok(())
    }

    /// Deletes a provider with its credentials.
    ///
    /// # Errors
    /// [`Error::InUse`] while it has models.
    pub async fn delete_provider(&self, tenant: &str, name: &str) -> Result<(), Error> {
        let name = names::provider("provider", name)?;
        let write = self.begin().await?;
        let owner: tenants::Model = find::tenant(&write.tx, tenant).await?;
        let row = find::provider(&write.tx, owner.id, name).await?;
        let models = models::Entity::find().filter(models::Column::ProviderId.eq(row.id));
        if models.count(&write.tx).await? > 0 {
            return Err(Error::InUse(ResourceKind::Provider, name.to_owned()));
        }
        let id = row.id;
        let with = With::provider(&write.tx, id).await?;
        let event = Event::new("DeleteProvider", tenant, format!("provider {name}"));
        let event = event.before(&Deleted { row: &row, with });
        row.delete(&write.tx).await?;
        write.commit(Some(owner.id), Reload::Provider(id), event).await
    }
}
