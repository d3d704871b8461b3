//! What a whole answer says to whoever hands it on as it came: whether it is one, what it used, and how it ends.
//!
//! Most answers are good, and a pass over them that keeps nothing shows it. Whatever is odd is left to the reader of all
//! answers of its protocol, so that the same answers count as errors as where they are translated.

use super::{
    ChatReply, Endpoint, ProviderError, ReadError, TokenUsage,
    answer::no_answer,
    anthropic, gemini, openai,
    overheard::counts,
    scan::{self, Broken, Scan},
};
use std::ops::Range;

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Glance {
    /// What it used; none where the provider does not say.
    pub usage: Option<TokenUsage>,
    /// The model's name as returned; empty where it is not.
    pub model: String,
    /// Why it ends, in the house's words or the provider's; empty where it does not say.
    pub finish_reason: String,
}

/// Reads a whole answer from that endpoint.
///
/// # Errors
/// What is no answer.
pub fn glance(endpoint: Endpoint, body: &[u8]) -> Result<Glance, ReadError> {
    if let Some(glance) = quick(endpoint, body) {
        return Ok(glance);
    }
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions => openai::answer::completion(body).map(of_chat),
        Endpoint::Responses => openai::responses::response(body).map(of_chat),
        Endpoint::Messages => anthropic::answer::message(body).map(of_chat),
        Endpoint::GenerateContent | Endpoint::StreamGenerateContent => {
            gemini::answer::message(body).map(of_chat)
        }
        Endpoint::MessagesCountTokens => anthropic::answer::count(body).map(|_| Glance::default()),
        Endpoint::CountTokens => gemini::answer::count(body).map(|_| Glance::default()),
        _ => Err(no_answer(body)),
    }
}

fn of_chat(reply: ChatReply) -> Glance {
    Glance { usage: reply.usage, model: reply.head.model, finish_reason: reply.choice.finish_reason }
}

/// Whether JSON is an error in place of an answer, of whatever sort that is.
pub(super) fn error_in(body: &[u8]) -> Option<ReadError> {
    let mut blamed = false;
    let mut scan = Scan::new(body);
    let whole = scan.object(|scan, name| {
        blamed |= blames(scan, name)?;
        Ok::<_, Broken>(())
    });
    match (whole, blamed) {
        (Ok(()), false) => None,
        _ => Some(no_answer(body)).filter(|error| matches!(error, ReadError::Reported(_))),
    }
}

/// Keys that tell of an error, at the top of an answer or in a choice (see [`ProviderError::in_place_of_answer`]).
const BLAME: &[&str] =
    &["error", "code", "detail", "errors", "base_resp", "success", "x_groq", "promptFeedback"];

/// Goes over a value, and tells whether its name tells of an error.
fn blames(scan: &mut Scan<'_>, name: &str) -> Result<bool, Broken> {
    let is_null = scan.next() == Some(b'n');
    scan.value()?;
    Ok(BLAME.contains(&name) && !is_null)
}

/// What a pass over the answer has found.
#[derive(Default)]
struct Found {
    /// Whether there is what was asked for.
    answers: bool,
    odd: bool,
    usage: Option<Range<usize>>,
    model: Option<Range<usize>>,
    finish_reason: String,
}

/// Reads an answer that is plainly good.
fn quick(endpoint: Endpoint, body: &[u8]) -> Option<Glance> {
    let mut found = Found::default();
    let mut scan = Scan::new(body);
    if endpoint == Endpoint::Rerank && scan.next() == Some(b'[') {
        // Hugging Face's is a list by itself (<https://huggingface.github.io/text-embeddings-inference/>).
        scan.value().ok()?;
        return scan.end().is_ok().then(Glance::default);
    }
    scan.object(|scan, name| found.member(endpoint, body, scan, name)).ok()?;
    scan.end().ok()?;
    if found.odd || !found.answers {
        return None;
    }
    let usage = match found.usage.and_then(|place| body.get(place)) {
        Some(text) if !text.starts_with(b"n") => Some(counts(text)?),
        _ => None,
    };
    let model = found.model.and_then(|place| scan::text(body.get(place)?)).unwrap_or_default().into_owned();
    Some(Glance { usage, model, finish_reason: found.finish_reason })
}

