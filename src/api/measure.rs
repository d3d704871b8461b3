//! What a request will take once it is decoded, told from its bytes before that.
//!
//! A message of two bytes can become some hundred in memory: a list of empty messages is the worst. So whoever bounds
//! memory must know what is in a request before it decodes it. This walks the bytes along the contract's own description.
//! It allocates nothing. Bytes that are no message end the walk: the decoder stops there, too.
//!
//! The same walk finds texts with NUL, which PostgreSQL takes in no text: in requests of services that store what they are
//! told, and in every [`ModelKey`](super::pb::ModelKey).

use super::pb::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use std::{collections::HashMap, sync::LazyLock};

/// How deep messages may lie in each other, as the decoder has it.
const DEEPEST: usize = 100;
/// A vector that grows has up to twice the room that it needs.
const GROWN: usize = 2;
/// The size of a text, a list or a map in memory, without what it holds.
const HANDLE: usize = 24;
/// What a pair of a map takes beside its key and its value.
const PAIR: usize = 48;

/// What a request holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Measured {
    /// So many bytes in memory: encoded and decoded.
    Size(usize),
    /// A text with NUL in the field of that path.
    Nul(String),
}

/// Measures a request of that RPC, such as `rota.v1.InvokeService/InvokeLlm`. It ends where there is more than `enough`.
pub(super) fn measured(rpc: &str, message: &[u8], enough: usize) -> Measured {
    let size = message.len().saturating_mul(2);
    let Some(&(kind, stores)) = CONTRACT.requests.get(rpc) else { return Measured::Size(size) };
    let mut walk = Walk { size, enough };
    match walk.message(kind, message, stores, 0) {
        Ok(()) => Measured::Size(walk.size),
        Err(path) => Measured::Nul(path),
    }
}

static CONTRACT: LazyLock<Contract> = LazyLock::new(Contract::read);

/// The contract, as the walk needs it.
struct Contract {
    kinds: Vec<Kind>,
    /// By RPC: the kind of its request, and whether texts in it may be stored.
    requests: HashMap<String, (usize, bool)>,
}

/// A kind of message.
#[derive(Default)]
struct Kind {
    fields: Vec<Field>,
    /// Its own size in memory.
    size: usize,
    is_pair: bool,
    is_key: bool,
}

struct Field {
    number: u64,
    name: String,
    is_repeated: bool,
    holds: Holds,
}

#[derive(Clone, Copy)]
enum Holds {
    Text,
    Bytes,
    /// A number, and the fewest bytes that one takes in a packed list.
    Number(usize),
    Message(usize),
}

impl Contract {
    fn read() -> Self {
        // Our own compiled protos: a test reads them.
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
        let mut described: Vec<(String, &DescriptorProto)> = Vec::new();
        for file in &set.file {
            let mut open: Vec<_> =
                file.message_type.iter().map(|message| (format!(".{}", file.package()), message)).collect();
            while let Some((parent, message)) = open.pop() {
                let name = format!("{parent}.{}", message.name());
                open.extend(message.nested_type.iter().map(|nested| (name.clone(), nested)));
                described.push((name, message));
            }
        }
        let numbers: HashMap<&str, usize> =
            described.iter().enumerate().map(|(number, (name, _))| (name.as_str(), number)).collect();
        let mut kinds: Vec<Kind> = described
            .iter()
            .map(|(name, message)| Kind {
                fields: message.field.iter().filter_map(|field| Field::read(field, &numbers)).collect(),
                size: 0,
                is_pair: message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry),
                is_key: name == ".rota.v1.ModelKey",
            })
            .collect();
        for number in 0..kinds.len() {
            let size = own_size(&kinds, number, 0);
            if let Some(kind) = kinds.get_mut(number) {
                kind.size = size;
            }
        }
        let mut requests = HashMap::new();
        for file in set.file.iter().filter(|file| file.package() == "rota.v1") {
            for service in &file.service {
                let stores = service.name() != "InvokeService";
                for method in &service.method {
                    let Some(&kind) = numbers.get(method.input_type()) else { continue };
                    requests.insert(format!("rota.v1.{}/{}", service.name(), method.name()), (kind, stores));
                }
            }
        }
        Self { kinds, requests }
    }
}

