//! Recordings and speech: `POST /v1/audio/transcriptions`, `/v1/audio/translations`, `/v1/audio/speech`
//! (<https://platform.openai.com/docs/api-reference/audio>).

use super::{fields::Fields, frames::write, once::Once};
use crate::wire::{Asked, FieldError, FormField, Input, Output, SpeechRequest, SpokenRequest};
use serde_json::{Map, Value, json};

/// The longest name of a file or a language, in characters.
const MOST_NAME: usize = 256;

/// What an answer in another form would need: times, speakers, probabilities, pieces.
const REFUSED: &[&str] =
    &["timestamp_granularities", "include", "known_speaker_names", "known_speaker_references"];

/// Reads a recording that shall be written down, from the fields of its form.
///
/// # Errors
/// What cannot be read, or said to another kind of provider.
pub fn transcription(fields: Vec<FormField>) -> Result<Asked, FieldError> {
    let (mut request, mut plain) = (SpeechRequest::default(), false);
    for field in fields {
        // Lists have brackets at their name.
        let name = field.name.strip_suffix("[]").unwrap_or(&field.name).to_owned();
        match name.as_str() {
            "file" => {
                request.filename = named(&field.filename, "audio", |c| c == '/' || c == '\\')?;
                request.mime_type =
                    named(&field.content_type, "application/octet-stream", |c| !c.is_ascii())?;
                request.audio = field.data;
            }
            "model" => {}
            "language" => {
                let wrong = |c: char| !c.is_ascii_alphanumeric() && c != '-';
                request.language = named(&text(field)?, "", wrong)
                    .map_err(|error| FieldError::new("language", error.why))?;
            }
            "response_format" => plain = is_plain(&text(field)?)?,
            "stream" => {
                if text(field)? == "true" {
                    return Err(FieldError::new(
                        "stream",
                        "other providers write a recording down as a whole",
                    ));
                }
            }
            _ if REFUSED.contains(&name.as_str()) => {
                return Err(FieldError::new(name, "asks for what other providers do not tell"));
            }
            // How to cut a recording changes nothing but the way to its text.
            "chunking_strategy" => {}
            _ => {
                let value = text(field)?;
                request.parameters.insert(name, value.into());
            }
        }
    }
    if request.audio.is_empty() {
        return Err(FieldError::new("file", "is required and must not be empty"));
    }
    let content_type = if plain { "text/plain; charset=utf-8" } else { "application/json" };
    let writer = Once::new(content_type, move |_, output| match output {
        Output::Transcription(said) if plain => (said.text + "\n").into_bytes(),
        Output::Transcription(said) => write(&json!({"text": said.text})),
        _ => Vec::new(),
    });
    Ok(Asked { input: Input::Transcription(request), writer: Box::new(writer) })
}

/// Reads a recording that shall be translated into English. No other protocol has a call for it.
///
/// # Errors
/// Always.
pub fn translation(_fields: Vec<FormField>) -> Result<Asked, FieldError> {
    Err(FieldError::new("model", "is of a provider whose protocol has no call that translates recordings"))
}

/// Whether the answer is text alone, and not JSON.
fn is_plain(format: &str) -> Result<bool, FieldError> {
    match format {
        "" | "json" => Ok(false),
        "text" => Ok(true),
        _ => Err(FieldError::new("response_format", "is `json` or `text`: other providers tell no times")),
    }
}

fn text(field: FormField) -> Result<String, FieldError> {
    String::from_utf8(field.data.into()).map_err(|_| FieldError::new(field.name, "is not UTF-8"))
}

/// A short text that goes into a header or a form.
fn named(text: &str, default: &str, wrong: impl Fn(char) -> bool) -> Result<String, FieldError> {
    if text.chars().count() > MOST_NAME || text.chars().any(|c| c.is_control() || wrong(c)) {
        return Err(FieldError::new("file", "holds a character that cannot stand there, or is too long"));
    }
    Ok(if text.is_empty() { default.to_owned() } else { text.to_owned() })
}

/// Formats of speech, and their media types (API reference, "Create speech", `response_format`).
const FORMATS: &[(&str, &str)] = &[
    ("mp3", "audio/mpeg"),
    ("opus", "audio/ogg"),
    ("aac", "audio/aac"),
    ("flac", "audio/flac"),
    ("wav", "audio/wav"),
    ("pcm", "audio/pcm"),
];

