//! Speech to text and text to speech (OpenAI API reference, "Create transcription" and "Create speech").

use crate::{
    balance::{ErrorClass, Failure},
    provider::{
        ByteStream, UpstreamClient,
        client::{self, Payload, Response},
        redact::Redactor,
    },
    wire::{
        SpeechReply, SpeechRequest, SpokenRequest, Voice,
        answer::{check_error, malformed, parse},
    },
};
use bytes::Bytes;
use http::{HeaderValue, header};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// The request as a form (`multipart/form-data`, RFC 7578) and its content type. Shares the bytes of the recording, so that
/// an attempt more costs no copy.
pub(crate) fn form(model: &str, request: &SpeechRequest) -> Result<(HeaderValue, Payload), Failure> {
    let malformed = || Failure::new(ErrorClass::BadRequest, "mime_type is not a media type");
    if !is_media_type(&request.mime_type) {
        return Err(malformed());
    }
    // Random, so that no recording holds it.
    let boundary = Uuid::new_v4().simple().to_string();
    let mut head = String::new();
    let texts = [("model", model), ("response_format", "json"), ("language", &request.language)];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        head.push_str(&format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n"
        ));
    }
    head.push_str(&format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\nContent-Type: {}\r\n\r\n",
        escaped(&request.filename),
        request.mime_type,
    ));
    let tail = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let content_type = HeaderValue::try_from(format!("multipart/form-data; boundary={boundary}"));
    let content_type = content_type.map_err(|_| malformed())?;
    Ok((content_type, [head.into(), request.audio.clone(), tail]))
}

/// A file's name as browsers write it into a form (WHATWG HTML, "multipart form data").
fn escaped(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

/// Whether it is `type/subtype`, with or without parameters.
fn is_media_type(text: &str) -> bool {
    let token = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c))
    };
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let halves = essence.trim().split_once('/');
    halves.is_some_and(|(kind, subtype)| token(kind) && token(subtype))
        && parameters.chars().all(|c| c == ' ' || c.is_ascii_graphic())
}

/// Reads what was said.
pub(crate) fn reply(body: &[u8], redactor: &Redactor) -> Result<SpeechReply, Failure> {
    let answer: Transcription = parse(body)?;
    check_error(answer.error, redactor)?;
    Ok(SpeechReply { text: answer.text.ok_or_else(malformed)? })
}

/// OpenAI's voices (API reference, "Create speech"), which servers with the same API take as well. Each speaks every
/// language.
pub(crate) const VOICES: &[Voice] = &[
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
pub(crate) fn body(model: &str, request: &SpokenRequest) -> Value {
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
pub(crate) async fn audio(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_holds_the_recording_as_it_is_and_nothing_breaks_out_of_a_name() {
        let request = SpeechRequest {
            audio: Bytes::from_static(b"RIFF\x00\xff"),
            filename: "a\"\r\nb ü.wav".into(),
            mime_type: "audio/wav; rate=8000".into(),
            language: String::new(),
        };
        let (content_type, body) = form("hear", &request).unwrap();
        let boundary = content_type.to_str().unwrap().split_once("boundary=").unwrap().1.to_owned();
        let field = |name: &str, text: &str| {
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
        };
        let file = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a%22%0D%0Ab ü.wav\"\r\n\
             Content-Type: audio/wav; rate=8000\r\n\r\n"
        );
        let head = field("model", "hear") + &field("response_format", "json") + &file;
        let tail = format!("\r\n--{boundary}--\r\n");
        let expected = [head.as_bytes(), b"RIFF\x00\xff", tail.as_bytes()];
        assert_eq!(body.concat(), expected.concat());
    }

    #[test]
    fn what_is_no_media_type_is_refused() {
        for good in ["audio/wav", "audio/x-m4a", "audio/ogg;codecs=opus", "application/vnd.a+b"] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in
            ["", "nothing", "/", "audio/", "/wav", "audio/wav\r\nX: y", "audio/w v", "audio/wav; a=\u{e4}"]
        {
            assert!(!is_media_type(bad), "{bad}");
        }
    }
}
