//! Reads JSON as providers send it, where the protocol's page and the server disagree about a side field: a number as text,
//! a text as a number, `null` or `[]` for an object, one thing for a list of them, a key twice. A field that cannot be
//! made sense of counts as absent. What is needed for an answer to be one is decided by the readers, not here.

use super::{
    Keys, ReadError,
    answer::no_answer,
    mend::mend,
    tree::{self, NUMBER, Tree, spend},
};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use std::{borrow::Cow, fmt, marker::PhantomData, ops::Deref};

/// Reads a JSON object. A text that is broken in one of the usual ways is mended first.
pub(super) fn object<T: Object>(text: &[u8]) -> Result<T, ReadError> {
    value(text)
}

/// Reads a list of JSON objects, or one alone.
pub(super) fn list<T: Object>(text: &[u8]) -> Result<Vec<T>, ReadError> {
    if text.trim_ascii_start().starts_with(b"[") {
        let read = |text: &[u8]| {
            tree::begin();
            serde_json::from_slice::<Lenient<Vec<T>>>(text)
        };
        return read(text)
            .or_else(|error| mend(text).map_or(Err(error), |text| read(text.as_bytes())))
            .map(|list| list.0)
            .map_err(|_| ReadError::MALFORMED);
    }
    object(text).map(|one| vec![one])
}

fn value<T: Object>(text: &[u8]) -> Result<T, ReadError> {
    let read = |text: &[u8]| {
        tree::begin();
        serde_json::from_slice::<Lenient<Option<Box<T>>>>(text)
    };
    read(text)
        .or_else(|error| mend(text).map_or(Err(error), |text| read(text.as_bytes())))
        .ok()
        .and_then(|object| object.0)
        .map(|object| *object)
        .ok_or_else(|| no_answer(text))
}

/// What can be read leniently. Its default stands for what makes no sense.
pub(super) trait Read: Default {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// An object of a protocol; [`fields!`](fields) writes this.
pub(super) trait Object: Default {
    /// Takes the value of that key.
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Makes a [`Read`] type one of serde's.
#[derive(Default)]
pub(super) struct Lenient<T>(pub(super) T);

impl<'de, T: Read> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::read(deserializer).map(Self)
    }
}

impl Read for Value {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        tree::tree(deserializer)
    }
}

/// Any JSON that is rarely there; null where it is not.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Any(Option<Box<Value>>);

impl Any {
    pub(super) fn into_value(self) -> Value {
        self.0.map_or(Value::Null, |value| *value)
    }

    /// None where it is null.
    pub(super) fn into_box(self) -> Option<Box<Value>> {
        self.0
    }
}

impl Deref for Any {
    type Target = Value;

    fn deref(&self) -> &Value {
        self.0.as_deref().unwrap_or(&Value::Null)
    }
}

impl Read for Any {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = tree::tree(deserializer)?;
        Ok(Self((!value.is_null()).then(|| Box::new(value))))
    }
}

/// A text; numbers and truth values become one, and anything else is empty.
impl Read for String {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Leaf(|seen: Seen<'_>| match seen {
            Seen::Text(text) | Seen::Number(text) => text.into_owned(),
            Seen::Count(count) => count.to_string(),
            Seen::Flag(value) => value.to_string(),
            Seen::Nothing => Self::new(),
        }))
    }
}

/// A number, or a text that is one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Number(pub(super) Option<f64>);

impl Number {
    /// The number that this value is.
    pub(super) fn of(value: &Value) -> Self {
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        Self(number.filter(|number| number.is_finite()))
    }

    /// A count; what is negative or absent is 0.
    pub(super) fn count(self) -> u32 {
        // The cast saturates.
        self.0.unwrap_or_default() as u32
    }

    /// A place in a list.
    pub(super) fn index(self) -> Option<i32> {
        // The cast saturates.
        self.0.map(|number| number as i32)
    }
}

impl Number {
    fn parsed(text: &str) -> Self {
        Self(text.trim().parse().ok().filter(|number: &f64| number.is_finite()))
    }
}

impl Read for Number {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Leaf(|seen: Seen<'_>| match seen {
            Seen::Count(count) => Self(Some(count as f64)),
            Seen::Text(text) | Seen::Number(text) => Self::parsed(&text),
            Seen::Flag(_) | Seen::Nothing => Self::default(),
        }))
    }
}

/// A truth value, as one, as a text or as a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flag(pub(super) Option<bool>);

impl Read for Flag {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Leaf(|seen: Seen<'_>| {
            Self(match seen {
                Seen::Flag(value) => Some(value),
                Seen::Text(text) => text.trim().to_ascii_lowercase().parse().ok(),
                Seen::Count(count) => Some(count != 0),
                Seen::Number(text) => Number::parsed(&text).0.map(|number| number != 0.0),
                Seen::Nothing => None,
            })
        }))
    }
}

