//! The steps in which a replica stops serving, over all its doors.

use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// A call may cross the word that its connection ends. Calls that come so soon after it are still served: the client knows
/// only afterwards that it should have asked elsewhere.
const CROSSING: Duration = Duration::from_secs(1);

/// How far the replica has stopped, and the calls that are inside. Cheap to clone; the clones are one.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// Cancelled when the replica says that it is not serving. Calls that come are served.
    pub leaving: CancellationToken,
    /// Cancelled when connections are to end after their calls. No new ones are accepted.
    pub draining: CancellationToken,
    /// Cancelled when no new calls are taken.
    pub closed: CancellationToken,
    /// Cancelled when calls that are inside are to end at once.
    pub stop: CancellationToken,
    inside: TaskTracker,
}

impl Drain {
    /// Counts a call, until what is returned is dropped.
    pub fn enter(&self) -> TaskTrackerToken {
        self.inside.token()
    }

    /// How many calls are inside.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.inside.len()
    }

    /// Says NOT_SERVING, then, after `delay`, asks connections to end, and turns new calls away a moment later. Waits
    /// for those inside until all doors are `shut`, or up to `limit`, and ends the rest.
    pub async fn run(&self, delay: Duration, limit: Duration, shut: impl Future<Output = ()>) {
        self.leaving.cancel();
        if !delay.is_zero() {
            tracing::info!(?delay, "not serving, and still taking calls");
            sleep(delay).await;
        }
        tracing::info!(in_flight = self.inside(), "draining");
        self.draining.cancel();
        let over = async {
            tokio::select! {
                // No connection is left from which a call could come.
                () = shut => {}
                () = sleep(CROSSING) => {}
            }
            self.closed.cancel();
            self.inside.close();
            self.inside.wait().await;
        };
        if timeout(limit, over).await.is_err() {
            tracing::warn!(in_flight = self.inside(), "the drain limit is over: ending what is in flight");
        }
        self.closed.cancel();
        self.stop.cancel();
    }
}
