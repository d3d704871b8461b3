//! One of three configs leads to an upstream that does not keep to HTTP. Calls move on; a stream that breaks after its
//! first content is told so.

use std::time::Duration;

use rota::api::pb::{BalancingPolicy, Cooldowns};
use tokio::time::{Instant, sleep};

use super::{Extent, Fleet, PATIENCE, Row, served};
use crate::{
    balance::policy::set_policy,
    support::{
        callers::{Count, Kind},
        eventually,
        liar::{Liar, Lie},
        rota::Rota,
        world::config,
    },
};

/// Of an attempt, and of a stream's next event.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Short, so that it is tried again and again.
const COOLDOWN: Duration = Duration::from_millis(200);

const LIES: [(Lie, &str); 6] = [
    (Lie::Reset, "one upstream of three resets connections"),
    (Lie::Hang, "one upstream of three hangs"),
    (Lie::Drip, "one upstream of three sends a byte every 100 ms"),
    (Lie::Short, "one upstream of three sends more than its Content-Length"),
    (Lie::Long, "one upstream of three sends less than its Content-Length"),
    (Lie::Chunks, "one upstream of three sends broken chunks"),
];

pub async fn lies(extent: Extent) -> Vec<Row> {
    let fleet = Fleet::start([Rota::builder()]).await;
    let liar = Liar::start(Lie::Reset).await;
    let mut scene = fleet.scene.clone();
    let span = |span: Duration| Some(span.try_into().unwrap());
    let cooldowns = Cooldowns {
        connection: span(COOLDOWN),
        timeout: span(COOLDOWN),
        server_error: span(COOLDOWN),
        max: span(COOLDOWN),
        ..Cooldowns::default()
    };
    let policy = BalancingPolicy {
        attempt_timeout: span(TIMEOUT),
        first_token_timeout: span(TIMEOUT),
        stream_idle_timeout: span(TIMEOUT),
        cooldowns: Some(cooldowns),
        ..BalancingPolicy::default()
    };
    set_policy(&scene, policy, &[]).await.unwrap();
    let mut configs: Vec<_> = scene.keys.iter().map(|key| config(key, key)).collect();
    configs[0].base_url = liar.base_url();
    scene.put_configs(configs).await;

    // Most of them streamed: they are what may break.
    let Count { unary, stream, .. } = extent.count;
    let callers = fleet.callers(Count { unary: unary.div_ceil(3), stream: stream * 2, cancel: 0 }).await;
    let mut windows = Vec::new();
    for (lie, fault) in LIES {
        liar.tell(lie);
        let (began, before) = (Instant::now(), liar.met());
        let met = async || {
            let now = liar.met();
            [now[0] - before[0], now[1] - before[1], now[2] - before[2]]
        };
        eventually(PATIENCE, async || match met().await {
            [whole, _, after] if whole > 0 && after > 0 => Ok(()),
            met => Err(format!("{fault}: it has met {met:?}")),
        })
        .await;
        served(&callers, extent.calls).await;
        // What it has begun to break has to end before the next lie.
        sleep((extent.fault / 2).max(TIMEOUT + COOLDOWN)).await;
        windows.push((fault, began, Instant::now(), met().await));
    }
    assert!(liar.met()[1] > 0, "no stream broke before its first content");
    let calls = callers.end().await;

    let rows = windows.into_iter().map(|(fault, began, ended, met)| {
        let within: Vec<_> =
            calls.iter().filter(|call| (began..ended).contains(&call.began)).cloned().collect();
        for call in within.iter().filter(|call| !call.served()) {
            // Only a stream, after its first content, and with a word of what it was.
            let told = ["UPSTREAM_CONNECTION", "UPSTREAM_TIMEOUT", "UPSTREAM_SERVER_ERROR"]
                .contains(&call.reason.as_str());
            assert!(call.kind == Kind::Stream && call.messages > 0 && told, "{fault}: {call:#?}");
        }
        let [whole, before, after] = met;
        let moved = within.iter().filter(|call| call.served() && call.attempts > 1).count();
        let beside = format!(
            "it met {whole} calls and {before} streams before content: {moved} served by another config; \
             {after} streams after it: told"
        );
        Row::new(fault, &within, beside)
    });
    rows.collect()
}
