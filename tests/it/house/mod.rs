//! The rooms of the house: which module may use which. Walks `src/` and fails on an arrow that points the wrong way.

mod graph;
mod source;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use self::{
    graph::{House, circles, shown},
    source::Source,
};

/// Each room and the rooms it may use. Those of `ANY` put everything together and may use all.
const ROOMS: &[(&str, &[&str])] = &[
    ("balance", &[]),
    ("wire", &[]),
    ("provider", &["balance", "wire"]),
    ("redis", &["tasks"]),
    ("state", &["balance", "redis", "tasks"]),
    ("catalog", &["balance", "provider"]),
    ("invoke", &["balance", "provider", "state", "catalog", "telemetry", "wire"]),
    ("gate", &["catalog", "telemetry", "net", "tasks"]),
    ("api", &["balance", "provider", "state", "catalog", "invoke", "telemetry", "gate", "problem", "wire"]),
    ("problem", &["balance", "catalog", "gate", "invoke"]),
    ("http", &["balance", "provider", "catalog", "invoke", "gate", "problem", "wire"]),
    ("health", &["catalog", "state", "provider", "balance", "telemetry", "net", "tasks"]),
    ("telemetry", &["tasks"]),
    ("net", &[]),
    ("tasks", &[]),
    ("settings", &["api", "http", "gate", "catalog", "invoke", "provider", "redis", "telemetry"]),
    ("scripted", &[]),
];
const ANY: &[&str] = &["app", "cli", "fuzzing", "lib", "main"];

/// The rooms in which files still use each other in a circle. This list may only shrink.
const CIRCLES_LEFT: &[&str] = &[];

/// The folders of `wire` that read and write a vendor's protocol. `api` and `invoke` may use the types beside them only.
const PROTOCOLS: &[&str] = &["anthropic", "cohere", "gemini", "openai"];

/// The rooms that may use the generated types. The commands are clients of the API.
const GENERATED: &[&str] = &["api", "cli"];

