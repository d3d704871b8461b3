//! Takes secrets out of text that a provider wrote, before anyone sees it.
//!
//! Providers echo keys in their errors. Invariant: [`Redactor::clean`] is the only way a provider's words get into a
//! [`Failure`](crate::balance::Failure). Pure: it talks to no server.

use super::Target;
use secrecy::{ExposeSecret, SecretString};

/// What stands where a secret was.
const REMOVED: &str = "[removed]";

/// Longest text that goes out, in characters.
const MAX_CHARS: usize = 512;

/// A field's value shorter than this is no secret worth the holes it would cut into every word.
const MIN_SECRET: usize = 4;

/// How keys of well-known vendors begin.
const KEY_PREFIXES: &[&str] = &["sk-", "gsk_", "xai-", "pplx-", "nvapi-", "hf_", "AIza"];

/// Knows the secrets of one target.
#[derive(Debug, Clone)]
pub struct Redactor {
    secrets: Vec<SecretString>,
}

impl Redactor {
    /// For the secrets of that target: every field of its credential.
    #[must_use]
    pub fn new(target: &Target) -> Self {
        let mut secrets: Vec<SecretString> = target
            .fields
            .values()
            .filter(|secret| secret.expose_secret().len() >= MIN_SECRET)
            .cloned()
            .collect();
        // The longest first: one may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
        Self { secrets }
    }

    /// The text on one line, without secrets, at most 512 characters.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        for secret in &self.secrets {
            text = text.replace(secret.expose_secret(), REMOVED);
        }
        // Shortened last: a secret cut in two would no longer be recognised.
        shorten(strip_tokens(&strip_urls(&text)).trim())
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        None => text.to_owned(),
        Some(_) => text.chars().take(MAX_CHARS - 1).chain(['…']).collect(),
    }
}

/// Takes user info, queries and fragments out of URLs.
fn strip_urls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let end = after.find(|c: char| c.is_whitespace() || "\"'<>`".contains(c)).unwrap_or(after.len());
        let (url, tail) = after.split_at(end);
        let (authority, path) = url.split_at(url.find(['/', '?', '#']).unwrap_or(url.len()));
        out.push_str(before);
        out.push_str(authority.rsplit('@').next().unwrap_or_default());
        out.push_str(path.split(['?', '#']).next().unwrap_or_default());
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// Takes out words that look like keys, whoever's they are.
fn strip_tokens(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut word_start = true;
    while let Some(first) = rest.chars().next() {
        let length = if word_start { key_length(rest) } else { None };
        if let Some(length) = length {
            out.push_str(REMOVED);
            rest = rest.get(length..).unwrap_or_default();
            word_start = false;
        } else {
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            word_start = !is_key_char(first);
        }
    }
    out
}

/// How many bytes of key this text begins with.
fn key_length(text: &str) -> Option<usize> {
    const BEARER: &str = "bearer ";
    if let Some((head, tail)) = text.split_at_checked(BEARER.len())
        && head.eq_ignore_ascii_case(BEARER)
    {
        let blanks = tail.len() - tail.trim_start().len();
        let word = word_length(tail.trim_start());
        let token = tail.get(blanks..blanks + word).unwrap_or_default();
        // "Bearer token required" is prose.
        return (word >= 16 || token.contains(|c: char| c.is_ascii_digit()))
            .then_some(BEARER.len() + blanks + word);
    }
    let prefix = KEY_PREFIXES.iter().find(|prefix| text.starts_with(**prefix))?;
    let word = word_length(text);
    (word > prefix.len()).then_some(word)
}

fn word_length(text: &str) -> usize {
    text.find(|c| !is_key_char(c)).unwrap_or(text.len())
}

fn is_key_char(c: char) -> bool {
    c.is_alphanumeric() || "-_.*+/=~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn redactor(secrets: &[&str]) -> Redactor {
        let fields: BTreeMap<_, _> =
            secrets.iter().enumerate().map(|(i, s)| (i.to_string(), SecretString::from(*s))).collect();
        Redactor::new(&Target { base_url: "http://a/".parse().unwrap(), model: String::new(), fields })
    }

    #[test]
    fn secrets_do_not_get_through() {
        let table = [
            ("key hunter2hunter2 is wrong", "key [removed] is wrong"),
            ("xhunter2hunter2y", "x[removed]y"),
            ("hunter2hunter2-and-more!", "[removed]!"),
            ("Incorrect API key provided: sk-proj-ab**yz.", "Incorrect API key provided: [removed]"),
            ("(sk-abc) 'gsk_1234' AIzaSyD", "([removed]) '[removed]' [removed]"),
            ("got Bearer abc123 here", "got [removed] here"),
            ("got bearer  abcdefghijklmnopqrst", "got [removed]"),
            ("Bearer token is missing", "Bearer token is missing"),
            ("task-force and desk-top stay", "task-force and desk-top stay"),
            ("see https://u:p@h.com/a?key=1#f, ok", "see https://h.com/a ok"),
            ("\"http://h/x?y\" and http://k?z", "\"http://h/x\" and http://k"),
            ("a\nb\u{0}c\u{1b}[31m", "a b c [31m"),
        ];
        let redactor = redactor(&["hunter2hunter2", "hunter2hunter2-and-more", "no"]);
        for (text, expected) in table {
            assert_eq!(redactor.clean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn long_text_is_shortened_after_secrets_are_gone() {
        let redactor = redactor(&["hunter2hunter2"]);
        let text = format!("{}hunter2hunter2{}", "ä ".repeat(252), "x".repeat(600));
        let cleaned = redactor.clean(&text);
        assert_eq!(cleaned.chars().count(), 512);
        assert!(!cleaned.contains("hunter"), "{cleaned}");
        assert!(cleaned.ends_with('…'));
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(text: String, before in "[a-z ä:/?@]{0,20}", after in ".{0,20}") {
            let redactor = redactor(&["hunter2hunter2"]);
            let cleaned = redactor.clean(&text);
            proptest::prop_assert!(cleaned.chars().count() <= 512);
            let cleaned = redactor.clean(&format!("{before}hunter2hunter2{after}"));
            proptest::prop_assert!(!cleaned.contains("hunter2hunter2"));
        }
    }
}
