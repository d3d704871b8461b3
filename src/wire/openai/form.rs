//! The form that carries a recording to be written down (OpenAI API reference, "Create transcription":
//! <https://platform.openai.com/docs/api-reference/audio/createTranscription>).

use crate::wire::{Recipient, SpeechRequest, WriteError};
use bytes::Bytes;
use http::HeaderValue;
use uuid::Uuid;

/// A form (`multipart/form-data`, <https://www.rfc-editor.org/rfc/rfc7578>) in pieces, so that the recording in it is not
/// copied for each attempt.
pub struct Form {
    /// Names the boundary of the parts.
    pub content_type: HeaderValue,
    /// What stands before the recording, the recording, and what stands behind it.
    pub pieces: [Bytes; 3],
}

/// The fields that the call itself fills.
const WRITTEN: &[&str] = &["model", "response_format", "language", "file"];

/// The body of `POST /audio/transcriptions`.
pub fn transcription(to: Recipient<'_>, request: &SpeechRequest) -> Result<Form, WriteError> {
    let malformed = || WriteError::new("mime_type", "is not a media type");
    if !is_media_type(&request.mime_type) {
        return Err(malformed());
    }
    // Random, so that no recording holds it.
    let boundary = Uuid::new_v4().simple().to_string();
    let mut head = String::new();
    let texts = [("model", to.model), ("response_format", "json"), ("language", &request.language)];
    let texts = texts.map(|(name, text)| (name.to_owned(), text.to_owned())).into_iter();
    let mut more = request.parameters.clone();
    request.extra.add_to(&mut more, to.kind);
    let more = more.into_iter().filter(|(name, _)| !WRITTEN.contains(&name.as_str()));
    let more = more
        .map(|(name, value)| (escaped(&name), value.as_str().map_or_else(|| value.to_string(), Into::into)));
    for (name, text) in texts.chain(more).filter(|(_, text)| !text.is_empty()) {
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
    Ok(Form { content_type, pieces: [head.into(), request.audio.clone(), tail] })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_holds_the_recording_as_it_is_and_nothing_breaks_out_of_a_name() {
        let request = SpeechRequest {
            audio: Bytes::from_static(b"RIFF\x00\xff"),
            filename: "a\"\r\nb ü.wav".into(),
            mime_type: "audio/wav; rate=8000".into(),
            ..SpeechRequest::default()
        };
        let to = Recipient { kind: "openai", model: "hear", switches: crate::wire::Switches::NONE };
        let Form { content_type, pieces } = transcription(to, &request).unwrap();
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
        assert_eq!(pieces.concat(), expected.concat());
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
