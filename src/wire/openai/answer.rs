//! What comes back from an OpenAI-speaking server. Pure. Reads with tolerance: unknown fields are handed on, missing
//! ones and nulls are empty. Invariant: what is not the protocol is a failure, never an empty success.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{MediaSource, Reasoning, fixtures::reported};
    use serde_json::json;

    fn read(body: Value) -> Result<ChatReply, ReadError> {
        completion(body.to_string().as_bytes())
    }

    #[test]
    fn a_full_answer_is_read() {
        let reply = read(json!({
            "id": "x", "object": "chat.completion", "created": 1, "model": "m-1", "system_fingerprint": "fp",
            "service_tier": "default",
            "choices": [{
                "index": 0, "finish_reason": "tool_calls", "logprobs": null,
                "message": {
                    "role": "assistant", "content": null, "refusal": "no", "reasoning_content": "hm", "annotations": [],
                    "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                        {"id": "c2", "function": {"name": "g", "arguments": {"z": 2, "b": 1.50}}},
                    ],
                },
            }],
            "usage": {
                "prompt_tokens": 10, "completion_tokens": 5.0, "total_tokens": 15,
                "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
        }))
        .unwrap();
        let call = |index, id: &str, name: &str, arguments: &str| ToolCall {
            index,
            id: id.into(),
            kind: "function".into(),
            name: name.into(),
            arguments: arguments.into(),
            ..ToolCall::default()
        };
        let thought = Reasoning { text: "hm".into(), ..Reasoning::default() };
        let message = Message {
            role: "assistant".into(),
            tool_calls: vec![call(0, "c1", "f", "{\"a\":1}"), call(1, "c2", "g", "{\"z\":2,\"b\":1.5}")],
            reasoning_content: "hm".into(),
            reasoning: vec![thought],
            refusal: "no".into(),
            ..Message::default()
        };
        let usage = TokenUsage {
            prompt: 10,
            completion: 5,
            total: 15,
            cached: 4,
            reasoning: 3,
            ..TokenUsage::default()
        };
        let head = AnswerHead {
            id: "x".into(),
            model: "m-1".into(),
            system_fingerprint: "fp".into(),
            service_tier: "default".into(),
            ..AnswerHead::default()
        };
        let choice = Choice { message, finish_reason: "tool_calls".into(), ..Choice::default() };
        assert_eq!(reply, ChatReply { head, choice, usage: Some(usage), ..ChatReply::default() });
    }

    #[test]
    fn what_no_field_names_is_handed_on() {
        let reply = read(json!({
            "provider": "p", "choices": [
                {"index": 1, "message": {"content": "b"}, "finish_reason": "length"},
                {"index": 0, "finish_reason": "stop", "stop_reason": "END", "logprobs": {"content": [{"token": "a"}]},
                    "content_filter_results": {"hate": {"filtered": false}},
                    "message": {"content": "a", "future": {"x": [1]}, "annotations": [
                        {"type": "url_citation", "url_citation": {"url": "http://u", "title": "t", "start_index": 1}},
                    ]}},
            ],
        }))
        .unwrap();
        let (first, second) = (&reply.choice, &reply.more_choices[0]);
        assert_eq!((second.index, second.finish_reason.as_str()), (1, "length"));
        assert_eq!(first.stop_sequence, "END");
        assert_eq!(first.logprobs, Some(Box::new(json!({"content": [{"token": "a"}]}))));
        assert_eq!(
            Value::from(first.extra.clone()),
            json!({"content_filter_results": {"hate": {"filtered": false}}})
        );
        assert_eq!(Value::from(first.message.extra.fields.clone()), json!({"future": {"x": [1]}}));
        assert_eq!(Value::from(reply.extra), json!({"provider": "p"}));
        let annotation = &first.message.annotations[0];
        assert_eq!((annotation.url.as_str(), annotation.title.as_str()), ("http://u", "t"));
    }

    #[test]
    fn reasoning_is_read_wherever_it_stands() {
        let table = [
            json!({"reasoning_content": "hm"}),
            json!({"reasoning_content": "", "reasoning": "hm"}),
            json!({"reasoning": null, "thinking": "hm"}),
            json!({"reasoning": "hm", "reasoning_details": [
                {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "f", "index": 0}]}),
            json!({"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]}),
            json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}]}),
            json!({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": ""}]}),
        ];
        for message in table {
            let reply = read(json!({"choices": [{"message": message}]})).unwrap();
            assert_eq!(reply.choice.message.reasoning_content, "hm", "{message}");
            let [piece] = reply.choice.message.reasoning.as_slice() else { panic!("{message}") };
            assert_eq!(piece.text, "hm");
        }
    }

    #[test]
    fn media_in_an_answer_are_parts() {
        let reply = read(json!({"choices": [{"message": {
            "content": "look", "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}}],
            "audio": {"id": "a1", "data": "UklGRg==", "transcript": "hi"},
        }}]}))
        .unwrap();
        let Content::Parts(parts) = &reply.choice.message.content else { panic!("{reply:?}") };
        let [text, audio, image] = parts.as_slice() else { panic!("{parts:?}") };
        assert_eq!(text.text(), Some("look"));
        assert!(
            matches!(&audio.kind, PartKind::Audio(media) if media.source == MediaSource::Data(b"RIFF".to_vec()) && media.mime_type == "audio/wav")
        );
        assert_eq!(audio.extra.fields["transcript"], "hi");
        assert!(matches!(&image.kind, PartKind::Image(media) if media.mime_type == "image/png"));
    }

    #[test]
    fn errors_under_200_are_errors_and_empty_ones_are_not() {
        let good = json!([{"message": {"content": "x"}}]);
        for error in
            [json!(""), json!({}), json!(null), json!(false), json!([]), json!({"message": "", "code": null})]
        {
            assert!(read(json!({"error": error, "choices": good})).is_ok(), "{error}");
        }
        assert!(read(json!({"base_resp": {"status_code": 0, "status_msg": ""}, "choices": good})).is_ok());
        let table = [
            (json!({"base_resp": {"status_code": 1008, "status_msg": "no money"}, "choices": null}), "1008"),
            (json!({"object": "error", "message": "m", "code": 40001}), "40001"),
            (json!({"code": "InvalidParameter", "message": "m", "request_id": "r"}), "InvalidParameter"),
            (json!({"choices": [{"finish_reason": "error", "message": {"content": "half"}}]}), ""),
            (
                json!({"choices": [{"error": {"code": 502, "message": "m"}, "message": {"content": "half"}}]}),
                "502",
            ),
            (
                json!({"choices": [{"finish_reason": "content_filter", "content_filter_results": {"error": {"code": "x"}}}]}),
                "content_filter",
            ),
        ];
        for (body, code) in table {
            assert_eq!(reported(read(body.clone())).0, code, "{body}");
        }
        let billed = json!({"choices": [], "usage": {"prompt_tokens": 5}});
        assert_eq!(read(billed), Err(ReadError::NoMessage));
    }

    #[test]
    fn an_end_says_whether_the_answer_is_one() {
        let read = |message: Value, reason: &str| {
            let choice = json!({"index": 0, "message": message, "finish_reason": reason});
            read(json!({"choices": [choice], "usage": {"prompt_tokens": 5}}))
        };
        for reason in ["network_error", "insufficient_system_resource"] {
            assert_eq!(reported(read(json!({"content": "half"}), reason)).0, reason);
        }
        // Gemini, where it speaks OpenAI's API (<https://ai.google.dev/gemini-api/docs/openai>).
        let blocked = "content_filter: PROHIBITED_CONTENT";
        for message in [Value::Null, json!({"role": "assistant", "content": ""})] {
            assert_eq!(reported(read(message, blocked)).0, FILTERED);
        }
        let cut = read(json!({"content": "half"}), blocked).unwrap().choice;
        assert_eq!((&*cut.finish_reason, &cut.extra["finish_reason"]), (FILTERED, &json!(blocked)));
        let unusable = "function_call_filter: MALFORMED_FUNCTION_CALL";
        assert_eq!(reported(read(json!({"role": "assistant"}), unusable)).0, "MALFORMED_FUNCTION_CALL");
        assert_eq!(read(json!({"content": "call:f{}"}), unusable).unwrap().choice.finish_reason, unusable);
        assert_eq!(read(json!({"content": "a"}), "sensitive").unwrap().choice.finish_reason, FILTERED);
    }

    #[test]
    fn sparse_answers_are_read() {
        let reply =
            read(json!({"choices": [{"message": {"content": "x", "reasoning": "y"}}], "usage": null}))
                .unwrap();
        let message = reply.choice.message;
        assert_eq!(message.content, Content::Text("x".into()));
        assert_eq!((message.role.as_str(), message.reasoning_content.as_str()), ("assistant", "y"));
        let parts =
            json!([{"type": "thinking"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let usage = json!({"prompt_tokens": 1, "completion_tokens": 2});
        let reply = read(json!({"choices": [{"message": {"content": parts}}], "usage": usage})).unwrap();
        assert_eq!(reply.choice.message.content, Content::Text("ab".into()));
        assert_eq!(reply.usage.unwrap().total, 3);
    }

    #[test]
    fn what_is_not_the_protocol_is_a_failure() {
        for body in [
            "",
            "hello",
            "[]",
            "{}",
            "{\"choices\":[]}",
            "{\"choices\":[{}]}",
            "{\"choices\":[{\"mess",
            "[null,null,null,[{\"message\":{\"content\":\"x\"}}],null]",
        ] {
            assert_eq!(completion(body.as_bytes()), Err(ReadError::MALFORMED), "{body}");
        }
        let error = json!({"error": {"message": "m", "code": "insufficient_quota"}});
        assert_eq!(reported(read(error)), ("insufficient_quota".into(), "m".into()));
        assert!(read(json!({"error": null, "choices": [{"message": {"content": ""}}]})).is_ok());
    }
}
