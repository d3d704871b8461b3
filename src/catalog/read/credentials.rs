//! Lists credentials, and finds what a validation of one calls.

use crate::{
    catalog::{
        addresses::provider_address,
        handle::Catalog,
        names::{self, Check, shown},
        secrets::{
            fields::{self, Holder, Keys, UNREADABLE},
            tenant_keys,
        },
        stored::{
            Paging,
            entity::{credentials, providers, tenants},
            find, switches,
        },
        types::{Credential, CredentialOwner, Error, Page, PageRequest, ResourceKind},
    },
    provider::{self, KindSpec, ModelType, Target},
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use std::collections::{BTreeMap, HashMap};
use url::Url;
use uuid::Uuid;

pub(in crate::catalog) fn credential(
    row: credentials::Model,
    tenant: &str,
    provider: &providers::Model,
    keys: &Keys,
) -> Credential {
    let kind = provider::kind(&provider.kind);
    let holder = Holder::credential(row.id);
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

/// A credential's row, with its owners.
pub(in crate::catalog) struct Found {
    pub tenant: tenants::Model,
    pub provider: providers::Model,
    pub row: credentials::Model,
}

/// A provider's credential, by the text of its row id.
pub(in crate::catalog) async fn find_credential(
    db: &impl ConnectionTrait,
    tenant: &str,
    provider: &str,
    id: &str,
) -> Result<Found, Error> {
    let tenant = find::tenant(db, tenant).await?;
    let provider = find::provider(db, tenant.id, provider).await?;
    let row = match id.parse::<Uuid>() {
        Ok(id) => credentials::Entity::find_by_id(id).one(db).await?,
        Err(_) => None,
    };
    let row = row.filter(|row| row.provider_id == provider.id);
    let row = row.ok_or_else(|| Error::NotFound(ResourceKind::Credential, shown(id)))?;
    Ok(Found { tenant, provider, row })
}

impl Catalog {
    /// One credential, secrets masked.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get_credential(&self, tenant: &str, provider: &str, id: &str) -> Result<Credential, Error> {
        let provider = names::provider("provider", provider)?;
        // Row and key of one moment: a rotation may be at work.
        let tx = self.db().begin_read().await?;
        let found = find_credential(&tx, tenant, provider, id).await?;
        let keys = tenant_keys::of_tenant(&tx, self.ring(), found.tenant.id).await?;
        tx.commit().await?;
        Ok(credential(found.row, tenant, &found.provider, &keys))
    }

    /// What a validation of a provider's credential calls: fields that are not stored, a stored credential, or a stored one
    /// with some fields replaced.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the fields, [`Error::NotFound`], [`Error::SecretUnreadable`].
    pub async fn credential_target(
        &self,
        tenant: &str,
        provider: &str,
        id: &str,
        given: BTreeMap<String, String>,
    ) -> Result<(&'static KindSpec, Target), Error> {
        let name = names::provider("provider", provider)?;
        let tx = self.db().begin_read().await?;
        let owner = find::tenant(&tx, tenant).await?;
        let provider = find::provider(&tx, owner.id, name).await?;
        let kind = find::kind(&provider)?;
        let stored = if id.is_empty() {
            BTreeMap::new()
        } else {
            let row = find_credential(&tx, tenant, name, id).await?.row;
            let keys = tenant_keys::of_tenant(&tx, self.ring(), owner.id).await?;
            fields::read(Some(kind), &row.fields, Holder::credential(row.id), &keys)
                .map_err(|_| Error::SecretUnreadable)?
        };
        tx.commit().await?;
        let mut check = Check::default();
        let fields = fields::to_validate(kind, &given, &stored, "fields", &mut check);
        check.finish()?;
        let base_url = Url::parse(provider_address(kind, &provider.base_url)).map_err(|_| Error::Internal)?;
        let switches = switches(&provider.switches);
        Ok((
            kind,
            Target {
                tenant: owner.id,
                base_url,
                model: String::new(),
                fields: fields.into_iter().collect(),
                switches,
                connect_timeout: None,
            },
        ))
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
        let tx = self.db().begin_read().await?;
        let owner = find::tenant(&tx, tenant).await?;
        let mut query = credentials::Entity::find()
            .filter(credentials::Column::TenantId.eq(owner.id))
            .order_by_asc(credentials::Column::Id)
            .limit(paging.size + 1);
        if !provider.is_empty() {
            let name = names::provider("provider", provider)?;
            let row = find::provider(&tx, owner.id, name).await?;
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
        let keys = tenant_keys::of_tenant(&tx, self.ring(), owner.id).await?;
        tx.commit().await?;
        let item = |row: credentials::Model| {
            owners.get(&row.provider_id).map(|provider| credential(row.clone(), tenant, provider, &keys))
        };
        let page = paging.page(rows, |row| vec![row.id.to_string()], item);
        // Foreign keys: the provider is there.
        Ok(Page { items: page.items.into_iter().flatten().collect(), next: page.next })
    }
}
