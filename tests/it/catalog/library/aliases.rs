//! Aliases, and what one name means: from memory, with how many statements, and on which replica.

use rota::{
    catalog::{
        AuditFilter, Callable, Catalog, Error, ModelAlias, ModelKey, NameError, NewModel, PageRequest,
        ResourceKind,
    },
    provider::ModelType,
};
use tokio_util::sync::CancellationToken;

use crate::catalog::poison::POISON;

use super::{Bed, MASTER, alias, key, new_model, on, open, violated};

/// What a name means for a chat.
async fn meant(catalog: &Catalog, name: &str) -> Result<ModelKey, NameError> {
    catalog.named("acme", name, Some(ModelType::Llm)).await.map(|pool| pool.key.clone())
}

async fn by_alias(catalog: &Catalog, name: &str) -> Result<ModelKey, Error> {
    catalog.resolve("acme", "", ModelType::Llm, name).await.map(|pool| pool.key.clone())
}

fn unknown(answer: Result<ModelKey, NameError>) -> Vec<String> {
    match answer {
        Err(NameError::Unknown { similar, .. }) => similar,
        other => panic!("not unknown: {other:?}"),
    }
}

async fn listed(catalog: &Catalog) -> Vec<ModelAlias> {
    catalog.list_aliases("acme", PageRequest::default()).await.unwrap().items
}

#[tokio::test]
async fn an_alias_comes_changes_and_goes() {
    let (bed, key) = Bed::with_model().await;
    let other = bed.model("openai", "other").await;
    assert_eq!(violated(by_alias(&bed.catalog, "fast").await), ["provider"]);
    let made = bed.writer().put_alias(alias("fast", &key)).await.unwrap();
    assert_eq!(made, ModelAlias { revision: 1, ..alias("fast", &key) });
    assert_eq!(by_alias(&bed.catalog, "fast").await.unwrap(), key);
    assert_eq!(meant(&bed.catalog, "fast").await.unwrap(), key);

    let moved = bed.writer().put_alias(ModelAlias { target: other.clone(), ..made.clone() }).await.unwrap();
    assert_eq!((moved.revision, &moved.target), (2, &other));
    assert_eq!(by_alias(&bed.catalog, "fast").await.unwrap(), other);
    let stale = bed.writer().put_alias(made).await;
    assert!(matches!(stale, Err(Error::StaleRevision { given: 1, current: 2 })), "{stale:?}");
    let absent = bed.writer().put_alias(ModelAlias { revision: 1, ..alias("slow", &key) }).await;
    assert!(matches!(absent, Err(Error::NotFound(ResourceKind::Alias, _))), "{absent:?}");
    assert_eq!(listed(&bed.catalog).await, [moved]);

    let in_use = bed.writer().delete_model(&other).await;
    assert!(
        matches!(&in_use, Err(Error::InUse(ResourceKind::Model, why)) if why.contains("fast")),
        "{in_use:?}"
    );
    bed.writer().delete_alias("acme", "fast").await.unwrap();
    assert_eq!(violated(by_alias(&bed.catalog, "fast").await), ["provider"]);
    let again = bed.writer().delete_alias("acme", "fast").await;
    assert!(matches!(again, Err(Error::NotFound(ResourceKind::Alias, _))), "{again:?}");
    bed.writer().delete_model(&other).await.unwrap();

    let events = bed.catalog.list_audit_events(AuditFilter::default(), PageRequest::default()).await.unwrap();
    let told: Vec<_> = events.items.iter().filter(|event| event.resource == "alias fast").collect();
    let actions: Vec<_> = told.iter().map(|event| event.action.as_str()).collect();
    assert_eq!(actions, ["DeleteModelAlias", "PutModelAlias", "PutModelAlias"]);
    let targets = [&told[1].before, &told[1].after].map(|alias| &alias["target"]["model"]);
    assert_eq!(targets, ["gpt", "other"]);
}

#[tokio::test]
async fn no_alias_hides_a_model_and_no_model_takes_the_name_of_an_alias() {
    let (bed, key) = Bed::with_model().await;
    bed.provider("router", "openai_compatible", "http://127.0.0.1:1/v1").await;
    let nested = bed.model("router", "vendor/model").await;
    for taken in ["openai/gpt", "langgenius/openai/openai/gpt", "router/vendor/model"] {
        let refused = bed.writer().put_alias(alias(taken, &key)).await;
        assert!(matches!(refused, Err(Error::AlreadyExists(ResourceKind::Model, _))), "{taken}: {refused:?}");
    }
    for free in ["gpt", "vendor/model", "openai/later", "langgenius/router/router/later", "openai/gpt/"] {
        bed.writer().put_alias(alias(free, &nested)).await.unwrap();
    }
    for (provider, model) in [("openai", "later"), ("router", "later"), ("openai", "gpt/")] {
        let refused = bed.writer().put_model(new_model(&super::key(provider, model))).await;
        assert!(matches!(refused, Err(Error::AlreadyExists(ResourceKind::Alias, _))), "{refused:?}");
    }
    bed.writer().put_model(new_model(&key)).await.expect("one that is there can be changed");
    assert_eq!(meant(&bed.catalog, "gpt").await.unwrap(), nested, "an alias goes before a bare name");
    assert_eq!(meant(&bed.catalog, "openai/gpt").await.unwrap(), key);
    // Earlier builds did not look at aliases. What they let in goes before the alias.
    bed.sql().await.run("UPDATE model_aliases SET name = 'openai/gpt' WHERE name = 'gpt'").await;
    let replica = bed.replica().await;
    assert_eq!(meant(&replica, "openai/gpt").await.unwrap(), key);
}

