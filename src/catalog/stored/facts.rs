//! Looks at a database without serving from it, for `rota doctor`. It makes no file, migrates nothing, writes nothing, and
//! needs no master key.

use crate::{
    catalog::{
        addresses::provider_address,
        handle::Catalog,
        secrets::key_ring::KeyRing,
        stored::{
            Db,
            connect::{DatabaseOptions, OpenError, file_of},
            entity::{lb_configs, meta, models, providers, tenants},
            migration,
        },
        types::Bounds,
    },
    provider::{self, guard::Networks},
};
use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryFilter, QuerySelect, Statement,
};
use std::collections::HashMap;
use uuid::Uuid;

/// A database that was reached.
#[derive(Clone)]
pub struct DatabaseFacts {
    db: Db,
    /// Which one, and its version.
    pub version: String,
    /// Whether it refuses writes: a standby.
    pub read_only: bool,
    /// Whether a pooler in transaction mode stands before it.
    pub pooled: bool,
}

/// An address that tenants' models are called at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The tenant's id.
    pub tenant: String,
    /// The provider's name.
    pub provider: String,
    /// The `base_url`, as stored.
    pub url: String,
}

impl DatabaseFacts {
    /// Connects. None where SQLite's file is not there yet.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn of(url: &str, options: DatabaseOptions) -> Result<Option<Self>, OpenError> {
        let sqlite = url.starts_with("sqlite:");
        if sqlite && !file_of(url)?.exists() {
            return Ok(None);
        }
        let db = Db::open(url, options).await?;
        let ask = if sqlite {
            "SELECT 'SQLite ' || sqlite_version() AS version, FALSE AS read_only"
        } else {
            "SELECT 'PostgreSQL ' || current_setting('server_version') AS version, \
             current_setting('transaction_read_only')::boolean AS read_only"
        };
        let row = one(&db, ask).await?;
        let (version, read_only) = (row.try_get("", "version")?, row.try_get("", "read_only")?);
        let pooled = db.shares_sessions().await?;
        Ok(Some(Self { db, version, read_only, pooled }))
    }

    /// The names of this build's migrations that have not run.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub async fn pending(&self) -> Result<Vec<&'static str>, DbErr> {
        migration::pending(&self.db).await
    }

    /// Whether the ring opens the check value. None where no start has written one yet.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub async fn opens(&self, ring: &KeyRing) -> Result<Option<bool>, DbErr> {
        if !migration::has_table(&self.db, "meta").await? {
            return Ok(None);
        }
        let row = meta::Entity::find_by_id(meta::MASTER_KEY_CHECK).one(&self.db).await?;
        Ok(row.map(|row| ring.opens(&row.value)))
    }

    /// Its clock. None with SQLite, which has ours.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub async fn now(&self) -> Result<Option<DateTime<Utc>>, DbErr> {
        if self.db.get_database_backend() == DbBackend::Sqlite {
            return Ok(None);
        }
        let ask = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now";
        let ms = one(&self.db, ask).await?.try_get("", "now")?;
        Ok(DateTime::from_timestamp_millis(ms))
    }

    /// Where calls may go: of enabled providers, their own addresses and those of their enabled configs.
    ///
    /// # Errors
    /// Where it cannot be asked, or the schema is not up to date.
    pub async fn addresses(&self) -> Result<Vec<Address>, DbErr> {
        let tenants: HashMap<_, _> = tenants::Entity::find()
            .all(&self.db)
            .await?
            .into_iter()
            .map(|tenant| (tenant.id, tenant.name))
            .collect();
        let tenant = |id: &Uuid| tenants.get(id).cloned().unwrap_or_default();
        let providers: HashMap<_, _> = providers::Entity::find()
            .filter(providers::Column::Enabled.eq(true))
            .all(&self.db)
            .await?
            .into_iter()
            .map(|provider| (provider.id, provider))
            .collect();
        let mut addresses: Vec<_> = providers
            .values()
            .filter_map(|row| {
                let url = provider_address(provider::kind(&row.kind)?, &row.base_url);
                let (tenant, provider) = (tenant(&row.tenant_id), row.name.clone());
                Some(Address { tenant, provider, url: url.to_owned() })
            })
            .collect();
        let models: HashMap<Uuid, Uuid> = models::Entity::find()
            .select_only()
            .columns([models::Column::Id, models::Column::ProviderId])
            .into_tuple::<(Uuid, Uuid)>()
            .all(&self.db)
            .await?
            .into_iter()
            .collect();
        let own = lb_configs::Entity::find()
            .filter(lb_configs::Column::BaseUrl.ne(""))
            .filter(lb_configs::Column::Enabled.eq(true))
            .all(&self.db)
            .await?;
        addresses.extend(own.into_iter().filter_map(|config| {
            let provider = providers.get(models.get(&config.model_id)?)?.name.clone();
            Some(Address { tenant: tenant(&config.tenant_id), provider, url: config.base_url })
        }));
        addresses.sort_by(|one, other| (&one.tenant, &one.provider).cmp(&(&other.tenant, &other.provider)));
        Ok(addresses)
    }

    /// A catalog on this connection, with its schema as it is.
    #[must_use]
    pub fn catalog(self, ring: KeyRing, networks: Networks) -> Catalog {
        Catalog::on(self.db, ring, networks, Bounds::default())
    }
}

async fn one(db: &Db, ask: &str) -> Result<sea_orm::QueryResult, DbErr> {
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), ask)).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("no row".to_owned()))
}
