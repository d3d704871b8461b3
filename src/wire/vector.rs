//! Vectors of embeddings, as whoever sends them writes them.

use super::{
    lenient::{Number, Read},
    tree::tree,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, SeqAccess, Visitor},
};
use serde_json::Value;
use std::fmt;

/// No model's vector has more components.
const MOST: usize = 1 << 20;

/// A vector: numbers, perhaps in a list of their own, or in base64 (`encoding_format`).
#[derive(Debug, Default)]
pub(super) enum Vector {
    /// Nothing that is one.
    #[default]
    None,
    /// Numbers.
    Numbers(Vec<f32>),
    /// Base64.
    Packed(String),
}

impl Vector {
    /// Its components: in base64 they are little-endian floats, or of the one-byte type that was asked for.
    pub(super) fn floats(self, encoding: &str) -> Option<Vec<f32>> {
        let text = match self {
            Self::None => return None,
            Self::Numbers(numbers) => return Some(numbers),
            Self::Packed(text) => text,
        };
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        Some(match encoding {
            "int8" | "binary" | "base64_int8" => {
                bytes.iter().map(|byte| f32::from(byte.cast_signed())).collect()
            }
            "uint8" | "ubinary" => bytes.iter().map(|byte| f32::from(*byte)).collect(),
            _ => {
                let (floats, []) = bytes.as_chunks::<4>() else { return None };
                floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
            }
        })
    }
}

impl Read for Vector {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vector;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of numbers or base64")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vector, A::Error> {
                let mut numbers = Vec::with_capacity(1024);
                while items.next_element_seed(Component(&mut numbers))?.is_some() {
                    if numbers.len() > MOST {
                        return Err(de::Error::custom("too many components"));
                    }
                }
                numbers.shrink_to_fit();
                Ok(Vector::Numbers(numbers))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Vector, E> {
                Ok(Vector::Packed(text.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Vector, E> {
                Ok(Vector::None)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A number, or a list of them: llama.cpp nests the vector (<https://github.com/ggml-org/llama.cpp/tree/master/tools/server>).
struct Component<'v>(&'v mut Vec<f32>);

impl<'de> DeserializeSeed<'de> for Component<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0.is_empty() {
            match tree(deserializer)? {
                Value::Array(items) => self.0.extend(items.iter().map(component)),
                item => self.0.push(component(&item)),
            }
        } else {
            self.0.push(f32::deserialize(deserializer)?);
        }
        Ok(())
    }
}

fn component(value: &Value) -> f32 {
    // What is no number makes the vector none.
    Number::of(value).0.map_or(f32::NAN, |number| number as f32)
}
