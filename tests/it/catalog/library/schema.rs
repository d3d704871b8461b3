//! The schema beside builds before this one and after it.

use std::num::NonZeroU32;

use rota::{
    balance::OnBreak,
    catalog::{NewModel, NewProvider},
    provider::Switches,
};

use super::{Bed, MASTER, migrated, new_model, open, violated};

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
async fn a_policy_of_a_later_build_keeps_what_this_one_does_not_know() {
    let (bed, key) = Bed::with_model().await;
    let sql = bed.sql().await;
    let later = r#"{"max_attempts":2,"on_break":"pause","later":{"on":true}}"#;
    assert_eq!(sql.run(&format!("UPDATE models SET policy = '{later}'")).await, 1);
    let (settings, _) = bed.writer().update_policy(&key, |policy| policy.max_attempts = 3).await.unwrap();
    assert_eq!(settings.on_break(), OnBreak::Fail, "what is not known has its default");
    let stored: Vec<String> = sql.rows("SELECT policy FROM models").await;
    for kept in [r#""on_break":"pause""#, r#""later":{"on":true}"#, r#""max_attempts":3"#] {
        assert!(stored[0].contains(kept), "{stored:?}");
    }
}

#[tokio::test]
async fn a_context_window_is_kept_by_those_who_do_not_know_it() {
    let (bed, key) = Bed::with_model().await;
    let put = async |context_window| {
        let new = NewModel { context_window, ..new_model(&key) };
        bed.writer().put_model(new).await.map(|model| model.context_window)
    };
    assert_eq!(put(None).await.unwrap(), 0);
    assert_eq!(put(Some(128_000)).await.unwrap(), 128_000);
    assert_eq!(put(None).await.unwrap(), 128_000);
    assert_eq!(bed.catalog.pool(&key).unwrap().context_window.map(NonZeroU32::get), Some(128_000));
    assert_eq!(violated(put(Some(u32::MAX)).await), ["context_window"]);
    assert_eq!(put(Some(0)).await.unwrap(), 0);
    assert_eq!(bed.catalog.pool(&key).unwrap().context_window, None);
}

#[tokio::test]
async fn switches_that_cannot_be_read_are_off() {
    let (bed, _) = Bed::with_model().await;
    assert_eq!(bed.sql().await.run("UPDATE providers SET switches = '[1]'").await, 1);
    let provider = bed.catalog.get_provider("acme", "openai").await.unwrap();
    assert_eq!(provider.switches, Switches::default());
}
