//! What a scrape shows.

use rota::telemetry::{Metrics, ModelNames, PickOutcome, Standings, StoreMode};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

fn names(model: &str) -> ModelNames {
    ModelNames {
        tenant: "acme".into(),
        provider: "mine".into(),
        kind: "openai",
        model_type: "llm",
        model: model.into(),
    }
}

#[test]
fn a_model_that_was_made_again_goes_on_with_its_series() {
    let metrics = Metrics::new(10);
    for row in 1..=2 {
        let model = metrics.model(Uuid::from_u128(row), || names("again"));
        metrics.attempt(&model, None, Duration::from_millis(30));
    }
    let text = metrics.render();
    let counts: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("gen_ai_client_operation_duration_seconds_count"))
        .collect();
    assert_eq!(counts.len(), 1, "{counts:?}");
    assert!(counts[0].ends_with(" 2"), "{counts:?}");
}

#[test]
fn what_happens_is_counted_under_its_labels() {
    let metrics = Arc::new(Metrics::new(10));
    let model = metrics.model(Uuid::from_u128(1), || names("a \"b\"\n"));
    let inside = metrics.begin();
    metrics.attempt(&model, Some("TIMEOUT"), Duration::from_millis(30));
    metrics.attempt(&model, None, Duration::from_millis(30));
    metrics.tokens(&model, 10, 0);
    metrics.cooldown(&model, "TIMEOUT");
    metrics.pool(&model, Standings { eligible: 2, cooling: 1, waiting: 0 });
    metrics.service(StoreMode::Alone, 7);
    metrics.pick(PickOutcome::Granted, Duration::from_micros(3));
    metrics.command("acquire", false, Duration::from_millis(250));
    metrics.call("rota.v1.InvokeService/InvokeLlm", "OK", Duration::from_millis(31));
    let text = metrics.render();
    let labels = "gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"openai\",\
                  gen_ai_request_model=\"a \\\"b\\\"\\n\",rota_provider=\"mine\",rota_tenant=\"acme\"";
    for line in [
        format!("gen_ai_client_operation_duration_seconds_count{{{labels},error_type=\"TIMEOUT\"}} 1"),
        format!("gen_ai_client_operation_duration_seconds_count{{{labels},error_type=\"\"}} 1"),
        format!("gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type=\"input\"}} 10.0"),
        format!("rota_cooldowns_total{{{labels},error_type=\"TIMEOUT\"}} 1"),
        format!("rota_pool_members{{{labels},standing=\"eligible\"}} 2"),
        "rota_calls_in_flight 1".to_owned(),
        "rota_config_revision 7".to_owned(),
        "rota_state_store{mode=\"alone\"} 1".to_owned(),
        "rota_state_store{mode=\"shared\"} 0".to_owned(),
        "rota_pick_duration_seconds_count{outcome=\"granted\"} 1".to_owned(),
        "rota_state_store_command_duration_seconds_count{operation=\"acquire\",outcome=\"failed\"} 1"
            .to_owned(),
        "rpc_server_call_duration_seconds_count{rpc_method=\"rota.v1.InvokeService/InvokeLlm\",\
         rpc_response_status_code=\"OK\"} 1"
            .to_owned(),
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\nis not in\n{text}");
    }
    drop(inside);
    assert!(metrics.render().contains("rota_calls_in_flight 0"));
    assert!(!text.contains("type=\"output\""));
}

#[test]
fn many_models_do_not_make_many_labels() {
    let metrics = Metrics::new(2);
    for row in 0..1000u128 {
        let model = metrics.model(Uuid::from_u128(row), || names(&row.to_string()));
        metrics.attempt(&model, None, Duration::ZERO);
    }
    let text = metrics.render();
    let lines = text.lines().filter(|line| line.contains("operation_duration_seconds_count"));
    assert_eq!(lines.count(), 3);
    assert!(text.contains("gen_ai_request_model=\"other\""));
}

#[test]
fn a_model_that_is_gone_leaves_its_place_and_no_series() {
    let metrics = Metrics::new(2);
    for row in 0..100u128 {
        let (name, row) = (row.to_string(), Uuid::from_u128(row));
        let model = metrics.model(row, || names(&name));
        assert_eq!(model.model, name);
        metrics.attempt(&model, Some("TIMEOUT"), Duration::ZERO);
        metrics.attempt(&model, None, Duration::ZERO);
        metrics.cooldown(&model, "TIMEOUT");
        metrics.tokens(&model, 1, 1);
        metrics.first_content(&model, Duration::ZERO);
        metrics.pool(&model, Standings { eligible: 1, cooling: 1, waiting: 1 });
        let shown = format!("gen_ai_request_model=\"{name}\"");
        assert!(metrics.render().contains(&shown));
        if row.as_u128() % 2 == 0 {
            metrics.forget_rows(&[row]);
        } else {
            metrics.forget(&model);
        }
        assert!(!metrics.render().contains(&shown), "{name}");
        // A call that was under way ends.
        metrics.attempt(&model, None, Duration::ZERO);
        drop(model);
        assert!(!metrics.render().contains(&shown), "{name}");
    }
    // One that is made again meanwhile goes on.
    let held = metrics.model(Uuid::from_u128(1), || names("again"));
    metrics.forget_rows(&[Uuid::from_u128(1)]);
    let again = metrics.model(Uuid::from_u128(2), || names("again"));
    metrics.attempt(&held, None, Duration::ZERO);
    metrics.attempt(&again, None, Duration::ZERO);
    let count = "gen_ai_client_operation_duration_seconds_count";
    let lines: Vec<_> =
        metrics.render().lines().filter(|line| line.starts_with(count)).map(str::to_owned).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].ends_with(" 2"), "{lines:?}");
}