impl Found {
    /// Takes a member of the answer.
    fn member(
        &mut self,
        endpoint: Endpoint,
        body: &[u8],
        scan: &mut Scan<'_>,
        name: &str,
    ) -> Result<(), Broken> {
        let next = scan.next();
        match (endpoint, name) {
            (_, "usage" | "usageMetadata") => self.usage = Some(scan.value()?),
            (_, "model" | "modelVersion") => self.model = Some(scan.value()?),
            (Endpoint::ChatCompletions | Endpoint::Completions, "choices") if next == Some(b'[') => {
                scan.array(|scan| self.choice(body, scan))?;
            }
            (Endpoint::GenerateContent, "candidates") if next == Some(b'[') => {
                scan.array(|scan| self.candidate(body, scan))?;
            }
            (Endpoint::Messages, "content")
            | (Endpoint::Embeddings | Endpoint::Images | Endpoint::Rerank, "data")
            | (Endpoint::Rerank | Endpoint::Moderations, "results")
            | (Endpoint::BatchEmbedContents, "embeddings") => self.answers |= is_filled(body, &scan.value()?),
            (Endpoint::EmbedContent, "embedding") => self.answers |= is_filled(body, &scan.value()?),
            (Endpoint::Transcriptions | Endpoint::Translations, "text") => {
                scan.value()?;
                self.answers |= next == Some(b'"');
            }
            (Endpoint::Messages, "stop_reason") => {
                let reason = word(body, scan)?;
                self.odd |=
                    !matches!(reason.as_str(), "end_turn" | "max_tokens" | "tool_use" | "stop_sequence");
                self.finish_reason = reason;
            }
            (Endpoint::Messages, "type") => self.odd |= word(body, scan)? != "message",
            (Endpoint::Responses, "status") => {
                self.odd |= word(body, scan)? != "completed";
                "stop".clone_into(&mut self.finish_reason);
            }
            (Endpoint::Responses, "output") => self.answers |= is_filled(body, &scan.value()?),
            _ => self.odd |= blames(scan, name)?,
        }
        Ok(())
    }

    /// Takes a choice of OpenAI's.
    fn choice(&mut self, body: &[u8], scan: &mut Scan<'_>) -> Result<(), Broken> {
        let (mut says, mut ends) = (false, false);
        scan.object(|scan, name| {
            match name {
                "message" if scan.next() == Some(b'{') => scan.object(|scan, name| {
                    let place = scan.value()?;
                    says |= matches!(name, "content" | "tool_calls") && is_filled(body, &place);
                    Ok::<_, Broken>(())
                })?,
                "text" => says |= is_filled(body, &scan.value()?),
                "finish_reason" => {
                    self.finish_reason = word(body, scan)?;
                    ends = matches!(self.finish_reason.as_str(), "stop" | "length" | "tool_calls");
                }
                _ => self.odd |= blames(scan, name)?,
            }
            Ok::<_, Broken>(())
        })?;
        self.answers = true;
        self.odd |= !(says && ends);
        Ok(())
    }

    /// Takes a candidate of Gemini's.
    fn candidate(&mut self, body: &[u8], scan: &mut Scan<'_>) -> Result<(), Broken> {
        let (mut says, mut ends) = (false, false);
        scan.object(|scan, name| {
            match name {
                "content" if scan.next() == Some(b'{') => scan.object(|scan, name| {
                    let place = scan.value()?;
                    says |= name == "parts" && is_said(body.get(place).unwrap_or_default());
                    Ok::<_, Broken>(())
                })?,
                "finishReason" => {
                    let reason = word(body, scan)?;
                    ends = matches!(reason.as_str(), "STOP" | "MAX_TOKENS");
                    self.finish_reason = if reason == "STOP" { "stop".into() } else { "length".into() };
                }
                _ => self.odd |= blames(scan, name)?,
            }
            Ok::<_, Broken>(())
        })?;
        self.answers = true;
        self.odd |= !(says && ends);
        Ok(())
    }
}

/// Whether Gemini's parts plainly say something: the first is a text that is not empty, or a call.
fn is_said(parts: &[u8]) -> bool {
    let mut says = false;
    let read = Scan::new(parts).array(|scan| {
        scan.object(|scan, name| {
            let place = scan.value()?;
            says |= matches!(name, "text" | "functionCall") && is_filled(parts, &place);
            Ok::<_, Broken>(())
        })
    });
    read.is_ok() && says
}

/// A text; empty where it is none.
fn word(body: &[u8], scan: &mut Scan<'_>) -> Result<String, Broken> {
    let place = scan.value()?;
    Ok(body.get(place).and_then(scan::text).unwrap_or_default().into_owned())
}

/// Whether a value is a text, a list or an object with something in it.
fn is_filled(body: &[u8], place: &Range<usize>) -> bool {
    match body.get(place.clone()) {
        Some([b'"' | b'[' | b'{', inner @ .., _]) => !inner.trim_ascii().is_empty(),
        _ => false,
    }
}

