//! A pass over a form (`multipart/form-data`, <https://www.rfc-editor.org/rfc/rfc7578>). By hand: the readers there are take
//! what is framed in other ways as well, and a vendor's reader would find other fields in it.

use crate::wire::FieldError;
use memchr::memmem;
use std::ops::Range;

/// No form has so many fields.
const MAX_PARTS: usize = 256;
/// The longest head of a field, in bytes.
const MAX_HEAD: usize = 8 << 10;
/// The longest boundary (RFC 2046, section 5.1.1).
const MAX_BOUNDARY: usize = 70;

const FORM_DATA: &str = "form-data";

/// A field of a form.
pub struct Part {
    /// Where its content stands.
    pub content: Range<usize>,
    /// The file's name; empty: it is none, or has none.
    pub filename: String,
    /// Its media type; empty: none is given.
    pub content_type: String,
    /// Whether it is a file, or in another character set.
    special: bool,
}

impl Part {
    /// Its content, for a field that holds a text.
    ///
    /// # Errors
    /// If it is none.
    pub fn text<'b>(&self, body: &'b [u8], name: &str) -> Result<&'b str, FieldError> {
        let content = body.get(self.content.clone()).filter(|_| !self.special);
        content
            .and_then(|content| std::str::from_utf8(content).ok())
            .ok_or_else(|| FieldError::new(name, "must be a text"))
    }
}

/// Goes over a form's fields, and hands each over with its name.
///
/// # Errors
/// What is no form, and what the receiver says.
pub fn parts(
    body: &[u8],
    content_type: &str,
    mut each: impl FnMut(&str, Part) -> Result<(), FieldError>,
) -> Result<(), FieldError> {
    let boundary = boundary(content_type).ok_or_else(|| broken("its content-type"))?;
    let delimiter = format!("--{boundary}");
    let finder = memmem::Finder::new(&delimiter);
    let from = |at: usize| body.get(at..).unwrap_or_default();
    if !body.starts_with(delimiter.as_bytes()) {
        return Err(broken("its beginning"));
    }
    let mut at = delimiter.len();
    for _ in 0..MAX_PARTS {
        if matches!(from(at), b"--" | b"--\r\n") {
            return Ok(());
        }
        let Some(head) = from(at).strip_prefix(b"\r\n") else { return Err(broken("a boundary")) };
        let head = head.get(..MAX_HEAD).unwrap_or(head);
        let end = memmem::find(head, b"\r\n\r\n").ok_or_else(|| broken("the head of a field"))?;
        let head = head.get(..end).and_then(|head| std::str::from_utf8(head).ok());
        let head = head.and_then(Head::read).ok_or_else(|| broken("the head of a field"))?;
        let start = at + 2 + end + 4;
        // Nowhere else, since some readers take it for one wherever it stands in a line.
        let next = start + finder.find(from(start)).ok_or_else(|| broken("its end"))?;
        let content = start..next.saturating_sub(2);
        if body.get(content.end..next) != Some(b"\r\n") || content.end < start {
            return Err(broken("a boundary"));
        }
        let Head { name, special, filename, content_type } = head;
        each(&name, Part { content, filename, content_type, special })?;
        at = next + delimiter.len();
    }
    Err(FieldError::new("", format!("is a form of more than {MAX_PARTS} fields")))
}

fn broken(what: &str) -> FieldError {
    FieldError::new("", format!("is no form that can be read: see {what}"))
}

/// The boundary that a media type names. Beside it, only the usual character set may stand there.
fn boundary(content_type: &str) -> Option<&str> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut found = None;
    for parameter in parameters.split(';').map(str::trim).filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=')?;
        let value = value.strip_prefix('"').map_or(Some(value), |value| value.strip_suffix('"'))?;
        if name.eq_ignore_ascii_case("boundary") && found.is_none() {
            found = Some(value);
        } else if !(name.eq_ignore_ascii_case("charset") && value.eq_ignore_ascii_case("utf-8")) {
            return None;
        }
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    found.filter(|text| {
        (1..=MAX_BOUNDARY).contains(&text.len()) && text.bytes().all(allowed) && !text.ends_with(' ')
    })
}

/// What stands before a field's content.
#[derive(Default)]
struct Head {
    name: String,
    special: bool,
    filename: String,
    content_type: String,
}

impl Head {
    fn read(text: &str) -> Option<Self> {
        let mut head: Option<Self> = None;
        let (mut special, mut content_type) = (false, String::new());
        for line in text.split("\r\n") {
            let (name, value) = line.split_once(':')?;
            let is_token =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if !is_token || value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
                return None;
            }
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-disposition" if head.is_none() => head = Some(disposition(value)?),
                "content-disposition" => return None,
                "content-type" => {
                    special |= is_in_another_charset(value);
                    value.clone_into(&mut content_type);
                }
                // What is still sent, says nothing (RFC 7578, section 4.7).
                "content-transfer-encoding" if !matches!(value, "7bit" | "8bit" | "binary") => return None,
                _ => {}
            }
        }
        head.map(|head| Self { special: head.special | special, content_type, ..head })
    }
}

/// Reads the name of a field, and whether it is a file.
fn disposition(value: &str) -> Option<Head> {
    let (kind, mut rest) = value.split_at_checked(FORM_DATA.len())?;
    if !kind.eq_ignore_ascii_case(FORM_DATA) {
        return None;
    }
    let (mut name, mut special, mut filename) = (None, false, String::new());
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return name.map(|name| Head { name, special, filename, ..Head::default() });
        }
        let (key, behind) = rest.strip_prefix(';')?.split_once('=')?;
        let text;
        (text, rest) = parameter(behind)?;
        match key.trim().to_ascii_lowercase().as_str() {
            // Readers differ in what an escape in it means.
            "name" if name.is_none() && !text.contains(['\\', '"']) => name = Some(text.to_owned()),
            "filename" => {
                special = true;
                text.clone_into(&mut filename);
            }
            "filename*" => special = true,
            _ => return None,
        }
    }
}

/// A parameter's text, without quotes and with its escapes, and what stands behind it.
fn parameter(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return Some(text.split_at(text.find([';', ' ', '\t']).unwrap_or(text.len())));
    };
    let mut escaped = false;
    let end = quoted.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    let (inner, rest) = quoted.split_at_checked(end)?;
    Some((inner, rest.strip_prefix('"')?))
}

/// Whether a field's media type names a character set that is not the usual one.
fn is_in_another_charset(media_type: &str) -> bool {
    let lower = media_type.to_ascii_lowercase();
    let named = lower.split_once("charset").map(|(_, named)| named.trim_start_matches(['=', ' ', '"']));
    named.is_some_and(|named| !(named.starts_with("utf-8") || named.starts_with("us-ascii")))
}
