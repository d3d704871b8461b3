//! Rotation of keys under load, over a crash and over replicas; where the master key comes from; secrets that cannot be
//! read.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rota::{
    api::pb::{
        CreateTenantRequest, Credential, GetCredentialRequest, ModelKey, RotateTenantKeyRequest,
        RotateTenantKeyResponse, Tenant, UpdateCredentialRequest, ValidateCredentialRequest,
        ValidateLoadBalancingCredentialsRequest,
    },
    scripted::Upstream,
};
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::support::{
    eventually,
    listing::{api_key_field, inherit, link},
    postgres::Postgres,
    refusal::refused,
    rota::{Clients, Rota},
    sql::Sql,
    tools::said,
    world::{Scene, config},
};

/// How long work may take on a machine that is busy with other tests.
const LONG: Duration = Duration::from_secs(60);

async fn data_keys(stored: &Sql) -> BTreeSet<Uuid> {
    stored.rows("SELECT id FROM data_keys").await.into_iter().collect()
}

async fn rotate(clients: &Clients, tenant: &str) -> Result<RotateTenantKeyResponse, Status> {
    let request = RotateTenantKeyRequest { tenant_id: tenant.to_owned() };
    Ok(clients.admin.clone().rotate_tenant_key(request).await?.into_inner())
}

/// Calls that go on until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<Result<(), Status>>>,
}

impl Load {
    fn on(scene: &Scene, callers: usize) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let caller = |_| {
            let (stop, served, scene) = (stop.clone(), served.clone(), scene.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    scene.ask().await?;
                    served.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        Self { callers: (0..callers).map(caller).collect(), stop, served }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// Ends it; fails where any call has failed.
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.unwrap().expect("a call failed during the rotation");
        }
    }
}

/// Adds models with so many configs in all, each with a key of its own.
async fn many_configs(scene: &Scene, configs: usize) {
    for (model, share) in (0..configs).collect::<Vec<_>>().chunks(1000).enumerate() {
        let key = ModelKey { model: format!("many-{model}"), ..scene.key.clone() };
        scene.put_model(&key).await;
        let set = share.iter().map(|i| config(&format!("c{i}"), &format!("key-{i}-of-{model}")));
        Scene { key, ..scene.clone() }.save(set.collect()).await.unwrap();
    }
}

