//! The conversation as Gemini's clients send it (API reference, "Content", "Part").

use super::{
    KIND,
    fields::Fields,
    signature::{is_packed, unpack},
};
use crate::wire::{
    Content, Extra, FieldError, Media, MediaSource, Message, Part, PartKind, Reasoning,
    gemini::{
        contents::by_ending,
        parts::{Spoken, decode, kind_of},
    },
};
use serde_json::{Map, Value, json};

/// How a part is to be looked at. Gemini gets it.
const KEPT: &[&str] = &["videoMetadata", "mediaResolution"];

/// What is said of a part that says nothing to the model.
const SKIPPED: &[&str] = &["partMetadata"];

/// The instructions of the system.
pub(super) fn system(mut content: Fields) -> Result<Option<Message>, FieldError> {
    // Its role is not looked at.
    content.skip(&["role"]);
    let mut parts = Vec::new();
    for mut part in content.objects("parts")? {
        let text = part.text("text")?;
        part.skip(SKIPPED);
        part.end()?;
        if !text.is_empty() {
            parts.push(PartKind::Text(text).into());
        }
    }
    content.end()?;
    let message = Message { role: "system".into(), content: said(parts), ..Message::default() };
    Ok((message.content != Content::default()).then_some(message))
}

/// The messages of a conversation.
pub(super) fn messages(contents: Vec<Fields>) -> Result<Vec<Message>, FieldError> {
    let mut conversation = Conversation::default();
    for mut content in contents {
        let role = content.text("role")?;
        let parts = content.objects("parts")?;
        if parts.is_empty() {
            return Err(content.wrong("parts", "must hold at least one part"));
        }
        match role.as_str() {
            "model" => conversation.model(parts)?,
            "user" | "function" | "" => conversation.user(parts)?,
            _ => return Err(content.wrong("role", "must be user or model")),
        }
        content.end()?;
    }
    conversation.end_turn();
    Ok(conversation.messages)
}

#[derive(Default)]
struct Conversation {
    messages: Vec<Message>,
    /// What the model says at present.
    turn: Option<Turn>,
    /// How many turns of the model are over.
    turns: usize,
    /// The calls that have no result yet: id and name.
    calls: Vec<(String, String)>,
}

/// One turn of the model. Clients that gather a stream send its pieces as contents of their own.
#[derive(Default)]
struct Turn {
    spoken: Spoken,
    /// The reasoning of another kind, where one has made this turn.
    reasoning: Vec<Reasoning>,
}

impl Conversation {
    fn model(&mut self, parts: Vec<Fields>) -> Result<(), FieldError> {
        let turn = self.turn.get_or_insert_default();
        let mut told = Vec::new();
        for part in parts {
            told.extend(turn.part(part)?);
        }
        turn.spoken.add(json!({ "parts": told }), &self.turns.to_string());
        Ok(())
    }

    fn end_turn(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let message = turn.message();
        self.turns += 1;
        if !message.tool_calls.is_empty() {
            let calls = message.tool_calls.iter();
            self.calls = calls.map(|call| (call.id.clone(), call.name.clone())).collect();
        }
        self.messages.push(message);
    }

    /// What the user says. The results of functions stand first: others want them right behind their calls.
    fn user(&mut self, parts: Vec<Fields>) -> Result<(), FieldError> {
        self.end_turn();
        let mut own = Vec::new();
        for mut part in parts {
            if let Some(result) = part.object("functionResponse")? {
                let result = self.result(result)?;
                part.skip(SKIPPED);
                part.skip(&["thoughtSignature"]);
                part.end()?;
                self.messages.push(result);
            } else {
                own.extend(user_part(part)?);
            }
        }
        if !own.is_empty() {
            self.messages.push(Message { role: "user".into(), content: said(own), ..Message::default() });
        }
        Ok(())
    }

