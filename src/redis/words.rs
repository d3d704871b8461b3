//! Listens on channels of Redis to what replicas tell each other.
//!
//! Words may be lost, so nobody may depend on them. When Redis is gone, none come.

use super::{
    connect::RedisOptions,
    error::{RedisError, Result},
};
use fred::{
    clients::WithOptions,
    interfaces::{ClientLike, EventInterface, PubsubInterface},
    prelude::Client,
};
use std::time::Duration;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{sleep, timeout},
};

/// Between two attempts to listen.
const PAUSE: Duration = Duration::from_secs(1);

/// Listens on `channels`, on one connection, until `hear` returns false. It is told every word and its channel, and none
/// where some may have been missed.
pub(crate) async fn listen(
    options: RedisOptions,
    channels: Vec<String>,
    hear: impl Fn(Option<(&str, &str)>) -> bool,
) {
    while hear_all(&options, &channels, &hear).await {
        sleep(PAUSE).await;
    }
}

/// Listens until the connection breaks. Returns whether to go on.
async fn hear_all(
    options: &RedisOptions,
    channels: &[String],
    hear: &impl Fn(Option<(&str, &str)>) -> bool,
) -> bool {
    // A subscription needs a connection of its own, and is over when that breaks.
    let Ok(client) = options.client(&[]) else { return true };
    let (mut words, mut problems) = (client.message_rx(), client.error_rx());
    let task = client.connect();
    let ready = subscribe(&client, options, channels).await.is_ok();
    // Until here something may have been said.
    let mut goes_on = hear(None);
    while ready && goes_on {
        goes_on = tokio::select! {
            word = words.recv() => match word {
                Ok(word) => hear(word.value.as_str().as_deref().map(|text| (&*word.channel, text))),
                Err(RecvError::Lagged(_)) => hear(None),
                Err(RecvError::Closed) => break,
            },
            _ = problems.recv() => break,
        };
    }
    task.abort();
    goes_on
}

/// Subscribes to those channels.
///
/// # Errors
/// Where the server does not answer. Of a subscription that it refuses, fred tells nothing.
pub(super) async fn subscribe(
    client: &WithOptions<Client>,
    options: &RedisOptions,
    channels: &[String],
) -> Result<()> {
    let subscribed = timeout(options.patience(), async {
        client.wait_for_connect().await?;
        client.subscribe(channels.to_vec()).await
    });
    Ok(subscribed.await.map_err(|_| RedisError::new("it does not answer"))??)
}
