//! Mends JSON text that is broken in one of the usual ways: bytes that are no UTF-8, halves of surrogate pairs, numbers that
//! are none (`NaN`, `Infinity`), and control characters within texts. By hand: no reader of JSON takes all of these, and only
//! a text that was refused comes here.
//!
//! A character that is cut in two by a stream is not lost: each half becomes a mark, and [`Halves`] joins marks that meet.
//! Marks are characters of Unicode's second private plane, which text does not use; those that never meet become U+FFFD.

use std::fmt::Write as _;

/// Marks of the halves of surrogate pairs (2048 of them), and behind them of bytes that are no UTF-8.
const HALVES: u32 = 0x0010_F000;
const BYTES: u32 = HALVES + 0x800;
const END: u32 = BYTES + 0x100;

/// The first byte of each mark in UTF-8.
const LEAD: u8 = 0xF4;

/// The text without its faults; none where there is none of them.
pub(super) fn mend(text: &[u8]) -> Option<String> {
    let (text, mut changed) = utf8(text);
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut in_string) = (&*text, false);
    while let Some(c) = rest.chars().next() {
        let tail = rest.get(c.len_utf8()..).unwrap_or_default();
        let (written, left) = match c {
            '"' => {
                in_string = !in_string;
                (None, tail)
            }
            '\\' if in_string => match escape(rest) {
                Escape::Kept(length) => {
                    let (kept, left) = rest.split_at(length);
                    out.push_str(kept);
                    rest = left;
                    continue;
                }
                Escape::Half(half, length) => (mark(HALVES + half), rest.get(length..).unwrap_or_default()),
            },
            c if in_string && u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
                (rest, changed) = (tail, true);
                continue;
            }
            '-' | 'N' | 'I' if !in_string => match ["NaN", "-Infinity", "Infinity", "-NaN"]
                .iter()
                .find_map(|name| rest.strip_prefix(*name))
            {
                Some(left) => {
                    out.push_str("null");
                    (rest, changed) = (left, true);
                    continue;
                }
                None => (None, tail),
            },
            _ => (None, tail),
        };
        changed |= written.is_some();
        out.push(written.unwrap_or(c));
        rest = left;
    }
    changed.then_some(out)
}

/// The text, with a mark for each byte that is no UTF-8, and whether there was one.
fn utf8(bytes: &[u8]) -> (std::borrow::Cow<'_, str>, bool) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return (text.into(), false);
    }
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().filter_map(|byte| mark(BYTES + u32::from(*byte))));
    }
    (out.into(), true)
}

enum Escape {
    /// An escape of so many bytes that stays.
    Kept(usize),
    /// Half of a surrogate pair, as its distance from U+D800, in so many bytes.
    Half(u32, usize),
}

