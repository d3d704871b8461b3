//! Takes secrets out of text that a provider wrote, before anyone sees it.
//!
//! Providers echo keys in their errors. Invariant: [`Redactor::clean`] is the only way a provider's words get into a
//! [`Failure`](crate::balance::Failure). Pure: it talks to no server.

use super::{
    Fields, KindSpec, Target,
    disguise::{disguises, undisguised},
};
use bytes::Bytes;
use memchr::memmem;
use secrecy::ExposeSecret;
use std::{ops::Range, sync::Arc};
use zeroize::Zeroizing;

/// What stands where a secret was.
const REMOVED: &str = "[removed]";

/// Longest text that goes out, in characters.
const MAX_CHARS: usize = 512;

/// How keys of well-known vendors begin.
const KEY_PREFIXES: &[&str] = &["sk-", "gsk_", "xai-", "pplx-", "nvapi-", "hf_", "AIza"];

/// Knows the secrets of one target.
#[derive(Debug, Clone)]
pub struct Redactor {
    fields: Fields,
}

impl Redactor {
    /// For the secrets of that target: every field of its credential.
    #[must_use]
    pub fn new(target: &Target) -> Self {
        Self { fields: target.fields.clone() }
    }

    /// The text on one line, without secrets, at most 512 characters.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let forms = self.fields.iter().map(|(_, secret)| Zeroizing::new(disguises(secret.expose_secret())));
        let forms: Vec<_> = forms.collect();
        // The longest first: one may be part of another.
        let mut forms: Vec<&str> = forms.iter().flat_map(|forms| forms.iter()).map(String::as_str).collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        let removed =
            |text: &str| forms.iter().fold(text.to_owned(), |text, form| text.replace(form, REMOVED));
        text = removed(&text);
        for plain in undisguised(&text) {
            if forms.iter().any(|form| plain.contains(form)) {
                text = removed(&plain);
            }
        }
        // Shortened last: a secret cut in two would no longer be recognised.
        shorten(strip_tokens(&strip_urls(&text)).trim())
    }
}

/// Blots a target's secrets out of bytes that are handed on as they come, wherever these are cut and however the secrets are
/// written. Every byte of a secret becomes `*`, so that lengths stay.
#[derive(Clone)]
pub struct Blotter {
    /// The forms of the secrets; none: there is nothing to be found.
    forms: Arc<Zeroizing<Vec<String>>>,
    /// The end of what has come, where it may be the start of a secret.
    held: Vec<u8>,
}

impl Blotter {
    /// For the secret fields of that target's credential.
    #[must_use]
    pub fn new(target: &Target, kind: &KindSpec) -> Self {
        let fields = || kind.credential_fields.iter().filter(|field| field.secret);
        let secrets = || fields().filter_map(|field| target.fields.get(field.name));
        let forms = || secrets().flat_map(|secret| disguises(secret.expose_secret())).collect();
        Self { forms: target.fields.forms(forms), held: Vec::new() }
    }

    #[cfg(test)]
    fn of<'s>(secrets: impl Iterator<Item = &'s str>) -> Self {
        Self { forms: Arc::new(Zeroizing::new(secrets.flat_map(disguises).collect())), held: Vec::new() }
    }

    /// A text that is there as a whole.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        self.blot(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What can be handed on now that this has come; may be empty.
    pub fn next(&mut self, chunk: Bytes) -> Bytes {
        if self.held.is_empty() && !self.touches(&chunk) {
            return chunk;
        }
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(&chunk);
        self.blot(&mut bytes);
        self.held = bytes.split_off(bytes.len() - self.overlap(&bytes));
        bytes.into()
    }

    /// What was held back, when nothing more comes.
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }

    /// Bytes that are there as a whole. Where no secret stands in them, they are not copied.
    #[must_use]
    pub fn whole(&self, bytes: Bytes) -> Bytes {
        if self.places(&bytes).next().is_none() {
            return bytes;
        }
        let mut bytes = bytes.to_vec();
        self.blot(&mut bytes);
        bytes.into()
    }

    /// The same in place.
    pub fn blot(&self, bytes: &mut [u8]) {
        let places: Vec<_> = self.places(bytes).collect();
        for place in places {
            if let Some(place) = bytes.get_mut(place) {
                place.fill(b'*');
            }
        }
    }

    /// Whether a secret stands in these bytes, or may begin at their end.
    fn touches(&self, bytes: &[u8]) -> bool {
        self.places(bytes).next().is_some() || self.overlap(bytes) > 0
    }

    /// Where secrets stand.
    fn places<'b>(&'b self, bytes: &'b [u8]) -> impl Iterator<Item = Range<usize>> + 'b {
        let found = |form: &'b String| memmem::find_iter(bytes, form).map(|at| at..at + form.len());
        self.forms.iter().flat_map(found)
    }

    /// How many bytes at the end may be the start of a secret.
    fn overlap(&self, bytes: &[u8]) -> usize {
        self.forms.iter().map(|form| overlap(bytes, form.as_bytes())).max().unwrap_or_default()
    }
}

