//! What docs/guides/operations.md says of backups: what was backed up serves again.

use std::{process::Command, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use rota::scripted::Upstream;

use crate::support::{postgres::Postgres, rota::Rota, world::Scene};

/// The scene serves, may be changed, and nothing is wrong with the installation.
async fn is_whole(restored: &Rota, scene: &Scene, upstream: &Upstream) {
    let mut scene = scene.through(restored).await;
    let before = upstream.total_hits();
    scene.ask().await.unwrap();
    assert_eq!(upstream.total_hits(), before + 1);
    scene.change_configs(|configs| configs[0].weight = Some(2)).await;
    assert_eq!(scene.configs_now().await[0].weight, Some(2));
    let doctor = restored.output(&["doctor"]);
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_dumped_while_it_served_serves_again() {
    let (postgres, upstream) = (Postgres::shared().await, Upstream::start().await.unwrap());
    let (lost, fresh) = (postgres.fresh_database(), postgres.fresh_database());
    let key = BASE64_STANDARD.encode(rand::random::<[u8; 32]>());
    let settings = |url: &str| Rota::builder().database(url).env("ROTA_MASTER_KEY", &key);
    let rota = settings(&lost).start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    postgres.restore(&lost, &fresh);
    drop(rota);
    is_whole(&settings(&fresh).start().await, &scene, &upstream).await;
    // The database without its key is worth nothing.
    let refused = Rota::builder().database(&fresh).try_start().await.map(drop).unwrap_err();
    assert!(refused.contains("master key"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_was_packed_while_it_stood_still_serves_again() {
    let upstream = Upstream::start().await.unwrap();
    let mut rota = Rota::builder().start().await;
    let scene = Scene::set(&rota, &upstream, 2).await;
    rota.sigterm();
    rota.wait_exit(Duration::from_secs(20)).await;
    let (packed, fresh) = (tempfile::NamedTempFile::new().unwrap(), Arc::new(tempfile::tempdir().unwrap()));
    for (action, folder) in [("-cpzf", rota.data_dir().as_path()), ("-xpzf", fresh.path())] {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(folder).arg(action).arg(packed.path());
        let done = if action == "-cpzf" { tar.arg(".").status() } else { tar.status() };
        assert!(done.unwrap().success());
    }
    drop(rota);
    is_whole(&Rota::builder().data_dir(fresh).start().await, &scene, &upstream).await;
}
