//! What OpenAI's Responses API answers, whole or as a stream (API reference, "The response object":
//! <https://platform.openai.com/docs/api-reference/responses/object>, "Streaming events":
//! <https://platform.openai.com/docs/api-reference/responses-streaming>). It is read beside an answer that is handed on as it
//! came: its text, its calls of tools, its usage and its end. Pure.
//!
//! Invariant: a response that has failed is an error, never an answer.

#[cfg(test)]
mod tests;

use super::usage::Usage;
use crate::wire::{
    AnswerHead, ChatEvent, ChatReply, Choice, Content, Message, Part, ReadError, ReadFrames, Reasoning, Said,
    ToolCall,
    answer::{check_error, no_answer, reported},
    lenient::{Any, Number, fields, object},
    mend,
};
use serde_json::{Map, json};
use std::collections::BTreeMap;

/// Reads a whole response. One that is not done yet, as with `background`, has no finish reason.
///
/// # Errors
/// What is no response, or one that has failed.
pub fn response(body: &[u8]) -> Result<ChatReply, ReadError> {
    let response: Response = object(body)?;
    check_error(&response.error)?;
    if response.status == FAILED {
        return Err(failed());
    }
    if !response.is_one() {
        return Err(no_answer(body));
    }
    Ok(response.reply())
}

/// The status of a response that has failed.
const FAILED: &str = "failed";

/// The error of a response that says no more of it.
fn failed() -> ReadError {
    ReadError::reported("", "the provider says that the response has failed")
}

/// Reads one stream's events, in their order.
#[derive(Default)]
pub struct Events {
    /// The number of each call of a tool, by the place of its item.
    calls: BTreeMap<i32, i32>,
    /// Whether anything was said.
    said: bool,
}

impl ReadFrames for Events {
    fn read(&mut self, data: &[u8]) -> Result<Said, ReadError> {
        let event = self.event(data)?;
        self.said |= event.is_content();
        Ok(Said::Events(vec![event]))
    }

    fn whole(&mut self, body: &[u8]) -> Result<Vec<ChatEvent>, ReadError> {
        response(body).map(ChatReply::into_events)
    }
}

impl Events {
    fn event(&mut self, data: &[u8]) -> Result<ChatEvent, ReadError> {
        let event: Event = object(data)?;
        check_error(&event.error)?;
        let place = event.output_index.index().unwrap_or_default();
        let said = ChatEvent::default();
        Ok(match event.kind.as_str() {
            "response.output_text.delta" => ChatEvent { content: event.delta, ..said },
            "response.refusal.delta" => ChatEvent { refusal: event.delta, ..said },
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                think(Reasoning { text: event.delta, index: place, ..Reasoning::default() })
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                self.arguments(place, event.delta)
            }
            "response.output_item.added" => self.begin(place, *event.item.unwrap_or_default()),
            "response.output_item.done" => sealed(place, *event.item.unwrap_or_default()),
            "response.created" | "response.queued" | "response.in_progress" => {
                let mut said = said;
                if let Some(mut response) = event.response {
                    check_error(&response.error)?;
                    said.rare().head = response.head();
                }
                said
            }
            "response.completed" | "response.incomplete" => self.end(*event.response.unwrap_or_default())?,
            "response.failed" => {
                check_error(&event.response.unwrap_or_default().error)?;
                return Err(failed());
            }
            // The page has the error's fields beside the type; in practice they stand under `error`
            // (<https://github.com/Menci/Floway/pull/330>).
            "error" => {
                return Err(reported(&json!({"error": {"code": event.code, "message": event.message}})));
            }
            "" => return Err(no_answer(data)),
            _ => said,
        })
    }

    /// An item begins: a call of a function, or a tool that the provider runs.
    fn begin(&mut self, place: i32, item: Item) -> ChatEvent {
        let mut said = ChatEvent::default();
        if item.is_call() {
            let number = i32::try_from(self.calls.len()).unwrap_or(i32::MAX);
            let number = *self.calls.entry(place).or_insert(number);
            said.tool_calls.push(item.call(number));
        } else if !matches!(item.kind.as_str(), "message" | "reasoning" | "") {
            said.rare().parts.push(item.opaque());
        }
        said
    }

    fn arguments(&self, place: i32, arguments: String) -> ChatEvent {
        let mut said = ChatEvent::default();
        if let Some(index) = self.calls.get(&place).filter(|_| !arguments.is_empty()) {
            said.tool_calls.push(ToolCall { index: *index, arguments, ..ToolCall::default() });
        }
        said
    }

    fn end(&mut self, mut response: Response) -> Result<ChatEvent, ReadError> {
        check_error(&response.error)?;
        // Some servers say nothing but this.
        if !self.said {
            let mut reply = response.reply();
            if reply.choice.finish_reason.is_empty() {
                "stop".clone_into(&mut reply.choice.finish_reason);
            }
            return Ok(reply.into_events().pop().unwrap_or_default());
        }
        let mut said = ChatEvent {
            finish_reason: response.finish_reason(!self.calls.is_empty()),
            usage: response.usage.take().map(Into::into),
            ..ChatEvent::default()
        };
        said.rare().head = response.head();
        Ok(said)
    }
}