    /// A function's result. The call is found by its id or, as older clients know none, by its name: the first that has no
    /// result yet.
    fn result(&mut self, mut result: Fields) -> Result<Message, FieldError> {
        let (id, name) = (result.text("id")?, result.text("name")?);
        let own = |known: &(String, String)| !id.is_empty() && known.0 == id;
        let place = self.calls.iter().position(own);
        let place = place.or_else(|| self.calls.iter().position(|(_, known)| *known == name));
        let Some(place) = place else {
            return Err(FieldError::new(result.path(), "answers no call of a function before it"));
        };
        let (tool_call_id, _) = self.calls.remove(place);
        let mut parts = vec![PartKind::Text(answer(&mut result)?).into()];
        parts.extend(user_parts(result.objects("parts")?)?);
        // They concern calls that go on while the model speaks.
        result.skip(&["willContinue", "scheduling"]);
        result.end()?;
        Ok(Message { role: "tool".into(), content: said(parts), tool_call_id, ..Message::default() })
    }
}

/// What a function has answered: one text, or JSON. `output` holds the answer as such (API reference, "FunctionResponse").
fn answer(result: &mut Fields) -> Result<String, FieldError> {
    match result.any("response") {
        None => Ok(String::new()),
        Some(Value::Object(answer)) => match answer.get("output") {
            Some(Value::String(text)) if answer.len() == 1 => Ok(text.clone()),
            _ => Ok(Value::Object(answer).to_string()),
        },
        Some(_) => Err(result.wrong("response", "must be an object")),
    }
}

impl Turn {
    /// Checks a part of the model's; gives what is to be read of it.
    fn part(&mut self, mut part: Fields) -> Result<Option<Value>, FieldError> {
        let mut out = Map::new();
        let signature = part.text("thoughtSignature")?;
        if is_packed(&signature) {
            let reasoning = unpack(&signature)
                .ok_or_else(|| part.wrong("thoughtSignature", "is not as it was given out"))?;
            self.reasoning.extend(reasoning);
        } else if !signature.is_empty() {
            out.insert("thoughtSignature".into(), signature.into());
        }
        if part.flag("thought")? {
            out.insert("thought".into(), true.into());
        }
        let text = part.text("text")?;
        if !text.is_empty() {
            out.insert("text".into(), text.into());
        }
        if let Some(mut call) = part.object("functionCall")? {
            out.insert("functionCall".into(), function_call(&mut call)?);
            call.end()?;
        }
        if let Some(mut data) = part.object("inlineData")? {
            let (mime_type, text) = blob(&mut data)?;
            out.insert("inlineData".into(), json!({"mimeType": mime_type, "data": text}));
        }
        part.skip(SKIPPED);
        part.skip(KEPT);
        part.end()?;
        Ok((!out.is_empty()).then(|| out.into()))
    }

    fn message(self) -> Message {
        let mut message = self.spoken.message();
        for piece in &mut message.reasoning {
            KIND.clone_into(&mut piece.kind);
        }
        if !self.reasoning.is_empty() {
            message.reasoning_content = self.reasoning.iter().map(|piece| piece.text.as_str()).collect();
            message.reasoning = self.reasoning;
        }
        message
    }
}

fn function_call(call: &mut Fields) -> Result<Value, FieldError> {
    let (id, name) = (call.text("id")?, call.text("name")?);
    if name.is_empty() {
        return Err(call.wrong("name", "must not be empty"));
    }
    let args = match call.any("args") {
        None => Map::new(),
        Some(Value::Object(args)) => args,
        Some(_) => return Err(call.wrong("args", "must be an object")),
    };
    Ok(json!({"id": id, "name": name, "args": args}))
}

/// Parts that a user sends.
pub(super) fn user_parts(parts: Vec<Fields>) -> Result<Vec<Part>, FieldError> {
    parts.into_iter().filter_map(|part| user_part(part).transpose()).collect()
}

/// A part of a user's, or of a function's result. An empty text says nothing, and others refuse it.
fn user_part(mut part: Fields) -> Result<Option<Part>, FieldError> {
    let mut kept = Map::new();
    part.keep(KEPT, &mut kept);
    part.skip(SKIPPED);
    part.skip(&["thoughtSignature"]);
    let is_thought = part.flag("thought")?;
    let text = part.text("text")?;
    let read = if let Some(mut data) = part.object("inlineData")? {
        let filename = data.text("displayName")?;
        let (mime_type, text) = blob(&mut data)?;
        let source = MediaSource::Data(decode(&text).unwrap_or_default());
        let kind = kind_of(Media { source, mime_type, filename, ..Media::default() });
        Some(Part { kind, extra: own(kept) })
    } else if let Some(mut file) = part.object("fileData")? {
        let read = file_part(&mut file, kept)?;
        file.end()?;
        Some(read)
    } else {
        (!text.is_empty()).then(|| PartKind::Text(text).into())
    };
    part.end()?;
    Ok(read.filter(|_| !is_thought))
}