/// What stands where a text, a number or a truth value should.
enum Seen<'a> {
    Text(Cow<'a, str>),
    Count(u64),
    /// The digits of any other number.
    Number(Cow<'a, str>),
    Flag(bool),
    /// Null, a list or an object.
    Nothing,
}

/// Makes of it what is wanted, without a [`Value`] in between: there are many of them in each chunk of a stream.
struct Leaf<F>(F);

impl<'de, T, F: FnOnce(Seen<'_>) -> T> Visitor<'de> for Leaf<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<T, E> {
        Ok((self.0)(Seen::Flag(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<T, E> {
        Ok((self.0)(Seen::Number(value.to_string().into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<T, E> {
        Ok((self.0)(Seen::Count(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<T, E> {
        Ok((self.0)(Seen::Number(value.to_string().into())))
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(Seen::Text(text.into())))
    }

    fn visit_string<E>(self, text: String) -> Result<T, E> {
        Ok((self.0)(Seen::Text(text.into())))
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok((self.0)(Seen::Nothing))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok((self.0)(Seen::Nothing))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut seen = Seen::Nothing;
        while let Some(name) = map.next_key::<Name<'de>>()? {
            if name.0 == NUMBER {
                seen = Seen::Number(map.next_value::<String>()?.into());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok((self.0)(seen))
    }
}

/// A key, where it stands in the text.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

/// In a box: most parts of an answer are absent most of the time, and what is large is not moved about.
impl<T: Object> Read for Option<Box<T>> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(One(PhantomData))
    }
}

impl<T: Object> Read for Vec<T> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Many(PhantomData))
    }
}

/// Takes what is no object and no list for nothing.
macro_rules! otherwise {
    ($nothing:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($nothing)
        }
    };
}

struct One<T>(PhantomData<T>);

impl<'de, T: Object> Visitor<'de> for One<T> {
    type Value = Option<Box<T>>;

    otherwise!(None);

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut object, mut any) = (Box::<T>::default(), true);
        while let Some(Name(name)) = map.next_key()? {
            if name == NUMBER {
                map.next_value::<IgnoredAny>()?;
                any = false;
            } else {
                object.field(&name, &mut map)?;
            }
        }
        Ok(any.then_some(object))
    }
}

/// An object of ours takes about as much as so many values.
const OF_OBJECT: usize = 4;

struct Many<T>(PhantomData<T>);

impl<'de, T: Object> Visitor<'de> for Many<T> {
    type Value = Vec<T>;

    otherwise!(Vec::new());

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Lenient(item)) = items.next_element::<Lenient<Option<Box<T>>>>()? {
            spend(OF_OBJECT)?;
            list.extend(item.map(|item| *item));
        }
        Ok(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        One(PhantomData).visit_map(map).map(|one| one.into_iter().map(|one| *one).collect())
    }
}

/// Takes a key that no field has.
pub(super) fn unnamed<'de, A: MapAccess<'de>>(
    rest: &mut Keys,
    name: &str,
    map: &mut A,
) -> Result<(), A::Error> {
    let value = map.next_value_seed(Tree::Counted)?;
    let is_empty = match &value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    if !is_empty {
        rest.insert(name.to_owned(), value);
    }
    Ok(())
}

/// Defines an object of a protocol. Each field says its key on the wire, where that is not its name. Keys after `ignores`
/// say nothing that anybody needs; all others that hold something end in `rest`.
macro_rules! fields {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty $(= $key:literal $(| $alias:literal)*)?,)*
        }
        ignores [$($ignored:literal),* $(,)?]
    ) => {
        $(#[$meta])*
        #[derive(Default)]
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $type,)*
            /// What no field holds.
            $vis rest: $crate::wire::Keys,
        }

        impl $crate::wire::lenient::Object for $name {
            fn field<'de, A: serde::de::MapAccess<'de>>(
                &mut self,
                name: &str,
                map: &mut A,
            ) -> Result<(), A::Error> {
                $(
                    if $crate::wire::lenient::named!(name, $field $(= $key $(| $alias)*)?) {
                        let value = map.next_value::<$crate::wire::lenient::Lenient<$type>>()?.0;
                        self.$field = value;
                        return Ok(());
                    }
                )*
                match name {
                    $($ignored => map.next_value::<serde::de::IgnoredAny>().map(drop),)*
                    _ => $crate::wire::lenient::unnamed(&mut self.rest, name, map),
                }
            }
        }
    };
}

macro_rules! named {
    ($name:ident, $field:ident) => {
        $name == stringify!($field)
    };
    ($name:ident, $field:ident = $key:literal $(| $alias:literal)*) => {
        $name == $key $(|| $name == $alias)*
    };
}

pub(super) use {fields, named};

#[cfg(test)]
mod tests {
    use super::*;

    fields! {
        struct Inner {
            index: Number,
        }
        ignores []
    }

    fields! {
        struct Outer {
            text: String,
            kind: String = "type" | "kind",
            flag: Flag,
            inner: Option<Box<Inner>>,
            many: Vec<Inner>,
        }
        ignores ["noise"]
    }

    #[test]
    fn odd_fields_are_read_or_count_as_absent() {
        let read = |text: &str| object::<Outer>(text.as_bytes()).unwrap();
        let outer = read(
            r#"{"text": 7, "type": "a", "kind": "b", "flag": "true", "inner": [], "noise": 1,
                "many": {"index": "3"}, "more": {"a": 1.50}, "nothing": null, "text": "last"}"#,
        );
        assert_eq!((outer.text.as_str(), outer.kind.as_str(), outer.flag), ("last", "b", Flag(Some(true))));
        assert!(outer.inner.is_none());
        assert_eq!(outer.many[0].index, Number(Some(3.0)));
        assert_eq!(Value::from(outer.rest).to_string(), r#"{"more":{"a":1.50}}"#);
        for inner in ["5", "\"x\"", "true", "null", "[1]"] {
            let outer = read(&format!("{{\"inner\": {inner}, \"many\": {inner}, \"text\": [{inner}]}}"));
            assert!(outer.inner.is_none() && outer.many.is_empty() && outer.text.is_empty(), "{inner}");
        }
        let many = read(r#"{"many": [{"index": 2.0}, null, 5, {"index": {}}, {"index": 1e99}]}"#).many;
        let indices: Vec<_> = many.iter().map(|one| one.index.index()).collect();
        assert_eq!(indices, [Some(2), None, Some(i32::MAX)]);
    }

    #[test]
    fn what_is_no_object_is_not_read() {
        for text in ["", "[]", "1", "\"x\"", "null", "{", "{\"a\":}", "hello"] {
            assert!(object::<Outer>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