/// The error that a frame of a stream is, whatever the stream is of.
pub(super) fn reported(data: &[u8]) -> Option<ProviderError> {
    match error_in(data) {
        Some(ReadError::Reported(error)) => Some(*error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(endpoint: Endpoint, body: &Value) -> Result<Glance, ReadError> {
        glance(endpoint, body.to_string().as_bytes())
    }

    fn good() -> Vec<(Endpoint, Value, u32)> {
        let usage = json!({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8});
        vec![
            (
                Endpoint::ChatCompletions,
                json!({"model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"},
                    "finish_reason": "stop"}], "usage": usage}),
                8,
            ),
            (
                Endpoint::ChatCompletions,
                json!({"model": "m", "choices": [{"message": {"content": null, "tool_calls": [{"id": "c",
                    "function": {"name": "f", "arguments": "{}"}}]}, "finish_reason": "tool_calls"}], "usage": usage}),
                8,
            ),
            (
                Endpoint::Completions,
                json!({"model": "m", "choices": [{"text": "a", "finish_reason": "length"}], "usage": usage}),
                8,
            ),
            (
                Endpoint::Responses,
                json!({"model": "m", "object": "response", "status": "completed", "error": null,
                    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}],
                    "usage": {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}}),
                8,
            ),
            (
                Endpoint::Messages,
                json!({"type": "message", "model": "m", "content": [{"type": "text", "text": "a"}],
                    "stop_reason": "end_turn", "usage": {"input_tokens": 5, "output_tokens": 3}}),
                8,
            ),
            (
                Endpoint::GenerateContent,
                json!({"modelVersion": "m", "candidates": [{"content": {"parts": [{"text": "a"}]},
                    "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 3,
                    "totalTokenCount": 8}}),
                8,
            ),
            (Endpoint::Embeddings, json!({"model": "m", "data": [{"embedding": [1.5]}], "usage": usage}), 8),
            (Endpoint::Rerank, json!({"model": "m", "results": [{"index": 0}], "usage": usage}), 8),
            (Endpoint::Rerank, json!([{"index": 0, "score": 0.5}]), 0),
            (Endpoint::Moderations, json!({"model": "m", "results": [{"flagged": false}]}), 0),
            (Endpoint::Images, json!({"data": [{"b64_json": "eA=="}]}), 0),
            (Endpoint::Transcriptions, json!({"text": ""}), 0),
            (Endpoint::EmbedContent, json!({"embedding": {"values": [1]}}), 0),
            (Endpoint::BatchEmbedContents, json!({"embeddings": [{"values": [1]}]}), 0),
        ]
    }

    #[test]
    fn good_answers_are_known_at_a_glance() {
        for (endpoint, body, total) in good() {
            let glance = quick(endpoint, body.to_string().as_bytes());
            let glance = glance.unwrap_or_else(|| panic!("{endpoint:?} {body}"));
            assert_eq!(glance.usage.map_or(0, |usage| usage.total), total, "{body}");
            if body.get("model").or_else(|| body.get("modelVersion")).is_some() {
                assert_eq!(glance.model, "m", "{body}");
            }
        }
        assert_eq!(read(Endpoint::CountTokens, &json!({"totalTokens": 3})), Ok(Glance::default()));
        assert_eq!(read(Endpoint::MessagesCountTokens, &json!({"input_tokens": 3})), Ok(Glance::default()));
    }

    #[test]
    fn errors_under_success_are_errors() {
        let errors = [
            json!({"error": {"message": "slow down", "code": 429}}),
            json!({"code": "denied", "message": "m"}),
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}),
            json!([{"error": {"code": 400, "message": "m"}}]),
        ];
        for (endpoint, mut body, _) in good() {
            for error in &errors {
                assert!(
                    matches!(read(endpoint, error), Err(ReadError::Reported(_))) || error.is_array(),
                    "{endpoint:?}"
                );
            }
            for nothing in [json!({}), json!(null), json!("text"), json!([])] {
                let is_list = endpoint == Endpoint::Rerank && nothing.is_array();
                assert!(read(endpoint, &nothing).is_err() || is_list, "{endpoint:?} {nothing}");
            }
            for cut in [&b"{"[..], b"", b"<html>"] {
                assert!(glance(endpoint, cut).is_err(), "{endpoint:?}");
            }
            if let Some(object) = body.as_object_mut() {
                object.insert("error".into(), errors[0]["error"].clone());
                assert!(read(endpoint, &body).is_err(), "{body}");
                body["error"] = Value::Null;
                assert!(read(endpoint, &body).is_ok(), "{body}");
            }
        }
    }

    #[test]
    fn what_says_nothing_is_left_to_the_reader_of_all_answers() {
        let choice = |choice: Value| json!({"choices": [choice], "usage": {"prompt_tokens": 5}});
        let table = [
            (
                Endpoint::ChatCompletions,
                choice(json!({"finish_reason": "content_filter", "message": {"content": ""}})),
            ),
            (
                Endpoint::ChatCompletions,
                choice(json!({"finish_reason": "error", "message": {"content": "a"}})),
            ),
            (Endpoint::ChatCompletions, json!({"choices": [], "usage": {"prompt_tokens": 5}})),
            (Endpoint::GenerateContent, json!({"candidates": [{"finishReason": "SAFETY"}]})),
            (Endpoint::GenerateContent, json!({"promptFeedback": {"blockReason": "SAFETY"}})),
            (Endpoint::Responses, json!({"object": "response", "status": "failed", "output": [{}]})),
            (Endpoint::Embeddings, json!({"data": []})),
        ];
        for (endpoint, body) in table {
            assert!(read(endpoint, &body).is_err(), "{body}");
        }
        let empty = choice(json!({"finish_reason": "stop", "message": {"content": ""}}));
        assert!(read(Endpoint::ChatCompletions, &empty).is_ok(), "as where it is translated");
    }
}
