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
    pgbouncer::PgBouncer,
    postgres::Postgres,
    proxy::Proxy,
    redis::Redis,
    rota::Rota,
};

/// How long after a failover a write may still fail.
const FAILOVER: Duration = Duration::from_secs(5);
/// A database that says nothing for 10 s is gone: the fault has to last for longer.
const HANG: Duration = Duration::from_secs(12);

struct Stage {
    fleet: Fleet,
    callers: Callers,
    writer: Writer,
}

impl Stage {
    async fn set(postgres: &Postgres, extent: Extent) -> Self {
        Self::on(postgres.fresh_database(), extent).await
    }

    /// With the database at `url`.
    async fn on(url: String, extent: Extent) -> Self {
        let settings = Rota::builder().redis(Redis::shared().await.url()).database(url);
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

/// The name leads to another server. Connections that are there stay with the old one, which only reads from then on.
pub async fn failed_over(extent: Extent) -> Row {
    let old = Postgres::start().await;
    let new = old.standby().await;
    let name = Proxy::start(old.port()).await;
    let url = old.fresh_database().replace(&format!(":{}/", old.port()), &format!(":{}/", name.port()));
    let stage = Stage::on(url, extent).await;
    old.hand_over_to(&new).await;
    name.lead_to(new.port());
    let over = Instant::now();
    let back = stage.writer.wrote(over, true).await;
    assert!(back.ended - over < FAILOVER, "the first write after a failover took {:?}", back.ended - over);
    stage.end("PostgreSQL hands over to its standby behind one name", over, back, extent).await
}

/// Two replicas share two sessions, and no write fails for it; then the pooler breaks all connections.
pub async fn pooled(extent: Extent) -> Row {
    let postgres = Postgres::shared().await;
    let mut bouncer = PgBouncer::start(postgres, "transaction", 2).await;
    let stage = Stage::on(bouncer.url(&postgres.fresh_database()), extent).await;
    sleep(extent.fault).await;
    let failed = stage.writer.failed();
    assert!(failed.is_empty(), "through PgBouncer: {failed:?}");
    bouncer.restart().await;
    let over = Instant::now();
    let back = stage.writer.wrote(over, true).await;
    stage.end("PgBouncer in transaction mode, restarted", over, back, extent).await
}
