//! How many tokens a request is: counted where the model's vocabulary is known, else estimated. Pure; counting is slow
//! enough to stay off the runtime's threads.

use crate::wire::{ChatRequest, Content, EmbeddingInputs, Part};
use std::sync::atomic::{AtomicBool, Ordering};
use tiktoken_rs::{
    bpe_for_tokenizer,
    tokenizer::{Tokenizer, get_tokenizer},
};

/// What an image costs at low detail with OpenAI: an order of magnitude.
const PER_MEDIUM: u64 = 85;
/// What a message, a name and the answer's start cost beside their texts (OpenAI Cookbook, "How to count tokens with
/// tiktoken").
const PER_MESSAGE: u64 = 3;
const PER_NAME: u64 = 1;
const PER_ANSWER: u64 = 3;
/// Counting takes the better part of a second for this many bytes; more are estimated.
const MAX_BYTES: usize = 4 << 20;
/// A text is counted in pieces of about so many bytes, so that counting can end between two of them.
const PIECE: usize = 16 << 10;
/// What cannot be cut into pieces is estimated if it is longer, in bytes.
const MAX_PIECE: usize = 256 << 10;
/// So long a word, or row of signs, says nothing. It is estimated: putting it together takes long.
const MAX_RUN: usize = 16 << 10;
/// The vocabularies' patterns look back over blanks, and give up at some length.
const MAX_BLANKS: usize = 4096;

/// What to count.
#[derive(Debug, Clone)]
pub enum Countable {
    /// A conversation with its tools: one count.
    Chat(Box<ChatRequest>),
    /// Texts: a count each.
    Texts(Vec<String>),
}

/// How many tokens it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCount {
    /// A count each.
    pub tokens: Vec<u64>,
    /// Whether one of them is a guess.
    pub estimated: bool,
}

/// How a model cuts text into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vocabulary(Tokenizer);

impl Vocabulary {
    /// That of one of OpenAI's models, also under the name that a gateway gives it (`openai/gpt-4o`).
    #[must_use]
    pub fn of_openai(model: &str) -> Option<Self> {
        get_tokenizer(model.rsplit('/').next().unwrap_or(model)).map(Self)
    }
}

/// Counts, exactly where the vocabulary is known. Takes its time. Once it is to stop, the rest is estimated.
#[must_use]
pub fn count(request: &Countable, vocabulary: Option<Vocabulary>, stop: &AtomicBool) -> TokenCount {
    let mut counter = Counter { vocabulary, left: MAX_BYTES, estimated: false, stop };
    let tokens = match request {
        Countable::Chat(request) => vec![counter.chat(request)],
        Countable::Texts(texts) => texts.iter().map(|text| counter.text(text)).collect(),
    };
    TokenCount { tokens, estimated: counter.estimated }
}

/// About how many tokens a conversation is. Quick.
#[must_use]
pub fn estimate_chat(request: &ChatRequest) -> u64 {
    let stop = AtomicBool::new(false);
    Counter { vocabulary: None, left: 0, estimated: true, stop: &stop }.chat(request)
}

/// The most tokens that a request lets the model write, where it says so.
#[must_use]
pub fn answer_limit(request: &ChatRequest) -> Option<u64> {
    ["max_completion_tokens", "max_tokens"]
        .iter()
        .find_map(|name| request.parameters.get(*name).or_else(|| request.extra.fields.get(*name))?.as_u64())
}

/// About how many tokens inputs to embed are. Quick.
#[must_use]
pub fn estimate_inputs(inputs: &EmbeddingInputs) -> u64 {
    match inputs {
        EmbeddingInputs::Texts(texts) => texts.iter().map(|text| estimate_text(text.len())).sum(),
        EmbeddingInputs::Tokens(arrays) => arrays.iter().map(|array| array.len() as u64).sum(),
        EmbeddingInputs::Parts(parts) => {
            parts.iter().map(|part| part.text().map_or(PER_MEDIUM, |text| estimate_text(text.len()))).sum()
        }
    }
}

/// About how many tokens so many bytes of text are: four bytes a token, as vendors estimate for English.
#[must_use]
pub fn estimate_text(bytes: usize) -> u64 {
    u64::try_from(bytes / 4).unwrap_or(u64::MAX).saturating_add(1)
}

struct Counter<'s> {
    vocabulary: Option<Vocabulary>,
    /// How many bytes may still be counted.
    left: usize,
    estimated: bool,
    stop: &'s AtomicBool,
}

