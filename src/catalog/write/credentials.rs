//! Credentials: named sets of secrets, of a provider or of one model of it.
//!
//! Each owner has at most one active credential, which serves without balancing. The first becomes active by itself;
//! when the active one goes, the oldest other takes over.

use crate::catalog::{
    Catalog, Credential, CredentialChange, CredentialOwner, Error, INHERIT, NewCredential, Page, PageRequest,
    Thing,
    compiled::compile::{UNREADABLE, credential_holder, provider_address},
    compiled::load,
    names::{self, Check, shown},
    secrets::fields::{self, Keys, Writing},
    stored::database::{self, Paging, Scope, begin_read, check_revision, taken},
    stored::entity::{credentials, lb_configs, models, providers, tenants},
    write::audit::Event,
    write::providers::stored_kind,
};
use crate::provider::{self, KindSpec, ModelType, Target};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, ModelTrait,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select, Set,
    sea_query::{Expr, ExprTrait},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use url::Url;
use uuid::Uuid;

pub(in crate::catalog) fn credential(
    row: credentials::Model,
    tenant: &str,
    provider: &providers::Model,
    keys: &Keys,
) -> Credential {
    let kind = provider::kind(&provider.kind);
    let holder = credential_holder(row.id);
    let fields = fields::masked(kind, &row.fields, holder, keys);
    let readable = fields::read(kind, &row.fields, holder, keys).is_ok();
    let model = ModelType::from_name(&row.model_type).map(|model_type| (model_type, row.model));
    Credential {
        id: row.id,
        tenant: tenant.to_owned(),
        owner: CredentialOwner { provider: provider.name.clone(), model },
        name: row.name,
        fields,
        active: row.active,
        revision: row.revision,
        warning: if readable { "" } else { UNREADABLE }.to_owned(),
    }
}

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

/// What a change of this credential touches: its model where it has one, else all models of the provider.
async fn scope(db: &impl ConnectionTrait, row: &credentials::Model) -> Result<Scope, DbErr> {
    let Some(model_type) = ModelType::from_name(&row.model_type) else {
        return Ok(Scope::Provider(row.provider_id));
    };
    let model = database::model(db, row.provider_id, model_type, &row.model).await?;
    Ok(model.map_or(Scope::Provider(row.provider_id), |model| Scope::Model(model.id)))
}

/// A credential's row with what it takes to read and write it.
struct Found {
    tenant: tenants::Model,
    provider: providers::Model,
    row: credentials::Model,
}

async fn find(db: &impl ConnectionTrait, tenant: &str, provider: &str, id: &str) -> Result<Found, Error> {
    let tenant = database::tenant(db, tenant).await?;
    let provider = database::provider(db, tenant.id, provider).await?;
    let row = match id.parse::<Uuid>() {
        Ok(id) => credentials::Entity::find_by_id(id).one(db).await?,
        Err(_) => None,
    };
    let row = row.filter(|row| row.provider_id == provider.id);
    let row = row.ok_or_else(|| Error::NotFound(Thing::Credential, shown(id)))?;
    Ok(Found { tenant, provider, row })
}

impl Catalog {
    /// A tenant's data keys.
    pub(in crate::catalog) async fn keys(
        &self,
        db: &impl ConnectionTrait,
        tenant: Uuid,
    ) -> Result<Arc<Keys>, DbErr> {
        Ok(load::keys(db, self.ring(), [tenant]).await?.remove(&tenant).unwrap_or_default())
    }

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
        let write = self.write().await?;
        let owner = database::tenant(&write.tx, tenant).await?;
        let provider = database::provider(&write.tx, owner.id, provider).await?;
        let id = Uuid::now_v7();
        let keys = self.keys(&write.tx, owner.id).await?;
        let writing = Writing {
            kind: stored_kind(&provider)?,
            holder: credential_holder(id),
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
            .map_err(taken(Thing::Credential, &row.name))?;
        let scope = scope(&write.tx, &row).await?;
        let event = Event::new("CreateCredential", tenant, resource(&provider, &row)).after(&row);
        write.commit(Some(owner.id), scope, event).await?;
        Ok(credential(row, tenant, &provider, &keys))
    }

