//! The rooms of the house: which module may use which. Walks `src/` and fails on an arrow that points the wrong way.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each room and the rooms it may use. Those of `ANY` put everything together and may use all.
const ROOMS: &[(&str, &[&str])] = &[
    ("balance", &[]),
    ("provider", &["balance"]),
    ("state", &["balance"]),
    ("catalog", &["balance", "provider"]),
    ("invoke", &["balance", "provider", "state", "catalog", "telemetry"]),
    ("gate", &["catalog", "telemetry"]),
    ("api", &["balance", "provider", "state", "catalog", "invoke", "telemetry", "gate"]),
    ("health", &["catalog", "state", "provider", "balance", "telemetry"]),
    ("telemetry", &[]),
    ("settings", &["api", "gate", "catalog", "invoke", "provider", "state", "telemetry"]),
    ("scripted", &[]),
];
const ANY: &[&str] = &["app", "cli", "fuzzing", "lib", "main"];

// A room's own tests may call the scripted upstream as well.

/// The rooms that may use the generated types. The commands are clients of the API.
const GENERATED: &[&str] = &["api", "cli"];

#[test]
fn every_arrow_points_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut complaints = Vec::new();
    let mut uses = BTreeSet::new();
    for file in rust_files(&src) {
        let name = file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        let source = fs::read_to_string(&file).unwrap();
        complaints.extend(wrong_arrows(&name, &source));
        uses.extend(
            paths(&source, &module(&name)).into_iter().map(|path| (room(&name).to_owned(), path[0].clone())),
        );
    }
    // A walk that sees nothing would find nothing wrong either.
    assert!(uses.contains(&("provider".to_owned(), "balance".to_owned())), "the walk is blind: {uses:?}");
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
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
        ("api/mod.rs", "use crate::app::App;"),
        ("api/mod.rs", "use crate::*;"),
        ("garage/mod.rs", "use crate::balance;"),
        ("invoke/mod.rs", "use crate::garage;"),
        ("app.rs", "use crate::api::pb::ModelKey;"),
        ("app.rs", "use crate::api::{Edge, pb};"),
        ("invoke/mod.rs", "fn f(key: pb::ModelKey) {}"),
    ] {
        assert!(!wrong_arrows(file, source).is_empty(), "not found in {file}: {source}");
    }
}

#[test]
fn what_is_allowed_is_left_alone() {
    for (file, source) in [
        ("provider/mod.rs", "use crate::balance::{Class, Failure};"),
        ("balance/mod.rs", "//! See [`crate::state`].\n/// And [`crate::invoke`].\n// use crate::api;"),
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
    ] {
        assert_eq!(wrong_arrows(file, source), Vec::<String>::new(), "{file}: {source}");
    }
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

/// The room of a file, named relative to `src/`.
fn room(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or(file)
}

/// The modules that lead to a file: `provider/openai/mod.rs` is `[provider, openai]`.
fn module(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|part| !["lib", "main"].contains(part)).map(str::to_owned).collect()
}

/// What is wrong in one file, a line an arrow.
fn wrong_arrows(file: &str, source: &str) -> Vec<String> {
    let from = room(file);
    let any = ANY.contains(&from);
    let allowed = ROOMS.iter().find(|(room, _)| *room == from).map(|(_, allowed)| *allowed);
    if !any && allowed.is_none() {
        return vec![format!("src/{file}: add the room `{from}` to the table in tests/it/house.rs")];
    }
    let mut wrong = Vec::new();
    for path in paths(source, &module(file)) {
        let shown = path.join("::");
        let scripted = path[0] == "scripted" && Path::new(file).ends_with("tests.rs");
        if !any && !scripted && path[0] != from && !allowed.unwrap_or_default().contains(&path[0].as_str()) {
            wrong.push(format!("src/{file}: `{from}` may not use `crate::{shown}`"));
        }
        // `pb` at its start is a path that an earlier `use` has shortened.
        if (path[0] == "pb" || path.starts_with(&["api".to_owned(), "pb".to_owned()]))
            && !GENERATED.contains(&from)
        {
            wrong.push(format!("src/{file}: generated types stay inside `api`, but here is `{shown}`"));
        }
    }
    // Inside its room, `pb` is no room of its own.
    if GENERATED.contains(&from) {
        wrong.retain(|line| !line.contains("may not use `crate::pb"));
    }
    wrong
}