impl Field {
    fn read(field: &FieldDescriptorProto, numbers: &HashMap<&str, usize>) -> Option<Self> {
        let holds = match field.r#type() {
            Type::String => Holds::Text,
            Type::Bytes => Holds::Bytes,
            Type::Message => Holds::Message(*numbers.get(field.type_name())?),
            Type::Group => return None,
            Type::Double | Type::Fixed64 | Type::Sfixed64 => Holds::Number(8),
            Type::Float | Type::Fixed32 | Type::Sfixed32 => Holds::Number(4),
            _ => Holds::Number(1),
        };
        Some(Self {
            number: u64::from(field.number().unsigned_abs()),
            name: field.name().to_owned(),
            is_repeated: field.label() == Label::Repeated,
            holds,
        })
    }
}

/// The size of a message of that kind, without what its fields point to. One-ofs count as if all were there.
fn own_size(kinds: &[Kind], kind: usize, depth: usize) -> usize {
    let Some(kind) = kinds.get(kind) else { return 0 };
    let fields = kind.fields.iter().map(|field| match field.holds {
        _ if field.is_repeated => HANDLE,
        Holds::Text | Holds::Bytes => HANDLE,
        Holds::Number(_) => 8,
        // One that holds itself is behind a pointer.
        Holds::Message(_) if depth >= 4 => 8,
        Holds::Message(inner) => 8 + own_size(kinds, inner, depth + 1),
    });
    fields.sum()
}

struct Walk {
    size: usize,
    enough: usize,
}

impl Walk {
    /// Walks through a message; `texts` says whether its texts must be free of NUL. The error is the path of one that is not.
    fn message(&mut self, kind: usize, bytes: &[u8], texts: bool, depth: usize) -> Result<(), String> {
        let Some(kind) = CONTRACT.kinds.get(kind).filter(|_| depth <= DEEPEST) else { return Ok(()) };
        let texts = texts || kind.is_key;
        let mut rest = bytes;
        while let Some((number, part)) = next(&mut rest) {
            if self.size > self.enough {
                break;
            }
            let Some(field) = kind.fields.iter().find(|field| field.number == number) else { continue };
            match (field.holds, part) {
                (Holds::Text, Part::Bytes(text)) => {
                    self.add(if field.is_repeated { HANDLE * GROWN } else { 0 });
                    if texts && text.contains(&0) {
                        return Err(field.path(bytes, rest, None));
                    }
                }
                (Holds::Bytes, _) => self.add(if field.is_repeated { HANDLE * GROWN } else { 0 }),
                (Holds::Number(least), Part::Bytes(packed)) => {
                    self.add((packed.len() / least).saturating_mul(8 * GROWN));
                }
                (Holds::Number(_), Part::Number) => self.add(if field.is_repeated { 8 * GROWN } else { 0 }),
                (Holds::Message(inner), Part::Bytes(message)) => {
                    let described = CONTRACT.kinds.get(inner);
                    let (own, is_pair) = described.map_or((0, false), |kind| (kind.size, kind.is_pair));
                    self.add(if is_pair { own + PAIR } else { own * GROWN });
                    self.message(inner, message, texts, depth + 1)
                        .map_err(|path| field.path(bytes, rest, (!is_pair).then_some(path.as_str())))?;
                }
                (Holds::Text | Holds::Message(_), Part::Number) => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, bytes: usize) {
        self.size = self.size.saturating_add(bytes);
    }
}

impl Field {
    /// Its path, and that of a field in it. `rest` is what follows its value in the bytes of its message.
    fn path(&self, message: &[u8], rest: &[u8], inner: Option<&str>) -> String {
        let mut path = self.name.clone();
        let is_list = self.is_repeated && !(matches!(self.holds, Holds::Message(_)) && inner.is_none());
        if is_list {
            let mut before = message.get(..message.len() - rest.len()).unwrap_or_default();
            let count = std::iter::from_fn(|| next(&mut before)).filter(|(number, _)| *number == self.number);
            path += &format!("[{}]", count.count().saturating_sub(1));
        }
        match inner {
            Some(inner) => format!("{path}.{inner}"),
            None => path,
        }
    }
}

/// The value of a field.
enum Part<'a> {
    Number,
    Bytes(&'a [u8]),
}

/// Takes a field, with its number, from the front. `None` at the end, and where the bytes are no message.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u64, Part<'a>)> {
    let tag = varint(rest)?;
    let part = match tag & 7 {
        0 => {
            varint(rest)?;
            Part::Number
        }
        1 => take(rest, 8).map(|_| Part::Number)?,
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Part::Bytes(take(rest, length)?)
        }
        // A group begins or ends: fields of a group count as the message's own.
        3 | 4 => return Some((0, Part::Number)),
        5 => take(rest, 4).map(|_| Part::Number)?,
        _ => return None,
    };
    Some((tag >> 3, part))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

/// See protobuf.dev/programming-guides/encoding.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = *take(rest, 1)? else { return None };
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb;
    use proptest::prelude::*;
    use std::mem::size_of;

