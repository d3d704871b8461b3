//! Two replicas on one database.

use std::sync::Arc;

use rota::{
    catalog::{NewToken, Role},
    provider::ModelType,
};
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::until;

use super::{Bed, KEY, MASTER, key, migrated, new_model, open, serving};

impl Bed {
    /// The numbers of the changes that are kept for other replicas.
    async fn outbox(&self) -> Vec<i64> {
        self.sql().await.rows("SELECT number FROM outbox ORDER BY number").await
    }
}

#[tokio::test]
async fn a_follower_learns_what_another_changes() {
    let (bed, key) = Bed::with_model().await;
    let other = bed.replica().await;
    let cancel = CancellationToken::new();
    let following = tokio::spawn(other.clone().follow(cancel.clone()));
    assert!(serving(&other, &key).is_empty());

    bed.credential("openai", "one", KEY).await;
    until("the credential", async || serving(&other, &key) == [KEY]).await;
    let late = bed.model("openai", "late").await;
    until("the model", async || other.pool(&late).is_some()).await;
    bed.writer().delete_model(&late).await.unwrap();
    until("the model's end", async || other.pool(&late).is_none()).await;

    let new = NewToken { role: Some(Role::Operator), ..NewToken::default() };
    let (token, secret) = bed.writer().create_token(new).await.unwrap();
    assert!(other.authenticate(secret.expose_secret()).await.unwrap().is_some());
    bed.writer().revoke_token(&token.id.to_string()).await.unwrap();
    until("the revocation", async || other.authenticate(secret.expose_secret()).await.unwrap().is_none())
        .await;

    bed.writer().delete_tenant("acme").await.unwrap();
    until("the tenant's end", async || other.pool(&key).is_none()).await;
    cancel.cancel();
    following.await.unwrap();
}

#[tokio::test]
async fn a_token_in_use_is_kept_while_its_tenant_is_learnt_of() {
    let bed = Bed::new().await;
    let (replica, sent) = bed.counted().await;
    replica.load().await.unwrap();
    bed.writer().create_tenant("acme", "Acme").await.unwrap();
    let new = NewToken { role: Some(Role::Invoker), tenant: "acme".into(), ..NewToken::default() };
    let (_, secret) = bed.writer().create_token(new).await.unwrap();
    let caller = async || replica.authenticate(secret.expose_secret()).await.unwrap();
    assert!(caller().await.is_some());

    replica.catch_up().await.unwrap();
    sent();
    assert!(caller().await.is_some());
    assert_eq!(sent(), 0, "the database may be away by now");

    bed.writer().delete_tenant("acme").await.unwrap();
    replica.catch_up().await.unwrap();
    assert!(caller().await.is_none());
}

#[tokio::test]
async fn a_replica_that_was_away_too_long_loads_everything() {
    let (bed, key) = Bed::with_model().await;
    let other = bed.replica().await;
    bed.credential("openai", "one", KEY).await;
    bed.model("openai", "late").await;
    bed.catalog.prune(i64::MAX).await.unwrap();
    assert_eq!(bed.outbox().await.len(), 1, "the newest stays");
    assert!(serving(&other, &key).is_empty());
    other.catch_up().await.unwrap();
    assert_eq!(serving(&other, &key), [KEY]);
    // Nothing changed since: the newest row says so, and nothing is loaded again.
    let before = other.pool(&key).unwrap();
    other.catch_up().await.unwrap();
    assert!(Arc::ptr_eq(&before, &other.pool(&key).unwrap()));
}

#[tokio::test]
async fn a_pool_that_is_not_there_yet_is_loaded_once() {
    let (bed, _) = Bed::with_model().await;
    let other = bed.replica().await;
    let late = bed.model("openai", "late").await;
    assert!(other.pool(&late).is_none());
    let calls = (0..16).map(|_| {
        let other = other.clone();
        tokio::spawn(async move { other.resolve("acme", "openai", ModelType::Llm, "late").await.unwrap() })
    });
    let pools = futures::future::join_all(calls).await;
    let first = pools[0].as_ref().unwrap();
    assert!(pools.iter().all(|pool| Arc::ptr_eq(first, pool.as_ref().unwrap())));
}

#[tokio::test]
async fn writers_on_two_replicas_leave_no_gap() {
    let (bed, _) = Bed::with_model().await;
    let other = bed.replica().await;
    let writes = (0..20).map(|n| {
        let catalog = if n % 2 == 0 { bed.catalog.clone() } else { other.clone() };
        tokio::spawn(async move {
            catalog.by_command_line().put_model(new_model(&key("openai", &format!("m{n}")))).await.unwrap();
            // A refused write takes no number.
            catalog.by_command_line().create_tenant("acme", "").await.unwrap_err();
        })
    });
    for write in futures::future::join_all(writes).await {
        write.unwrap();
    }
    assert_eq!(bed.outbox().await, (1..=23).collect::<Vec<_>>());
    other.catch_up().await.unwrap();
    for n in 0..20 {
        assert!(other.pool(&key("openai", &format!("m{n}"))).is_some());
    }
}

#[tokio::test]
async fn migrators_take_turns() {
    let dir = TempDir::new().unwrap();
    let (one, two) = (open(&dir, MASTER).await.unwrap(), open(&dir, MASTER).await.unwrap());
    assert!(!migrated(&dir).await);
    let (first, second) = tokio::join!(one.migrate(), two.migrate());
    first.unwrap();
    second.unwrap();
    assert!(migrated(&dir).await);
}
