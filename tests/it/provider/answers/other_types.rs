//! Rerank, moderation and embeddings, in the shapes of servers that differ from the page.

use base64::{Engine, prelude::BASE64_STANDARD};
use rota::{
    api::pb::{
        InvokeModerationRequest, InvokeRerankRequest, InvokeSpeechToTextRequest, InvokeTextEmbeddingRequest,
        InvokeTtsRequest, Media, ModelType, Part, TokenArray, media::Source, part::Kind as PartKind,
    },
    scripted::{Raw, Script, Upstream},
};
use serde_json::{Value, json};
use tonic::Status;

use crate::support::{
    kinds::{COHERE, GEMINI, Kind, OPENAI, OPENAI_COMPATIBLE},
    rota::Rota,
    world::Scene,
};

/// A model of that type with two configs that both answer so.
async fn scene(kind: &Kind, model_type: ModelType, body: &Value) -> (Scene, Upstream) {
    let upstream = Upstream::start().await.unwrap();
    let mut scene = Scene::tenant(Rota::shared().await).await;
    scene.key.model_type = model_type.into();
    scene.add_model_of(kind, &kind.base_url(&upstream)).await;
    scene.add_configs(2).await;
    scene.enable().await;
    for key in &scene.keys {
        upstream.script(key, Script::Raw(Raw::json(body)));
    }
    (scene, upstream)
}

/// The places of three documents, the best first, each with its score.
async fn order(kind: &Kind, body: Value) -> Result<Vec<(i32, f64)>, Status> {
    let (scene, _upstream) = scene(kind, ModelType::Rerank, &body).await;
    let request = InvokeRerankRequest {
        key: Some(scene.key.clone()),
        query: "q".into(),
        documents: ["a", "b", "c"].map(Into::into).into(),
        ..Default::default()
    };
    let reply = scene.clients.invoke.clone().invoke_rerank(request).await?.into_inner();
    Ok(reply.results.into_iter().map(|result| (result.index, result.score)).collect())
}

// Cohere (<https://docs.cohere.com/reference/rerank>), Jina (<https://jina.ai/reranker/>), Voyage
// (<https://docs.voyageai.com/reference/reranker-api>), Hugging Face
// (<https://huggingface.github.io/text-embeddings-inference/>).
#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_documents_is_read_in_every_shape() {
    let places = json!([{"index": 0, "relevance_score": 0.25}, {"index": 2, "relevance_score": 0.75}]);
    for body in [
        json!({"results": places, "usage": {"total_tokens": 3}}),
        json!({"object": "list", "data": places, "model": "m"}),
        json!([{"index": 0, "score": 0.25}, {"index": 2, "score": 0.75}]),
        json!({"results": [{"index": "0", "relevance_score": "0.25"}, {"index": 2.0, "score": 0.75, "document": null}]}),
    ] {
        assert_eq!(order(&OPENAI_COMPATIBLE, body.clone()).await.unwrap(), [(2, 0.75), (0, 0.25)], "{body}");
    }
    assert_eq!(order(&COHERE, json!({ "results": places })).await.unwrap(), [(2, 0.75), (0, 0.25)]);
    // A place that there is not, or one twice, is none.
    for wrong in
        [json!([{"index": 3, "score": 1}]), json!([{"index": 0, "score": 1}, {"index": 0, "score": 2}])]
    {
        assert!(order(&OPENAI_COMPATIBLE, json!({ "results": wrong })).await.is_err(), "{wrong}");
    }
}

// Mistral says no `flagged` (<https://docs.mistral.ai/capabilities/guardrailing>).
#[tokio::test(flavor = "multi_thread")]
async fn a_judgement_without_a_word_of_its_own_is_made_of_its_categories() {
    let judged = |violence: bool| json!({"categories": {"violence": violence, "illicit": null}, "category_scores": {"violence": "0.5"}});
    for (results, flagged) in [
        (json!([judged(true)]), vec![true]),
        (json!([judged(false)]), vec![false]),
        (json!([judged(false), judged(true)]), vec![false, true]),
    ] {
        let (scene, upstream) =
            scene(&OPENAI_COMPATIBLE, ModelType::Moderation, &json!({ "results": results })).await;
        let request = InvokeModerationRequest {
            key: Some(scene.key.clone()),
            texts: flagged.iter().map(|_| "text".to_owned()).collect(),
            ..Default::default()
        };
        let reply = scene.clients.invoke.clone().invoke_moderation(request).await.unwrap().into_inner();
        let seen: Vec<bool> = reply.results.iter().map(|result| result.flagged).collect();
        assert_eq!((seen, reply.flagged), (flagged.clone(), flagged.contains(&true)), "{results}");
        let violence = reply.categories.iter().find(|category| category.name == "violence").unwrap();
        assert_eq!((violence.flagged, violence.score), (flagged[0], 0.5));
        assert_eq!(upstream.requests()[0].body["input"].is_array(), flagged.len() > 1);
    }
}

