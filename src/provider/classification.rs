//! The tables of errors as a page: `docs/reference/classification.md`. A test holds the page to it.

use super::{
    Rule, anthropic,
    classify::TEXTS,
    cohere, gemini, openai,
    rules::{Pattern, STATUSES},
};
use std::fmt::Write as _;

const INTRODUCTION: &str = "\
# Classification

This page is made from the tables of the drivers (`UPDATE_DOCS=1 cargo test --test it classification`). It says which
[class](balancing.md#failures) an answer without success has. The same rows hold for an error inside a stream.

All rows that hold under the status of the answer and fit what it says are compared. The most exact one decides: a code
before a sentence, a sentence before words, words before a code that is no more than a word for a status, and that before
the status alone. Of rows that are equally exact, the first one decides. The tables are asked in this order:

1. the table of the kind (`openai`, `openai_compatible` and `azure_openai`: OpenAI, Anthropic, Gemini, Cohere in turn,
   because a gateway hands on what the vendor behind it says);
2. for `anthropic`, `gemini` and `cohere`: OpenAI's table, because gateways add OpenAI's codes;
3. the texts;
4. the statuses.

- A **code** is the `code`, the `type`, the code of an inner error, or a reason in Google's details.
- A **sentence** is the whole text. `*` stands for one word, and `**` for any text. Rota ignores the ` (request id: …)`
  that gateways append.
- **Words** stand anywhere in the first 4 KiB of the text, in upper or lower case.
- 2xx means an error inside an answer that claims to be a success, or inside a stream.

Under 400 and 403, words never blame a key: providers repeat what callers wrote.
";

/// The page that lists every row: status, pattern, class, source.
#[must_use]
pub fn classification() -> String {
    let tables = [
        ("OpenAI, and vendors and servers with its API", openai::errors::ERRORS),
        ("Anthropic", anthropic::ERRORS),
        ("Gemini and Vertex AI", gemini::ERRORS),
        ("Cohere", cohere::ERRORS),
        ("Texts", TEXTS),
        ("Statuses", STATUSES),
    ];
    tables.into_iter().fold(INTRODUCTION.to_owned(), |page, (title, rows)| page + &section(title, rows))
}

fn section(title: &str, rows: &[Rule]) -> String {
    let mut text = format!("\n## {title}\n\n| status | pattern | class | source |\n|---|---|---|---|\n");
    for Rule { status, pattern, class, source } in rows {
        let pattern = match pattern {
            Pattern::Code(code) => format!("code {}", span(code)),
            Pattern::Sentence(sentence) => format!("sentence {}", span(sentence)),
            Pattern::Words(words) => format!("words {}", span(words)),
            Pattern::Word(word) => format!("code {}, if nothing else decides", span(word)),
            Pattern::Anything => "anything else".to_owned(),
        };
        // Writing to a text cannot fail.
        let _ = writeln!(text, "| {status} | {pattern} | `{}` | <{source}> |", class.name());
    }
    text
}

/// As code, whatever stands in it.
fn span(text: &str) -> String {
    let text = text.replace('|', "\\|");
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}
