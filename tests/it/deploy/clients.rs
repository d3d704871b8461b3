//! The clients of docs/guides/clients.md: each example is run as it stands, and the page quotes it word for word.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rota::{
    api::pb::{BalancingPolicy, ErrorClass, UpdateBalancingPolicyRequest},
    scripted::{Script, Upstream},
};

use crate::support::{
    authority::Authority,
    eventually,
    example::{Language, Said, run},
    failure::span,
    postgres::Postgres,
    redis::Redis,
    root,
    rota::Rota,
    secured::Secured,
    world::Scene,
};

/// Runs each test in every language.
macro_rules! in_every_language {
    ($($name:ident),* $(,)?) => {
        mod in_python {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name(crate::support::example::Language::Python).await; })*
        }
        mod in_node {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name(crate::support::example::Language::Node).await; })*
        }
        mod in_rust {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$name(crate::support::example::Language::Rust).await; })*
        }
    };
}

in_every_language!(
    answers_and_streams_say_which_way_they_took,
    an_error_says_why_and_when_to_come_again,
    a_call_is_repeated_when_rota_says_so,
    a_stream_that_is_closed_early_ends_upstream,
    a_lease_is_renewed_and_released_with_its_outcome,
    a_replica_that_is_gone_is_left_out,
    tls_and_a_certificate_of_its_own_open_the_door,
);

/// Runs the example on the scene's model.
async fn says(language: Language, rota: &Rota, scene: &Scene, command: &str, env: &[(&str, &str)]) -> Said {
    let mut example = language.example(&[rota.address()], &scene.token).await;
    example.args([command, &scene.provider, &scene.key.model, "hi"]).envs(env.iter().copied());
    run(example).await
}

async fn answers_and_streams_say_which_way_they_took(language: Language) {
    let (rota, upstream) = (Rota::shared().await, Upstream::start().await.unwrap());
    let scene = Scene::set(rota, &upstream, 3).await;
    upstream.script(&scene.keys[0], Script::fail_for(429, "60"));
    let said = says(language, rota, &scene, "ask", &[]).await;
    assert_eq!(said.of("answer"), format!("served by {}", scene.keys[1]), "{}", said.text);
    assert_eq!(said.of("way"), "config-0 ERROR_CLASS_RATE_LIMITED then config-1", "{}", said.text);
    let said = says(language, rota, &scene, "stream", &[]).await;
    assert_eq!(said.of("answer"), format!("served by {}", scene.keys[2]), "{}", said.text);
    assert_eq!(said.of("way"), "config-2", "{}", said.text);
    assert!(said.well);
    assert_eq!(scene.hits(&upstream), [1, 1, 1]);
}

async fn an_error_says_why_and_when_to_come_again(language: Language) {
    let (rota, upstream) = (Rota::shared().await, Upstream::start().await.unwrap());
    let mut scene = Scene::set(rota, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::fail_for(429, "60"));
    }
    // Both are tried, and nothing is repeated: the minute is longer than the deadline.
    let said = says(language, rota, &scene, "ask", &[("DEADLINE", "20")]).await;
    assert_eq!(said.of("error"), "UPSTREAM_RATE_LIMITED", "{}", said.text);
    let both = "config-0 ERROR_CLASS_RATE_LIMITED then config-1 ERROR_CLASS_RATE_LIMITED";
    assert_eq!(said.of("way"), both, "{}", said.text);
    assert!(said.of("again in").ends_with(" s") && !said.well, "{}", said.text);
    let said = says(language, rota, &scene, "stream", &[]).await;
    assert_eq!((said.of("error"), said.of("way")), ("ALL_CONFIGS_COOLING_DOWN", ""), "{}", said.text);
    assert_eq!(scene.hits(&upstream), [1, 1]);

    scene.token = "rota_wrong".to_owned();
    let said = says(language, rota, &scene, "ask", &[]).await;
    assert_eq!((said.of("error"), said.of("again in")), ("TOKEN_INVALID", ""), "{}", said.text);
}