/// The vectors of so many texts.
async fn embed(kind: &Kind, body: Value, count: usize, encoding: &str) -> Result<Vec<Vec<f32>>, Status> {
    let (scene, _upstream) = scene(kind, ModelType::TextEmbedding, &body).await;
    let request = InvokeTextEmbeddingRequest {
        key: Some(scene.key.clone()),
        texts: vec!["text".into(); count],
        encoding: encoding.into(),
        ..Default::default()
    };
    let reply = scene.clients.invoke.clone().invoke_text_embedding(request).await?.into_inner();
    Ok(reply.embeddings.into_iter().map(|embedding| embedding.values).collect())
}

// <https://platform.openai.com/docs/api-reference/embeddings/create>: base64 is 32-bit floats, the lowest byte first.
// Voyage and Mistral's int8 and binary (<https://docs.voyageai.com/docs/flexible-dimensions-and-quantization>),
// Cohere's by type (<https://docs.cohere.com/reference/embed>). Equal indices: servers that number nothing.
#[tokio::test(flavor = "multi_thread")]
async fn embeddings_are_read_in_every_shape() {
    let floats = BASE64_STANDARD.encode([1.0f32, -2.5].map(f32::to_le_bytes).concat());
    let packed = BASE64_STANDARD.encode([1u8, 0xff]);
    let two = |first: Value, second: Value| json!({"data": [first, second]});
    let datum = |index: Value, embedding: Value| json!({"object": "embedding", "index": index, "embedding": embedding});
    for (body, count, encoding, expected) in [
        (
            two(datum(1.into(), json!([3, 4.5])), datum(0.into(), json!([1, 2]))),
            2,
            "",
            vec![vec![1.0, 2.0], vec![3.0, 4.5]],
        ),
        (
            two(datum(0.into(), json!([1, 2])), datum(0.into(), json!([3, 4]))),
            2,
            "",
            vec![vec![1.0, 2.0], vec![3.0, 4.0]],
        ),
        (
            two(datum(Value::Null, json!(["1", 2])), datum(Value::Null, json!([[3, 4]]))),
            2,
            "",
            vec![vec![1.0, 2.0], vec![3.0, 4.0]],
        ),
        (json!({"data": [datum("0".into(), floats.into())]}), 1, "", vec![vec![1.0, -2.5]]),
        (json!({"data": [datum(0.into(), packed.clone().into())]}), 1, "int8", vec![vec![1.0, -1.0]]),
        (json!({"data": [datum(0.into(), packed.into())]}), 1, "ubinary", vec![vec![1.0, 255.0]]),
    ] {
        let vectors = embed(&OPENAI_COMPATIBLE, body.clone(), count, encoding).await.unwrap();
        assert_eq!(vectors, expected, "{body}");
    }
    let by_type = json!({"embeddings": {"float": [[1.0, 2.0]], "int8": [[1, -1]], "ubinary": [[255]]}});
    for (encoding, expected) in [("", vec![1.0, 2.0]), ("int8", vec![1.0, -1.0]), ("ubinary", vec![255.0])] {
        assert_eq!(embed(&COHERE, by_type.clone(), 1, encoding).await.unwrap(), [expected], "{encoding}");
    }
    for wrong in [
        json!({"data": []}),
        json!({"data": [datum(0.into(), json!([]))]}),
        two(datum(0.into(), json!([1])), datum(1.into(), json!([2]))),
    ] {
        assert!(embed(&OPENAI_COMPATIBLE, wrong.clone(), 1, "").await.is_err(), "{wrong}");
    }
}

