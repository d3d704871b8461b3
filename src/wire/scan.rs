//! A pass over JSON text (RFC 8259) that keeps nothing of it: it only tells where values stand, and whether all of it is
//! JSON.

use memchr::memchr2;
use std::{borrow::Cow, ops::Range};

/// So deep may values stand in each other, as serde_json has it.
const DEPTH: u32 = 127;

/// What is no JSON, or deeper than is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// At which byte.
    pub at: usize,
    /// Whether it is too deep.
    pub deep: bool,
}

/// How far the pass has come.
pub struct Scan<'t> {
    text: &'t [u8],
    at: usize,
    /// In how many values it stands.
    depth: u32,
}

impl<'t> Scan<'t> {
    /// At the beginning of a text.
    pub fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Where the next thing stands that is no space.
    pub fn next(&mut self) -> Option<u8> {
        loop {
            let byte = self.text.get(self.at).copied();
            if !matches!(byte, Some(b' ' | b'\t' | b'\n' | b'\r')) {
                return byte;
            }
            self.at += 1;
        }
    }

    /// How far it has come.
    pub fn at(&self) -> usize {
        self.at
    }

    /// That nothing but spaces is left.
    ///
    /// # Errors
    /// Where there is more.
    pub fn end(&mut self) -> Result<(), Broken> {
        if self.next().is_none() { Ok(()) } else { Err(self.broken()) }
    }

    /// Goes over the members of the object that stands here, and hands each name over. The receiver goes over the value.
    ///
    /// # Errors
    /// Where it is no object, and what the receiver says.
    pub fn object<E: From<Broken>>(
        &mut self,
        mut each: impl FnMut(&mut Self, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        self.open(b'{')?;
        if self.next() == Some(b'}') {
            self.close();
            return Ok(());
        }
        loop {
            self.next();
            let name = self.string()?;
            let name = text(self.text.get(name).unwrap_or_default());
            self.expect(b':')?;
            self.next();
            // A name that is no text is nobody's.
            each(self, name.as_deref().unwrap_or_default())?;
            if !self.goes_on(b'}')? {
                return Ok(());
            }
        }
    }

    /// Goes over the items of the array that stands here. The receiver goes over each.
    ///
    /// # Errors
    /// Where it is no array, and what the receiver says.
    pub fn array<E: From<Broken>>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.open(b'[')?;
        if self.next() == Some(b']') {
            self.close();
            return Ok(());
        }
        loop {
            self.next();
            each(self)?;
            if !self.goes_on(b']')? {
                return Ok(());
            }
        }
    }

    /// Goes over the value that stands here, whatever it is. Returns where it stands.
    ///
    /// # Errors
    /// Where it is none.
    pub fn value(&mut self) -> Result<Range<usize>, Broken> {
        self.next();
        let from = self.at;
        // Whether each value that is open is an object, the innermost last.
        let mut objects = 0_u128;
        let outside = self.depth;
        loop {
            match self.next() {
                Some(b'{') => {
                    self.open(b'{')?;
                    objects = objects << 1 | 1;
                    if self.next() == Some(b'}') {
                        self.close();
                        objects >>= 1;
                    } else {
                        self.name()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.open(b'[')?;
                    objects <<= 1;
                    if self.next() != Some(b']') {
                        continue;
                    }
                    self.close();
                    objects >>= 1;
                }
                _ => self.scalar()?,
            }
            loop {
                if self.depth == outside {
                    return Ok(from..self.at);
                }
                let is_object = objects & 1 == 1;
                if self.goes_on(if is_object { b'}' } else { b']' })? {
                    if is_object {
                        self.name()?;
                    }
                    break;
                }
                objects >>= 1;
            }
        }
    }

    /// The name of the next member.
    fn name(&mut self) -> Result<(), Broken> {
        self.next();
        self.string()?;
        self.expect(b':')
    }

    /// Behind a member or an item: whether another one follows, or the end.
    fn goes_on(&mut self, end: u8) -> Result<bool, Broken> {
        match self.next() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == end => {
                self.close();
                Ok(false)
            }
            _ => Err(self.broken()),
        }
    }

    fn open(&mut self, bracket: u8) -> Result<(), Broken> {
        self.expect(bracket)?;
        self.depth += 1;
        if self.depth > DEPTH { Err(Broken { at: self.at, deep: true }) } else { Ok(()) }
    }