/// For Gemini alone.
fn own(fields: Map<String, Value>) -> Extra {
    let kinds = if fields.is_empty() { Vec::new() } else { vec![KIND.to_owned()] };
    Extra { fields: fields.into(), kinds }
}

/// Bytes in the request (API reference, "Blob"): their type, and base64 that can be read.
fn blob(data: &mut Fields) -> Result<(String, String), FieldError> {
    let (mime_type, text) = (data.text("mimeType")?, data.text("data")?);
    if mime_type.is_empty() {
        return Err(data.wrong("mimeType", "must not be empty"));
    }
    if decode(&text).is_none() {
        return Err(data.wrong("data", "must be base64"));
    }
    Ok((mime_type, text))
}

/// A file by its address (API reference, "FileData"). What is stored at Google is known by it there alone.
fn file_part(file: &mut Fields, kept: Map<String, Value>) -> Result<Part, FieldError> {
    const GOOGLES: &str = "https://generativelanguage.googleapis.com/";
    let (mut mime_type, uri) = (file.text("mimeType")?, file.text("fileUri")?);
    let filename = file.text("displayName")?;
    if uri.is_empty() {
        return Err(file.wrong("fileUri", "must not be empty"));
    }
    if mime_type.is_empty() {
        mime_type =
            if is_youtube(&uri) { "video/mp4" } else { by_ending(&uri).unwrap_or_default() }.to_owned();
    }
    let is_public =
        ["https://", "http://"].iter().any(|scheme| uri.starts_with(scheme)) && !uri.starts_with(GOOGLES);
    let source = if is_public { MediaSource::Url(uri) } else { MediaSource::File(uri) };
    let kind = kind_of(Media { source, mime_type, filename, ..Media::default() });
    Ok(Part { kind, extra: own(kept) })
}

/// Videos that Gemini watches by their address (<https://ai.google.dev/gemini-api/docs/video-understanding>).
fn is_youtube(uri: &str) -> bool {
    let host = uri.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
    ["youtube.com", "www.youtube.com", "m.youtube.com", "youtu.be"].contains(&host)
}

