//! What a request says at its top level of where it goes, read in one pass that keeps nothing else, and changed in place.
//!
//! Router and vendor have to read the same. So what readers take in different ways is refused: a name that stands twice,
//! also with escapes in it, or in other letters (servers in Go take them for the same,
//! <https://pkg.go.dev/encoding/json#Unmarshal>), and forms that are framed in any but the usual way.

mod form;

use super::{
    FieldError, FormField, Protocol,
    scan::{self, Broken, Scan},
};
use bytes::Bytes;
use std::ops::Range;

/// What a request says of where it goes, and where in its body it says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopLevel {
    model: Option<String>,
    /// Where names of the model stand: strings in their quotes, or the content of a form's field.
    places: Vec<Range<usize>>,
    stream: bool,
    usage: Usage,
    is_form: bool,
}

/// What a request for a stream says of `stream_options.include_usage`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Usage {
    /// Something, or what cannot be added to.
    #[default]
    Said,
    /// It has no options. New members stand here.
    NoOptions(usize),
    /// This stands in their place.
    NullOptions(Range<usize>),
    /// Its options do not say so. New members stand here.
    Options {
        /// Where.
        at: usize,
        /// Whether there are others.
        others: bool,
    },
}

/// What is changed in a body.
#[derive(Debug, Clone, Copy, Default)]
pub struct Edit<'e> {
    /// The name of the model. Where the body names none, it stays so.
    pub model: &'e str,
    /// Whether the usage of a stream is asked for, where the caller says nothing of it.
    pub include_usage: bool,
}

/// A body in pieces that share what has not changed.
pub type Pieces = [Bytes; 5];

/// The fields that may stand once.
#[derive(Default)]
struct Once([bool; 3]);

const ONCE: [&str; 3] = ["model", "stream", "stream_options"];

impl Once {
    /// Takes note of a field.
    fn note(&mut self, name: &str) -> Result<(), FieldError> {
        let Some(at) = ONCE.iter().position(|once| once.eq_ignore_ascii_case(name)) else { return Ok(()) };
        let twice = self.0.get_mut(at).is_some_and(|seen| std::mem::replace(seen, true));
        if twice {
            Err(FieldError::new(ONCE.get(at).copied().unwrap_or_default(), "stands twice"))
        } else {
            Ok(())
        }
    }
}

impl From<Broken> for FieldError {
    fn from(broken: Broken) -> Self {
        let Broken { at, deep } = broken;
        let why = if deep { "is JSON that is nested too deep" } else { "is no JSON object" };
        Self::new("", format!("{why}: see byte {at}"))
    }
}

impl TopLevel {
    /// Reads a body that is JSON. In Gemini's protocol the path names the model, and the body may repeat it in its parts.
    ///
    /// # Errors
    /// What is no JSON object, or may be read in two ways.
    pub fn json(body: &[u8], protocol: Protocol) -> Result<Self, FieldError> {
        std::str::from_utf8(body).map_err(|error| Broken { at: error.valid_up_to(), deep: false })?;
        let (mut read, mut once) = (Self::default(), Once::default());
        let mut scan = Scan::new(body);
        scan.next();
        let (start, mut is_empty) = (scan.at() + 1, true);
        scan.object(|scan, name| {
            is_empty = false;
            once.note(name)?;
            match name {
                "model" => {
                    let place = scan.value()?;
                    let text = body.get(place.clone()).and_then(scan::text);
                    read.model =
                        Some(text.ok_or_else(|| FieldError::new("model", "must be a text"))?.into_owned());
                    read.places.push(place);
                }
                "stream" => read.stream = flag(body.get(scan.value()?))?,
                "stream_options" => read.usage = options(body, scan)?,
                "requests" if protocol == Protocol::Gemini && scan.next() == Some(b'[') => {
                    scan.array(|scan| read.repeated(scan))?;
                }
                // As Google's own JSON, it is taken in either way (<https://protobuf.dev/programming-guides/json/>).
                "generateContentRequest" | "generate_content_request" if protocol == Protocol::Gemini => {
                    read.repeated(scan)?;
                }
                _ => _ = scan.value()?,
            }
            Ok::<_, FieldError>(())
        })?;
        scan.end()?;
        if let ([.., false], false) = (once.0, is_empty) {
            read.usage = Usage::NoOptions(start);
        }
        Ok(read)
    }