/// Every path from the root of the crate that a file names, without `crate`, groups taken apart; besides, paths that
/// begin with `pb`. `super` is followed where it leads out of the room.
fn paths(source: &str, module: &[String]) -> Vec<Vec<String>> {
    let words = words(source);
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let begins = at == 0 || words[at - 1] != "::";
        let mut next = at + 1;
        match words[at].as_str() {
            "crate" if words.get(next).is_some_and(|word| word == "::") => {
                next += 1;
                take(&words, &mut next, &mut Vec::new(), &mut found);
            }
            "super" if begins => {
                let mut up = 1;
                while words.get(next).is_some_and(|word| word == "::") {
                    next += 1;
                    if words.get(next).is_none_or(|word| word != "super") {
                        break;
                    }
                    up += 1;
                    next += 1;
                }
                let mut inner = Vec::new();
                take(&words, &mut next, &mut Vec::new(), &mut inner);
                // In an inline module, such as `tests`, the same number of steps ends one module deeper, inside the
                // room; only the name of another room tells the two apart.
                let is_room = |name: &String| ROOMS.iter().any(|(room, _)| room == name);
                if up >= module.len() {
                    found.extend(inner.into_iter().filter(|path| is_room(&path[0]) && path[0] != module[0]));
                }
            }
            "pb" if begins && words.get(next).is_some_and(|word| word == "::") => {
                found.push(vec!["pb".to_owned()]);
            }
            _ => {}
        }
        at = next;
    }
    found
}

/// Takes the rest of a path, or of a group of paths, from `words`.
fn take(words: &[String], at: &mut usize, before: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let depth = before.len();
    if words.get(*at).is_some_and(|word| word == "{") {
        *at += 1;
        while let Some(word) = words.get(*at) {
            match word.as_str() {
                "}" => {
                    *at += 1;
                    break;
                }
                "," => *at += 1,
                _ => take(words, at, before, found),
            }
        }
        return;
    }
    if let Some(word) = words.get(*at) {
        *at += 1;
        before.push(word.clone());
        if words.get(*at).is_some_and(|word| word == "::") {
            *at += 1;
            take(words, at, before, found);
        } else {
            found.push(before.clone());
            // `x as y` in a group.
            if words.get(*at).is_some_and(|word| word == "as") {
                *at += 2;
            }
        }
    }
    before.truncate(depth);
}

/// The source as identifiers, `::` and single signs, without comments and what stands in quotes.
fn words(source: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = source;
    while let Some(sign) = rest.chars().next() {
        let length = if sign.is_alphanumeric() || sign == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let word = &rest[..end];
            if let Some(raw) = ["r", "br", "cr"].contains(&word).then(|| raw_string(&rest[end..])).flatten() {
                end + raw
            } else {
                words.push(word.to_owned());
                end
            }
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if sign == '"' {
            quoted(rest, '"')
        } else if sign == '\'' && is_char(rest) {
            quoted(rest, '\'')
        } else if rest.starts_with("::") {
            words.push("::".to_owned());
            2
        } else {
            if !sign.is_whitespace() {
                words.push(sign.to_string());
            }
            sign.len_utf8()
        };
        rest = &rest[length..];
    }
    words
}

/// The length of a raw string that begins at its `#` signs or its quote; `None` where none begins, as in `r#type`.
fn raw_string(text: &str) -> Option<usize> {
    let signs = text.find(|c| c != '#')?;
    let body = text[signs..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(signs));
    Some(body.find(&close).map_or(text.len(), |end| signs + 1 + end + close.len()))
}

/// The length of a comment that may hold comments.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let step = match text.get(at..at + 2) {
            Some("/*") => {
                depth += 1;
                2
            }
            Some("*/") => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// The length of a text in quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, sign) in text.char_indices().skip(1) {
        match sign {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if sign == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Tells `'x'` from the lifetime `'x`.
fn is_char(text: &str) -> bool {
    let mut signs = text.chars().skip(1);
    match signs.next() {
        Some('\\') => true,
        Some(_) => signs.next() == Some('\''),
        None => false,
    }
}
