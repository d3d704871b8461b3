//! What every kind of provider has in common through the API: answers, tools, usage, and what its failures do. How a
//! stream breaks off is in `streaming`.

use rota::{
    api::pb::{
        Attempt, BalancingPolicy, ErrorClass, InvokeLlmRequest, LoadBalancingConfig, Message,
        StreamLlmRequest, StreamLlmResponse, Tool, Usage, ValidateCredentialRequest,
    },
    scripted::{Script, Upstream},
};
use tonic::{Code, Status};

use crate::support::{
    failure::{classes, error, route, told},
    kinds::{self, Kind, on_every_kind},
    listing::api_key_field,
    process::free_port,
    read,
    rota::Rota,
    world::{Scene, config, hi},
};
use crate::{balance::policy::set_policy, invoke::streaming::content};

on_every_kind!(
    an_answer_says_what_it_cost,
    a_tool_is_called_and_its_result_answered,
    a_status_moves_on_and_cools_by_its_class,
    a_bad_request_ends_the_call,
    an_answer_that_is_none_moves_on,
    an_error_under_a_good_status_is_told_without_its_key,
    a_call_that_hangs_moves_on_when_its_time_is_over,
    a_refused_connection_moves_on,
    a_stream_that_is_none_moves_on,
    a_credential_is_tried,
    a_stall_before_the_first_content_moves_on_and_one_after_it_ends_the_stream,
);

const SERVED: ErrorClass = ErrorClass::Unspecified;

/// Two configs of that kind, the first of which does this.
async fn first_does(rota: &Rota, kind: &Kind, script: Script) -> (Upstream, Scene) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(rota, kind, &upstream, 2).await;
    upstream.script(&scene.keys[0], script);
    (upstream, scene)
}

/// One call, which the second config serves after the first has failed with that class. The failed attempt.
async fn second_serves(scene: &Scene, class: ErrorClass) -> Attempt {
    let reply = scene.ask().await.unwrap();
    assert_eq!(reply.message.as_ref().unwrap().content, format!("served by {}", scene.keys[1]));
    let mut attempts = reply.route.unwrap().attempts;
    assert_eq!(classes(&attempts), [class, SERVED]);
    holds_no_key(scene, &attempts);
    attempts.remove(0)
}

/// Why the first config cools; unspecified where it does not.
async fn first_cools(scene: &Scene) -> ErrorClass {
    scene.configs_now().await[0].cooldown_reason()
}

/// The call fails so, and no key stands in the error.
fn failed(scene: &Scene, status: &Status, code: Code, reason: &str) {
    assert_eq!(told(status), error(code, reason));
    holds_no_key(scene, status);
    holds_no_key(scene, &route(status));
}

/// No secret of the scene stands in it.
fn holds_no_key(scene: &Scene, what: &impl std::fmt::Debug) {
    let text = format!("{what:?}");
    assert!(!scene.keys.iter().any(|key| text.contains(key)), "a key stands in {text}");
}

fn costs(usage: &Usage) -> [i32; 4] {
    [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.cached_tokens].map(|n| n as i32)
}

async fn stream(scene: &Scene, tools: Vec<Tool>) -> Vec<StreamLlmResponse> {
    let request = StreamLlmRequest {
        key: Some(scene.key.clone()),
        messages: vec![hi()],
        tools,
        ..StreamLlmRequest::default()
    };
    let stream = scene.clients.invoke.clone().stream_llm(request).await.unwrap().into_inner();
    let (messages, end) = read(stream).await;
    end.unwrap();
    messages
}

fn finish(messages: &[StreamLlmResponse]) -> String {
    messages.iter().map(|message| message.finish_reason.as_str()).collect()
}

async fn an_answer_says_what_it_cost(rota: &Rota, kind: &Kind) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(rota, kind, &upstream, 2).await;
    let served = |index: usize| format!("served by {}", scene.keys[index]);
    let reply = scene.ask().await.unwrap();
    assert_eq!((reply.message.unwrap().content, reply.finish_reason.as_str()), (served(0), "stop"));
    assert_eq!(costs(&reply.usage.unwrap()), [10, 3, 13, 2]);

    let messages = stream(&scene, Vec::new()).await;
    assert_eq!((content(&messages), finish(&messages).as_str()), (served(1), "stop"));
    let usage: Vec<_> = messages.iter().filter_map(|message| message.usage.as_ref()).map(costs).collect();
    assert_eq!(usage.last(), Some(&[10, 3, 13, 2]));
    assert_eq!(scene.hits(&upstream), [1, 1]);
}

