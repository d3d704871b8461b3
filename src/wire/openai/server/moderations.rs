//! `POST /v1/moderations` (<https://platform.openai.com/docs/api-reference/moderations/create>).

use super::{
    content::content,
    fields::{Fields, Path},
    frames::write,
    once::Once,
};
use crate::wire::{
    Asked, Content, FieldError, Input, Judgement, ModerationInputs, ModerationReply, ModerationRequest,
    Output, PartKind, Stamp,
};
use serde_json::{Map, Value, json};

/// The most inputs of one call.
const MOST_INPUTS: usize = 1000;

/// OpenAI's categories (API reference, "The moderation object"). Its clients' types have a field for each.
const CATEGORIES: &[&str] = &[
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// Reads a request for translation.
///
/// # Errors
/// What cannot be read, or said to another kind of provider.
pub fn read(body: &[u8]) -> Result<Asked, FieldError> {
    let mut fields = Fields::body(body)?;
    let inputs = inputs(fields.take("input"), &Path::Root.key("input"))?;
    fields.take("model");
    let request = ModerationRequest { inputs, parameters: fields.rest(), ..ModerationRequest::default() };
    let writer = Once::json(|stamp, output| match output {
        Output::Moderation(reply) => answer(stamp, &reply),
        _ => Vec::new(),
    });
    Ok(Asked { input: Input::Moderation(request), writer: Box::new(writer) })
}

/// Texts, each by itself, or parts, all together.
fn inputs(value: Option<Value>, at: &Path<'_>) -> Result<ModerationInputs, FieldError> {
    let items = match value {
        Some(Value::Array(items)) => items,
        Some(Value::String(text)) => vec![Value::String(text)],
        None => return Err(at.wrong("is required")),
        Some(_) => return Err(at.wrong("is neither a string nor a list")),
    };
    if items.is_empty() || items.len() > MOST_INPUTS {
        return Err(at.wrong(format!("must hold 1 to {MOST_INPUTS} inputs")));
    }
    if items.first().is_some_and(Value::is_object) {
        let (content, _) = content(Some(Value::Array(items)), at)?;
        let Content::Parts(parts) = content else { return Err(at.wrong("is not a list of parts")) };
        let judged = |kind: &PartKind| matches!(kind, PartKind::Text(_) | PartKind::Image(_));
        return match parts.iter().position(|part| !judged(&part.kind)) {
            Some(place) => Err(at.item(place).key("type").wrong("is neither `text` nor `image_url`")),
            None => Ok(ModerationInputs::Parts(parts)),
        };
    }
    let read = |(place, item): (usize, Value)| match item {
        Value::String(text) if !text.is_empty() => Ok(text),
        Value::String(_) => Err(at.item(place).wrong("must not be empty")),
        _ => Err(at.item(place).wrong("is not a string")),
    };
    Ok(ModerationInputs::Texts(items.into_iter().enumerate().map(read).collect::<Result<_, _>>()?))
}

fn answer(stamp: &Stamp, reply: &ModerationReply) -> Vec<u8> {
    let results: Vec<_> = reply.results.iter().map(result).collect();
    write(&json!({"id": format!("modr-{}", stamp.id), "model": stamp.model, "results": results}))
}

/// A category that the provider has not judged does not apply.
fn result(judgement: &Judgement) -> Value {
    let of_openai = |value: Value| -> Map<String, Value> {
        CATEGORIES.iter().map(|name| ((*name).to_owned(), value.clone())).collect()
    };
    let (mut flags, mut scores) = (of_openai(false.into()), of_openai(0.0.into()));
    for category in &judgement.categories {
        flags.insert(category.name.clone(), category.flagged.into());
        scores.insert(category.name.clone(), category.score.into());
    }
    let types: Map<_, _> = flags.keys().map(|name| (name.clone(), json!([]))).collect();
    json!({
        "flagged": judgement.flagged,
        "categories": flags,
        "category_scores": scores,
        "category_applied_input_types": types,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Category, Media, MediaSource};

    fn asked(body: &Value) -> Result<Asked, FieldError> {
        read(body.to_string().as_bytes())
    }

    #[test]
    fn inputs_are_texts_or_parts() {
        let texts =
            |texts: &[&str]| ModerationInputs::Texts(texts.iter().map(|text| (*text).to_owned()).collect());
        let image = Media { source: MediaSource::Url("https://h/i".into()), ..Media::default() };
        let parts = vec![PartKind::Text("a".into()).into(), PartKind::Image(image).into()];
        let table = [
            (json!("a"), texts(&["a"])),
            (json!(["a", "b"]), texts(&["a", "b"])),
            (
                json!([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://h/i"}}]),
                ModerationInputs::Parts(parts),
            ),
        ];
        for (input, expected) in table {
            let Input::Moderation(request) = asked(&json!({"model": "m", "input": input})).unwrap().input
            else {
                panic!("a judgement")
            };
            assert_eq!((request.inputs, request.parameters.len()), (expected, 0));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            (json!({}), "input"),
            (json!({"input": 1}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": ["a", 1]}), "input[1]"),
            (json!({"input": ["a", ""]}), "input[1]"),
            (json!({"input": [{"type": "x"}]}), "input[0].type"),
            (json!({"input": [{"type": "video_url", "video_url": {"url": "u"}}]}), "input[0].type"),
        ];
        for (body, field) in table {
            assert_eq!(asked(&body).err().unwrap().field, field, "{body}");
        }
    }

    #[test]
    fn every_category_is_told() {
        let categories = vec![Category { name: "violence".into(), flagged: true, score: 0.5 }];
        let reply = ModerationReply { results: vec![Judgement { flagged: true, categories }] };
        let mut writer = asked(&json!({"input": "a"})).unwrap().writer;
        let body = writer.whole(&Stamp { id: "1".into(), ..Stamp::default() }, Output::Moderation(reply));
        let value: Value = serde_json::from_slice(&body).unwrap();
        let result = &value["results"][0];
        assert_eq!((&value["id"], &result["flagged"]), (&json!("modr-1"), &json!(true)));
        assert_eq!(
            (&result["categories"]["violence"], &result["categories"]["hate"]),
            (&json!(true), &json!(false))
        );
        assert_eq!(
            (&result["category_scores"]["violence"], &result["category_scores"]["hate"]),
            (&json!(0.5), &json!(0.0))
        );
        for name in ["categories", "category_scores", "category_applied_input_types"] {
            assert_eq!(result[name].as_object().unwrap().len(), CATEGORIES.len());
        }
    }
}
