//! The calls of one tenant, measured beside what another does.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::support::world::Scene;

/// A slowest hundredth below this says nothing: in full, where an attack has the machine for itself, and in small, beside
/// other tests.
const FLOOR: Duration = Duration::from_millis(50);
const BESIDE_TESTS: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(30);

/// The slowest hundredth of the calls that `scene` makes, one after the other, until `other` has ended. None may fail.
pub async fn beside<T>(scene: &Scene, other: impl Future<Output = T>) -> (Duration, T) {
    let mut took = Vec::new();
    let calls = async {
        loop {
            let began = Instant::now();
            timeout(PATIENCE, scene.ask()).await.expect("no answer").expect("a call of another tenant fails");
            took.push(began.elapsed());
            sleep(PAUSE).await;
        }
    };
    let outcome = tokio::select! {
        outcome = other => outcome,
        never = calls => never,
    };
    assert!(took.len() >= 2, "{} calls", took.len());
    took.sort();
    (p99(&took), outcome)
}

/// So many callers of `scene`, for so long.
pub async fn ordinary(scene: &Scene, callers: usize, how_long: Duration) {
    let end = Instant::now() + how_long;
    let callers = (0..callers).map(async |_| {
        while Instant::now() < end {
            drop(scene.ask().await);
        }
    });
    futures::future::join_all(callers).await;
}

/// The slowest hundredth of times in order.
pub fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100]
}

/// A time below this says nothing.
pub fn floor() -> Duration {
    if in_full() { FLOOR } else { BESIDE_TESTS }
}

/// Whether attacks run in full, with nothing beside them.
pub fn in_full() -> bool {
    std::env::args().any(|arg| arg == "--ignored")
}

/// The slowest hundredth beside an attack is at most twice that beside ordinary load.
pub fn assert_undisturbed(attacked: Duration, ordinary: Duration) {
    let text = format!("{attacked:?} beside the attack, {ordinary:?} beside ordinary calls");
    println!("the slowest hundredth: {text}");
    assert!(attacked <= 2 * ordinary.max(floor()), "{text}");
}
