//! Speech to text and text to speech.

use super::{pieces::Pieces, pieces::pieces, service::InvokeApi};
use crate::{
    api::{from_pb, json, pb, room::keeping, status, to_pb},
    provider::{ModelType, estimate_text},
    wire::{SpeechRequest, SpokenRequest},
};
use bytes::Bytes;
use tonic::{Request, Response, Status};

const MAX_NAME: usize = 256;

/// Keys of these requests that Rota writes itself, for whatever provider.
const RESERVED: &[&str] = &["model", "file", "input", "voice", "language"];

impl InvokeApi {
    pub(super) async fn transcribed(
        &self,
        request: Request<pb::InvokeSpeechToTextRequest>,
    ) -> Result<Response<pb::InvokeSpeechToTextResponse>, Status> {
        let caller = from_pb::caller(&request)?;
        let (metadata, _, mut request) = request.into_parts();
        let (key, options) = (request.key.take(), request.options.take());
        let speech = speech_in(request)?;
        let call = self.call(&metadata, &caller, key, ModelType::SpeechToText, options.as_ref(), 0).await?;
        let served = self.engine.transcribe(&call, &speech).await.map_err(status::from_call)?;
        let response = pb::InvokeSpeechToTextResponse {
            text: served.reply.text,
            route: Some(to_pb::route(served.route)),
        };
        Ok(keeping(response, served.room))
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
        parameters: json::object(&request.parameters_json, "parameters_json", RESERVED)?,
        extra: json::extra(&request.extra_json, request.extra_json_kinds, &[], "extra_json", RESERVED)?,
    })
}

impl InvokeApi {
    pub(super) async fn spoken(
        &self,
        request: Request<pb::InvokeTtsRequest>,
    ) -> Result<Pieces<pb::InvokeTtsResponse>, Status> {
        let caller = from_pb::caller(&request)?;
        let (metadata, _, request) = request.into_parts();
        if request.text.is_empty() {
            return Err(status::invalid("text", "must not be empty"));
        }
        let tokens = estimate_text(request.text.len());
        let spoken = SpokenRequest {
            text: request.text,
            voice: name(request.voice, "voice", "", |_| false)?,
            format: name(request.format, "format", "", |_| false)?,
            parameters: json::object(&request.parameters_json, "parameters_json", RESERVED)?,
            extra: json::extra(&request.extra_json, request.extra_json_kinds, &[], "extra_json", RESERVED)?,
        };
        let options = request.options.as_ref();
        let call = self.call(&metadata, &caller, request.key, ModelType::Tts, options, tokens).await?;
        let audio = self.engine.speak(&call, &spoken).await.map_err(status::from_call)?;
        Ok(pieces(audio, self.stop.clone(), |audio: Bytes, _, news| pb::InvokeTtsResponse {
            audio: audio.into(),
            route: news.map(|news| to_pb::route(news.route)),
        }))
    }

    pub(super) async fn voices(
        &self,
        request: Request<pb::ListTtsVoicesRequest>,
    ) -> Result<pb::ListTtsVoicesResponse, Status> {
        let caller = from_pb::caller(&request)?;
        let (metadata, _, request) = request.into_parts();
        let language =
            name(request.language, "language", "", |c| !c.is_ascii_alphanumeric() && !"-_".contains(c))?;
        let call = self.call(&metadata, &caller, request.key, ModelType::Tts, None, 0).await?;
        let voices = self.engine.voices(&call).map_err(status::from_call)?;
        let voices = voices.iter().filter(|voice| voice.speaks(&language));
        let voices = voices.map(|voice| pb::Voice { id: voice.id.to_owned(), name: voice.name.to_owned() });
        Ok(pb::ListTtsVoicesResponse { voices: voices.collect() })
    }
}

/// A short text that goes into a header or a form.
fn name(text: String, field: &str, default: &str, wrong: impl Fn(char) -> bool) -> Result<String, Status> {
    if text.chars().count() > MAX_NAME {
        return Err(status::invalid(field, format!("is longer than {MAX_NAME} characters")));
    }
    if text.chars().any(|c| c.is_control() || wrong(c)) {
        return Err(status::invalid(field, "holds a character that cannot stand there"));
    }
    Ok(if text.is_empty() { default.to_owned() } else { text })
}
