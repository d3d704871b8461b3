//! What cannot be compiled or read stops its own model alone.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rota::catalog::{Catalog, Error, ModelKey, NewModel, Pool, ResourceKind};

use crate::catalog::poison::POISON;

use super::{Bed, KEY, OTHER_KEY, new_model, serving};

/// Counts the panics that a catalog catches from here on.
fn panics(catalog: &Catalog) -> impl Fn() -> usize {
    let caught = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&caught);
    catalog.on_panic(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    move || caught.load(Ordering::SeqCst)
}

fn poisonous(key: &ModelKey) -> NewModel {
    NewModel { upstream_model: POISON.to_owned(), ..new_model(key) }
}

async fn resolve(catalog: &Catalog, key: &ModelKey) -> Result<Arc<Pool>, Error> {
    catalog.resolve(&key.tenant, &key.provider, key.model_type, &key.model).await
}

impl Bed {
    /// Makes what is stored of a model unreadable, or readable again.
    async fn set_lb_revision(&self, key: &ModelKey, value: &str) {
        let sql = format!("UPDATE models SET lb_revision = {value} WHERE name = '{}'", key.model);
        assert_eq!(self.sql().await.run(&sql).await, 1);
    }
}

#[tokio::test]
async fn a_panic_stops_its_own_model_alone() {
    let (bed, good) = Bed::with_model().await;
    bed.credential("openai", "one", KEY).await;
    let replica = bed.replica().await;
    let (here, there) = (panics(&bed.catalog), panics(&replica));

    let bad = bed.model("openai", "bad").await;
    assert!(resolve(&bed.catalog, &bad).await.is_ok());
    bed.writer().put_model(poisonous(&bad)).await.unwrap();
    assert_eq!(here(), 1);
    assert!(matches!(resolve(&bed.catalog, &bad).await, Err(Error::Unusable)));
    assert!(bed.catalog.pool(&bad).is_none());
    assert_eq!(here(), 1, "a call does not compile it again");
    assert_eq!(bed.serving(&good), [KEY]);

    // The follower goes on to what comes after it.
    let late = bed.model("openai", "late").await;
    replica.catch_up().await.unwrap();
    assert!(there() >= 1);
    assert!(matches!(resolve(&replica, &bad).await, Err(Error::Unusable)));
    assert_eq!(serving(&replica, &late), [KEY]);
    let caught = there();
    replica.catch_up().await.unwrap();
    assert_eq!(there(), caught, "its row is not read again");
    // A whole load serves the others, too.
    let started = bed.replica().await;
    assert_eq!(serving(&started, &good), [KEY]);
    assert!(matches!(resolve(&started, &bad).await, Err(Error::Unusable)));

    // A change mends it everywhere.
    bed.writer().put_model(new_model(&bad)).await.unwrap();
    assert_eq!(bed.serving(&bad), [KEY]);
    replica.catch_up().await.unwrap();
    assert_eq!(serving(&replica, &bad), [KEY]);
    bed.writer().delete_model(&bad).await.unwrap();
    let gone = resolve(&bed.catalog, &bad).await;
    assert!(matches!(gone, Err(Error::NotFound(ResourceKind::Model, _))));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_stops_its_own_model_alone() {
    let (bed, good) = Bed::with_model().await;
    bed.credential("openai", "one", KEY).await;
    let bad = bed.model("openai", "bad").await;
    let late = bed.model("openai", "late").await;
    let replica = bed.replica().await;
    bed.set_lb_revision(&bad, "'unreadable'").await;

    // All of them are loaded anew: the provider's models.
    let started = bed.replica().await;
    bed.credential("openai", "two", OTHER_KEY).await;
    let last = bed.model("openai", "last").await;
    replica.catch_up().await.unwrap();
    for catalog in [&bed.catalog, &started, &replica] {
        assert!(matches!(resolve(catalog, &bad).await, Err(Error::Internal)));
        assert_eq!(serving(catalog, &good), [KEY]);
        assert_eq!(serving(catalog, &late), [KEY]);
        assert!(resolve(catalog, &last).await.is_ok());
    }
    bed.set_lb_revision(&bad, "1").await;
    assert!(resolve(&replica, &bad).await.is_ok(), "the next call tries again");
}

#[tokio::test]
async fn an_outbox_row_that_cannot_be_read_is_passed_over() {
    let (bed, key) = Bed::with_model().await;
    bed.credential("openai", "one", KEY).await;
    let replica = bed.replica().await;
    let late = bed.model("openai", "late").await;
    let damage = "UPDATE outbox SET scope_id = 'damaged' WHERE number = (SELECT max(number) FROM outbox)";
    assert_eq!(bed.sql().await.run(damage).await, 1);
    replica.catch_up().await.unwrap();
    assert_eq!(serving(&replica, &late), [KEY], "everything was loaded");
    let before = replica.pool(&key).unwrap();
    replica.catch_up().await.unwrap();
    assert!(Arc::ptr_eq(&before, &replica.pool(&key).unwrap()), "once");
    let last = bed.model("openai", "last").await;
    replica.catch_up().await.unwrap();
    assert_eq!(serving(&replica, &last), [KEY]);
}
