//! The content of a message or of a call to judge, as clients of OpenAI's API write it (API reference, "Create chat
//! completion", `messages`: <https://platform.openai.com/docs/api-reference/chat/create>).

use super::fields::{Fields, Path};
use crate::wire::{Content, Extra, FieldError, Media, MediaSource, Part, PartKind, media::data_url};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

/// What a content says: its parts, and the texts of those that are refusals.
pub(super) fn content(value: Option<Value>, at: &Path<'_>) -> Result<(Content, String), FieldError> {
    match value {
        None => Ok((Content::default(), String::new())),
        Some(Value::String(text)) => Ok((Content::Text(text), String::new())),
        Some(Value::Array(items)) => {
            let mut refusal = String::new();
            let mut parts = Vec::with_capacity(items.len());
            for (place, item) in items.into_iter().enumerate() {
                let here = at.item(place);
                parts.extend(part(Fields::of(item, &here)?, &here, &mut refusal)?);
            }
            Ok((Content::Parts(parts), refusal))
        }
        Some(_) => Err(at.wrong("is neither a string nor a list of parts")),
    }
}

/// None where the part says nothing that another protocol could be told.
fn part(mut fields: Fields<'_>, at: &Path<'_>, refusal: &mut String) -> Result<Option<Part>, FieldError> {
    let kind = match fields.required("type")?.as_str() {
        "text" | "input_text" | "output_text" => {
            PartKind::Text(fields.text("text")?.ok_or_else(|| fields.wrong("text", "is required"))?)
        }
        "image_url" => PartKind::Image(image(&mut fields, at)?),
        "input_audio" => PartKind::Audio(audio(&mut fields, at)?),
        "file" => PartKind::Document(file(&mut fields, at)?),
        // What vLLM and OpenRouter take (<https://openrouter.ai/docs/guides/overview/multimodal/videos>).
        "video_url" => PartKind::Video(from_url(&mut fields, "video_url", at)?),
        "refusal" => {
            refusal.push_str(&fields.required("refusal")?);
            return Ok(None);
        }
        // Another vendor's thoughts (Mistral, <https://docs.mistral.ai/capabilities/reasoning>).
        "thinking" | "reasoning" => return Ok(None),
        _ => return Err(fields.wrong("type", "is of no sort that other protocols know")),
    };
    Ok(Some(Part { kind, extra: cache(&mut fields) }))
}

/// Where Anthropic shall cache, as OpenRouter and LiteLLM take it in OpenAI's words
/// (<https://openrouter.ai/docs/guides/best-practices/prompt-caching>). Nobody else gets it.
pub(super) fn cache(fields: &mut Fields<'_>) -> Extra {
    let mark = fields.take("cache_control").map(|mark| Map::from_iter([("cache_control".to_owned(), mark)]));
    mark.map(|mark| Extra { fields: mark.into(), kinds: vec!["anthropic".to_owned()] }).unwrap_or_default()
}

fn inner<'p>(fields: &mut Fields<'_>, name: &str, at: &'p Path<'p>) -> Result<Fields<'p>, FieldError> {
    Fields::of(fields.take(name).ok_or_else(|| fields.wrong(name, "is required"))?, at)
}

fn image(fields: &mut Fields<'_>, at: &Path<'_>) -> Result<Media, FieldError> {
    let here = at.key("image_url");
    // Some clients write the address alone.
    if let Some(Value::String(url)) = fields.get("image_url") {
        return Ok(Media { source: MediaSource::Url(url.clone()), ..Media::default() });
    }
    let mut image = inner(fields, "image_url", &here)?;
    let source = MediaSource::Url(image.required("url")?);
    Ok(Media { source, detail: image.text("detail")?.unwrap_or_default(), ..Media::default() })
}

fn from_url(fields: &mut Fields<'_>, name: &str, at: &Path<'_>) -> Result<Media, FieldError> {
    let here = at.key(name);
    let source = MediaSource::Url(inner(fields, name, &here)?.required("url")?);
    Ok(Media { source, ..Media::default() })
}

/// <https://platform.openai.com/docs/guides/audio>.
fn audio(fields: &mut Fields<'_>, at: &Path<'_>) -> Result<Media, FieldError> {
    let here = at.key("input_audio");
    let mut audio = inner(fields, "input_audio", &here)?;
    let data = audio.required("data")?;
    let data = BASE64_STANDARD.decode(data).map_err(|_| audio.wrong("data", "is not base64"))?;
    let mime_type = match audio.required("format")?.as_str() {
        "mp3" => "audio/mpeg".to_owned(),
        format if format.bytes().all(|byte| byte.is_ascii_alphanumeric()) => format!("audio/{format}"),
        _ => return Err(audio.wrong("format", "is not a format of audio")),
    };
    Ok(Media { source: MediaSource::Data(data), mime_type, ..Media::default() })
}

