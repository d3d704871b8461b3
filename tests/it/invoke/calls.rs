//! What a call is made of: what reaches the provider, what comes back, and what stays here.

use http::header::HeaderName;
use prost_types::{Struct, Value, value::Kind};
use rota::{
    api::pb::{
        CallOptions, EnableModelLoadBalancingRequest, GetDefaultModelRequest, InvokeLlmRequest,
        InvokeTextEmbeddingRequest, Message, Model, ModelKey, ModelType, PutModelRequest,
        SetDefaultModelRequest, StreamLlmRequest, Tool,
    },
    scripted::Upstream,
};
use serde_json::json;
use tonic::{Request, codec::CompressionEncoding};

use crate::support::{
    rota::Rota,
    world::{Scene, hi},
};

/// A Struct of numbers, texts and Structs.
fn fields<const N: usize>(fields: [(&str, Kind); N]) -> Struct {
    let fields = fields.map(|(name, kind)| (name.to_owned(), Value { kind: Some(kind) }));
    Struct { fields: fields.into() }
}

fn text(text: &str) -> Kind {
    Kind::StringValue(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_and_parameters_reach_the_provider_as_they_are() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let schema = fields([("type", text("object")), ("minProperties", Kind::NumberValue(1.0))]);
    let request = InvokeLlmRequest {
        messages: vec![
            Message { role: "system".into(), content: "be brief".into(), ..Message::default() },
            hi(),
        ],
        parameters: Some(fields([
            ("max_tokens", Kind::NumberValue(100.0)),
            ("seed", Kind::NumberValue(-7.0)),
            ("temperature", Kind::NumberValue(0.25)),
            ("response_format", Kind::StructValue(fields([("type", text("json_object"))]))),
        ])),
        tools: vec![Tool {
            name: "weather".into(),
            description: "The weather".into(),
            parameters: Some(schema),
            ..Tool::default()
        }],
        stop: vec!["END".into()],
        options: Some(CallOptions { user: "user-7".into(), ..CallOptions::default() }),
        ..scene.request()
    };
    let reply = scene.send(request).await.unwrap();
    assert_eq!(reply.finish_reason, "tool_calls");
    let call = reply.message.unwrap().tool_calls.remove(0);
    let function = call.function.unwrap();
    assert_eq!((call.id, call.r#type, function.name), ("call_1".into(), "function".into(), "weather".into()));
    let usage = reply.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens), (10, 3, 13));
    assert_eq!((usage.cached_tokens, usage.reasoning_tokens), (2, 1));

    let sent = upstream.requests().remove(0);
    assert_eq!(sent.path, "/v1/chat/completions");
    // serde_json tells 100 from 100.0.
    assert_eq!(
        sent.body,
        json!({
            "model": "chat",
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
            "stream": false,
            "max_tokens": 100,
            "seed": -7,
            "temperature": 0.25,
            "response_format": {"type": "json_object"},
            "tools": [{"type": "function", "function": {
                "name": "weather",
                "description": "The weather",
                "parameters": {"type": "object", "minProperties": 1},
            }}],
            "stop": ["END"],
            "user": "user-7",
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_callers_metadata_goes_upstream() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let metadata = [
        ("x-callers-note", "between-us"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("cookie", "session=between-us"),
        ("x-api-key", "between-us"),
        ("openai-organization", "between-us"),
        ("x-forwarded-for", "203.0.113.9"),
    ];
    let mut unary = Request::new(scene.request());
    let mut streamed = Request::new(StreamLlmRequest {
        key: Some(scene.key.clone()),
        messages: vec![hi()],
        ..StreamLlmRequest::default()
    });
    for (name, value) in metadata {
        unary.metadata_mut().insert(name, value.parse().unwrap());
        streamed.metadata_mut().insert(name, value.parse().unwrap());
    }
    let mut invoke = scene.clients.invoke.clone();
    invoke.invoke_llm(unary).await.unwrap();
    let mut stream = invoke.stream_llm(streamed).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}

    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        let mut names: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let ours = [
            "accept",
            "accept-encoding",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "user-agent",
        ];
        assert!(names.iter().all(|name| ours.contains(name)), "{names:?}");
        assert_eq!(request.headers["authorization"], format!("Bearer {}", request.key));
        let all = format!("{:?}{}", request.headers, request.body);
        for secret in
            [scene.token.as_str(), scene.tenant.as_str(), "between-us", "203.0.113.9", "0af7651916cd"]
        {
            assert!(!all.contains(secret), "{secret} in {all}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_are_balanced_and_come_in_the_order_of_the_texts() {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(Rota::shared().await).await;
    scene.key.model_type = ModelType::TextEmbedding.into();
    scene.key.model = "embed".into();
    scene.add_model(&upstream.base_url()).await;
    scene.add_configs(3).await;
    scene.enable().await;
    let request = InvokeTextEmbeddingRequest {
        key: Some(ModelKey { model_type: ModelType::Unspecified.into(), ..scene.key.clone() }),
        texts: vec!["one".into(), "three".into(), "a".into()],
        ..InvokeTextEmbeddingRequest::default()
    };
    for _ in 0..9 {
        let response = scene.clients.invoke.invoke_text_embedding(request.clone()).await.unwrap();
        let reply = response.into_inner();
        // The scripted upstream gives length, place and 1.
        let values: Vec<_> = reply.embeddings.into_iter().map(|embedding| embedding.values).collect();
        assert_eq!(values, [[3.0, 0.0, 1.0], [5.0, 1.0, 1.0], [1.0, 2.0, 1.0]]);
        assert_eq!(reply.route.unwrap().attempts.len(), 1);
        assert_eq!(reply.usage.unwrap().prompt_tokens, 3);
    }
    assert_eq!(scene.hits(&upstream), [3, 3, 3]);
    let sent = upstream.requests().remove(0);
    assert_eq!((sent.path.as_str(), &sent.body["model"]), ("/v1/embeddings", &json!("embed")));
    assert_eq!(sent.body["input"], json!(["one", "three", "a"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_name_the_default_model_is_called() {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let other = ModelKey { model: "other".into(), ..scene.key.clone() };
    let put = Model { key: Some(other.clone()), upstream_model: "other-v2".into(), ..Model::default() };
    scene.clients.config.put_model(PutModelRequest { model: Some(put) }).await.unwrap();
    scene.add_credential("active", &format!("active-{}", scene.tenant)).await;
    let unnamed = InvokeLlmRequest { key: None, ..scene.request() };

    // None is set: the first active one.
    let route = scene.send(unnamed.clone()).await.unwrap().route.unwrap();
    assert_eq!((route.provider.as_str(), route.model.as_str()), ("upstream", "chat"));

    let request = SetDefaultModelRequest { key: Some(other.clone()) };
    scene.clients.config.set_default_model(request).await.unwrap();
    let route = scene.send(unnamed).await.unwrap().route.unwrap();
    assert_eq!((route.model.as_str(), route.upstream_model.as_str()), ("other", "other-v2"));
    let request = GetDefaultModelRequest { tenant_id: String::new(), model_type: ModelType::Llm.into() };
    let default = scene.clients.config.get_default_model(request).await.unwrap().into_inner();
    assert_eq!((default.key, default.computed), (Some(other), false));
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_requests_are_understood() {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(Rota::shared().await, &upstream, 2).await;
    let long = "hello ".repeat(10_000);
    let message = Message { content: long.clone(), ..hi() };
    let request = InvokeLlmRequest { messages: vec![message], ..scene.request() };
    let mut invoke = scene.clients.invoke.clone().send_compressed(CompressionEncoding::Gzip);
    invoke.invoke_llm(request).await.unwrap();
    assert_eq!(upstream.requests()[0].body["messages"][0]["content"], json!(long));

    let mut config = scene.clients.config.clone().send_compressed(CompressionEncoding::Gzip);
    let request = EnableModelLoadBalancingRequest { key: Some(scene.key.clone()) };
    config.enable_model_load_balancing(request).await.unwrap();
}
