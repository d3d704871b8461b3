//! Token counts in answers that are passed on unread: JSON or events of any vendor, cut anywhere.
//!
//! A count stands in an object under a key of its own, whatever is around it. Inside of a text the key's quotes would be
//! escaped, so what a model writes is not taken for it. Memory is bounded, and what makes no sense is passed over.

use super::{TokenUsage, nesting::Nesting};
use serde_json::Value;
use std::mem;

/// The keys of objects that hold counts: OpenAI's, Anthropic's and Cohere's; Gemini's; Cohere's where there is no other.
const KEYS: [&[u8]; 3] = [b"usage", b"usageMetadata", b"billed_units"];
/// The longest of them.
const MAX_KEY: usize = 13;
/// The largest object that is read.
const MAX_OBJECT: usize = 8 << 10;

/// Listens to one answer.
#[derive(Debug, Default)]
pub struct UsageListener {
    state: State,
    usage: TokenUsage,
}

#[derive(Debug, Default)]
enum State {
    /// Looking for a quote.
    #[default]
    Seek,
    /// Behind a quote that may begin a key.
    Key(Vec<u8>),
    /// Behind one of the keys.
    Value { colon: bool },
    /// In the object.
    Object(Vec<u8>, Nesting),
}

impl UsageListener {
    /// Takes the next bytes. Returns what was used so far, where they say more of it.
    pub fn hear(&mut self, mut bytes: &[u8]) -> Option<TokenUsage> {
        let mut heard = None;
        loop {
            if matches!(self.state, State::Seek) {
                let Some(quote) = bytes.iter().position(|&byte| byte == b'"') else { return heard };
                bytes = bytes.get(quote + 1..).unwrap_or_default();
                self.state = State::Key(Vec::new());
            }
            let Some((&byte, rest)) = bytes.split_first() else { return heard };
            bytes = rest;
            self.state = match mem::take(&mut self.state) {
                State::Key(key) if byte == b'"' && KEYS.contains(&&*key) => State::Value { colon: false },
                // It was no key, and the quote may begin one.
                State::Key(_) if byte == b'"' => State::Key(Vec::new()),
                State::Key(mut key) if key.len() < MAX_KEY => {
                    key.push(byte);
                    State::Key(key)
                }
                State::Value { colon } if byte.is_ascii_whitespace() => State::Value { colon },
                State::Value { colon: false } if byte == b':' => State::Value { colon: true },
                State::Value { colon: true } if byte == b'{' => {
                    let mut nesting = Nesting::default();
                    nesting.closes(byte);
                    State::Object(vec![byte], nesting)
                }
                State::Object(mut object, mut nesting) if object.len() < MAX_OBJECT => {
                    object.push(byte);
                    if nesting.closes(byte) {
                        heard = self.read(&object).or(heard);
                        State::Seek
                    } else {
                        State::Object(object, nesting)
                    }
                }
                _ => State::Seek,
            };
        }
    }

    fn read(&mut self, object: &[u8]) -> Option<TokenUsage> {
        let before = self.usage;
        self.usage.update(counts(object)?);
        (self.usage != before).then_some(self.usage)
    }
}

/// What an object of counts says, whoever's it is.
pub(super) fn counts(object: &[u8]) -> Option<TokenUsage> {
    let object: Value = serde_json::from_slice(object.get(..MAX_OBJECT).unwrap_or(object)).ok()?;
    let counts = ["tokens", "billed_units"].iter().find_map(|name| object.get(name)).unwrap_or(&object);
    let count = |name: &str| {
        let count = counts.get(name).and_then(Value::as_f64).unwrap_or_default();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "such a cast keeps within what fits"
        )]
        let count = count as u32;
        count
    };
    let sum = |names: &[&str]| names.iter().fold(0, |sum: u32, name| sum.saturating_add(count(name)));
    // Anthropic counts what its cache holds beside the input
    // (<https://platform.claude.com/docs/en/build-with-claude/prompt-caching>).
    let input = sum(&["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]);
    let prompt = [count("prompt_tokens"), count("promptTokenCount")].into_iter().find(|&count| count > 0);
    let (prompt, completion) = (
        prompt.unwrap_or(if count("input_tokens") > 0 { input } else { 0 }),
        sum(&["completion_tokens", "output_tokens", "candidatesTokenCount", "thoughtsTokenCount"]),
    );
    let total = count("total_tokens").max(count("totalTokenCount")).max(prompt.saturating_add(completion));
    Some(TokenUsage { prompt, completion, total, ..TokenUsage::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: [(&str, (u32, u32, u32)); 8] = [
        (r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}"#, (5, 3, 8)),
        (
            r#"{"output":[],"usage": {"input_tokens":5,"input_tokens_details":{"cached_tokens":2},"output_tokens":3}}"#,
            (5, 3, 8),
        ),
        (
            "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"cache_read_input_tokens\":20,\
             \"output_tokens\":1}}}\n\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":3}}\n\n",
            (25, 3, 28),
        ),
        (
            r#"{"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":3,"thoughtsTokenCount":2,"totalTokenCount":10}}"#,
            (5, 5, 10),
        ),
        (
            r#"{"usage":{"billed_units":{"input_tokens":4,"output_tokens":3},"tokens":{"input_tokens":9,"output_tokens":3}}}"#,
            (9, 3, 12),
        ),
        (r#"{"embeddings":[],"meta":{"billed_units":{"input_tokens":4}}}"#, (4, 0, 4)),
        // What a model writes, and what is no object.
        (r#"{"content":"{\"usage\":{\"prompt_tokens\":9}}","usage":null}"#, (0, 0, 0)),
        (r#"{"usage":{"prompt_tokens":"x","n":[{}]},"a":"usage","usage":{"prompt_tokens":7}}"#, (7, 0, 7)),
    ];

    #[test]
    fn every_dialect_is_heard_however_it_is_cut() {
        for (answer, expected) in ANSWERS {
            for size in [1, 2, 7, answer.len()] {
                let mut listener = UsageListener::default();
                let mut last = TokenUsage::default();
                for piece in answer.as_bytes().chunks(size) {
                    last = listener.hear(piece).unwrap_or(last);
                }
                assert_eq!((last.prompt, last.completion, last.total), expected, "{answer} by {size}");
            }
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut listener = UsageListener::default();
        assert_eq!(listener.hear(br#"{"usage":{"a":""#), None);
        for _ in 0..100 {
            assert_eq!(listener.hear(&[b'x'; 1024]), None);
        }
        assert!(matches!(listener.state, State::Seek));
        assert!(listener.hear(br#""}},{"usage":{"prompt_tokens":1}}"#).is_some(), "it goes on listening");
    }
}