async fn a_tool_is_called_and_its_result_answered(rota: &Rota, kind: &Kind) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(rota, kind, &upstream, 2).await;
    let tools = vec![Tool { name: "weather".into(), ..Tool::default() }];
    let request = InvokeLlmRequest { tools: tools.clone(), ..scene.request() };
    let reply = scene.send(request.clone()).await.unwrap();
    assert_eq!(reply.finish_reason, "tool_calls");
    let asked = reply.message.unwrap();
    assert_eq!(asked.tool_calls.len(), 1);
    let call = &asked.tool_calls[0];
    let function = call.function.clone().unwrap();
    assert_eq!((function.name.as_str(), function.arguments.as_str()), ("weather", "{}"));
    assert!(!call.id.is_empty());

    let messages = stream(&scene, tools).await;
    assert_eq!(finish(&messages), "tool_calls");
    let deltas = messages.into_iter().filter_map(|message| message.delta);
    let fragments: Vec<_> = deltas.flat_map(|delta| delta.tool_calls).collect();
    assert!(fragments.iter().all(|fragment| fragment.index == 0), "{fragments:?}");
    assert!(!fragments[0].id.is_empty());
    let functions: Vec<_> = fragments.into_iter().filter_map(|fragment| fragment.function).collect();
    let name: String = functions.iter().map(|function| function.name.as_str()).collect();
    let arguments: String = functions.iter().map(|function| function.arguments.as_str()).collect();
    assert_eq!((name.as_str(), arguments.as_str()), ("weather", "{}"));

    let result = Message {
        role: "tool".into(),
        content: "sunny".into(),
        tool_call_id: call.id.clone(),
        ..Message::default()
    };
    let messages = vec![hi(), asked, result];
    let reply = scene.send(InvokeLlmRequest { messages, ..request }).await.unwrap();
    assert_eq!(reply.message.unwrap().content, format!("served by {}", scene.keys[0]));
}

async fn a_status_moves_on_and_cools_by_its_class(rota: &Rota, kind: &Kind) {
    use ErrorClass::*;
    for (status, class, cools, code) in [
        (401, Authentication, true, Code::FailedPrecondition),
        (402, QuotaExhausted, true, Code::ResourceExhausted),
        (404, ModelUnavailable, true, Code::FailedPrecondition),
        (429, RateLimited, true, Code::ResourceExhausted),
        (504, Timeout, true, Code::DeadlineExceeded),
        (503, ServerError, true, Code::Unavailable),
        // Single ones come from healthy providers too.
        (500, ServerError, false, Code::Unavailable),
        (529, ServerError, false, Code::Unavailable),
    ] {
        let (upstream, scene) = first_does(rota, kind, Script::fail(status)).await;
        let attempt = second_serves(&scene, class).await;
        assert_eq!(attempt.http_status, i32::from(status));
        let reason = if cools { class } else { SERVED };
        assert_eq!(first_cools(&scene).await, reason, "{status}");
        scene.ask().await.unwrap();
        assert_eq!(scene.hits(&upstream), [if cools { 1 } else { 2 }, 2], "{status}");

        upstream.script(&scene.keys[1], Script::fail(status));
        let reason = format!("UPSTREAM_{}", class.as_str_name().trim_start_matches("ERROR_CLASS_"));
        failed(&scene, &scene.ask().await.unwrap_err(), code, &reason);
    }
}

async fn a_bad_request_ends_the_call(rota: &Rota, kind: &Kind) {
    let (upstream, scene) = first_does(rota, kind, Script::fail(400)).await;
    failed(&scene, &scene.ask().await.unwrap_err(), Code::InvalidArgument, "UPSTREAM_BAD_REQUEST");
    assert_eq!((scene.hits(&upstream), first_cools(&scene).await), (vec![1, 0], SERVED));
}

async fn an_answer_that_is_none_moves_on(rota: &Rota, kind: &Kind) {
    for (script, class) in [
        (Script::MalformedJson, ErrorClass::ServerError),
        (Script::NotTheProtocol, ErrorClass::ServerError),
        (Script::BreakAfter(0), ErrorClass::Connection),
        (Script::Close, ErrorClass::Connection),
    ] {
        let (_upstream, scene) = first_does(rota, kind, script).await;
        second_serves(&scene, class).await;
    }
}