/// The reasoning that only the provider can read comes with the end of its item.
fn sealed(place: i32, item: Item) -> ChatEvent {
    if item.kind != "reasoning" || item.encrypted_content.is_empty() {
        return ChatEvent::default();
    }
    think(Reasoning { data: item.encrypted_content, id: item.id, index: place, ..Reasoning::default() })
}

fn think(piece: Reasoning) -> ChatEvent {
    if piece.text.is_empty() && piece.data.is_empty() {
        return ChatEvent::default();
    }
    ChatEvent { reasoning_content: piece.text.clone(), reasoning: vec![piece], ..ChatEvent::default() }
}

fields! {
    struct Event {
        kind: String = "type",
        error: Any,
        code: String,
        message: String,
        response: Option<Box<Response>>,
        output_index: Number,
        item: Option<Box<Item>>,
        delta: String,
    }
    ignores [
        "sequence_number", "item_id", "content_index", "summary_index", "annotation_index", "logprobs",
        "obfuscation", "part", "text", "refusal", "arguments", "input", "name", "annotation",
        "partial_image_b64", "param",
    ]
}

fields! {
    /// A response as far as it has come.
    struct Response {
        id: String,
        object: String,
        model: String,
        status: String,
        service_tier: String,
        error: Any,
        incomplete_details: Option<Box<Incomplete>>,
        output: Vec<Item>,
        usage: Option<Box<Usage>>,
    }
    // What the request said.
    ignores [
        "background", "created_at", "completed_at", "instructions", "max_output_tokens", "max_tool_calls",
        "metadata", "parallel_tool_calls", "previous_response_id", "prompt", "prompt_cache_key", "reasoning",
        "safety_identifier", "store", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p",
        "truncation", "user",
    ]
}

fields! {
    struct Incomplete {
        reason: String,
    }
    ignores []
}

fields! {
    struct Item {
        kind: String = "type",
        id: String,
        content: Vec<Text>,
        summary: Vec<Text>,
        encrypted_content: String,
        call_id: String,
        name: String,
        arguments: String = "arguments" | "input",
    }
    ignores ["result", "results", "outputs", "output", "tools", "status", "action", "queries"]
}

fields! {
    #[expect(clippy::struct_field_names, reason = "as the API has them")]
    struct Text {
        kind: String = "type",
        text: String,
        refusal: String,
    }
    ignores ["annotations", "logprobs"]
}

impl Response {
    /// Whether it is a response at all.
    fn is_one(&self) -> bool {
        self.object == "response" || !(self.output.is_empty() || self.id.is_empty())
    }

    fn head(&mut self) -> AnswerHead {
        let take = std::mem::take;
        AnswerHead {
            id: take(&mut self.id),
            model: take(&mut self.model),
            service_tier: take(&mut self.service_tier),
            ..AnswerHead::default()
        }
    }

    /// Empty where it is not done.
    fn finish_reason(&self, has_calls: bool) -> String {
        let reason = match (self.status.as_str(), &self.incomplete_details) {
            ("queued" | "in_progress" | "cancelled", _) => "",
            (_, Some(incomplete)) if incomplete.reason == "content_filter" => "content_filter",
            ("incomplete", _) => "length",
            _ if has_calls => "tool_calls",
            _ => "stop",
        };
        reason.to_owned()
    }

    fn reply(mut self) -> ChatReply {
        let mut message = Message { role: "assistant".into(), ..Message::default() };
        let mut content = String::new();
        for (place, item) in (0..).zip(std::mem::take(&mut self.output)) {
            item.add_to(place, &mut content, &mut message);
        }
        message.content = Content::Text(mend::whole(content));
        let finish_reason = self.finish_reason(!message.tool_calls.is_empty());
        ChatReply {
            head: self.head(),
            choice: Choice { message, finish_reason, ..Choice::default() },
            usage: self.usage.map(Into::into),
            ..ChatReply::default()
        }
    }
}

impl Item {
    fn is_call(&self) -> bool {
        matches!(self.kind.as_str(), "function_call" | "custom_tool_call")
    }

    fn call(self, index: i32) -> ToolCall {
        let kind = if self.kind == "custom_tool_call" { "custom" } else { "function" };
        ToolCall {
            index,
            id: self.call_id,
            kind: kind.into(),
            name: self.name,
            arguments: self.arguments,
            ..ToolCall::default()
        }
    }

    /// What a tool of the provider does.
    fn opaque(self) -> Part {
        let fields = [("type", self.kind), ("id", self.id)];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.into()));
        Part::opaque(Map::from_iter(fields))
    }

    /// Adds what it says to a message.
    fn add_to(self, place: i32, content: &mut String, message: &mut Message) {
        match self.kind.as_str() {
            "message" => {
                for text in self.content {
                    content.push_str(&text.text);
                    message.refusal.push_str(&text.refusal);
                }
            }
            "reasoning" => {
                let text: String =
                    self.summary.into_iter().chain(self.content).map(|part| part.text).collect();
                message.reasoning_content.push_str(&text);
                message.reasoning.push(Reasoning {
                    text,
                    data: self.encrypted_content,
                    id: self.id,
                    index: place,
                    ..Reasoning::default()
                });
            }
            _ if self.is_call() => {
                let number = i32::try_from(message.tool_calls.len()).unwrap_or(i32::MAX);
                message.tool_calls.push(self.call(number));
            }
            _ => {}
        }
    }
}
