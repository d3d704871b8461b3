//! Chat messages between the contract and the drivers.

use super::service::InvokeApi;
use crate::{
    api::{from_pb, pb, status, to_pb},
    invoke::{Call, Streamed},
    provider::{ModelType, estimate_chat},
    wire::{ChatEvent, ChatRequest, Content, Media, Message, Part, Tool, ToolCall},
};
use prost_types::Struct;
use tonic::{Request, Status};

/// What an answer costs, in tokens, where nothing bounds it. Limits need only the order of magnitude.
const ANSWER_TOKENS: u64 = 256;

const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];

impl InvokeApi {
    /// Reads a chat call, unary or streamed. Both requests have the same fields.
    pub(super) async fn chat(
        &self,
        request: Request<impl Into<pb::InvokeLlmRequest>>,
    ) -> Result<(Call, ChatRequest), Status> {
        let caller = from_pb::caller(&request)?;
        let (metadata, _, request) = request.into_parts();
        let pb::InvokeLlmRequest { key, options, messages, parameters, tools, stop } = request.into();
        let options = options.as_ref();
        let chat = request_in(messages, parameters, tools, stop, options)?;
        let call = self.call(&metadata, &caller, key, ModelType::Llm, options, tokens(&chat)).await?;
        Ok((call, chat))
    }
}

impl From<pb::StreamLlmRequest> for pb::InvokeLlmRequest {
    fn from(request: pb::StreamLlmRequest) -> Self {
        let pb::StreamLlmRequest { key, options, messages, parameters, tools, stop } = request;
        Self { key, options, messages, parameters, tools, stop }
    }
}

pub(super) fn request_in(
    messages: Vec<pb::Message>,
    parameters: Option<Struct>,
    tools: Vec<pb::Tool>,
    stop: Vec<String>,
    options: Option<&pb::CallOptions>,
) -> Result<ChatRequest, Status> {
    if messages.is_empty() {
        return Err(status::invalid("messages", "must hold at least one message"));
    }
    let messages = messages
        .into_iter()
        .enumerate()
        .map(|(index, message)| message_in(message, &|| format!("messages[{index}]")))
        .collect::<Result<_, _>>()?;
    let tools = tools
        .into_iter()
        .enumerate()
        .map(|(index, tool)| tool_in(tool, &|| format!("tools[{index}]")))
        .collect::<Result<_, _>>()?;
    Ok(ChatRequest {
        messages,
        parameters: from_pb::json_map(parameters.unwrap_or_default(), "parameters")?,
        tools,
        stop,
        user: options.map(|options| options.user.clone()).unwrap_or_default(),
    })
}

/// Estimates how many tokens the call will use: those of the conversation, and the most that the model may write.
pub(super) fn tokens(request: &ChatRequest) -> u64 {
    let most = ["max_completion_tokens", "max_tokens"];
    let answer = most.iter().find_map(|name| request.parameters.get(*name)?.as_u64());
    estimate_chat(request).saturating_add(answer.unwrap_or(ANSWER_TOKENS))
}

/// Names a part of the request in an error.
type Field<'f> = &'f dyn Fn() -> String;

fn message_in(message: pb::Message, field: Field<'_>) -> Result<Message, Status> {
    if !ROLES.contains(&message.role.as_str()) {
        return Err(status::invalid(format!("{}.role", field()), format!("is one of {}", ROLES.join(", "))));
    }
    let content = if message.parts.is_empty() {
        Content::Text(message.content)
    } else if message.content.is_empty() {
        let parts = message.parts.into_iter().enumerate();
        Content::Parts(
            parts
                .map(|(index, part)| part_in(part, &|| format!("{}.parts[{index}]", field())))
                .collect::<Result<_, _>>()?,
        )
    } else {
        return Err(status::invalid(
            format!("{}.parts", field()),
            "stands instead of `content`, not beside it",
        ));
    };
    Ok(Message {
        role: message.role,
        content,
        name: message.name,
        tool_calls: message.tool_calls.into_iter().map(tool_call_in).collect(),
        tool_call_id: message.tool_call_id,
        reasoning: message.reasoning_content,
        refusal: message.refusal,
    })
}

