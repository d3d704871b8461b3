//! How the parts of a message are written for an OpenAI-speaking server, and which of them it takes. Pure.

use crate::wire::{Media, MediaSource, Part, PartKind, Recipient};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

/// OpenAI's own kinds refuse what other servers with the same API may take.
pub(super) const STRICT: &[&str] = &["openai", "azure_openai"];

/// Whether the API takes such a part: audio and documents by their bytes alone, and media from the user alone.
pub(super) fn sendable(part: &Part, role: &str, to: Recipient<'_>) -> Result<(), &'static str> {
    let strict = STRICT.contains(&to.kind);
    match &part.kind {
        PartKind::Audio(media) if !matches!(media.source, MediaSource::Data(_)) => {
            Err("audio must be sent as data to this provider, not by URL or file id")
        }
        PartKind::Document(Media { source: MediaSource::Url(_), .. }) if strict => {
            Err("documents must be sent as data or by file id to this provider, not by URL")
        }
        PartKind::Image(Media { source: MediaSource::File(_), .. }) => {
            Err("images must be sent as data or by URL to this provider, not by file id")
        }
        PartKind::Video(_) if strict => Err("this provider takes no video"),
        PartKind::Image(_) | PartKind::Audio(_) | PartKind::Document(_) if strict && role == "tool" => {
            Err("this provider takes texts alone in results of tools")
        }
        _ => Ok(()),
    }
}

pub(super) fn part(part: &Part, to: Recipient<'_>) -> Value {
    let mut out = match &part.kind {
        PartKind::Text(text) => object(json!({"type": "text", "text": text})),
        PartKind::Image(media) => {
            let mut image = object(json!({ "url": url(media) }));
            if !media.detail.is_empty() {
                image.insert("detail".into(), media.detail.clone().into());
            }
            object(json!({"type": "image_url", "image_url": image}))
        }
        PartKind::Audio(media) => object(json!({
            "type": "input_audio",
            "input_audio": {"data": base64(media), "format": audio_format(&media.mime_type)},
        })),
        PartKind::Document(Media { source: MediaSource::File(id), .. }) => {
            object(json!({"type": "file", "file": {"file_id": id}}))
        }
        PartKind::Document(media) => object(json!({
            "type": "file",
            "file": {"filename": filename(media), "file_data": url(media)},
        })),
        PartKind::Video(media) => object(json!({"type": "video_url", "video_url": {"url": url(media)}})),
        PartKind::Opaque => Map::new(),
    };
    part.extra.add_to(&mut out, to.kind);
    Value::Object(out)
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn filename(media: &Media) -> String {
    if media.filename.is_empty() {
        format!("document.{}", extension(&media.mime_type))
    } else {
        media.filename.clone()
    }
}

/// The bytes; none of what only a URL is known of, which [`sendable`] has refused where it matters.
fn base64(media: &Media) -> String {
    match &media.source {
        MediaSource::Url(_) | MediaSource::File(_) => String::new(),
        MediaSource::Data(bytes) => BASE64_STANDARD.encode(bytes),
    }
}

fn url(media: &Media) -> String {
    match &media.source {
        MediaSource::Url(url) | MediaSource::File(url) => url.clone(),
        MediaSource::Data(bytes) => {
            format!("data:{};base64,{}", media.mime_type, BASE64_STANDARD.encode(bytes))
        }
    }
}

/// `png` of `image/png; x=y`, without `x-`.
fn subtype(mime_type: &str) -> String {
    let essence = mime_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
    subtype.strip_prefix("x-").unwrap_or(subtype).to_owned()
}

/// OpenAI knows `wav` and `mp3`; other names are passed on for compatible servers.
fn audio_format(mime_type: &str) -> String {
    match subtype(mime_type).as_str() {
        "wave" | "vnd.wave" => "wav".to_owned(),
        "mpeg" | "mpeg3" => "mp3".to_owned(),
        other => other.to_owned(),
    }
}

/// A file's extension: servers look at it to choose a reader.
fn extension(mime_type: &str) -> String {
    match subtype(mime_type).as_str() {
        "plain" => "txt".to_owned(),
        "markdown" => "md".to_owned(),
        "msword" => "doc".to_owned(),
        "vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx".to_owned(),
        "vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx".to_owned(),
        "vnd.openxmlformats-officedocument.presentationml.presentation" => "pptx".to_owned(),
        other if !other.is_empty() && other.bytes().all(|b| b.is_ascii_alphanumeric()) => other.to_owned(),
        _ => "bin".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Recipient<'_> = Recipient { kind: "openai", model: "m", switches: crate::wire::Switches::NONE };

    #[test]
    fn parts_are_written_as_openai_does() {
        let data = |mime_type: &str| Media {
            source: MediaSource::Data(b"abc".to_vec()),
            mime_type: mime_type.into(),
            ..Media::default()
        };
        let from = |source: MediaSource| Media { source, ..Media::default() };
        let by_url = || from(MediaSource::Url("https://h/i.png".into()));
        let by_id = || from(MediaSource::File("file-1".into()));
        let table = [
            (PartKind::Text("t".into()), json!({"type": "text", "text": "t"})),
            (
                PartKind::Image(by_url()),
                json!({"type": "image_url", "image_url": {"url": "https://h/i.png"}}),
            ),
            (
                PartKind::Image(Media { detail: "low".into(), ..data("image/png") }),
                json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj", "detail": "low"}}),
            ),
            (
                PartKind::Audio(data("audio/x-wav")),
                json!({"type": "input_audio", "input_audio": {"data": "YWJj", "format": "wav"}}),
            ),
            (
                PartKind::Audio(data("audio/mpeg; rate=1")),
                json!({"type": "input_audio", "input_audio": {"data": "YWJj", "format": "mp3"}}),
            ),
            (
                PartKind::Document(data("application/pdf")),
                json!({"type": "file", "file": {
                    "filename": "document.pdf", "file_data": "data:application/pdf;base64,YWJj",
                }}),
            ),
            (
                PartKind::Document(Media { filename: "a.pdf".into(), ..data("application/pdf") }),
                json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,YWJj"}}),
            ),
            (PartKind::Document(by_id()), json!({"type": "file", "file": {"file_id": "file-1"}})),
        ];
        for (input, expected) in table {
            let input = Part::from(input);
            assert_eq!(part(&input, TO), expected);
            sendable(&input, "user", TO).unwrap();
        }
        let refused = [
            (PartKind::Audio(by_url()), "user"),
            (PartKind::Document(by_url()), "user"),
            (PartKind::Image(by_id()), "user"),
            (PartKind::Video(by_url()), "user"),
            (PartKind::Image(by_url()), "tool"),
        ];
        for (input, role) in refused {
            assert!(sendable(&input.into(), role, TO).is_err());
        }
        let compatible = Recipient { kind: "openai_compatible", ..TO };
        assert!(sendable(&PartKind::Document(by_url()).into(), "user", compatible).is_ok());
        assert!(sendable(&PartKind::Image(by_url()).into(), "tool", compatible).is_ok());
    }
}
