//! Changes of models.

use crate::catalog::{
    compiled::{compile, load},
    names::{self, Check, shown},
    read::models::model,
    stored::{
        Inherit, Located, Reload, aliases,
        entity::{credentials, default_models, models},
        fallbacks, find, locate,
    },
    types::{Error, Model, ModelKey, NewModel, ResourceKind},
    write::{
        audit::{self, Event},
        cascade::{Deleted, With},
        quota,
        writer::{Write, Writer, check_revision},
    },
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, EntityTrait, IntoActiveModel, ModelTrait, PaginatorTrait,
    QueryFilter, Set,
};
use uuid::Uuid;

impl Writer {
    /// Makes a model or replaces its settings.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`] for tenant and provider, [`Error::StaleRevision`],
    /// [`Error::AlreadyExists`] where an alias has the name `provider/model`.
    pub async fn put_model(&self, new: NewModel) -> Result<Model, Error> {
        let mut check = Check::default();
        let key = check.note(names::key(&new.key))?;
        check.text("upstream_model", &new.upstream_model);
        let window = new.context_window.map(i32::try_from).transpose().unwrap_or_else(|_| {
            check.add("context_window", format!("is at most {}", i32::MAX));
            None
        });
        let Some(key) = key else { return Err(check.into_error()) };
        check.finish()?;
        let write = self.begin().await?;
        let tenant = find::tenant(&write.tx, &key.tenant).await?;
        let provider = find::provider(&write.tx, tenant.id, &key.provider).await?;
        let kind = find::kind(&provider)?;
        if !kind.model_types.contains(&key.model_type) {
            let reason = format!("kind {} has no models of this type", kind.name);
            return Err(Error::invalid("key.model_type", reason));
        }
        let fallbacks = fallbacks::checked(&write.tx, tenant.id, &key, &new.fallbacks).await?;
        let mut event = Event::new("PutModel", &key.tenant, audit::model(&key));
        let row = match find::model(&write.tx, provider.id, key.model_type, &key.model).await? {
            Some(row) => {
                check_revision(new.revision, row.revision)?;
                event = event.before(&row);
                let revision = row.revision + 1;
                let enabled = new.enabled.unwrap_or(row.enabled);
                let window = window.unwrap_or(row.context_window);
                let mut update = row.into_active_model();
                update.upstream_model = Set(new.upstream_model);
                update.fallbacks = Set(fallbacks);
                update.context_window = Set(window);
                update.enabled = Set(enabled);
                update.revision = Set(revision);
                update.update(&write.tx).await?
            }
            // A revision says that there was one.
            None if new.revision != 0 => return Err(Error::NotFound(ResourceKind::Model, shown(&key.model))),
            None => {
                let of_tenant = models::Entity::find().filter(models::Column::TenantId.eq(tenant.id));
                quota::check(of_tenant.count(&write.tx).await? + 1, write.bounds().models, "models")?;
                if let Some(alias) = aliases::named(&write.tx, tenant.id, &names::spellings(&key)).await? {
                    return Err(Error::AlreadyExists(ResourceKind::Alias, shown(&alias)));
                }
                let row = models::Model {
                    id: Uuid::now_v7(),
                    tenant_id: tenant.id,
                    provider_id: provider.id,
                    model_type: key.model_type.name().to_owned(),
                    name: key.model.clone(),
                    upstream_model: new.upstream_model,
                    enabled: new.enabled.unwrap_or(true),
                    lb_enabled: false,
                    lb_revision: 1,
                    next_ordinal: 1,
                    inherit: Inherit::Default.name().to_owned(),
                    revision: 1,
                    policy: String::new(),
                    fallbacks,
                    context_window: window.unwrap_or_default(),
                };
                let insert = models::Entity::insert(row.clone().into_active_model());
                insert.exec_without_returning(&write.tx).await?;
                row
            }
        };
        write.commit(Some(tenant.id), Reload::Model(row.id), event.after(&row)).await?;
        Ok(model(row, key.into_owned()))
    }