impl Counter<'_> {
    fn chat(&mut self, request: &ChatRequest) -> u64 {
        let mut tokens = PER_ANSWER;
        for message in &request.messages {
            tokens += PER_MESSAGE + self.text(&message.role);
            tokens += match &message.content {
                Content::Text(text) => self.text(text),
                Content::Parts(parts) => parts.iter().map(|part| self.part(part)).sum(),
            };
            tokens += self.text(&message.reasoning_content) + self.text(&message.refusal);
            if !message.name.is_empty() {
                tokens += PER_NAME + self.text(&message.name);
            }
            // How a call is framed is not documented.
            for call in &message.tool_calls {
                tokens += self.guess(&call.name) + self.guess(&call.arguments);
            }
        }
        for tool in &request.tools {
            let schema = tool.parameters.as_ref().and_then(|schema| serde_json::to_string(schema).ok());
            tokens += self.guess(&tool.name) + self.guess(&tool.description);
            tokens += self.guess(&schema.unwrap_or_default());
        }
        tokens
    }

    fn part(&mut self, part: &Part) -> u64 {
        if let Some(text) = part.text() {
            return self.text(text);
        }
        self.estimated = true;
        PER_MEDIUM
    }

    /// A text that goes into the prompt in a form that only the provider knows.
    fn guess(&mut self, text: &str) -> u64 {
        self.estimated = true;
        self.text(text)
    }

    fn text(&mut self, text: &str) -> u64 {
        if text.is_empty() {
            return 0;
        }
        self.exactly(text).unwrap_or_else(|| {
            self.estimated = true;
            estimate_text(text.len())
        })
    }

    /// None where that would take too long.
    fn exactly(&mut self, text: &str) -> Option<u64> {
        let vocabulary = self.vocabulary.filter(|_| text.len() <= self.left && !has_long_run(text))?;
        // Read at its first use, which takes a moment.
        let vocabulary = bpe_for_tokenizer(vocabulary.0).ok()?;
        let (mut tokens, mut rest) = (0, text);
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(end_of_piece(rest));
            if piece.len() > MAX_PIECE || self.stop.load(Ordering::Relaxed) {
                return None;
            }
            self.left -= piece.len();
            tokens += vocabulary.count_ordinary(piece) as u64;
            rest = more;
        }
        Some(tokens)
    }
}

/// Where the first piece of a text ends: before a blank with a letter behind it and none before it, which every vocabulary
/// takes for the start of a word.
fn end_of_piece(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_end = |at: &usize| {
        bytes.get(*at) == Some(&b' ')
            && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic)
            && text
                .get(..*at)
                .and_then(|before| before.chars().next_back())
                .is_some_and(|c| !c.is_whitespace())
    };
    (PIECE..bytes.len()).find(is_end).unwrap_or(bytes.len())
}

/// Whether there are so many blanks in a row that the pattern would give up, or a word of no end.
fn has_long_run(text: &str) -> bool {
    let (mut blanks, mut run, mut kind) = (0, 0, false);
    text.chars().any(|c| {
        if c.is_whitespace() {
            (blanks, run) = (blanks + 1, 0);
        } else {
            let same = is_of_word(c) == kind;
            kind = is_of_word(c);
            (blanks, run) = (0, if same { run + c.len_utf8() } else { c.len_utf8() });
        }
        blanks > MAX_BLANKS || run > MAX_RUN
    })
}