#[tokio::test]
async fn a_known_name_costs_no_statement_and_an_unknown_one_few() {
    let (bed, key) = Bed::with_model().await;
    bed.writer().put_alias(alias("fast", &key)).await.unwrap();
    let (replica, sent) = bed.counted().await;
    replica.load().await.unwrap();
    sent();
    for name in ["openai/gpt", "langgenius/openai/openai/gpt", "fast", "gpt"] {
        assert_eq!(meant(&replica, name).await.unwrap(), key, "{name}");
    }
    assert_eq!(by_alias(&replica, "fast").await.unwrap(), key);
    assert_eq!(replica.callable("acme").len(), 2);
    assert_eq!(sent(), 0);
    assert_eq!(unknown(meant(&replica, "gtp-4").await), Vec::<String>::new());
    assert_eq!(violated(by_alias(&replica, "unknown").await), ["provider"]);
    assert_eq!(sent(), 2, "one each, for what others have changed");
    // No model and no alias can have these.
    for name in ["", &"x".repeat(5000), "a\nb"] {
        assert!(unknown(meant(&replica, name).await).is_empty());
    }
    assert_eq!(violated(by_alias(&replica, &"x".repeat(5000)).await), ["provider", "model"]);
    assert_eq!(sent(), 0);
}

#[tokio::test]
async fn what_another_replica_has_changed_is_meant_at_once() {
    let (bed, key) = Bed::with_model().await;
    let replica = bed.replica().await;
    let cancel = CancellationToken::new();
    let following = tokio::spawn(replica.clone().follow(cancel.clone()));
    for turn in 0..20 {
        let name = format!("alias-{turn}");
        bed.writer().put_alias(alias(&name, &key)).await.unwrap();
        let found = if turn % 2 == 0 {
            meant(&replica, &name).await.unwrap()
        } else {
            by_alias(&replica, &name).await.unwrap()
        };
        assert_eq!(found, key);
        let late = bed.model("openai", &format!("late-{turn}")).await;
        assert_eq!(meant(&replica, &late.model).await.unwrap(), late);
    }
    // Many who ask for nothing wait for the same rounds.
    let asked = (0..200).map(|index| {
        let replica = replica.clone();
        async move { unknown(meant(&replica, &format!("{index}-nothing")).await) }
    });
    futures::future::join_all(asked).await;
    bed.writer().delete_tenant("acme").await.unwrap();
    crate::support::until("the end of its names", async || replica.callable("acme").is_empty()).await;
    cancel.cancel();
    following.await.unwrap();
    assert_eq!(bed.sql().await.rows::<String>("SELECT name FROM model_aliases").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_name_is_of_its_tenant_and_type() {
    let (bed, gpt) = Bed::with_model().await;
    bed.provider("azure", "openai_compatible", "http://127.0.0.1:1/v1").await;
    let twin = bed.model("azure", "gpt").await;
    let embedding = ModelKey { model_type: ModelType::TextEmbedding, ..key("azure", "embed") };
    bed.writer().put_model(new_model(&embedding)).await.unwrap();
    bed.writer().put_alias(alias("vectors", &embedding)).await.unwrap();
    match meant(&bed.catalog, "gpt").await {
        Err(NameError::Ambiguous { name, candidates }) => {
            assert_eq!(
                (name.as_str(), candidates),
                ("gpt", vec!["azure/gpt".to_owned(), "openai/gpt".to_owned()])
            );
        }
        other => panic!("{other:?}"),
    }
    for (name, found) in [("openai/gpt", &gpt), ("azure/gpt", &twin)] {
        assert_eq!(&meant(&bed.catalog, name).await.unwrap(), found);
    }
    // An alias of another type is none here, and a call by key is told why.
    assert!(unknown(meant(&bed.catalog, "vectors").await).is_empty());
    assert!(unknown(meant(&bed.catalog, "azure/embed").await).is_empty());
    assert_eq!(violated(by_alias(&bed.catalog, "vectors").await), ["model"]);
    let any = bed.catalog.named("acme", "vectors", None).await.unwrap();
    assert_eq!(any.key, embedding);
    assert_eq!(unknown(meant(&bed.catalog, "openai/gptt").await), ["azure/gpt", "openai/gpt"]);

    bed.writer().create_tenant("beta", "").await.unwrap();
    for name in ["openai/gpt", "vectors", "gpt"] {
        let foreign = bed.catalog.named("beta", name, None).await.map(|pool| pool.key.clone());
        assert!(unknown(foreign).is_empty(), "{name}: nothing of another tenant is told");
    }
    assert!(bed.catalog.callable("beta").is_empty());
}

#[tokio::test]
async fn what_can_be_called_is_listed_by_name() {
    let (bed, gpt) = Bed::with_model().await;
    let off = bed.model("openai", "off").await;
    let large = NewModel { context_window: Some(128_000), ..new_model(&key("openai", "large")) };
    let large = bed.writer().put_model(large).await.unwrap().key;
    for (name, target) in [("fast", &large), ("idle", &off), ("a", &gpt)] {
        bed.writer().put_alias(alias(name, target)).await.unwrap();
    }
    bed.writer().set_model_enabled(&off, false).await.unwrap();
    let window = bed.catalog.pool(&large).unwrap().context_window;
    assert!(window.is_some());
    let of = |name: &str, is_alias, target: &ModelKey, context_window| Callable {
        name: name.to_owned(),
        is_alias,
        target: target.clone(),
        context_window,
    };
    let expected = [
        of("a", true, &gpt, None),
        of("fast", true, &large, window),
        of("openai/gpt", false, &gpt, None),
        of("openai/large", false, &large, window),
    ];
    assert_eq!(bed.catalog.callable("acme"), expected);
    assert_eq!(bed.replica().await.callable("acme"), expected);
    // What is switched off is meant all the same, and its calls are told.
    assert!(!bed.catalog.named("acme", "idle", None).await.unwrap().enabled);
    bed.writer().set_model_enabled(&off, true).await.unwrap();
    assert_eq!(bed.catalog.callable("acme").len(), 6);
}

#[tokio::test]
async fn an_earlier_build_deletes_the_target_of_an_alias() {
    let (bed, key) = Bed::with_model().await;
    bed.writer().put_alias(alias("fast", &key)).await.unwrap();
    let replica = bed.replica().await;
    let sql = bed.sql().await;
    // As a build does that knows no aliases.
    sql.run("PRAGMA foreign_keys = ON").await;
    assert_eq!(sql.run("DELETE FROM models").await, 1);
    assert_eq!(sql.rows::<String>("SELECT name FROM model_aliases").await, Vec::<String>::new());
    replica.load().await.unwrap();
    assert!(unknown(meant(&replica, "fast").await).is_empty());
    assert_eq!(violated(by_alias(&replica, "fast").await), ["provider"]);
}

#[tokio::test]
async fn the_schema_of_an_earlier_build_gets_aliases() {
    let (bed, key) = Bed::with_model().await;
    let sql = bed.sql().await;
    sql.run("DROP TABLE model_aliases").await;
    sql.run("DELETE FROM seaql_migrations WHERE version >= 'm0009'").await;
    let catalog = open(&bed.dir, MASTER).await.unwrap();
    catalog.migrate().await.unwrap();
    catalog.load().await.unwrap();
    catalog.by_command_line().put_alias(alias("fast", &key)).await.unwrap();
    assert_eq!(meant(&catalog, "fast").await.unwrap(), key);
}

#[tokio::test]
async fn aliases_that_cannot_be_read_stay_as_they_were() {
    let (bed, key) = Bed::with_model().await;
    bed.writer().put_alias(alias("fast", &key)).await.unwrap();
    let replica = bed.replica().await;
    bed.sql().await.run("UPDATE model_aliases SET revision = 'unreadable'").await;
    let late = bed.model("openai", "late").await;
    replica.catch_up().await.unwrap();
    assert_eq!(meant(&replica, "late").await.unwrap(), late, "the change is taken in");
    assert_eq!(meant(&replica, "fast").await.unwrap(), key);
    bed.sql().await.run("UPDATE model_aliases SET revision = 1").await;
    // One whose type a later build has added is none here.
    bed.sql().await.run("UPDATE models SET model_type = 'later' WHERE name = 'gpt'").await;
    let started = on(bed.connection().await);
    started.load().await.unwrap();
    assert!(unknown(meant(&started, "fast").await).is_empty());
    assert!(listed(&started).await.is_empty());
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn the_name_of_a_model_that_cannot_be_used_says_so() {
    let (bed, _) = Bed::with_model().await;
    let bad = bed.model("openai", "bad").await;
    bed.writer().put_alias(alias("fast", &bad)).await.unwrap();
    bed.writer().put_model(NewModel { upstream_model: POISON.to_owned(), ..new_model(&bad) }).await.unwrap();
    for name in ["openai/bad", "bad", "fast"] {
        let answer = meant(&bed.catalog, name).await;
        assert!(matches!(answer, Err(NameError::Catalog(Error::Unusable))), "{name}: {answer:?}");
    }
    // One that cannot even be read is no unknown name.
    let unreadable = bed.model("openai", "unreadable").await;
    bed.sql().await.run("UPDATE models SET lb_revision = 'unreadable' WHERE name = 'unreadable'").await;
    let started = bed.replica().await;
    let answer = meant(&started, &format!("openai/{}", unreadable.model)).await;
    assert!(matches!(answer, Err(NameError::Catalog(Error::Internal))), "{answer:?}");
}