    /// One credential, secrets masked.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get_credential(&self, tenant: &str, provider: &str, id: &str) -> Result<Credential, Error> {
        let provider = names::provider("provider", provider)?;
        // Row and key of one moment: a rotation may be at work.
        let tx = begin_read(self.db()).await?;
        let found = find(&tx, tenant, provider, id).await?;
        let keys = self.keys(&tx, found.tenant.id).await?;
        tx.commit().await?;
        Ok(credential(found.row, tenant, &found.provider, &keys))
    }

    /// Where a trial of a provider's credential goes: fields that are not stored, a stored credential, or a stored one
    /// with some fields replaced.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the fields, [`Error::NotFound`], [`Error::SecretUnreadable`].
    pub async fn credential_trial(
        &self,
        tenant: &str,
        provider: &str,
        id: &str,
        given: BTreeMap<String, String>,
    ) -> Result<(&'static KindSpec, Target), Error> {
        let name = names::provider("provider", provider)?;
        let tx = begin_read(self.db()).await?;
        let owner = database::tenant(&tx, tenant).await?;
        let provider = database::provider(&tx, owner.id, name).await?;
        let kind = stored_kind(&provider)?;
        let stored = if id.is_empty() {
            BTreeMap::new()
        } else {
            let row = find(&tx, tenant, name, id).await?.row;
            let keys = self.keys(&tx, owner.id).await?;
            fields::read(Some(kind), &row.fields, credential_holder(row.id), &keys)
                .map_err(|_| Error::SecretUnreadable)?
        };
        tx.commit().await?;
        let mut check = Check::default();
        let fields = fields::for_trial(kind, &given, &stored, "fields", &mut check);
        check.finish()?;
        let base_url = Url::parse(provider_address(kind, &provider.base_url)).map_err(|_| Error::Internal)?;
        Ok((kind, Target { base_url, model: String::new(), fields: fields.into_iter().collect() }))
    }

    /// Credentials, oldest first: of the tenant, of a provider with its models, or of one model.
    ///
    /// # Errors
    /// [`Error::NotFound`] for tenant and provider.
    pub async fn list_credentials(
        &self,
        tenant: &str,
        provider: &str,
        model: Option<(ModelType, String)>,
        page: PageRequest,
    ) -> Result<Page<Credential>, Error> {
        let paging = Paging::new(&page, 1)?;
        let tx = begin_read(self.db()).await?;
        let owner = database::tenant(&tx, tenant).await?;
        let mut query = credentials::Entity::find()
            .filter(credentials::Column::TenantId.eq(owner.id))
            .order_by_asc(credentials::Column::Id)
            .limit(paging.size + 1);
        if !provider.is_empty() {
            let name = names::provider("provider", provider)?;
            let row = database::provider(&tx, owner.id, name).await?;
            query = query.filter(credentials::Column::ProviderId.eq(row.id));
        }
        if let Some((model_type, model)) = model {
            names::model("model", &model)?;
            query = query
                .filter(credentials::Column::ModelType.eq(model_type.name()))
                .filter(credentials::Column::Model.eq(model));
        }
        if let Some(after) = paging.after_id()? {
            query = query.filter(credentials::Column::Id.gt(after));
        }
        let rows = query.all(&tx).await?;
        let owners = rows.iter().map(|row| row.provider_id);
        let owners = providers::Entity::find().filter(providers::Column::Id.is_in(owners)).all(&tx).await?;
        let owners: HashMap<Uuid, providers::Model> = owners.into_iter().map(|row| (row.id, row)).collect();
        let keys = self.keys(&tx, owner.id).await?;
        tx.commit().await?;
        let item = |row: credentials::Model| {
            owners.get(&row.provider_id).map(|provider| credential(row.clone(), tenant, provider, &keys))
        };
        let page = paging.page(rows, |row| vec![row.id.to_string()], item);
        // Foreign keys: the provider is there.
        Ok(Page { items: page.items.into_iter().flatten().collect(), next: page.next })
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
        let write = self.write().await?;
        let Found { tenant: owner, provider, row } = find(&write.tx, tenant, provider, id).await?;
        check_revision(change.revision, row.revision)?;
        let keys = self.keys(&write.tx, owner.id).await?;
        let event = Event::new("UpdateCredential", tenant, resource(&provider, &row)).before(&row);
        let mut update = row.clone().into_active_model();
        if let Some(given) = &change.fields {
            let writing = Writing {
                kind: stored_kind(&provider)?,
                holder: credential_holder(row.id),
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
        let row = update.update(&write.tx).await.map_err(taken(Thing::Credential, &name))?;
        let scope = scope(&write.tx, &row).await?;
        write.commit(Some(owner.id), scope, event.after(&row)).await?;
        Ok(credential(row, tenant, &provider, &keys))
    }

    /// Deletes a credential and the configs that link it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_credential(&self, tenant: &str, provider: &str, id: &str) -> Result<(), Error> {
        let provider = names::provider("provider", provider)?;
        let write = self.write().await?;
        let Found { tenant: owner, provider, row } = find(&write.tx, tenant, provider, id).await?;
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
        let scope = scope(&write.tx, &row).await?;
        let event = Event::new("DeleteCredential", tenant, resource(&provider, &row)).before(&row);
        write.commit(Some(owner.id), scope, event).await
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
        let write = self.write().await?;
        let Found { tenant: owner, provider, row } = find(&write.tx, tenant, provider, id).await?;
        deactivate(&write.tx, &row).await?;
        let mut update = row.into_active_model();
        update.active = Set(true);
        let row = update.update(&write.tx).await?;
        let keys = self.keys(&write.tx, owner.id).await?;
        let scope = scope(&write.tx, &row).await?;
        let event = Event::new("ActivateCredential", tenant, resource(&provider, &row)).after(&row);
        write.commit(Some(owner.id), scope, event).await?;
        Ok(credential(row, tenant, &provider, &keys))
    }
}

fn resource(provider: &providers::Model, row: &credentials::Model) -> String {
    let owner = if row.model.is_empty() { "" } else { "/" };
    format!("credential {} of {}{owner}{}", row.name, provider.name, row.model)
}

/// The key that seals what is new of a tenant.
pub(in crate::catalog) fn sealing_key<'k>(
    keys: &'k Keys,
    tenant: &tenants::Model,
) -> Result<&'k crate::catalog::secrets::key_ring::DataKey, Error> {
    keys.get(&tenant.data_key_id).map(AsRef::as_ref).ok_or_else(|| {
        tracing::error!(
            tenant = tenant.name,
            "the tenant's data key cannot be opened: nothing can be sealed"
        );
        Error::Internal
    })
}
