//! Changes of aliases.

use crate::catalog::{
    names::{self, Check, shown},
    stored::{
        Located, Reload, aliases,
        entity::{model_aliases, models, providers},
        find, locate,
    },
    types::{Error, ModelAlias, ModelKey, ResourceKind},
    write::{
        audit::Event,
        quota,
        writer::{Writer, check_revision},
    },
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait,
    QueryFilter, Set,
};
use serde_json::{Value, json};
use uuid::Uuid;

impl Writer {
    /// Makes an alias or gives it another target. Violations of its fields are relative to it.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::NotFound`] for the target, and for the alias where a revision says that there was
    /// one; [`Error::AlreadyExists`] where it equals `provider/model` of a model; [`Error::StaleRevision`].
    pub async fn put_alias(&self, new: ModelAlias) -> Result<ModelAlias, Error> {
        let mut check = Check::default();
        check.note(names::model("name", &new.name))?;
        let target = check.note(names::key_parts(&new.target).map_err(|error| error.under("target")))?;
        let Some(target) = target else { return Err(check.into_error()) };
        check.finish()?;
        let write = self.begin().await?;
        let Located { tenant, model, .. } = locate(&write.tx, &target).await?;
        let mut event = Event::new("PutModelAlias", &target.tenant, resource(&new.name));
        let revision = match aliases::one(&write.tx, tenant.id, &new.name).await? {
            Some(row) => {
                check_revision(new.revision, row.revision)?;
                let (id, revision) = (row.id, row.revision + 1);
                event = event.before(&row.alias().map(|alias| told(&alias)));
                let update = model_aliases::ActiveModel {
                    id: Set(id),
                    model_id: Set(model.id),
                    revision: Set(revision),
                    ..Default::default()
                };
                update.update(&write.tx).await?;
                revision
            }
            // A revision says that there was one.
            None if new.revision != 0 => return Err(missing(&new.name)),
            None => {
                let of_tenant =
                    model_aliases::Entity::find().filter(model_aliases::Column::TenantId.eq(tenant.id));
                quota::check(of_tenant.count(&write.tx).await? + 1, write.bounds().aliases, "aliases")?;
                if is_model(&write.tx, tenant.id, &new.name).await? {
                    return Err(Error::AlreadyExists(ResourceKind::Model, shown(&new.name)));
                }
                let row = model_aliases::Model {
                    id: Uuid::now_v7(),
                    tenant_id: tenant.id,
                    name: new.name.clone(),
                    model_id: model.id,
                    revision: 1,
                };
                let insert = model_aliases::Entity::insert(row.into_active_model());
                insert.exec_without_returning(&write.tx).await?;
                1
            }
        };
        let alias = ModelAlias { name: new.name, target: target.into_owned(), revision };
        let event = event.after(&told(&alias));
        write.commit(Some(tenant.id), Reload::Model(model.id), event).await?;
        Ok(alias)
    }

    /// Deletes an alias. Its target stays.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_alias(&self, tenant: &str, name: &str) -> Result<(), Error> {
        names::tenant("tenant_id", tenant)?;
        names::model("name", name)?;
        let write = self.begin().await?;
        let owner = find::tenant(&write.tx, tenant).await?;
        let query = model_aliases::Entity::find()
            .filter(model_aliases::Column::TenantId.eq(owner.id))
            .filter(model_aliases::Column::Name.eq(name));
        let row = query.one(&write.tx).await?.ok_or_else(|| missing(name))?;
        let known = aliases::one(&write.tx, owner.id, name).await?.and_then(aliases::Row::alias);
        let event = Event::new("DeleteModelAlias", tenant, resource(name));
        let event = event.before(&known.as_ref().map(told));
        model_aliases::Entity::delete_by_id(row.id).exec(&write.tx).await?;
        write.commit(Some(owner.id), Reload::Model(row.model_id), event).await
    }
}

fn missing(name: &str) -> Error {
    Error::NotFound(ResourceKind::Alias, shown(name))
}

fn resource(name: &str) -> String {
    format!("alias {name}")
}

/// What audit events tell of an alias.
fn told(alias: &ModelAlias) -> Value {
    let ModelKey { provider, model, model_type, .. } = &alias.target;
    let target = json!({ "provider": provider, "model": model, "model_type": model_type.name() });
    json!({ "name": alias.name, "target": target, "revision": alias.revision })
}

/// Whether a model of the tenant is called so, of whatever type.
async fn is_model(db: &impl ConnectionTrait, tenant: Uuid, name: &str) -> Result<bool, Error> {
    let mut named = Condition::any();
    let mut readable = false;
    for (provider, model) in names::readings(name) {
        readable = true;
        let both =
            Condition::all().add(providers::Column::Name.eq(provider)).add(models::Column::Name.eq(model));
        named = named.add(both);
    }
    if !readable {
        return Ok(false);
    }
    let found = models::Entity::find()
        .find_also_related(providers::Entity)
        .filter(models::Column::TenantId.eq(tenant))
        .filter(named)
        .one(db)
        .await?;
    Ok(found.is_some())
}
