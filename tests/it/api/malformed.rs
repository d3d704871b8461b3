//! Requests whose bytes are not what they must be, over every RPC: each is refused as the caller's fault.

use std::collections::HashMap;

use futures::{StreamExt, stream};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rota::scripted::Upstream;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use super::random_input::Maker;
use crate::support::{
    postgres::Postgres,
    raw::{Raw, rpcs},
    refusal::refusal,
    rota::Rota,
    world::Scene,
};

const SEED: u64 = 20_261_129;

/// Spoils a message in one of the ways in which bytes can be wrong.
fn spoiled(mut bytes: Vec<u8>, random: &mut StdRng) -> Vec<u8> {
    let at = random.random_range(0..=bytes.len());
    match random.random_range(0..9) {
        // It breaks off, or goes on.
        0 => bytes.truncate(at),
        1 => bytes.extend((0..random.random_range(1..20)).map(|_| random.random::<u8>())),
        // A length beyond its end, and one beyond everything.
        2 => bytes.extend([0x0a, 0x7f, 1]),
        3 => bytes.extend([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        // Another type on the wire: numbers, fixed numbers, the end of no group, a type that is none.
        4 => bytes.extend([0x08, 1, 0x10, 1, 0x1d, 0, 0, 0, 0]),
        5 => bytes.push([0x0c, 0x0f, 0x00][random.random_range(0..3)]),
        // A text that is no UTF-8, and one with NUL, in the first fields.
        6 => bytes.extend([random.random_range(1..8) << 3 | 2, 2, 0xc3, 0x28]),
        7 => bytes.extend([random.random_range(1..8) << 3 | 2, 3, b'a', 0, b'b']),
        // A bit that fell over.
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
    }
    bytes
}

async fn malformed(rota: &Rota, requests: usize) {
    let upstream = Upstream::start().await.unwrap();
    let untouched = Scene::set(rota, &upstream, 2).await;
    let scene = Scene::set(rota, &upstream, 2).await;
    let known = vec![scene.tenant.clone(), scene.provider.clone(), "chat".to_owned(), "x".to_owned()];
    let (mut maker, mut random) = (Maker::new(known), StdRng::seed_from_u64(SEED));
    let raw = Raw::new(&rota.operator().await);
    // A rotation pauses between its steps. Deletes come last: they would leave nothing for the others to find.
    let (deletes, others): (Vec<_>, Vec<_>) = rpcs()
        .into_iter()
        .filter(|(rpc, _)| rpc != "AdminService/RotateTenantKey")
        .partition(|(rpc, _)| rpc.contains("/Delete"));
    let most = requests * 9 / 10;
    let cases: Vec<_> = others
        .iter()
        .cycle()
        .take(most)
        .chain(deletes.iter().cycle().take(requests - most))
        .map(|(rpc, request)| (rpc.clone(), spoiled(maker.request(request), &mut random)))
        .collect();
    let answers = stream::iter(cases).map(|(rpc, bytes)| {
        let raw = raw.clone();
        async move {
            let answer = if rpc.contains("/Watch") {
                raw.first(&rpc, bytes.clone()).await
            } else {
                raw.call(&rpc, bytes.clone()).await
            };
            (rpc, bytes, answer)
        }
    });
    let mut codes = HashMap::<Code, usize>::new();
    let mut answers = answers.buffer_unordered(16);
    while let Some((rpc, bytes, answer)) = answers.next().await {
        let code = answer.as_ref().err().map_or(Code::Ok, tonic::Status::code);
        *codes.entry(code).or_default() += 1;
        let Err(status) = answer else { continue };
        let shown =
            format!("seed {SEED}: {rpc} {}: {status:?}", bytes[..bytes.len().min(2000)].escape_ascii());
        assert!(!matches!(code, Code::Internal | Code::Unknown), "{shown}");
        assert!(!refusal(&status).reason.is_empty(), "{shown}");
    }
    assert!(codes[&Code::InvalidArgument] > requests / 4, "{codes:?}");
    assert_eq!(rota.health("").await.unwrap(), ServingStatus::Serving);
    untouched.ask().await.unwrap();
    assert!(!rota.logs().contains("panicked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_malformed_requests_are_the_callers_fault() {
    malformed(&Rota::builder().start().await, 10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_malformed_requests_are_the_callers_fault() {
    let database = Postgres::shared().await.fresh_database();
    malformed(&Rota::builder().database(&database).start().await, 2_000).await;
}