async fn change_key(scene: &Scene, credential: &Credential, key: &str) -> Credential {
    let changed = Credential { fields: api_key_field(key), revision: 0, ..credential.clone() };
    let request = UpdateCredentialRequest { credential: Some(changed), update_mask: None };
    scene.clients.config.clone().update_credential(request).await.unwrap().into_inner().credential.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_under_load_on_sqlite() {
    let rota = Rota::builder().start().await;
    let stored = Sql::of_sqlite(&rota).await;
    under_load(&rota, &stored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_under_load_on_postgres() {
    let url = Postgres::shared().await.fresh_database();
    let rota = Rota::builder().database(&url).start().await;
    under_load(&rota, &Sql::at(&url).await).await;
}

/// Calls, writes and rotations at once.
async fn under_load(rota: &Rota, stored: &Sql) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(rota, &upstream, 2).await;
    let credential = scene.create_credential("changed", "key-first").await;
    let mut set = scene.configs.clone();
    set.push(link(&credential));
    scene.put_configs(set).await;
    many_configs(&scene, 700).await;
    let operator = rota.operator().await;
    let first = data_keys(stored).await;
    assert_eq!(first.len(), 1);
    let first = first.first().unwrap().to_string();
    assert!(stored.naming(&first).await > 700, "the search finds what is under a key");

    let load = Load::on(&scene, 3);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (stop, scene, credential) = (stop.clone(), scene.clone(), credential.clone());
        async move {
            let mut writes = 0;
            while !stop.load(Ordering::Relaxed) || writes < 5 {
                change_key(&scene, &credential, &format!("key-changed-{writes}")).await;
                scene.create_credential(&format!("made-{writes}"), &format!("key-made-{writes}")).await;
                writes += 1;
            }
            writes
        }
    });
    for _ in 0..3 {
        let answer = rotate(&operator, &scene.tenant).await.unwrap();
        assert!(answer.resealed > 700 && answer.unreadable == 0 && !answer.resumed, "{answer:?}");
    }
    let calls = load.served();
    eventually(LONG, async || if load.served() > calls { Ok(()) } else { Err("no call is served".into()) })
        .await;
    stop.store(true, Ordering::Relaxed);
    let writes = writer.await.unwrap();
    load.end().await;

    assert_eq!(stored.naming(&first).await, 0, "something is left under the old key");
    let keys = data_keys(stored).await;
    assert_eq!(keys.len(), 1, "an old key is left");
    // No write was lost, and all can be read.
    let listing = scene.listing().await;
    assert_eq!(listing.credentials.len(), writes + 1);
    assert!(listing.credentials.iter().all(|credential| credential.warning.is_empty()));
    let configs = listing.configs.iter().flat_map(|set| &set.configs);
    assert!(configs.clone().all(|config| config.warning.is_empty()) && configs.count() > 700);
    let last = format!("key-changed-{}", writes - 1);
    for _ in 0..6 {
        scene.ask().await.unwrap();
    }
    assert!(upstream.hits(&last) > 0, "the last key that was stored serves");
    // Nothing but keys went upstream.
    let known = (0..writes).map(|i| format!("key-changed-{i}")).chain(scene.keys.clone());
    let known: u64 = known.chain(["key-first".to_owned()]).map(|key| upstream.hits(&key)).sum();
    assert_eq!(upstream.total_hits(), known);

    refused(rotate(&operator, "nobody").await, Code::NotFound, "TENANT_NOT_FOUND");
    refused(rotate(&operator, "").await, Code::InvalidArgument, "INVALID_FIELD");
    refused(rotate(&scene.clients, &scene.tenant).await, Code::PermissionDenied, "ROLE_NOT_ALLOWED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_killed_is_continued() {
    const CONFIGS: usize = 3000;
    let upstream = Upstream::start().await.unwrap();
    let mut rota = Rota::builder().start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    many_configs(&scene, CONFIGS).await;
    let stored = Sql::of_sqlite(&rota).await;
    let total = CONFIGS + 2;

    let mut caught = None;
    // It may be over before it is seen: then again.
    for _ in 0..20 {
        let [old] = <[_; 1]>::try_from(data_keys(&stored).await.into_iter().collect::<Vec<_>>()).unwrap();
        let (clients, tenant) = (rota.operator().await, scene.tenant.clone());
        let call = tokio::spawn(async move { rotate(&clients, &tenant).await });
        let left = format!("SELECT 'x' FROM lb_configs WHERE fields LIKE '%{old}%'");
        let left = async || stored.rows::<String>(&left).await.len();
        while !call.is_finished() && left().await == total {
            tokio::task::yield_now().await;
        }
        rota.kill9();
        let left = left().await;
        rota.restart().await;
        if (1..total).contains(&left) {
            call.await.unwrap().expect_err("killed in the middle of it");
            caught = Some(old);
            break;
        }
        let _ = call.await;
    }
    let old = caught.expect("every rotation was over before it was killed");
    assert_eq!(data_keys(&stored).await.len(), 2);
    // Both keys open.
    let scene = scene.through(&rota).await;
    scene.ask().await.unwrap();
    let configs: Vec<_> = scene.listing().await.configs.into_iter().flat_map(|set| set.configs).collect();
    assert_eq!(configs.len(), total);
    assert!(configs.iter().all(|config| config.warning.is_empty()));

    let answer = rotate(&rota.operator().await, &scene.tenant).await.unwrap();
    assert!(answer.resumed && answer.unreadable == 0, "{answer:?}");
    assert!((1..total as i64).contains(&answer.resealed), "{answer:?}");
    let keys = data_keys(&stored).await;
    assert!(keys.len() == 1 && !keys.contains(&old), "{keys:?}");
    assert_eq!(stored.naming(&old.to_string()).await, 0);
    scene.ask().await.unwrap();
}

fn random_key() -> String {
    BASE64_STANDARD.encode(rand::random::<[u8; 32]>())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_is_rotated_under_two_replicas() {
    let postgres = Postgres::shared().await;
    let url = postgres.fresh_database();
    let (old, new) = (random_key(), random_key());
    let with = |ring: String| Rota::builder().database(&url).env("ROTA_MASTER_KEY", ring);
    let (only_old, only_new) = (with(format!("1:{old}")), with(format!("2:{new}")));
    let both = with(format!("2:{new},1:{old}"));

    let upstream = Upstream::start().await.unwrap();
    let first = only_old.start().await;
    let scene = Scene::set(&first, &upstream, 2).await;
    let clients = first.operator().await;
    for i in 0..3 {
        let tenant = Tenant { id: format!("other-{i}"), ..Tenant::default() };
        clients.admin.clone().create_tenant(CreateTenantRequest { tenant: Some(tenant) }).await.unwrap();
    }
    drop(first);
    let replicas = [both.start().await, both.start().await];
    let scenes = [scene.through(&replicas[0]).await, scene.through(&replicas[1]).await];
    let loads = [Load::on(&scenes[0], 2), Load::on(&scenes[1], 2)];

    let keys = |args: &[&str]| {
        let output = both.output(&[&["keys", "rotate"], args].concat());
        let text = said(&output);
        assert!(!text.contains(&old[..20]) && !text.contains(&new[..20]), "{text}");
        (output.status.success(), text)
    };
    let rotated = |args: &[&str], counts: &str| {
        let (success, text) = keys(args);
        assert!(success && text.contains(counts), "{text}");
    };
    rotated(&["--dry-run"], "4 to re-seal, 0 under the first master key already, 0 unreadable");
    rotated(&[], "4 re-sealed, 0 under");
    rotated(&[], "0 re-sealed, 4 under");
    // Written and read by both, after it and under it.
    scenes[0].create_credential("later", "key-later").await;
    rotate(&replicas[1].operator().await, &scene.tenant).await.unwrap();
    for (load, scene) in loads.into_iter().zip(&scenes) {
        eventually(LONG, async || if load.served() > 20 { Ok(()) } else { Err("few calls".into()) }).await;
        load.end().await;
        assert!(scene.listing().await.credentials.iter().all(|credential| credential.warning.is_empty()));
    }
    assert_eq!(postgres.sql(&url, "SELECT DISTINCT master_key_id FROM data_keys"), "2");

    let refusal = only_old.try_start().await.err().expect("started with the old key alone");
    assert!(refusal.contains("master key") && !refusal.contains(&old[..20]), "{refusal}");
    drop(replicas);
    let rota = only_new.start().await;
    let scene = scene.through(&rota).await;
    scene.ask().await.unwrap();
    scene.create_credential("under-the-new", "key-new").await;

    // One that does not open is told, and the command fails.
    postgres.sql(
        &url,
        "UPDATE data_keys SET sealed = 'AAAA' WHERE id = (SELECT max(id::text)::uuid FROM data_keys)",
    );
    let (success, text) = keys(&[]);
    assert!(!success && text.contains("3 under the first master key already, 1 unreadable"), "{text}");
}

#[test]
fn the_master_key_comes_from_one_place() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let ring = folder.path().join("ring");
    let (key, other) = (random_key(), random_key());
    fs::write(&ring, format!("a:{key}\n")).unwrap();
    fs::set_permissions(&ring, fs::Permissions::from_mode(0o600)).unwrap();
    let file = ring.to_str().unwrap();
    let command = format!("echo asking the key service >&2; cat {file}");
    let settings = Rota::builder().data_dir(folder.clone());
    let migrate = |settings: &crate::support::rota::Builder, args: &[&str]| {
        let output = settings.output(&[&["migrate"], args].concat());
        let text = said(&output);
        assert!(!text.contains(&key[..20]) && !text.contains(&other[..20]), "{text}");
        (output.status.success(), text)
    };
    let (success, text) = migrate(&settings, &["--master-key-file", file]);
    assert!(success && !text.contains("others than its owner"), "{text}");
    fs::set_permissions(&ring, fs::Permissions::from_mode(0o644)).unwrap();
    let (success, text) = migrate(&settings.clone().env("ROTA_MASTER_KEY_FILE", file), &[]);
    assert!(success && text.contains("others than its owner may read the master key file"), "{text}");
    let (success, text) = migrate(&settings, &["--master-key-command", &command]);
    assert!(success && text.contains("asking the key service"), "{text}");
    let (success, text) = migrate(&settings.clone().env("ROTA_MASTER_KEY", format!("a:{key}")), &[]);
    assert!(success, "{text}");

    let flat = BASE64_STANDARD.encode([7; 32]);
    let short = BASE64_STANDARD.encode([1, 2, 3]);
    let given = |ring: &str| settings.clone().env("ROTA_MASTER_KEY", ring);
    let table: [(_, &[&str], &str); 9] = [
        (given(&format!("a:{other}")), &[], "does not open this database"),
        (given(&flat), &[], "ROTA_MASTER_KEY: entry 1 of the master key ring is one byte repeated"),
        (given(&short), &[], "is not 32 bytes long"),
        (given(&format!("a:{key},a:{other}")), &[], "entry 2 of the master key ring repeats an id"),
        (given(&format!("a:{key}")), &["--master-key-file", file], "only one of them can be given"),
        (settings.clone(), &["--master-key-file", "/no/such/file"], "/no/such/file"),
        (settings.clone(), &["--master-key-command", "echo oops >&2; exit 3"], "exit status: 3"),
        (
            settings.clone(),
            &["--master-key-command", "true"],
            "--master-key-command: the master key is empty",
        ),
        // Without any, SQLite makes one: it is not the right one.
        (settings.clone(), &[], "does not open this database"),
    ];
    for (settings, args, reason) in table {
        let (success, text) = migrate(&settings, args);
        assert!(!success && text.contains(reason), "{args:?}: {text}");
        assert!(!text.contains(&flat) && !text.contains(&short), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_read_serves_nobody() {
    let upstream = Upstream::start().await.unwrap();
    let mut rota = Rota::builder().start().await;
    let mut scene = Scene::tenant(&rota).await;
    scene.add_model(&upstream.base_url()).await;
    let credential = scene.create_credential("inherited", "key-inherited").await;
    scene.put_configs(vec![inherit(true), config("own", "key-own")]).await;
    scene.enable().await;
    let stored = Sql::of_sqlite(&rota).await;
    rota.kill9();
    for table in ["credentials", "lb_configs"] {
        let damage =
            format!("UPDATE {table} SET fields = replace(fields, '\"sealed\":\"', '\"sealed\":\"AAAA')");
        assert_eq!(stored.run(&damage).await, 1);
    }
    rota.restart().await;

    let scene = scene.through(&rota).await;
    refused(scene.ask().await, Code::FailedPrecondition, "SECRET_UNREADABLE");
    refused(scene.ask_stream().await, Code::FailedPrecondition, "SECRET_UNREADABLE");
    let mut client = scene.clients.config.clone();
    for id in ["__inherit__", &scene.configs[1].id] {
        let validate = ValidateLoadBalancingCredentialsRequest {
            key: Some(scene.key.clone()),
            config_id: id.to_owned(),
            ..Default::default()
        };
        let answer = client.validate_load_balancing_credentials(validate).await;
        refused(answer, Code::FailedPrecondition, "SECRET_UNREADABLE");
    }
    let validate = ValidateCredentialRequest {
        tenant_id: scene.tenant.clone(),
        provider: scene.provider.clone(),
        id: credential.id.clone(),
        ..Default::default()
    };
    let answer = client.validate_credential(validate).await;
    refused(answer, Code::FailedPrecondition, "SECRET_UNREADABLE");
    assert_eq!(upstream.total_hits(), 0, "something went upstream");
    let configs = scene.configs_now().await;
    assert!(configs.iter().all(|config| config.warning == "secret cannot be read"), "{configs:?}");
    assert_eq!(configs[1].credentials["api_key"], "*".repeat(20));
    let get = GetCredentialRequest {
        tenant_id: scene.tenant.clone(),
        provider: scene.provider.clone(),
        id: credential.id.clone(),
    };
    let read = client.get_credential(get).await.unwrap().into_inner().credential.unwrap();
    assert_eq!((&*read.warning, &*read.fields["api_key"]), ("secret cannot be read", &*"*".repeat(20)));
    assert_eq!(scene.listing().await.credentials, [read]);
    assert!(rota.logs().contains("a config is left out of its pool: its secret cannot be read"));

    let operator = rota.operator().await;
    let answer = rotate(&operator, &scene.tenant).await.unwrap();
    assert_eq!((answer.resealed, answer.unreadable), (0, 2), "{answer:?}");
    assert_eq!(data_keys(&stored).await.len(), 2, "the old key is kept");
    let mended = change_key(&scene, &credential, "key-mended").await;
    assert_eq!(mended.warning, "");
    scene.ask().await.unwrap();
    assert_eq!(upstream.hits("key-mended"), 1);
}
