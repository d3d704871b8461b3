//! How a fleet carries many tenants: `make scale` prints the figures of docs/measurements/scale.md.

use std::{
    env,
    time::{Duration, Instant},
};

use rota::{
    api::pb::{
        CreateProviderRequest, CreateTenantRequest, EnableModelLoadBalancingRequest,
        GetConfigurationsRequest, InvokeLlmRequest, ListTenantsRequest, LoadBalancingConfig, Model, ModelKey,
        ModelType, Provider, PutModelRequest, Tenant, UpdateLoadBalancingConfigsRequest,
    },
    scripted::Upstream,
};
use tokio::task::JoinSet;

use crate::support::{
    postgres::Postgres,
    redis::Redis,
    rota::{Clients, Rota},
    world::{config, hi},
};

const MODELS: usize = 5;
const CONFIGS: usize = 4;
/// Writers take turns in the database; more of them wait longer.
const WRITERS: usize = 8;
const CALLERS: usize = 16;
const CALLS: usize = 10_000;
const CHANGES: usize = 100;

fn tenants() -> usize {
    env::var("ROTA_SCALE_TENANTS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

pub fn tenant(index: usize) -> String {
    format!("tenant-{index:05}")
}

pub fn key(tenant: &str, model: usize) -> Option<ModelKey> {
    Some(ModelKey {
        tenant_id: tenant.to_owned(),
        provider: "upstream".to_owned(),
        model_type: ModelType::Llm.into(),
        model: format!("model-{model}"),
    })
}

fn configs(tenant: &str, model: usize, weight: i32) -> Vec<LoadBalancingConfig> {
    let one = |index| LoadBalancingConfig {
        weight: Some(weight),
        ..config(&format!("config-{index}"), &format!("sk-{tenant}-{model}-{index}"))
    };
    (0..CONFIGS).map(one).collect()
}

/// A tenant with a provider at that address.
pub async fn add_tenant(clients: &mut Clients, id: &str, base_url: &str) {
    let new = Tenant { id: id.to_owned(), ..Tenant::default() };
    clients.admin.create_tenant(CreateTenantRequest { tenant: Some(new) }).await.unwrap();
    let provider = Provider {
        tenant_id: id.to_owned(),
        name: "upstream".to_owned(),
        kind: "openai_compatible".to_owned(),
        base_url: base_url.to_owned(),
        ..Provider::default()
    };
    clients.config.create_provider(CreateProviderRequest { provider: Some(provider) }).await.unwrap();
}

/// A model that is balanced over these configs.
pub async fn add_model(clients: &mut Clients, key: Option<ModelKey>, configs: Vec<LoadBalancingConfig>) {
    let new = Model { key: key.clone(), ..Model::default() };
    clients.config.put_model(PutModelRequest { model: Some(new) }).await.unwrap();
    let request = UpdateLoadBalancingConfigsRequest { key: key.clone(), configs, ..Default::default() };
    clients.config.update_load_balancing_configs(request).await.unwrap();
    let request = EnableModelLoadBalancingRequest { key };
    clients.config.enable_model_load_balancing(request).await.unwrap();
}

async fn fill(mut clients: Clients, base_url: String, indices: impl Iterator<Item = usize>) {
    for index in indices {
        let id = tenant(index);
        add_tenant(&mut clients, &id, &base_url).await;
        for model in 0..MODELS {
            add_model(&mut clients, key(&id, model), configs(&id, model, 1)).await;
        }
    }
}

fn at(sorted: &[Duration], share: usize) -> Duration {
    sorted[(sorted.len() * share / 100).min(sorted.len() - 1)]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: `make scale`"]
async fn many_tenants_load_list_and_serve() {
    let count = tenants();
    let pools = u64::try_from(count * MODELS).unwrap();
    let (postgres, redis, upstream) =
        (Postgres::shared().await, Redis::shared().await, Upstream::start().await.unwrap());
    let builder = Rota::builder().redis(redis.url()).database(postgres.fresh_database());
    let first = builder.start().await;
    let empty = first.resident().unwrap_or_default();
    let operator = first.operator().await;

    let began = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let indices = (writer..count).step_by(WRITERS);
        writers.spawn(fill(operator.clone(), upstream.base_url(), indices));
    }
    writers.join_all().await;
    let writes = count * (2 + 3 * MODELS);
    println!("{count} tenants x {MODELS} models x {CONFIGS} configs");
    println!(
        "fill: {writes} writes in {:.0?}, {:.1?} each",
        began.elapsed(),
        began.elapsed() / writes as u32
    );

    let began = Instant::now();
    let second = builder.start().await;
    println!("start of a replica: {:.2?} until it serves", began.elapsed());
    let full = second.resident().unwrap_or_default();
    println!(
        "memory: {} MiB, {} MiB when empty: {} KiB a pool",
        full >> 10,
        empty >> 10,
        (full - empty) / pools
    );

    let began = Instant::now();
    let (mut listed, mut page_token, mut pages) = (0, String::new(), 0);
    loop {
        let request = ListTenantsRequest { page_size: 1000, page_token };
        let page = operator.admin.clone().list_tenants(request).await.unwrap().into_inner();
        listed += page.tenants.len();
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, count);
    println!("list: {listed} tenants, {pages} pages in {:.1?}", began.elapsed());
    let began = Instant::now();
    let request = GetConfigurationsRequest { tenant_id: tenant(count / 2), ..Default::default() };
    let whole = operator.config.clone().get_configurations(request).await.unwrap().into_inner();
    assert_eq!(whole.models.len(), MODELS);
    println!("one tenant's whole configuration: {:.1?}", began.elapsed());

    let there = second.clients(first.operator_token().await).await;
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let clients = if caller % 2 == 0 { operator.clone() } else { there.clone() };
        callers.spawn(async move {
            let mut took = Vec::new();
            for call in 0..CALLS / CALLERS {
                // Another tenant each time, near and far.
                let index = (caller * 7919 + call * 104_729) % count;
                let request = InvokeLlmRequest {
                    key: key(&tenant(index), call % MODELS),
                    messages: vec![hi()],
                    ..Default::default()
                };
                let began = Instant::now();
                clients.invoke.clone().invoke_llm(request).await.unwrap();
                took.push(began.elapsed());
            }
            took
        });
    }
    let mut took: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    took.sort();
    println!(
        "serve: {} calls over two replicas, {:.0} a second, median {:.1?}, p99 {:.1?}",
        took.len(),
        took.len() as f64 / began.elapsed().as_secs_f64(),
        at(&took, 50),
        at(&took, 99)
    );

    let mut effect = Vec::new();
    for change in 0..CHANGES {
        let id = tenant(change * count / CHANGES);
        let request = UpdateLoadBalancingConfigsRequest {
            key: key(&id, 0),
            configs: configs(&id, 0, i32::try_from(change).unwrap() + 2)[..1].to_vec(),
            ..Default::default()
        };
        let set = operator.config.clone().update_load_balancing_configs(request).await.unwrap().into_inner();
        let began = Instant::now();
        let (new, mut served) = (set.configs[0].id.clone(), String::new());
        while served != new {
            let request = InvokeLlmRequest { key: key(&id, 0), messages: vec![hi()], ..Default::default() };
            let reply = there.invoke.clone().invoke_llm(request).await.unwrap().into_inner();
            served = reply.route.unwrap().config_id;
        }
        effect.push(began.elapsed());
    }
    effect.sort();
    println!(
        "a change on one replica serves on the other after: median {:.1?}, p99 {:.1?}, at most {:.1?}",
        at(&effect, 50),
        at(&effect, 99),
        effect[effect.len() - 1]
    );
}
