//! Any JSON, as it is kept where no type of ours has a field for it.
//!
//! A value takes up to a hundred times what it takes on the wire. So what is read of one answer has a bound on them.

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use std::{cell::Cell, fmt};

/// Under `arbitrary_precision` serde_json shows a number to a visitor as an object with this one key.
pub(super) const NUMBER: &str = "$serde_json::private::Number";

/// So many values are kept of one answer. 4096 tokens with the probabilities of 20 others each are half a million.
const MOST: usize = 1 << 20;

thread_local! {
    /// How many more may be kept of the answer that this thread reads.
    static LEFT: Cell<usize> = const { Cell::new(MOST) };
}

/// An answer begins.
pub(super) fn begin() {
    LEFT.set(MOST);
}

/// Counts so many values.
pub(super) fn spend<E: Error>(values: usize) -> Result<(), E> {
    let left = LEFT.get().checked_sub(values).ok_or_else(|| E::custom("too many values"))?;
    LEFT.set(left);
    Ok(())
}

/// Reads any JSON of an answer.
pub(super) fn tree<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Tree::Counted.deserialize(deserializer)
}

/// Reads the whole of a client's request.
pub(super) fn request(text: &[u8]) -> serde_json::Result<Value> {
    begin();
    nested(text)
}

/// Reads JSON that stands as text in a request, as a part of it.
pub(super) fn nested(text: &[u8]) -> serde_json::Result<Value> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = Tree::Bounded.deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

/// Reads any JSON, value by value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tree {
    /// Of an answer: there are only so many values.
    Counted,
    /// Of a request: no key stands twice in an object.
    Strict,
    /// Of a request as a whole: both. It [begins](begin) as an answer does.
    Bounded,
}

impl<'de> DeserializeSeed<'de> for Tree {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self != Self::Strict {
            spend(1)?;
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == NUMBER {
                let digits: String = map.next_value()?;
                return digits.parse::<Number>().map(Value::Number).map_err(A::Error::custom);
            }
            let twice = object.insert(name, map.next_value_seed(self)?).is_some();
            if twice && self != Self::Counted {
                return Err(A::Error::custom("a key stands twice"));
            }
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> serde_json::Result<Value> {
        begin();
        tree(&mut serde_json::Deserializer::from_str(text))
    }

    #[test]
    fn it_is_what_is_written() {
        let text = r#"{"b":[1,-2,1.50,1e400,true,null,"\u00e9"],"a":{"x":{}},"":12345678901234567890123}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(read(text).unwrap(), value);
        assert_eq!(read(text).unwrap().to_string(), value.to_string());
        for broken in ["", "{", "[1", "{\"a\":}", "nul"] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn there_are_only_so_many() {
        let text = |count: usize| format!("[{}1]", "1,".repeat(count - 2));
        assert!(read(&text(MOST)).is_ok());
        assert!(read(&text(MOST + 1)).is_err());
        assert!(read("1").is_ok(), "each answer begins anew");
    }

    #[test]
    fn a_request_is_bounded_and_says_nothing_twice() {
        let text = r#"{"b":[1,-2,1.50],"a":{"x":12345678901234567890123}}"#;
        assert_eq!(request(text.as_bytes()).unwrap().to_string(), text);
        for wrong in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"\u0061":2}]}"#, "{} {}", "{", ""] {
            assert!(request(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(request(format!("[{}1]", "1,".repeat(MOST)).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_kept(text in ".{0,40}", number in any::<f64>()) {
            let value = serde_json::json!({"t": text.clone(), "n": number, text: [number]}).to_string();
            prop_assert_eq!(read(&value).unwrap(), serde_json::from_str::<Value>(&value).unwrap());
        }
    }
}
