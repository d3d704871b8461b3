//! The only provider is out: every config of the model fails in the same way, for a while. Nothing can be served then, and
//! what is told here is how soon calls are served again.

use std::time::Duration;

use futures::future::join_all;
use rota::{
    api::pb::BalancingPolicy,
    scripted::{Script, Upstream},
};
use tokio::time::{Instant, sleep};

use super::{Extent, Fleet, PIECE, Row, served, served_since};
use crate::{
    balance::policy::set_policy,
    support::{callers::Count, rota::Rota, world::Scene},
};

/// Of an attempt: a config that hangs is told by it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What is left of the last attempts, and of the pace of the last resort, when the provider is back.
const LEAST: Duration = Duration::from_secs(5);

/// One row each for an outage that answers 500, that answers 503, and that hangs. Calls are normal again soon: within a tenth
/// of a longer outage, and 35 s at most.
pub async fn of_the_only_provider(extent: Extent, outage: Duration, faults: [&'static str; 3]) -> Vec<Row> {
    let soon = (LEAST + outage / 7).min(Duration::from_secs(35));
    let scripts = [Script::fail(500), Script::fail(503), Script::Hang];
    join_all(faults.into_iter().zip(scripts).map(|(fault, script)| row(extent, outage, soon, fault, script)))
        .await
}

async fn row(extent: Extent, outage: Duration, soon: Duration, fault: &'static str, script: Script) -> Row {
    let fleet = Fleet::start([Rota::builder()]).await;
    let timeout = Some(TIMEOUT.try_into().unwrap());
    let policy = BalancingPolicy {
        attempt_timeout: timeout,
        first_token_timeout: timeout,
        ..BalancingPolicy::default()
    };
    set_policy(&fleet.scene, policy, &[]).await.unwrap();
    let callers = fleet.callers(Count { unary: 2, stream: 2, cancel: 0 }).await;
    served(&callers, extent.calls).await;
    let all = |upstream: &Upstream, scene: &Scene, script: &Script| {
        for key in &scene.keys {
            upstream.script(key, script.clone());
        }
    };
    all(&fleet.upstream, &fleet.scene, &script);
    sleep(outage).await;
    let asked = fleet.upstream.total_hits();
    all(&fleet.upstream, &fleet.scene, &Script::Slow(PIECE));
    let over = Instant::now();
    sleep(soon).await;
    served_since(&callers, Instant::now(), extent.calls, |_| true).await;
    let calls = callers.end().await;

    let failed = |call: &&_| !super::Call::served(call);
    let late: Vec<_> = calls.iter().filter(failed).filter(|call| call.began > over + soon).collect();
    assert!(late.is_empty(), "{fault}: refused {soon:?} after it: {:#?}", late.first());
    Row::new(fault, &calls, format!("{asked} requests until then")).after(over, &calls, |call| !call.served())
}