fn escape(text: &str) -> Escape {
    let unit = |at: usize| {
        let hex = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(hex, 16).ok()
    };
    match (unit(0), unit(6)) {
        (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => Escape::Kept(12),
        (Some(half @ 0xD800..=0xDFFF), _) => Escape::Half(half - 0xD800, 6),
        _ => {
            let second = text.get(1..).and_then(|rest| rest.chars().next());
            Escape::Kept(1 + second.map_or(0, char::len_utf8))
        }
    }
}

fn mark(value: u32) -> Option<char> {
    char::from_u32(value)
}

fn marked(c: char) -> Option<u32> {
    (HALVES..END).contains(&u32::from(c)).then(|| u32::from(c))
}

/// One run of text in pieces, such as the content of a choice. Holds a half of a character back until its other half comes.
#[derive(Debug, Default)]
pub(super) struct Halves(Vec<u32>);

impl Halves {
    /// The piece as it can be handed on.
    pub(super) fn next(&mut self, piece: String) -> String {
        if self.0.is_empty() && !piece.as_bytes().contains(&LEAD) {
            return piece;
        }
        let mut out = String::with_capacity(piece.len());
        for c in piece.chars() {
            if let Some(mark) = marked(c) {
                self.0.push(mark);
                if let Some(joined) = joined(&self.0) {
                    self.0.clear();
                    out.push(joined);
                } else if !may_go_on(&self.0) {
                    let last = self.0.pop();
                    out.push_str(&self.rest());
                    self.0.extend(last);
                    if !may_go_on(&self.0) {
                        out.push_str(&self.rest());
                    }
                }
            } else {
                out.push_str(&self.rest());
                out.push(c);
            }
        }
        out
    }

    /// What is left when nothing more comes.
    pub(super) fn rest(&mut self) -> String {
        // One replacement for one character that was begun.
        let begun = !self.0.is_empty();
        self.0.clear();
        if begun { "\u{fffd}".to_owned() } else { String::new() }
    }
}

/// A text that has come as a whole, without marks.
pub(super) fn whole(text: String) -> String {
    let mut halves = Halves::default();
    let mut text = halves.next(text);
    text.push_str(&halves.rest());
    text
}

/// The character that these marks make together.
fn joined(marks: &[u32]) -> Option<char> {
    if let [high, low] = marks
        && *low < BYTES
    {
        let (high, low) = (high - HALVES, low - HALVES);
        return (high < 0x400 && (0x400..0x800).contains(&low))
            .then(|| char::from_u32(0x1_0000 + (high << 10) + (low - 0x400)))
            .flatten();
    }
    let bytes = bytes(marks)?;
    std::str::from_utf8(&bytes).ok()?.chars().next()
}

/// Whether more marks may make a character of these.
fn may_go_on(marks: &[u32]) -> bool {
    match (marks, bytes(marks)) {
        ([half], None) => half - HALVES < 0x400,
        (_, None) => false,
        (_, Some(bytes)) => std::str::from_utf8(&bytes).is_err_and(|error| error.error_len().is_none()),
    }
}

fn bytes(marks: &[u32]) -> Option<Vec<u8>> {
    marks.iter().map(|mark| mark.checked_sub(BYTES).and_then(|byte| u8::try_from(byte).ok())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn read(text: &[u8]) -> Option<Value> {
        serde_json::from_str(&mend(text)?).ok()
    }

    #[test]
    fn broken_text_becomes_json() {
        let table: [(&[u8], &str); 7] = [
            (
                b"{\"a\":NaN,\"b\":-Infinity,\"c\":Infinity,\"d\":-1}",
                r#"{"a":null,"b":null,"c":null,"d":-1}"#,
            ),
            (b"{\"a\":\"NaN \\\" Infinity\",\"b\":NaN}", r#"{"a":"NaN \" Infinity","b":null}"#),
            (b"{\"a\":\"x\ny\tz\"}", r#"{"a":"x\ny\tz"}"#),
            (b"[\"\\ud83d\\ude00 \\ud83d\"]", "[\"\u{1f600} \u{fffd}\"]"),
            (b"[\"\\ude00\\ud83d\"]", "[\"\u{fffd}\u{fffd}\"]"),
            (b"[\"a\xf0\x9fb\"]", "[\"a\u{fffd}b\"]"),
            (b"[\"\\\\ud83d \\u00e9\", NaN]", r#"["\\ud83d é", null]"#),
        ];
        for (text, expected) in table {
            let mended = read(text).unwrap().to_string();
            let expected: Value = serde_json::from_str(expected).unwrap();
            assert_eq!(whole(mended), expected.to_string(), "{}", String::from_utf8_lossy(text));
        }
        for fine in [&b"{\"a\":1}"[..], b"{", b"\"\\u12", b""] {
            assert_eq!(mend(fine), None, "{}", String::from_utf8_lossy(fine));
        }
    }

    #[test]
    fn halves_of_a_character_are_joined() {
        let join = |pieces: &[&[u8]]| {
            let mut halves = Halves::default();
            let mut out: Vec<String> = pieces
                .iter()
                .map(|piece| {
                    let text = [b"\"", *piece, b"\""].concat();
                    let text = mend(&text).unwrap_or_else(|| String::from_utf8(text).unwrap());
                    halves.next(serde_json::from_str(&text).unwrap())
                })
                .collect();
            out.push(halves.rest());
            out
        };
        assert_eq!(join(&[b"hi \\ud83d", b"\\ude00!"]), ["hi ", "\u{1f600}!", ""]);
        assert_eq!(join(&[b"hi \xf0\x9f", b"\x98\x80!"]), ["hi ", "\u{1f600}!", ""]);
        assert_eq!(join(&[b"\xc3", b"\xa9", b"x"]), ["", "\u{e9}", "x", ""]);
        assert_eq!(join(&[b"hi \\ud83d", b"x"]), ["hi ", "\u{fffd}x", ""]);
        assert_eq!(join(&[b"hi \\ud83d\\ud83d", b"\\ude00"]), ["hi \u{fffd}", "\u{1f600}", ""]);
        assert_eq!(join(&[b"\\ude00", b"x", b"\\ud83d"]), ["\u{fffd}", "x", "", "\u{fffd}"]);
    }

    proptest::proptest! {
        #[test]
        fn nothing_breaks_it(bytes: Vec<u8>, text: String) {
            for input in [&bytes, &text.into_bytes()] {
                if let Some(mended) = mend(input) {
                    proptest::prop_assert!(!whole(mended).chars().any(|c| marked(c).is_some()));
                }
            }
        }

        #[test]
        fn what_is_json_already_keeps_its_meaning(text: String) {
            let json = serde_json::to_string(&text).unwrap();
            proptest::prop_assert_eq!(mend(json.as_bytes()), None);
        }
    }
}
