//! Somebody who changes configuration all the time, one write after the other.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rota::api::pb::{LoadBalancingConfig, UpdateLoadBalancingConfigsRequest};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::PATIENCE;
use crate::support::{
    eventually,
    failure::told,
    rota::Rota,
    world::{Scene, config},
};

/// The configs of one set.
const SET: usize = 4;
/// The one reason for which a write may fail here.
pub const AWAY: &str = "DATABASE_UNAVAILABLE";

/// One write that has ended.
#[derive(Debug, Clone)]
pub struct Write {
    /// Which one: its set has this in its names.
    pub number: usize,
    pub began: Instant,
    pub ended: Instant,
    /// The reason, where it failed.
    pub failed: Option<String>,
}

/// Replaces the configs of a model by others, again and again.
pub struct Writer {
    scene: Scene,
    stop: Arc<AtomicBool>,
    writes: Arc<Mutex<Vec<Write>>>,
    task: JoinHandle<()>,
}

impl Writer {
    /// The model is its own, so that callers do not meet its configs.
    pub async fn start(rota: &Rota) -> Self {
        let mut scene = Scene::tenant(rota).await;
        scene.add_model("http://127.0.0.1:9/v1").await;
        let (stop, writes) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<Write>>>::default());
        let task = tokio::spawn(write_on(scene.clone(), stop.clone(), writes.clone()));
        Self { scene, stop, writes, task }
    }

    /// Waits until a write that began after `since` has gone so: well, or not.
    pub async fn wrote(&self, since: Instant, well: bool) -> Write {
        eventually(PATIENCE, async || {
            let writes = self.writes.lock().unwrap();
            let found = writes.iter().find(|write| write.began >= since && write.failed.is_none() == well);
            found.cloned().ok_or_else(|| format!("the last write: {:?}", writes.last()))
        })
        .await
    }

    /// The writes that have failed so far.
    pub fn failed(&self) -> Vec<Write> {
        self.writes.lock().unwrap().iter().filter(|write| write.failed.is_some()).cloned().collect()
    }

    /// Stops, and holds what is stored, through `rota`, against what was told.
    pub async fn end(self, rota: &Rota) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        let writes = self.writes.lock().unwrap().clone();
        let mut failed = BTreeMap::new();
        for reason in writes.iter().filter_map(|write| write.failed.clone()) {
            assert_eq!(reason, AWAY);
            *failed.entry(reason).or_insert(0) += 1;
        }
        // One whole set: the last that was told to be stored, or a later one whose writer was told nothing certain.
        let stored = self.scene.through(rota).await.configs_now().await;
        let numbers: Vec<usize> =
            stored.iter().map(|config| config.name.split('-').next().unwrap().parse().unwrap()).collect();
        assert_eq!(stored.len(), SET, "{stored:#?}");
        assert!(numbers.windows(2).all(|pair| pair[0] == pair[1]), "half of two sets: {stored:#?}");
        let last = writes.iter().rfind(|write| write.failed.is_none()).map(|write| write.number);
        assert!(last <= Some(numbers[0]), "write {last:?} is lost, {} is stored", numbers[0]);
        let failed = failed.values().sum();
        Written { well: writes.len() - failed, failed, writes, scene: self.scene, stored }
    }
}

/// What was written in the end.
pub struct Written {
    pub well: usize,
    pub failed: usize,
    pub writes: Vec<Write>,
    pub scene: Scene,
    pub stored: Vec<LoadBalancingConfig>,
}

impl Written {
    /// For the table.
    pub fn text(&self) -> String {
        let slowest = self.writes.iter().map(|write| write.ended - write.began).max().unwrap_or_default();
        format!("writes: {} done, {} `{AWAY}`, the slowest after {slowest:.1?}", self.well, self.failed)
    }
}

async fn write_on(scene: Scene, stop: Arc<AtomicBool>, writes: Arc<Mutex<Vec<Write>>>) {
    let mut client = scene.clients.config.clone();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let configs =
            (0..SET).map(|i| config(&format!("{number}-{i}"), &format!("key-{number}-{i}"))).collect();
        let request =
            UpdateLoadBalancingConfigsRequest { key: Some(scene.key.clone()), configs, ..Default::default() };
        let began = Instant::now();
        let failed = client.update_load_balancing_configs(request).await.err().map(|status| told(&status).1);
        let ended = Instant::now();
        writes.lock().unwrap().push(Write { number, began, ended, failed });
        sleep(Duration::from_millis(50)).await;
    }
}
