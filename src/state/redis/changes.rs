//! Word between replicas that configuration has changed. It says when to look, never what to believe: the outbox in the
//! database tells that, and is read every 250 ms anyhow.
//!
//! When Redis is gone no word comes, and changes arrive with the next look.

use super::connect::RedisOptions;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use std::{sync::Weak, time::Duration};
use tokio::{
    sync::{Notify, broadcast::error::RecvError},
    time::{sleep, timeout},
};

/// What the word is said on. Not of a tenant: in a Cluster all nodes hear it.
pub(super) const CHANNEL: &str = "rota:changes";
/// Between two attempts to listen.
const PAUSE: Duration = Duration::from_secs(1);

/// Wakes `heard` at every word, until it is dropped.
pub(super) async fn listen(options: RedisOptions, heard: Weak<Notify>) {
    while heard.strong_count() > 0 {
        // A subscription needs a connection of its own, and is over when that breaks.
        if let Ok(client) = options.client(&[]) {
            let (mut words, mut problems) = (client.message_rx(), client.error_rx());
            let task = client.connect();
            let ready = timeout(options.patience(), async {
                client.wait_for_connect().await?;
                client.subscribe(CHANNEL).await
            });
            // Until here something may have been said.
            let mut listening = matches!(ready.await, Ok(Ok(()))) && wake(&heard);
            while listening {
                listening = tokio::select! {
                    word = words.recv() => !matches!(word, Err(RecvError::Closed)) && wake(&heard),
                    _ = problems.recv() => false,
                };
            }
            task.abort();
        }
        sleep(PAUSE).await;
    }
}

fn wake(heard: &Weak<Notify>) -> bool {
    heard.upgrade().is_some_and(|heard| {
        heard.notify_one();
        true
    })
}
