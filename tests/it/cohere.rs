//! What is Cohere's own, over real HTTP: what goes out, how its answers come back, and refusals of its kind.

use rota::{
    api::pb::{
        ErrorClass, InvokeLlmRequest, InvokeRerankRequest, InvokeTextEmbeddingRequest, Message, ModelKey,
        ModelType, StreamLlmRequest, StreamLlmResponse, Tool, ValidateCredentialRequest,
    },
    scripted::{Script, Upstream},
};
use serde_json::json;
use tonic::Code;

use crate::support::{
    failure::{classes, error, told},
    kinds::COHERE,
    listing::api_key_field,
    rota::Rota,
    world::{Scene, hi},
};

/// What the pieces of a stream say together: text, reasoning, name and arguments of a tool, finish reason, tokens.
fn together(parts: Vec<StreamLlmResponse>) -> (String, String, [String; 2], String, u32) {
    let (mut text, mut reasoning, mut finish) = (String::new(), String::new(), String::new());
    let ([mut name, mut arguments], mut tokens) = <([String; 2], u32)>::default();
    for part in parts {
        let delta = part.delta.unwrap_or_default();
        text += &delta.content;
        reasoning += &delta.reasoning_content;
        for function in delta.tool_calls.into_iter().filter_map(|call| call.function) {
            name += &function.name;
            arguments += &function.arguments;
        }
        finish += &part.finish_reason;
        tokens = part.usage.map_or(tokens, |usage| usage.total_tokens);
    }
    (text, reasoning, [name, arguments], finish, tokens)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_and_a_stream_come_back_in_the_contracts_words() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(Rota::shared().await, &COHERE, &upstream, 2).await;
    let (refused, served) = (&scene.keys[0], format!("served by {}", scene.keys[1]));
    upstream.script(refused, Script::fail_for(401, "60"));
    let system = Message { role: "system".into(), content: "be brief".into(), ..Message::default() };
    let parameters = Some(prost_types::Struct {
        fields: [("top_p".to_owned(), prost_types::Value::from(0.5))].into_iter().collect(),
    });
    let request = InvokeLlmRequest {
        messages: vec![system, hi()],
        stop: vec!["END".into()],
        parameters,
        ..scene.request()
    };
    let reply = scene.send(request).await.unwrap();
    assert_eq!(reply.message.unwrap().content, served);
    let usage = reply.usage.unwrap();
    assert_eq!(
        (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.cached_tokens),
        (10, 3, 13, 2)
    );
    assert_eq!(reply.finish_reason, "stop");
    let attempts = reply.route.unwrap().attempts;
    assert_eq!(classes(&attempts), [ErrorClass::Authentication, ErrorClass::Unspecified]);
    assert!(!attempts[0].message.contains(refused), "{}", attempts[0].message);
    let sent = upstream.requests().remove(1);
    assert_eq!(sent.path, "/v2/chat");
    let expected = json!({
        "model": "chat", "stream": false, "p": 0.5, "stop_sequences": ["END"],
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
    });
    assert_eq!(sent.body, expected);

    let (text, _, _, finish, tokens) = together(scene.ask_stream().await.unwrap());
    assert_eq!((text, finish.as_str(), tokens), (served, "stop", 13));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_is_called_with_its_plan() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(Rota::shared().await, &COHERE, &upstream, 2).await;
    let tools = || vec![Tool { name: "weather".into(), ..Tool::default() }];
    let reply = scene.send(InvokeLlmRequest { tools: tools(), ..scene.request() }).await.unwrap();
    assert_eq!(reply.finish_reason, "tool_calls");
    let asked = reply.message.unwrap();
    let call = asked.tool_calls[0].clone();
    let function = call.function.clone().unwrap();
    assert_eq!((call.id.as_str(), function.name.as_str()), ("call_1", "weather"));
    assert_eq!(
        (function.arguments.as_str(), asked.reasoning_content.as_str()),
        ("{}", "I will call weather.")
    );

    let result =
        Message { role: "tool".into(), content: "sunny".into(), tool_call_id: call.id, ..Message::default() };
    let request = InvokeLlmRequest { messages: vec![hi(), asked, result], tools: tools(), ..scene.request() };
    let reply = scene.send(request).await.unwrap();
    assert_eq!(reply.message.unwrap().content, format!("served by {}", scene.keys[1]));
    let written =
        json!({"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}});
    let expected = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_plan": "I will call weather.", "tool_calls": [written]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]);
    assert_eq!(upstream.requests().remove(1).body["messages"], expected);

    let request = StreamLlmRequest {
        key: Some(scene.key.clone()),
        messages: vec![hi()],
        tools: tools(),
        ..Default::default()
    };
    let mut stream = scene.clients.invoke.clone().stream_llm(request).await.unwrap().into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        parts.push(part);
    }
    let (_, reasoning, call, finish, _) = together(parts);
    assert_eq!(
        (reasoning.as_str(), call.each_ref().map(String::as_str), finish.as_str()),
        ("I will call weather.", ["weather", "{}"], "tool_calls")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_the_stream_moves_on_before_the_first_content_and_ends_it_after() {
    let upstream = Upstream::start().await.unwrap();
    let error_after = |chunks| Script::ErrorAfter(chunks, json!("trial token rate limit exceeded"));
    let scene = Scene::of_kind(Rota::shared().await, &COHERE, &upstream, 2).await;
    upstream.script(&scene.keys[0], error_after(0));
    let (text, _, _, finish, _) = together(scene.ask_stream().await.unwrap());
    assert_eq!((text, finish.as_str()), (format!("served by {}", scene.keys[1]), "stop"));
    assert_eq!(scene.hits(&upstream), [1, 1]);

    for (script, code, reason) in [
        (error_after(1), Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED"),
        (Script::EndAfter(1), Code::Unavailable, "UPSTREAM_CONNECTION"),
    ] {
        let scene = Scene::of_kind(Rota::shared().await, &COHERE, &upstream, 2).await;
        for key in &scene.keys {
            upstream.script(key, script.clone());
        }
        let mut stream = scene.open_stream().await.unwrap();
        assert_eq!(stream.message().await.unwrap().unwrap().delta.unwrap().content, "served ");
        assert_eq!(told(&stream.message().await.unwrap_err()), error(code, reason));
        assert_eq!(scene.hits(&upstream).iter().sum::<u64>(), 1);
    }
}

/// A balanced model of that type with two configs.
async fn scene_of(upstream: &Upstream, model_type: ModelType) -> Scene {
    let mut scene = Scene::tenant(Rota::shared().await).await;
    scene.key = ModelKey { model_type: model_type.into(), ..scene.key.clone() };
    scene.add_model_of(&COHERE, &COHERE.base_url(upstream)).await;
    scene.add_configs(2).await;
    scene.enable().await;
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_embedded_as_many_at_once_as_cohere_takes() {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene_of(&upstream, ModelType::TextEmbedding).await;
    let request = InvokeTextEmbeddingRequest {
        key: Some(scene.key.clone()),
        texts: (0..100).map(|length| "x".repeat(length + 1)).collect(),
        input_type: "query".into(),
        dimensions: 256,
        ..Default::default()
    };
    let reply = scene.clients.invoke.clone().invoke_text_embedding(request).await.unwrap().into_inner();
    let lengths: Vec<_> = reply.embeddings.iter().map(|embedding| embedding.values[0] as usize).collect();
    assert_eq!(lengths, (1..=100).collect::<Vec<_>>());
    assert_eq!(reply.usage.unwrap().prompt_tokens, 100);
    let mut requests = upstream.requests();
    let mut counts: Vec<_> =
        requests.iter().map(|request| request.body["texts"].as_array().unwrap().len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [4, 96]);
    let mut sent = requests.remove(0);
    sent.body["texts"].take();
    let expected = json!({
        "model": "chat", "texts": null, "input_type": "search_query", "embedding_types": ["float"],
        "output_dimension": 256,
    });
    assert_eq!((sent.path.as_str(), sent.body), ("/v2/embed", expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_put_in_order() {
    let upstream = Upstream::start().await.unwrap();
    let scene = scene_of(&upstream, ModelType::Rerank).await;
    let documents: Vec<_> = ["aa", "aaaaaa", "a", "aaaa"].map(ToOwned::to_owned).into();
    let request = InvokeRerankRequest {
        key: Some(scene.key.clone()),
        query: "a".into(),
        documents: documents.clone(),
        top_n: 3,
        ..Default::default()
    };
    let reply = scene.clients.invoke.clone().invoke_rerank(request).await.unwrap().into_inner();
    assert_eq!(reply.results.iter().map(|result| result.index).collect::<Vec<_>>(), [1, 3, 0]);
    assert_eq!((reply.results[0].score, reply.usage.unwrap().total_tokens), (0.06, 0));
    let sent = upstream.requests().remove(0);
    assert_eq!(sent.path, "/v2/rerank");
    assert_eq!(sent.body, json!({"model": "chat", "query": "a", "documents": documents, "top_n": 3}));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_class_and_a_credential_can_be_tried() {
    let upstream = Upstream::start().await.unwrap();
    let month = "You are using a Trial key, which is limited to 1000 API calls / month.";
    let month = Script::Fail { status: 429, retry_after: None, body: Some(json!({ "message": month })) };
    for (script, code, reason) in [
        (Script::fail(400), Code::InvalidArgument, "UPSTREAM_BAD_REQUEST"),
        (Script::fail(401), Code::FailedPrecondition, "UPSTREAM_AUTHENTICATION"),
        (Script::fail(402), Code::ResourceExhausted, "UPSTREAM_QUOTA_EXHAUSTED"),
        (Script::fail(404), Code::FailedPrecondition, "UPSTREAM_MODEL_UNAVAILABLE"),
        (Script::fail(422), Code::InvalidArgument, "UPSTREAM_BAD_REQUEST"),
        (Script::fail(429), Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED"),
        (month, Code::ResourceExhausted, "UPSTREAM_QUOTA_EXHAUSTED"),
        (Script::fail(498), Code::InvalidArgument, "UPSTREAM_CONTENT_FILTERED"),
        (Script::fail(499), Code::Unavailable, "UPSTREAM_SERVER_ERROR"),
        (Script::fail(501), Code::Unavailable, "UPSTREAM_SERVER_ERROR"),
        (Script::fail(503), Code::Unavailable, "UPSTREAM_SERVER_ERROR"),
        (Script::fail(504), Code::DeadlineExceeded, "UPSTREAM_TIMEOUT"),
    ] {
        let scene = Scene::of_kind(Rota::shared().await, &COHERE, &upstream, 2).await;
        for key in &scene.keys {
            upstream.script(key, script.clone());
        }
        let status = scene.ask().await.unwrap_err();
        assert_eq!(told(&status), error(code, reason), "{script:?}");
        assert!(!scene.keys.iter().any(|key| format!("{status:?}").contains(key)), "{status:?}");
    }
    let scene = Scene::of_kind(Rota::shared().await, &COHERE, &upstream, 2).await;
    upstream.script("key-401", Script::fail(401));
    for (key, class) in [("key-good", ErrorClass::Unspecified), ("key-401", ErrorClass::Authentication)] {
        let provider = scene.provider.clone();
        let request =
            ValidateCredentialRequest { provider, fields: api_key_field(key), ..Default::default() };
        let tried = scene.clients.config.clone().validate_credential(request).await.unwrap().into_inner();
        assert_eq!((tried.valid, tried.error_class()), (class == ErrorClass::Unspecified, class));
    }
    let tried = upstream.requests().pop().unwrap();
    assert_eq!((tried.path.as_str(), tried.query.as_str()), ("/v1/models", "page_size=1"));
}
