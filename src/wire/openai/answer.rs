//! What comes back from an OpenAI-speaking server. Pure. Reads with tolerance: unknown fields are handed on, missing
//! ones and nulls are empty. Invariant: what is not the protocol is a failure, never an empty success.

mod plain;
#[cfg(test)]
mod tests;

use super::{
    message::{SoFar, Spoken, Text, annotations},
    think,
    usage::Usage,
};
use crate::wire::{
    AnswerHead, ChatReply, Choice, Content, Keys, Message, Part, PartKind, ReadError, SpeechReply,
    TokenUsage, ToolCall,
    answer::{check_error, keep_counts, no_answer},
    lenient::{Any, Number, fields, object},
    mend,
    tool_calls::{Fragment, made_up},
};
use serde_json::Value;

/// Reads a whole chat completion.
pub fn completion(body: &[u8]) -> Result<ChatReply, ReadError> {
    plain::completion(body).map_or_else(|| any_completion(body), Ok)
}

/// Reads a chat completion however odd it is.
fn any_completion(body: &[u8]) -> Result<ChatReply, ReadError> {
    let mut answer: Completion = object(body)?;
    answer.check()?;
    let (head, usage) = (answer.head(), answer.usage());
    let mut choices = Vec::new();
    for (place, part) in (0..).zip(std::mem::take(&mut answer.choices)) {
        choices.push(choice(part, place, &head.id, usage.is_some())?);
    }
    choices.sort_by_key(|choice| choice.index);
    let mut choices = choices.into_iter();
    let first = choices.next();
    let mut first =
        first.ok_or_else(|| if usage.is_some() { ReadError::NoMessage } else { no_answer(body) })?;
    first.message.annotations.extend(annotations(answer.citations.into_value()));
    Ok(ChatReply { head, choice: first, more_choices: choices.collect(), usage, extra: answer.rest })
}

/// The same with the reasoning that stands in its texts, between `<think>` and `</think>`, in its own place.
pub fn thinking_completion(body: &[u8]) -> Result<ChatReply, ReadError> {
    completion(body).map(|mut reply| {
        think::split(&mut reply);
        reply
    })
}

fn choice(mut part: OneChoice, place: i32, answer: &str, billed: bool) -> Result<Choice, ReadError> {
    part.check()?;
    let finish_reason = part.finish_reason;
    let message = match (part.message, part.text) {
        (Some(message), _) => *message,
        (None, text) if text.is_string() => Text { content: text.into_value(), ..Text::default() },
        (None, _) if finish_reason == FILTERED => return Err(filtered()),
        (None, _) if billed => return Err(ReadError::NoMessage),
        (None, _) => return Err(ReadError::MALFORMED),
    };
    let spoken = Spoken::read(message, &mut SoFar::default());
    check_end(&finish_reason, spoken.is_empty())?;
    let calls = spoken.calls.into_iter().enumerate().map(|(place, call)| tool_call(call, place, answer));
    let role = if spoken.role.is_empty() { "assistant".to_owned() } else { spoken.role };
    Ok(Choice {
        index: part.index.index().unwrap_or(place),
        message: Message {
            role,
            content: mended(spoken.content),
            tool_calls: calls.collect(),
            reasoning_content: mend::whole(spoken.reasoning_content),
            reasoning: spoken.reasoning,
            refusal: mend::whole(spoken.refusal),
            annotations: spoken.annotations,
            extra: spoken.rest.into(),
            ..Message::default()
        },
        finish_reason,
        stop_sequence: part.stop_reason,
        logprobs: part.logprobs.into_box(),
        extra: part.rest,
    })
}

fn mended(content: Content) -> Content {
    match content {
        Content::Text(text) => Content::Text(mend::whole(text)),
        Content::Parts(parts) => Content::Parts(
            parts
                .into_iter()
                .map(|part| match part.kind {
                    PartKind::Text(text) => Part { kind: PartKind::Text(mend::whole(text)), ..part },
                    _ => part,
                })
                .collect(),
        ),
    }
}

fn tool_call(call: Fragment, place: usize, answer: &str) -> ToolCall {
    ToolCall {
        index: i32::try_from(place).unwrap_or(i32::MAX),
        id: if call.id.is_empty() { made_up(answer, place) } else { call.id },
        kind: if call.kind.is_empty() { "function".into() } else { call.kind },
        name: call.name,
        arguments: mend::whole(call.arguments),
        extra: call.extra,
    }
}

/// Reads a list of models, of which only matters that it is one.
pub fn models(body: &[u8]) -> Result<(), ReadError> {
    let answer: Listed = object(body)?;
    check_error(&answer.error)?;
    if answer.data.is_array() || answer.models.is_array() { Ok(()) } else { Err(no_answer(body)) }
}

/// Reads what was said in a recording (API reference, "Create transcription").
pub fn transcription(body: &[u8]) -> Result<SpeechReply, ReadError> {
    let answer: Transcription = object(body)?;
    check_error(&answer.error)?;
    match answer.text {
        Value::String(text) => Ok(SpeechReply { text: mend::whole(text) }),
        _ => Err(no_answer(body)),
    }
}

/// Reads the error that is JSON in place of audio.
pub fn no_audio(body: &[u8]) -> ReadError {
    no_answer(body)
}

/// The finish reason of an answer that the content filter has cut or refused.
const FILTERED: &str = "content_filter";

/// The error that an answer is of which the content filter left nothing.
fn filtered() -> ReadError {
    ReadError::reported(FILTERED, "the provider's content filter refused to answer")
}

