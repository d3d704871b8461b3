//! Random requests over every RPC of AdminService and ConfigService: whatever comes, the answer is one of the
//! contract's, a refused request leaves no trace in the database, and the service lives on.

use std::collections::{BTreeSet, HashMap};

use prost_types::{
    DescriptorProto, FieldDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use rota::{api::pb::ModelType, scripted::Upstream};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use uuid::Uuid;

use crate::support::{
    postgres::Postgres,
    raw::{Raw, contract, rpcs},
    refusal::refusal,
    rota::Rota,
    stored::Stored,
    world::Scene,
};

const SEED: u64 = 20_261_123;

/// Fields that say what a request is about.
const NAMES: &[&str] = &[
    "key",
    "tenant_id",
    "provider",
    "model_type",
    "model",
    "id",
    "config_id",
    "credential",
    "alias",
    "target",
    "policy",
    "tenant",
    "token",
];
/// The number of a field that no message has.
const UNKNOWN: u64 = 19_999;
/// More than any field takes, in bytes.
const HUGE: usize = 100_000;

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
pub(super) struct Maker {
    random: StdRng,
    messages: HashMap<String, DescriptorProto>,
    /// What exists, so that some requests get past the first look-up.
    known: Vec<String>,
    /// How likely, in tenths, a field that says no name is there: the fewer, the more requests are served.
    density: u32,
}

impl Maker {
    pub(super) fn new(known: Vec<String>) -> Self {
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
        Self { random: StdRng::seed_from_u64(SEED), messages, known, density: 8 }
    }

    /// A request, now and then with fields that nobody knows.
    pub(super) fn request(&mut self, name: &str) -> Vec<u8> {
        self.density = self.random.random_range(1..9);
        let mut bytes = self.message(name, 0);
        if self.random.random_ratio(1, 20) {
            // Groups, as deep as decoders go, and a text that is too long for any field.
            let depth = self.random.random_range(1..90);
            (0..depth).for_each(|_| varint(UNKNOWN << 3 | 3, &mut bytes));
            (0..depth).for_each(|_| varint(UNKNOWN << 3 | 4, &mut bytes));
            varint(UNKNOWN << 3 | 2, &mut bytes);
            varint(HUGE as u64, &mut bytes);
            bytes.resize(bytes.len() + HUGE, 0xff);
        }
        bytes
    }

    fn message(&mut self, name: &str, depth: usize) -> Vec<u8> {
        let message = self.messages.get(name).unwrap_or_else(|| panic!("{name} is not described")).clone();
        let mut bytes = Vec::new();
        for field in message.field {
            let times = match field.label() {
                Label::Repeated if self.random.random_ratio(self.density, 10) => {
                    self.random.random_range(0..4)
                }
                Label::Repeated => 0,
                _ if NAMES.contains(&field.name()) => usize::from(self.random.random_ratio(19, 20)),
                _ => usize::from(self.random.random_ratio(self.density, 10)),
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
            Type::String | Type::Bytes => self.text(field.name()).into_bytes(),
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
            ("kind", ..7) => (*["openai", "openai_compatible"].choose(&mut self.random).unwrap()).to_owned(),
            ("base_url", ..3) => "http://127.0.0.1:9/v1".to_owned(),
            ("id" | "config_id", ..7) => self.known[3..].choose(&mut self.random).unwrap().clone(),
            (_, ..4) => self.known.choose(&mut self.random).unwrap().clone(),
            (_, 9) if self.random.random_ratio(1, 20) => {
                ["x", "\u{1f388}"].choose(&mut self.random).unwrap().repeat(HUGE / 4)
            }
            (_, 9) => {
                let length = self.random.random_range(0..400);
                (0..length).map(|_| self.random.random::<char>()).collect()
            }
            _ => (*NASTY.choose(&mut self.random).unwrap()).to_owned(),
        }
    }

    /// Takes ids from an answer, for requests to come.
    fn learn(&mut self, answer: &[u8]) {
        let ids = answer.windows(36).filter_map(|bytes| Uuid::try_parse(str::from_utf8(bytes).ok()?).ok());
        self.known.extend(ids.map(|id| id.to_string()));
        // The latest are the likeliest to be there still.
        self.known.drain(3..self.known.len().saturating_sub(20).max(3));
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

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_random_requests_are_answered_by_the_contract() {
    // Its own: whatever else changes the database would look like a trace of a refused request.
    let rota = Rota::builder().start().await;
    let database = format!("sqlite://{}", rota.data_dir().join("rota.db").display());
    random_requests(&rota, &database, 10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_random_requests_are_answered_by_the_contract() {
    let database = Postgres::shared().await.fresh_database();
    let rota = Rota::builder().database(&database).start().await;
    random_requests(&rota, &database, 1_000).await;
}

async fn random_requests(rota: &Rota, database: &str, requests: usize) {
    let upstream = Upstream::start().await.unwrap();
    // Apart from those that the random requests know, so that it must stand to the end.
    let untouched = Scene::set(rota, &upstream, 2).await;
    let before = untouched.listing().await;
    let mut scene = Scene::set(rota, &upstream, 2).await;
    let credential = scene.create_credential("credential", "key").await;
    let known = vec![scene.tenant.clone(), scene.provider.clone(), "chat".to_owned(), credential.id];
    let mut maker = Maker::new(known);
    let raw = Raw::new(&rota.operator().await);
    let (deletes, others): (Vec<_>, Vec<_>) = rpcs()
        .into_iter()
        .filter(|(rpc, _)| !rpc.starts_with("InvokeService/"))
        .partition(|(rpc, _)| rpc.contains("/Delete"));
    // Deletes come last: they would leave nothing for the others to find.
    let most = requests * 9 / 10;
    // A rotation pauses between its steps: one in five rounds is enough.
    let rounds = (0..5).flat_map(|round| {
        others.iter().filter(move |(rpc, _)| round == 0 || rpc != "AdminService/RotateTenantKey")
    });
    let rpcs = rounds.cycle().take(most).chain(deletes.iter().cycle().take(requests - most));
    let mut stored = Stored::open(database).await;
    let mut codes = HashMap::<Code, usize>::new();
    let mut never: BTreeSet<_> = others.iter().map(|(rpc, _)| rpc.as_str()).collect();
    for (turn, (rpc, request)) in rpcs.enumerate() {
        if turn % 500 == 0 && turn < most {
            // Some have replaced the set by nothing.
            scene.add_configs(2).await;
            maker.known.extend(scene.configs.iter().map(|config| config.id.clone()));
            stored.changed().await;
        }
        let bytes = maker.request(request);
        // A watch that gets far never ends.
        let answer = if rpc.contains("/Watch") {
            raw.first(rpc, bytes.clone()).await
        } else {
            raw.call(rpc, bytes.clone()).await
        };
        let code = answer.as_ref().err().map_or(Code::Ok, tonic::Status::code);
        *codes.entry(code).or_default() += 1;
        let changed = stored.changed().await;
        let status = match answer {
            Ok(answer) => {
                never.remove(rpc.as_str());
                // Not of lists: they hold the token that is used here, which might be revoked.
                if ["/Create", "/Update", "/GetLoad"].iter().any(|verb| rpc.contains(verb)) {
                    maker.learn(&answer);
                }
                continue;
            }
            Err(status) => status,
        };
        let expected = [
            Code::InvalidArgument,
            Code::NotFound,
            Code::AlreadyExists,
            Code::FailedPrecondition,
            Code::Aborted,
        ];
        let bytes = &bytes[..bytes.len().min(4000)];
        let shown = format!("seed {SEED}, turn {turn}: {rpc} {}: {status:?}", bytes.escape_ascii());
        assert!(expected.contains(&code), "{shown}");
        assert!(!refusal(&status).reason.is_empty());
        assert_eq!(changed, Vec::<String>::new(), "refused, but stored: {shown}");
    }
    // The more requests, the fewer RPCs that none of them suited.
    let allowed = others.len() * 1000 / requests;
    assert!(codes.len() >= 5 && never.len() <= allowed, "{codes:?}, never served: {never:?}");
    assert_eq!(rota.health("").await.unwrap(), ServingStatus::Serving);
    assert_eq!(untouched.listing().await, before, "another tenant's data has changed");
    untouched.ask().await.unwrap();
    assert!(!rota.logs().contains("panicked"));
}
