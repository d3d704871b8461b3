//! Attacks on what tenants configure: the writers' lock, the audit, health checks.
#![expect(clippy::print_stdout, reason = "figures")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rota::{
    api::pb::{
        AcquireRequest, ActiveHealthCheck, BalancingPolicy, CreateTenantRequest, DeleteTenantRequest,
        ErrorClass, ListAuditEventsRequest, LoadBalancingConfig, ModelKey, PutModelRequest, ReleaseRequest,
        SetCooldownRequest, Tenant, UpdateLoadBalancingConfigsRequest,
    },
    scripted::{Script, Upstream},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::Code;

use super::beside::{floor, p99};
use crate::support::{
    eventually,
    load::Load,
    postgres::Postgres,
    refusal::refused,
    rota::{Builder, Clients, Rota},
    sql::Sql,
    world::{Scene, config},
};

/// What 99 of 100 calls may take on a machine that is busy with other tests, and 99 of 100 changes: those write to a disk
/// that the tests share, and a short run has so few of them that it is the slowest.
const FLOOR: Duration = Duration::from_millis(250);
const FLOOR_OF_CHANGES: Duration = Duration::from_secs(1);

/// Something that is done again and again until it is stopped.
struct Flood {
    stop: Arc<AtomicBool>,
    running: JoinSet<Vec<Duration>>,
}

impl Flood {
    fn new() -> Self {
        Self { stop: Arc::default(), running: JoinSet::new() }
    }

    /// Does it once more after it is done, each time with its number, until the flood ends.
    fn add<F: Future<Output = ()> + Send>(
        &mut self,
        each: Duration,
        mut work: impl FnMut(usize) -> F + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.running.spawn(async move {
            let mut took = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                work(took.len()).await;
                took.push(began.elapsed());
                sleep(each).await;
            }
            took
        });
    }

    /// How long each took, sorted.
    async fn end(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let mut took: Vec<_> = self.running.join_all().await.into_iter().flatten().collect();
        took.sort_unstable();
        took
    }
}

/// What a tenant sees of the service.
#[derive(Debug)]
struct Seen {
    call: Duration,
    change: Duration,
    calls: usize,
    changes: usize,
}

/// A tenant's calls and small changes for so long. None may fail.
async fn measure(other: &Scene, long: Duration) -> Seen {
    let calls = Load::on([other], 2);
    let mut changes = Flood::new();
    let scene = other.clone();
    changes.add(Duration::from_millis(10), move |round| {
        let mut scene = scene.clone();
        async move {
            let weight = 1 + i32::try_from(round % 9).unwrap();
            scene.change_configs(|configs| configs[0].weight = Some(weight)).await;
        }
    });
    sleep(long).await;
    let (calls, changes) = (calls.end().await, changes.end().await);
    Seen { call: p99(&calls), change: p99(&changes), calls: calls.len(), changes: changes.len() }
}

/// Holds what a tenant sees beside an attack against what it sees beside calls.
fn compare(beside_calls: &Seen, attacked: &Seen) {
    println!("beside calls {beside_calls:.1?}\nattacked     {attacked:.1?}");
    assert!(attacked.calls > 0 && attacked.changes > 0, "they stand still");
    assert!(attacked.call <= floor().max(2 * beside_calls.call), "calls");
    assert!(attacked.change <= FLOOR_OF_CHANGES.max(floor()).max(2 * beside_calls.change), "changes");
}

/// A set of new configs for a model.
fn set(key: &ModelKey, round: usize, size: usize) -> UpdateLoadBalancingConfigsRequest {
    let row = |row| {
        let secret = format!("sk-attack-{round:06}-{row:06}-0123456789abcdef");
        LoadBalancingConfig {
            weight: Some(1 + i32::try_from(round % 7).unwrap()),
            ..config(&format!("row {row}"), &secret)
        }
    };
    UpdateLoadBalancingConfigsRequest {
        key: Some(key.clone()),
        configs: (0..size).map(row).collect(),
        ..Default::default()
    }
}

/// Makes a model of that name.
async fn model(scene: &Scene, name: &str) -> ModelKey {
    let key = ModelKey { model: name.to_owned(), ..scene.key.clone() };
    let model = rota::api::pb::Model { key: Some(key.clone()), ..Default::default() };
    scene.clients.config.clone().put_model(PutModelRequest { model: Some(model) }).await.unwrap();
    key
}

async fn large_sets(builder: Builder, writers: usize, size: usize, long: Duration) {
    let rota = builder.start().await;
    let upstream = Upstream::start().await.unwrap();
    let (attacker, other) = (Scene::set(&rota, &upstream, 2).await, Scene::set(&rota, &upstream, 2).await);
    let load = Load::on([&attacker], writers);
    let beside_calls = measure(&other, long).await;
    load.end().await;

    let mut attack = Flood::new();
    for writer in 0..writers {
        let key = model(&attacker, &format!("model-{writer}")).await;
        // A connection of its own: its requests are large.
        let client = rota.clients(&attacker.token).await.config;
        attack.add(Duration::ZERO, move |round| {
            let (mut client, request) = (client.clone(), set(&key, round, size));
            async move {
                client.update_load_balancing_configs(request).await.unwrap();
            }
        });
    }
    sleep(long / 4).await;
    let attacked = measure(&other, long).await;
    let sets = attack.end().await;
    println!("{} sets of {size}, p99 {:.1?}", sets.len(), p99(&sets));
    assert!(sets.len() >= writers, "the attack stood still");
    compare(&beside_calls, &attacked);
}

