//! A wall clock that jumps by an hour, there and back. No call fails; a cooldown stays about as long as it was meant to be.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rota::{
    api::pb::{CreateTokenRequest, Role, Token},
    scripted::Script,
};
use tokio::time::Instant;

use super::{Extent, Fleet, PATIENCE, Row, all_served, felt, served};
use crate::support::{eventually, fake_clock::FakeClock, postgres::Postgres, redis::Redis, rota::Rota};

const HOUR: i64 = 3600;

/// What the clock shows, as the jump may be off by what the machine needs.
fn is_off_by(shown: i64, offset: i64) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    (shown - now - offset).abs() < 300
}

/// The time on that replica's clock.
async fn shown(rota: &Rota) -> i64 {
    let mut operator = rota.operator().await;
    let token = Token { role: Role::Operator.into(), name: "clock".into(), ..Token::default() };
    let made = operator.admin.create_token(CreateTokenRequest { token: Some(token) }).await.unwrap();
    made.into_inner().token.unwrap().created_at.unwrap().seconds
}

pub async fn of_a_replica(extent: Extent) -> Row {
    const FAULT: &str = "a replica's clock jumps an hour on, two back, one on";
    let clock = FakeClock::new();
    let settings = Rota::builder()
        .redis(Redis::shared().await.url())
        .database(Postgres::shared().await.fresh_database());
    let jumping =
        clock.env().into_iter().fold(settings.clone(), |settings, (name, value)| settings.env(name, value));
    let fleet = Fleet::start([jumping, settings]).await;
    let (rota, cooled) = (&fleet.rotas[0], fleet.scene.keys[0].as_str());
    let callers = fleet.callers(extent.count).await;
    served(&callers, extent.calls).await;
    // It cools for longer than this takes.
    fleet.upstream.script(cooled, Script::fail_for(429, "600"));
    cooling(&fleet).await;
    let hits = fleet.upstream.hits(cooled);
    for (offset, seconds) in [("+3600s", HOUR), ("-3600s", -HOUR), ("+0", 0)] {
        clock.set(offset);
        let now = shown(rota).await;
        assert!(is_off_by(now, seconds), "{offset}: {now}");
        served(&callers, extent.calls).await;
        assert!(fleet.scene.configs_now().await[0].in_cooldown, "{offset}");
    }
    let over = Instant::now();
    served(&callers, extent.calls).await;
    let calls = callers.end().await;
    all_served(FAULT, &calls);
    assert_eq!(fleet.upstream.hits(cooled), hits, "it was asked while it cooled");
    let beside = "a config that cooled for 600 s went on cooling".to_owned();
    Row::new(FAULT, &calls, beside).after(over, &calls, |call| !call.served())
}

/// Waits until the first config cools and nobody is on the way to it.
async fn cooling(fleet: &Fleet) {
    eventually(PATIENCE, async || match fleet.scene.configs_now().await.remove(0) {
        config if config.in_cooldown && config.in_flight == 0 => Ok(()),
        config => Err(format!("{config:#?}")),
    })
    .await;
}

pub async fn of_redis(extent: Extent) -> Row {
    const FAULT: &str = "Redis's clock jumps an hour on, and back";
    /// What the provider asks for.
    const AWAY: Duration = Duration::from_secs(3);
    let clock = FakeClock::new();
    let redis = Redis::start_with(clock.env()).await;
    let settings = Rota::builder().redis(redis.url()).database(Postgres::shared().await.fresh_database());
    let fleet = Fleet::start([settings.clone(), settings]).await;
    let cooled = fleet.scene.keys[0].as_str();
    let callers = fleet.callers(extent.count).await;
    served(&callers, extent.calls).await;
    fleet.upstream.script(cooled, Script::fail_for(429, AWAY.as_secs().to_string()));
    cooling(&fleet).await;
    let mut longest = Duration::ZERO;
    for (offset, seconds) in [("+3600s", HOUR), ("+0", 0)] {
        clock.set(offset);
        let (set, hits) = (Instant::now(), fleet.upstream.hits(cooled));
        let time = redis.command(&["TIME"]).await;
        assert!(is_off_by(time.lines().next().unwrap().parse().unwrap(), seconds), "{offset}: {time}");
        // The cooldown ends and a trial goes out: at once where an hour has passed, and where it has come back, not an
        // hour later.
        eventually(PATIENCE, async || match fleet.upstream.hits(cooled) {
            now if now > hits => Ok(()),
            _ => Err(format!("no trial since the clock was set to {offset}")),
        })
        .await;
        longest = longest.max(set.elapsed());
        served(&callers, extent.calls).await;
    }
    let over = Instant::now();
    served(&callers, extent.calls).await;
    let calls = callers.end().await;
    all_served(FAULT, &calls);
    eventually(PATIENCE, async || match fleet.scene.configs_now().await {
        configs if configs.iter().all(|config| config.in_flight == 0) => Ok(()),
        configs => Err(format!("{configs:#?}")),
    })
    .await;
    let beside = format!("a config that was to cool for 3 s was tried within {longest:.1?}");
    Row::new(FAULT, &calls, beside).after(over, &calls, |call| felt(call) && call.degraded)
}
