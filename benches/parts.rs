//! The parts on a call's way, one by one: `cargo bench --bench parts`. The whole is in `whole`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a program at the terminal; the unexpected ends it"
)]

#[path = "../tests/it/support/mod.rs"]
#[allow(
    unused_imports,
    unused_macros,
    clippy::assigning_clones,
    clippy::unnecessary_wraps,
    reason = "the tests use the rest; see tests/it/main.rs"
)]
mod support;

use divan::{Bencher, black_box};
use prost::Message as _;
use rota::{
    api::pb,
    app,
    balance::{Roster, Strategy},
    catalog::{Catalog, ModelKey, NewModel, NewProvider},
    provider::ModelType,
    settings::{RawSettings, Settings},
    wire::{Decoder, sse::EventStream},
};
use std::sync::Arc;
use support::{
    redis::Redis,
    store::{Store, ring},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

const MEMBERS: &[u32] = &[1, 4, 16, 256, 4096];

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn pool(strategy: Strategy, members: u32) -> Arc<Roster> {
    Arc::new(Roster { strategy, ..Arc::unwrap_or_clone(ring(1..=members)) })
}

/// A pick, and the call over at once, in memory.
fn memory(bencher: Bencher<'_, '_>, strategy: Strategy, members: u32) {
    let (runtime, store, pool) = (runtime(), Store::memory(), pool(strategy, members));
    bencher.bench_local(|| {
        let (_, lease) = runtime.block_on(store.take(&pool));
        store.release(&lease, None);
    });
}

#[divan::bench(args = MEMBERS)]
fn memory_round_robin(bencher: Bencher<'_, '_>, members: u32) {
    memory(bencher, Strategy::RoundRobin, members);
}

#[divan::bench(args = MEMBERS)]
fn memory_weighted_round_robin(bencher: Bencher<'_, '_>, members: u32) {
    memory(bencher, Strategy::WeightedRoundRobin, members);
}

#[divan::bench(args = MEMBERS)]
fn memory_least_connections(bencher: Bencher<'_, '_>, members: u32) {
    memory(bencher, Strategy::LeastConnections, members);
}

/// A pick on Redis, one caller: a round trip.
#[divan::bench(args = [1, 4, 16, 256])]
fn redis_round_robin(bencher: Bencher<'_, '_>, members: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let redis = runtime.block_on(Redis::start());
    let store = runtime.block_on(Store::redis_at(redis.url()));
    let pool = pool(Strategy::RoundRobin, members);
    bencher.bench_local(|| {
        let (_, lease) = runtime.block_on(store.take(&pool));
        store.release(&lease, None);
    });
}

/// Looking a model up among those of so many tenants.
#[divan::bench(args = [1, 100, 1000])]
fn resolve_a_model(bencher: Bencher<'_, '_>, tenants: usize) {
    let (runtime, folder) = (runtime(), tempfile::tempdir().unwrap());
    let catalog = runtime.block_on(filled(&folder, tenants));
    let model = |tenant: usize| key(&format!("tenant-{tenant}"));
    let names: Vec<ModelKey> = (0..tenants).map(model).collect();
    let mut turn = 0;
    bencher.bench_local(|| {
        turn = (turn + 1) % names.len();
        let name = &names[turn];
        let found = catalog.resolve(&name.tenant, &name.provider, name.model_type, &name.model);
        runtime.block_on(found).unwrap()
    });
}

fn key(tenant: &str) -> ModelKey {
    ModelKey {
        tenant: tenant.to_owned(),
        provider: "upstream".to_owned(),
        model_type: ModelType::Llm,
        model: "chat".to_owned(),
    }
}

async fn filled(folder: &TempDir, tenants: usize) -> Catalog {
    let raw = RawSettings { data_dir: Some(folder.path().to_owned()), ..RawSettings::default() };
    let catalog = app::open_catalog(&Settings::resolve(raw).unwrap()).await.unwrap();
    for tenant in 0..tenants {
        let tenant = format!("tenant-{tenant}");
        catalog.by_command_line().create_tenant(&tenant, "").await.unwrap();
        let provider = NewProvider {
            name: "upstream".to_owned(),
            kind: "openai_compatible".to_owned(),
            base_url: "http://127.0.0.1:1/v1".to_owned(),
            ..NewProvider::default()
        };
        catalog.by_command_line().create_provider(&tenant, provider).await.unwrap();
        let model = NewModel {
            key: key(&tenant),
            upstream_model: String::new(),
            enabled: None,
            fallbacks: Vec::new(),
            context_window: None,
            revision: 0,
        };
        catalog.by_command_line().put_model(model).await.unwrap();
    }
    catalog
}

fn request() -> Vec<u8> {
    let said = |role: &str, content: &str| pb::Message {
        role: role.to_owned(),
        content: content.to_owned(),
        ..pb::Message::default()
    };
    let request = pb::InvokeLlmRequest {
        messages: vec![said("system", &"Be brief. ".repeat(20)), said("user", &"Why? ".repeat(40))],
        ..pb::InvokeLlmRequest::default()
    };
    request.encode_to_vec()
}

#[divan::bench]
fn decode_a_request(bencher: Bencher<'_, '_>) {
    let bytes = request();
    bencher.bench_local(|| pb::InvokeLlmRequest::decode(black_box(bytes.as_slice())).unwrap());
}

#[divan::bench]
fn encode_an_event(bencher: Bencher<'_, '_>) {
    let delta = pb::Delta { content: "word ".to_owned(), ..pb::Delta::default() };
    let event = pb::StreamLlmResponse { delta: Some(delta), ..pb::StreamLlmResponse::default() };
    bencher.bench_local(|| black_box(&event).encode_to_vec());
}

/// Server-sent events, as they come in reads of 1,400 bytes.
#[divan::bench(args = [20, 100])]
fn parse_a_stream(bencher: Bencher<'_, '_>, events: usize) {
    let event = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"word "},"logprobs":null,"finish_reason":null}]}"#;
    let stream = format!("{event}\n\n").repeat(events);
    bencher.counter(divan::counter::BytesCount::of_str(&stream)).bench_local(|| {
        let (mut parser, mut found) = (EventStream::new(8 << 20), 0);
        for piece in black_box(stream.as_bytes()).chunks(1400) {
            parser.push(piece).unwrap();
            found += parser.by_ref().count();
        }
        assert_eq!(found, events);
    });
}
