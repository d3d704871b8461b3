//! The long-lived tasks of the process, supervised.
//!
//! A task that panics, or ends before it was told to, is started again: after 100 ms at first, after at most 10 s when it
//! goes on failing. Each failure is counted and logged under the name of the task. A replica can do without most tasks for that
//! long, but not without its server or its follower. When one of these fails five times within a minute,
//! [`Tasks::given_up`] says so, and the process should drain and exit.
//!
//! A task that works on many things of tenants (rows, pools) catches a panic for each of them with [`Tasks::contain`],
//! so that one of them stops neither the others nor the task.

use futures::FutureExt;
use std::{collections::VecDeque, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

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
    /// Accepts connections to the HTTP port.
    HttpServer,
    /// Takes in the changes of configuration that are committed in the database.
    Follower,
    /// Removes what is too old from the database, and writes there what is counted in memory.
    Upkeep,
    /// Carries word of changes between this replica and the others.
    ChangeAnnouncements,
    /// Tells `grpc.health.v1` what is served.
    Health,
    /// Probes credentials and endpoints, where the policy of a model asks for it.
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
    /// Tells other replicas which addresses cannot be reached, and hears it.
    AddressVotes,
    /// Notices that Redis is lost, and that it is back.
    RedisWatch,
    /// Sends finished spans to the collector.
    TraceExport,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Server,
        Self::HttpServer,
        Self::Follower,
        Self::Upkeep,
        Self::ChangeAnnouncements,
        Self::Health,
        Self::HealthChecks,
        Self::AdminServer,
        Self::TlsReload,
        Self::RedisHeartbeat,
        Self::RedisWriter,
        Self::RedisChanges,
        Self::AddressVotes,
        Self::RedisWatch,
        Self::TraceExport,
    ];

    /// Its name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::HttpServer => "http_server",
            Self::Follower => "follower",
            Self::Upkeep => "upkeep",
            Self::ChangeAnnouncements => "change_announcements",
            Self::Health => "health",
            Self::HealthChecks => "health_checks",
            Self::AdminServer => "admin_server",
            Self::TlsReload => "tls_reload",
            Self::RedisHeartbeat => "redis_heartbeat",
            Self::RedisWriter => "redis_writer",
            Self::RedisChanges => "redis_changes",
            Self::AddressVotes => "address_votes",
            Self::RedisWatch => "redis_watch",
            Self::TraceExport => "trace_export",
        }
    }

    /// Whether a replica is better restarted than left without it.
    #[must_use]
    pub const fn is_critical(self) -> bool {
        matches!(self, Self::Server | Self::HttpServer | Self::Follower)
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
    /// A task goes on without one of the things it works on, since that panicked.
    fn contained(&self, task: Task);
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
    /// A set whose tasks run until `stop` is cancelled.
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

    /// The same set for tasks that run until the guard is dropped, or until those of this set end.
    #[must_use]
    pub fn guarded(&self) -> (Self, DropGuard) {
        let stop = self.stop.child_token();
        (self.until(stop.clone()), stop.drop_guard())
    }

    /// Runs what `make` makes, and makes it anew whenever it ends or panics, until this set's `stop` is cancelled. The
    /// future gets that token and must end by itself then. The handle ends when the task has ended for good; dropping the
    /// handle changes nothing.
    pub fn spawn<F>(
        &self,
        task: Task,
        make: impl FnMut(CancellationToken) -> F + Send + 'static,
    ) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(counts) = &self.set.counts {
            counts.started(task);
        }
        tokio::spawn(supervise(self.set.clone(), self.stop.clone(), task, make))
    }

    /// The same for a task that never ends by itself: once this set's `stop` is cancelled it is dropped where it waits.
    pub fn spawn_endless<F>(&self, task: Task, mut make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn(task, move |stop| {
            let run = make();
            async move {
                stop.run_until_cancelled(run).await;
            }
        });
    }

    /// Does `work` on one of the many things that `task` works on. `None` where that panics, which is counted, and logged
    /// with the name of the thing.
    pub async fn contain<T>(
        &self,
        task: Task,
        thing: &impl fmt::Display,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let work = async {
            #[cfg(debug_assertions)]
            self.set.injected.strike(&format!("{task}/{thing}"));
            work.await
        };
        // Boxed, because each layer around a future makes it as large again.
        let done = AssertUnwindSafe(Box::pin(work)).catch_unwind().await.ok();
        if done.is_none() {
            self.set.contained(task, thing);
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
    fn contained(&self, task: Task, thing: &impl fmt::Display) {
        if let Some(counts) = &self.counts {
            counts.contained(task);
        }
        tracing::error!(%task, %thing, "a panic: the task goes on without this one");
    }
}

async fn supervise<F>(
    set: Arc<Set>,
    stop: CancellationToken,
    task: Task,
    mut make: impl FnMut(CancellationToken) -> F,
) where
    F: Future<Output = ()>,
{
    let mut failures = Failures::default();
    loop {
        let began = Instant::now();
        let run = async {
            #[cfg(debug_assertions)]
            set.injected.strike(task.name());
            make(stop.clone()).await;
        };
        let panicked = AssertUnwindSafe(run).catch_unwind().await.is_err();
        if stop.is_cancelled() {
            return;
        }
        if let Some(counts) = &set.counts {
            counts.failed(task);
        }
        let (pause, too_often) = failures.note(began, Instant::now());
        let how = if panicked { "panicked" } else { "ended" };
        tracing::error!(%task, again_in = ?pause, "a task has {how}: it is started again");
        if too_often && task.is_critical() {
            set.given_up.send_if_modified(|given_up| given_up.replace(task).is_none());
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The failures of one task. Time is an argument, so that tests need not wait.
#[derive(Default)]
struct Failures {
    /// How long the task rested after the last one.
    pause: Duration,
    recent: VecDeque<Instant>,
}

impl Failures {
    /// Notes that the task, which began at that time, has failed now. Says how long it rests, and whether it fails too
    /// often.
    fn note(&mut self, began: Instant, now: Instant) -> (Duration, bool) {
        let was_well = now.duration_since(began) >= WELL;
        let doubled = (self.pause * 2).min(LONGEST_PAUSE);
        self.pause = if was_well { FIRST_PAUSE } else { doubled.max(FIRST_PAUSE) };
        let (most, within) = GIVEN_UP;
        self.recent.push_back(now);
        self.recent.retain(|at| now.duration_since(*at) < within);
        (self.pause, self.recent.len() >= most)
    }
}

/// Panics on purpose, for tests of the built program. Only builds with debug assertions have them: `cargo build
/// --release` leaves this module out, and the variable has no effect.
#[cfg(debug_assertions)]
mod injected {
    use parking_lot::Mutex;
    use std::env;

    /// `ROTA_INJECT_PANIC=follower:5,health`: the task `follower` panics at each of its next five starts, `health` at one.
    /// `health_checks/acme/openai/gpt:3`: three checks of that pool panic. A `*` at the beginning stands for any text.
    const VARIABLE: &str = "ROTA_INJECT_PANIC";

    pub(super) struct Panics(Mutex<Vec<(String, u32)>>);

    impl Panics {
        pub(super) fn from_environment() -> Self {
            let text = env::var(VARIABLE).unwrap_or_default();
            let asked = text.split(',').filter(|one| !one.is_empty()).map(|one| {
                let (task, times) = one.split_once(':').unwrap_or((one, "1"));
                (task.to_owned(), times.parse().unwrap_or(1))
            });
            Self(Mutex::new(asked.collect()))
        }

        /// Panics where a panic at that place is left.
        #[expect(clippy::panic, reason = "that is what it is for; it is in no release")]
        pub(super) fn strike(&self, place: &str) {
            let mut left = self.0.lock();
            let is_here = |asked: &str| match asked.strip_prefix('*') {
                Some(end) => place.ends_with(end),
                None => asked == place,
            };
            let here = left.iter_mut().find(|(asked, times)| *times > 0 && is_here(asked));
            let Some((_, times)) = here else { return };
            *times -= 1;
            drop(left);
            panic!("injected into {place}");
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

        fn contained(&self, task: Task) {
            self.0.lock().push(format!("contained {task}"));
        }
    }

    fn set() -> (Tasks, CancellationToken, Arc<Counted>) {
        let (stop, counted) = (CancellationToken::new(), Arc::<Counted>::default());
        (Tasks::new(stop.clone(), counted.clone()), stop, counted)
    }

    #[tokio::test]
    async fn a_task_that_ends_or_panics_is_back_until_it_is_told_to_stop() {
        let (tasks, stop, counted) = set();
        let starts = Arc::new(AtomicUsize::new(0));
        let made = starts.clone();
        let task = tasks.spawn(Task::Health, move |stop| {
            let number = made.fetch_add(1, Ordering::SeqCst);
            async move {
                match number {
                    0 => panic!("first"),
                    1 => {}
                    _ => stop.cancelled().await,
                }
            }
        });
        while starts.load(Ordering::SeqCst) < 3 {
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(*counted.0.lock(), ["started health", "failed health", "failed health"]);
        stop.cancel();
        task.await.unwrap();
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew_after_a_good_minute() {
        let (mut failures, began) = (Failures::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..9 {
            pauses.push(failures.note(began, began).0.as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(failures.note(began, began + WELL).0, FIRST_PAUSE);
        assert_eq!(failures.note(began, began).0, FIRST_PAUSE * 2);
    }

    #[test]
    fn five_failures_within_a_minute_are_too_many() {
        let begin = Instant::now();
        let verdicts = |apart: Duration| {
            let mut failures = Failures::default();
            [0, 1, 2, 3, 4, 5].map(|number| {
                let now = begin + apart * number;
                failures.note(now, now).1
            })
        };
        assert_eq!(verdicts(Duration::from_secs(14)), [false, false, false, false, true, true]);
        assert_eq!(verdicts(Duration::from_secs(15)), [false; 6]);
    }

    #[tokio::test]
    async fn a_critical_task_that_goes_on_failing_is_given_up() {
        let (tasks, stop, _) = set();
        drop(tasks.spawn(Task::Health, |_| async {}));
        let failing = tasks.spawn(Task::Follower, |_| async { panic!("always") });
        assert_eq!(tasks.given_up().await, Task::Follower);
        stop.cancel();
        failing.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_contained_in_what_was_worked_on() {
        let (tasks, _stop, counted) = set();
        let contained = tasks.contain(Task::HealthChecks, &"a pool", async { panic!("poison") }).await;
        assert_eq!(contained, None::<()>);
        assert_eq!(tasks.contain(Task::HealthChecks, &"a pool", async { 7 }).await, Some(7));
        assert_eq!(*counted.0.lock(), ["contained health_checks"]);
    }
}
