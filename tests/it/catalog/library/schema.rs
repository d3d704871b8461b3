//! The schema beside builds before this one and after it.

use rota::{catalog::NewProvider, provider::Switches};

use super::{Bed, MASTER, migrated, open};

#[tokio::test]
async fn a_row_of_an_earlier_build_has_the_defaults_of_what_came_later() {
    let (bed, _) = Bed::with_model().await;
    let insert = "INSERT INTO providers (id, tenant_id, name, kind, display_name, base_url, enabled, revision) \
        SELECT x'01900000000070008000000000000001', tenant_id, 'earlier', kind, '', '', enabled, 1 FROM providers";
    assert_eq!(bed.sql().await.run(insert).await, 1);
    let provider = bed.catalog.get_provider("acme", "earlier").await.unwrap();
    assert_eq!(provider.switches, Switches::default());
}

#[tokio::test]
async fn a_schema_of_a_later_build_is_served_and_written_to() {
    let (bed, _) = Bed::with_model().await;
    let sql = bed.sql().await;
    sql.run("ALTER TABLE providers ADD COLUMN later TEXT NOT NULL DEFAULT ''").await;
    sql.run("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_later', 0)").await;
    let later = r#"UPDATE providers SET switches = '{"no_stream_options":true,"later":1}'"#;
    assert_eq!(sql.run(later).await, 1);

    assert!(migrated(&bed.dir).await);
    let catalog = open(&bed.dir, MASTER).await.unwrap();
    catalog.migrate().await.unwrap();
    catalog.load().await.unwrap();
    let switches = catalog.get_provider("acme", "openai").await.unwrap().switches;
    assert_eq!(switches, Switches { no_stream_options: true, ..Switches::default() });
    let new = NewProvider { name: "new".to_owned(), kind: "openai".to_owned(), ..NewProvider::default() };
    catalog.by_command_line().create_provider("acme", new).await.unwrap();
}

#[tokio::test]
async fn switches_that_cannot_be_read_are_off() {
    let (bed, _) = Bed::with_model().await;
    assert_eq!(bed.sql().await.run("UPDATE providers SET switches = '[1]'").await, 1);
    let provider = bed.catalog.get_provider("acme", "openai").await.unwrap();
    assert_eq!(provider.switches, Switches::default());
}
