//! Every metric. Names and units follow OpenTelemetry's conventions for RPC and generative AI where these have one, written
//! as Prometheus writes them. The others begin with `rota_`.
//!
//! The number of series is bounded: only the first models that are called have labels of their own, up to a setting, and
//! the rest share `other`. No label holds a caller's text except the names that tenants gave.

mod definitions;
mod labels;

pub(super) use labels::operation;
pub use labels::{ModelLabels, ModelNames, PickOutcome, Shed, Standings, StoreMode};

use crate::tasks::{Task, TaskCounts};
use dashmap::DashMap;
use labels::{
    CallLabels, CommandLabels, ErrorLabels, MemberLabels, PickLabels, ShedLabels, StoreLabels, TaskLabels,
    TokenLabels,
};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All metrics of one service.
pub struct Metrics {
    registry: Registry,
    calls: Histograms<CallLabels>,
    in_flight: Gauge,
    sheds: Family<ShedLabels, Counter>,
    panics: Counter,
    connections: Gauge,
    refused: Counter,
    attempts: Histograms<ErrorLabels>,
    resends: Counter,
    first: Histograms<ModelLabels>,
    tokens: Histograms<TokenLabels>,
    picks: Histograms<PickLabels>,
    commands: Histograms<CommandLabels>,
    cooldowns: Family<ErrorLabels, Counter>,
    members: Family<MemberLabels, Gauge>,
    shared: Family<StoreLabels, Gauge>,
    revision: Gauge,
    ready: Gauge,
    database: Gauge,
    writable: Gauge,
    cut_off: Gauge,
    tasks: Gauge,
    task_failures: Family<TaskLabels, Counter>,
    contained_panics: Family<TaskLabels, Counter>,
    models: DashMap<Uuid, ModelLabels>,
    names: Mutex<Names>,
    /// The classes of failures so far: what series a model may have.
    classes: Mutex<BTreeSet<&'static str>>,
    most_models: usize,
    other: ModelLabels,
}

/// The names of the models that have labels of their own.
#[derive(Default)]
struct Names {
    known: HashSet<Arc<ModelNames>>,
    /// Those of models that are gone, while somebody may still write to their series.
    leaving: Vec<ModelLabels>,
}