fn part_in(part: pb::Part, field: Field<'_>) -> Result<Part, Status> {
    use pb::part::Kind;
    match part.kind {
        Some(Kind::Text(text)) => Ok(Part::Text(text)),
        Some(Kind::Image(media)) => Ok(Part::Image(media_in(media, &|| format!("{}.image", field()))?)),
        Some(Kind::Audio(media)) => data_only(media, &|| format!("{}.audio", field())).map(Part::Audio),
        Some(Kind::Document(media)) => {
            data_only(media, &|| format!("{}.document", field())).map(Part::Document)
        }
        None => Err(status::invalid(field(), "is text, image, audio or document")),
    }
}

fn media_in(media: pb::Media, field: Field<'_>) -> Result<Media, Status> {
    use pb::media::Source;
    match media.source {
        Some(Source::Url(url)) if !url.is_empty() => Ok(Media::Url(url)),
        Some(Source::Data(bytes)) if !bytes.is_empty() => {
            let well_formed = media.mime_type.contains('/')
                && media.mime_type.chars().all(|c| c.is_ascii_graphic() && c != ',' && c != '"');
            if well_formed {
                Ok(Media::Data { bytes, mime_type: media.mime_type })
            } else {
                Err(status::invalid(format!("{}.mime_type", field()), "is required with `data`"))
            }
        }
        _ => Err(status::invalid(field(), "needs a `url` or `data`")),
    }
}

fn data_only(media: pb::Media, field: Field<'_>) -> Result<Media, Status> {
    match media_in(media, field)? {
        Media::Url(_) => Err(status::invalid(format!("{}.url", field()), "is for images alone; send `data`")),
        data @ Media::Data { .. } => Ok(data),
    }
}

fn tool_in(tool: pb::Tool, field: Field<'_>) -> Result<Tool, Status> {
    if tool.name.is_empty() {
        return Err(status::invalid(format!("{}.name", field()), "must not be empty"));
    }
    let parameters = tool
        .parameters
        .map(|parameters| from_pb::json_map(parameters, &format!("{}.parameters", field())))
        .transpose()?;
    Ok(Tool { name: tool.name, description: tool.description, parameters })
}

fn tool_call_in(call: pb::ToolCall) -> ToolCall {
    let function = call.function.unwrap_or_default();
    ToolCall {
        index: call.index,
        id: call.id,
        kind: call.r#type,
        name: function.name,
        arguments: function.arguments,
    }
}

pub(super) fn message_out(message: Message) -> pb::Message {
    let (content, parts) = match message.content {
        Content::Text(text) => (text, Vec::new()),
        Content::Parts(parts) => (String::new(), parts.into_iter().map(part_out).collect()),
    };
    pb::Message {
        role: message.role,
        content,
        parts,
        name: message.name,
        tool_calls: message.tool_calls.into_iter().map(tool_call_out).collect(),
        tool_call_id: message.tool_call_id,
        reasoning_content: message.reasoning,
        refusal: message.refusal,
    }
}

fn part_out(part: Part) -> pb::Part {
    use pb::part::Kind;
    let kind = match part {
        Part::Text(text) => Kind::Text(text),
        Part::Image(media) => Kind::Image(media_out(media)),
        Part::Audio(media) => Kind::Audio(media_out(media)),
        Part::Document(media) => Kind::Document(media_out(media)),
    };
    pb::Part { kind: Some(kind) }
}

fn media_out(media: Media) -> pb::Media {
    use pb::media::Source;
    match media {
        Media::Url(url) => pb::Media { source: Some(Source::Url(url)), mime_type: String::new() },
        Media::Data { bytes, mime_type } => pb::Media { source: Some(Source::Data(bytes)), mime_type },
    }
}

fn tool_call_out(call: ToolCall) -> pb::ToolCall {
    pb::ToolCall {
        id: call.id,
        r#type: call.kind,
        function: Some(pb::FunctionCall { name: call.name, arguments: call.arguments }),
        index: call.index,
    }
}

pub(super) fn event_out(
    event: ChatEvent,
    stream: &Streamed<ChatEvent>,
    route: Option<pb::Route>,
) -> pb::StreamLlmResponse {
    let usage =
        event.usage.map(|usage| to_pb::usage(usage, stream.latency(), Some(stream.time_to_first_token())));
    let delta = event.is_content().then(|| pb::Delta {
        index: event.index,
        content: event.content,
        tool_calls: event.tool_calls.into_iter().map(tool_call_out).collect(),
        reasoning_content: event.reasoning,
        refusal: event.refusal,
    });
    pb::StreamLlmResponse { delta, finish_reason: event.finish_reason, usage, route }
}
