//! Changes of credentials.
//!
//! Each owner, a provider or a model, has at most one active credential. It serves without balancing. The first credential
//! becomes active by itself. When the active one is deleted, the oldest of the others becomes active.

use crate::{
    catalog::{
        names::{self, Check},
        read::credentials::{Found, credential, find_credential},
        secrets::{
            fields::{Holder, Writing},
            tenant_keys::{self, sealing_key},
        },
        stored::{
            Reload,
            entity::{credentials, lb_configs, models, providers},
            find, taken,
        },
        types::{Credential, CredentialChange, Error, INHERIT, NewCredential, ResourceKind},
        write::{
            audit::Event,
            cascade::{Deleted, With},
            quota,
            writer::{Writer, check_revision},
        },
    },
    provider::ModelType,
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, ModelTrait,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select, Set,
    sea_query::{Expr, ExprTrait},
};
use uuid::Uuid;

/// A name that a config may show in place of its own.
fn check_name(check: &mut Check, name: &str) {
    check.required_text("name", name);
    if name == INHERIT {
        check.add("name", "is reserved");
    }
}

fn of_owner(provider: Uuid, model_type: &str, model: &str) -> Select<credentials::Entity> {
    credentials::Entity::find()
        .filter(credentials::Column::ProviderId.eq(provider))
        .filter(credentials::Column::ModelType.eq(model_type))
        .filter(credentials::Column::Model.eq(model))
}

/// Takes "active" from an owner's credential, so that another can have it.
async fn deactivate(db: &impl ConnectionTrait, row: &credentials::Model) -> Result<(), DbErr> {
    credentials::Entity::update_many()
        .col_expr(credentials::Column::Active, Expr::value(false))
        .filter(credentials::Column::ProviderId.eq(row.provider_id))
        .filter(credentials::Column::ModelType.eq(row.model_type.as_str()))
        .filter(credentials::Column::Model.eq(row.model.as_str()))
        .filter(credentials::Column::Active.eq(true))
        .exec(db)
        .await?;
    Ok(())
}

/// What a change of this credential touches: its own model, or all models of the provider.
async fn reload(db: &impl ConnectionTrait, row: &credentials::Model) -> Result<Reload, DbErr> {
    let Some(model_type) = ModelType::from_name(&row.model_type) else {
        return Ok(Reload::Provider(row.provider_id));
    };
    let model = find::model(db, row.provider_id, model_type, &row.model).await?;
    Ok(model.map_or(Reload::Provider(row.provider_id), |model| Reload::Model(model.id)))
}

impl Writer {
    /// Stores a credential.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`] for tenant and provider, [`Error::AlreadyExists`] for the name.
    pub async fn create_credential(&self, tenant: &str, new: NewCredential) -> Result<Credential, Error> {
        let mut check = Check::default();
        check.note(names::tenant("tenant_id", tenant))?;
        let provider = check.note(names::provider("provider", &new.owner.provider))?;
        check_name(&mut check, &new.name);
        let (model_type, model) = match &new.owner.model {
            None => ("", ""),
            Some((model_type, model)) => {
                check.note(names::model("model", model))?;
                (model_type.name(), model.as_str())
            }
        };
        // Without a provider's name the fields cannot be checked; else all violations come in one answer.
        let Some(provider) = provider else { return Err(check.into_error()) };
        let write = self.begin().await?;
        let owner = find::tenant(&write.tx, tenant).await?;
        let provider = find::provider(&write.tx, owner.id, provider).await?;
        let of_tenant = credentials::Entity::find().filter(credentials::Column::TenantId.eq(owner.id));
        quota::check(of_tenant.count(&write.tx).await? + 1, write.bounds().credentials, "credentials")?;
        let id = Uuid::now_v7();
        let keys = tenant_keys::of_tenant(&write.tx, self.catalog.ring(), owner.id).await?;
        let writing = Writing {
            kind: find::kind(&provider)?,
            holder: Holder::credential(id),
            stored: None,
            keys: &keys,
            seal_with: sealing_key(&keys, &owner)?,
        };
        let written = writing.write(&new.fields, "fields", &mut check)?;
        check.finish()?;
        let first = of_owner(provider.id, model_type, model)
            .filter(credentials::Column::Active.eq(true))
            .one(&write.tx)
            .await?
            .is_none();
        let row = credentials::Model {
            id,
            tenant_id: owner.id,
            provider_id: provider.id,
            model_type: model_type.to_owned(),
            model: model.to_owned(),
            name: new.name,
            fields: written.json,
            active: first || new.activate,
            revision: 1,
        };
        if row.active {
            deactivate(&write.tx, &row).await?;
        }
        credentials::Entity::insert(row.clone().into_active_model())
            .exec_without_returning(&write.tx)
            .await
            .map_err(taken(ResourceKind::Credential, &row.name))?;
        let reload = reload(&write.tx, &row).await?;
        let event = Event::new("CreateCredential", tenant, resource(&provider, &row)).after(&row);
        write.commit(Some(owner.id), reload, event).await?;
        Ok(credential(row, tenant, &provider, &keys))
    }