    fn close(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    fn expect(&mut self, byte: u8) -> Result<(), Broken> {
        if self.next() != Some(byte) {
            return Err(self.broken());
        }
        self.at += 1;
        Ok(())
    }

    fn scalar(&mut self) -> Result<(), Broken> {
        match self.text.get(self.at) {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => Err(self.broken()),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Broken> {
        if !self.rest().starts_with(word) {
            return Err(self.broken());
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Broken> {
        self.at += usize::from(self.rest().starts_with(b"-"));
        if self.rest().starts_with(b"0") {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.rest().starts_with(b".") {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.rest(), [b'e' | b'E', ..]) {
            self.at += 1;
            self.at += usize::from(matches!(self.rest(), [b'+' | b'-', ..]));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Broken> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.broken()) } else { Ok(()) }
    }

    /// The string that stands here, with its quotes.
    fn string(&mut self) -> Result<Range<usize>, Broken> {
        let from = self.at;
        if !self.rest().starts_with(b"\"") {
            return Err(self.broken());
        }
        self.at += 1;
        loop {
            let rest = self.rest();
            let plain = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            let (plain, rest) = rest.split_at_checked(plain).unwrap_or_default();
            if let Some(control) = plain.iter().position(|byte| *byte < b' ') {
                self.at += control;
                return Err(self.broken());
            }
            self.at += plain.len();
            match rest {
                [b'"', ..] => {
                    self.at += 1;
                    return Ok(from..self.at);
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
                [b'\\', b'u', a, b, c, d, ..]
                    if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) =>
                {
                    self.at += 6;
                }
                _ => return Err(self.broken()),
            }
        }
    }

    fn rest(&self) -> &'t [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn broken(&self) -> Broken {
        Broken { at: self.at, deep: false }
    }
}

/// The text that a JSON string in its quotes says; none where it says none.
pub fn text(quoted: &[u8]) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') {
        return serde_json::from_slice(quoted).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn is_json(text: &[u8]) -> bool {
        let mut scan = Scan::new(text);
        scan.value().and_then(|_| scan.end()).is_ok()
    }

    #[test]
    fn it_knows_what_is_json() {
        let good = [
            "1",
            "-0.5e+10",
            "1E400",
            "\"\"",
            "[]",
            "{}",
            " [ ] ",
            "[1,2]",
            "{\"a\":{\"b\":[null,true,false]},\"a\":1}",
            "\"\\u00e9\\\"\\n/\\/\"",
            "[[],{},[{}]]",
            "123456789012345678901234567890",
            "\"\u{7f}\u{e4}\"",
        ];
        for text in good {
            assert!(is_json(text.as_bytes()), "{text}");
            assert!(serde_json::from_str::<Value>(text).is_ok(), "{text}");
        }
        let bad = [
            "",
            " ",
            "{",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "1e",
            "+1",
            "-",
            "nul",
            "tru",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "[1}",
            "{\"a\":1]",
            "1 2",
            "[] []",
            "{,}",
            "[,1]",
            "'a'",
            "\u{feff}1",
            "NaN",
            "//\n1",
        ];
        for text in bad {
            assert!(!is_json(text.as_bytes()), "{text}");
            assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded_as_elsewhere() {
        let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + "1" + &close.repeat(depth);
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for (depth, is_read) in [(1, true), (127, true), (128, false), (100_000, false)] {
                let text = nested(open, close, depth);
                assert_eq!(is_json(text.as_bytes()), is_read, "{open} {depth}");
                assert_eq!(serde_json::from_str::<Value>(&text).is_ok(), is_read, "{open} {depth}");
            }
        }
        let deep = Scan::new(nested("[", "]", 128).as_bytes()).value().unwrap_err();
        assert_eq!(deep, Broken { at: 128, deep: true });
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_json(text in r#"[\[\]{}:,"\\ntrufalse0-9eE.+ u-]{0,24}"#) {
            let said = serde_json::from_str::<Value>(&text);
            prop_assert_eq!(is_json(text.as_bytes()), said.is_ok(), "{:?}", said);
        }

        #[test]
        fn one_wrong_byte_is_found_where_it_is_found(
            text in r#"\{"[a-c\\n"]{0,6}":(\[("x"|1.5|null|\{\}),?(2e3)?\]|"\\\\u00[0-9a-f]{2}")\}"#,
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut text = text.into_bytes();
            let at = at.index(text.len());
            text[at] = byte;
            let Ok(text) = String::from_utf8(text) else { return Ok(()) };
            let said = serde_json::from_str::<Value>(&text);
            prop_assert_eq!(is_json(text.as_bytes()), said.is_ok(), "{}", text);
        }

        #[test]
        fn any_bytes_are_borne(text in any::<Vec<u8>>()) {
            let _ = is_json(&text);
        }
    }
}
