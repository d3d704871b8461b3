//! The manifests for Kubernetes as `kubectl kustomize` renders them, and the compose file: they fit the schemas of
//! Kubernetes, and their parts fit each other. Nothing is applied, for there is no cluster here.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::{Value, json};

use crate::support::{
    python::{self, yaml},
    root,
    tools::run_well,
};

const OPERATOR: &str = "monitoring.coreos.com/v1";

/// Each overlay's name with what it renders to.
async fn overlays() -> Vec<(String, Vec<Value>)> {
    let mut overlays = Vec::new();
    for entry in fs::read_dir(root().join("deploy/kubernetes/overlays")).unwrap() {
        let folder = entry.unwrap().path();
        let rendered = run_well("kubectl", &["kustomize", folder.to_str().unwrap()]);
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        overlays.push((name, yaml(&rendered).await));
    }
    assert!(overlays.len() > 2);
    overlays
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// What `kubernetes-validate` finds wrong, with no field beyond the schema; empty where all is well.
fn invalid(objects: &[Value]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..objects.len()).map(|i| folder.path().join(format!("{i}.yaml"))).collect();
    for (path, object) in paths.iter().zip(objects) {
        fs::write(path, object.to_string()).unwrap();
    }
    let mut validate = python::command();
    let output =
        validate.args(["-m", "kubernetes_validate", "--strict", "--quiet"]).args(&paths).output().unwrap();
    // A kind that it does not know is only a warning, which is none for us.
    let told = [output.stdout, output.stderr].concat();
    let status = if output.status.success() { "" } else { "it failed" };
    format!("{}{status}", String::from_utf8(told).unwrap())
}

#[tokio::test]
async fn every_overlay_fits_the_schemas_of_kubernetes() {
    for (name, mut objects) in overlays().await {
        objects.retain(|object| object["apiVersion"] != OPERATOR);
        assert_eq!(invalid(&objects), "", "{name}");
        for (kind, pointer) in [("Deployment", "/spec/template/spec"), ("NetworkPolicy", "/spec")] {
            let mut wrong = objects.iter().find(|object| object["kind"] == kind).unwrap().clone();
            wrong.pointer_mut(pointer).unwrap()["misspelt"] = json!(1);
            assert!(invalid(&[wrong]).contains("misspelt"), "a wrong field of a {kind} is not found");
        }
    }
    let unknown = json!({"apiVersion": "apps/v1", "kind": "Deploiment", "metadata": {"name": "x"}});
    assert!(invalid(&[unknown]).contains("Deploiment"));
}

#[tokio::test]
async fn the_parts_of_an_overlay_fit_each_other() {
    for (name, objects) in overlays().await {
        let [deployment] = of_kind(&objects, "Deployment")[..] else { panic!("{name}") };
        let pod = &deployment["spec"]["template"];
        let labels = &pod["metadata"]["labels"];
        let container = &pod["spec"]["containers"][0];
        let names = |list: &Value| {
            let list = list.as_array().unwrap().iter();
            list.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
        };
        let ports = names(&container["ports"]);
        let selects_the_pod = |selector: &Value| {
            let wanted = selector.as_object().unwrap();
            !wanted.is_empty() && wanted.iter().all(|(label, value)| labels[label] == *value)
        };
        for service in of_kind(&objects, "Service") {
            assert!(selects_the_pod(&service["spec"]["selector"]), "{name}: {service}");
            for port in service["spec"]["ports"].as_array().unwrap() {
                assert!(ports.contains(port["targetPort"].as_str().unwrap()), "{name}: {port}");
            }
        }
        let services = of_kind(&objects, "Service");
        assert!(
            services.iter().any(|service| service["spec"]["clusterIP"] == "None"),
            "{name}: no headless one"
        );
        for policy in of_kind(&objects, "NetworkPolicy") {
            assert!(selects_the_pod(&policy["spec"]["podSelector"]["matchLabels"]), "{name}: {policy}");
            for rule in policy["spec"]["ingress"].as_array().into_iter().flatten() {
                let port = rule["ports"][0]["port"].as_str().unwrap();
                assert!(ports.contains(port), "{name}: {port}");
                assert!(port != "admin" || rule["from"].is_array(), "{name}: metrics are open to all");
            }
        }
        assert!(!of_kind(&objects, "NetworkPolicy").is_empty(), "{name}");
        let spread = pod["spec"]["topologySpreadConstraints"].as_array().unwrap();
        for constraint in spread {
            assert!(selects_the_pod(&constraint["labelSelector"]["matchLabels"]), "{name}: {constraint}");
        }
        let keys: BTreeSet<_> =
            spread.iter().map(|constraint| constraint["topologyKey"].as_str().unwrap()).collect();
        assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"].into(), "{name}");
        let claims = of_kind(&objects, "PersistentVolumeClaim");
        for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
            let claim = &volume["persistentVolumeClaim"]["claimName"];
            assert!(
                claim.is_null() || claims.iter().any(|there| there["metadata"]["name"] == *claim),
                "{name}"
            );
        }
        // A pod is killed only after what Rota takes to drain.
        let seconds = |setting: &str| -> u64 {
            let variables = container["env"].as_array().unwrap();
            let variable = variables.iter().find(|variable| variable["name"] == setting).unwrap();
            variable["value"].as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap()
        };
        let patience = pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(patience > seconds("ROTA_DRAIN_DELAY") + seconds("ROTA_DRAIN_LIMIT"), "{name}");
        let probe = &container["startupProbe"];
        let start = probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap();
        assert!(start > seconds("ROTA_START_WAIT"), "{name}: killed while it waits");

        let replicas = deployment["spec"]["replicas"].as_u64();
        if name == "embedded" {
            assert_eq!(replicas, Some(1), "SQLite has one owner");
        } else {
            let [budget] = of_kind(&objects, "PodDisruptionBudget")[..] else { panic!("{name}") };
            assert!(selects_the_pod(&budget["spec"]["selector"]["matchLabels"]), "{name}");
            let [scaler] = of_kind(&objects, "HorizontalPodAutoscaler")[..] else { panic!("{name}") };
            assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"], "{name}");
            assert!(!container["resources"]["requests"]["cpu"].is_null(), "the scaler reckons from it");
            assert_eq!(replicas, None, "the scaler's number would be set back");
        }
    }
}

