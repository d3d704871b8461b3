//! Lists models, and finds default models.

use crate::{
    catalog::{
        compiled::load,
        handle::Catalog,
        names,
        stored::{
            Paging,
            entity::{models, providers},
            fallbacks, find, locate,
        },
        types::{Error, Model, ModelKey, Page, PageRequest, PolicySettings, ResourceKind},
    },
    provider::ModelType,
};
use sea_orm::{
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait},
};

pub(in crate::catalog) fn model(row: models::Model, key: ModelKey) -> Model {
    Model {
        upstream_model: row.upstream_model,
        enabled: row.enabled,
        fallbacks: fallbacks::read(&row.fallbacks, &key),
        context_window: u32::try_from(row.context_window).unwrap_or_default(),
        policy: PolicySettings::read(&row.policy),
        key,
        load_balancing_enabled: row.lb_enabled,
        revision: row.revision,
    }
}

impl Catalog {
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
        let owner = find::tenant(self.db(), tenant).await?;
        let mut query = models::Entity::find()
            .find_also_related(providers::Entity)
            .filter(models::Column::TenantId.eq(owner.id))
            .order_by_asc(providers::Column::Name)
            .order_by_asc(models::Column::ModelType)
            .order_by_asc(models::Column::Name)
            .limit(paging.size + 1);
        if !provider.is_empty() {
            let name = names::provider("provider", provider)?;
            let row = find::provider(self.db(), owner.id, name).await?;
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

    /// A tenant's default model of a type, and whether it was computed: where none is set, the first by provider and
    /// name that is enabled.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the tenant, or for the model where there is none at all.
    pub async fn default_model(
        &self,
        tenant: &str,
        model_type: ModelType,
    ) -> Result<(ModelKey, bool), Error> {
        let owner = find::tenant(self.db(), tenant).await?;
        let found = load::defaults(self.db(), Some(owner.id)).await?;
        let found = found.into_iter().find(|default| default.key.model_type == model_type);
        let found = found.ok_or_else(|| {
            Error::NotFound(ResourceKind::Model, format!("default of type {}", model_type.name()))
        })?;
        Ok((found.key, found.computed))
    }
}