async fn a_call_is_repeated_when_rota_says_so(language: Language) {
    let (rota, upstream) = (Rota::shared().await, Upstream::start().await.unwrap());
    let scene = Scene::set(rota, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::sequence([Script::fail_for(429, "1"), Script::Answer]));
    }
    // Otherwise Rota would wait for so short a time itself.
    let policy = BalancingPolicy { max_attempts: 2, ..BalancingPolicy::default() };
    let key = Some(scene.key.clone());
    let update = UpdateBalancingPolicyRequest { key, policy: Some(policy), ..Default::default() };
    scene.clients.config.clone().update_balancing_policy(update).await.unwrap();
    let said = says(language, rota, &scene, "ask", &[]).await;
    assert!(said.well && said.of("answer").starts_with("served by "), "{}", said.text);
    // Twice in vain, then once more.
    assert_eq!(upstream.total_hits(), 3, "{}", said.text);
}

async fn a_stream_that_is_closed_early_ends_upstream(language: Language) {
    let (rota, upstream) = (Rota::shared().await, Upstream::start().await.unwrap());
    let scene = Scene::set(rota, &upstream, 2).await;
    for key in &scene.keys {
        upstream.script(key, Script::StallAfter(1));
    }
    let said = says(language, rota, &scene, "first", &[]).await;
    assert!(said.well && said.of("answer") == "served …", "{}", said.text);
    eventually(Duration::from_secs(5), async || {
        let state = (upstream.in_flight(), upstream.cancelled(), scene.in_flight().await);
        if state == (0, 1, vec![0, 0]) { Ok(()) } else { Err(format!("{state:?}")) }
    })
    .await;
}

