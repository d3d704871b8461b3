//! Each SDK against each kind of provider: whole and streamed; text, tools, an image, structured output, reasoning. The
//! SDK's own accumulator gives what the same call over gRPC gives.

use rota::{
    api::pb::{InvokeLlmRequest, Tool},
    scripted::Upstream,
};
use serde_json::{Value, json};

use crate::support::{
    kinds::{self, Kind},
    rota::Rota,
    sdk::{ASKS, Sdk, named, question},
    world::{Scene, hi},
};

const KINDS: [&Kind; 6] = [
    &kinds::OPENAI,
    &kinds::OPENAI_COMPATIBLE,
    &kinds::AZURE_OPENAI,
    &kinds::ANTHROPIC,
    &kinds::GEMINI,
    &kinds::COHERE,
];

/// The first words of the image that the programs send.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB";

/// A call of the matrix.
#[derive(Debug, Clone, Copy)]
struct Pair {
    /// Which protocol the SDK speaks.
    api: &'static str,
    ask: &'static str,
    stream: bool,
}

/// What an SDK cannot tell, whatever the server.
#[derive(Clone, Copy)]
struct Knows {
    reasoning: fn(Pair) -> bool,
    usage: fn(Pair) -> bool,
    finish: fn(Pair) -> bool,
    object: fn(Pair) -> bool,
}

/// One that tells everything.
const EVERYTHING: Knows = Knows { reasoning: |_| true, usage: |_| true, finish: |_| true, object: |_| true };

/// Why an answer ends, in that protocol's words.
fn finish(api: &str, calls: bool) -> &'static str {
    match (api, calls) {
        ("responses", _) => "completed",
        ("anthropic", true) => "tool_use",
        ("anthropic", false) => "end_turn",
        ("gemini", _) => "STOP",
        (_, true) => "tool_calls",
        (_, false) => "stop",
    }
}

fn expected_calls(ask: &str) -> Value {
    match ask {
        "tool" => json!([{"name": "weather", "arguments": {}}]),
        "tools" => json!([
            {"name": "weather", "arguments": {"place": 1}},
            {"name": "clock", "arguments": {"place": 2}},
        ]),
        _ => Value::Null,
    }
}

fn check(pair: Pair, knows: Knows, scene: &Scene, answer: &Value) {
    let shown = format!("{pair:?}: {answer}");
    assert!(answer.get("error").is_none(), "{shown}");
    let calls = expected_calls(pair.ask);
    let text = answer["text"].as_str().unwrap_or_default();
    let served = |text: &str| scene.keys.iter().any(|key| text == format!("served by {}", named(key)));
    match pair.ask {
        "tool" | "tools" => assert_eq!(answer["calls"], calls, "{shown}"),
        "object" if !(knows.object)(pair) => return,
        "object" => {
            let object: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{shown}"));
            assert!(served(object["said"].as_str().unwrap_or_default()), "{shown}");
        }
        _ => assert!(served(text), "{shown}"),
    }
    if pair.ask == "reasoning" && (knows.reasoning)(pair) {
        assert_eq!(answer["reasoning"], "Round 1: let me think.", "{shown}");
    }
    if (knows.finish)(pair) {
        assert_eq!(answer["finish"], finish(pair.api, calls != Value::Null), "{shown}");
    }
    if (knows.usage)(pair) {
        let usage = &answer["usage"];
        assert_eq!((&usage["input"], &usage["output"]), (&json!(10), &json!(3)), "{shown}");
        assert_eq!(usage["cached"], 2, "{shown}");
    }
    // What was said came as it was said.
    if pair.stream && pair.ask == "text" {
        assert_eq!(answer["pieces"].as_array().map(Vec::len), Some(3), "{shown}");
    }
}

/// What must have reached the provider, in whatever words.
fn arrived(pair: Pair, upstream: &Upstream) {
    let requests = upstream.requests();
    let text = String::from_utf8_lossy(&requests.last().expect("a request").raw).into_owned();
    let wanted: &[&str] = match pair.ask {
        "image" => &[PNG],
        "object" => &["said", "answer in JSON"],
        "tools" => &["weather", "clock", "place"],
        _ => &["hi"],
    };
    for words in wanted {
        assert!(text.contains(words), "{pair:?}: {words} is missing in {text}");
    }
    assert!(!text.contains("rota_"), "{pair:?}: {text}");
}