#[test]
fn every_arrow_points_one_way() {
    let sources = sources();
    let house = House::new(&sources);
    let complaints: Vec<String> = sources.iter().flat_map(|source| wrong_arrows(&house, source)).collect();
    // A walk that sees nothing would find nothing wrong either.
    let uses: BTreeSet<_> = sources
        .iter()
        .flat_map(|source| source.mentions.iter().map(move |mention| (room(&source.name), mention)))
        .filter_map(|(room, mention)| Some((room, house.absolute(mention)?.first()?.clone())))
        .collect();
    assert!(uses.contains(&("provider", "balance".to_owned())), "the walk is blind: {uses:?}");
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn no_two_files_use_each_other_in_a_circle() {
    let sources = sources();
    let arrows = House::new(&sources).arrows();
    let circles = circles(&arrows);
    println!("{}", shown(&arrows, &circles));
    let is_new = |circle: &Vec<&str>| !circle.iter().any(|file| CIRCLES_LEFT.contains(&room(file)));
    let new: Vec<_> = circles.into_iter().filter(is_new).collect();
    assert!(new.is_empty(), "\n{}", shown(&arrows, &new));
}

#[test]
fn a_planted_violation_is_found() {
    for (file, source) in [
        ("balance/pick.rs", "use crate::state::StateStore;"),
        ("balance/pick.rs", "fn f(store: &crate::state::StateStore) {}"),
        ("balance.rs", "use super::state;"),
        ("balance/mod.rs", "use super::{state, provider};"),
        ("balance/pick.rs", "use super::super::state::X;"),
        ("provider/openai/stream.rs", "use super::super::super::invoke;"),
        ("provider/mod.rs", "use crate::{\n    balance::{Class, Failure},\n    catalog::Pool,\n};"),
        ("provider/mod.rs", "use crate::{balance::{self}, invoke};"),
        ("state/mod.rs", "let url = \"http://x\"; crate::catalog::load(url);"),
        ("state/mod.rs", "let quote = '\"'; crate::catalog::load(quote); let other = '\"';"),
        ("state/mod.rs", "fn f<'a>(x: &'a crate::catalog::Pool) {}"),
        ("state/mod.rs", "/* closed */ use crate::catalog;"),
        ("state/mod.rs", "let raw = r#\"a \" b\"#; use crate::catalog;"),
        ("invoke/mod.rs", "use crate::api;"),
        ("health.rs", "use crate::invoke::Engine;"),
        ("redis/script.rs", "use crate::state::Clock;"),
        ("api/mod.rs", "use crate::app::App;"),
        ("api/mod.rs", "use crate::*;"),
        ("garage/mod.rs", "use crate::balance;"),
        ("invoke/mod.rs", "use crate::garage;"),
        ("app.rs", "use crate::api::pb::ModelKey;"),
        ("app.rs", "use crate::api::{Edge, pb};"),
        ("invoke/mod.rs", "fn f(key: pb::ModelKey) {}"),
        ("wire/openai/mod.rs", "use crate::balance::Failure;"),
        ("invoke/mod.rs", "use crate::wire::openai::Request;"),
        ("api/mod.rs", "fn f() { assert!(crate::wire::gemini::parse()); }"),
        ("gate/mod.rs", "use crate::api::Server;"),
    ] {
        assert!(!complaints(file, source).is_empty(), "not found in {file}: {source}");
    }
}

#[test]
fn what_is_allowed_is_left_alone() {
    for (file, source) in [
        ("provider/mod.rs", "use crate::balance::{Class, Failure};"),
        (
            "balance/mod.rs",
            "//! See [`crate::state`].\n/// And [`crate::invoke`].\n// use crate::api;\nfn f() {}",
        ),
        ("balance/mod.rs", "/* use crate::api; /* nested */ use crate::state; */ fn f() {}"),
        (
            "balance/mod.rs",
            "const TEXT: &str = \"use crate::state;\"; const RAW: &str = r#\"crate::\"api\"\"#;",
        ),
        (
            "balance/mod.rs",
            "mod pick; use self::pick::next; use crate::balance::pick; pub(in crate::balance) fn f() {}",
        ),
        ("balance/mod.rs", "mod tests { use super::*; }"),
        ("balance/pick.rs", "use super::Member; mod tests { use super::super::Member; }"),
        ("provider/health.rs", "use super::state;"),
        ("health.rs", "use tonic_health::pb::HealthCheckRequest;"),
        ("api/mod.rs", "pub mod pb; use pb::ModelKey; use crate::{invoke, catalog::Pool};"),
        ("cli/demo.rs", "use crate::{api::pb, scripted, app};"),
        ("app.rs", "use crate::{api, invoke, state, settings::Settings};"),
        ("main.rs", "fn main() { rota::cli::main() }"),
        ("invoke/mod.rs", "use crate::wire::Message;"),
        ("provider/openai.rs", "use crate::wire::openai::Request;"),
    ] {
        assert_eq!(complaints(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}

/// What is wrong in a house of this one file.
fn complaints(file: &str, text: &str) -> Vec<String> {
    let source = [Source::read(file, text)];
    wrong_arrows(&House::new(&source), &source[0])
}

#[test]
fn a_planted_circle_is_found() {
    for (files, circle) in [
        (
            vec![
                ("a/one.rs", "use super::two::Two; struct One;"),
                ("a/two.rs", "use crate::a::one::One; struct Two;"),
            ],
            "a/one.rs a/two.rs",
        ),
        // Over a third file, and a path in the code.
        (
            vec![
                ("a.rs", "struct A; fn f(b: crate::b::B) {}"),
                ("b.rs", "use crate::c; struct B; fn f() { c::g(); }"),
                ("c.rs", "fn g() { assert!(crate::a::A); }"),
            ],
            "a.rs b.rs c.rs",
        ),
        // A parent with an item of its own, which a child uses.
        (
            vec![
                ("a/mod.rs", "mod one; pub use one::One; struct Own;"),
                ("a/one.rs", "use super::Own; pub struct One;"),
            ],
            "a/mod.rs a/one.rs",
        ),
        // The same by a glob.
        (
            vec![
                ("a/mod.rs", "mod one; pub use one::*; struct Own;"),
                ("a/one.rs", "use super::*; pub struct One(Own);"),
            ],
            "a/mod.rs a/one.rs",
        ),
        // Through a facade.
        (
            vec![
                ("a/mod.rs", "mod one; mod two; pub use one::One; pub use two::Two as Second;"),
                ("a/one.rs", "use super::Second; pub struct One;"),
                ("a/two.rs", "use crate::a; pub struct Two(a::One);"),
            ],
            "a/one.rs a/two.rs",
        ),
    ] {
        assert_eq!(circles_of(&files), [circle], "{files:?}");
    }
}

#[test]
fn what_is_no_circle_is_left_alone() {
    for files in [
        // A facade that only declares and re-exports.
        vec![
            ("a/mod.rs", "mod one; mod two; pub use one::One; pub use two::*;"),
            ("a/one.rs", "use super::Two; pub struct One;"),
            ("a/two.rs", "pub struct Two;"),
        ],
        // A parent's tests, and what it declares.
        vec![
            ("a/mod.rs", "#[cfg(test)] mod tests; mod one; struct Own;"),
            ("a/one.rs", "use super::Own;"),
            ("a/tests.rs", "use super::*; use super::one;"),
        ],
        // Names of other crates.
        vec![
            ("a/mod.rs", "mod one; use std::sync::Arc; use one::One; fn f() {}"),
            ("a/one.rs", "use super::Arc; pub struct One;"),
        ],
    ] {
        assert_eq!(circles_of(&files), Vec::<String>::new(), "{files:?}");
    }
}

fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<_> = files.iter().map(|(name, text)| Source::read(name, text)).collect();
    circles(&House::new(&sources).arrows()).iter().map(|circle| circle.join(" ")).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Every file of `src/`.
fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |file: PathBuf| {
        let name = file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        Source::read(&name, &fs::read_to_string(&file).unwrap())
    };
    rust_files(&src).into_iter().map(read).collect()
}

/// The room of a file, named relative to `src/`.
fn room(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or(file)
}

/// What is wrong in one file, a line an arrow.
fn wrong_arrows(house: &House<'_>, source: &Source) -> Vec<String> {
    let file = &source.name;
    let from = room(file);
    let any = ANY.contains(&from);
    let allowed = ROOMS.iter().find(|(room, _)| *room == from).map(|(_, allowed)| *allowed);
    if !any && allowed.is_none() {
        return vec![format!("src/{file}: add the room `{from}` to the table in tests/it/house/mod.rs")];
    }
    let mut wrong = Vec::new();
    for mention in &source.mentions {
        let Some(path) = house.absolute(mention) else {
            // An earlier `use`, in a file that is not read here, may have shortened the path.
            if mention.path[0] == "pb" && !GENERATED.contains(&from) && !house.knows(&mention.module, "pb") {
                wrong.push(format!("src/{file}: generated types stay inside `api`, but here is `pb`"));
            }
            continue;
        };
        let shown = path.join("::");
        let to = path.first().map_or("*", String::as_str);
        // A room's own tests may call the scripted upstream as well.
        let scripted = to == "scripted" && house.for_tests(mention);
        if !any && !scripted && to != from && !allowed.unwrap_or_default().contains(&to) {
            wrong.push(format!("src/{file}: `{from}` may not use `crate::{shown}`"));
        }
        let protocol = to == "wire" && path.get(1).is_some_and(|folder| PROTOCOLS.contains(&folder.as_str()));
        if protocol && ["api", "invoke"].contains(&from) {
            wrong.push(format!(
                "src/{file}: `{from}` may use the types of `wire` only, but here is `{shown}`"
            ));
        }
        if shown.starts_with("api::pb") && !GENERATED.contains(&from) {
            wrong.push(format!("src/{file}: generated types stay inside `api`, but here is `{shown}`"));
        }
    }
    wrong
}