const SMALL: Duration = Duration::from_secs(3);
const FULL: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn large_sets_of_one_tenant_hold_up_no_other_on_sqlite() {
    large_sets(Rota::builder(), 3, 100, SMALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_sets_of_one_tenant_hold_up_no_other_on_postgres() {
    let builder = Rota::builder().database(Postgres::shared().await.fresh_database());
    large_sets(builder, 3, 100, SMALL).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: six writers of 1,000 configs"]
async fn six_writers_of_a_thousand_configs_on_sqlite() {
    large_sets(Rota::builder(), 6, 1000, FULL).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: six writers of 1,000 configs"]
async fn six_writers_of_a_thousand_configs_on_postgres() {
    let builder = Rota::builder().database(Postgres::shared().await.fresh_database());
    large_sets(builder, 6, 1000, FULL).await;
}

/// How long the operator's changes take for so long.
async fn operate(operator: &Clients, long: Duration) -> Vec<Duration> {
    let mut changes = Flood::new();
    let client = operator.admin.clone();
    changes.add(Duration::from_millis(10), move |round| {
        let mut client = client.clone();
        async move {
            let id = format!("operators-{round}");
            let new = Tenant { id: id.clone(), ..Tenant::default() };
            client.create_tenant(CreateTenantRequest { tenant: Some(new) }).await.unwrap();
            client.delete_tenant(DeleteTenantRequest { tenant_id: id }).await.unwrap();
        }
    });
    sleep(long).await;
    changes.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_changes_as_fast_as_it_can_keeps_no_operator_waiting() {
    let rota = Rota::builder().arg("--tenant-max-waiting-changes").arg("20").start().await;
    let upstream = Upstream::start().await.unwrap();
    let attacker = Scene::set(&rota, &upstream, 2).await;
    let operator = rota.operator().await;
    let load = Load::on([&attacker], 30);
    let beside_calls = operate(&operator, SMALL).await;
    load.end().await;

    let mut attack = Flood::new();
    let refusals = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for writer in 0..60 {
        let (client, key, refusals) =
            (attacker.clients.config.clone(), attacker.key.clone(), refusals.clone());
        attack.add(Duration::from_millis(1), move |_| {
            let (mut client, refusals) = (client.clone(), refusals.clone());
            let key = ModelKey { model: format!("model-{writer}"), ..key.clone() };
            async move {
                let model = rota::api::pb::Model { key: Some(key), ..Default::default() };
                let put = client.put_model(PutModelRequest { model: Some(model) }).await;
                if put.is_err() {
                    refused(put, Code::ResourceExhausted, "TENANT_LIMIT");
                    refusals.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let attacked = operate(&operator, SMALL).await;
    println!("{} changes of the tenant, {refusals:?} refused", attack.end().await.len());
    println!("the operator's: beside calls {:.1?}, attacked {:.1?}", p99(&beside_calls), p99(&attacked));
    assert!(refusals.load(Ordering::Relaxed) > 0, "what is beyond the bound is refused");
    assert!(p99(&attacked) <= FLOOR_OF_CHANGES.max(floor()).max(2 * p99(&beside_calls)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_reads_of_credentials_writes_a_few_audit_events() {
    audit_flood(8, SMALL).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: reads of credentials for half a minute"]
async fn a_long_flood_of_reads_of_credentials_writes_a_few_audit_events() {
    audit_flood(32, Duration::from_secs(30)).await;
}

async fn audit_flood(readers: usize, long: Duration) {
    let rota = Rota::builder().start().await;
    let upstream = Upstream::start().await.unwrap();
    let (attacker, other) = (Scene::set(&rota, &upstream, 4).await, Scene::set(&rota, &upstream, 2).await);
    let load = Load::on([&attacker], readers);
    let beside_calls = measure(&other, long).await;
    load.end().await;

    let reader = rota.clients(&attacker.reader(&rota).await).await;
    let began = Instant::now();
    let mut attack = Flood::new();
    for _ in 0..readers {
        let (client, key) = (reader.invoke.clone(), attacker.key.clone());
        attack.add(Duration::ZERO, move |_| {
            let (mut client, key) = (client.clone(), Some(key.clone()));
            async move {
                let lease = client.acquire(AcquireRequest { key, ..Default::default() }).await.unwrap();
                let lease = lease.into_inner();
                assert!(!lease.credentials.is_empty());
                client
                    .release(ReleaseRequest { lease_id: lease.lease_id, ..Default::default() })
                    .await
                    .unwrap();
            }
        });
    }
    let attacked = measure(&other, long).await;
    let reads = attack.end().await.len();
    let minutes = 2 + began.elapsed().as_secs() / 60;
    let tenant_id = attacker.tenant.clone();
    let request =
        ListAuditEventsRequest { tenant_id, action: "Acquire".into(), page_size: 1000, ..Default::default() };
    let events = rota.operator().await.admin.list_audit_events(request).await.unwrap().into_inner().events;
    println!("{reads} reads, {} events", events.len());
    assert!(reads > 100 && (4..=4 * minutes).contains(&(events.len() as u64)));
    compare(&beside_calls, &attacked);
}

async fn check_health(scene: &Scene, interval: i64, timeout: i64) {
    let span = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let check = ActiveHealthCheck { interval: span(interval), timeout: span(timeout) };
    scene.set_policy(BalancingPolicy { active_health_check: Some(check), ..Default::default() }).await;
}

async fn hanging_checks(configs: usize) {
    let rota = Rota::builder().arg("--tenant-max-health-checks").arg("8").start().await;
    let (silent, well) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let attacker = Scene::set(&rota, &silent, configs).await;
    let other = Scene::set(&rota, &well, 2).await;
    let beside_none = measure(&other, SMALL).await;
    for key in &attacker.keys {
        silent.script(key, Script::Hang);
    }
    check_health(&attacker, 1, 30).await;
    eventually(Duration::from_secs(20), async || match silent.in_flight() {
        8 => Ok(()),
        count => Err(format!("{count} probes")),
    })
    .await;
    let attacked = measure(&other, SMALL).await;
    assert!(silent.in_flight() <= 8, "a tenant has its share and no more");
    compare(&beside_none, &attacked);

    check_health(&other, 1, 1).await;
    let cool = SetCooldownRequest {
        key: Some(other.key.clone()),
        config_id: other.configs_now().await[0].id.clone(),
        duration: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        reason: ErrorClass::Authentication.into(),
    };
    other.clients.config.clone().set_cooldown(cool).await.unwrap();
    eventually(Duration::from_secs(5), async || {
        let cools = other.configs_now().await[0].in_cooldown;
        if cools { Err("the check of another tenant is held up".to_owned()) } else { Ok(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_health_check_of_one_tenant_delays_no_other() {
    hanging_checks(30).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: 1,000 health checks that hang"]
async fn a_thousand_hanging_health_checks_of_one_tenant_delay_no_other() {
    hanging_checks(1000).await;
}

/// How long the operator waits for the rare events of a tenant among so many, and for the newest of all.
async fn audit_of(rota: &Rota, sql: &Sql, fill: &str, rows: usize) {
    assert_eq!(sql.run(&fill.replace("ROWS", &rows.to_string())).await, rows as u64);
    let operator = rota.operator().await;
    for (tenant_id, action, found) in [("", "Rare", 10), ("big", "Rare", 10), ("big", "", 100), ("", "", 100)]
    {
        let (tenant_id, action) = (tenant_id.to_owned(), action.to_owned());
        let request = ListAuditEventsRequest { tenant_id, action, ..Default::default() };
        let began = Instant::now();
        let answer = operator.admin.clone().list_audit_events(request.clone()).await.unwrap().into_inner();
        let took = began.elapsed();
        println!(
            "{rows} events, {} of {:?} {:?}: {took:.1?}",
            answer.events.len(),
            request.tenant_id,
            request.action
        );
        assert_eq!(answer.events.len(), found);
        assert!(took < floor().max(FLOOR), "{took:?}");
    }
}

const FILL_SQLITE: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ROWS) \
    INSERT INTO audit_events SELECT CAST(printf('%016d', i) AS BLOB), i, 'big', \
    CASE WHEN i % (ROWS / 10) = 0 THEN 'Rare' ELSE 'Usual' END, '', NULL, '', '', '', '' FROM n";
const FILL_POSTGRES: &str = "INSERT INTO audit_events SELECT ('f' || lpad(to_hex(i), 31, '0'))::uuid, i, 'big', \
    CASE WHEN i % (ROWS / 10) = 0 THEN 'Rare' ELSE 'Usual' END, '', NULL, '', '', '', '' \
    FROM generate_series(1, ROWS) AS i";

async fn audit_on_both(rows: usize) {
    let rota = Rota::builder().start().await;
    audit_of(&rota, &Sql::of_sqlite(&rota).await, FILL_SQLITE, rows).await;
    let database = Postgres::shared().await.fresh_database();
    let rota = Rota::builder().database(&database).start().await;
    audit_of(&rota, &Sql::at(&database).await, FILL_POSTGRES, rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_of_many_events_is_listed_at_once() {
    audit_on_both(20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make attacks: an audit of a million events"]
async fn an_audit_of_a_million_events_is_listed_at_once() {
    audit_on_both(1_000_000).await;
}