#[tokio::test]
async fn what_watches_the_fleet_is_there_where_it_is_wanted_alone() {
    let rules = yaml(&fs::read_to_string(root().join("deploy/prometheus/rules.yaml")).unwrap()).await;
    let dashboard = fs::read_to_string(root().join("deploy/grafana/rota.json")).unwrap();
    for (name, objects) in overlays().await {
        let of_operator: Vec<_> = objects.iter().filter(|object| object["apiVersion"] == OPERATOR).collect();
        if !name.ends_with("-monitored") {
            assert!(of_operator.is_empty(), "{name} needs the operator");
            continue;
        }
        assert_eq!(of_operator.len(), 2);
        let [rule] = of_kind(&objects, "PrometheusRule")[..] else { panic!("{objects:?}") };
        assert_eq!(rule["spec"], rules[0], "run `make rules`");
        let [monitor] = of_kind(&objects, "ServiceMonitor")[..] else { panic!("{objects:?}") };
        let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
        let endpoint = &monitor["spec"]["endpoints"][0];
        let found = of_kind(&objects, "Service").into_iter().any(|service| {
            let labels = &service["metadata"]["labels"];
            let ports = service["spec"]["ports"].as_array().unwrap();
            wanted.iter().all(|(label, value)| labels[label] == *value)
                && ports.iter().any(|port| port["name"] == endpoint["port"])
                // The alerts' job.
                && labels[monitor["spec"]["jobLabel"].as_str().unwrap()] == "rota"
        });
        assert!(found, "{monitor} selects no Service");
        for known in [rule, monitor] {
            let fields: BTreeSet<_> = known["spec"].as_object().unwrap().keys().map(String::as_str).collect();
            let allowed = ["endpoints", "groups", "jobLabel", "selector"].into();
            assert!(fields.is_subset(&allowed), "{fields:?}");
        }
        let [map] = of_kind(&objects, "ConfigMap")[..] else { panic!("{objects:?}") };
        assert_eq!(map["data"]["rota.json"], dashboard);
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    }
}

#[tokio::test]
async fn the_compose_file_is_whole_and_open_to_this_machine_alone() {
    let deploy = root().join("deploy");
    let compose = yaml(&fs::read_to_string(deploy.join("compose.yaml")).unwrap()).await.remove(0);
    let services = compose["services"].as_object().unwrap();
    let in_profile = |profile: Option<&str>| -> Vec<&str> {
        let of = |service: &Value| service["profiles"][0].as_str().map(ToOwned::to_owned);
        let services = services.iter().filter(|(_, service)| of(service).as_deref() == profile);
        let mut names: Vec<_> = services.map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(in_profile(None), ["postgres", "redis"]);
    assert_eq!(in_profile(Some("fleet")), ["rota"]);
    assert_eq!(in_profile(Some("monitoring")), ["grafana", "prometheus"]);
    assert_eq!(services["rota"]["deploy"]["replicas"], 3);
    let allowed = [
        "build",
        "command",
        "depends_on",
        "deploy",
        "environment",
        "healthcheck",
        "image",
        "ports",
        "profiles",
        "restart",
        "stop_grace_period",
        "volumes",
    ];
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    for (name, service) in services {
        let fields = service.as_object().unwrap().keys();
        let unknown: Vec<_> = fields.filter(|field| !allowed.contains(&field.as_str())).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
        assert!(service["image"].as_str().unwrap().contains(':'), "{name} says no version");
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} is open at {port}");
        }
        for volume in texts(&service["volumes"]) {
            let from = volume.split(':').next().unwrap();
            let there = if from.starts_with('.') {
                deploy.join(from).exists()
            } else {
                compose["volumes"].as_object().unwrap().contains_key(from)
            };
            assert!(there, "{name}: no {from}");
        }
        let after = match &service["depends_on"] {
            Value::Object(conditions) => conditions.keys().cloned().collect(),
            list => texts(list),
        };
        for other in after {
            assert!(services.contains_key(&other), "{name} waits for {other}");
            let healthy = &service["depends_on"][&other]["condition"];
            assert!(
                healthy.is_null() || services[&other]["healthcheck"].is_object(),
                "{other} says no health"
            );
        }
    }
    let prometheus = yaml(&fs::read_to_string(deploy.join("prometheus/prometheus.yaml")).unwrap()).await;
    let scraped = &prometheus[0]["scrape_configs"][0];
    assert_eq!(scraped["job_name"], "rota", "what the alerts ask for");
    assert!(services.contains_key(scraped["dns_sd_configs"][0]["names"][0].as_str().unwrap()));
    let source = yaml(&fs::read_to_string(deploy.join("grafana/datasource.yaml")).unwrap()).await;
    assert_eq!(source[0]["datasources"][0]["url"], "http://prometheus:9090");
}