/// Whether a character belongs to a word for some vocabulary: marks as well, but not the signs between sentences.
fn is_of_word(c: char) -> bool {
    let is_sign = matches!(c, '\u{2000}'..='\u{206f}' | '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff1f}');
    c.is_alphanumeric() || (!c.is_ascii() && !is_sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Media, Message, PartKind, Tool};

    fn texts(texts: &[&str], model: &str) -> TokenCount {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        counted(&Countable::Texts(texts), model)
    }

    fn counted(request: &Countable, model: &str) -> TokenCount {
        count(request, Vocabulary::of_openai(model), &AtomicBool::new(false))
    }

    #[test]
    fn pieces_count_as_the_whole() {
        let words =
            "It's the end, (of) 1234 things…  and\n\n then \t don't stop. Über alles 錯誤。 x/y \r\n z ";
        let text = words.repeat(5 * PIECE / words.len());
        for model in ["gpt-4", "gpt-4o", "davinci", "text-davinci-003"] {
            let vocabulary = Vocabulary::of_openai(model).unwrap();
            let whole = bpe_for_tokenizer(vocabulary.0).unwrap().count_ordinary(&text) as u64;
            assert_eq!(
                texts(&[&text], model),
                TokenCount { tokens: vec![whole], estimated: false },
                "{model}"
            );
        }
        assert!(end_of_piece(&text) < PIECE + 2 * words.len());
    }

    #[test]
    fn a_word_of_no_end_takes_no_time() {
        for letters in ["a", "ä", "!", "0", "錯", "ab", "a\u{301}"] {
            for length in [4 << 10, 64 << 10, 1 << 20] {
                let text = letters.repeat(length / letters.len());
                let began = std::time::Instant::now();
                let count = texts(&[&text], "gpt-4o");
                let took = began.elapsed();
                assert!(count.estimated == (length > MAX_RUN), "{letters}, {length}");
                println!("{letters} {length} {took:?}");
                assert!(took < std::time::Duration::from_millis(500), "{letters}, {length}: {took:?}");
            }
        }
    }

    #[test]
    fn what_is_to_stop_is_estimated() {
        let request = Countable::Texts(vec!["one two ".repeat(PIECE)]);
        let stop = AtomicBool::new(true);
        assert!(count(&request, Vocabulary::of_openai("gpt-4o"), &stop).estimated);
    }

    #[test]
    fn texts_are_counted_as_openai_counts_them() {
        // By OpenAI's own tiktoken 0.12.
        let sentence = "tiktoken is great!";
        for (model, tokens) in
            [("gpt-4", 6), ("gpt-4o", 6), ("openai/gpt-4o-mini", 6), ("ft:gpt-4o:me::x", 6)]
        {
            let counted = texts(&[sentence, "", "<|endoftext|>"], model);
            assert_eq!(counted.tokens.first(), Some(&tokens), "{model}");
            assert_eq!(counted.tokens.get(1), Some(&0));
            assert!(
                counted.tokens.get(2).is_some_and(|&tokens| tokens > 1),
                "text is not taken for a control token"
            );
            assert!(!counted.estimated);
        }
        let counted = texts(&["お誕生日おめでとう"], "gpt-4o");
        assert_eq!(counted, TokenCount { tokens: vec![8], estimated: false });
        assert_eq!(texts(&["お誕生日おめでとう"], "text-embedding-3-small").tokens, [9]);
    }

    #[test]
    fn what_has_no_known_vocabulary_is_estimated() {
        assert_eq!(texts(&["", "abcdefgh"], "llama-3"), TokenCount { tokens: vec![0, 3], estimated: true });
        let long = "a b ".repeat(MAX_BYTES / 4 + 1);
        assert!(texts(&[&long], "gpt-4o").estimated);
        let blanks = " ".repeat(1 << 20);
        assert!(texts(&[&blanks], "gpt-4o").estimated);
        assert!(!texts(&[&" ".repeat(MAX_BLANKS)], "gpt-4o").estimated);
        assert!(!texts(&[&"\u{3000}".repeat(MAX_BLANKS)], "gpt-4").estimated);
    }

    #[test]
    fn a_conversation_costs_what_the_cookbook_says() {
        let message = |role: &str, name: &str, text: &str| Message {
            role: role.into(),
            name: name.into(),
            content: Content::Text(text.into()),
            ..Message::default()
        };
        // The Cookbook's example, whose count OpenAI's API confirms there: 129 for gpt-4, 124 for gpt-4o.
        let system = "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.";
        let mut request = ChatRequest {
            messages: vec![
                message("system", "", system),
                message("system", "example_user", "New synergies will help drive top-line growth."),
                message("system", "example_assistant", "Things working well together will increase revenue."),
                message(
                    "system",
                    "example_user",
                    "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
                ),
                message(
                    "system",
                    "example_assistant",
                    "Let's talk later when we're less busy about how to do better.",
                ),
                message(
                    "user",
                    "",
                    "This late pivot means we don't have time to boil the ocean for the client deliverable.",
                ),
            ],
            ..ChatRequest::default()
        };
        for (model, tokens) in [("gpt-4", 129), ("gpt-4o", 124)] {
            let counted = counted(&Countable::Chat(Box::new(request.clone())), model);
            assert_eq!(counted, TokenCount { tokens: vec![tokens], estimated: false }, "{model}");
        }
        let plain = counted(&Countable::Chat(Box::new(request.clone())), "gpt-4o").tokens;
        request.tools = vec![Tool { name: "f".into(), description: "does it".into(), ..Tool::default() }];
        let with_tool = counted(&Countable::Chat(Box::new(request.clone())), "gpt-4o");
        assert!(with_tool.estimated && with_tool.tokens > plain);
        let image = Part::from(PartKind::Image(Media::default()));
        request.tools.clear();
        request.messages = vec![Message { content: Content::Parts(vec![image]), ..Message::default() }];
        assert!(counted(&Countable::Chat(Box::new(request)), "gpt-4o").estimated);
    }
}