    /// Deletes a model with its configs and its own credentials. Returns the row ids of its tenant and of itself, for the
    /// state that is kept of it.
    ///
    /// # Errors
    /// [`Error::InUse`] while it is a default model, another's fallback, or the target of an alias.
    pub async fn delete_model(&self, key: &ModelKey) -> Result<(Uuid, Uuid), Error> {
        let key = names::key(key)?;
        let write = self.begin().await?;
        let Located { tenant, provider, model: row } = locate(&write.tx, &key).await?;
        let defaults = default_models::Entity::find().filter(default_models::Column::ModelId.eq(row.id));
        if defaults.count(&write.tx).await? > 0 {
            return Err(Error::InUse(ResourceKind::Model, shown(&key.model)));
        }
        if let Some(alias) = aliases::of_model(&write.tx, row.id).await? {
            return Err(Error::InUse(
                ResourceKind::Model,
                shown(&format!("the target of the alias {alias}")),
            ));
        }
        if let Some(user) = fallbacks::user_of(&write.tx, tenant.id, &key).await? {
            return Err(Error::InUse(ResourceKind::Model, shown(&format!("a fallback of {user}"))));
        }
        let own = Condition::all()
            .add(credentials::Column::ProviderId.eq(provider.id))
            .add(credentials::Column::ModelType.eq(row.model_type.as_str()))
            .add(credentials::Column::Model.eq(row.name.as_str()));
        let id = row.id;
        let with = With::model(&write.tx, id, credentials::Entity::find().filter(own.clone())).await?;
        let event = Event::new("DeleteModel", &key.tenant, audit::model(&key));
        let event = event.before(&Deleted { row: &row, with });
        credentials::Entity::delete_many().filter(own).exec(&write.tx).await?;
        row.delete(&write.tx).await?;
        write.commit(Some(tenant.id), Reload::Model(id), event).await?;
        Ok((tenant.id, id))
    }

    /// Lets a model serve, or stops it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn set_model_enabled(&self, key: &ModelKey, enabled: bool) -> Result<Model, Error> {
        let key = names::key(key)?;
        let write = self.begin().await?;
        let row = locate(&write.tx, &key).await?.model;
        let mut update = row.clone().into_active_model();
        update.enabled = Set(enabled);
        update.revision = Set(row.revision + 1);
        let action = if enabled { "EnableModel" } else { "DisableModel" };
        save(write, action, &key, &row, update).await
    }

    /// Switches balancing on or off. The configs are kept.
    ///
    /// # Errors
    /// [`Error::NotEnoughConfigs`] where fewer than two could serve.
    pub async fn set_balancing(&self, key: &ModelKey, on: bool) -> Result<Model, Error> {
        let key = names::key(key)?;
        let write = self.begin().await?;
        let row = locate(&write.tx, &key).await?.model;
        if on {
            let parts = load::one(&write.tx, self.catalog.ring(), row.id).await?;
            let usable = compile::rows(&parts).iter().filter(|row| row.usable()).count();
            if usable < 2 {
                return Err(Error::NotEnoughConfigs(usable));
            }
        }
        let mut update = row.clone().into_active_model();
        update.lb_enabled = Set(on);
        update.lb_revision = Set(row.lb_revision + 1);
        let action = if on { "EnableModelLoadBalancing" } else { "DisableModelLoadBalancing" };
        save(write, action, &key, &row, update).await
    }
}

/// Stores a model's row that was there `before`, and commits.
async fn save(
    write: Write<'_>,
    action: &'static str,
    key: &ModelKey,
    before: &models::Model,
    update: models::ActiveModel,
) -> Result<Model, Error> {
    let row = update.update(&write.tx).await?;
    let event = Event::new(action, &key.tenant, audit::model(key)).before(before).after(&row);
    write.commit(Some(row.tenant_id), Reload::Model(row.id), event).await?;
    Ok(model(row, key.clone()))
}
