//! A database, looked into and changed behind Rota's back.

use std::path::Path;

use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement, TryGetable};

use super::rota::Rota;

/// A connection of the test's own.
pub struct Sql(DatabaseConnection);

impl Sql {
    pub async fn at(url: &str) -> Self {
        Self(Database::connect(url).await.unwrap())
    }

    /// To a Rota that keeps its data in SQLite.
    pub async fn of_sqlite(rota: &Rota) -> Self {
        Self::at(&sqlite_url(&rota.data_dir())).await
    }

    /// How many rows a statement has changed.
    pub async fn run(&self, sql: &str) -> u64 {
        self.0.execute_unprepared(sql).await.unwrap().rows_affected()
    }

    /// The first column of what a query finds.
    pub async fn rows<T: TryGetable>(&self, sql: &str) -> Vec<T> {
        let statement = Statement::from_string(self.0.get_database_backend(), sql);
        let rows = self.0.query_all_raw(statement).await.unwrap();
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }

    /// How many rows of any table hold this text, whatever the column.
    pub async fn naming(&self, text: &str) -> usize {
        let sqlite = self.0.get_database_backend() == DbBackend::Sqlite;
        let columns = if sqlite {
            "SELECT m.name || '|' || c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
        } else {
            "SELECT table_name || '|' || column_name FROM information_schema.columns WHERE table_schema = 'public'"
        };
        let mut found = 0;
        for column in self.rows::<String>(columns).await {
            let (table, column) = column.split_once('|').unwrap();
            let like = format!("SELECT 'x' FROM {table} WHERE CAST({column} AS TEXT) LIKE '%{text}%'");
            found += self.rows::<String>(&like).await.len();
        }
        found
    }

    pub async fn close(self) {
        self.0.close().await.unwrap();
    }
}

/// The URL of the SQLite database in a data directory.
pub fn sqlite_url(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("rota.db").display())
}
