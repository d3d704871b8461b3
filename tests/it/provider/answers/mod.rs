//! Whatever a provider answers, a caller gets what it said, whole, or an error that names what happened: one test a
//! rule, each with the page or the public report that it comes from. The answers are given byte by byte to a Rota with
//! two configs, whose keys are the upstream's.

mod alive;
mod content;
mod errors;
mod exactness;
mod finish;
mod framing;
mod odd_fields;
mod other_types;
mod reasoning;
mod refusals;
mod sending;
mod tool_calls;
mod usage;
mod words;

use std::{collections::BTreeMap, time::Duration};

use rota::{
    api::pb::{
        Attempt, BalancingPolicy, ErrorClass, InvokeLlmRequest, InvokeLlmResponse, LoadBalancingConfig,
        Message, Model, Provider, ProviderSwitches, PutModelRequest, Reasoning, StreamLlmRequest,
        StreamLlmResponse, ToolCall, UpdateProviderRequest, Usage,
    },
    scripted::{Raw, Script, Upstream},
};
use serde_json::{Value, json};
use tonic_types::StatusExt;

use crate::support::{
    failure::{classes, route, told},
    kinds::{Kind, OPENAI_COMPATIBLE},
    read,
    rota::Rota,
    world::Scene,
};

/// How a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rpc {
    Whole,
    Stream,
}

pub const RPCS: [Rpc; 2] = [Rpc::Whole, Rpc::Stream];

/// A model with two configs, and the upstream of both.
pub struct Rig {
    pub upstream: Upstream,
    pub scene: Scene,
}

impl Rig {
    /// Both configs get the same.
    pub async fn both(kind: &Kind, script: impl Into<Script>) -> Self {
        let rig = Self::start(kind).await;
        rig.now(&script.into());
        rig
    }

    /// From now on both configs get this.
    pub fn now(&self, script: &Script) {
        for key in &self.scene.keys {
            self.upstream.script(key, script.clone());
        }
    }

    /// The first config gets this; the second serves.
    pub async fn first(kind: &Kind, script: impl Into<Script>) -> Self {
        let rig = Self::start(kind).await;
        rig.upstream.script(&rig.scene.keys[0], script.into());
        rig
    }

    /// Both serve.
    pub async fn start(kind: &Kind) -> Self {
        Self::on(Rota::shared().await, kind).await
    }

    /// The same on that Rota.
    pub async fn on(rota: &Rota, kind: &Kind) -> Self {
        let upstream = Upstream::start().await.unwrap();
        let scene = Scene::of_kind(rota, kind, &upstream, 2).await;
        Self { upstream, scene }
    }

    /// Gives the model a fallback of that kind, with a provider and two configs of its own.
    pub async fn fallback(&self, kind: &Kind) -> Scene {
        let mut other = self.scene.clone();
        other.provider = "fallback".into();
        other.key.provider.clone_from(&other.provider);
        other.add_model_of(kind, &kind.base_url(&self.upstream)).await;
        other.add_configs(2).await;
        other.enable().await;
        let (key, fallbacks) = (Some(self.scene.key.clone()), vec![other.key.clone()]);
        let request = PutModelRequest { model: Some(Model { key, fallbacks, ..Model::default() }) };
        self.scene.clients.config.clone().put_model(request).await.unwrap();
        other
    }

    /// Changes the model's policy.
    pub async fn policy(&self, policy: BalancingPolicy) {
        self.scene.set_policy(policy).await;
    }

    /// Says what the provider's server does not take.
    pub async fn switch(&self, switches: ProviderSwitches) {
        let provider = Provider {
            tenant_id: self.scene.tenant.clone(),
            name: self.scene.provider.clone(),
            switches: Some(switches),
            ..Provider::default()
        };
        let request = UpdateProviderRequest { provider: Some(provider), update_mask: None };
        self.scene.clients.config.clone().update_provider(request).await.unwrap();
    }

    /// Both configs call that model of the provider's.
    pub async fn upstream_model(&mut self, model: &str) {
        let name = |configs: &mut [LoadBalancingConfig]| {
            for config in configs {
                model.clone_into(&mut config.upstream_model);
            }
        };
        self.scene.change_configs(name).await;
    }

