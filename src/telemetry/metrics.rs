//! Every metric: its name, its labels, its buckets. Names and units follow OpenTelemetry's conventions for RPC and
//! generative AI where they have one, written as Prometheus has it; the others begin with `rota_`.
//!
//! Labels are bounded: by model only the first so many that are called have labels of their own, and the rest share
//! `other`. No label holds a caller's text beside the names that tenants gave.

mod labels;

pub use labels::{Model, ModelNames, PickOutcome, Shed, Standings, StoreMode};
pub(super) use labels::{operation, provider_name};

use crate::tasks::{Task, TaskCounts};
use dashmap::DashMap;
use labels::{
    BuildLabels, CallLabels, CommandLabels, ErrorLabels, MemberLabels, PickLabels, ShedLabels, StoreLabels,
    TaskLabels, TokenLabels,
};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use uuid::Uuid;

/// Seconds, as OpenTelemetry advises for RPC.
const RPC_SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 120.0];
/// Seconds, as OpenTelemetry advises for operations of models.
const MODEL_SECONDS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Tokens, as OpenTelemetry advises.
const TOKENS: &[f64] =
    &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0];
/// Seconds of a pick or a command: from a step in memory to a Redis that is about to count as away.
const PICK_SECONDS: &[f64] =
    &[0.000_005, 0.000_02, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All of them. One a service.
pub struct Metrics {
    registry: Registry,
    calls: Histograms<CallLabels>,
    in_flight: Gauge,
    sheds: Family<ShedLabels, Counter>,
    panics: Counter,
    connections: Gauge,
    refused: Counter,
    attempts: Histograms<ErrorLabels>,
    first: Histograms<Model>,
    tokens: Histograms<TokenLabels>,
    picks: Histograms<PickLabels>,
    commands: Histograms<CommandLabels>,
    cooldowns: Family<ErrorLabels, Counter>,
    members: Family<MemberLabels, Gauge>,
    shared: Family<StoreLabels, Gauge>,
    revision: Gauge,
    ready: Gauge,
    database: Gauge,
    tasks: Gauge,
    task_failures: Family<TaskLabels, Counter>,
    contained_panics: Family<TaskLabels, Counter>,
    models: DashMap<Uuid, Model>,
    names: Mutex<HashSet<Arc<ModelNames>>>,
    most_models: usize,
    other: Model,
}

impl Metrics {
    /// With labels of their own for so many models.
    #[must_use]
    pub fn new(most_models: usize) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            calls: Family::new_with_constructor(|| Histogram::new(RPC_SECONDS.iter().copied())),
            in_flight: Gauge::default(),
            sheds: Family::default(),
            panics: Counter::default(),
            connections: Gauge::default(),
            refused: Counter::default(),
            attempts: Family::new_with_constructor(|| Histogram::new(MODEL_SECONDS.iter().copied())),
            first: Family::new_with_constructor(|| Histogram::new(MODEL_SECONDS.iter().copied())),
            tokens: Family::new_with_constructor(|| Histogram::new(TOKENS.iter().copied())),
            picks: Family::new_with_constructor(|| Histogram::new(PICK_SECONDS.iter().copied())),
            commands: Family::new_with_constructor(|| Histogram::new(PICK_SECONDS.iter().copied())),
            cooldowns: Family::default(),
            members: Family::default(),
            shared: Family::default(),
            revision: Gauge::default(),
            ready: Gauge::default(),
            database: Gauge::default(),
            tasks: Gauge::default(),
            task_failures: Family::default(),
            contained_panics: Family::default(),
            models: DashMap::new(),
            names: Mutex::default(),
            most_models,
            other: Model::other(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "rpc_server_call_duration_seconds",
            "Calls of this service, until their last message",
            self.calls.clone(),
        );
        registry.register("rota_calls_in_flight", "Calls that are being served", self.in_flight.clone());
        registry.register(
            "rota_sheds",
            "Calls that were turned away, since the replica or their tenant had as many as it may",
            self.sheds.clone(),
        );
        // From the start, so that the first one shows as a step.
        for shed in [Shed::Overloaded, Shed::TenantCalls, Shed::TenantRate] {
            drop(self.sheds.get_or_create(&shed.labels()));
        }
        registry.register("rota_connections", "Connections to the gRPC port", self.connections.clone());
        registry.register(
            "rota_connections_refused",
            "Connections that were closed since there were as many as there may be",
            self.refused.clone(),
        );
        registry.register("rota_panics", "Calls that ended in a panic, told INTERNAL", self.panics.clone());
        registry.register(
            "gen_ai_client_operation_duration_seconds",
            "Attempts at a provider, until the answer or a stream's first content; error_type is empty where one served",
            self.attempts.clone(),
        );
        registry.register(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "From a streamed call's arrival to its first content, failed attempts included",
            self.first.clone(),
        );
        registry.register(
            "gen_ai_client_token_usage",
            "Tokens of a call, as the provider counted them",
            self.tokens.clone(),
        );
        registry.register(
            "rota_pick_duration_seconds",
            "Asking the state store who serves next",
            self.picks.clone(),
        );
        registry.register(
            "rota_state_store_command_duration_seconds",
            "Commands to Redis, until it has answered or its time was over",
            self.commands.clone(),
        );
        registry.register("rota_cooldowns", "Failures that asked for a cooldown", self.cooldowns.clone());
        registry.register(
            "rota_pool_members",
            "Configs of the models that this replica has called, by how they stand",
            self.members.clone(),
        );
        registry.register(
            "rota_state_store",
            "1 for where turns and cooldowns live now: memory, shared, or alone while Redis is away",
            self.shared.clone(),
        );
        registry.register(
            "rota_config_revision",
            "The last change of configuration that this replica has taken in",
            self.revision.clone(),
        );
        registry.register("rota_ready", "1 while calls are taken", self.ready.clone());
        registry.register("rota_database_up", "1 while the database answers", self.database.clone());
        registry.register(
            "rota_runtime_tasks",
            "Tasks of this process that have begun and not ended",
            self.tasks.clone(),
        );
        registry.register(
            "rota_task_failures",
            "Times that a long-lived task panicked or ended, and was started again",
            self.task_failures.clone(),
        );
        registry.register(
            "rota_task_contained_panics",
            "Panics that a task went on after, without the pool, row or tenant that it was working on",
            self.contained_panics.clone(),
        );
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("rota_build", "This build", build);
    }

    /// All of them in the text format of OpenMetrics.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
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

    /// A call was turned away.
    pub fn shed(&self, why: Shed) {
        self.sheds.get_or_create(&why.labels()).inc();
    }

    /// A connection is open.
    #[must_use]
    pub fn connection(self: &Arc<Self>) -> OpenConnection {
        self.connections.inc();
        OpenConnection(Arc::clone(self))
    }

    /// A connection was closed, for there were as many as there may be.
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

    /// How labels name the model of that row. `names` is asked once a model.
    pub fn model(&self, row: Uuid, names: impl FnOnce() -> ModelNames) -> Model {
        if let Some(model) = self.models.get(&row) {
            return model.clone();
        }
        if self.models.len() >= self.most_models {
            return self.other.clone();
        }
        self.models.entry(row).or_insert_with(|| self.with_names(names())).clone()
    }

    /// The model of those names, which it may share with another row: of a model that is gone.
    fn with_names(&self, names: ModelNames) -> Model {
        let mut known = self.names.lock();
        if let Some(names) = known.get(&names) {
            return Model(names.clone());
        }
        let names = Arc::new(names);
        known.insert(names.clone());
        Model(names)
    }

    /// The models that have labels of their own.
    #[must_use]
    pub fn models(&self) -> Vec<Model> {
        self.models.iter().map(|entry| entry.value().clone()).collect()
    }

    /// An attempt at a provider has ended; `error` names the class of its failure.
    pub fn attempt(&self, model: &Model, error: Option<&'static str>, took: Duration) {
        let labels = ErrorLabels { model: model.clone(), error_type: error.unwrap_or_default() };
        self.attempts.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A stream's first content has come.
    pub fn first_content(&self, model: &Model, took: Duration) {
        self.first.get_or_create(model).observe(took.as_secs_f64());
    }

    /// A provider has told what a call used.
    pub fn tokens(&self, model: &Model, input: u32, output: u32) {
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
    pub fn cooldown(&self, model: &Model, class: &'static str) {
        let labels = ErrorLabels { model: model.clone(), error_type: class };
        self.cooldowns.get_or_create(&labels).inc();
    }

    /// How a model's pool stands.
    pub fn pool(&self, model: &Model, standings: Standings) {
        let counts = [
            ("eligible", standings.eligible),
            ("cooling", standings.cooling),
            ("waiting", standings.waiting),
        ];
        for (standing, count) in counts {
            self.members.get_or_create(&MemberLabels { model: model.clone(), standing }).set(count);
        }
    }

    /// A model is gone: its pool is told no more. What was counted stays, and its place with it, so that models that come
    /// and go do not make ever more labels.
    pub fn forget(&self, model: &Model) {
        for standing in ["eligible", "cooling", "waiting"] {
            self.members.remove(&MemberLabels { model: model.clone(), standing });
        }
    }

    /// Whether calls are taken, and whether the database answers.
    pub fn readiness(&self, ready: bool, database: bool) {
        self.ready.set(ready.into());
        self.database.set(database.into());
    }

    /// Where state lives now, and which change of configuration is served.
    pub fn service(&self, mode: StoreMode, revision: i64) {
        for (known, name) in
            [(StoreMode::Memory, "memory"), (StoreMode::Shared, "shared"), (StoreMode::Alone, "alone")]
        {
            self.shared.get_or_create(&StoreLabels { mode: name }).set((known == mode).into());
        }
        self.revision.set(revision);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(model: &str) -> ModelNames {
        ModelNames {
            tenant: "acme".into(),
            provider: "mine".into(),
            kind: "openai",
            model_type: "llm",
            model: model.into(),
        }
    }

    #[test]
    fn a_model_that_was_made_again_goes_on_with_its_series() {
        let metrics = Metrics::new(10);
        for row in 1..=2 {
            let model = metrics.model(Uuid::from_u128(row), || names("again"));
            metrics.attempt(&model, None, Duration::from_millis(30));
        }
        let text = metrics.render();
        let counts: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("gen_ai_client_operation_duration_seconds_count"))
            .collect();
        assert_eq!(counts.len(), 1, "{counts:?}");
        assert!(counts[0].ends_with(" 2"), "{counts:?}");
    }

    #[test]
    fn what_happens_is_counted_under_its_labels() {
        let metrics = Arc::new(Metrics::new(10));
        let model = metrics.model(Uuid::from_u128(1), || names("a \"b\"\n"));
        let inside = metrics.begin();
        metrics.attempt(&model, Some("TIMEOUT"), Duration::from_millis(30));
        metrics.attempt(&model, None, Duration::from_millis(30));
        metrics.tokens(&model, 10, 0);
        metrics.cooldown(&model, "TIMEOUT");
        metrics.pool(&model, Standings { eligible: 2, cooling: 1, waiting: 0 });
        metrics.service(StoreMode::Alone, 7);
        metrics.pick(PickOutcome::Granted, Duration::from_micros(3));
        metrics.command("acquire", false, Duration::from_millis(250));
        metrics.call("rota.v1.InvokeService/InvokeLlm", "OK", Duration::from_millis(31));
        let text = metrics.render();
        let labels = "gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"openai\",\
                      gen_ai_request_model=\"a \\\"b\\\"\\n\",rota_provider=\"mine\",rota_tenant=\"acme\"";
        for line in [
            format!("gen_ai_client_operation_duration_seconds_count{{{labels},error_type=\"TIMEOUT\"}} 1"),
            format!("gen_ai_client_operation_duration_seconds_count{{{labels},error_type=\"\"}} 1"),
            format!("gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type=\"input\"}} 10.0"),
            format!("rota_cooldowns_total{{{labels},error_type=\"TIMEOUT\"}} 1"),
            format!("rota_pool_members{{{labels},standing=\"eligible\"}} 2"),
            "rota_calls_in_flight 1".to_owned(),
            "rota_config_revision 7".to_owned(),
            "rota_state_store{mode=\"alone\"} 1".to_owned(),
            "rota_state_store{mode=\"shared\"} 0".to_owned(),
            "rota_pick_duration_seconds_count{outcome=\"granted\"} 1".to_owned(),
            "rota_state_store_command_duration_seconds_count{operation=\"acquire\",outcome=\"failed\"} 1"
                .to_owned(),
            "rpc_server_call_duration_seconds_count{rpc_method=\"rota.v1.InvokeService/InvokeLlm\",\
             rpc_response_status_code=\"OK\"} 1"
                .to_owned(),
        ] {
            assert!(text.lines().any(|told| told == line), "{line}\nis not in\n{text}");
        }
        drop(inside);
        assert!(metrics.render().contains("rota_calls_in_flight 0"));
        assert!(!text.contains("type=\"output\""));
    }

    #[test]
    fn many_models_do_not_make_many_labels() {
        let metrics = Metrics::new(2);
        for row in 0..1000u128 {
            let model = metrics.model(Uuid::from_u128(row), || names(&row.to_string()));
            metrics.attempt(&model, None, Duration::ZERO);
        }
        let text = metrics.render();
        let lines = text.lines().filter(|line| line.contains("operation_duration_seconds_count"));
        assert_eq!(lines.count(), 3);
        assert!(text.contains("gen_ai_request_model=\"other\""));
        // One that is gone keeps its place.
        for model in metrics.models() {
            metrics.forget(&model);
        }
        let model = metrics.model(Uuid::from_u128(5000), || names("late"));
        assert_eq!(model.model, "other");
    }
}