/// How many bytes at the end may be the start of that form.
fn overlap(bytes: &[u8], form: &[u8]) -> usize {
    let longest = bytes.len().min(form.len().saturating_sub(1));
    let starts = |length: &usize| form.get(..*length).is_some_and(|start| bytes.ends_with(start));
    (1..=longest).rev().find(starts).unwrap_or_default()
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
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use secrecy::SecretString;

    fn redactor(secrets: &[&str]) -> Redactor {
        let fields =
            secrets.iter().enumerate().map(|(i, s)| (i.to_string(), SecretString::from(*s))).collect();
        Redactor::new(&Target {
            tenant: uuid::Uuid::nil(),
            base_url: "http://a/".parse().unwrap(),
            model: String::new(),
            fields,
            switches: crate::wire::Switches::NONE,
            connect_timeout: None,
        })
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

    fn blotter(secrets: &[&str]) -> Blotter {
        Blotter::of(secrets.iter().copied())
    }

    #[test]
    fn a_secret_that_is_disguised_does_not_get_through() {
        let secret = "hunter2/hunter2";
        let encoded = BASE64_STANDARD.encode(format!("user:{secret}"));
        for text in [
            &encoded,
            "Basic dXNlcjpodW50ZXIyL2h1bnRlcjI=",
            "hunter2%2Fhunter2",
            "hunter2%2fhunter2",
            "%68%75nter2/hunter2",
            "hunter2\\/hunter2",
            "h\\u0075nter2/hunter2",
            "68756e746572322f68756e74657232",
            "68756E746572322F68756E74657232",
        ] {
            let cleaned = redactor(&[" hunter2/hunter2 "]).clean(&format!("you sent {text}!"));
            assert!(cleaned.contains(REMOVED) && !cleaned.contains("hunter2"), "{text}: {cleaned}");
        }
        let body = format!("{{\"a\":\"{encoded}\"}}");
        for cut in 0..body.len() {
            let mut blotter = blotter(&[secret]);
            let parts = [&body[..cut], &body[cut..]];
            let mut out: Vec<u8> =
                parts.iter().flat_map(|part| blotter.next(Bytes::copy_from_slice(part.as_bytes()))).collect();
            out.extend(blotter.rest());
            let out = String::from_utf8(out).unwrap();
            assert!(out.len() == body.len() && out.contains("*****************"), "{cut}: {out}");
            let shown = BASE64_STANDARD.decode(out.replace(['"', '{', '}', ':', 'a', '*'], "A"));
            assert!(!format!("{shown:?}").contains("hunter"), "{out}");
        }
    }

    #[test]
    fn secrets_are_blotted_out_wherever_the_bytes_are_cut() {
        let body = b"a hunter2hunter2, hunter2hunhunter2hunter2 and hunter2hunte";
        let expected = b"a **************, hunter2hun************** and hunter2hunte";
        for first in 0..=body.len() {
            for second in first..=body.len() {
                let mut blotter = blotter(&["hunter2hunter2", "other-secret"]);
                let mut out = Vec::new();
                for part in [&body[..first], &body[first..second], &body[second..]] {
                    out.extend_from_slice(&blotter.next(Bytes::copy_from_slice(part)));
                }
                out.extend_from_slice(&blotter.rest());
                assert_eq!(out, expected, "cut at {first} and {second}");
            }
        }
        assert_eq!(blotter(&["hunter2hunter2"]).text("k=hunter2hunter2;"), "k=**************;");
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