async fn an_error_under_a_good_status_is_told_without_its_key(rota: &Rota, kind: &Kind) {
    let (upstream, scene) = first_does(rota, kind, Script::Answer).await;
    // Cohere's says in its text alone what it is.
    let error = |key: &str| {
        let mut error = (kind.limited)();
        error["message"] = format!("{}, {key}", error["message"].as_str().unwrap()).into();
        error
    };
    upstream.script(&scene.keys[0], Script::ErrorAfter(2, error(&scene.keys[0])));
    let (messages, end) = read(scene.open_stream().await.unwrap()).await;
    assert_eq!(content(&messages), "served by ");
    failed(&scene, &end.unwrap_err(), Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED");

    let (upstream, scene) = first_does(rota, kind, Script::Answer).await;
    upstream.script(&scene.keys[0], Script::ErrorAfter(0, error(&scene.keys[0])));
    second_serves(&scene, ErrorClass::RateLimited).await;
}

/// Long enough for a good answer on a busy machine.
const TIMEOUT: Option<prost_types::Duration> = Some(prost_types::Duration { seconds: 0, nanos: 500_000_000 });

async fn a_call_that_hangs_moves_on_when_its_time_is_over(rota: &Rota, kind: &Kind) {
    let policy = BalancingPolicy { attempt_timeout: TIMEOUT, ..BalancingPolicy::default() };
    for script in [Script::Hang, Script::StallAfter(0)] {
        let (upstream, scene) = first_does(rota, kind, script).await;
        set_policy(&scene, policy, &[]).await.unwrap();
        second_serves(&scene, ErrorClass::Timeout).await;
        assert_eq!(first_cools(&scene).await, ErrorClass::Timeout);
        upstream.script(&scene.keys[1], Script::Hang);
        let status = scene.ask().await.unwrap_err();
        failed(&scene, &status, Code::DeadlineExceeded, "UPSTREAM_TIMEOUT");
    }
}

async fn a_refused_connection_moves_on(rota: &Rota, kind: &Kind) {
    let (_upstream, mut scene) = first_does(rota, kind, Script::Answer).await;
    let nobody = format!("http://127.0.0.1:{}/v1", free_port());
    let first = LoadBalancingConfig { base_url: nobody, ..config("nobody", &scene.keys[0]) };
    let second = config("somebody", &scene.keys[1]);
    scene.put_configs(vec![first, second]).await;
    assert_eq!(second_serves(&scene, ErrorClass::Connection).await.http_status, 0);
    assert_eq!(first_cools(&scene).await, ErrorClass::Connection);
}

async fn a_stream_that_is_none_moves_on(rota: &Rota, kind: &Kind) {
    for script in [Script::NotTheProtocol, Script::MalformedJson, Script::fail(500), Script::fail(401)] {
        let what = format!("{script:?}");
        let (_upstream, scene) = first_does(rota, kind, script).await;
        let messages = stream(&scene, Vec::new()).await;
        assert_eq!(content(&messages), format!("served by {}", scene.keys[1]), "{what}");
        let attempts = messages[0].route.clone().unwrap().attempts;
        assert_eq!((attempts.len(), attempts[1].error_class()), (2, SERVED), "{what}");
        holds_no_key(&scene, &attempts);
    }
    // Without the last word, but with the reason of its end, it is complete.
    let (upstream, scene) = first_does(rota, kind, Script::WithoutDone).await;
    let messages = stream(&scene, Vec::new()).await;
    assert_eq!(content(&messages), format!("served by {}", scene.keys[0]));
    assert_eq!(scene.hits(&upstream), [1, 0]);
}

async fn a_stall_before_the_first_content_moves_on_and_one_after_it_ends_the_stream(
    rota: &Rota,
    kind: &Kind,
) {
    for script in [Script::Hang, Script::StallAfter(0)] {
        let (_upstream, scene) = first_does(rota, kind, script).await;
        let policy = BalancingPolicy { first_token_timeout: TIMEOUT, ..BalancingPolicy::default() };
        set_policy(&scene, policy, &[]).await.unwrap();
        let messages = stream(&scene, Vec::new()).await;
        assert_eq!(content(&messages), format!("served by {}", scene.keys[1]));
        let attempts = messages[0].route.clone().unwrap().attempts;
        assert_eq!(classes(&attempts), [ErrorClass::Timeout, SERVED]);
        assert_eq!(first_cools(&scene).await, ErrorClass::Timeout);
    }
    let (upstream, scene) = first_does(rota, kind, Script::StallAfter(2)).await;
    let policy = BalancingPolicy { stream_idle_timeout: TIMEOUT, ..BalancingPolicy::default() };
    set_policy(&scene, policy, &[]).await.unwrap();
    let (messages, end) = read(scene.open_stream().await.unwrap()).await;
    assert_eq!(content(&messages), "served by ");
    failed(&scene, &end.unwrap_err(), Code::DeadlineExceeded, "UPSTREAM_TIMEOUT");
    assert_eq!((first_cools(&scene).await, scene.hits(&upstream)), (ErrorClass::Timeout, vec![1, 0]));
}

async fn a_credential_is_tried(rota: &Rota, kind: &Kind) {
    let (_upstream, scene) = first_does(rota, kind, Script::fail(401)).await;
    for (key, class) in [(&scene.keys[0], ErrorClass::Authentication), (&scene.keys[1], SERVED)] {
        let provider = scene.provider.clone();
        let request =
            ValidateCredentialRequest { provider, fields: api_key_field(key), ..Default::default() };
        let tried = scene.clients.config.clone().validate_credential(request).await.unwrap().into_inner();
        assert_eq!((tried.valid, tried.error_class()), (class == SERVED, class));
        holds_no_key(&scene, &tried);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_as_people_copy_it_is_understood() {
    let upstream = Upstream::start().await.unwrap();
    for (kind, path) in [(kinds::ANTHROPIC, ""), (kinds::GEMINI, "/"), (kinds::COHERE, "/v2")] {
        let mut scene = Scene::tenant(Rota::shared().await).await;
        scene.add_model_of(&kind, &format!("{}{path}", upstream.origin())).await;
        scene.add_configs(2).await;
        scene.enable().await;
        scene.ask().await.unwrap_or_else(|status| panic!("{}: {status:?}", kind.name));
    }
}
