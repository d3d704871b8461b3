//! Speech to text and text to speech (OpenAI API reference, "Create transcription" and "Create speech").

use crate::{
    balance::{ErrorClass, Failure},
    provider::{
        ByteStream, SpeechReply, SpeechRequest, SpokenRequest, UpstreamClient, Voice,
        answer::{check_error, malformed, parse},
        client,
        redact::Redactor,
    },
};
use http::{HeaderValue, header};
use reqwest::{
    Response,
    multipart::{Form, Part},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// The request. Shares the bytes of the recording, so that an attempt more costs no copy.
pub(super) fn form(model: &str, request: &SpeechRequest) -> Result<Form, Failure> {
    let length = request.audio.len() as u64;
    let file = Part::stream_with_length(request.audio.clone(), length).file_name(request.filename.clone());
    let file = file
        .mime_str(&request.mime_type)
        .map_err(|_| Failure::new(ErrorClass::BadRequest, "mime_type is not a media type"))?;
    let form = Form::new().text("model", model.to_owned()).text("response_format", "json");
    let form =
        if request.language.is_empty() { form } else { form.text("language", request.language.clone()) };
    Ok(form.part("file", file))
}

/// Reads what was said.
pub(in crate::provider) fn reply(body: &[u8], redactor: &Redactor) -> Result<SpeechReply, Failure> {
    let answer: Transcription = parse(body)?;
    check_error(answer.error, redactor)?;
    Ok(SpeechReply { text: answer.text.ok_or_else(malformed)? })
}

/// OpenAI's voices (API reference, "Create speech"), which servers with the same API take as well. Each speaks every
/// language.
pub(super) const VOICES: &[Voice] = &[
    voice("alloy", "Alloy"),
    voice("ash", "Ash"),
    voice("ballad", "Ballad"),
    voice("coral", "Coral"),
    voice("echo", "Echo"),
    voice("fable", "Fable"),
    voice("nova", "Nova"),
    voice("onyx", "Onyx"),
    voice("sage", "Sage"),
    voice("shimmer", "Shimmer"),
    voice("verse", "Verse"),
];

const fn voice(id: &'static str, name: &'static str) -> Voice {
    Voice { id, name, languages: &[] }
}

/// The body of `POST /audio/speech`. A voice is required there.
pub(super) fn body(model: &str, request: &SpokenRequest) -> Value {
    let first = VOICES.first().map_or("", |voice| voice.id);
    let voice = if request.voice.is_empty() { first } else { &request.voice };
    let mut body = json!({ "model": model, "input": request.text, "voice": voice });
    if !request.format.is_empty()
        && let Some(body) = body.as_object_mut()
    {
        body.insert("response_format".into(), request.format.clone().into());
    }
    body
}

/// The audio, which is the body itself. Text is none: an error, or a page of something in between.
pub(super) async fn audio(
    upstream: &UpstreamClient,
    response: Response,
    redactor: &Redactor,
) -> Result<ByteStream, Failure> {
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = content_type.unwrap_or_default().to_ascii_lowercase();
    if kind.starts_with(b"application/json") {
        let answer: Problem = parse(&upstream.read(response).await?)?;
        check_error(answer.error, redactor)?;
        return Err(malformed());
    }
    if kind.starts_with(b"text/") {
        return Err(malformed());
    }
    Ok(client::body(response))
}

#[derive(Deserialize)]
struct Problem {
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Transcription {
    error: Option<Value>,
    text: Option<String>,
}
