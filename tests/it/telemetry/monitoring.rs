//! Dashboard and alerts in `deploy/` read what a scrape holds, and alerts fire when they should.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    time::Duration,
};

use rota::{
    api::pb::ModelKey,
    scripted::{Script, Upstream},
};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    prometheus::Prometheus,
    promql::{Reads, reads},
    python::yaml,
    redis::Redis,
    root,
    rota::Rota,
    tools::{run, run_well},
    world::Scene,
};

/// Labels that Prometheus gives to what it scrapes.
const TARGET: &[&str] = &["instance", "job", "namespace"];

/// Every code of gRPC.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

fn file(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// An expression, where it stands, and the labels that its texts name.
struct Expression {
    place: String,
    text: String,
    shown: Vec<String>,
}

fn dashboard() -> Value {
    serde_json::from_str(&file("deploy/grafana/rota.json")).unwrap()
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter()
}

/// Those of the panels, and of the queries that fill the variables.
fn expressions_of_dashboard() -> Vec<Expression> {
    let dashboard = dashboard();
    let mut found = Vec::new();
    for panel in panels(&dashboard).filter(|panel| panel["type"] != "row") {
        for target in panel["targets"].as_array().unwrap() {
            found.push(Expression {
                place: format!("panel {}", panel["title"]),
                text: target["expr"].as_str().unwrap().to_owned(),
                shown: between(target["legendFormat"].as_str().unwrap(), "{{", "}}"),
            });
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["query"]["query"].as_str() {
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
            let (text, label) = inner.rsplit_once(", ").unwrap();
            found.push(Expression {
                place: format!("variable {}", variable["name"]),
                text: text.to_owned(),
                shown: vec![label.to_owned()],
            });
        }
    }
    found
}

/// What stands between these two, each time.
fn between(text: &str, before: &str, after: &str) -> Vec<String> {
    let parts = text.split(before).skip(1);
    parts.map(|part| part.split(after).next().unwrap().trim().to_owned()).collect()
}

async fn rules() -> Vec<Value> {
    let rules = yaml(&file("deploy/prometheus/rules.yaml")).await;
    rules[0]["groups"][0]["rules"].as_array().unwrap().clone()
}

/// The labels of each series of a scrape, with the values they had.
type Series = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn series(scrape: &str) -> Series {
    let mut series = Series::new();
    for line in scrape.lines().filter(|line| !line.starts_with('#')) {
        let Reads { mut selectors, .. } = reads(line);
        let sample = selectors.remove(0);
        let labels = series.entry(sample.metric).or_default();
        for (label, _, value) in sample.matchers {
            labels.entry(label).or_default().insert(value);
        }
    }
    // What Prometheus says of a target itself.
    series.insert("up".to_owned(), BTreeMap::new());
    series
}

/// What an expression reads that no scrape has, and how it reads it wrongly.
fn complaints(series: &Series, expression: &Expression) -> Vec<String> {
    let Reads { selectors, grouped } = reads(&expression.text);
    let mut wrong = Vec::new();
    let mut labels: BTreeSet<&str> = TARGET.iter().copied().collect();
    if selectors.is_empty() {
        wrong.push("it reads nothing".to_owned());
    }
    for selector in &selectors {
        let metric = &selector.metric;
        let Some(known) = series.get(metric) else {
            wrong.push(format!("no series {metric}"));
            continue;
        };
        labels.extend(known.keys().map(String::as_str));
        for (label, _, value) in
            selector.matchers.iter().filter(|(label, ..)| !TARGET.contains(&label.as_str()))
        {
            match known.get(label) {
                None => wrong.push(format!("{metric} has no label {label}")),
                Some(values) => wrong.extend(
                    unknown_values(label, value, values)
                        .into_iter()
                        .map(|value| format!("{label} is never {value:?}")),
                ),
            }
        }
        let counts = ["_total", "_bucket", "_count", "_sum"].iter().any(|suffix| metric.ends_with(suffix));
        // Beside its increase, a counter may be asked whether it is there at all.
        let grows = selectors.iter().any(|other| other.metric == *metric && other.ranged);
        if counts && !grows && !expression.place.starts_with("variable") {
            wrong.push(format!("{metric} only grows: take its rate"));
        }
        if !counts && selector.ranged {
            wrong.push(format!("{metric} is no counter, and has no rate"));
        }
        if expression.text.contains("histogram_quantile(")
            && (!metric.ends_with("_bucket") || !grouped.contains("le"))
        {
            wrong.push(format!("no quantile of {metric} without its buckets, by le"));
        }
    }
    let unknown = grouped.iter().chain(&expression.shown).filter(|label| !labels.contains(label.as_str()));
    wrong.extend(unknown.map(|label| format!("no label {label}")));
    wrong.into_iter().map(|wrong| format!("{}: {wrong}", expression.place)).collect()
}

/// The values that a matcher names and the label never has. Patterns and the dashboard's variables are left alone.
fn unknown_values(label: &str, value: &str, values: &BTreeSet<String>) -> Vec<String> {
    let known = |value: &&str| {
        let code = label == "rpc_response_status_code" && CODES.contains(value);
        code || value.contains(['$', '.', '*']) || values.contains(*value)
    };
    value.split('|').filter(|value| !known(value)).map(ToOwned::to_owned).collect()
}

/// A model with four keys, of which one is limited, one refused and one without quota.
async fn troubled(rota: &Rota, upstream: &Upstream) -> Scene {
    let scene = Scene::set(rota, upstream, 4).await;
    let no_quota = Script::fail_with(429, &json!({"code": "insufficient_quota", "message": "no credit"}));
    for (key, script) in scene.keys.iter().zip([Script::fail_for(429, "60"), Script::fail(401), no_quota]) {
        upstream.script(key, script);
    }
    scene
}

/// A scrape of one that has served, streamed, failed and refused.
async fn rich_scrape() -> String {
    let upstream = Upstream::start().await.unwrap();
    let redis = Redis::start().await;
    let rota = Rota::builder().redis(redis.url()).start().await;
    let scene = troubled(&rota, &upstream).await;
    for _ in 0..4 {
        scene.ask().await.unwrap();
    }
    scene.ask_stream().await.unwrap();
    let unknown = Scene { key: ModelKey { model: "unknown".into(), ..scene.key.clone() }, ..scene.clone() };
    unknown.ask().await.unwrap_err();
    rota.metrics().await
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_alerts_read_what_a_scrape_holds() {
    let series = series(&rich_scrape().await);
    let mut expressions = expressions_of_dashboard();
    for rule in rules().await {
        let texts = ["summary", "description"].map(|text| rule["annotations"][text].as_str().unwrap());
        let shown = between(&texts.concat(), "$labels.", " ");
        let place = format!("alert {}", rule["alert"]);
        expressions.push(Expression { place, text: rule["expr"].as_str().unwrap().to_owned(), shown });
    }
    assert!(expressions.len() > 40, "{}", expressions.len());
    let wrong: Vec<_> = expressions.iter().flat_map(|expression| complaints(&series, expression)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // What is scraped is shown, too.
    let read: BTreeSet<_> = expressions
        .iter()
        .flat_map(|one| reads(&one.text).selectors)
        .map(|selector| selector.metric)
        .collect();
    let family = |name: &str| {
        let suffix =
            ["_total", "_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
        suffix.unwrap_or(name).to_owned()
    };
    let read: BTreeSet<_> = read.iter().map(|name| family(name)).collect();
    let unread: Vec<_> =
        series.keys().map(|name| family(name)).filter(|name| name != "up" && !read.contains(name)).collect();
    assert!(unread.is_empty(), "nobody sees {unread:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_scrape_holds_is_found() {
    let series = series(&rich_scrape().await);
    let about = |text: &str, shown: &str| {
        let shown = between(shown, "{{", "}}");
        complaints(&series, &Expression { place: "here".to_owned(), text: text.to_owned(), shown })
    };
    for (text, shown) in [
        ("sum(rate(rota_shed_total[5m]))", ""),
        ("rota_sheds_total", ""),
        ("rate(rota_ready[5m])", ""),
        ("rate(rota_cooldowns[5m])", ""),
        ("rota_pool_members{standing=\"eligable\"}", ""),
        ("rota_pool_members{state=\"eligible\"}", ""),
        ("rate(rota_cooldowns_total{error_type=~\"AUTHENTICATION|QUOTA\"}[5m])", ""),
        ("rate(rpc_server_call_duration_seconds_count{rpc_response_status_code=\"Unavailable\"}[5m])", ""),
        ("sum by (tenant) (rota_pool_members)", ""),
        ("rota_ready", "{{pod_name}}"),
        ("histogram_quantile(0.9, sum(rate(rota_pick_duration_seconds_bucket[5m])))", ""),
        ("histogram_quantile(0.9, sum by (le) (rate(rota_pick_duration_seconds_sum[5m])))", ""),
        ("rota_ready < on (fleet) group_left () max(rota_ready offset 2m)", ""),
        ("vector(0)", ""),
    ] {
        assert!(!about(text, shown).is_empty(), "nothing is found in {text} {shown}");
    }
    for (text, shown) in [
        (
            "sum by (job, standing) (rota_pool_members{rota_tenant=~\"$tenant\", standing!=\"eligible\"}) > 0",
            "{{standing}}",
        ),
        (
            "histogram_quantile(0.9, sum by (le) (rate(rota_pick_duration_seconds_bucket{instance=\"a\"}[$__rate_interval])))",
            "",
        ),
        (
            "rate(rota_sheds_total[5m]) > 0 or rota_sheds_total unless rota_sheds_total offset 5m",
            "{{instance}}",
        ),
        ("absent(up{job=\"rota\"})", ""),
    ] {
        assert_eq!(about(text, shown), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    let mut rules = "groups:\n  - name: panels\n    rules:\n".to_owned();
    for panel in panels(&dashboard) {
        let (id, title) = (panel["id"].as_u64().unwrap(), panel["title"].as_str().unwrap());
        assert!(ids.insert(id), "{title}: its id is taken");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{title} is beyond the edge");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{title} lies on another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(panel["description"].as_str().unwrap().len() > 10, "{title} has no description");
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap();
        assert!(["none", "s", "reqps", "percentunit"].contains(&unit), "{title}: {unit}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let text = target["expr"].as_str().unwrap().replace("$__rate_interval", "5m");
            let (refid, text) = (target["refId"].as_str().unwrap(), json!(text));
            writeln!(rules, "      - {{record: \"panel:{id}:{refid}\", expr: {text}}}").unwrap();
        }
    }
    assert!(ids.len() > 20);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("panels.yaml");
    fs::write(&path, &rules).unwrap();
    run_well("promtool", &["check", "rules", path.to_str().unwrap()]);
    // A check that accepts anything would have accepted those.
    fs::write(&path, rules.replacen("sum(", "sum((", 1)).unwrap();
    assert!(!run("promtool", &["check", "rules", path.to_str().unwrap()]).status.success());
}

#[tokio::test]
async fn each_alert_is_tested_and_has_a_runbook() {
    let headings: BTreeSet<_> = file("docs/guides/operations.md")
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|heading| format!("docs/guides/operations.md#{}", heading.to_lowercase()))
        .collect();
    let tests = yaml(&file("deploy/prometheus/rules_test.yaml")).await;
    let tests: Vec<_> = tests[0]["tests"].as_array().unwrap().iter().collect();
    let tests: Vec<_> = tests.iter().flat_map(|test| test["alert_rule_test"].as_array().unwrap()).collect();
    let rules = rules().await;
    for rule in &rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        let runbook = rule["annotations"]["runbook"].as_str().unwrap();
        assert!(headings.contains(runbook), "{name}: {runbook} is not there");
        for fires in [true, false] {
            let tested = tests.iter().any(|test| {
                test["alertname"] == name && test["exp_alerts"].as_array().unwrap().is_empty() != fires
            });
            assert!(tested, "nothing tests that {name} fires: {fires}");
        }
    }
    let runbooks: BTreeSet<_> =
        rules.iter().map(|rule| rule["annotations"]["runbook"].as_str().unwrap()).collect();
    let stale: Vec<_> = headings
        .iter()
        .filter(|heading| heading.contains("#rota") && !runbooks.contains(heading.as_str()))
        .collect();
    assert!(stale.is_empty(), "no alert leads to {stale:?}");
}

#[test]
fn alerts_fire_when_they_should_and_not_else() {
    run_well("promtool", &["check", "rules", "deploy/prometheus/rules.yaml"]);
    run_well("promtool", &["check", "config", "deploy/prometheus/prometheus.yaml"]);
    run_well("promtool", &["test", "rules", "deploy/prometheus/rules_test.yaml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_fills_every_panel_and_fires() {
    let upstream = Upstream::start().await.unwrap();
    let redis = Redis::start().await;
    let rota = Rota::builder().redis(redis.url()).start().await;
    let scene = troubled(&rota, &upstream).await;
    let prometheus = Prometheus::start(&rota.probes().await).await;
    let dashboard = dashboard();
    let mut empty: Vec<(&str, String)> = Vec::new();
    for panel in panels(&dashboard).filter(|panel| panel["type"] != "row") {
        for target in panel["targets"].as_array().unwrap() {
            let mut text =
                target["expr"].as_str().unwrap().replace("$__rate_interval", "30s").replace("$job", "rota");
            for variable in ["$instance", "$tenant", "$model"] {
                text = text.replace(variable, ".*");
            }
            empty.push((panel["title"].as_str().unwrap(), text));
        }
    }
    // A series begins with its first scrape, and has a rate from its second.
    eventually(Duration::from_secs(60), async || {
        scene.ask().await.unwrap();
        scene.ask_stream().await.unwrap();
        let mut left = Vec::new();
        for (title, text) in empty.drain(..) {
            if prometheus.query(&text).await.is_empty() {
                left.push((title, text));
            }
        }
        empty = left;
        if empty.is_empty() { Ok(()) } else { Err(format!("{empty:#?}")) }
    })
    .await;
    let eligible = prometheus.query("sum(rota_pool_members{standing=\"eligible\"})").await;
    assert_eq!(eligible[0]["value"][1], "1");
    // The last one cools as well.
    upstream.script(&scene.keys[3], Script::fail_for(429, "60"));
    scene.ask().await.unwrap_err();
    let wanted =
        [("RotaCredentialRefused", "firing"), ("RotaPoolEmpty", "pending"), ("RotaDown", "inactive")];
    eventually(Duration::from_secs(30), async || {
        let alerts = prometheus.alerts().await;
        let stands =
            |(name, state): &(&str, &str)| alerts.contains(&((*name).to_owned(), (*state).to_owned()));
        if wanted.iter().all(stands) { Ok(()) } else { Err(format!("{alerts:?}")) }
    })
    .await;
}
