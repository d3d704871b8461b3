//! Chat messages between the contract and the drivers.

use super::service::InvokeApi;
use crate::{
    api::{from_pb, json, pb, status, to_pb},
    invoke::{Call, News, Streamed},
    provider::{ModelType, answer_limit, estimate_chat},
    wire::{
        Annotation, ChatEvent, ChatReply, ChatRequest, Choice, Content, Extra, Media, MediaSource, Message,
        Part, PartKind, RareEvent, Reasoning, Tool, ToolCall,
    },
};
use serde_json::Value;
use tonic::{Request, Status};

/// What an answer costs, in tokens, where nothing bounds it. Limits need only the order of magnitude.
const ANSWER_TOKENS: u64 = 256;

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

impl InvokeApi {
    /// Reads a chat call, unary or streamed. Both requests have the same fields.
    pub(super) async fn chat(
        &self,
        request: Request<impl Into<pb::InvokeLlmRequest>>,
    ) -> Result<(Call, Box<ChatRequest>), Status> {
        let caller = from_pb::caller(&request)?;
        let (metadata, _, request) = request.into_parts();
        let mut request = request.into();
        let (key, options) = (request.key.take(), request.options.take());
        let chat = Box::new(request_in(request, options.as_ref())?);
        let call =
            self.call(&metadata, &caller, key, ModelType::Llm, options.as_ref(), tokens(&chat)).await?;
        Ok((call, chat))
    }
}

impl From<pb::StreamLlmRequest> for pb::InvokeLlmRequest {
    fn from(request: pb::StreamLlmRequest) -> Self {
        Self {
            key: request.key,
            options: request.options,
            messages: request.messages,
            parameters: request.parameters,
            tools: request.tools,
            stop: request.stop,
            parameters_json: request.parameters_json,
            response_format_json: request.response_format_json,
            extra_json: request.extra_json,
            extra_json_kinds: request.extra_json_kinds,
        }
    }
}

pub(super) fn request_in(
    request: pb::InvokeLlmRequest,
    options: Option<&pb::CallOptions>,
) -> Result<ChatRequest, Status> {
    if request.messages.is_empty() {
        return Err(status::invalid("messages", "must hold at least one message"));
    }
    let kinds = request.extra_json_kinds;
    let messages = all(request.messages, |index, message| {
        message_in(message, &kinds, &|| format!("messages[{index}]"))
    })?;
    let tools = all(request.tools, |index, tool| tool_in(tool, &kinds, &|| format!("tools[{index}]")))?;
    let mut parameters = from_pb::json_map(request.parameters.unwrap_or_default(), "parameters")?;
    join(
        &mut parameters,
        json::object(&request.parameters_json, "parameters_json", json::REQUEST)?,
        "parameters_json",
    )?;
    if !request.response_format_json.is_empty() {
        let format = json::value(&request.response_format_json, "response_format_json")?;
        let format = serde_json::Map::from_iter([("response_format".to_owned(), format)]);
        join(&mut parameters, format, "response_format_json")?;
    }
    Ok(ChatRequest {
        messages,
        parameters,
        tools,
        stop: request.stop,
        user: options.map(|options| options.user.clone()).unwrap_or_default(),
        extra: json::extra(&request.extra_json, kinds, &[], "extra_json", json::REQUEST)?,
    })
}

/// Adds parameters that stand elsewhere; none may be given twice.
fn join(
    parameters: &mut serde_json::Map<String, serde_json::Value>,
    more: serde_json::Map<String, serde_json::Value>,
    field: &str,
) -> Result<(), Status> {
    for (name, value) in more {
        if parameters.insert(name, value).is_some() {
            return Err(status::invalid(field, "holds a parameter that is given elsewhere too"));
        }
    }
    Ok(())
}

/// Estimates how many tokens the call will use: those of the conversation, and the most that the model may write.
pub(super) fn tokens(request: &ChatRequest) -> u64 {
    let answer = answer_limit(request).unwrap_or(ANSWER_TOKENS);
    let choices = request.parameters.get("n").or_else(|| request.extra.fields.get("n"));
    let choices = choices.and_then(Value::as_u64).unwrap_or(1).max(1);
    estimate_chat(request).saturating_add(answer.saturating_mul(choices))
}