    /// A call that says hi.
    pub async fn call(&self, rpc: Rpc) -> Outcome {
        self.send(rpc, self.scene.request()).await
    }

    /// Makes that call.
    pub async fn send(&self, rpc: Rpc, request: InvokeLlmRequest) -> Outcome {
        let mut outcome = Outcome::default();
        let mut client = self.scene.clients.invoke.clone();
        let end = match rpc {
            Rpc::Whole => client.invoke_llm(request).await.map(|reply| outcome.reply = reply.into_inner()),
            Rpc::Stream => match client.stream_llm(streamed(request)).await {
                Ok(stream) => {
                    let (messages, end) = read(stream.into_inner()).await;
                    outcome.reply = joined(&messages, end.is_ok());
                    outcome.messages = messages;
                    end
                }
                Err(status) => Err(status),
            },
        };
        outcome.attempts = outcome.reply.route.clone().unwrap_or_default().attempts;
        if let Err(status) = end {
            outcome.reason = told(&status).1;
            status.message().clone_into(&mut outcome.words);
            outcome.retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
            outcome.fields = status.get_details_bad_request().map_or_else(Vec::new, |bad| {
                bad.field_violations.into_iter().map(|violation| violation.field).collect()
            });
            if outcome.reason.starts_with("UPSTREAM_") {
                outcome.attempts = route(&status).attempts;
            }
        }
        outcome
    }

    /// The names of the configs that cool.
    pub async fn cooling(&self) -> Vec<String> {
        let configs = self.scene.configs_now().await;
        configs.into_iter().filter(|config| config.in_cooldown).map(|config| config.name).collect()
    }

    /// The body of the last request.
    pub fn sent(&self) -> Value {
        self.upstream.requests().pop().expect("a request").body
    }
}

/// What came of a call.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Empty for a call that was served.
    pub reason: String,
    /// The status' text.
    pub words: String,
    pub retry_after: Option<Duration>,
    /// The fields that it was refused for.
    pub fields: Vec<String>,
    pub attempts: Vec<Attempt>,
    /// The answer; of a stream what its messages make together.
    pub reply: InvokeLlmResponse,
    /// Those of a stream.
    pub messages: Vec<StreamLlmResponse>,
}

impl Outcome {
    pub fn message(&self) -> Message {
        self.reply.message.clone().unwrap_or_default()
    }

    /// The text, of a call that must have been served.
    #[track_caller]
    pub fn text(&self) -> String {
        assert_eq!((self.reason.as_str(), self.words.as_str()), ("", ""), "{:?}", self.attempts);
        self.message().content
    }

    /// Text and finish reason of a call that must have been served.
    #[track_caller]
    pub fn said(&self) -> (String, String) {
        (self.text(), self.reply.finish_reason.clone())
    }

    /// Name and arguments of each tool call.
    #[track_caller]
    pub fn calls(&self) -> Vec<(String, String)> {
        self.text();
        let functions = self.message().tool_calls.into_iter().map(|call| call.function.unwrap_or_default());
        functions.map(|function| (function.name, function.arguments)).collect()
    }

    /// What was used, of a call that must have been served.
    #[track_caller]
    pub fn usage(&self) -> Usage {
        self.text();
        self.reply.usage.unwrap_or_default()
    }

    /// Why each attempt failed; unspecified for the one that served.
    pub fn classes(&self) -> Vec<ErrorClass> {
        classes(&self.attempts)
    }
}

/// The same request for a stream.
pub fn streamed(request: InvokeLlmRequest) -> StreamLlmRequest {
    StreamLlmRequest {
        key: request.key,
        options: request.options,
        messages: request.messages,
        parameters: request.parameters,
        tools: request.tools,
        stop: request.stop,
        parameters_json: request.parameters_json,
        response_format_json: request.response_format_json,
        extra_json: request.extra_json,
        extra_json_kinds: request.extra_json_kinds,
    }
}