/// Zhipu's word for the same (<https://docs.bigmodel.cn/api-reference>).
const SENSITIVE: &str = "sensitive";

/// The finish reasons of an answer that broke off because of an error: OpenRouter's and vLLM's
/// (<https://openrouter.ai/docs/api/reference/errors-and-debugging>), DeepSeek's
/// (<https://api-docs.deepseek.com/api/create-chat-completion>), and Zhipu's (<https://docs.bigmodel.cn/api-reference>).
const BROKE: &[&str] = &["error", "insufficient_system_resource", "network_error"];

/// The finish reason of an answer whose call of a tool could not be read, and behind it why. Gemini has it where it speaks
/// OpenAI's API (<https://github.com/google-gemini/gemini-cli/issues/6678>).
const UNUSABLE: &str = "function_call_filter: ";

/// Whether an answer that ends so is one: an empty one that was refused, or is unusable, is an error.
pub(super) fn check_end(finish_reason: &str, is_empty: bool) -> Result<(), ReadError> {
    match finish_reason.strip_prefix(UNUSABLE) {
        _ if !is_empty => Ok(()),
        Some(why) => Err(ReadError::reported(why, format!("the provider broke the answer off: {why}"))),
        None if finish_reason == FILTERED => Err(filtered()),
        None => Ok(()),
    }
}

fields! {
    /// A completion, or a chunk of one.
    pub(super) struct Completion {
        pub(super) error: Any,
        id: String,
        model: String,
        system_fingerprint: String,
        service_tier: String,
        pub(super) choices: Vec<OneChoice>,
        usage: Option<Box<Usage>>,
        /// <https://console.groq.com/docs/openai>.
        x_groq: Option<Box<Groq>>,
        /// MiniMax, <https://platform.minimax.io/docs/api-reference/errorcode>.
        base_resp: Option<Box<BaseResponse>>,
        /// Perplexity's and xAI's sources.
        pub(super) citations: Any,
    }
    // The last two are padding against those who listen to lengths.
    ignores ["object", "created", "obfuscation", "p"]
}

fields! {
    /// A choice, or what one gains.
    pub(super) struct OneChoice {
        pub(super) index: Number,
        pub(super) message: Option<Box<Text>>,
        pub(super) delta: Option<Box<Text>>,
        /// In place of a message, as the API before chats has it.
        pub(super) text: Any,
        pub(super) finish_reason: String,
        /// vLLM's stop sequence, or the token's number.
        pub(super) stop_reason: String,
        pub(super) logprobs: Any,
        /// OpenRouter's, where an answer broke off.
        error: Any,
        /// Moonshot's.
        usage: Option<Box<Usage>>,
    }
    ignores []
}

fields! {
    struct Groq {
        usage: Option<Box<Usage>>,
        error: Any,
    }
    ignores ["seed", "debug"]
}

fields! {
    struct BaseResponse {
        status_code: Number,
        status_msg: String,
    }
    ignores []
}

fields! {
    struct Listed {
        error: Value,
        data: Value,
        models: Value,
    }
    ignores []
}

fields! {
    struct Transcription {
        error: Value,
        text: Value,
    }
    ignores []
}

impl Completion {
    /// Whether it reports an error of its own.
    pub(super) fn check(&mut self) -> Result<(), ReadError> {
        check_error(&self.error)?;
        if let Some(groq) = &self.x_groq {
            check_error(&groq.error)?;
        }
        match &mut self.base_resp {
            Some(answer) if answer.status_code.count() > 0 => {
                let code = answer.status_code.count().to_string();
                Err(ReadError::reported(&code, std::mem::take(&mut answer.status_msg)))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn head(&mut self) -> AnswerHead {
        let take = std::mem::take;
        AnswerHead {
            id: take(&mut self.id),
            request_id: String::new(),
            model: take(&mut self.model),
            system_fingerprint: take(&mut self.system_fingerprint),
            service_tier: take(&mut self.service_tier),
        }
    }

    /// What it counts, wherever that stands. What counts have no field is left in `rest`.
    pub(super) fn usage(&mut self) -> Option<TokenUsage> {
        let choices = self.choices.iter_mut().filter_map(|choice| choice.usage.take());
        let groq = self.x_groq.as_mut().and_then(|groq| groq.usage.take());
        let mut all: Option<TokenUsage> = None;
        let mut counts = Keys::default();
        for mut usage in choices.chain(groq).chain(self.usage.take()) {
            counts.extend(usage.rest());
            all.get_or_insert_default().update(usage.into());
        }
        keep_counts(&mut self.rest, "usage", counts);
        let groq = self.x_groq.as_mut().map(|groq| std::mem::take(&mut groq.rest)).unwrap_or_default();
        keep_counts(&mut self.rest, "x_groq", groq);
        all
    }
}

impl OneChoice {
    /// Whether an error cut it.
    pub(super) fn check(&mut self) -> Result<(), ReadError> {
        check_error(&self.error)?;
        if BROKE.contains(&self.finish_reason.as_str()) {
            let code = if self.finish_reason == "error" { "" } else { &*self.finish_reason };
            return Err(ReadError::reported(code, "the provider broke the answer off because of an error"));
        }
        // Gemini, where it speaks OpenAI's API, says behind a colon what was filtered.
        let is_filtered = self.finish_reason.split_once(": ").is_some_and(|(reason, _)| reason == FILTERED);
        if is_filtered || self.finish_reason == SENSITIVE {
            let theirs = std::mem::replace(&mut self.finish_reason, FILTERED.to_owned());
            self.rest.insert("finish_reason".to_owned(), theirs.into());
        }
        Ok(())
    }
}
