//! The long-lived tasks of the process, supervised.
//!
//! A task that panics, or ends before it was told to, is started again: after 100 ms at first, after at most 10 s when it
//! goes on failing. Each failure is counted and logged under the task's name. A replica lives on without most tasks for
//! that long. Without its server or its follower it does not: when one of these fails five times within a minute,
//! [`Tasks::given_up`] says so, and the process should drain and exit.
//!
//! A task that works on many things of tenants (rows, pools) catches a panic for each of them with [`Tasks::contain`],
//! so that one of them stops neither the others nor the task.

use futures::FutureExt;
use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// How long a task that has failed rests, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A task that has run for so long is well: its next failure counts as the first.
const WELL: Duration = Duration::from_secs(60);
/// A critical task that fails so often within so long is given up.
const GIVEN_UP: (usize, Duration) = (5, Duration::from_secs(60));

/// Every task that lives as long as the process, or as the store or door that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Accepts connections to the gRPC port.
    Server,
    /// Takes in the changes of configuration that are committed in the database.
    Follower,
    /// Carries word of changes between this replica and the others.
    ChangeAnnouncements,
    /// Tells `grpc.health.v1` what is served.
    Health,
    /// Probes what tenants configured, where their policies ask for it.
    HealthChecks,
    /// Serves probes and metrics over plain HTTP.
    AdminServer,
    /// Reads the files of TLS again.
    TlsReload,
    /// Tells Redis that this replica lives, and with it its calls in flight.
    RedisHeartbeat,
    /// Writes successes and releases to Redis.
    RedisWriter,
    /// Listens on Redis for changes of configuration.
    RedisChanges,
    /// Notices that Redis is lost, and that it is back.
    RedisWatch,
    /// Sends finished spans to the collector.
    TraceExport,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Server,
        Self::Follower,
        Self::ChangeAnnouncements,
        Self::Health,
        Self::HealthChecks,
        Self::AdminServer,
        Self::TlsReload,
        Self::RedisHeartbeat,
        Self::RedisWriter,
        Self::RedisChanges,
        Self::RedisWatch,
        Self::TraceExport,
    ];

    /// Its name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Follower => "follower",
            Self::ChangeAnnouncements => "change_announcements",
            Self::Health => "health",
            Self::HealthChecks => "health_checks",
            Self::AdminServer => "admin_server",
            Self::TlsReload => "tls_reload",
            Self::RedisHeartbeat => "redis_heartbeat",
            Self::RedisWriter => "redis_writer",
            Self::RedisChanges => "redis_changes",
            Self::RedisWatch => "redis_watch",
            Self::TraceExport => "trace_export",
        }
    }

    /// Whether a replica is better restarted than left without it.
    #[must_use]
    pub const fn is_critical(self) -> bool {
        matches!(self, Self::Server | Self::Follower)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Counts what happens to tasks.
pub trait TaskCounts: Send + Sync {
    /// A task was started for the first time.
    fn started(&self, task: Task);
    /// A task has panicked, or has ended before it was told to.
    fn failed(&self, task: Task);
    /// A task has passed over one of the things it works on, since that panicked.
    fn passed_over(&self, task: Task);
}

/// Starts tasks and starts them again. Cheap to clone; the clones are one set.
#[derive(Clone)]
pub struct Tasks {
    set: Arc<Set>,
    stop: CancellationToken,
}

struct Set {
    counts: Option<Arc<dyn TaskCounts>>,
    given_up: watch::Sender<Option<Task>>,
    #[cfg(debug_assertions)]
    injected: injected::Panics,
}

impl Default for Tasks {
    /// A set whose failures are only logged, for tests and commands.
    fn default() -> Self {
        Self::with(CancellationToken::new(), None)
    }
}

impl Tasks {
    /// A set whose tasks run until `stop` is cancelled, each of which must watch it and end by itself.
    #[must_use]
    pub fn new(stop: CancellationToken, counts: Arc<dyn TaskCounts>) -> Self {
        Self::with(stop, Some(counts))
    }

    fn with(stop: CancellationToken, counts: Option<Arc<dyn TaskCounts>>) -> Self {
        let set = Set {
            counts,
            given_up: watch::Sender::new(None),
            #[cfg(debug_assertions)]
            injected: injected::Panics::from_environment(),
        };
        Self { set: Arc::new(set), stop }
    }

    /// The same set for tasks that run until another token is cancelled.
    #[must_use]
    pub fn until(&self, stop: CancellationToken) -> Self {
        Self { set: self.set.clone(), stop }
    }

    /// Runs what `make` makes, and makes it anew whenever it ends or panics, until this set's `stop` is cancelled. The
    /// handle ends when the task has ended for good; dropping the handle changes nothing.
    pub fn spawn<F>(&self, task: Task, make: impl FnMut() -> F + Send + 'static) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(counts) = &self.set.counts {
            counts.started(task);
        }
        tokio::spawn(supervise(self.set.clone(), self.stop.clone(), task, make))
    }

    /// Does `work` on one of the many things that `task` works on. `None` where that panics, which is counted, and logged
    /// with the name of the thing.
    pub async fn contain<T>(
        &self,
        task: Task,
        thing: &impl fmt::Display,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let done = AssertUnwindSafe(work).catch_unwind().await.ok();
        if done.is_none() {
            self.set.passed_over(task, thing);
        }
        done
    }

    /// The same for work that waits for nothing.
    pub fn contain_now<T>(
        &self,
        task: Task,
        thing: &impl fmt::Display,
        work: impl FnOnce() -> T,
    ) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(work)).ok();
        if done.is_none() {
            self.set.passed_over(task, thing);
        }
        done
    }

    /// Waits until a critical task has failed five times within a minute, and names it.
    pub async fn given_up(&self) -> Task {
        let mut given_up = self.set.given_up.subscribe();
        let task = given_up.wait_for(Option::is_some).await.ok().and_then(|task| *task);
        match task {
            Some(task) => task,
            // The sender lives in this set.
            None => std::future::pending().await,
        }
    }
}

