//! What is Gemini's own, over real HTTP: what goes out and comes back, tools, streams that fail, refusals of its kind,
//! embeddings, counts, and a credential that is tried.

use rota::{
    api::pb::{
        CountTokensRequest, ErrorClass, InvokeLlmRequest, InvokeTextEmbeddingRequest, Message, ModelType,
        StreamLlmRequest, Tool, ValidateCredentialRequest,
    },
    scripted::{Script, Upstream},
};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{
    failure::{classes, error, retry_after, told},
    kinds::GEMINI,
    listing::api_key_field,
    rota::Rota,
    world::{Scene, hi},
};

/// An error of Google's, as it stands under `error`.
fn google(code: u16, status: &str, details: Value) -> Value {
    json!({"code": code, "message": "no", "status": status, "details": details})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_and_a_stream_come_back_in_the_contracts_words() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(Rota::shared().await, &GEMINI, &upstream, 2).await;
    let (refused, served) = (&scene.keys[0], format!("served by {}", scene.keys[1]));
    // A wrong key, as Gemini calls it.
    let info = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]);
    let mut wrong = google(400, "INVALID_ARGUMENT", info);
    wrong["message"] = format!("API key not valid: {refused}").into();
    upstream.script(refused, Script::fail_with(400, &wrong));
    let system = Message { role: "system".into(), content: "be brief".into(), ..Message::default() };
    let request =
        InvokeLlmRequest { messages: vec![system, hi()], stop: vec!["END".into()], ..scene.request() };
    let reply = scene.send(request).await.unwrap();
    assert_eq!((reply.message.unwrap().content, reply.finish_reason), (served.clone(), "stop".into()));
    let usage = reply.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (10, 3, 13));
    assert_eq!((usage.cached_tokens, usage.reasoning_tokens), (2, 1));
    let attempts = reply.route.unwrap().attempts;
    assert_eq!(classes(&attempts), [ErrorClass::Authentication, ErrorClass::Unspecified]);
    assert_eq!(attempts[0].message, "API key not valid: [removed]");
    let sent = upstream.requests().remove(1);
    assert_eq!((sent.path.as_str(), sent.query.as_str()), ("/v1beta/models/chat:generateContent", ""));
    assert_eq!(
        sent.body,
        json!({
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            "systemInstruction": {"parts": [{"text": "be brief"}]},
            "generationConfig": {"stopSequences": ["END"]},
        })
    );

    let (mut text, mut finish, mut usage) = (String::new(), String::new(), None);
    for part in scene.ask_stream().await.unwrap() {
        text += &part.delta.map(|delta| delta.content).unwrap_or_default();
        finish += &part.finish_reason;
        usage = part.usage.or(usage);
    }
    let usage = usage.unwrap();
    assert_eq!((text, finish.as_str(), usage.total_tokens), (served, "stop", 13));
    let sent = upstream.requests().pop().unwrap();
    assert_eq!(
        (sent.path.as_str(), sent.query.as_str()),
        ("/v1beta/models/chat:streamGenerateContent", "alt=sse")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_is_called_and_its_result_goes_back() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(Rota::shared().await, &GEMINI, &upstream, 2).await;
    let tools = || vec![Tool { name: "weather".into(), ..Tool::default() }];
    let reply = scene.send(InvokeLlmRequest { tools: tools(), ..scene.request() }).await.unwrap();
    assert_eq!(reply.finish_reason, "tool_calls");
    let asked = reply.message.unwrap();
    let call = asked.tool_calls[0].clone();
    let function = call.function.unwrap();
    assert_eq!((function.name.as_str(), function.arguments.as_str()), ("weather", "{}"));

    let request = StreamLlmRequest {
        key: Some(scene.key.clone()),
        messages: vec![hi()],
        tools: tools(),
        ..StreamLlmRequest::default()
    };
    let mut stream = scene.clients.invoke.clone().stream_llm(request).await.unwrap().into_inner();
    let (mut calls, mut finish) = (Vec::new(), String::new());
    while let Some(part) = stream.message().await.unwrap() {
        calls.extend(part.delta.map(|delta| delta.tool_calls).unwrap_or_default());
        finish += &part.finish_reason;
    }
    assert_eq!((calls, finish.as_str()), (asked.tool_calls.clone(), "tool_calls"));

    let result = Message {
        role: "tool".into(),
        content: "sunny".into(),
        tool_call_id: call.id.clone(),
        ..Message::default()
    };
    let request = InvokeLlmRequest { messages: vec![hi(), asked, result], tools: tools(), ..scene.request() };
    let reply = scene.send(request).await.unwrap();
    assert!(reply.message.unwrap().content.starts_with("served by "));
    let sent = upstream.requests().pop().unwrap().body;
    assert_eq!(
        (&sent["contents"][1], &sent["contents"][2]),
        (
            &json!({"role": "model", "parts": [
                {"functionCall": {"id": call.id, "name": "weather", "args": {}}},
            ]}),
            &json!({"role": "user", "parts": [
                {"functionResponse": {"id": call.id, "name": "weather", "response": {"output": "sunny"}}},
            ]}),
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_stream_moves_on_until_the_first_content() {
    let upstream = Upstream::start().await.unwrap();
    let busy = || google(503, "UNAVAILABLE", json!([]));
    let scene = Scene::of_kind(Rota::shared().await, &GEMINI, &upstream, 2).await;
    for (script, class) in [
        (Script::ErrorAfter(0, busy()), ErrorClass::ServerError),
        (Script::EndAfter(0), ErrorClass::Connection),
        (Script::NotTheProtocol, ErrorClass::Connection),
    ] {
        let scene = Scene::of_kind(Rota::shared().await, &GEMINI, &upstream, 2).await;
        upstream.script(&scene.keys[0], script);
        let mut failed = Vec::new();
        while failed.is_empty() {
            let messages = scene.ask_stream().await.unwrap();
            let text: String =
                messages.iter().filter_map(|m| Some(m.delta.as_ref()?.content.as_str())).collect();
            assert_eq!(text, format!("served by {}", scene.keys[1]));
            let attempts = messages[0].route.clone().unwrap().attempts;
            failed.extend(attempts.into_iter().filter(|attempt| attempt.config_name == "config-0"));
        }
        assert_eq!(classes(&failed), [class]);
    }
    for key in &scene.keys {
        upstream.script(key, Script::ErrorAfter(1, busy()));
    }
    let mut stream = scene.open_stream().await.unwrap();
    let mut text = String::new();
    let status = loop {
        match stream.message().await {
            Ok(Some(message)) => text += &message.delta.map(|delta| delta.content).unwrap_or_default(),
            Ok(None) => panic!("ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (text.as_str(), told(&status)),
        ("served ", error(Code::Unavailable, "UPSTREAM_SERVER_ERROR"))
    );
    assert_eq!(scene.hits(&upstream).iter().sum::<u64>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_class_and_a_credential_can_be_tried() {
    let upstream = Upstream::start().await.unwrap();
    let quota = |id| {
        json!([
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": id}]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38.5s"},
        ])
    };
    let limit = |id| Script::fail_with(429, &google(429, "RESOURCE_EXHAUSTED", quota(id)));
    let located = json!({
        "code": 400, "status": "FAILED_PRECONDITION", "message": "User location is not supported for the API use.",
    });
    for (script, code, reason) in [
        (Script::fail(400), Code::InvalidArgument, "UPSTREAM_BAD_REQUEST"),
        (Script::fail_with(400, &located), Code::FailedPrecondition, "UPSTREAM_MODEL_UNAVAILABLE"),
        (Script::fail(401), Code::FailedPrecondition, "UPSTREAM_AUTHENTICATION"),
        (Script::fail(403), Code::FailedPrecondition, "UPSTREAM_MODEL_UNAVAILABLE"),
        (limit("GenerateRequestsPerMinutePerProject"), Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED"),
        (limit("GenerateRequestsPerDayPerProject"), Code::ResourceExhausted, "UPSTREAM_QUOTA_EXHAUSTED"),
        (Script::fail(500), Code::Unavailable, "UPSTREAM_SERVER_ERROR"),
        (Script::fail(503), Code::Unavailable, "UPSTREAM_SERVER_ERROR"),
    ] {
        let scene = Scene::of_kind(Rota::shared().await, &GEMINI, &upstream, 2).await;
        for key in &scene.keys {
            upstream.script(key, script.clone());
        }
        let status = scene.ask().await.unwrap_err();
        assert_eq!(told(&status), error(code, reason), "{script:?}");
        if reason == "UPSTREAM_RATE_LIMITED" {
            assert!((37.0..=38.5).contains(&retry_after(&status).as_secs_f64()), "{status:?}");
        }
    }
    let scene = Scene::of_kind(Rota::shared().await, &GEMINI, &upstream, 2).await;
    let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}});
    upstream.script(&scene.keys[0], Script::Fail { status: 200, retry_after: None, body: Some(blocked) });
    let mut refused = scene.ask().await;
    if refused.is_ok() {
        refused = scene.ask().await;
    }
    assert_eq!(told(&refused.unwrap_err()), error(Code::InvalidArgument, "UPSTREAM_CONTENT_FILTERED"));
    upstream.script("key-401", Script::fail(401));
    for (key, class) in [("key-good", ErrorClass::Unspecified), ("key-401", ErrorClass::Authentication)] {
        let provider = scene.provider.clone();
        let request =
            ValidateCredentialRequest { provider, fields: api_key_field(key), ..Default::default() };
        let tried = scene.clients.config.clone().validate_credential(request).await.unwrap().into_inner();
        assert_eq!((tried.valid, tried.error_class()), (class == ErrorClass::Unspecified, class));
    }
    let sent = upstream.requests().pop().unwrap();
    assert_eq!((sent.path.as_str(), sent.query.as_str()), ("/v1beta/models", "pageSize=1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_embedded_and_tokens_counted_by_gemini() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(Rota::shared().await, &GEMINI, &upstream, 2).await;
    let request = CountTokensRequest {
        key: Some(scene.key.clone()),
        messages: vec![hi()],
        tools: vec![Tool { name: "f".into(), ..Tool::default() }],
        ..CountTokensRequest::default()
    };
    let counted = scene.clients.invoke.clone().count_tokens(request).await.unwrap().into_inner();
    assert_eq!((counted.tokens, counted.estimated), (vec![10], false));
    let sent = upstream.requests().pop().unwrap();
    assert_eq!(sent.path, "/v1beta/models/chat:countTokens");
    assert_eq!(
        sent.body["generateContentRequest"],
        json!({
            "model": "models/chat",
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            "tools": [{"functionDeclarations": [{"name": "f"}]}],
        })
    );

    let mut scene = Scene::tenant(Rota::shared().await).await;
    scene.key.model_type = ModelType::TextEmbedding.into();
    scene.key.model = "models/embed".into();
    scene.add_model_of(&GEMINI, &GEMINI.base_url(&upstream)).await;
    scene.add_configs(2).await;
    scene.enable().await;
    let request = InvokeTextEmbeddingRequest {
        key: Some(scene.key.clone()),
        texts: (0..101).map(|i| "x".repeat(i % 3 + 1)).collect(),
        ..InvokeTextEmbeddingRequest::default()
    };
    let reply = scene.clients.invoke.invoke_text_embedding(request).await.unwrap().into_inner();
    // A batch holds 100: the last text is the first of another. The scripted upstream gives length, place and 1.
    assert_eq!(reply.embeddings.len(), 101);
    assert_eq!(reply.embeddings[99].values, [1.0, 99.0, 1.0]);
    assert_eq!(reply.embeddings[100].values, [2.0, 0.0, 1.0]);
    assert_eq!(reply.usage.unwrap().prompt_tokens, 101);
    let sent = upstream.requests().pop().unwrap();
    assert_eq!(sent.path, "/v1beta/models/embed:batchEmbedContents");
    assert_eq!(sent.body["requests"][0]["model"], "models/embed");
}