/// Every call of one SDK's protocol, against every kind.
async fn all(sdk: &mut Sdk, function: &str, api: &'static str, knows: Knows) {
    let rota = Rota::shared().await;
    for kind in KINDS {
        let upstream = Upstream::discreet().await.unwrap();
        let scene = Scene::of_kind(rota, kind, &upstream, 2).await;
        for ask in ASKS {
            for stream in [false, true] {
                let pair = Pair { api, ask, stream };
                let fields = json!({"api": function, "ask": ask, "stream": stream});
                let answer = sdk.ask(&question(rota, &scene, fields).await).await;
                check(pair, knows, &scene, &answer);
                arrived(pair, &upstream);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_says_the_same() {
    for kind in KINDS {
        let upstream = Upstream::discreet().await.unwrap();
        let scene = Scene::of_kind(Rota::shared().await, kind, &upstream, 2).await;
        let answer = scene.ask().await.unwrap();
        assert!(
            scene
                .keys
                .iter()
                .any(|key| answer.message.as_ref().unwrap().content == format!("served by {}", named(key)))
        );
        let usage = answer.usage.unwrap();
        assert_eq!(
            (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens),
            (10, 3, 2),
            "{}",
            kind.name
        );
        let tool = |name: &str| Tool { name: name.to_owned(), ..Tool::default() };
        let mut every = hi();
        every.content = rota::scripted::CALL_ALL.to_owned();
        let request = InvokeLlmRequest {
            messages: vec![every],
            tools: vec![tool("weather"), tool("clock")],
            ..scene.request()
        };
        let answer = scene.send(request).await.unwrap();
        let calls: Vec<_> = answer
            .message
            .unwrap()
            .tool_calls
            .into_iter()
            .map(|call| call.function.unwrap_or_default().name)
            .collect();
        assert_eq!(
            (calls, answer.finish_reason.as_str()),
            (vec!["weather".to_owned(), "clock".to_owned()], "tool_calls")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_chat() {
    all(&mut Sdk::python("sdk_openai.py").await, "chat", "chat", EVERYTHING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_responses() {
    all(&mut Sdk::python("sdk_openai.py").await, "responses", "responses", EVERYTHING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anthropic() {
    all(&mut Sdk::python("sdk_anthropic.py").await, "chat", "anthropic", EVERYTHING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gemini() {
    all(&mut Sdk::python("sdk_gemini.py").await, "chat", "gemini", EVERYTHING).await;
}

/// The SDKs that `make sdks` installs.
mod sdks {
    use super::{EVERYTHING, Knows, Sdk, all};

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "its packages are not installed: `make sdks`"]
    async fn langchain_openai() {
        let mut sdk = Sdk::more_python("sdk_langchain.py").await;
        // It reads none of what other vendors add to a chat, and its structured output is the object alone.
        let of_object = |pair: super::Pair| pair.ask != "object";
        let knows = Knows { reasoning: |_| false, usage: of_object, finish: of_object, ..EVERYTHING };
        all(&mut sdk, "chat", "chat", knows).await;
        // It does not tell why an answer of Responses ends.
        let knows = Knows { usage: of_object, finish: |_| false, ..EVERYTHING };
        all(&mut sdk, "responses", "responses", knows).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "its packages are not installed: `make sdks`"]
    async fn langchain_anthropic() {
        let mut sdk = Sdk::more_python("sdk_langchain.py").await;
        // In a stream it reads the usage of `message_delta` alone, which the scripted upstream keeps short.
        let usage = |pair: super::Pair| pair.ask != "object" && !pair.stream;
        let knows = Knows { usage, finish: |pair| pair.ask != "object", ..EVERYTHING };
        all(&mut sdk, "anthropic", "anthropic", knows).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "its packages are not installed: `make sdks`"]
    async fn litellm() {
        let mut sdk = Sdk::more_python("sdk_litellm.py").await;
        all(&mut sdk, "chat", "chat", EVERYTHING).await;
        // It asks for a tool in the place of structured output, and tells the end in OpenAI's words.
        let knows = Knows { object: |_| false, finish: |_| false, ..EVERYTHING };
        all(&mut sdk, "anthropic", "anthropic", knows).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "its packages are not installed: `make sdks`"]
    async fn node() {
        // Its accumulator drops what other vendors add to a chat.
        let knows = Knows { reasoning: |pair| !pair.stream, ..EVERYTHING };
        let mut openai = Sdk::node("sdk_openai.js").await;
        all(&mut openai, "chat", "chat", knows).await;
        all(&mut openai, "responses", "responses", EVERYTHING).await;
        all(&mut Sdk::node("sdk_anthropic.js").await, "chat", "anthropic", EVERYTHING).await;
        all(&mut Sdk::node("sdk_gemini.js").await, "chat", "gemini", EVERYTHING).await;
    }
}
