//! Anthropic's Messages API over real HTTP: unary, streamed, with a tool, and failing over.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use parking_lot::Mutex;
use rota::api::pb::{
    CreateProviderRequest, ErrorClass, InvokeLlmRequest, Message, Model, Provider, PutModelRequest,
    StreamLlmRequest, Tool, ValidateCredentialRequest,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::Code;

use crate::support::{
    failure::{classes, error, told},
    listing::api_key_field,
    rota::Rota,
    world::{Scene, hi},
};

/// What came in: the key and the body.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// Answers as the API reference shows it. A key that names a status gets that one.
async fn vendor() -> (String, Seen) {
    let seen = Seen::default();
    let router = Router::new()
        .route("/v1/messages", post(messages))
        .route("/v1/models", get(async |headers: HeaderMap| refusal(&key(&headers)).unwrap_or_else(models)))
        .with_state(seen.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}/v1"), seen)
}

fn models() -> Response {
    Json(json!({"data": [{"type": "model", "id": "claude-x"}], "has_more": false})).into_response()
}

fn key(headers: &HeaderMap) -> String {
    assert_eq!(headers["anthropic-version"], "2023-06-01");
    headers["x-api-key"].to_str().unwrap().to_owned()
}

fn refusal(key: &str) -> Option<Response> {
    let (status, kind) = [
        (429, "rate_limit_error"),
        (401, "authentication_error"),
        (400, "invalid_request_error"),
        (529, "overloaded_error"),
    ]
    .into_iter()
    .find(|(status, _)| key.contains(&format!("key-{status}")))?;
    let body = json!({"type": "error", "error": {"type": kind, "message": format!("no, {key}")}});
    Some((StatusCode::from_u16(status).unwrap(), [("retry-after", "60")], Json(body)).into_response())
}

async fn messages(State(seen): State<Seen>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let key = key(&headers);
    seen.lock().push((key.clone(), body.clone()));
    if let Some(refusal) = refusal(&key) {
        return refusal;
    }
    if body["stream"] == true {
        let events = [
            json!({"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "ping"}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
            json!({"type": "message_stop"}),
        ];
        let text: String = events
            .iter()
            .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()))
            .collect();
        return ([("content-type", "text/event-stream")], text).into_response();
    }
    let (content, stop_reason) = match body["tools"].get(0) {
        Some(tool) => {
            (json!({"type": "tool_use", "id": "t1", "name": tool["name"], "input": {"a": 1}}), "tool_use")
        }
        None => (json!({"type": "text", "text": "Hello"}), "end_turn"),
    };
    let usage = json!({"input_tokens": 3, "output_tokens": 2});
    let answer = json!({"type": "message", "role": "assistant", "model": "claude-x", "content": [content],
        "stop_reason": stop_reason, "usage": usage});
    Json(answer).into_response()
}

/// A balanced model with two configs of those keys.
async fn scene(base_url: &str, keys: [&str; 2]) -> Scene {
    let mut scene = Scene::tenant(Rota::shared().await).await;
    let provider = Provider {
        name: scene.provider.clone(),
        kind: "anthropic".into(),
        base_url: base_url.to_owned(),
        ..Provider::default()
    };
    let request = CreateProviderRequest { provider: Some(provider) };
    scene.clients.config.create_provider(request).await.unwrap();
    let model = Model { key: Some(scene.key.clone()), upstream_model: "claude-x".into(), ..Model::default() };
    scene.clients.config.put_model(PutModelRequest { model: Some(model) }).await.unwrap();
    scene.put_configs(keys.map(|key| crate::support::world::config(key, key)).into()).await;
    scene.enable().await;
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_a_tool_and_a_stream_come_back_in_the_contracts_words() {
    let (base_url, seen) = vendor().await;
    let scene = scene(&base_url, ["key-429-a", "key-good-b"]).await;
    let system = Message { role: "system".into(), content: "be brief".into(), ..Message::default() };
    let request = InvokeLlmRequest { messages: vec![system, hi()], ..scene.request() };
    let reply = scene.send(request).await.unwrap();
    assert_eq!(reply.message.unwrap().content, "Hello");
    assert_eq!((reply.finish_reason.as_str(), reply.usage.unwrap().total_tokens), ("stop", 5));
    let attempts = reply.route.unwrap().attempts;
    assert_eq!(classes(&attempts), [ErrorClass::RateLimited, ErrorClass::Unspecified]);
    assert!(!attempts[0].message.contains("key-429-a"), "{}", attempts[0].message);
    let sent = seen.lock()[1].1.clone();
    assert_eq!(
        (&sent["model"], &sent["system"], &sent["max_tokens"]),
        (&json!("claude-x"), &json!("be brief"), &json!(4096))
    );
    assert_eq!(sent["messages"].as_array().unwrap().len(), 1);

    let tool = Tool { name: "weather".into(), ..Tool::default() };
    let reply = scene.send(InvokeLlmRequest { tools: vec![tool], ..scene.request() }).await.unwrap();
    assert_eq!(reply.finish_reason, "tool_calls");
    let function = reply.message.unwrap().tool_calls.remove(0).function.unwrap();
    assert_eq!((function.name.as_str(), function.arguments.as_str()), ("weather", r#"{"a":1}"#));

    let request =
        StreamLlmRequest { key: Some(scene.key.clone()), messages: vec![hi()], ..Default::default() };
    let mut stream = scene.clients.invoke.clone().stream_llm(request).await.unwrap().into_inner();
    let (mut text, mut finish, mut tokens) = (String::new(), String::new(), 0);
    while let Some(part) = stream.message().await.unwrap() {
        text += &part.delta.map(|delta| delta.content).unwrap_or_default();
        finish += &part.finish_reason;
        tokens = part.usage.map_or(tokens, |usage| usage.total_tokens);
    }
    assert_eq!((text.as_str(), finish.as_str(), tokens), ("Hello", "stop", 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_class_and_a_credential_can_be_tried() {
    let (base_url, _) = vendor().await;
    for (keys, code, reason) in [
        (["key-401-a", "key-401-b"], Code::FailedPrecondition, "UPSTREAM_AUTHENTICATION"),
        (["key-400-a", "key-400-b"], Code::InvalidArgument, "UPSTREAM_BAD_REQUEST"),
        (["key-529-a", "key-529-b"], Code::Unavailable, "UPSTREAM_SERVER_ERROR"),
    ] {
        let scene = scene(&base_url, keys).await;
        assert_eq!(told(&scene.ask().await.unwrap_err()), error(code, reason));
    }
    let scene = scene(&base_url, ["key-a", "key-b"]).await;
    for (key, class) in [("key-good", ErrorClass::Unspecified), ("key-401", ErrorClass::Authentication)] {
        let provider = scene.provider.clone();
        let request =
            ValidateCredentialRequest { provider, fields: api_key_field(key), ..Default::default() };
        let tried = scene.clients.config.clone().validate_credential(request).await.unwrap().into_inner();
        assert_eq!((tried.valid, tried.error_class()), (class == ErrorClass::Unspecified, class));
    }
}
