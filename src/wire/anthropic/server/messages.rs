//! A client's conversation in the house's messages. A user's message with results of tools becomes several: one of role
//! `tool` a result, and behind them what else it says. Anthropic wants the results first too ("Tool use").

use super::{
    blocks::{Gathered, Speaker, gather, message},
    object::Object,
};
use crate::wire::{Content, FieldError, Message};
use serde_json::Value;

/// Reads `system`: text, or blocks of it. None where it says nothing.
pub(super) fn system(value: Option<Value>) -> Result<Option<Message>, FieldError> {
    let message = message("system", gather(value, "system", Speaker::System)?.parts);
    Ok((message.content != Content::default()).then_some(message))
}

/// Reads `messages`.
pub(super) fn messages(values: Vec<Value>) -> Result<Vec<Message>, FieldError> {
    if values.is_empty() {
        return Err(FieldError::new("messages", "must hold at least one message"));
    }
    let mut messages = Vec::with_capacity(values.len());
    for (place, value) in values.into_iter().enumerate() {
        let mut said = Object::new(value, format!("messages[{place}]"))?;
        let (role, path) = (said.required_text("role")?, said.at("content"));
        let content = said.take("content");
        match role.as_str() {
            "user" => user(gather(content, &path, Speaker::User)?, &mut messages),
            "assistant" => messages.push(assistant(gather(content, &path, Speaker::Assistant)?)),
            // <https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages>.
            "system" => messages.push(message("system", gather(content, &path, Speaker::System)?.parts)),
            _ => return Err(said.wrong("role", "is one of user, assistant, system")),
        }
    }
    Ok(messages)
}

fn user(said: Gathered, messages: &mut Vec<Message>) {
    let Gathered { parts, results, .. } = said;
    let only_results = parts.is_empty() && !results.is_empty();
    messages.extend(results);
    if !only_results {
        messages.push(message("user", parts));
    }
}

fn assistant(said: Gathered) -> Message {
    let Gathered { parts, thoughts, calls, .. } = said;
    Message {
        tool_calls: calls,
        reasoning_content: thoughts.iter().map(|piece| piece.text.as_str()).collect(),
        reasoning: thoughts,
        ..message("assistant", parts)
    }
}