/// Names a part of the request in an error.
type Field<'f> = &'f dyn Fn() -> String;

/// Reads each item of a list. Most lists are empty.
fn all<T, U>(items: Vec<T>, read: impl Fn(usize, T) -> Result<U, Status>) -> Result<Vec<U>, Status> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    items.into_iter().enumerate().map(|(index, item)| read(index, item)).collect()
}

/// More keys for a vendor's object. Most have none, and their field needs no name then.
fn extra_in(
    text: &str,
    own_kinds: Vec<String>,
    kinds: &[String],
    field: Field<'_>,
    reserved: &[&str],
) -> Result<Extra, Status> {
    if text.is_empty() {
        return Ok(Extra::default());
    }
    json::extra(text, own_kinds, kinds, &format!("{}.extra_json", field()), reserved)
}

fn message_in(message: pb::Message, kinds: &[String], field: Field<'_>) -> Result<Message, Status> {
    if !ROLES.contains(&message.role.as_str()) {
        return Err(status::invalid(format!("{}.role", field()), format!("is one of {}", ROLES.join(", "))));
    }
    let content = if message.parts.is_empty() {
        Content::Text(message.content)
    } else {
        let parts =
            all(message.parts, |index, part| part_in(part, kinds, &|| format!("{}.parts[{index}]", field())));
        let content = Content::Parts(parts?);
        // An answer that has parts has their text too.
        if !(message.content.is_empty() || message.content == content.text()) {
            return Err(status::invalid(
                format!("{}.parts", field()),
                "stands instead of `content`, not beside it",
            ));
        }
        content
    };
    let tool_calls = all(message.tool_calls, |index, call| {
        tool_call_in(call, kinds, &|| format!("{}.tool_calls[{index}]", field()))
    })?;
    let reasoning = all(message.reasoning, |index, piece| {
        reasoning_in(piece, &|| format!("{}.reasoning[{index}]", field()))
    })?;
    Ok(Message {
        role: message.role,
        content,
        name: message.name,
        tool_calls,
        tool_call_id: message.tool_call_id,
        reasoning_content: message.reasoning_content,
        reasoning,
        refusal: message.refusal,
        annotations: Vec::new(),
        extra: extra_in(&message.extra_json, message.extra_json_kinds, kinds, field, json::MESSAGE)?,
    })
}

pub(super) fn part_in(part: pb::Part, kinds: &[String], field: Field<'_>) -> Result<Part, Status> {
    use pb::part::Kind;
    let reserved: &[_] = if part.kind.is_some() { &["type"] } else { &[] };
    let extra = extra_in(&part.extra_json, part.extra_json_kinds, kinds, field, reserved)?;
    let is_known = !extra.fields.is_empty();
    let media = |media, name: &str| media_in(media, is_known, &|| format!("{}.{name}", field()));
    let kind = match part.kind {
        Some(Kind::Text(text)) => PartKind::Text(text),
        Some(Kind::Image(image)) => PartKind::Image(media(image, "image")?),
        Some(Kind::Audio(audio)) => PartKind::Audio(media(audio, "audio")?),
        Some(Kind::Document(document)) => PartKind::Document(media(document, "document")?),
        Some(Kind::Video(video)) => PartKind::Video(media(video, "video")?),
        None if extra.fields.is_empty() => {
            return Err(status::invalid(field(), "is text, image, audio, video, document or extra_json"));
        }
        None => PartKind::Opaque,
    };
    Ok(Part { kind, extra })
}

/// Media that a provider knows by what else is said of them need no bytes, such as audio of an answer that goes back.
fn media_in(media: pb::Media, is_known: bool, field: Field<'_>) -> Result<Media, Status> {
    use pb::media::Source;
    let well_formed = media.mime_type.contains('/')
        && media.mime_type.chars().all(|c| c.is_ascii_graphic() && c != ',' && c != '"');
    let source = match media.source {
        Some(Source::Url(url)) if !url.is_empty() => MediaSource::Url(url),
        Some(Source::FileId(id)) if !id.is_empty() => MediaSource::File(id),
        Some(Source::Data(bytes)) if is_known || !bytes.is_empty() => {
            if !well_formed {
                return Err(status::invalid(format!("{}.mime_type", field()), "is required with `data`"));
            }
            MediaSource::Data(bytes)
        }
        _ => return Err(status::invalid(field(), "needs a `url`, `data` or `file_id`")),
    };
    if !(media.mime_type.is_empty() || well_formed) {
        return Err(status::invalid(format!("{}.mime_type", field()), "is not a media type"));
    }
    Ok(Media { source, mime_type: media.mime_type, detail: media.detail, filename: media.filename })
}

