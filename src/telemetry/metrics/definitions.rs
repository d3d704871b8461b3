//! The definition of each metric: its name, its help, its buckets.

use super::{Metrics, ModelLabels, Shed, labels::BuildLabels};
use dashmap::DashMap;
use parking_lot::Mutex;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

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

impl Metrics {
    /// Creates them, with labels of their own for at most `most_models` models.
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
            resends: Counter::default(),
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
            writable: Gauge::default(),
            cut_off: Gauge::default(),
            tasks: Gauge::default(),
            task_failures: Family::default(),
            contained_panics: Family::default(),
            models: DashMap::new(),
            names: Mutex::default(),
            classes: Mutex::default(),
            most_models,
            other: ModelLabels::other(),
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
        // They exist from the start, so that the first event shows as a step.
        for shed in [Shed::Overloaded, Shed::TenantCalls, Shed::TenantRate, Shed::TenantBytes] {
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
            "rota_upstream_resends",
            "Requests that were sent again, since their connection had ended unnoticed: the provider may have got them twice",
            self.resends.clone(),
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
            "rota_database_writable",
            "1 while the database takes changes of configuration",
            self.writable.clone(),
        );
        registry.register(
            "rota_cut_off",
            "1 while this replica can reach none of the providers' addresses that it has tried lately",
            self.cut_off.clone(),
        );
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
}
