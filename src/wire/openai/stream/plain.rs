//! The chunk that most of a stream consists of: one choice that gains a piece of text. It is read at a third of the cost of
//! other chunks, which the reader of all of them takes: whatever is odd is not plain.

use crate::wire::{AnswerHead, ChatEvent};
use serde::{Deserialize, de::IgnoredAny};
use std::borrow::Cow;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "fields that may be there and say nothing")]
struct Chunk<'a> {
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(default)]
    object: IgnoredAny,
    #[serde(default)]
    created: IgnoredAny,
    #[serde(borrow, default)]
    model: Cow<'a, str>,
    #[serde(borrow, default)]
    system_fingerprint: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    service_tier: Option<Cow<'a, str>>,
    #[serde(borrow)]
    choices: [Choice<'a>; 1],
    #[serde(default)]
    usage: (),
    #[serde(default)]
    obfuscation: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "fields that may be there and say nothing")]
struct Choice<'a> {
    index: i32,
    #[serde(borrow)]
    delta: Delta<'a>,
    #[serde(default)]
    logprobs: (),
    #[serde(default)]
    finish_reason: (),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "fields that may be there and say nothing")]
struct Delta<'a> {
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(default)]
    role: IgnoredAny,
    #[serde(default)]
    refusal: (),
}

/// What a plain chunk says, where it says the same of the answer as the one before.
pub(super) fn plain(data: &[u8], head: &AnswerHead) -> Option<ChatEvent> {
    let Chunk { id, model, system_fingerprint, service_tier, choices: [choice], .. } =
        serde_json::from_slice(data).ok()?;
    let same = id == head.id
        && model == head.model
        && system_fingerprint.unwrap_or_default() == head.system_fingerprint
        && service_tier.unwrap_or_default() == head.service_tier;
    let content = choice.delta.content.into_owned();
    same.then(|| ChatEvent { index: choice.index, content, ..ChatEvent::default() })
}