    /// Changes a credential, and with it every config that links it.
    ///
    /// # Errors
    /// [`Error::StaleRevision`], [`Error::Invalid`], [`Error::AlreadyExists`] for the name.
    pub async fn update_credential(
        &self,
        tenant: &str,
        provider: &str,
        id: &str,
        change: CredentialChange,
    ) -> Result<Credential, Error> {
        let mut check = Check::default();
        let provider = names::provider("provider", provider)?;
        if let Some(name) = &change.name {
            check_name(&mut check, name);
        }
        let write = self.begin().await?;
        let Found { tenant: owner, provider, row } = find_credential(&write.tx, tenant, provider, id).await?;
        check_revision(change.revision, row.revision)?;
        let keys = tenant_keys::of_tenant(&write.tx, self.catalog.ring(), owner.id).await?;
        let event = Event::new("UpdateCredential", tenant, resource(&provider, &row)).before(&row);
        let mut update = row.clone().into_active_model();
        if let Some(given) = &change.fields {
            let writing = Writing {
                kind: find::kind(&provider)?,
                holder: Holder::credential(row.id),
                stored: Some(&row.fields),
                keys: &keys,
                seal_with: sealing_key(&keys, &owner)?,
            };
            update.fields = Set(writing.write(given, "fields", &mut check)?.json);
        }
        check.finish()?;
        let name = change.name.unwrap_or(row.name);
        update.name = Set(name.clone());
        update.revision = Set(row.revision + 1);
        let row = update.update(&write.tx).await.map_err(taken(ResourceKind::Credential, &name))?;
        let reload = reload(&write.tx, &row).await?;
        write.commit(Some(owner.id), reload, event.after(&row)).await?;
        Ok(credential(row, tenant, &provider, &keys))
    }

    /// Deletes a credential and the configs that link it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_credential(&self, tenant: &str, provider: &str, id: &str) -> Result<(), Error> {
        let provider = names::provider("provider", provider)?;
        let write = self.begin().await?;
        let Found { tenant: owner, provider, row } = find_credential(&write.tx, tenant, provider, id).await?;
        let with = With::credential(&write.tx, row.id).await?;
        let event = Event::new("DeleteCredential", tenant, resource(&provider, &row));
        let event = event.before(&Deleted { row: &row, with });
        let linking = lb_configs::Entity::find()
            .select_only()
            .column(lb_configs::Column::ModelId)
            .filter(lb_configs::Column::CredentialId.eq(row.id))
            .into_query();
        // Their sets change with it: the database deletes the configs.
        models::Entity::update_many()
            .col_expr(models::Column::LbRevision, Expr::col(models::Column::LbRevision).add(1))
            .filter(models::Column::Id.in_subquery(linking))
            .exec(&write.tx)
            .await?;
        row.clone().delete(&write.tx).await?;
        if row.active {
            let next = of_owner(row.provider_id, &row.model_type, &row.model)
                .order_by_asc(credentials::Column::Id)
                .one(&write.tx)
                .await?;
            if let Some(next) = next {
                let mut next = next.into_active_model();
                next.active = Set(true);
                next.update(&write.tx).await?;
            }
        }
        let reload = reload(&write.tx, &row).await?;
        write.commit(Some(owner.id), reload, event).await
    }

    /// Makes a credential the one that serves without balancing.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn activate_credential(
        &self,
        tenant: &str,
        provider: &str,
        id: &str,
    ) -> Result<Credential, Error> {
        let provider = names::provider("provider", provider)?;
        let write = self.begin().await?;
        let Found { tenant: owner, provider, row } = find_credential(&write.tx, tenant, provider, id).await?;
        deactivate(&write.tx, &row).await?;
        let mut update = row.into_active_model();
        update.active = Set(true);
        let row = update.update(&write.tx).await?;
        let keys = tenant_keys::of_tenant(&write.tx, self.catalog.ring(), owner.id).await?;
        let reload = reload(&write.tx, &row).await?;
        let event = Event::new("ActivateCredential", tenant, resource(&provider, &row)).after(&row);
        write.commit(Some(owner.id), reload, event).await?;
        Ok(credential(row, tenant, &provider, &keys))
    }
}

fn resource(provider: &providers::Model, row: &credentials::Model) -> String {
    let owner = if row.model.is_empty() { "" } else { "/" };
    format!("credential {} of {}{owner}{}", row.name, provider.name, row.model)
}
