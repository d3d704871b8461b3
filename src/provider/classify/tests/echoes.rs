//! Providers repeat what callers wrote. Whatever a caller writes, no key is blamed for it.

use super::*;
use crate::provider::{Pattern, Rule, kinds, rules::STATUSES};
use std::iter;

/// Every pattern of every table of every kind, with something in place of what differs.
fn patterns() -> impl Iterator<Item = (&'static str, String)> {
    kinds().flat_map(|kind| {
        let rows = kind.errors.iter().copied().chain([TEXTS, STATUSES]).flatten();
        rows.filter_map(|row| match row.pattern {
            Pattern::Code(text) | Pattern::Sentence(text) | Pattern::Words(text) | Pattern::Word(text) => {
                Some((kind.name, text.replace("**", "x y").replace('*', "x")))
            }
            Pattern::Anything => None,
        })
    })
}

/// Bodies in which a provider repeats that text: as a value, in a schema, as the name of a tool, in a prompt. Each turn
/// puts the messages into other shapes.
fn repeated(text: &str, turn: usize) -> impl Iterator<Item = Value> {
    let messages = [
        format!("Invalid value: '{text}'. Supported values are: 'none', 'auto', and 'required'."),
        format!(
            "Invalid schema for response_format '{text}': In context=(), 'additionalProperties' is required."
        ),
        format!("Invalid 'tools[0].function.name': '{text}' does not match pattern '^[a-zA-Z0-9_-]+$'."),
        format!("'{text}' is not one of ['system', 'user'] - 'messages.0.role'"),
        format!("{text}: Input should be a valid string"),
        format!("messages.0.content.0.text: {text}"),
        format!("I cannot read this: {text}\n\nIt is no JSON."),
    ];
    let text = text.to_owned();
    messages.into_iter().enumerate().map(move |(index, message)| {
        let raw = json!({"error": {"message": message, "code": "invalid_value", "param": text}}).to_string();
        let invalid = "invalid_request_error";
        match (index + turn) % 7 {
            0 => json!({"error": {"message": message, "type": invalid, "param": text, "code": null}}),
            1 => json!({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}),
            2 => json!({"type": "error", "error": {"type": invalid, "message": message}}),
            3 => json!({"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw}}}),
            4 => json!({"error": {"message": "Provider returned error", "metadata": {"raw": message}}}),
            5 => json!({"detail": [{"type": "value_error", "loc": ["body", text], "msg": message, "input": text}]}),
            _ => json!({"message": message}),
        }
    })
}

#[test]
fn no_key_is_blamed_for_what_a_caller_wrote() {
    let mut count = 0;
    for (turn, (kind, text)) in patterns().enumerate() {
        for body in repeated(&text, turn).map(|body| body.to_string()) {
            for status in [400, 403] {
                let failure = answer(kind, status, &body);
                // Under 403 it is the model that may be missing, as it is without the text.
                let plain = if status == 400 { BadRequest } else { ModelUnavailable };
                let fair = [plain, BadRequest, ContentFiltered, ContextTooLong];
                assert!(fair.contains(&failure.class), "{kind} {status} {:?} {body}", failure.class);
                // Two credentials that are refused with the same words show that the request is at fault.
                assert!(!failure.class.moves_on() || matches!(failure.doubt, Doubt::Words(_)), "{body}");
                count += 1;
            }
        }
    }
    assert!(count > 10_000, "{count}");
}

/// Under 400 and 403 a row that blames somebody is a code or a sentence with both its ends.
#[test]
fn words_never_blame() {
    let tables = kinds().flat_map(|kind| kind.errors.iter().copied()).chain(iter::once(TEXTS));
    for Rule { status, pattern, class, source } in tables.flatten() {
        assert!(source.starts_with("https://"), "{pattern:?} has no source");
        if !class.moves_on() || !(status.holds(400) || status.holds(403)) {
            continue;
        }
        match pattern {
            Pattern::Code(_) => {}
            Pattern::Sentence(text) => {
                assert!(!text.starts_with("**") && !text.ends_with("**"), "{text}");
                assert!(text.contains(' ') || !text.is_ascii(), "{text} is a word");
            }
            Pattern::Words(_) | Pattern::Word(_) | Pattern::Anything => panic!("{pattern:?} blames a key"),
        }
    }
}