/// Reads a text that shall be read aloud. The answer is the audio itself.
///
/// # Errors
/// What cannot be read, or said to another kind of provider.
pub fn speech(body: &[u8]) -> Result<Asked, FieldError> {
    let mut fields = Fields::body(body)?;
    let text = fields.required("input")?;
    let voice = match fields.get("voice") {
        Some(Value::Object(_)) => {
            return Err(fields.wrong("voice", "names a voice that lies at one provider"));
        }
        _ => fields.text("voice")?.unwrap_or_default(),
    };
    if fields.text("stream_format")?.is_some_and(|format| format != "audio") {
        return Err(fields.wrong("stream_format", "is `audio`: other providers send no events"));
    }
    // OpenAI's default, which its clients count on.
    let format = fields.text("response_format")?.unwrap_or_else(|| "mp3".to_owned());
    let known = FORMATS.iter().find(|(name, _)| *name == format);
    let (_, media_type) = known.ok_or_else(|| fields.wrong("response_format", "is not a format of audio"))?;
    fields.take("model");
    let parameters: Map<_, _> = fields.rest();
    let request = SpokenRequest { text, voice, format, parameters, ..SpokenRequest::default() };
    Ok(Asked { input: Input::Speech(request), writer: Box::new(Once::new(media_type, |_, _| Vec::new())) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{SpeechReply, Stamp};
    use bytes::Bytes;
    use proptest::prelude::*;

    fn field(name: &str, text: &str) -> FormField {
        FormField { name: name.into(), data: Bytes::copy_from_slice(text.as_bytes()), ..FormField::default() }
    }

    fn file() -> FormField {
        FormField { filename: "a.mp3".into(), content_type: "audio/mpeg".into(), ..field("file", "sound") }
    }

    #[test]
    fn a_recording_is_read_from_its_form() {
        for (format, content_type, body) in
            [("json", "application/json", "{\"text\":\"hi\"}"), ("text", "text/plain; charset=utf-8", "hi\n")]
        {
            let fields = vec![
                field("model", "m"),
                file(),
                field("language", "en"),
                field("prompt", "p"),
                field("response_format", format),
                field("stream", "false"),
            ];
            let Asked { input, mut writer } = transcription(fields).unwrap();
            let Input::Transcription(request) = input else { panic!("a recording") };
            assert_eq!(
                (&*request.audio, &*request.filename, &*request.mime_type),
                (&b"sound"[..], "a.mp3", "audio/mpeg")
            );
            assert_eq!((&*request.language, Value::from(request.parameters)), ("en", json!({"prompt": "p"})));
            let said = Output::Transcription(SpeechReply { text: "hi".into() });
            assert_eq!(writer.content_type(), content_type);
            assert_eq!(writer.whole(&Stamp::default(), said), body.as_bytes());
        }
        let bare = transcription(vec![field("file", "sound")]).unwrap().input;
        let Input::Transcription(bare) = bare else { panic!("a recording") };
        assert_eq!((&*bare.filename, &*bare.mime_type), ("audio", "application/octet-stream"));
    }

    #[test]
    fn what_others_do_not_tell_is_named() {
        let table = [
            (vec![], "file"),
            (vec![field("file", "")], "file"),
            (vec![FormField { filename: "a/b".into(), ..file() }], "file"),
            (vec![file(), field("response_format", "srt")], "response_format"),
            (vec![file(), field("stream", "true")], "stream"),
            (vec![file(), field("timestamp_granularities[]", "word")], "timestamp_granularities"),
            (vec![file(), field("language", "e\nn")], "language"),
            (vec![file(), FormField { data: Bytes::from_static(b"\xff"), ..field("prompt", "") }], "prompt"),
        ];
        for (fields, name) in table {
            assert_eq!(transcription(fields).err().unwrap().field, name);
        }
        assert!(translation(vec![file()]).is_err());
    }

    #[test]
    fn a_text_is_read_aloud() {
        let asked = |body: Value| speech(body.to_string().as_bytes());
        let spoken = asked(
            json!({"model": "m", "input": "hi", "voice": "alloy", "speed": 2, "instructions": "softly"}),
        );
        let Asked { input, writer } = spoken.unwrap();
        let Input::Speech(request) = input else { panic!("a text") };
        assert_eq!((&*request.text, &*request.voice, &*request.format), ("hi", "alloy", "mp3"));
        assert_eq!(Value::from(request.parameters), json!({"speed": 2, "instructions": "softly"}));
        assert_eq!(writer.content_type(), "audio/mpeg");
        for (body, field) in [
            (json!({}), "input"),
            (json!({"input": "a", "voice": {"id": "v"}}), "voice"),
            (json!({"input": "a", "response_format": "x"}), "response_format"),
            (json!({"input": "a", "stream_format": "sse"}), "stream_format"),
        ] {
            assert_eq!(asked(body).err().unwrap().field, field);
        }
    }

    proptest! {
        #[test]
        fn no_form_breaks_it(fields: Vec<(String, String, Vec<u8>)>) {
            let fields = fields.into_iter().map(|(name, filename, data)| FormField {
                name, filename, data: data.into(), ..FormField::default()
            });
            drop(transcription(fields.collect()));
        }
    }
}
