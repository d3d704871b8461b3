//! One of two replicas cannot reach an address that the other can. What it cannot reach is its own trouble: the other serves
//! every call as always, and the first goes on with what it reaches.

use std::{fs, path::Path};

use rcgen::{CertificateParams, KeyPair};
use rota::scripted::Upstream;
use tempfile::TempDir;

use super::{Extent, Fleet, Row, all_served, served};
use crate::{
    provider::upstream_settings::behind_tls,
    support::{
        callers::{Call, Callers, Count},
        postgres::Postgres,
        redis::Redis,
        rota::{Builder, Rota},
        world::config,
    },
};

/// The provider's name, by a hosts file that one replica alone sees.
const NAME: &str = "provider.test";
/// An address of private use (RFC 1918) that leads nowhere here.
const NOWHERE: &str = "10.255.255.1";
/// Puts that file in the place of the hosts file of what follows.
const WITH_HOSTS: &str = r#"mount --bind "$1" /etc/hosts && shift && exec "$@""#;

/// Whether this process may give another one a hosts file of its own.
fn may_mount() -> bool {
    let command = std::process::Command::new("unshare").args(["-m", "true"]).output();
    command.is_ok_and(|output| output.status.success())
}

/// One that sees this of the name.
fn seeing(builder: Builder, folder: &Path, file: &str, line: &str) -> Builder {
    let path = folder.join(file);
    fs::write(&path, format!("127.0.0.1 localhost\n{line}\n")).unwrap();
    builder.under(&["unshare", "-m", "sh", "-c", WITH_HOSTS, "sh", &path.to_string_lossy()])
}

/// Two of three configs are at `base_url`, which leads to `away`: there the first replica cannot go.
async fn row(
    fault: &'static str,
    extent: Extent,
    [sick, well]: [Builder; 2],
    away: &Upstream,
    base_url: &str,
) -> Row {
    let mut fleet = Fleet::start([sick, well]).await;
    let mut configs: Vec<_> = fleet.scene.keys.iter().map(|key| config(key, key)).collect();
    for config in &mut configs[..2] {
        base_url.clone_into(&mut config.base_url);
    }
    fleet.scene.put_configs(configs).await;
    let Count { unary, stream, cancel } = extent.count;
    let half = Count { unary: unary.div_ceil(2), stream: stream.div_ceil(2), cancel };
    let of_sick = Callers::start(&[&fleet.rotas[0]], &fleet.scene, half).await;
    let of_well = Callers::start(&[&fleet.rotas[1]], &fleet.scene, half).await;
    for callers in [&of_sick, &of_well] {
        served(callers, extent.calls / 2).await;
    }
    // Nobody rests for the other.
    let hits = || {
        let asked = |key: &String| away.hits(key) + fleet.upstream.hits(key);
        fleet.scene.keys.iter().map(asked).collect::<Vec<_>>()
    };
    let before = hits();
    served(&of_well, extent.calls / 2).await;
    let after = hits();
    let all_asked = before.iter().zip(&after).all(|(before, after)| before < after);
    assert!(all_asked, "{fault}: {before:?}, then {after:?}");
    let (of_sick, of_well) = (of_sick.end().await, of_well.end().await);
    let calls = [&*of_sick, &*of_well].concat();
    all_served(fault, &calls);
    let moved = |calls: &[Call]| calls.iter().filter(|call| call.attempts > 1).count();
    assert_eq!(moved(&of_well), 0, "{fault}: the other replica noticed");
    let beside = format!(
        "{} of {} calls of that replica moved on, none of the other's {}",
        moved(&of_sick),
        of_sick.len(),
        of_well.len()
    );
    Row::new(fault, &calls, beside)
}

async fn settings(redis: &Redis) -> Builder {
    Rota::builder().redis(redis.url()).database(Postgres::shared().await.fresh_database())
}

/// Where the well replica sees this of the name, and the sick one that.
async fn by_name(fault: &'static str, extent: Extent, sees: &str) -> Option<Row> {
    if !may_mount() {
        return None;
    }
    let (folder, redis) = (TempDir::new().unwrap(), Redis::start().await);
    let settings = settings(&redis).await;
    let sick = settings.clone().arg("--upstream-connect-timeout").arg("500ms");
    let sick = seeing(sick, folder.path(), "sick", sees);
    let well = seeing(settings, folder.path(), "well", &format!("127.0.0.1 {NAME}"));
    let away = Upstream::start().await.unwrap();
    let base_url = away.base_url().replace("127.0.0.1", NAME);
    Some(row(fault, extent, [sick, well], &away, &base_url).await)
}

pub async fn no_resolver(extent: Extent) -> Option<Row> {
    by_name("one replica without DNS", extent, "").await
}

pub async fn no_route(extent: Extent) -> Option<Row> {
    by_name("one replica without a route to one provider", extent, &format!("{NOWHERE} {NAME}")).await
}

pub async fn expired_authority(extent: Extent) -> Row {
    let (folder, redis) = (TempDir::new().unwrap(), Redis::start().await);
    let (current, expired) = (folder.path().join("current.pem"), folder.path().join("expired.pem"));
    let mut params = CertificateParams::default();
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let old = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    fs::write(&expired, old.pem()).unwrap();
    let away = Upstream::start().await.unwrap();
    let base_url = format!("https://{}/v1", behind_tls(&away, &current).await);
    let settings = settings(&redis).await;
    let trusting = |file: &Path| settings.clone().arg("--upstream-ca").arg(file.to_string_lossy());
    let replicas = [trusting(&expired), trusting(&current)];
    row("one replica with an expired CA bundle", extent, replicas, &away, &base_url).await
}
