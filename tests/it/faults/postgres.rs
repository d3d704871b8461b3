//! PostgreSQL goes, hangs, comes back. Calls go on from what replicas know; writes are told that it is away.

use std::time::Duration;

use rota::api::pb::{Model, PutModelRequest};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Code;

use super::{
    Extent, Fleet, Row, all_served, felt, served, served_since,
    writer::{AWAY, Write, Writer},
};
use crate::support::{
    callers::Callers,
    failure::{error, told},
    postgres::Postgres,
    redis::Redis,
    rota::Rota,
};

/// A database that says nothing for 10 s is gone: the fault has to last for longer.
const HANG: Duration = Duration::from_secs(12);

struct Stage {
    fleet: Fleet,
    callers: Callers,
    writer: Writer,
}

impl Stage {
    async fn set(postgres: &Postgres, extent: Extent) -> Self {
        let settings = Rota::builder().redis(Redis::shared().await.url()).database(postgres.fresh_database());
        let fleet = Fleet::start([settings.clone(), settings]).await;
        let writer = Writer::start(&fleet.rotas[0]).await;
        let callers = fleet.callers(extent.count).await;
        served(&callers, extent.calls).await;
        writer.wrote(Instant::now(), true).await;
        Self { fleet, callers, writer }
    }

    /// From the end of the fault to the end of the first write that goes well is what it takes to be normal again.
    async fn end(self, fault: &'static str, over: Instant, back: Write, extent: Extent) -> Row {
        served_since(&self.callers, over, extent.calls, |_| true).await;
        let calls = self.callers.end().await;
        all_served(fault, &calls);
        // The other replica has to know it as well.
        let written = self.writer.end(&self.fleet.rotas[1]).await;
        Row::new(fault, &calls, written.text()).after(over, &calls, felt).or_later(back.ended - over)
    }
}

pub async fn stopped(extent: Extent) -> Row {
    let mut postgres = Postgres::start().await;
    let stage = Stage::set(&postgres, extent).await;
    postgres.crash();
    stage.writer.wrote(Instant::now(), false).await;
    sleep(extent.fault).await;
    postgres.restart().await;
    let over = Instant::now();
    let back = stage.writer.wrote(over, true).await;
    stage.end("PostgreSQL, stopped, started later", over, back, extent).await
}

pub async fn restarted(extent: Extent) -> Row {
    let mut postgres = Postgres::start().await;
    let stage = Stage::set(&postgres, extent).await;
    postgres.restart().await;
    let over = Instant::now();
    let back = stage.writer.wrote(over, true).await;
    stage.end("PostgreSQL, restarted at once", over, back, extent).await
}

pub async fn hung(extent: Extent) -> Row {
    let postgres = Postgres::start().await;
    let stage = Stage::set(&postgres, extent).await;
    let hung = postgres.hang();
    let end = Instant::now() + HANG;
    // A write that begins now is told. One that has begun already may be inside its transaction, and waits.
    let scene = &stage.fleet.scene;
    let model = Model { key: Some(scene.key.clone()), ..Model::default() };
    let mut client = scene.clients.config.clone();
    let refused = client.put_model(PutModelRequest { model: Some(model) }).await.unwrap_err();
    assert_eq!(told(&refused), error(Code::Unavailable, AWAY));
    sleep_until(end).await;
    drop(hung);
    let over = Instant::now();
    let back = stage.writer.wrote(over, true).await;
    stage.end("PostgreSQL hangs for 12 s (SIGSTOP, SIGCONT)", over, back, extent).await
}