impl Metrics {
    /// All of them in the text format of OpenMetrics.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        self.sweep();
        // Writing to a text does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// A call begins.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.inc();
        InFlight(Arc::clone(self))
    }

    /// A call was refused by a limit.
    pub fn shed(&self, why: Shed) {
        self.sheds.get_or_create(&why.labels()).inc();
    }

    /// A connection is open.
    #[must_use]
    pub fn connection(self: &Arc<Self>) -> OpenConnection {
        self.connections.inc();
        OpenConnection(Arc::clone(self))
    }

    /// A connection was closed, because there were as many as allowed.
    pub fn connection_refused(&self) {
        self.refused.inc();
    }

    /// A call has panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// A call has ended.
    pub fn call(&self, method: &'static str, code: &'static str, took: Duration) {
        let labels = CallLabels { rpc_method: method, rpc_response_status_code: code };
        self.calls.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The labels of the model of that row. `names` is called once for each model.
    pub fn model(&self, row: Uuid, names: impl FnOnce() -> ModelNames) -> ModelLabels {
        if let Some(model) = self.models.get(&row) {
            return model.clone();
        }
        if self.models.len() >= self.most_models {
            return self.other.clone();
        }
        self.models.entry(row).or_insert_with(|| self.with_names(names())).clone()
    }

    /// The model of those names. Another row, of a model that was deleted, may have the same.
    fn with_names(&self, names: ModelNames) -> ModelLabels {
        let mut all = self.names.lock();
        if let Some(names) = all.known.get(&names) {
            return ModelLabels(names.clone());
        }
        let back = all.leaving.iter().position(|model| *model.0 == names);
        let names = back.map_or_else(|| Arc::new(names), |at| all.leaving.swap_remove(at).0);
        all.known.insert(names.clone());
        ModelLabels(names)
    }

    /// The models that have labels of their own.
    #[must_use]
    pub fn models(&self) -> Vec<ModelLabels> {
        self.models.iter().map(|entry| entry.value().clone()).collect()
    }

    /// An attempt at a provider has ended; `error` names the class of its failure.
    pub fn attempt(&self, model: &ModelLabels, error: Option<&'static str>, took: Duration) {
        if let Some(class) = error {
            self.classes.lock().insert(class);
        }
        let labels = ErrorLabels { model: model.clone(), error_type: error.unwrap_or_default() };
        self.attempts.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A request was sent again, since its connection had ended unnoticed.
    pub fn resent(&self) {
        self.resends.inc();
    }

    /// A stream's first content has come.
    pub fn first_content(&self, model: &ModelLabels, took: Duration) {
        self.first.get_or_create(model).observe(took.as_secs_f64());
    }

    /// A provider has told what a call used.
    pub fn tokens(&self, model: &ModelLabels, input: u32, output: u32) {
        for (gen_ai_token_type, tokens) in [("input", input), ("output", output)] {
            if tokens > 0 {
                let labels = TokenLabels { model: model.clone(), gen_ai_token_type };
                self.tokens.get_or_create(&labels).observe(tokens.into());
            }
        }
    }

    /// A pick has ended.
    pub fn pick(&self, outcome: PickOutcome, took: Duration) {
        self.picks.get_or_create(&PickLabels { outcome: outcome.name() }).observe(took.as_secs_f64());
    }

    /// A command to Redis has ended.
    pub fn command(&self, operation: &'static str, answered: bool, took: Duration) {
        let outcome = if answered { "ok" } else { "failed" };
        self.commands.get_or_create(&CommandLabels { operation, outcome }).observe(took.as_secs_f64());
    }

    /// A failure has asked for a cooldown.
    pub fn cooldown(&self, model: &ModelLabels, class: &'static str) {
        self.classes.lock().insert(class);
        let labels = ErrorLabels { model: model.clone(), error_type: class };
        self.cooldowns.get_or_create(&labels).inc();
    }

    /// The state of a model's pool.
    pub fn pool(&self, model: &ModelLabels, standings: Standings) {
        let counts = [
            ("eligible", standings.eligible),
            ("cooling", standings.cooling),
            ("waiting", standings.waiting),
        ];
        for (standing, count) in counts {
            self.members.get_or_create(&MemberLabels { model: model.clone(), standing }).set(count);
        }
    }

    /// Models of those rows were deleted: their series end, and their places are free.
    pub fn forget_rows(&self, rows: &[Uuid]) {
        for (_, model) in rows.iter().filter_map(|row| self.models.remove(row)) {
            // Another row may have the same names by now.
            if !self.models.iter().any(|other| *other == model) {
                self.leaves(model);
            }
        }
    }

    /// A model of those names is no more.
    pub fn forget(&self, model: &ModelLabels) {
        self.models.retain(|_, other| other != model);
        self.leaves(model.clone());
    }

    fn leaves(&self, model: ModelLabels) {
        let mut names = self.names.lock();
        if names.known.remove(&*model.0) {
            names.leaving.push(model);
        }
    }

    /// Ends the series of models that are gone. A call that was under way may write to one once more, so that they are looked
    /// at until nobody can.
    fn sweep(&self) {
        let leaving = &mut self.names.lock().leaving;
        if leaving.is_empty() {
            return;
        }
        let classes = self.classes.lock().clone();
        leaving.retain(|model| {
            for error_type in classes.iter().copied().chain([""]) {
                let labels = ErrorLabels { model: model.clone(), error_type };
                self.attempts.remove(&labels);
                self.cooldowns.remove(&labels);
            }
            for gen_ai_token_type in ["input", "output"] {
                self.tokens.remove(&TokenLabels { model: model.clone(), gen_ai_token_type });
            }
            for standing in ["eligible", "cooling", "waiting"] {
                self.members.remove(&MemberLabels { model: model.clone(), standing });
            }
            self.first.remove(model);
            Arc::strong_count(&model.0) > 1
        });
    }

    /// Whether calls are taken, whether the database answers, and whether it takes writes.
    pub fn readiness(&self, ready: bool, database: bool, writable: bool) {
        self.ready.set(ready.into());
        self.database.set(database.into());
        self.writable.set(writable.into());
    }

    /// Where state lives now, and which revision of the configuration is served.
    pub fn service(&self, mode: StoreMode, revision: i64) {
        for (known, name) in
            [(StoreMode::Memory, "memory"), (StoreMode::Shared, "shared"), (StoreMode::Alone, "alone")]
        {
            self.shared.get_or_create(&StoreLabels { mode: name }).set((known == mode).into());
        }
        self.revision.set(revision);
    }

    /// Whether this replica can reach no provider.
    pub fn cut_off(&self, cut_off: bool) {
        self.cut_off.set(cut_off.into());
    }

    /// How many tasks the runtime has now.
    pub fn tasks(&self, alive: usize) {
        self.tasks.set(alive as i64);
    }
}

impl TaskCounts for Metrics {
    fn started(&self, task: Task) {
        // From the start, so that the first failure shows as a step.
        for counts in [&self.task_failures, &self.contained_panics] {
            drop(counts.get_or_create(&TaskLabels { task: task.name() }));
        }
    }

    fn failed(&self, task: Task) {
        self.task_failures.get_or_create(&TaskLabels { task: task.name() }).inc();
    }

    fn contained(&self, task: Task) {
        self.contained_panics.get_or_create(&TaskLabels { task: task.name() }).inc();
    }
}

/// A call in flight, until it is dropped.
pub struct InFlight(Arc<Metrics>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// A connection that is open, until it is dropped.
pub struct OpenConnection(Arc<Metrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}
