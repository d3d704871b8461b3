//! Word between replicas that configuration has changed.
//!
//! It says when to look, never what to believe: the outbox in the database tells that, and is read every 250 ms anyhow.
//!
//! When Redis is gone no word comes, and changes arrive with the next look.

use super::{
    connect::{Connection, RedisOptions},
    words::listen,
};
use crate::tasks::{Task, Tasks};
use fred::interfaces::PubsubInterface;
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// What the word is said on. Not of a tenant: in a Cluster all nodes hear it.
const CHANNEL: &str = "rota:changes";

/// Word of changed configuration, from replica to replica. It only saves time: replicas read the outbox in any case.
#[derive(Clone)]
pub struct ChangeFeed {
    connection: Arc<Connection>,
    heard: Arc<Notify>,
}

impl ChangeFeed {
    /// Begins to listen, until its last clone is dropped.
    pub(crate) fn start(connection: Arc<Connection>, options: &RedisOptions, tasks: &Tasks) -> Self {
        let (options, heard) = (options.clone(), Arc::<Notify>::default());
        let woken = Arc::downgrade(&heard);
        tasks.spawn_endless(Task::RedisChanges, move || {
            let woken = woken.clone();
            listen(options.clone(), CHANNEL, move |_| wake(&woken))
        });
        Self { connection, heard }
    }

    /// Tells all replicas that configuration has changed. When Redis is away, nobody is told.
    pub async fn announce(&self) {
        if let Err(error) = self.connection.client().publish::<i64, _, _>(CHANNEL, "").await {
            tracing::debug!(error = error.details(), "a change was not announced");
        }
    }

    /// Waits until a replica has told of a change, or may have while this one could not listen.
    pub async fn heard(&self) {
        self.heard.notified().await;
    }
}

/// Wakes `heard`, until it is dropped.
fn wake(heard: &Weak<Notify>) -> bool {
    heard.upgrade().is_some_and(|heard| {
        heard.notify_one();
        true
    })
}