fn reasoning_in(piece: pb::Reasoning, field: Field<'_>) -> Result<Reasoning, Status> {
    Ok(Reasoning {
        text: piece.text,
        signature: piece.signature,
        data: piece.data,
        id: piece.id,
        kind: piece.kind,
        index: piece.index,
        extra: extra_in(&piece.extra_json, Vec::new(), &[], field, &[])?.fields,
    })
}

fn tool_in(tool: pb::Tool, kinds: &[String], field: Field<'_>) -> Result<Tool, Status> {
    if tool.name.is_empty() {
        return Err(status::invalid(format!("{}.name", field()), "must not be empty"));
    }
    let json_field = || format!("{}.parameters_json", field());
    let parameters = match (tool.parameters, tool.parameters_json.is_empty()) {
        (Some(_), false) => {
            return Err(status::invalid(json_field(), "stands instead of `parameters`, not beside it"));
        }
        (Some(parameters), true) => Some(from_pb::json_map(parameters, &format!("{}.parameters", field()))?),
        (None, false) => Some(json::object(&tool.parameters_json, &json_field(), &[])?),
        (None, true) => None,
    };
    let extra = extra_in(&tool.extra_json, tool.extra_json_kinds, kinds, field, &["name"])?;
    Ok(Tool { name: tool.name, description: tool.description, parameters, extra })
}

fn tool_call_in(call: pb::ToolCall, kinds: &[String], field: Field<'_>) -> Result<ToolCall, Status> {
    let function = call.function.unwrap_or_default();
    Ok(ToolCall {
        index: call.index,
        id: call.id,
        kind: call.r#type,
        name: function.name,
        arguments: function.arguments,
        extra: extra_in(&call.extra_json, call.extra_json_kinds, kinds, field, json::PIECE)?,
    })
}

/// The answer without its usage and its route.
pub(super) fn reply_out(reply: Box<ChatReply>) -> pb::InvokeLlmResponse {
    let ChatReply { head, choice, more_choices, extra, .. } = *reply;
    let choices = more_choices.into_iter().map(|choice| {
        let logprobs_json = json::value_text(choice.logprobs.as_deref());
        let extra_json = json::text(&choice.extra);
        pb::Choice {
            index: choice.index,
            message: Some(message_out(choice.message)),
            finish_reason: choice.finish_reason,
            logprobs_json,
            extra_json,
        }
    });
    let choices = choices.collect();
    let Choice { message, finish_reason, stop_sequence, logprobs, extra: of_choice, .. } = choice;
    let mut all = extra;
    for (name, value) in of_choice {
        all.entry(name).or_insert(value);
    }
    pb::InvokeLlmResponse {
        message: Some(message_out(message)),
        finish_reason,
        usage: None,
        model: head.model,
        system_fingerprint: head.system_fingerprint,
        route: None,
        choices,
        logprobs_json: json::value_text(logprobs.as_deref()),
        id: head.id,
        request_id: head.request_id,
        service_tier: head.service_tier,
        stop_sequence,
        extra_json: json::text(&all),
    }
}

fn message_out(message: Message) -> pb::Message {
    let (content, parts) = match message.content {
        Content::Text(text) => (text, Vec::new()),
        Content::Parts(parts) => {
            (Content::Parts(parts.clone()).text(), parts.into_iter().map(part_out).collect())
        }
    };
    let (extra_json, extra_json_kinds) = extra_out(message.extra);
    pb::Message {
        role: message.role,
        content,
        parts,
        name: message.name,
        tool_calls: message.tool_calls.into_iter().map(tool_call_out).collect(),
        tool_call_id: message.tool_call_id,
        reasoning_content: message.reasoning_content,
        refusal: message.refusal,
        reasoning: message.reasoning.into_iter().map(reasoning_out).collect(),
        extra_json,
        extra_json_kinds,
        annotations: message.annotations.into_iter().map(annotation_out).collect(),
    }
}

