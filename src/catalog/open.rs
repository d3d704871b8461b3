//! Opens a catalog: connects, checks the master key, and brings the schema up to date.

use crate::{
    catalog::{
        handle::Catalog,
        secrets::master_key::MasterKeySource,
        stored::{
            Db,
            connect::{DatabaseOptions, OpenError},
            entity::meta,
            migration,
        },
        types::Bounds,
    },
    provider::guard::Networks,
};
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, IntoActiveModel, sea_query::OnConflict};

/// Names our advisory lock on PostgreSQL: `rota` in ASCII.
const MIGRATION_LOCK: i64 = 0x726f_7461;

/// How to open a catalog. There is no `Debug`, since the URL may hold a password.
pub struct OpenOptions {
    /// `sqlite://…` or `postgres://…`.
    pub database_url: String,
    /// Where the master key comes from.
    pub master_key: MasterKeySource,
    /// Which networks a tenant's `base_url` may reach.
    pub networks: Networks,
    /// How the database is used.
    pub database: DatabaseOptions,
    /// What tenants may store, and how long what their changes leave behind is kept.
    pub bounds: Bounds,
}

impl Catalog {
    /// Connects, and checks the master key where the database knows one. Does not migrate.
    ///
    /// # Errors
    /// [`OpenError`]; a wrong master key is refused before anything is written.
    pub async fn open(options: OpenOptions) -> Result<Self, OpenError> {
        let OpenOptions { database_url, master_key, networks, database, bounds } = options;
        let ring = master_key.ring().await?;
        let catalog = Self::on(Db::open(&database_url, database).await?, ring, networks, bounds);
        catalog.verify_master_key(catalog.db()).await?;
        Ok(catalog)
    }

    /// Brings the schema up to date. Several may try at once: they take turns.
    ///
    /// # Errors
    /// [`OpenError`]; a failed migration leaves nothing behind.
    pub async fn migrate(&self) -> Result<(), OpenError> {
        let tx = self.db().begin_migration().await?;
        if tx.get_database_backend() == DbBackend::Postgres {
            // Held until the commit; a second migrator then finds nothing left to do.
            let lock = format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})");
            tx.execute_unprepared(&lock).await?;
        }
        // Again: another start may have been first since.
        self.verify_master_key(&tx).await?;
        migration::run(&tx).await?;
        tx.commit().await?;
        self.keep_check_value().await?;
        self.verify_master_key(self.db()).await
    }

    /// Writes the check value where there is none. Two first starts may race: the first one's value stays.
    async fn keep_check_value(&self) -> Result<(), OpenError> {
        let value = self.ring().check_value().map_err(|_| OpenError::Seal)?;
        let row = meta::Model { key: meta::MASTER_KEY_CHECK.to_owned(), value };
        let first = OnConflict::column(meta::Column::Key).do_nothing().to_owned();
        meta::Entity::insert(row.into_active_model())
            .on_conflict(first)
            .exec_without_returning(self.db())
            .await?;
        Ok(())
    }

    /// Holds the ring against the check value where there is one. It needs no more than the oldest schema.
    async fn verify_master_key(&self, db: &impl ConnectionTrait) -> Result<(), OpenError> {
        if !migration::has_table(db, "meta").await? {
            return Ok(());
        }
        match meta::Entity::find_by_id(meta::MASTER_KEY_CHECK).one(db).await? {
            Some(row) if !self.ring().opens(&row.value) => Err(OpenError::WrongMasterKey),
            _ => Ok(()),
        }
    }
}
