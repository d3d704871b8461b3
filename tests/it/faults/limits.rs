//! More than the machine or the settings allow: descriptors, and calls at once.

use std::{fs, net::TcpStream, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Extent, Fleet, PATIENCE, Row, all_served, disk::limit, served, served_since};
use crate::support::{
    callers::{Call, Count},
    eventually,
    rota::Rota,
};

/// Connections of others that come in at once.
const FLOOD: usize = 100;
/// Descriptors that are left when they come.
const LEFT: usize = 8;
/// Ticks a second of /proc: a constant of Linux.
const TICKS: f64 = 100.0;

pub async fn descriptors(extent: Extent) -> Row {
    const FAULT: &str = "no descriptors left for a flood of connections";
    let fleet = Fleet::start([Rota::builder()]).await;
    let rota = &fleet.rotas[0];
    let callers = fleet.callers(extent.count).await;
    served(&callers, extent.calls).await;
    let usual = busy(rota, extent.fault).await;

    limit(rota, "nofile", &(rota.descriptors().unwrap() + LEFT).to_string());
    let address = rota.address().parse().unwrap();
    // Until the system itself takes no more for it.
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok();
    let flood: Vec<_> = (0..FLOOD).map_while(connect).collect();
    assert!(flood.len() > LEFT, "{} connections", flood.len());
    let began = Instant::now();
    eventually(Duration::from_secs(30), async || match rota.logs() {
        logs if logs.contains("cannot accept connections") => Ok(()),
        logs => Err(logs),
    })
    .await;
    let flooded = busy(rota, extent.fault).await;
    served_since(&callers, began, extent.calls, |_| true).await;
    drop(flood);
    let over = Instant::now();
    // A new client comes in.
    let new = fleet.scene.through(rota).await;
    eventually(PATIENCE, async || new.ask().await.map(drop).map_err(|status| format!("{status:?}"))).await;
    let back = over.elapsed();
    served_since(&callers, over, extent.calls, |_| true).await;
    let calls = callers.end().await;

    // What a call has lacked is a descriptor for a connection to its provider, and no config has paid for that.
    let failed = calls.iter().filter(|call| !call.served());
    for call in failed {
        assert!(call.reason == "UPSTREAM_CONNECTION" && call.began < over, "{call:#?}");
    }
    // One that asks the listener again and again takes a whole core.
    assert!(flooded < usual + 0.5, "{flooded:.2} cores while it cannot accept, {usual:.2} before");
    let beside =
        format!("a new client is served {back:.1?} after; {flooded:.2} cores meanwhile, {usual:.2} before");
    Row::new(FAULT, &calls, beside).after(over, &calls, |call| !call.served()).or_later(back)
}

/// How many cores it kept busy over that time.
async fn busy(rota: &Rota, time: Duration) -> f64 {
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", rota.id())).unwrap();
        // Behind the name, which may hold spaces: user and system time are words 14 and 15.
        let words: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        words[11].parse::<f64>().unwrap() + words[12].parse::<f64>().unwrap()
    };
    let (began, before) = (Instant::now(), ticks());
    sleep(time).await;
    (ticks() - before) / TICKS / began.elapsed().as_secs_f64()
}

/// What a replica may serve at once is what the first callers are.
pub async fn overload(extent: Extent) -> Row {
    const FAULT: &str = "ten times as many callers as `--max-calls`";
    /// What those that are turned away may take beside that, in KiB.
    const MORE_MEMORY: u64 = 64 << 10;
    let most = extent.count.unary + extent.count.stream;
    let fleet = Fleet::start([Rota::builder().arg("--max-calls").arg(most.to_string())]).await;
    let rota = &fleet.rotas[0];
    let callers = fleet.callers(extent.count).await;
    served(&callers, extent.calls).await;
    let (began, before) = (Instant::now(), rota.resident().unwrap());
    sleep(extent.fault).await;
    let usual = rate(&callers.so_far(), began);

    let others = Count { unary: extent.count.unary * 9, stream: extent.count.stream * 9, cancel: 0 };
    let others = fleet.callers(others).await;
    let began = Instant::now();
    sleep(extent.fault).await;
    let after = rota.resident().unwrap();
    let crowded = rate(&[callers.so_far(), others.so_far()].concat(), began);
    let mut all = others.end().await;
    let over = Instant::now();
    served_since(&callers, over, extent.calls, |_| true).await;
    let calls = callers.end().await;
    // The crowd is gone: nobody is turned away.
    all_served(FAULT, &calls.iter().filter(|call| call.began > over).cloned().collect::<Vec<_>>());

    all.extend(calls);
    all.sort_by_key(|call| call.ended);
    let refused: Vec<_> = all.iter().filter(|call| !call.served()).collect();
    assert!(refused.iter().all(|call| call.reason == "OVERLOADED"), "{refused:#?}");
    let mut waits: Vec<_> = refused.iter().map(|call| call.ended - call.began).collect();
    waits.sort();
    let wait = *waits.get(waits.len() / 2).expect("nobody was turned away");
    assert!(wait < Duration::from_secs(1), "half of them heard of it after {wait:?}");
    // Other tests take their share of the machine, now more and now less.
    let least = if extent.calls < super::FULL.calls { usual / 3.0 } else { usual / 2.0 };
    assert!(crowded > least, "{crowded:.0} calls a second were served, {usual:.0} before");
    assert!(after < before + MORE_MEMORY, "{after} KiB, {before} before");
    let beside = format!(
        "{crowded:.0} served a second, {usual:.0} before; refusals took {wait:.1?} (median); {} MiB, {} before",
        after >> 10,
        before >> 10
    );
    Row::new(FAULT, &all, beside).after(over, &all, |call| !call.served())
}

/// Calls served a second since then.
fn rate(calls: &[Call], since: Instant) -> f64 {
    calls.iter().filter(|call| call.served() && call.ended >= since).count() as f64
        / since.elapsed().as_secs_f64()
}