fn extra_out(extra: Extra) -> (String, Vec<String>) {
    let text = json::text(&extra.fields);
    if text.is_empty() { (text, Vec::new()) } else { (text, extra.kinds) }
}

fn reasoning_out(piece: Reasoning) -> pb::Reasoning {
    pb::Reasoning {
        text: piece.text,
        signature: piece.signature,
        data: piece.data,
        id: piece.id,
        kind: piece.kind,
        index: piece.index,
        extra_json: json::text(&piece.extra),
    }
}

fn annotation_out(annotation: Annotation) -> pb::Annotation {
    pb::Annotation {
        r#type: annotation.kind,
        url: annotation.url,
        title: annotation.title,
        text: annotation.text,
        json: annotation.json.to_string(),
    }
}

fn part_out(part: Part) -> pb::Part {
    use pb::part::Kind;
    let kind = match part.kind {
        PartKind::Text(text) => Some(Kind::Text(text)),
        PartKind::Image(media) => Some(Kind::Image(media_out(media))),
        PartKind::Audio(media) => Some(Kind::Audio(media_out(media))),
        PartKind::Document(media) => Some(Kind::Document(media_out(media))),
        PartKind::Video(media) => Some(Kind::Video(media_out(media))),
        PartKind::Opaque => None,
    };
    let (extra_json, extra_json_kinds) = extra_out(part.extra);
    pb::Part { kind, extra_json, extra_json_kinds }
}

fn media_out(media: Media) -> pb::Media {
    use pb::media::Source;
    let source = match media.source {
        MediaSource::Url(url) => Source::Url(url),
        MediaSource::Data(bytes) => Source::Data(bytes),
        MediaSource::File(id) => Source::FileId(id),
    };
    pb::Media {
        source: Some(source),
        mime_type: media.mime_type,
        detail: media.detail,
        filename: media.filename,
    }
}

fn tool_call_out(call: ToolCall) -> pb::ToolCall {
    let (extra_json, extra_json_kinds) = extra_out(call.extra);
    pb::ToolCall {
        id: call.id,
        r#type: call.kind,
        function: Some(pb::FunctionCall { name: call.name, arguments: call.arguments }),
        index: call.index,
        extra_json,
        extra_json_kinds,
    }
}

pub(super) fn event_out(
    event: ChatEvent,
    stream: &Streamed<ChatEvent>,
    news: Option<News>,
) -> pb::StreamLlmResponse {
    let usage =
        event.usage.map(|usage| to_pb::usage(usage, stream.latency(), Some(stream.time_to_first_token())));
    let is_content = event.is_content();
    let mut delta = pb::Delta {
        index: event.index,
        content: event.content,
        tool_calls: event.tool_calls.into_iter().map(tool_call_out).collect(),
        reasoning_content: event.reasoning_content,
        refusal: event.refusal,
        reasoning: event.reasoning.into_iter().map(reasoning_out).collect(),
        ..pb::Delta::default()
    };
    let mut response =
        pb::StreamLlmResponse { finish_reason: event.finish_reason, usage, ..Default::default() };
    if let Some(News { route, restarted }) = news {
        response.route = Some(to_pb::route(route));
        response.restarted = restarted;
    }
    let Some(rare) = event.rare else {
        response.delta = is_content.then_some(delta);
        return response;
    };
    let RareEvent { head, parts, annotations, logprobs, stop_sequence, delta_extra, extra } = *rare;
    let has_more = !(annotations.is_empty() && delta_extra.is_empty()) || logprobs.is_some();
    delta.extra_json = json::text(&delta_extra);
    delta.parts = parts.into_iter().map(part_out).collect();
    delta.annotations = annotations.into_iter().map(annotation_out).collect();
    delta.logprobs_json = json::value_text(logprobs.as_deref());
    pb::StreamLlmResponse {
        delta: (is_content || has_more).then_some(delta),
        model: head.model,
        id: head.id,
        system_fingerprint: head.system_fingerprint,
        request_id: head.request_id,
        service_tier: head.service_tier,
        stop_sequence,
        extra_json: json::text(&extra),
        ..response
    }
}
