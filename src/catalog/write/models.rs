//! Models: what a tenant can call.

use crate::catalog::{
    Catalog, Error, Model, ModelKey, NewModel, Page, PageRequest, PolicySettings, Thing,
    compiled::compile::{self, kind_of},
    compiled::load::{self, Inherit},
    names::{self, Check, shown},
    stored::database::{self, Located, Paging, Scope, check_revision, locate},
    stored::entity::{credentials, default_models, models, providers},
    write::audit::Event,
    write::fallbacks,
    write::providers::stored_kind,
};
use crate::provider::ModelType;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, ModelTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, Set,
    sea_query::{Expr, ExprTrait},
};
use uuid::Uuid;

pub(in crate::catalog) fn model(row: models::Model, key: ModelKey) -> Model {
    Model {
        upstream_model: row.upstream_model,
        enabled: row.enabled,
        fallbacks: fallbacks::read(&row.fallbacks, &key),
        policy: PolicySettings::read(&row.policy),
        key,
        load_balancing_enabled: row.lb_enabled,
        revision: row.revision,
    }
}

impl Catalog {
    /// Makes a model or replaces its settings.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NotFound`] for tenant and provider, [`Error::StaleRevision`].
    pub async fn put_model(&self, new: NewModel) -> Result<Model, Error> {
        let mut check = Check::default();
        let key = check.note(names::key(&new.key))?;
        check.text("upstream_model", &new.upstream_model);
        let Some(key) = key else { return Err(check.into_error()) };
        check.finish()?;
        let write = self.write().await?;
        let tenant = database::tenant(&write.tx, &key.tenant).await?;
        let provider = database::provider(&write.tx, tenant.id, &key.provider).await?;
        let kind = stored_kind(&provider)?;
        if !kind.model_types.contains(&key.model_type) {
            let reason = format!("kind {} has no models of this type", kind.name);
            return Err(Error::invalid("key.model_type", reason));
        }
        let fallbacks = fallbacks::checked(&write.tx, tenant.id, &key, &new.fallbacks).await?;
        let mut event = Event::new("PutModel", &key.tenant, resource(&key));
        let row = match database::model(&write.tx, provider.id, key.model_type, &key.model).await? {
            Some(row) => {
                check_revision(new.revision, row.revision)?;
                event = event.before(&row);
                let revision = row.revision + 1;
                let enabled = new.enabled.unwrap_or(row.enabled);
                let mut update = row.into_active_model();
                update.upstream_model = Set(new.upstream_model);
                update.fallbacks = Set(fallbacks);
                update.enabled = Set(enabled);
                update.revision = Set(revision);
                update.update(&write.tx).await?
            }
            // A revision says that there was one.
            None if new.revision != 0 => return Err(Error::NotFound(Thing::Model, shown(&key.model))),
            None => {
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
                };
                let insert = models::Entity::insert(row.clone().into_active_model());
                insert.exec_without_returning(&write.tx).await?;
                row
            }
        };
        write.commit(Some(tenant.id), Scope::Model(row.id), event.after(&row)).await?;
        Ok(model(row, key.into_owned()))
    }

    /// One model.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get_model(&self, key: &ModelKey) -> Result<Model, Error> {
        let key = names::key(key)?;
        let located = locate(self.db(), &key).await?;
        Ok(model(located.model, key.into_owned()))
    }

    /// Models by provider, type and name; of all providers and types where none is given.
    ///
    /// # Errors
    /// [`Error::NotFound`] for tenant and provider.
    pub async fn list_models(
        &self,
        tenant: &str,
        provider: &str,
        model_type: Option<ModelType>,
        page: PageRequest,
    ) -> Result<Page<Model>, Error> {
        let paging = Paging::new(&page, 3)?;
        let owner = database::tenant(self.db(), tenant).await?;
        let mut query = models::Entity::find()
            .find_also_related(providers::Entity)
            .filter(models::Column::TenantId.eq(owner.id))
            .order_by_asc(providers::Column::Name)
            .order_by_asc(models::Column::ModelType)
            .order_by_asc(models::Column::Name)
            .limit(paging.size + 1);
        if !provider.is_empty() {
            let name = names::provider("provider", provider)?;
            let row = database::provider(self.db(), owner.id, name).await?;
            query = query.filter(models::Column::ProviderId.eq(row.id));
        }
        if let Some(model_type) = model_type {
            query = query.filter(models::Column::ModelType.eq(model_type.name()));
        }
        if let Some([provider, model_type, name]) = paging.after.as_deref() {
            let place = Expr::tuple([
                Expr::col((providers::Entity, providers::Column::Name)),
                Expr::col((models::Entity, models::Column::ModelType)),
                Expr::col((models::Entity, models::Column::Name)),
            ]);
            let last = Expr::tuple([
                Expr::value(provider.as_str()),
                Expr::value(model_type.as_str()),
                Expr::value(name.as_str()),
            ]);
            query = query.filter(place.gt(last));
        }
        let rows: Vec<(models::Model, Option<providers::Model>)> = query.all(self.db()).await?;
        let name = |provider: &Option<providers::Model>| {
            provider.as_ref().map(|provider| provider.name.clone()).unwrap_or_default()
        };
        let page = paging.page(
            rows,
            |(row, provider)| vec![name(provider), row.model_type.clone(), row.name.clone()],
            |(row, provider)| {
                let model_type = ModelType::from_name(&row.model_type)?;
                let (tenant, provider) = (tenant.to_owned(), name(&provider));
                let key = ModelKey { tenant, provider, model_type, model: row.name.clone() };
                Some(model(row, key))
            },
        );
        Ok(Page { items: page.items.into_iter().flatten().collect(), next: page.next })
    }

    /// Deletes a model with its configs and its own credentials. Returns the row ids of its tenant and of itself, for the
    /// state that is kept of it.
    ///
    /// # Errors
    /// [`Error::InUse`] while it is a default model, or another's fallback.
    pub async fn delete_model(&self, key: &ModelKey) -> Result<(Uuid, Uuid), Error> {
        let key = names::key(key)?;
        let write = self.write().await?;
        let Located { tenant, provider, model: row } = locate(&write.tx, &key).await?;
        let defaults = default_models::Entity::find().filter(default_models::Column::ModelId.eq(row.id));
        if defaults.count(&write.tx).await? > 0 {
            return Err(Error::InUse(Thing::Model, shown(&key.model)));
        }
        if let Some(user) = fallbacks::user_of(&write.tx, tenant.id, &key).await? {
            return Err(Error::InUse(Thing::Model, shown(&format!("a fallback of {user}"))));
        }
        credentials::Entity::delete_many()
            .filter(credentials::Column::ProviderId.eq(provider.id))
            .filter(credentials::Column::ModelType.eq(row.model_type.as_str()))
            .filter(credentials::Column::Model.eq(row.name.as_str()))
            .exec(&write.tx)
            .await?;
        let id = row.id;
        let event = Event::new("DeleteModel", &key.tenant, resource(&key)).before(&row);
        row.delete(&write.tx).await?;
        write.commit(Some(tenant.id), Scope::Model(id), event).await?;
        Ok((tenant.id, id))
    }

    /// Lets a model serve, or stops it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn set_model_enabled(&self, key: &ModelKey, enabled: bool) -> Result<Model, Error> {
        let key = names::key(key)?;
        let write = self.write().await?;
        let Located { tenant, model: row, .. } = locate(&write.tx, &key).await?;
        let revision = row.revision + 1;
        let action = if enabled { "EnableModel" } else { "DisableModel" };
        let event = Event::new(action, &key.tenant, resource(&key)).before(&row);
        let mut update = row.into_active_model();
        update.enabled = Set(enabled);
        update.revision = Set(revision);
        let row = update.update(&write.tx).await?;
        write.commit(Some(tenant.id), Scope::Model(row.id), event.after(&row)).await?;
        Ok(model(row, key.into_owned()))
    }

    /// Switches balancing on or off. The configs are kept.
    ///
    /// # Errors
    /// [`Error::NotEnoughConfigs`] where fewer than two could serve.
    pub async fn set_balancing(&self, key: &ModelKey, on: bool) -> Result<Model, Error> {
        let key = names::key(key)?;
        let write = self.write().await?;
        let Located { tenant, model: row, .. } = locate(&write.tx, &key).await?;
        if on {
            let parts = load::one(&write.tx, self.ring(), row.id).await?.ok_or(Error::Internal)?;
            let kind = kind_of(&parts).ok_or(Error::Internal)?;
            let usable = compile::rows(&parts, kind).iter().filter(|row| row.usable()).count();
            if usable < 2 {
                return Err(Error::NotEnoughConfigs(usable));
            }
        }
        let lb_revision = row.lb_revision + 1;
        let action = if on { "EnableModelLoadBalancing" } else { "DisableModelLoadBalancing" };
        let event = Event::new(action, &key.tenant, resource(&key)).before(&row);
        let mut update = row.into_active_model();
        update.lb_enabled = Set(on);
        update.lb_revision = Set(lb_revision);
        let row = update.update(&write.tx).await?;
        write.commit(Some(tenant.id), Scope::Model(row.id), event.after(&row)).await?;
        Ok(model(row, key.into_owned()))
    }
}

/// A model as audit events name it.
pub(in crate::catalog) fn resource(key: &ModelKey) -> String {
    format!("model {}/{} ({})", key.provider, key.model, key.model_type.name())
}