// <https://platform.openai.com/docs/api-reference/embeddings/create>: tokens, dimensions, encoding.
#[tokio::test(flavor = "multi_thread")]
async fn token_arrays_go_upstream_where_they_are_taken() {
    let body = json!({"data": [{"index": 0, "embedding": [1]}]});
    let request = |scene: &Scene| InvokeTextEmbeddingRequest {
        key: Some(scene.key.clone()),
        token_arrays: vec![TokenArray { tokens: vec![1, 2] }],
        dimensions: 1,
        encoding: "float".into(),
        parameters_json: r#"{"truncate":"END"}"#.into(),
        ..Default::default()
    };
    let (openai, upstream) = scene(&OPENAI, ModelType::TextEmbedding, &body).await;
    openai.clients.invoke.clone().invoke_text_embedding(request(&openai)).await.unwrap();
    let sent = upstream.requests().remove(0).body;
    let expected = json!({"truncate": "END", "model": "chat", "input": [[1, 2]], "dimensions": 1, "encoding_format": "float"});
    assert_eq!(sent, expected);
    let (gemini, upstream) = scene(&GEMINI, ModelType::TextEmbedding, &body).await;
    let refused = gemini.clients.invoke.clone().invoke_text_embedding(request(&gemini)).await;
    let fields = crate::support::refusal::invalid_fields(refused);
    assert_eq!((fields, upstream.total_hits()), (vec!["token_arrays".to_owned()], 0));
}

// <https://platform.openai.com/docs/api-reference/moderations/create>: texts and images that are judged together.
#[tokio::test(flavor = "multi_thread")]
async fn media_are_judged_where_they_are_taken() {
    let body = json!({"results": [{"flagged": true, "categories": {"violence": true}, "category_scores": {"violence": 0.9}}]});
    let (scene, upstream) = scene(&OPENAI, ModelType::Moderation, &body).await;
    let part = |kind| Part { kind: Some(kind), ..Part::default() };
    let image = Media { source: Some(Source::Url("https://h/i.png".into())), ..Media::default() };
    let request = InvokeModerationRequest {
        key: Some(scene.key.clone()),
        parts: vec![part(PartKind::Text("look".into())), part(PartKind::Image(image))],
        parameters_json: r#"{"threshold":0.50}"#.into(),
        ..Default::default()
    };
    assert!(scene.clients.invoke.clone().invoke_moderation(request).await.unwrap().into_inner().flagged);
    let sent = upstream.requests().remove(0).body;
    let input = json!([{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "https://h/i.png"}}]);
    assert_eq!((&sent["input"], sent["threshold"].to_string()), (&input, "0.50".to_owned()));
}

// <https://platform.openai.com/docs/api-reference/audio/createSpeech>,
// <https://platform.openai.com/docs/api-reference/audio/createTranscription>: parameters of the provider go along.
#[tokio::test(flavor = "multi_thread")]
async fn speech_takes_parameters_of_the_provider() {
    let (spoken, upstream) = scene(&OPENAI, ModelType::Tts, &Value::Null).await;
    spoken.keys.iter().for_each(|key| upstream.script(key, Script::Answer));
    let request = InvokeTtsRequest {
        key: Some(spoken.key.clone()),
        text: "hi".into(),
        parameters_json: r#"{"instructions":"calm","speed":1.50}"#.into(),
        ..Default::default()
    };
    let stream = spoken.clients.invoke.clone().invoke_tts(request).await.unwrap().into_inner();
    crate::support::read(stream).await.1.unwrap();
    let sent = upstream.requests().remove(0).body;
    assert_eq!((&sent["instructions"], sent["speed"].to_string()), (&json!("calm"), "1.50".to_owned()));

    let (heard, upstream) = scene(&OPENAI, ModelType::SpeechToText, &json!({"text": "hi"})).await;
    let request = InvokeSpeechToTextRequest {
        key: Some(heard.key.clone()),
        audio: b"RIFF".to_vec(),
        parameters_json: r#"{"prompt":"names","temperature":0}"#.into(),
        ..Default::default()
    };
    let reply = heard.clients.invoke.clone().invoke_speech_to_text(request).await.unwrap().into_inner();
    assert_eq!(reply.text, "hi");
    let form = upstream.requests().remove(0).body.to_string();
    for (name, value) in [("prompt", "names"), ("temperature", "0")] {
        assert!(form.contains(&format!("name=\\\"{name}\\\"\\r\\n\\r\\n{value}\\r\\n")), "{form}");
    }
}
