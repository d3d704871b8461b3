//! Reads all that models are compiled from. A page of models takes a fixed number of statements.
//!
//! The start, a first call, a refresh and a listing all read through this file, so that they cannot disagree.

use crate::{
    catalog::{
        secrets::{fields::Keys, key_ring::KeyRing, tenant_keys},
        stored::{
            entity::{credentials, lb_configs, models, providers, tenants},
            find,
        },
        types::{Error, ModelKey},
    },
    provider::{KindSpec, ModelType},
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select, Statement,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use uuid::Uuid;

/// Models a page, where nobody asks for another number.
pub const PAGE: u64 = 500;

/// Which models.
#[derive(Debug, Clone, Copy)]
pub enum Filter {
    /// Every one.
    All,
    /// A tenant's.
    Tenant(Uuid),
    /// A provider's.
    Provider(Uuid),
    /// A provider's of that type.
    Type(Uuid, ModelType),
    /// This one.
    Model(Uuid),
}

/// One model with everything it is compiled from.
pub struct Parts {
    /// The model's name.
    pub key: ModelKey,
    /// Its tenant.
    pub tenant: Arc<tenants::Model>,
    /// Its provider.
    pub provider: Arc<providers::Model>,
    /// What its provider speaks.
    pub kind: &'static KindSpec,
    /// Its row.
    pub model: models::Model,
    /// Its configs by ordinal.
    pub configs: Vec<lb_configs::Model>,
    /// The credential that serves without balancing: the model's own, else the provider's.
    pub inherit: Option<Arc<credentials::Model>>,
    /// At least those that configs link, by id.
    pub credentials: Arc<HashMap<Uuid, Arc<credentials::Model>>>,
    /// The tenant's data keys.
    pub keys: Arc<Keys>,
}

/// Models, and where the next page begins.
pub struct Page {
    /// Those of a type and a kind that this build knows.
    pub parts: Vec<Parts>,
    /// The last model read, known or not; none where there is no more.
    pub next: Option<Uuid>,
}

/// One page of models by id, after that one.
pub async fn page(
    db: &impl ConnectionTrait,
    ring: &KeyRing,
    filter: Filter,
    after: Option<Uuid>,
    size: u64,
) -> Result<Page, DbErr> {
    let mut models = select(filter, after).limit(size + 1).all(db).await?;
    if models.is_empty() {
        return Ok(Page { parts: Vec::new(), next: None });
    }
    let more = models.len() as u64 > size;
    models.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    let next = models.last().filter(|_| more).map(|model| model.id);
    let ids: Vec<Uuid> = models.iter().map(|model| model.id).collect();
    let names: BTreeSet<&str> = models.iter().map(|model| model.name.as_str()).collect();
    let of_providers: BTreeSet<Uuid> = models.iter().map(|model| model.provider_id).collect();
    let of_tenants: BTreeSet<Uuid> = models.iter().map(|model| model.tenant_id).collect();

    let providers = providers::Entity::find().filter(providers::Column::Id.is_in(of_providers.clone()));
    let providers = by_id(providers.all(db).await?, |row| row.id);
    let tenants = tenants::Entity::find().filter(tenants::Column::Id.is_in(of_tenants.clone()));
    let tenants = by_id(tenants.all(db).await?, |row| row.id);
    let credentials = credentials(db, &ids, &of_providers, names).await?;
    let keys = tenant_keys::of_tenants(db, ring, of_tenants).await?;
    let mut configs: HashMap<Uuid, Vec<lb_configs::Model>> = HashMap::new();
    for row in lb_configs::Entity::find()
        .filter(lb_configs::Column::ModelId.is_in(ids))
        .order_by_asc(lb_configs::Column::Ordinal)
        .all(db)
        .await?
    {
        configs.entry(row.model_id).or_default().push(row);
    }

    let active: HashMap<(Uuid, &str, &str), &Arc<credentials::Model>> = credentials
        .values()
        .filter(|row| row.active)
        .map(|row| ((row.provider_id, row.model_type.as_str(), row.model.as_str()), row))
        .collect();
    let parts = models.into_iter().filter_map(|model| {
        // Foreign keys and one snapshot a read: the parents are there.
        let provider = providers.get(&model.provider_id)?;
        let tenant = tenants.get(&model.tenant_id)?;
        let Some(model_type) = ModelType::from_name(&model.model_type) else {
            tracing::error!(model = %model.id, "a model is of a type that this build does not know");
            return None;
        };
        let kind = find::kind(provider).ok()?;
        let inherit = active
            .get(&(provider.id, model.model_type.as_str(), model.name.as_str()))
            .or_else(|| active.get(&(provider.id, "", "")))
            .map(|row| Arc::clone(row));
        Some(Parts {
            key: ModelKey {
                tenant: tenant.name.clone(),
                provider: provider.name.clone(),
                model_type,
                model: model.name.clone(),
            },
            tenant: Arc::clone(tenant),
            provider: Arc::clone(provider),
            kind,
            configs: configs.remove(&model.id).unwrap_or_default(),
            inherit,
            credentials: Arc::clone(&credentials),
            keys: keys.get(&tenant.id).cloned().unwrap_or_default(),
            model,
        })
    });
    Ok(Page { parts: parts.collect(), next })
}

/// One model that is there.
///
/// # Errors
/// [`Error::Internal`] also where this build does not know its type or its kind.
pub async fn one(db: &impl ConnectionTrait, ring: &KeyRing, model: Uuid) -> Result<Parts, Error> {
    page(db, ring, Filter::Model(model), None, 1).await?.parts.pop().ok_or(Error::Internal)
}

/// The first model after that one.
pub async fn next(
    db: &impl ConnectionTrait,
    filter: Filter,
    after: Option<Uuid>,
) -> Result<Option<Uuid>, DbErr> {
    select(filter, after).select_only().column(models::Column::Id).limit(1).into_tuple().one(db).await
}

/// Models by id, after that one.
fn select(filter: Filter, after: Option<Uuid>) -> Select<models::Entity> {
    let mut query = models::Entity::find().order_by_asc(models::Column::Id);
    query = match filter {
        Filter::All => query,
        Filter::Tenant(id) => query.filter(models::Column::TenantId.eq(id)),
        Filter::Provider(id) => query.filter(models::Column::ProviderId.eq(id)),
        Filter::Type(id, model_type) => query
            .filter(models::Column::ProviderId.eq(id))
            .filter(models::Column::ModelType.eq(model_type.name())),
        Filter::Model(id) => query.filter(models::Column::Id.eq(id)),
    };
    match after {
        Some(after) => query.filter(models::Column::Id.gt(after)),
        None => query,
    }
}

fn by_id<R>(rows: Vec<R>, id: impl Fn(&R) -> Uuid) -> HashMap<Uuid, Arc<R>> {
    rows.into_iter().map(|row| (id(&row), Arc::new(row))).collect()
}

/// The active credentials of these models and their providers, and those their configs link.
async fn credentials(
    db: &impl ConnectionTrait,
    models: &[Uuid],
    providers: &BTreeSet<Uuid>,
    names: BTreeSet<&str>,
) -> Result<Arc<HashMap<Uuid, Arc<credentials::Model>>>, DbErr> {
    let linked = lb_configs::Entity::find()
        .select_only()
        .column(lb_configs::Column::CredentialId)
        .filter(lb_configs::Column::ModelId.is_in(models.iter().copied()))
        .filter(lb_configs::Column::CredentialId.is_not_null())
        .into_query();
    let active = Condition::all()
        .add(credentials::Column::ProviderId.is_in(providers.iter().copied()))
        .add(credentials::Column::Active.eq(true))
        .add(
            Condition::any()
                .add(credentials::Column::Model.eq(""))
                .add(credentials::Column::Model.is_in(names)),
        );
    let rows = credentials::Entity::find()
        .filter(Condition::any().add(active).add(credentials::Column::Id.in_subquery(linked)))
        .all(db)
        .await?;
    Ok(Arc::new(by_id(rows, |row| row.id)))
}

/// A tenant's default model of one type.
pub struct DefaultModel {
    /// Its tenant's row id.
    pub tenant: Uuid,
    /// Its name.
    pub key: ModelKey,
    /// Nothing is set: it is the first, by provider and name, that is enabled.
    pub computed: bool,
}

/// The default models of a tenant, or of all: the one set, else the first that is enabled.
pub async fn defaults(db: &impl ConnectionTrait, tenant: Option<Uuid>) -> Result<Vec<DefaultModel>, DbErr> {
    let only = if tenant.is_some() { "AND m.tenant_id = $1" } else { "" };
    let sql = format!(
        "SELECT tenant_id, tenant, model_type, provider, model, computed FROM (
           SELECT m.tenant_id, t.name AS tenant, m.model_type, p.name AS provider, m.name AS model,
             d.model_id IS NULL AS computed,
             ROW_NUMBER() OVER (PARTITION BY m.tenant_id, m.model_type
               ORDER BY CASE WHEN d.model_id IS NULL THEN 1 ELSE 0 END, p.name, m.name) AS place
           FROM models m
           JOIN providers p ON p.id = m.provider_id
           JOIN tenants t ON t.id = m.tenant_id
           LEFT JOIN default_models d ON d.model_id = m.id
           WHERE (d.model_id IS NOT NULL OR (m.enabled AND p.enabled)) {only}
         ) ranked WHERE place = 1"
    );
    let values = tenant.map(sea_orm::Value::from);
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    let mut found = Vec::new();
    for row in db.query_all_raw(statement).await? {
        let Some(model_type) = ModelType::from_name(&row.try_get::<String>("", "model_type")?) else {
            continue;
        };
        found.push(DefaultModel {
            tenant: row.try_get("", "tenant_id")?,
            key: ModelKey {
                tenant: row.try_get("", "tenant")?,
                provider: row.try_get("", "provider")?,
                model_type,
                model: row.try_get("", "model")?,
            },
            computed: row.try_get("", "computed")?,
        });
    }
    Ok(found)
}
