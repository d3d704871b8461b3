//! Speech to text.

use super::{InvokeApi, caller, convert, pb, status};
use crate::provider::{ModelType, SpeechRequest};
use bytes::Bytes;
use tonic::{Request, Status};

const MAX_NAME: usize = 256;

impl InvokeApi {
    pub(super) async fn transcribed(
        &self,
        request: Request<pb::InvokeSpeechToTextRequest>,
    ) -> Result<pb::InvokeSpeechToTextResponse, Status> {
        let caller = caller(&request)?;
        let (metadata, _, mut request) = request.into_parts();
        let (key, options) = (request.key.take(), request.options.take());
        let speech = speech_in(request)?;
        let call = self.call(&metadata, &caller, key, ModelType::SpeechToText, options.as_ref(), 0).await?;
        let served = self.engine.transcribe(&call, &speech).await.map_err(status::from_call)?;
        Ok(pb::InvokeSpeechToTextResponse {
            text: served.reply.text,
            route: Some(convert::route(served.route)),
        })
    }
}

pub(super) fn speech_in(request: pb::InvokeSpeechToTextRequest) -> Result<SpeechRequest, Status> {
    if request.audio.is_empty() {
        return Err(status::invalid("audio", "must not be empty"));
    }
    Ok(SpeechRequest {
        audio: Bytes::from(request.audio),
        filename: name(request.filename, "filename", "audio", |c| c == '/' || c == '\\')?,
        mime_type: name(request.mime_type, "mime_type", "application/octet-stream", |c| !c.is_ascii())?,
        language: name(request.language, "language", "", |c| !c.is_ascii_alphanumeric() && c != '-')?,
    })
}

/// A short text that goes into a header of the form.
fn name(text: String, field: &str, default: &str, wrong: impl Fn(char) -> bool) -> Result<String, Status> {
    if text.chars().count() > MAX_NAME {
        return Err(status::invalid(field, format!("is longer than {MAX_NAME} characters")));
    }
    if text.chars().any(|c| c.is_control() || wrong(c)) {
        return Err(status::invalid(field, "holds a character that cannot stand there"));
    }
    Ok(if text.is_empty() { default.to_owned() } else { text })
}
