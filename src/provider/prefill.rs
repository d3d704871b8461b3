//! Which models go on from the beginning of an answer: where the last message is the assistant's, they write its rest.
//! Others answer that message, or refuse it. What is not known to take one is taken to refuse it.

use super::{KindSpec, Target};

/// Models that take the beginning of an answer.
struct Taker {
    /// The kind that asks for them.
    kind: &'static str,
    /// Where they are, where the kind has more than one vendor: the host, and what its path begins with.
    at: Option<(&'static str, &'static str)>,
    /// What their names begin with, behind which comes the end, or a `-` and more. Empty: all.
    names: &'static [&'static str],
}

const TAKERS: &[Taker] = &[
    // Every Claude before 4.6. From there on, a last message of the assistant is refused with 400
    // (<https://platform.claude.com/docs/en/about-claude/models/migration-guide>).
    Taker {
        kind: "anthropic",
        at: None,
        names: &[
            "claude-2",
            "claude-2.0",
            "claude-2.1",
            "claude-instant",
            "claude-3",
            "claude-opus-4-0",
            "claude-opus-4-1",
            "claude-opus-4-5",
            "claude-opus-4-20250514",
            "claude-sonnet-4-0",
            "claude-sonnet-4-5",
            "claude-sonnet-4-20250514",
            "claude-haiku-4-5",
        ],
    },
    // With `prefix` in the message (<https://docs.mistral.ai/api/>, AssistantMessage).
    Taker { kind: "openai_compatible", at: Some(("api.mistral.ai", "/")), names: &[] },
    // The same, at the address of its beta (<https://api-docs.deepseek.com/guides/chat_prefix_completion>).
    Taker { kind: "openai_compatible", at: Some(("api.deepseek.com", "/beta")), names: &["deepseek-chat"] },
];

/// The kinds whose servers want the key `prefix` in such a message.
pub const PREFIX_KINDS: &[&str] = &["openai_compatible"];

/// Whether the model behind a target goes on from the beginning of an answer.
#[must_use]
pub fn takes_prefill(kind: &KindSpec, target: &Target) -> bool {
    let is_there = |(host, path): (&str, &str)| {
        target.base_url.host_str() == Some(host) && target.base_url.path().starts_with(path)
    };
    let is_named = |name: &&str| {
        let rest = target.model.strip_prefix(*name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    target.switches.takes_prefill
        || TAKERS.iter().any(|taker| {
            taker.kind == kind.name
                && taker.at.is_none_or(is_there)
                && (taker.names.is_empty() || taker.names.iter().any(is_named))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{provider::kind, wire::Switches};

    #[test]
    fn only_known_models_take_the_beginning_of_an_answer() {
        let claude = ("anthropic", "https://api.anthropic.com/v1");
        let (mistral, deepseek) = ("https://api.mistral.ai/v1", "https://api.deepseek.com");
        let table = [
            (claude, "claude-sonnet-4-5", true),
            (claude, "claude-sonnet-4-5-20250929", true),
            (claude, "claude-3-7-sonnet-20250219", true),
            (claude, "claude-opus-4-20250514", true),
            (claude, "claude-opus-4-6", false),
            (claude, "claude-sonnet-4-6", false),
            (claude, "claude-opus-4-7", false),
            (claude, "claude-sonnet-5", false),
            (claude, "claude-30", false),
            (("openai", "https://api.openai.com/v1"), "gpt-4o", false),
            (("openai_compatible", "https://gateway.example/v1"), "claude-sonnet-4-5", false),
            (("openai_compatible", mistral), "mistral-large-latest", true),
            (("openai_compatible", deepseek), "deepseek-chat", false),
            (("openai_compatible", "https://api.deepseek.com/beta"), "deepseek-chat", true),
            (("openai_compatible", "https://api.deepseek.com/beta"), "deepseek-reasoner", false),
            (("gemini", "https://generativelanguage.googleapis.com/v1beta"), "gemini-2.5-pro", false),
        ];
        for ((name, base_url), model, takes) in table {
            let target = Target {
                tenant: uuid::Uuid::nil(),
                base_url: base_url.parse().unwrap(),
                model: model.to_owned(),
                fields: [].into_iter().collect(),
                switches: Switches::NONE,
                connect_timeout: None,
            };
            assert_eq!(takes_prefill(kind(name).unwrap(), &target), takes, "{name} {base_url} {model}");
        }
    }
}