impl Set {
    fn passed_over(&self, task: Task, thing: &impl fmt::Display) {
        if let Some(counts) = &self.counts {
            counts.passed_over(task);
        }
        tracing::error!(%task, %thing, "a panic: the task goes on without this one");
    }
}

async fn supervise<F>(set: Arc<Set>, stop: CancellationToken, task: Task, mut make: impl FnMut() -> F)
where
    F: Future<Output = ()>,
{
    let mut pause = FIRST_PAUSE;
    let mut failures = VecDeque::new();
    loop {
        let began = Instant::now();
        let run = async {
            #[cfg(debug_assertions)]
            set.injected.strike(task);
            make().await;
        };
        let panicked = AssertUnwindSafe(run).catch_unwind().await.is_err();
        if stop.is_cancelled() {
            return;
        }
        if let Some(counts) = &set.counts {
            counts.failed(task);
        }
        if began.elapsed() >= WELL {
            pause = FIRST_PAUSE;
        }
        let how = if panicked { "panicked" } else { "ended" };
        tracing::error!(%task, again_in = ?pause, "a task has {how}: it is started again");
        if task.is_critical() && fails_too_often(&mut failures, Instant::now()) {
            set.given_up.send_if_modified(|given_up| given_up.replace(task).is_none());
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Notes a failure, and says whether there were too many within too short a time.
fn fails_too_often(failures: &mut VecDeque<Instant>, now: Instant) -> bool {
    let (most, within) = GIVEN_UP;
    failures.push_back(now);
    failures.retain(|at| now.duration_since(*at) < within);
    failures.len() >= most
}

/// Panics on purpose, for tests of the built program. Only builds with debug assertions have them: `cargo build
/// --release` leaves this module out, and the variable has no effect.
#[cfg(debug_assertions)]
mod injected {
    use super::Task;
    use parking_lot::Mutex;
    use std::{collections::HashMap, env};

    /// `ROTA_INJECT_PANIC=follower:5,health`: the task `follower` panics at each of its next five starts, `health` at one.
    const VARIABLE: &str = "ROTA_INJECT_PANIC";

    pub(super) struct Panics(Mutex<HashMap<String, u32>>);

    impl Panics {
        pub(super) fn from_environment() -> Self {
            let text = env::var(VARIABLE).unwrap_or_default();
            let asked = text.split(',').filter(|one| !one.is_empty()).map(|one| {
                let (task, times) = one.split_once(':').unwrap_or((one, "1"));
                (task.to_owned(), times.parse().unwrap_or(1))
            });
            Self(Mutex::new(asked.collect()))
        }

        /// Panics where a panic of that task is left.
        pub(super) fn strike(&self, task: Task) {
            let mut left = self.0.lock();
            let Some(times) = left.get_mut(task.name()).filter(|times| **times > 0) else { return };
            *times -= 1;
            drop(left);
            panic!("injected into the task {task}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Counted(Mutex<Vec<String>>);

    impl TaskCounts for Counted {
        fn started(&self, task: Task) {
            self.0.lock().push(format!("started {task}"));
        }

        fn failed(&self, task: Task) {
            self.0.lock().push(format!("failed {task}"));
        }

        fn passed_over(&self, task: Task) {
            self.0.lock().push(format!("passed over {task}"));
        }
    }

    fn set() -> (Tasks, CancellationToken, Arc<Counted>) {
        let (stop, counted) = (CancellationToken::new(), Arc::<Counted>::default());
        (Tasks::new(stop.clone(), counted.clone()), stop, counted)
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_or_panics_is_back_until_it_is_told_to_stop() {
        let (tasks, stop, counted) = set();
        let starts = Arc::new(AtomicUsize::new(0));
        let (made, token) = (starts.clone(), stop.clone());
        let task = tasks.spawn(Task::Health, move || {
            let (number, token) = (made.fetch_add(1, Ordering::SeqCst), token.clone());
            async move {
                match number {
                    0 => panic!("first"),
                    1 => {}
                    _ => token.cancelled().await,
                }
            }
        });
        sleep(Duration::from_secs(1)).await;
        assert_eq!(starts.load(Ordering::SeqCst), 3);
        assert_eq!(*counted.0.lock(), ["started health", "failed health", "failed health"]);
        stop.cancel();
        task.await.unwrap();
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_bound_and_begin_anew_after_a_good_minute() {
        let (tasks, _stop, _) = set();
        let starts = Arc::new(Mutex::new(Vec::new()));
        let made = starts.clone();
        drop(tasks.spawn(Task::Health, move || {
            let number = {
                let mut starts = made.lock();
                starts.push(Instant::now());
                starts.len()
            };
            async move {
                if number == 10 {
                    sleep(WELL).await;
                }
            }
        }));
        sleep(Duration::from_secs(200)).await;
        let starts = starts.lock();
        let pauses: Vec<_> =
            starts.windows(2).map(|two| (two[1] - two[0]).as_millis()).take(11).collect();
        let doubling = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
        assert_eq!(pauses[..9], doubling);
        assert_eq!(pauses[9..], [60_100, 200]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_critical_task_that_fails_five_times_in_a_minute_is_given_up() {
        let (tasks, _stop, _) = set();
        drop(tasks.spawn(Task::Health, || async {}));
        // Fails every 20 s: never five times within a minute.
        drop(tasks.spawn(Task::Server, || sleep(Duration::from_secs(20))));
        let waited = tokio::time::timeout(Duration::from_secs(3600), tasks.given_up()).await;
        assert!(waited.is_err());
        drop(tasks.spawn(Task::Follower, || async { panic!("always") }));
        assert_eq!(tasks.given_up().await, Task::Follower);
    }

    #[tokio::test]
    async fn a_panic_is_contained_in_what_was_worked_on() {
        let (tasks, _stop, counted) = set();
        let contained = tasks.contain(Task::HealthChecks, &"a pool", async { panic!("poison") }).await;
        assert_eq!(contained, None::<()>);
        assert_eq!(tasks.contain(Task::HealthChecks, &"a pool", async { 7 }).await, Some(7));
        assert_eq!(tasks.contain_now(Task::Follower, &"a row", || panic!("poison")), None::<()>);
        assert_eq!(*counted.0.lock(), ["passed over health_checks", "passed over follower"]);
    }
}
