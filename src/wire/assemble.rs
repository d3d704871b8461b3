//! A whole answer from the events of a stream: for servers that stream what they were asked for as a whole.

use super::{ChatEvent, ChatReply, Choice, Content, PartKind, RareEvent, ToolCall};
use std::collections::BTreeMap;

/// The answer that these events make together; none where there is no choice among them.
#[must_use]
pub fn assemble(events: impl IntoIterator<Item = ChatEvent>) -> Option<ChatReply> {
    let mut reply = ChatReply::default();
    let mut choices = BTreeMap::<i32, Choice>::new();
    for event in events {
        if let Some(usage) = event.usage {
            reply.usage.get_or_insert_default().update(usage);
        }
        if event.is_empty() {
            continue;
        }
        let choice = choices.entry(event.index).or_insert_with(|| {
            let mut choice = Choice { index: event.index, ..Choice::default() };
            "assistant".clone_into(&mut choice.message.role);
            choice
        });
        add(&mut reply, choice, event);
    }
    let mut choices = choices.into_values();
    reply.choice = choices.next()?;
    reply.more_choices = choices.collect();
    Some(reply)
}

fn add(reply: &mut ChatReply, choice: &mut Choice, event: ChatEvent) {
    let message = &mut choice.message;
    push_text(&mut message.content, event.content);
    message.reasoning_content.push_str(&event.reasoning_content);
    message.refusal.push_str(&event.refusal);
    for fragment in event.tool_calls {
        match message.tool_calls.iter_mut().find(|call| call.index == fragment.index) {
            Some(call) => grow(call, fragment),
            None => message.tool_calls.push(fragment),
        }
    }
    for fragment in event.reasoning {
        match message.reasoning.iter_mut().find(|piece| piece.index == fragment.index) {
            Some(piece) => piece.grow(fragment),
            None => message.reasoning.push(fragment),
        }
    }
    if !event.finish_reason.is_empty() {
        choice.finish_reason = event.finish_reason;
    }
    let Some(rare) = event.rare else { return };
    let RareEvent { head, parts, annotations, logprobs, stop_sequence, delta_extra, extra } = *rare;
    reply.head.update(head);
    if !stop_sequence.is_empty() {
        choice.stop_sequence = stop_sequence;
    }
    for part in parts {
        if let Content::Text(text) = &mut message.content {
            let text = std::mem::take(text);
            let text = (!text.is_empty()).then(|| PartKind::Text(text).into());
            message.content = Content::Parts(text.into_iter().collect());
        }
        if let Content::Parts(own) = &mut message.content {
            own.push(part);
        }
    }
    message.annotations.extend(annotations);
    choice.logprobs = logprobs.or(choice.logprobs.take());
    message.extra.fields.extend(delta_extra);
    reply.extra.extend(extra);
}

fn push_text(content: &mut Content, text: String) {
    match content {
        Content::Text(own) => own.push_str(&text),
        Content::Parts(_) if text.is_empty() => {}
        Content::Parts(parts) => match parts.last_mut().map(|part| &mut part.kind) {
            Some(PartKind::Text(own)) => own.push_str(&text),
            _ => parts.push(PartKind::Text(text).into()),
        },
    }
}

fn grow(call: &mut ToolCall, fragment: ToolCall) {
    for (own, said) in
        [(&mut call.id, fragment.id), (&mut call.kind, fragment.kind), (&mut call.name, fragment.name)]
    {
        if own.is_empty() {
            *own = said;
        }
    }
    call.arguments.push_str(&fragment.arguments);
    call.extra.fields.extend(fragment.extra.fields);
}