    const CALL: &str = "rota.v1.InvokeService/InvokeLlm";
    const SAVE: &str = "rota.v1.ConfigService/UpdateLoadBalancingConfigs";

    fn size(rpc: &str, bytes: &[u8]) -> usize {
        match measured(rpc, bytes, usize::MAX) {
            Measured::Size(size) => size,
            Measured::Nul(path) => panic!("{path}"),
        }
    }

    #[test]
    fn every_rpc_is_known() {
        assert!(CONTRACT.requests.len() > 40, "{}", CONTRACT.requests.len());
        for rpc in [CALL, SAVE] {
            assert!(CONTRACT.requests.contains_key(rpc));
        }
    }

    #[test]
    fn lists_of_nothing_count_as_what_they_become() {
        let request =
            pb::InvokeLlmRequest { messages: vec![pb::Message::default(); 1000], ..Default::default() };
        let least = 1000 * size_of::<pb::Message>();
        let measured = size(CALL, &request.encode_to_vec());
        assert!(measured >= least && measured < 10 * least, "{measured} of {least}");
        let request =
            pb::InvokeTextEmbeddingRequest { texts: vec![String::new(); 1000], ..Default::default() };
        assert!(size("rota.v1.InvokeService/InvokeTextEmbedding", &request.encode_to_vec()) >= 24_000);
        let value = prost_types::Value { kind: Some(prost_types::value::Kind::NullValue(0)) };
        let list = prost_types::ListValue { values: vec![value; 1000] };
        let list = prost_types::Value { kind: Some(prost_types::value::Kind::ListValue(list)) };
        let parameters = prost_types::Struct { fields: [("a".to_owned(), list)].into() };
        let request = pb::InvokeLlmRequest { parameters: Some(parameters), ..Default::default() };
        let least = 1000 * size_of::<prost_types::Value>();
        assert!(size(CALL, &request.encode_to_vec()) >= least);
    }

    #[test]
    fn an_ordinary_request_counts_as_little() {
        let message =
            pb::Message { role: "user".to_owned(), content: "x".repeat(2000), ..Default::default() };
        let request = pb::InvokeLlmRequest { messages: vec![message; 3], ..Default::default() };
        let measured = size(CALL, &request.encode_to_vec());
        assert!(measured < 20_000, "{measured}");
    }

    #[test]
    fn nul_is_found_where_texts_are_stored_and_in_keys() {
        let key = Some(pb::ModelKey { model: "a\0".to_owned(), ..Default::default() });
        let call = pb::InvokeLlmRequest { key: key.clone(), ..Default::default() };
        assert_eq!(measured(CALL, &call.encode_to_vec(), usize::MAX), Measured::Nul("key.model".to_owned()));
        let said = pb::Message { content: "a\0".to_owned(), ..Default::default() };
        let call = pb::InvokeLlmRequest { messages: vec![said], ..Default::default() };
        assert!(matches!(measured(CALL, &call.encode_to_vec(), usize::MAX), Measured::Size(_)));
        let fine = pb::LoadBalancingConfig { name: "a".to_owned(), ..Default::default() };
        let named = pb::LoadBalancingConfig { name: "\0".to_owned(), ..fine.clone() };
        let secret = pb::LoadBalancingConfig {
            credentials: [("api_key".to_owned(), "\0".to_owned())].into(),
            ..fine.clone()
        };
        for (config, path) in [(named, "configs[1].name"), (secret, "configs[1].credentials")] {
            let request = pb::UpdateLoadBalancingConfigsRequest {
                configs: vec![fine.clone(), config],
                ..Default::default()
            };
            assert_eq!(measured(SAVE, &request.encode_to_vec(), usize::MAX), Measured::Nul(path.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_it_ends(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for rpc in [CALL, SAVE] {
                let _ = measured(rpc, &bytes, usize::MAX);
            }
        }
    }
}
