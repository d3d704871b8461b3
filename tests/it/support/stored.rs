//! Looks into Rota's database from outside: what did a request leave there?

use std::collections::BTreeMap;

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};

/// Tables that grow with every change: their size tells enough.
const LOGS: &[&str] = &["audit_events", "outbox"];
/// Written whenever a token is used, in the background.
const CLOCK: &str = "last_used_at";

/// What a database holds, a digest a table.
pub struct Stored {
    database: DatabaseConnection,
    tables: Vec<String>,
    /// Counts the commits of others: while it stands still nothing can have changed. SQLite only.
    version: Option<i64>,
    digests: BTreeMap<String, String>,
}

impl Stored {
    /// As it is now.
    pub async fn open(url: &str) -> Self {
        // SQLite's version is a connection's own.
        let mut options = ConnectOptions::new(url);
        options.max_connections(1).sqlx_logging(false);
        let database = Database::connect(options).await.unwrap();
        let tables = match database.get_database_backend() {
            DbBackend::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table'",
            _ => "SELECT tablename::text AS name FROM pg_tables WHERE schemaname = 'public'",
        };
        let mut stored = Self {
            tables: texts(&database, tables, "name").await,
            database,
            version: None,
            digests: [].into(),
        };
        stored.changed().await;
        stored
    }

    /// Which tables have changed since it was last asked.
    pub async fn changed(&mut self) -> Vec<String> {
        if self.database.get_database_backend() == DbBackend::Sqlite {
            let row =
                self.database.query_one_raw(self.statement("PRAGMA data_version")).await.unwrap().unwrap();
            let version = Some(row.try_get_by_index(0).unwrap());
            if self.version == version {
                return Vec::new();
            }
            self.version = version;
        }
        let mut changed = Vec::new();
        for table in self.tables.clone() {
            let digest = self.digest(&table).await;
            if self.digests.insert(table.clone(), digest.clone()).is_none_or(|before| before != digest) {
                changed.push(table);
            }
        }
        changed
    }

    async fn digest(&self, table: &str) -> String {
        let sql = match self.database.get_database_backend() {
            _ if LOGS.contains(&table) => format!("SELECT CAST(COUNT(*) AS TEXT) AS digest FROM {table}"),
            DbBackend::Sqlite => {
                let columns =
                    format!("SELECT name FROM pragma_table_info('{table}') WHERE name <> '{CLOCK}'");
                let columns = texts(&self.database, &columns, "name").await;
                let row = columns
                    .iter()
                    .map(|column| format!("quote({column})"))
                    .collect::<Vec<_>>()
                    .join(" || ',' || ");
                format!("SELECT COALESCE(group_concat({row}, ';'), '') AS digest FROM {table}")
            }
            _ => format!(
                "SELECT COALESCE(md5(string_agg((to_jsonb(t) - '{CLOCK}')::text, ';' ORDER BY to_jsonb(t)::text)), '') AS digest FROM {table} t"
            ),
        };
        texts(&self.database, &sql, "digest").await.remove(0)
    }

    fn statement(&self, sql: &str) -> Statement {
        Statement::from_string(self.database.get_database_backend(), sql)
    }
}

/// The texts of one column.
async fn texts(database: &DatabaseConnection, sql: &str, column: &str) -> Vec<String> {
    let statement = Statement::from_string(database.get_database_backend(), sql);
    let rows = database.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get("", column).unwrap()).collect()
}
