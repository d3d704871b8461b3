//! One of three replicas goes.

use std::time::Duration;

use tokio::time::Instant;

use super::{Extent, Fleet, Row, all_served, served_since};
use crate::support::{
    postgres::Postgres,
    redis::Redis,
    rota::{Builder, Rota},
};

/// A call that goes out on a connection whose end is not known yet is as lost as those on their way.
const UNNOTICED: Duration = Duration::from_secs(1);

async fn settings() -> Builder {
    let database = Postgres::shared().await.fresh_database();
    Rota::builder().redis(Redis::shared().await.url()).database(database)
}

/// By kill -9: what it had on its way breaks, and nothing else.
pub async fn killed(extent: Extent) -> Row {
    const FAULT: &str = "one of three replicas, kill -9";
    let settings = settings().await;
    let mut fleet = Fleet::start((0..3).map(|_| settings.clone())).await;
    let callers = fleet.callers(extent.count).await;
    served_since(&callers, Instant::now(), extent.calls, |_| true).await;

    fleet.rotas[0].kill9();
    let killed = Instant::now();
    served_since(&callers, killed + UNNOTICED, extent.calls, |_| true).await;
    let calls = callers.end().await;

    let failed: Vec<_> = calls.iter().filter(|call| !call.served()).collect();
    for call in &failed {
        // gRPC's word, not Rota's, at that moment.
        assert_eq!((call.code.as_str(), call.reason.as_str()), ("UNAVAILABLE", ""), "{call:#?}");
        assert!(call.began < killed + UNNOTICED && call.ended + UNNOTICED > killed, "{call:#?}");
    }
    let most = extent.count.unary + extent.count.stream;
    assert!(failed.len() <= most, "{} failed, {most} were on their way at once: {failed:#?}", failed.len());
    // None of them was on another replica: whatever those were given, they have served.
    let others = &fleet.rotas[1..];
    let mut shares = Vec::new();
    for rota in others {
        let share = only_served(rota).await;
        assert!(share > 0, "a replica that lives has served nothing");
        shares.push(share.to_string());
    }
    let on_it = failed.len();
    let beside = format!("{on_it} were on it; the other two served {}", shares.join(" and "));
    Row::new(FAULT, &calls, beside).after(killed, &calls, |call| !call.served())
}

/// How many calls that replica has served; fails where one ended otherwise.
async fn only_served(rota: &Rota) -> u64 {
    let text = rota.metrics().await;
    let counts = text.lines().filter(|line| {
        line.starts_with("rpc_server_call_duration_seconds_count{")
            && (line.contains("InvokeService/InvokeLlm") || line.contains("InvokeService/StreamLlm"))
    });
    counts
        .map(|line| {
            assert!(line.contains("rpc_response_status_code=\"OK\""), "{line}");
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        })
        .sum()
}

/// By SIGTERM: nobody notices.
pub async fn drained(extent: Extent) -> Row {
    const FAULT: &str = "one of three replicas, SIGTERM";
    // Time for clients to hear of it: they follow health.
    let settings = settings().await.arg("--drain-delay").arg("2s");
    let mut fleet = Fleet::start((0..3).map(|_| settings.clone())).await;
    let callers = fleet.callers(extent.count).await;
    served_since(&callers, Instant::now(), extent.calls, |_| true).await;

    let began = Instant::now();
    fleet.rotas[0].sigterm();
    let status = fleet.rotas[0].wait_exit(Duration::from_secs(40)).await;
    assert_eq!(status.code(), Some(0), "{}", fleet.rotas[0].logs());
    let took = began.elapsed();
    served_since(&callers, Instant::now(), extent.calls, |_| true).await;
    let calls = callers.end().await;

    all_served(FAULT, &calls);
    for rota in &fleet.rotas[1..] {
        only_served(rota).await;
    }
    let beside = format!("it left after {took:.1?}, 2 s of them `--drain-delay`");
    Row::new(FAULT, &calls, beside).after(began, &calls, |call| !call.served())
}
