//! Speech to text: `POST /audio/transcriptions` (OpenAI API reference, "Create transcription").

use crate::{
    balance::{ErrorClass, Failure},
    provider::{
        SpeechReply, SpeechRequest,
        answer::{check_error, malformed, parse},
        redact::Redactor,
    },
};
use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use serde_json::Value;

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

#[derive(Deserialize)]
struct Transcription {
    error: Option<Value>,
    text: Option<String>,
}