/// <https://platform.openai.com/docs/guides/pdf-files>.
fn file(fields: &mut Fields<'_>, at: &Path<'_>) -> Result<Media, FieldError> {
    let here = at.key("file");
    let mut file = inner(fields, "file", &here)?;
    file.refuse("file_id", "names a file that lies at one provider: send its data")?;
    let (data, filename) = (file.required("file_data")?, file.text("filename")?.unwrap_or_default());
    let not_base64 = || here.key("file_data").wrong("is not base64");
    let (mime_type, bytes) = match data_url(&data) {
        Some((mime_type, data)) => (mime_type, BASE64_STANDARD.decode(data).map_err(|_| not_base64())?),
        None => {
            let bytes = BASE64_STANDARD.decode(&data).map_err(|_| not_base64())?;
            let kind = if bytes.starts_with(b"%PDF-") { "application/pdf" } else { "text/plain" };
            (kind.to_owned(), bytes)
        }
    };
    Ok(Media { source: MediaSource::Data(bytes), mime_type, filename, ..Media::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<(Content, String), FieldError> {
        let (root, place) = (Path::Root, "content");
        content(Some(value), &root.key(place))
    }

    #[test]
    fn every_part_is_read() {
        let media =
            |source, mime_type: &str| Media { source, mime_type: mime_type.into(), ..Media::default() };
        let url = |url: &str| MediaSource::Url(url.into());
        let data = || MediaSource::Data(b"abc".to_vec());
        let named = |media: Media| Media { filename: "a".into(), ..media };
        let table = [
            (json!({"type": "text", "text": ""}), PartKind::Text(String::new())),
            (
                json!({"type": "image_url", "image_url": {"url": "https://h/i.png", "detail": "low"}}),
                PartKind::Image(Media { detail: "low".into(), ..media(url("https://h/i.png"), "") }),
            ),
            (
                json!({"type": "image_url", "image_url": "data:image/png;base64,YWJj"}),
                PartKind::Image(media(url("data:image/png;base64,YWJj"), "")),
            ),
            (
                json!({"type": "input_audio", "input_audio": {"data": "YWJj", "format": "mp3"}}),
                PartKind::Audio(media(data(), "audio/mpeg")),
            ),
            (
                json!({"type": "file", "file": {"file_data": "data:application/PDF;base64,YWJj", "filename": "a"}}),
                PartKind::Document(named(media(data(), "application/pdf"))),
            ),
            (
                json!({"type": "file", "file": {"file_data": "YWJj", "filename": "a"}}),
                PartKind::Document(named(media(data(), "text/plain"))),
            ),
            (
                json!({"type": "video_url", "video_url": {"url": "https://h/v"}}),
                PartKind::Video(media(url("https://h/v"), "")),
            ),
        ];
        for (value, kind) in table {
            let expected = Content::Parts(vec![kind.into()]);
            assert_eq!(read(json!([value])).unwrap(), (expected, String::new()), "{value}");
        }
        assert_eq!(read(json!("x")).unwrap().0, Content::Text("x".into()));
        let refusal = json!([{"type": "refusal", "refusal": "no"}, {"type": "thinking", "thinking": []}]);
        assert_eq!(read(refusal).unwrap(), (Content::Parts(Vec::new()), "no".into()));
        let cached = json!([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}, "x": 1}]);
        let (Content::Parts(parts), _) = read(cached).unwrap() else { panic!() };
        assert!(parts[0].extra.is_for("anthropic") && !parts[0].extra.is_for("gemini"));
    }

    #[test]
    fn what_cannot_be_said_is_named() {
        let table = [
            (json!(1), "content"),
            (json!([1]), "content[0]"),
            (json!([{}]), "content[0].type"),
            (json!([{"type": "x"}]), "content[0].type"),
            (json!([{"type": "text"}]), "content[0].text"),
            (json!([{"type": "text", "text": "a"}, {"type": "text", "text": 1}]), "content[1].text"),
            (json!([{"type": "image_url"}]), "content[0].image_url"),
            (json!([{"type": "image_url", "image_url": {}}]), "content[0].image_url.url"),
            (
                json!([{"type": "input_audio", "input_audio": {"data": "!", "format": "wav"}}]),
                "content[0].input_audio.data",
            ),
            (
                json!([{"type": "input_audio", "input_audio": {"data": "YWJj", "format": "a/b"}}]),
                "content[0].input_audio.format",
            ),
            (json!([{"type": "file", "file": {"file_id": "f"}}]), "content[0].file.file_id"),
            (json!([{"type": "file", "file": {"file_data": "!"}}]), "content[0].file.file_data"),
        ];
        for (value, field) in table {
            assert_eq!(read(value.clone()).unwrap_err().field, field, "{value}");
        }
    }
}
