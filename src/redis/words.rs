//! Listens on a channel of Redis to what replicas tell each other.
//!
//! Words may be lost, so nobody may depend on them. When Redis is gone, none come.

use super::connect::RedisOptions;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use std::time::Duration;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{sleep, timeout},
};

/// Between two attempts to listen.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens on `channel` until `hear` returns false. It is told every word, and none where some may have been missed.
pub(crate) async fn listen(
    options: RedisOptions,
    channel: &'static str,
    hear: impl Fn(Option<&str>) -> bool,
) {
    loop {
        // A subscription needs a connection of its own, and is over when that breaks.
        if let Ok(client) = options.client(&[]) {
            let (mut words, mut problems) = (client.message_rx(), client.error_rx());
            let task = client.connect();
            let ready = timeout(options.patience(), async {
                client.wait_for_connect().await?;
                client.subscribe(channel).await
            });
            // Until here something may have been said.
            let mut listening = matches!(ready.await, Ok(Ok(()))) && hear(None);
            while listening {
                listening = tokio::select! {
                    word = words.recv() => match word {
                        Ok(word) => hear(word.value.as_str().as_deref()),
                        Err(RecvError::Lagged(_)) => hear(None),
                        Err(RecvError::Closed) => false,
                    },
                    _ = problems.recv() => false,
                };
            }
            task.abort();
        }
        sleep(PAUSE).await;
    }
}
