//! Callers that do not stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use super::world::Scene;

/// Callers that go on until they are stopped. None of their calls may fail.
pub struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Vec<Duration>>,
}

impl Load {
    /// So many callers of each scene.
    pub fn on<'a>(scenes: impl IntoIterator<Item = &'a Scene>, callers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        for scene in scenes {
            for _ in 0..callers {
                let (scene, stop) = (scene.clone(), stop.clone());
                running.spawn(async move {
                    let mut took = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let began = Instant::now();
                        scene.ask().await.unwrap();
                        took.push(began.elapsed());
                    }
                    took
                });
            }
        }
        Self { stop, callers: running }
    }

    /// How long each call took, sorted.
    pub async fn end(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let mut took: Vec<_> = self.callers.join_all().await.into_iter().flatten().collect();
        took.sort();
        took
    }
}
