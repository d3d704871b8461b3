//! What is Cohere's own, over real HTTP: what goes out, a plan before a tool is called, embeddings, an order, and refusals
//! of its kind. The rest is in `drivers`.

use rota::{
    api::pb::{
        InvokeLlmRequest, InvokeRerankRequest, InvokeTextEmbeddingRequest, Message, ModelKey, ModelType,
        StreamLlmRequest, Tool, ValidateCredentialRequest,
    },
    scripted::{Script, Upstream},
};
use serde_json::json;
use tonic::Code;

use crate::support::{
    failure::{error, told},
    kinds::COHERE,
    listing::api_key_field,
    read,
    rota::Rota,
    world::{Scene, hi},
};

#[tokio::test(flavor = "multi_thread")]
async fn openais_parameters_go_out_by_coheres_names() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(Rota::shared().await, &COHERE, &upstream, 2).await;
    let system = Message { role: "system".into(), content: "be brief".into(), ..Message::default() };
    let number = |value: f64| prost_types::Value::from(value);
    let fields = [("top_p", number(0.5)), ("max_completion_tokens", number(9.0))];
    let fields = fields.map(|(name, value)| (name.to_owned(), value)).into();
    let request = InvokeLlmRequest {
        messages: vec![system, hi()],
        stop: vec!["END".into()],
        parameters: Some(prost_types::Struct { fields }),
        ..scene.request()
    };
    scene.send(request).await.unwrap();
    let sent = upstream.requests().remove(0);
    assert_eq!(sent.path, "/v2/chat");
    let expected = json!({
        "model": "chat", "stream": false, "p": 0.5, "max_tokens": 9, "stop_sequences": ["END"],
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
    });
    assert_eq!(sent.body, expected);
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

    upstream.script(&scene.keys[0], Script::ErrorAfter(1, (COHERE.limited)()));
    let request = StreamLlmRequest {
        key: Some(scene.key.clone()),
        messages: vec![hi()],
        tools: tools(),
        ..Default::default()
    };
    let stream = scene.clients.invoke.clone().stream_llm(request).await.unwrap().into_inner();
    // The plan is content: nobody else is asked after it.
    let (messages, end) = read(stream).await;
    assert_eq!(messages[0].delta.as_ref().unwrap().reasoning_content, "I will call weather.");
    assert_eq!(told(&end.unwrap_err()), error(Code::ResourceExhausted, "UPSTREAM_RATE_LIMITED"));
    assert_eq!(scene.hits(&upstream), [2, 1]);
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
async fn its_own_refusals_have_a_class_and_a_credential_is_tried_by_a_model() {
    let upstream = Upstream::start().await.unwrap();
    let month = "You are using a Trial key, which is limited to 1000 API calls / month.";
    let month = Script::Fail { status: 429, retry_after: None, body: Some(json!({ "message": month })) };
    for (script, code, reason) in [
        (Script::fail(402), Code::ResourceExhausted, "UPSTREAM_QUOTA_EXHAUSTED"),
        (Script::fail(422), Code::InvalidArgument, "UPSTREAM_BAD_REQUEST"),
        (month, Code::ResourceExhausted, "UPSTREAM_QUOTA_EXHAUSTED"),
        (Script::fail(498), Code::InvalidArgument, "UPSTREAM_CONTENT_FILTERED"),
        (Script::fail(499), Code::Unavailable, "UPSTREAM_SERVER_ERROR"),
        (Script::fail(501), Code::Unavailable, "UPSTREAM_SERVER_ERROR"),
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
    let provider = scene.provider.clone();
    let request = ValidateCredentialRequest { provider, fields: api_key_field("key"), ..Default::default() };
    let tried = scene.clients.config.clone().validate_credential(request).await.unwrap().into_inner();
    assert!(tried.valid);
    let asked = upstream.requests().pop().unwrap();
    assert_eq!((asked.path.as_str(), asked.query.as_str()), ("/v1/models", "page_size=1"));
}