async fn a_lease_is_renewed_and_released_with_its_outcome(language: Language) {
    let (rota, upstream) = (Rota::builder().start().await, Upstream::start().await.unwrap());
    let mut scene = Scene::set(&rota, &upstream, 3).await;
    scene.token = scene.reader(&rota).await;
    upstream.script(&scene.keys[0], Script::fail_for(429, "40"));
    upstream.script(&scene.keys[1], Script::Answer.after(Duration::from_secs(2)));
    let running = says(language, &rota, &scene, "lookaside", &[("RENEW_EVERY", "0.5")]);
    let held = eventually(Duration::from_secs(30), async || match scene.in_flight().await.as_slice() {
        [0, 1, 0] => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let (said, ()) = tokio::join!(running, held);
    assert_eq!(said.of("answer"), format!("served by {}", scene.keys[1]), "{}", said.text);
    assert_eq!(said.of("way"), "config-1", "{}", said.text);
    // What became of both calls is known, and neither counts any more.
    let now = scene.configs_now().await;
    let cooling: Vec<_> = now.iter().map(|config| (config.in_flight, config.cooldown_reason())).collect();
    let well = (0, ErrorClass::Unspecified);
    assert_eq!(cooling, [(0, ErrorClass::RateLimited), well, well], "{}", said.text);
    let left = span(now[0].ttl);
    assert!(left > Duration::from_secs(10) && left <= Duration::from_secs(40), "{left:?}");
    assert!(renewals(&rota).await >= 1, "no lease was renewed");
    assert_eq!(scene.hits(&upstream), [1, 1, 0]);
}

/// How many leases were renewed there.
async fn renewals(rota: &Rota) -> u64 {
    let metrics = rota.metrics().await;
    let line = metrics.lines().find(|line| {
        line.starts_with("rpc_server_call_duration_seconds_count")
            && line.contains("InvokeService/RenewLease")
            && line.contains("\"OK\"")
    });
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

async fn a_replica_that_is_gone_is_left_out(language: Language) {
    let database = Postgres::shared().await.fresh_database();
    let settings = Rota::builder().redis(Redis::shared().await.url()).database(database);
    let mut replicas = [settings.start().await, settings.start().await, settings.start().await];
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(&replicas[0], &upstream, 2).await;
    for replica in &replicas[1..] {
        let mirror = scene.through(replica).await;
        eventually(Duration::from_secs(5), async || {
            mirror.ask().await.map_err(|status| format!("{status:?}"))
        })
        .await;
    }
    replicas[1].kill9();
    let addresses: Vec<_> = replicas.iter().map(Rota::address).collect();
    for command in ["ask", "ask", "stream", "stream"] {
        let mut example = language.example(&addresses, &scene.token).await;
        example.args([command, &scene.provider, &scene.key.model, "hi"]);
        let said = run(example).await;
        assert!(said.well && said.of("answer").starts_with("served by "), "{}", said.text);
    }
}

async fn tls_and_a_certificate_of_its_own_open_the_door(language: Language) {
    let authority = Authority::new();
    let server = Secured::start(&authority, true).await;
    let (ca, own) = (authority.ca.pem(), authority.client.pem());
    let files = server.files(&[("ca", ca), ("cert", own), ("key", authority.client_key.serialize_pem())]);
    let says = async |own: bool| {
        let mut example = language.example(&[&server.address], &server.token).await;
        let url = format!("https://{}", server.address);
        example.env("ROTA_REPLICAS", url).env("ROTA_NAME", "127.0.0.1").env("ROTA_CA", &files[0]);
        if own {
            example.env("ROTA_CERT", &files[1]).env("ROTA_KEY", &files[2]);
        }
        run({
            example.args(["ask", "provider", "model", "hi"]).env("DEADLINE", "5");
            example
        })
        .await
    };
    // The operator must say whose model it means: what is heard is Rota's own word.
    let said = says(true).await;
    assert_eq!(said.of("error"), "INVALID_FIELD", "{}", said.text);
    let said = says(false).await;
    let silent = ["UNAVAILABLE", "DEADLINE_EXCEEDED", "DeadlineExceeded"];
    assert!(silent.contains(&said.of("error")), "{}", said.text);
}

/// The regions of a file that stand between `[name]` and `[/name]`, each without what all its lines are indented by.
fn regions(file: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut found = Vec::new();
    let mut open: Option<(String, Vec<&str>)> = None;
    for line in text.lines() {
        let mark = line.trim().trim_start_matches(['#', '/', ' ']).strip_prefix('[');
        let mark = mark.and_then(|mark| mark.strip_suffix(']')).filter(|_| {
            let line = line.trim();
            line.starts_with("# [") || line.starts_with("// [")
        });
        match (mark, &mut open) {
            (Some(mark), None) => open = Some((mark.to_owned(), Vec::new())),
            (Some(mark), Some((name, lines))) => {
                assert_eq!(mark, format!("/{name}"), "{}", file.display());
                found.push((name.clone(), dedented(lines)));
                open = None;
            }
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a region is not closed", file.display());
    found
}

fn dedented(lines: &[&str]) -> String {
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let least = lines.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or_default();
    lines.iter().map(|line| line.get(least..).unwrap_or_default().to_owned() + "\n").collect()
}

#[test]
fn the_page_quotes_the_examples_word_for_word() {
    let page = fs::read_to_string(root().join("docs/guides/clients.md")).unwrap();
    let mut quoted = BTreeSet::new();
    for block in page.split("<!-- quoted: ").skip(1) {
        let (source, rest) = block.split_once(" -->\n```").unwrap();
        let (file, region) = source.split_once(" [").unwrap();
        let region = region.trim_end_matches(']');
        let (_, rest) = rest.split_once('\n').unwrap();
        let (text, _) = rest.split_once("```\n").unwrap();
        let regions = regions(&root().join(file));
        let wanted = regions.iter().find(|(name, _)| name == region);
        let (_, wanted) = wanted.unwrap_or_else(|| panic!("{file} has no region {region}"));
        assert!(
            text == wanted,
            "docs/guides/clients.md quotes {file} [{region}] otherwise. It should read:\n{wanted}"
        );
        quoted.insert((PathBuf::from(file), region.to_owned()));
    }
    // All that is marked is quoted.
    for file in ["python/client.py", "node/client.js", "rust/connect.rs", "rust/main.rs"] {
        let file = Path::new("examples").join(file);
        for (region, _) in regions(&root().join(&file)) {
            assert!(quoted.contains(&(file.clone(), region.clone())), "{file:?} [{region}] is not quoted");
        }
    }
    assert!(quoted.len() >= 15, "{quoted:?}");
}

#[test]
fn the_packages_of_the_examples_are_those_that_are_tested() {
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    let tested = read("tests/clients/python/requirements.txt");
    let wanted = read("examples/python/requirements.txt");
    for package in wanted.lines().filter(|line| !line.starts_with('#')) {
        assert!(tested.lines().any(|line| line == package), "{package} is not what the tests install");
    }
    // Whoever installs them takes them from their own registry.
    assert!(!read("examples/node/package-lock.json").contains("\"resolved\""));
}