/// The answer that the messages of a stream make by the contract. Each stream keeps to this: its only choice ends once,
/// behind all that it says, and its usage stands in the last message.
#[track_caller]
pub fn joined(messages: &[StreamLlmResponse], ended_well: bool) -> InvokeLlmResponse {
    let mut reply = InvokeLlmResponse::default();
    let mut message = Message { role: "assistant".into(), ..Message::default() };
    let mut calls: BTreeMap<i32, ToolCall> = BTreeMap::new();
    let mut thoughts: BTreeMap<i32, Reasoning> = BTreeMap::new();
    for (place, part) in messages.iter().enumerate() {
        assert!(part.route.is_none() || place == 0, "{messages:?}");
        assert!(part.usage.is_none() || place + 1 == messages.len(), "{messages:?}");
        let says = part.delta.as_ref().is_some_and(|delta| {
            !(delta.content.is_empty() && delta.tool_calls.is_empty() && delta.reasoning_content.is_empty())
        });
        assert!(!says || reply.finish_reason.is_empty(), "something behind the end: {messages:?}");
        if !part.finish_reason.is_empty() {
            assert_eq!(reply.finish_reason, "", "{messages:?}");
            reply.finish_reason.clone_from(&part.finish_reason);
        }
        reply.usage = part.usage.or(reply.usage);
        reply.route = part.route.clone().or(reply.route);
        for (own, said) in [
            (&mut reply.model, &part.model),
            (&mut reply.id, &part.id),
            (&mut reply.request_id, &part.request_id),
            (&mut reply.service_tier, &part.service_tier),
            (&mut reply.stop_sequence, &part.stop_sequence),
            (&mut reply.system_fingerprint, &part.system_fingerprint),
        ] {
            if own.is_empty() {
                own.clone_from(said);
            }
        }
        let Some(delta) = part.delta.clone() else { continue };
        message.content += &delta.content;
        message.reasoning_content += &delta.reasoning_content;
        message.refusal += &delta.refusal;
        message.parts.extend(delta.parts);
        message.annotations.extend(delta.annotations);
        for call in delta.tool_calls {
            let own = calls.entry(call.index).or_insert_with(|| ToolCall { function: None, ..call.clone() });
            let function = own.function.get_or_insert_default();
            let more = call.function.unwrap_or_default();
            function.name += &more.name;
            function.arguments += &more.arguments;
        }
        for piece in delta.reasoning {
            let own = thoughts.entry(piece.index).or_default();
            own.text += &piece.text;
            for (own, later) in [
                (&mut own.signature, piece.signature),
                (&mut own.data, piece.data),
                (&mut own.id, piece.id),
                (&mut own.kind, piece.kind),
                (&mut own.extra_json, piece.extra_json),
            ] {
                if !later.is_empty() {
                    *own = later;
                }
            }
            own.index = piece.index;
        }
    }
    assert!(!ended_well || !reply.finish_reason.is_empty(), "no finish reason: {messages:?}");
    message.tool_calls = calls.into_values().collect();
    message.reasoning = thoughts.into_values().collect();
    reply.message = Some(message);
    reply
}

/// A chunk of OpenAI's with that delta.
pub fn chunk(delta: Value) -> Value {
    json!({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

/// The chunk that ends a choice.
pub fn end(finish_reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]})
}

/// A whole answer of OpenAI's with that message.
pub fn completion(message: Value) -> Value {
    json!({"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
}

pub const DONE: &str = "data: [DONE]\n\n";

/// A stream of OpenAI's with these data.
pub fn chunks(events: &[Value]) -> Script {
    Script::Raw(Raw::events(events).then(DONE))
}

/// Whole answers of OpenAI's.
pub fn whole(body: &Value) -> Script {
    Script::Raw(Raw::json(body))
}

/// The outcome of a call to which both configs answer so.
pub async fn answered(kind: &Kind, rpc: Rpc, script: Script) -> Outcome {
    Rig::both(kind, script).await.call(rpc).await
}

/// The same with OpenAI's wire and a stream of these data.
pub async fn streamed_chunks(events: &[Value]) -> Outcome {
    answered(&OPENAI_COMPATIBLE, Rpc::Stream, chunks(events)).await
}
