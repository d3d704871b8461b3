//! CountTokens: offline where the vocabulary is known, by the provider where it counts, else an estimate; never a turn.

use rota::{
    api::pb::{CountTokensRequest, CountTokensResponse, DisableModelRequest, Message, ModelKey, Tool},
    scripted::{Script, Upstream},
};
use tonic::{Code, Status};

use crate::support::{
    failure::{error, told},
    kinds, on_both_states,
    refusal::invalid_fields,
    rota::Rota,
    world::{Scene, hi},
};

on_both_states!(case_31_counting_takes_no_turn, a_provider_that_counts_is_asked);

async fn count(scene: &Scene, request: CountTokensRequest) -> Result<CountTokensResponse, Status> {
    let key = request.key.clone().or_else(|| Some(scene.key.clone()));
    let request = CountTokensRequest { key, ..request };
    scene.clients.invoke.clone().count_tokens(request).await.map(tonic::Response::into_inner)
}

fn texts(texts: &[&str]) -> CountTokensRequest {
    CountTokensRequest { texts: texts.iter().map(|text| (*text).to_owned()).collect(), ..Default::default() }
}

fn messages(messages: Vec<Message>) -> CountTokensRequest {
    CountTokensRequest { messages, ..Default::default() }
}

async fn case_31_counting_takes_no_turn(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::set(rota, &upstream, 2).await;
    for _ in 0..5 {
        count(&scene, messages(vec![hi()])).await.unwrap();
        scene.ask().await.unwrap();
    }
    // With a turn for each count the calls would all go to one.
    assert_eq!(scene.hits(&upstream), [3, 2]);
    count(&scene, texts(&["one"])).await.unwrap();
    scene.ask().await.unwrap();
    assert_eq!(scene.hits(&upstream), [3, 3]);
}

async fn a_provider_that_counts_is_asked(rota: &Rota) {
    let upstream = Upstream::start().await.unwrap();
    let scene = Scene::of_kind(rota, &kinds::ANTHROPIC, &upstream, 2).await;
    let counted = count(&scene, messages(vec![hi()])).await.unwrap();
    assert!(!counted.estimated);
    assert_eq!(counted.tokens.len(), 1);
    let sent = upstream.requests().remove(0);
    assert_eq!(sent.path, "/v1/messages/count_tokens");
    let counted = count(&scene, texts(&["one", "two", "three"])).await.unwrap();
    assert_eq!((counted.tokens.len(), counted.estimated), (3, false));
    assert_eq!(upstream.total_hits(), 4);
    // Where it cannot, the answer is a guess, and nobody cools for it.
    for key in &scene.keys {
        upstream.script(key, Script::fail(500));
    }
    let guessed = count(&scene, messages(vec![hi()])).await.unwrap();
    assert!(guessed.estimated && guessed.tokens[0] > 0);
    assert!(scene.configs_now().await.iter().all(|config| !config.in_cooldown));
}

#[tokio::test(flavor = "multi_thread")]
async fn known_vocabularies_count_offline() {
    let mut scene = Scene::tenant(Rota::shared().await).await;
    scene.key.model = "gpt-4o".into();
    // Nobody listens there, and there is no credential.
    scene.add_model("http://127.0.0.1:9/v1").await;
    let counted = count(&scene, texts(&["tiktoken is great!", "", "お誕生日おめでとう"])).await.unwrap();
    assert_eq!((counted.tokens, counted.estimated), (vec![6, 0, 8], false));
    let said = Message { role: "user".into(), content: "tiktoken is great!".into(), ..Default::default() };
    let counted = count(&scene, messages(vec![said.clone()])).await.unwrap();
    // 3 for the message, 1 for the role, 6 for the text, 3 for the answer.
    assert_eq!((counted.tokens, counted.estimated), (vec![13], false));
    let tool = Tool { name: "f".into(), description: "does it".into(), ..Tool::default() };
    let with_tool = CountTokensRequest { tools: vec![tool.clone()], ..messages(vec![said.clone()]) };
    let counted = count(&scene, with_tool).await.unwrap();
    assert!(counted.estimated && counted.tokens[0] > 13);

    let unknown = ModelKey { model: "llama".into(), ..scene.key.clone() };
    scene.put_model(&unknown).await;
    let guess = CountTokensRequest { key: Some(unknown.clone()), ..texts(&["four letters each"]) };
    assert!(count(&scene, guess.clone()).await.unwrap().estimated);

    for (field, wrong) in [
        ("messages", CountTokensRequest::default()),
        ("messages", CountTokensRequest { messages: vec![hi()], ..texts(&["both"]) }),
        ("tools", CountTokensRequest { tools: vec![tool], ..texts(&["text"]) }),
        ("texts", texts(&vec!["x"; 10_001])),
        ("messages[0].role", messages(vec![Message { role: "nobody".into(), ..said }])),
        (
            "key.model_type",
            CountTokensRequest {
                key: Some(ModelKey { model_type: 0, ..scene.key.clone() }),
                ..texts(&["text"])
            },
        ),
    ] {
        assert_eq!(invalid_fields(count(&scene, wrong).await), [field]);
    }
    scene.clients.config.disable_model(DisableModelRequest { key: Some(unknown) }).await.unwrap();
    let status = count(&scene, guess).await.unwrap_err();
    assert_eq!(told(&status), error(Code::FailedPrecondition, "MODEL_DISABLED"));
}
