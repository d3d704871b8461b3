//! Random requests over every RPC of AdminService and ConfigService: whatever comes, the answer is one of the
//! contract's, and the service lives on.

use std::collections::HashMap;

use prost_types::{
    DescriptorProto, FieldDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use rota::{api::pb::ModelType, scripted::Upstream};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::{
    raw::{Raw, contract, rpcs},
    refusal::refusal,
    rota::{Rota, on_both_databases},
    world::Scene,
};

on_both_databases!(random_requests_are_answered_by_the_contract);

const SEED: u64 = 20_261_123;
const REQUESTS: usize = 600;

/// Texts that have broken something somewhere. No address leads off this machine.
const NASTY: &[&str] = &[
    "",
    "",
    "a",
    "__inherit__",
    "[__HIDDEN__]",
    "openai_compatible",
    "langgenius/openai/openai",
    "api_key",
    "\0",
    "a\0b",
    "a\nb",
    "\u{1b}[31m",
    "\u{202e}",
    "🎈🎈",
    "'; DROP TABLE tenants; --",
    "%",
    "_",
    "\\",
    "../..",
    "name",
    "fields",
    "enabled",
    "*",
    "predefined-model",
    "custom-model",
    "http://127.0.0.1:9/v1",
    "http://127.0.0.1:9",
    "ftp://x",
    "http://[::",
    "http://169.254.169.254/",
    "WyJcdTAwMDAiXQ",
    "W10",
    "WyJhIl0",
    "WyJhIiwiYiIsImMiXQ",
    "WyIwMTkwMDAwMC0wMDAwLTcwMDAtODAwMC0wMDAwMDAwMDAwMDAiXQ",
    "01900000-0000-7000-8000-000000000000",
    "ffffffff",
];

/// Makes random messages from the contract's own description.
struct Maker {
    random: StdRng,
    messages: HashMap<String, DescriptorProto>,
    /// What exists, so that some requests get past the first look-up.
    known: Vec<String>,
}

impl Maker {
    fn new(known: Vec<String>) -> Self {
        let mut messages = HashMap::new();
        for file in contract().file {
            let package = format!(".{}", file.package());
            let mut open: Vec<_> =
                file.message_type.into_iter().map(|message| (package.clone(), message)).collect();
            while let Some((parent, message)) = open.pop() {
                let name = format!("{parent}.{}", message.name());
                open.extend(message.nested_type.iter().map(|nested| (name.clone(), nested.clone())));
                messages.insert(name, message);
            }
        }
        Self { random: StdRng::seed_from_u64(SEED), messages, known }
    }

    fn message(&mut self, name: &str, depth: usize) -> Vec<u8> {
        let message = self.messages.get(name).unwrap_or_else(|| panic!("{name} is not described")).clone();
        let mut bytes = Vec::new();
        for field in message.field {
            let times = match field.label() {
                Label::Repeated => self.random.random_range(0..4),
                _ => usize::from(self.random.random_ratio(4, 5)),
            };
            for _ in 0..times {
                self.field(&field, depth, &mut bytes);
            }
        }
        bytes
    }

    fn field(&mut self, field: &FieldDescriptorProto, depth: usize, bytes: &mut Vec<u8>) {
        let number = u64::from(field.number().unsigned_abs());
        let value = match field.r#type() {
            Type::String => self.text(field.name()).into_bytes(),
            Type::Message if depth < 5 => self.message(field.type_name(), depth + 1),
            Type::Message => return,
            // Numbers and switches: all varints.
            _ => {
                varint(number << 3, bytes);
                varint(self.number(field.name()), bytes);
                return;
            }
        };
        varint(number << 3 | 2, bytes);
        varint(value.len() as u64, bytes);
        bytes.extend(value);
    }

    fn text(&mut self, field: &str) -> String {
        match (field, self.random.random_range(0..10)) {
            // Without these hardly anything gets past the door.
            ("tenant_id", ..9) => self.known[0].clone(),
            ("provider", ..7) => self.known[1].clone(),
            ("model", ..7) => self.known[2].clone(),
            (_, ..4) => self.known.choose(&mut self.random).unwrap().clone(),
            (_, 9) => {
                let length = self.random.random_range(0..400);
                (0..length).map(|_| self.random.random::<char>()).collect()
            }
            _ => (*NASTY.choose(&mut self.random).unwrap()).to_owned(),
        }
    }

    fn number(&mut self, field: &str) -> u64 {
        if field == "model_type" && self.random.random_ratio(7, 10) {
            return ModelType::Llm as u64;
        }
        let some = [0, 1, 1, 1, 2, 3, 5, 99, u64::MAX, i64::MAX as u64, i64::MIN as u64, i32::MAX as u64];
        *some.choose(&mut self.random).unwrap()
    }
}

/// See protobuf.dev/programming-guides/encoding.
fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

async fn random_requests_are_answered_by_the_contract(rota: &'static Rota) {
    let upstream = Upstream::start().await.unwrap();
    // Apart from those that the random requests know, so that it must stand to the end.
    let untouched = Scene::set(rota, &upstream, 2).await;
    let before = untouched.listing().await;
    let scene = Scene::set(rota, &upstream, 2).await;
    let credential = scene.create_credential("credential", "key").await;
    let mut known = vec![scene.tenant.clone(), scene.provider.clone(), "chat".to_owned(), credential.id];
    known.extend(scene.configs.iter().map(|config| config.id.clone()));
    let mut maker = Maker::new(known);
    let raw = Raw::new(&rota.clients(rota.operator_token().await).await);
    let (deletes, others): (Vec<_>, Vec<_>) = rpcs()
        .into_iter()
        // A watch that gets far never ends.
        .filter(|(rpc, _)| !rpc.starts_with("InvokeService/") && !rpc.contains("/Watch"))
        .partition(|(rpc, _)| rpc.contains("/Delete"));
    // Deletes come last: they would leave nothing for the others to find.
    let most = REQUESTS * 9 / 10;
    let rpcs = others.iter().cycle().take(most).chain(deletes.iter().cycle().take(REQUESTS - most));
    let mut codes = HashMap::<Code, usize>::new();
    for (turn, (rpc, request)) in rpcs.enumerate() {
        let bytes = maker.message(request, 0);
        let answer = raw.call(rpc, bytes.clone()).await;
        let code = answer.as_ref().err().map_or(Code::Ok, tonic::Status::code);
        *codes.entry(code).or_default() += 1;
        let Err(status) = answer else { continue };
        let expected = [
            Code::InvalidArgument,
            Code::NotFound,
            Code::AlreadyExists,
            Code::FailedPrecondition,
            Code::Aborted,
        ];
        let shown = bytes.escape_ascii();
        assert!(expected.contains(&code), "seed {SEED}, turn {turn}: {rpc} {shown}: {status:?}");
        assert!(!refusal(&status).reason.is_empty());
    }
    let distinct = codes.len();
    assert!(distinct >= 4 && codes.contains_key(&Code::Ok), "the requests do not get far: {codes:?}");
    assert_eq!(rota.health("").await.unwrap(), ServingStatus::Serving);
    assert_eq!(untouched.listing().await, before, "another tenant's data has changed");
    untouched.ask().await.unwrap();
}
