//! Redis in its other forms: a Cluster, a primary under Sentinels, and behind TLS, each a real one.

use std::{fs, iter, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use fred::util::redis_keyslot;
use rota::{
    balance::{Roster, Scope},
    scripted::{Script, Upstream},
};
use tokio::time::{Instant, sleep};

use crate::support::{
    eventually,
    load::Load,
    postgres::Postgres,
    redis::{Redis, patient},
    redis_cluster::RedisCluster,
    redis_sentinel::RedisSentinel,
    redis_tls::RedisTls,
    rota::{Builder, Rota},
    store::{Store, cooldown, ring},
    world::Scene,
};

const LONG: Duration = Duration::from_secs(3600);

/// Two stores share what is of those pools.
async fn two_stores_are_one(one: Store, two: Store, pools: &[Arc<Roster>]) {
    for pool in pools {
        let mut served = Vec::new();
        for turn in 0..8 {
            served.extend((if turn % 2 == 0 { &one } else { &two }).picks(pool, 1).await);
        }
        assert_eq!(served, [0, 1, 2, 3, 0, 1, 2, 3]);
        let (index, lease) = one.take(pool).await;
        one.fails(&lease, &cooldown(Scope::Member, LONG)).await;
        assert_eq!((index, two.picks(pool, 4).await), (0, vec![1, 2, 3, 1]));
        assert!(two.cooling(pool, 0).await.is_some());
    }
    // Leases of all tenants, given back in one batch of the writer.
    let mut leases = Vec::new();
    for pool in pools {
        for _ in 0..6 {
            leases.push(one.take(pool).await.1);
        }
        assert_eq!(in_flight(&two, pool).await, 6);
    }
    for lease in &leases {
        one.release(lease, None);
    }
    one.flush().await;
    for pool in pools {
        assert_eq!(in_flight(&two, pool).await, 0);
    }
}

async fn in_flight(store: &Store, pool: &Roster) -> u32 {
    store.inspect(pool).await.members.iter().map(|member| member.in_flight).sum()
}

/// Pools of different tenants, two on each primary of a cluster.
fn pools_on_every_primary() -> Vec<Arc<Roster>> {
    [0, 0, 1, 1, 2, 2].map(pool_on).into()
}

/// A pool of a new tenant whose keys the primary at that place holds.
fn pool_on(place: usize) -> Arc<Roster> {
    iter::repeat_with(|| ring(1..=4)).find(|pool| RedisCluster::place_of(&tag_of(pool)) == place).unwrap()
}

/// What all keys of its tenant are hashed by.
fn tag_of(pool: &Roster) -> String {
    pool.tenant.simple().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_shared_state() {
    let cluster = RedisCluster::start().await;
    let pools = pools_on_every_primary();
    let one = Store::redis_at(cluster.url()).await;
    two_stores_are_one(one.clone(), Store::redis_at(cluster.url()).await, &pools).await;
    let keys = cluster.keys().await;
    assert!(keys.iter().all(|keys| *keys >= 4), "each primary holds the keys of its tenants: {keys:?}");

    // The scripts are lost on every node.
    for pool in &pools {
        for place in 0..keys.len() {
            cluster.command(place, &["SCRIPT", "FLUSH"]).await.unwrap();
        }
        let lease = one.take(pool).await.1;
        for place in 0..keys.len() {
            cluster.command(place, &["SCRIPT", "FLUSH"]).await.unwrap();
        }
        one.release(&lease, None);
        one.flush().await;
        assert_eq!(in_flight(&one, pool).await, 0);
    }

    // A slot on its way to another node is nobody's until it is there.
    let pool = pool_on(1);
    let slot = redis_keyslot(tag_of(&pool).as_bytes()).to_string();
    let ids = [cluster.id(1).await, cluster.id(2).await];
    cluster.command(2, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]).await.unwrap();
    cluster.command(1, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]).await.unwrap();
    one.server().inspect(&pool).await.unwrap_err();
    for place in [2, 1] {
        cluster.command(place, &["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]]).await.unwrap();
    }
    assert_eq!(one.picks(&pool, 4).await, [0, 1, 2, 3]);

    // Slots change hands in good order: nothing fails, nothing is forgotten.
    let before = a_turn(&one, &pools).await;
    cluster.hand_over().await;
    assert_eq!(a_turn(&one, &pools).await, before);
}

/// A whole turn of each pool, of whose members three serve.
async fn a_turn(store: &Store, pools: &[Arc<Roster>]) -> Vec<Vec<usize>> {
    let mut all = Vec::new();
    for pool in pools {
        all.push(store.picks(pool, 3).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_under_sentinels_is_shared_state() {
    let redis = RedisSentinel::start().await;
    let (one, two) = (Store::redis_at(redis.url()).await, Store::redis_at(redis.url()).await);
    two_stores_are_one(one, two, &[ring(1..=4), ring(1..=4)]).await;
    balances(Rota::builder().redis(redis.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_behind_tls_is_shared_state() {
    let redis = RedisTls::start().await;
    let mut options = patient(redis.url());
    options.ca = Some(fs::read(redis.ca()).unwrap());
    let store = async || Store::redis_with(&options).await;
    two_stores_are_one(store().await, store().await, &[ring(1..=4), ring(1..=4)]).await;
    balances(Rota::builder().redis(redis.url()).redis_ca(&redis.ca())).await;
}

/// The real program makes balanced calls with its state there.
async fn balances(settings: Builder) {
    let rota = settings.arg("--redis-required").start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 3).await;
    for _ in 0..6 {
        assert!(!scene.ask().await.unwrap().route.unwrap().degraded);
    }
    assert_eq!(scene.hits(&upstream), [2, 2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_authority_is_told_at_start() {
    let (redis, other) = (RedisTls::start().await, RedisTls::start().await);
    let told = "InvalidCertificate(UnknownIssuer)";
    let wrong = Rota::builder().redis(redis.url()).redis_ca(&other.ca());
    let refused = wrong.clone().arg("--redis-required").try_start().await.err().unwrap();
    assert!(refused.contains(told), "{refused}");

    let alone = wrong.start().await;
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&alone, &upstream, 2).await;
    assert!(scene.ask().await.unwrap().route.unwrap().degraded);
    assert!(alone.logs().contains(told), "{}", alone.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_goes_with_tls_and_is_read_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let absent = folder.path().join("absent.pem");
    for (url, file, told) in [
        ("redis://127.0.0.1:1", &file, "--redis-ca: goes with"),
        ("rediss://127.0.0.1:1", &file, "is not certificates in PEM"),
        ("rediss-cluster://127.0.0.1:1", &absent, "No such file"),
    ] {
        let refused = Rota::builder().redis(url).redis_ca(file).try_start().await.err().unwrap();
        assert!(refused.contains(told), "{refused}");
    }
}

/// Two replicas of Rota on one Redis that is about to lose its primary, with callers on both.
struct Fleet {
    rotas: [Rota; 2],
    upstream: Upstream,
    /// A tenant each, through the first replica and through the second.
    scenes: Vec<[Scene; 2]>,
}

impl Fleet {
    async fn start(url: &str, tenants: usize) -> Self {
        let database = Postgres::shared().await.fresh_database();
        let builder = Rota::builder().redis(url).database(database).arg("--redis-timeout").arg("1s");
        let rotas = [builder.start().await, builder.start().await];
        let upstream = Upstream::start().await.unwrap();
        let mut fleet = Self { rotas, upstream, scenes: Vec::new() };
        for _ in 0..tenants {
            fleet.add_tenant().await;
        }
        fleet
    }

    async fn on_every_primary(cluster: &RedisCluster) -> Self {
        let mut fleet = Self::start(&cluster.url(), 2).await;
        while cluster.keys().await.contains(&0) {
            fleet.add_tenant().await;
        }
        fleet
    }

    /// Its first key is cooling already, by the provider's word.
    async fn add_tenant(&mut self) {
        let scene = Scene::set(&self.rotas[0], &self.upstream, 4).await;
        let mirror = scene.through(&self.rotas[1]).await;
        for key in &scene.keys {
            // Many callers, of whom the machine must not be full.
            self.upstream.script(key, Script::Answer.after(Duration::from_millis(50)));
        }
        eventually(Duration::from_secs(10), async || match mirror.ask().await {
            Ok(reply) if reply.route.as_ref().is_some_and(|route| route.config_id != "__inherit__") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        cool(&self.upstream, &scene, 0).await;
        self.scenes.push([scene, mirror]);
    }

    /// Callers on both replicas, once both have called.
    async fn load(&self) -> (Load, Vec<u64>) {
        let load = Load::on(self.scenes.iter().flatten(), 2);
        self.is_degraded(false, Duration::from_secs(5)).await;
        (load, self.cooled())
    }

    /// How often the keys were called that cool.
    fn cooled(&self) -> Vec<u64> {
        self.scenes.iter().map(|[scene, _]| self.upstream.hits(&scene.keys[0])).collect()
    }

    async fn is_degraded(&self, wanted: bool, limit: Duration) {
        for scene in self.scenes.iter().flatten() {
            eventually(limit, async || match scene.ask().await.unwrap().route.unwrap().degraded {
                now if now == wanted => Ok(()),
                now => Err(format!("degraded is {now}")),
            })
            .await;
        }
    }

    /// State is shared again within two seconds of `promoted`.
    async fn recovers(self, promoted: Instant, load: (Load, Vec<u64>)) {
        let promoted = Utc::now() - promoted.elapsed();
        self.is_degraded(false, Duration::from_secs(30)).await;
        // By the replicas' own word: on a busy machine asking all of them takes longer.
        for rota in &self.rotas {
            let logs = rota.logs();
            let back = logs.lines().find(|line| line.contains("Redis is back")).unwrap();
            let back: DateTime<Utc> = back.split_whitespace().next().unwrap().parse().unwrap();
            let took = back - promoted;
            assert!(took <= TimeDelta::seconds(2), "{took}: {logs}");
        }
        self.has_shared_state(load).await;
    }

    /// State is shared, nothing that was known is forgotten, no call has failed, and each replica has said once that
    /// Redis went and that it came back.
    async fn has_shared_state(self, (load, cooled): (Load, Vec<u64>)) {
        load.end().await;
        assert_eq!(self.cooled(), cooled, "cooldowns that were known are kept");
        for [one, two] in &self.scenes {
            // What one learns, the other knows.
            cool(&self.upstream, one, 1).await;
            let hits = self.upstream.hits(&one.keys[1]);
            for _ in 0..4 {
                two.ask().await.unwrap();
            }
            assert_eq!(self.upstream.hits(&one.keys[1]), hits);
            let now = two.configs_now().await;
            assert!(now[0].in_cooldown && now[1].in_cooldown, "{now:?}");
            // The last releases are on their way.
            eventually(Duration::from_secs(5), async || {
                let held: Vec<_> = two.configs_now().await.iter().map(|config| config.in_flight).collect();
                if held.iter().all(|held| *held == 0) { Ok(()) } else { Err(format!("{held:?} are held")) }
            })
            .await;
        }
        for rota in &self.rotas {
            let logs = rota.logs();
            for line in ["Redis is away", "Redis is back"] {
                assert_eq!(logs.matches(line).count(), 1, "{line}: {logs}");
            }
        }
    }
}

/// From its next call on that key cools.
async fn cool(upstream: &Upstream, scene: &Scene, key: usize) {
    upstream.script(&scene.keys[key], Script::fail_for(429, "600"));
    let hits = upstream.hits(&scene.keys[key]);
    while upstream.hits(&scene.keys[key]) == hits {
        scene.ask().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_replace_a_dead_primary_under_load() {
    let mut redis = RedisSentinel::start().await;
    let fleet = Fleet::start(&redis.url(), 2).await;
    let load = fleet.load().await;
    let promoted = redis.fail_over().await;
    fleet.recovers(promoted, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_replace_a_living_primary_under_load() {
    let redis = RedisSentinel::start().await;
    let fleet = Fleet::start(&redis.url(), 2).await;
    let load = fleet.load().await;
    let promoted = redis.hand_over().await;
    fleet.recovers(promoted, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_replaces_a_dead_primary_under_load() {
    let mut cluster = RedisCluster::start().await;
    let fleet = Fleet::on_every_primary(&cluster).await;
    let load = fleet.load().await;
    let promoted = cluster.fail_over().await;
    fleet.recovers(promoted, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_away_while_one_of_its_nodes_hangs() {
    let cluster = RedisCluster::start().await;
    for place in 0..=3 {
        // The others go on, so that only the probe of each primary can tell.
        cluster.command(place, &["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await.unwrap();
    }
    let fleet = Fleet::on_every_primary(&cluster).await;
    let load = fleet.load().await;
    cluster.signal(1, "STOP");
    fleet.is_degraded(true, Duration::from_secs(10)).await;
    // Ten probes. This pause is what is tested: nothing changes in it.
    sleep(Duration::from_secs(2)).await;
    fleet.is_degraded(true, Duration::ZERO).await;
    cluster.signal(1, "CONT");
    fleet.is_degraded(false, Duration::from_secs(30)).await;
    fleet.has_shared_state(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_becomes_a_replica_is_away() {
    let redis = Redis::start().await;
    let fleet = Fleet::start(&redis.url(), 1).await;
    let load = fleet.load().await;
    // Of nobody: it keeps its data and takes no writes.
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    fleet.is_degraded(true, Duration::from_secs(10)).await;
    // One command that fails puts its pool in doubt. Probes tell of Redis.
    for rota in &fleet.rotas {
        eventually(Duration::from_secs(10), async || match rota.logs() {
            logs if logs.contains("Redis is away") => Ok(()),
            logs => Err(logs),
        })
        .await;
    }
    redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    fleet.recovers(Instant::now(), load).await;
}
