//! Loops of three tools with thinking on, over an upstream that asks what the vendor asks: what was thought must come
//! back unchanged, each piece where it stood. The vendors' own clients hold that upstream (`official_clients`), and
//! take what Rota sends for their vendor's (`tests/clients/python/sent.py`).

use rota::{
    api::pb::{ErrorClass, InvokeLlmRequest, Message, Tool},
    scripted::Script,
};
use serde_json::Value;

use super::answers::{Outcome, RPCS, Rig, Rpc};
use crate::support::{
    kinds::{ANTHROPIC, GEMINI, Kind, OPENAI_COMPATIBLE},
    python,
    world::hi,
};

const TOOLS: [&str; 3] = ["first", "second", "third"];

/// Switches thinking on.
fn thinking(kind: &Kind) -> &'static str {
    match kind.name {
        "anthropic" => r#"{"thinking":{"type":"enabled","budget_tokens":1024},"max_tokens":2048}"#,
        _ => r#"{"thinkingConfig":{"includeThoughts":true}}"#,
    }
}

/// A conversation so far.
struct Loop {
    rpc: Rpc,
    parameters: &'static str,
    messages: Vec<Message>,
}

impl Loop {
    fn new(kind: &Kind, rpc: Rpc) -> Self {
        Self { rpc, parameters: thinking(kind), messages: vec![hi()] }
    }

    /// Asks the model.
    async fn ask(&self, rig: &Rig) -> Outcome {
        let tool = |name: &str| Tool {
            name: name.into(),
            parameters_json: r#"{"type":"object","properties":{}}"#.into(),
            ..Tool::default()
        };
        let request = InvokeLlmRequest {
            messages: self.messages.clone(),
            tools: TOOLS.map(tool).into(),
            parameters_json: self.parameters.into(),
            ..rig.scene.request()
        };
        rig.send(self.rpc, request).await
    }

    /// One round: the model thinks and calls that tool, which answers.
    async fn round(&mut self, rig: &Rig, tool: &str) -> Outcome {
        let outcome = self.ask(rig).await;
        let calls: Vec<String> = outcome.calls().into_iter().map(|(name, _)| name).collect();
        assert_eq!((calls, outcome.reply.finish_reason.as_str()), (vec![tool.to_owned()], "tool_calls"));
        let message = outcome.message();
        assert!(message.reasoning_content.contains("let me think"), "{message:?}");
        let result = Message {
            role: "tool".into(),
            tool_call_id: message.tool_calls[0].id.clone(),
            content: "42".into(),
            ..Message::default()
        };
        self.messages.extend([message, result]);
        outcome
    }
}

/// Fails unless the vendor's own client takes the bodies that Rota has sent for its vendor's.
async fn taken_by_the_client(kind: &Kind, bodies: &[Value]) {
    let bodies = serde_json::to_string(bodies).unwrap();
    let output = python::run("sent.py", &[kind.name, &bodies]).await;
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}{complaint}", String::from_utf8_lossy(&output.stdout));
}

// <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>,
// <https://ai.google.dev/gemini-api/docs/thought-signatures>.
#[tokio::test(flavor = "multi_thread")]
async fn three_rounds_with_thinking_go_on_with_another_key() {
    for kind in [&ANTHROPIC, &GEMINI] {
        let mut bodies = Vec::new();
        for rpc in RPCS {
            for (status, class) in [(429, ErrorClass::RateLimited), (503, ErrorClass::ServerError)] {
                let rig = Rig::start(kind).await;
                let mut talk = Loop::new(kind, rpc);
                let first = talk.round(&rig, TOOLS[0]).await;
                // The key that has served fails between the rounds, and the other goes on with what was thought.
                let served = first.reply.route.unwrap().config_name;
                let place = rig.scene.configs.iter().position(|config| config.name == served).unwrap();
                rig.upstream.script(&rig.scene.keys[place], Script::fail(status));
                let second = talk.round(&rig, TOOLS[1]).await;
                let third = talk.round(&rig, TOOLS[2]).await;
                let failed: Vec<ErrorClass> = [second.classes(), third.classes()].concat();
                assert!(failed.contains(&class), "{} {rpc:?} {status}: {failed:?}", kind.name);
                let last = talk.ask(&rig).await;
                assert_eq!(
                    last.text(),
                    format!("served by {}", rig.scene.keys[1 - place]),
                    "{} {rpc:?}",
                    kind.name
                );
                bodies.extend(rig.upstream.requests().into_iter().map(|request| request.body));
            }
        }
        taken_by_the_client(kind, &bodies).await;
    }
}

// The upstream is no rubber stamp: what was thought is missed where it is left out or altered.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_without_its_thinking_is_refused() {
    for kind in [&ANTHROPIC, &GEMINI] {
        let rig = Rig::start(kind).await;
        let mut talk = Loop::new(kind, Rpc::Whole);
        talk.round(&rig, TOOLS[0]).await;
        let whole = talk.messages.clone();
        talk.messages[1].reasoning.clear();
        assert_eq!(talk.ask(&rig).await.reason, "UPSTREAM_BAD_REQUEST", "{}", kind.name);
        talk.messages = whole.clone();
        for piece in &mut talk.messages[1].reasoning {
            piece.signature = "b3RoZXI=".into();
        }
        assert_eq!(talk.ask(&rig).await.reason, "UPSTREAM_BAD_REQUEST", "{}", kind.name);
        talk.messages = whole;
        talk.round(&rig, TOOLS[1]).await;
        assert_eq!(rig.cooling().await, Vec::<String>::new(), "{}", kind.name);
    }
}

// A fallback of another kind gets the calls and their results, and nothing of what was thought.
#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_of_another_kind_goes_on_without_what_was_thought() {
    for kind in [&ANTHROPIC, &GEMINI] {
        for rpc in RPCS {
            let rig = Rig::start(kind).await;
            let other = rig.fallback(&OPENAI_COMPATIBLE).await;
            let mut talk = Loop::new(kind, rpc);
            talk.round(&rig, TOOLS[0]).await;
            talk.round(&rig, TOOLS[1]).await;
            for key in &rig.scene.keys {
                rig.upstream.script(key, Script::fail(429));
            }
            talk.parameters = "";
            let outcome = talk.ask(&rig).await;
            assert!(outcome.reason.is_empty(), "{} {rpc:?}: {}", kind.name, outcome.words);
            assert_eq!(outcome.reply.route.unwrap().provider, other.provider);
            let sent = rig.sent();
            let calls: Vec<&Value> =
                (0..6).filter_map(|place| sent["messages"].get(place)?.get("tool_calls")).collect();
            let names: Vec<&Value> = calls.iter().map(|calls| &calls[0]["function"]["name"]).collect();
            assert_eq!(names, ["first", "second"], "{sent}");
            let text = sent.to_string();
            assert!(!text.contains("let me think") && !text.contains("signature"), "{text}");
        }
    }
}