/// Text alone is one text.
fn said(mut parts: Vec<Part>) -> Content {
    if parts.len() > 1 {
        // Beside what is more, an empty text says nothing.
        parts.retain(|part| part.text() != Some(""));
    }
    match parts.as_mut_slice() {
        [] => Content::default(),
        [Part { kind: PartKind::Text(text), extra }] if extra.fields.is_empty() => {
            Content::Text(std::mem::take(text))
        }
        _ => Content::Parts(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::signature::pack, *};
    use crate::wire::ToolCall;

    fn read(contents: Value) -> Result<Vec<Message>, FieldError> {
        let mut body = Fields::of(json!({ "contents": contents }), String::new())?;
        messages(body.objects("contents")?)
    }

    fn says(role: &str, text: &str) -> Message {
        Message { role: role.into(), content: Content::Text(text.into()), ..Message::default() }
    }

    fn call(index: i32, id: &str, name: &str, arguments: &str) -> ToolCall {
        ToolCall {
            index,
            id: id.into(),
            kind: "function".into(),
            name: name.into(),
            arguments: arguments.into(),
            ..ToolCall::default()
        }
    }

    fn result(id: &str, text: &str) -> Message {
        Message { tool_call_id: id.into(), ..says("tool", text) }
    }

    #[test]
    fn roles_and_texts_are_read() {
        let contents = json!([
            {"parts": [{"text": "a"}]},
            {"role": "model", "parts": {"text": "b"}},
            {"role": "model", "parts": [{"text": ""}, {"text": "c"}]},
            {"role": "user", "parts": [{"text": "d"}, {"text": ""}, {"text": "e", "part_metadata": {"x": 1}}]},
        ]);
        let parts = ["d", "e"].map(|text| PartKind::Text(text.into()).into()).to_vec();
        let last = Message { content: Content::Parts(parts), ..says("user", "") };
        assert_eq!(read(contents).unwrap(), [says("user", "a"), says("assistant", "bc"), last]);
    }

    #[test]
    fn media_are_read() {
        let file = |uri: &str| json!({"fileData": {"fileUri": uri}});
        let typed =
            |uri: &str, mime_type: &str| json!({"file_data": {"file_uri": uri, "mime_type": mime_type}});
        let of = |source: MediaSource, mime_type: &str| Media {
            source,
            mime_type: mime_type.into(),
            ..Media::default()
        };
        let url = |url: &str| MediaSource::Url(url.into());
        let uploaded = "https://generativelanguage.googleapis.com/v1beta/files/x";
        let data = || MediaSource::Data(vec![0xff, 0xfe, 0xfb]);
        let table = [
            (
                json!({"inlineData": {"mimeType": "image/png", "data": "//77"}}),
                PartKind::Image(of(data(), "image/png")),
            ),
            (
                json!({"inline_data": {"mime_type": "audio/wav", "data": "__77"}}),
                PartKind::Audio(of(data(), "audio/wav")),
            ),
            (
                typed("https://h/a", "application/pdf"),
                PartKind::Document(of(url("https://h/a"), "application/pdf")),
            ),
            (file("https://h/a.PNG?b"), PartKind::Image(of(url("https://h/a.PNG?b"), "image/png"))),
            (file("https://youtu.be/x"), PartKind::Video(of(url("https://youtu.be/x"), "video/mp4"))),
            (
                typed(uploaded, "video/mp4"),
                PartKind::Video(of(MediaSource::File(uploaded.into()), "video/mp4")),
            ),
            (
                file("gs://b/a.pdf"),
                PartKind::Document(of(MediaSource::File("gs://b/a.pdf".into()), "application/pdf")),
            ),
        ];
        for (part, expected) in table {
            let messages = read(json!([{ "parts": [part] }])).unwrap();
            assert_eq!(messages[0].content, Content::Parts(vec![expected.into()]), "{part}");
        }
        let cut = json!({"fileData": {"fileUri": "https://h/v.mp4", "displayName": "v"}, "videoMetadata": {"fps": 1}});
        let Content::Parts(parts) = &read(json!([{ "parts": [cut] }])).unwrap()[0].content else { panic!() };
        assert!(parts[0].extra.is_for("gemini") && !parts[0].extra.is_for("openai"));
    }

    #[test]
    fn results_find_their_calls() {
        let calls = json!([
            {"functionCall": {"name": "f", "args": {"z": 1, "a": 2}}},
            {"functionCall": {"name": "f"}},
            {"functionCall": {"id": "own", "name": "g", "args": null}},
        ]);
        let of = |name: &str, id: &str, response: Value| json!({"functionResponse": {"id": id, "name": name, "response": response}});
        let contents = json!([
            {"parts": [{"text": "q"}]},
            {"role": "model", "parts": calls},
            {"role": "function", "parts": [of("g", "own", json!({"output": "x"}))]},
            {"role": "user", "parts": [
                {"text": "and now"}, of("f", "", json!({"output": 1})), of("f", "not ours", json!({"output": "a", "b": 1})),
            ]},
            {"role": "model", "parts": [{"functionCall": {"name": "f"}}]},
            {"parts": [{"function_response": {"name": "f", "parts": [{"inlineData": {"mimeType": "image/png", "data": "YWJj"}}]}}]},
        ]);
        let first = Message {
            tool_calls: vec![
                call(0, "call_0_0", "f", "{\"z\":1,\"a\":2}"),
                call(1, "call_0_1", "f", "{}"),
                call(2, "own", "g", "{}"),
            ],
            ..says("assistant", "")
        };
        let media = Media {
            source: MediaSource::Data(b"abc".to_vec()),
            mime_type: "image/png".into(),
            ..Media::default()
        };
        let pictured = Message {
            content: Content::Parts(vec![PartKind::Image(media).into()]),
            ..result("call_1_0", "")
        };
        let expected = [
            says("user", "q"),
            first,
            result("own", "x"),
            result("call_0_0", "{\"output\":1}"),
            result("call_0_1", "{\"output\":\"a\",\"b\":1}"),
            says("user", "and now"),
            Message { tool_calls: vec![call(0, "call_1_0", "f", "{}")], ..says("assistant", "") },
            pictured,
        ];
        assert_eq!(read(contents).unwrap(), expected);
    }

    #[test]
    fn signatures_keep_their_maker() {
        let piece = |kind: &str, text: &str, signature: &str, index| Reasoning {
            kind: kind.into(),
            text: text.into(),
            signature: signature.into(),
            index,
            ..Reasoning::default()
        };
        let own = json!([{"role": "model", "parts": [
            {"text": "hm", "thought": true}, {"text": "a", "thoughtSignature": "c2ln"},
            {"functionCall": {"name": "f"}, "thought_signature": "c2ln2"},
        ]}]);
        let message = &read(own).unwrap()[0];
        let of_call = Reasoning { id: "call_0_0".into(), ..piece("gemini", "", "c2ln2", 2) };
        assert_eq!(
            message.reasoning,
            [piece("gemini", "hm", "", 0), piece("gemini", "", "c2ln", 1), of_call]
        );
        // Thoughts of another kind are told in its signature, whatever became of the text.
        let pieces = vec![piece("anthropic", "the whole thought", "EqM", 0), piece("anthropic", "", "", 1)];
        let other = json!([
            {"role": "model", "parts": [{"text": "the whole", "thought": true}]},
            {"role": "model", "parts": [{"functionCall": {"id": "t", "name": "f"}, "thoughtSignature": pack(&pieces)}]},
        ]);
        let message = &read(other).unwrap()[0];
        assert_eq!((&message.reasoning, message.reasoning_content.as_str()), (&pieces, "the whole thought"));
        assert_eq!(message.tool_calls[0].id, "t");
    }

    #[test]
    fn what_cannot_be_said_is_named() {
        let model = |part: Value| json!([{"role": "model", "parts": [part]}]);
        let user = |part: Value| json!([{"role": "user", "parts": [part]}]);
        let broken = pack(&[]).replace("W10=", "W10");
        let table = [
            (json!([{"role": "user"}]), "contents[0].parts"),
            (json!([{"role": "user", "parts": []}]), "contents[0].parts"),
            (json!([{"role": "system", "parts": [{"text": "a"}]}]), "contents[0].role"),
            (json!([{"parts": [{"text": "a"}], "tomorrow": 1}]), "contents[0].tomorrow"),
            (json!([{"parts": ["a"]}]), "contents[0].parts[0]"),
            (user(json!({"text": 1})), "contents[0].parts[0].text"),
            (user(json!({"executableCode": {"code": "1"}})), "contents[0].parts[0].executableCode"),
            (
                user(json!({"inlineData": {"mimeType": "image/png", "data": "!"}})),
                "contents[0].parts[0].inlineData.data",
            ),
            (user(json!({"inlineData": {"data": "YWJj"}})), "contents[0].parts[0].inlineData.mimeType"),
            (user(json!({"fileData": {"mimeType": "image/png"}})), "contents[0].parts[0].fileData.fileUri"),
            (user(json!({"functionResponse": {"name": "f"}})), "contents[0].parts[0].functionResponse"),
            (
                model(json!({"codeExecutionResult": {"output": "1"}})),
                "contents[0].parts[0].codeExecutionResult",
            ),
            (model(json!({"fileData": {"fileUri": "x"}})), "contents[0].parts[0].fileData"),
            (model(json!({"functionCall": {"args": {}}})), "contents[0].parts[0].functionCall.name"),
            (
                model(json!({"functionCall": {"name": "f", "args": []}})),
                "contents[0].parts[0].functionCall.args",
            ),
            (
                model(json!({"inlineData": {"mimeType": "image/png", "data": "!"}})),
                "contents[0].parts[0].inlineData.data",
            ),
            (
                model(json!({"text": "a", "thoughtSignature": format!("{broken}!")})),
                "contents[0].parts[0].thoughtSignature",
            ),
        ];
        for (contents, field) in table {
            assert_eq!(read(contents.clone()).unwrap_err().field, field, "{contents}");
        }
    }
}