    /// Reads a body that is a form (`multipart/form-data`, <https://www.rfc-editor.org/rfc/rfc7578>).
    ///
    /// # Errors
    /// What is no form, or may be read in two ways.
    pub fn form(body: &[u8], content_type: &str) -> Result<Self, FieldError> {
        let (mut read, mut once) = (Self { is_form: true, ..Self::default() }, Once::default());
        form::parts(body, content_type, |name, part| {
            once.note(name)?;
            match name {
                "model" => {
                    read.model = Some(part.text(body, "model")?.to_owned());
                    read.places.push(part.content);
                }
                "stream" => {
                    let text = part.text(body, "stream")?.to_ascii_lowercase();
                    read.stream = flag(Some(text.as_bytes()))?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(read)
    }

    /// All fields of a form, which share its body.
    ///
    /// # Errors
    /// What is no form.
    pub fn fields(body: &Bytes, content_type: &str) -> Result<Vec<FormField>, FieldError> {
        let mut fields = Vec::new();
        form::parts(body, content_type, |name, part| {
            let form::Part { content, filename, content_type, .. } = part;
            fields.push(FormField {
                name: name.to_owned(),
                filename,
                content_type,
                data: body.slice(content),
            });
            Ok(())
        })?;
        Ok(fields)
    }

    /// The model that it names.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Whether it asks for a stream.
    #[must_use]
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// Whether nothing is said of `stream_options.include_usage`, so that an [`Edit`] can ask for it.
    #[must_use]
    pub fn leaves_usage_open(&self) -> bool {
        self.usage != Usage::Said
    }

    /// The body that was read, with these changes.
    #[must_use]
    pub fn edited(&self, body: &Bytes, edit: Edit<'_>) -> Pieces {
        let mut changes = self.names(body, edit.model);
        if edit.include_usage {
            changes.extend(self.usage.asked_for());
            changes.sort_by_key(|(place, _)| place.start);
        }
        let mut pieces = Vec::with_capacity(2 * changes.len() + 1);
        let mut at = 0;
        for (place, new) in changes {
            pieces.extend([body.slice(at..place.start), new]);
            at = place.end;
        }
        pieces.push(body.slice(at..));
        if pieces.len() > 5 {
            pieces = vec![pieces.concat().into()];
        }
        let mut pieces = pieces.into_iter();
        std::array::from_fn(|_| pieces.next().unwrap_or_default())
    }

    /// Names of the model that have to be changed, and into what.
    fn names(&self, body: &Bytes, model: &str) -> Vec<(Range<usize>, Bytes)> {
        let is_same = self.model.as_deref() == Some(model);
        if self.places.is_empty() || (is_same && self.places.len() == 1) {
            return Vec::new();
        }
        let new = if self.is_form { model.to_owned() } else { serde_json::Value::from(model).to_string() };
        let new = Bytes::from(new);
        let differs = |place: &&Range<usize>| body.get((*place).clone()) != Some(&*new);
        self.places.iter().filter(differs).map(|place| (place.clone(), new.clone())).collect()
    }

    /// Goes over a part that may repeat the model's name, as a text.
    fn repeated(&mut self, scan: &mut Scan<'_>) -> Result<(), FieldError> {
        if scan.next() != Some(b'{') {
            return Ok(scan.value().map(drop)?);
        }
        scan.object(|scan, name| {
            let is_text = scan.next() == Some(b'"');
            let place = scan.value()?;
            if name == "model" && is_text {
                self.places.push(place);
            }
            Ok(())
        })
    }
}

impl Usage {
    /// What asks for it.
    fn asked_for(&self) -> Option<(Range<usize>, Bytes)> {
        let fixed = |at: usize, text: &'static str| (at..at, Bytes::from_static(text.as_bytes()));
        match *self {
            Self::Said => None,
            Self::NoOptions(at) => Some(fixed(at, r#""stream_options":{"include_usage":true},"#)),
            Self::NullOptions(ref place) => {
                Some((place.clone(), Bytes::from_static(br#"{"include_usage":true}"#)))
            }
            Self::Options { at, others: true } => Some(fixed(at, r#""include_usage":true,"#)),
            Self::Options { at, others: false } => Some(fixed(at, r#""include_usage":true"#)),
        }
    }
}

/// Goes over a stream's options.
fn options(body: &[u8], scan: &mut Scan<'_>) -> Result<Usage, FieldError> {
    if scan.next() != Some(b'{') {
        let place = scan.value()?;
        let is_null = body.get(place.clone()) == Some(b"null");
        return Ok(if is_null { Usage::NullOptions(place) } else { Usage::Said });
    }
    let (at, mut others, mut is_said) = (scan.at() + 1, false, false);
    scan.object(|scan, name| {
        others = true;
        is_said |= name == "include_usage";
        scan.value().map(drop)
    })?;
    Ok(if is_said { Usage::Said } else { Usage::Options { at, others } })
}

/// What `stream` says.
fn flag(text: Option<&[u8]>) -> Result<bool, FieldError> {
    match text {
        Some(b"true") => Ok(true),
        Some(b"false" | b"null") => Ok(false),
        _ => Err(FieldError::new("stream", "must be true or false")),
    }
}

#[cfg(test)]
mod tests;
