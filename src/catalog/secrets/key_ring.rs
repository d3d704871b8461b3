//! Keys and sealed values.
//!
//! A master key seals a tenant's data key, and the data key seals that tenant's secrets. Each seal is AES-256-GCM with a random
//! nonce. Its associated data says where the value belongs (table, tenant row, row, field, key), so that a value which was
//! moved elsewhere does not open. Key bytes live in zeroizing types without `Debug`, and no error repeats them.
//!
//! The tenant's identity key is sealed together with its data key. It gives names to sets of secrets, by which the state store
//! knows them. A rotation copies it to the next data key, so that cooldowns outlive the rotation.

use crate::catalog::{stored::entity::data_keys, types::Error};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest, hmac, rand,
};
use base64::{
    Engine,
    alphabet::STANDARD as ALPHABET,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use secrecy::{ExposeSecret, SecretString};
use std::{collections::BTreeMap, io, path::PathBuf, process::ExitStatus};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Base64 with or without padding, since people paste both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What the check value holds; only that it opens matters.
const CHECK: &[u8] = b"rota";

/// Why a master key cannot be used. Never the key itself.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// Nothing was given.
    #[error("the master key is empty")]
    Empty,
    /// An entry is neither `base64` alone nor `id:base64`.
    #[error("entry {0} of the master key ring must be `id:base64`; a single key may be base64 alone")]
    Entry(usize),
    /// An id is empty, too long or odd.
    #[error("entry {0} of the master key ring: an id is 1 to 32 letters, digits, `-` or `_`")]
    Id(usize),
    /// An id stands there twice.
    #[error("entry {0} of the master key ring repeats an id")]
    Repeated(usize),
    /// Not base64.
    #[error("entry {0} of the master key ring is not base64")]
    Base64(usize),
    /// Not 32 bytes.
    #[error("entry {0} of the master key ring is not 32 bytes long")]
    Length(usize),
    /// All bytes are the same: a placeholder, not a key.
    #[error("entry {0} of the master key ring is one byte repeated; make a random one")]
    Trivial(usize),
    /// The key file cannot be read or written.
    #[error("the master key file {path}: {source}", path = .0.display(), source = .1)]
    File(PathBuf, #[source] io::Error),
    /// More than a ring can be.
    #[error("the master key ring is longer than 64 KiB")]
    TooLong,
    /// Not UTF-8.
    #[error("the master key ring is not text")]
    NotText,
    /// The command cannot be run, or what it writes cannot be read.
    #[error("the master key command: {0}")]
    Command(#[source] io::Error),
    /// The command failed.
    #[error("the master key command ended with {0}")]
    CommandFailed(ExitStatus),
    /// The command took too long.
    #[error("the master key command did not end within 10 seconds")]
    CommandSlow,
}

/// A seal could not be made: the random source or the library failed.
#[derive(Debug)]
pub struct SealError;

impl From<SealError> for Error {
    fn from(_: SealError) -> Self {
        tracing::error!("sealing failed: the random source or the library refuses");
        Self::Internal
    }
}

pub(in crate::catalog) struct Key(Zeroizing<[u8; 32]>);

impl Key {
    fn random() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; 32]);
        rand::fill(bytes.as_mut()).map_err(|_| SealError)?;
        Ok(Self(bytes))
    }

    /// 32 random bytes in base64.
    pub(in crate::catalog) fn random_text() -> Result<Zeroizing<String>, SealError> {
        Ok(Zeroizing::new(BASE64.encode(Self::random()?.0.as_ref())))
    }

    fn from_slice(bytes: &[u8]) -> Option<Self> {
        <[u8; 32]>::try_from(bytes).ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    fn cipher(&self) -> Result<RandomizedNonceKey, SealError> {
        RandomizedNonceKey::new(&AES_256_GCM, self.0.as_ref()).map_err(|_| SealError)
    }

    fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<String, SealError> {
        // The text is overwritten in place by its ciphertext, so no clear copy stays behind.
        let mut sealed = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(plain);
        let nonce =
            self.cipher()?.seal_in_place_append_tag(Aad::from(aad), &mut sealed).map_err(|_| SealError)?;
        Ok(BASE64.encode([nonce.as_ref().as_slice(), sealed.as_slice()].concat()))
    }

    fn open(&self, aad: &[u8], sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = BASE64.decode(sealed).ok()?;
        let (nonce, body) = bytes.split_at_checked(NONCE_LEN)?;
        let mut body = Zeroizing::new(body.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let length = self.cipher().ok()?.open_in_place(nonce, Aad::from(aad), &mut body).ok()?.len();
        body.truncate(length);
        Some(body)
    }
}

impl Key {
    fn hmac(&self) -> hmac::Context {
        hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.0.as_ref()))
    }

    /// A key of its own for marks: the master key seals alone.
    fn marking(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.derived("lease").0.as_ref())
    }

    /// Another key, from which this one cannot be told.
    fn derived(&self, purpose: &str) -> Self {
        let mut context = self.hmac();
        context.update(purpose.as_bytes());
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.copy_from_slice(context.sign().as_ref());
        Self(bytes)
    }
}

/// Each part with its length before it: no two lists of parts give the same bytes.
fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// The master keys: the first seals, all open.
pub struct KeyRing {
    first: (String, Key),
    others: Vec<(String, Key)>,
}

impl KeyRing {
    /// Reads `base64` (whose id is 1) or `id:base64[,id:base64]`.
    ///
    /// # Errors
    /// Says which entry is wrong, never what it holds.
    pub fn parse(text: &str) -> Result<Self, KeyRingError> {
        let mut keys: Vec<(String, Key)> = Vec::new();
        let text = text.trim();
        if text.is_empty() {
            return Err(KeyRingError::Empty);
        }
        let bare = !text.contains([':', ',']);
        for (index, entry) in text.split(',').enumerate() {
            let place = index + 1;
            let (id, value) = match entry.split_once(':') {
                Some((id, value)) => (id.trim(), value.trim()),
                None if bare => ("1", entry.trim()),
                None => return Err(KeyRingError::Entry(place)),
            };
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if id.is_empty() || id.len() > 32 || !id.chars().all(plain) {
                return Err(KeyRingError::Id(place));
            }
            if keys.iter().any(|(other, _)| other == id) {
                return Err(KeyRingError::Repeated(place));
            }
            let bytes = Zeroizing::new(BASE64.decode(value).map_err(|_| KeyRingError::Base64(place))?);
            let key = Key::from_slice(&bytes).ok_or(KeyRingError::Length(place))?;
            if key.0.iter().all(|byte| Some(byte) == key.0.first()) {
                return Err(KeyRingError::Trivial(place));
            }
            keys.push((id.to_owned(), key));
        }
        let others = keys.split_off(1);
        keys.pop().map(|first| Self { first, others }).ok_or(KeyRingError::Empty)
    }

    fn key(&self, id: &str) -> Option<&Key> {
        std::iter::once(&self.first).chain(&self.others).find(|(own, _)| own == id).map(|(_, key)| key)
    }

    /// The id of the key that seals.
    pub(in crate::catalog) fn first_id(&self) -> &str {
        &self.first.0
    }

    /// A new data key for a tenant, and the row that keeps it. The identity key is that of the key `before`.
    pub(in crate::catalog) fn new_data_key(
        &self,
        tenant: Uuid,
        before: Option<&DataKey>,
    ) -> Result<(DataKey, data_keys::Model), SealError> {
        let (master, sealing) = &self.first;
        let id = Uuid::now_v7();
        let key = Key::random()?;
        let identity = match before {
            Some(before) => Key(before.identity.0.clone()),
            None => Key::random()?,
        };
        let both = Zeroizing::new([key.0.as_slice(), identity.0.as_slice()].concat());
        let sealed = sealing.seal(&data_key_aad(tenant, id, master), &both)?;
        let row = data_keys::Model { id, tenant_id: tenant, master_key_id: master.clone(), sealed };
        Ok((DataKey { id, tenant, key, identity }, row))
    }

    /// The data key of that row; none where no master key of the ring opens it.
    pub(in crate::catalog) fn data_key(&self, row: &data_keys::Model) -> Option<DataKey> {
        let bytes = self.open_data_key(row)?;
        let (key, identity) = bytes.split_at_checked(32)?;
        let key = Key::from_slice(key)?;
        // Data keys of early builds lie alone; one that is derived from them takes the place of the identity key.
        let identity = if identity.is_empty() { key.derived("identity") } else { Key::from_slice(identity)? };
        Some(DataKey { id: row.id, tenant: row.tenant_id, key, identity })
    }

    fn open_data_key(&self, row: &data_keys::Model) -> Option<Zeroizing<Vec<u8>>> {
        let aad = data_key_aad(row.tenant_id, row.id, &row.master_key_id);
        self.key(&row.master_key_id)?.open(&aad, &row.sealed)
    }

    /// What the row is to hold under the first master key; none where no master key of the ring opens it.
    pub(in crate::catalog) fn reseal(&self, row: &data_keys::Model) -> Result<Option<String>, SealError> {
        let Some(bytes) = self.open_data_key(row) else { return Ok(None) };
        let (master, sealing) = &self.first;
        sealing.seal(&data_key_aad(row.tenant_id, row.id, master), &bytes).map(Some)
    }

    /// Marks bytes as ours.
    pub(in crate::catalog) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        hmac::sign(&self.first.1.marking(), bytes).as_ref().to_vec()
    }

    /// Whether a key of this ring has made that mark.
    pub(in crate::catalog) fn signed(&self, bytes: &[u8], mark: &[u8]) -> bool {
        std::iter::once(&self.first)
            .chain(&self.others)
            .any(|(_, key)| hmac::verify(&key.marking(), bytes, mark).is_ok())
    }

    /// What an empty database keeps, to know the right ring by.
    pub(in crate::catalog) fn check_value(&self) -> Result<String, SealError> {
        let (id, key) = &self.first;
        Ok(format!("{id}:{}", key.seal(&check_aad(id), CHECK)?))
    }

    /// Whether this ring opens that check value.
    pub(in crate::catalog) fn opens(&self, check: &str) -> bool {
        let opened =
            check.split_once(':').and_then(|(id, sealed)| self.key(id)?.open(&check_aad(id), sealed));
        opened.is_some_and(|bytes| bytes.as_slice() == CHECK)
    }
}

fn data_key_aad(tenant: Uuid, id: Uuid, master: &str) -> Vec<u8> {
    joined(&[b"data_keys", tenant.as_bytes(), id.as_bytes(), b"key", master.as_bytes()])
}

fn check_aad(master: &str) -> Vec<u8> {
    joined(&[b"meta", b"master_key_check", master.as_bytes()])
}

/// Where a sealed value belongs.
#[derive(Clone, Copy)]
pub(in crate::catalog) struct Place<'a> {
    pub table: &'static str,
    pub row: Uuid,
    pub field: &'a str,
}

/// A tenant's key. Lives while a snapshot is compiled or a secret is stored, no longer.
pub(in crate::catalog) struct DataKey {
    pub id: Uuid,
    tenant: Uuid,
    key: Key,
    identity: Key,
}

impl DataKey {
    fn aad(&self, place: Place<'_>) -> Vec<u8> {
        joined(&[
            place.table.as_bytes(),
            self.tenant.as_bytes(),
            place.row.as_bytes(),
            place.field.as_bytes(),
            self.id.as_bytes(),
        ])
    }

    /// Seals a value for one place.
    pub fn seal(&self, place: Place<'_>, value: &str) -> Result<String, SealError> {
        self.key.seal(&self.aad(place), value.as_bytes())
    }

    /// Opens a value of that place; none where it was sealed for another, by another key, or is damaged.
    pub fn open(&self, place: Place<'_>, sealed: &str) -> Option<SecretString> {
        let bytes = self.key.open(&self.aad(place), sealed)?;
        std::str::from_utf8(&bytes).ok().map(SecretString::from)
    }

    /// Names a set of fields without telling them: equal sets of a tenant have equal names.
    pub fn identity(&self, fields: &BTreeMap<String, SecretString>) -> String {
        let mut context = self.identity.hmac();
        context.update(&joined(&[b"rota inline credential"]));
        for (name, value) in fields {
            context.update(&joined(&[name.as_bytes(), value.expose_secret().as_bytes()]));
        }
        hex(context.sign().as_ref(), 32)
    }
}

/// The first `length` hex digits of bytes.
pub(in crate::catalog) fn hex(bytes: &[u8], length: usize) -> String {
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(length);
    text
}

/// SHA-256.
pub(in crate::catalog) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}

/// SHA-256 over parts that cannot run into each other.
pub(in crate::catalog) fn sha256_of(parts: &[&str]) -> [u8; 32] {
    sha256(&joined(&parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>()))
}

/// A token's secret: `rota_` and 256 random bits in base64url.
pub(in crate::catalog) fn new_token_secret() -> Result<SecretString, SealError> {
    let key = Key::random()?;
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key.0.as_ref());
    Ok(SecretString::from(format!("rota_{}", text.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(first: u8) -> String {
        let mut bytes = [7; 32];
        bytes[0] = first;
        BASE64.encode(bytes)
    }

    #[test]
    fn rings() {
        let one = KeyRing::parse(&key(1)).unwrap();
        let two = KeyRing::parse(&format!("b:{}, 1:{}\n", key(2), key(1))).unwrap();
        assert!(two.opens(&one.check_value().unwrap()));
        assert!(!one.opens(&two.check_value().unwrap()));
        assert!(KeyRing::parse(key(1).trim_end_matches('=')).is_ok());
        let short = BASE64.encode([1, 2, 3]);
        let flat = BASE64.encode([9; 32]);
        for (text, entry) in [
            (String::new(), None),
            (short, Some("not 32 bytes")),
            (flat, Some("one byte repeated")),
            ("%%%%".to_owned(), Some("not base64")),
            (format!("{},{}", key(1), key(2)), Some("`id:base64`")),
            (format!("1:{},1:{}", key(1), key(2)), Some("repeats")),
            (format!("a b:{}", key(1)), Some("an id is")),
        ] {
            let error = KeyRing::parse(&text).err().expect("refused").to_string();
            assert!(error.contains(entry.unwrap_or("empty")), "{error}");
            assert!(text.is_empty() || !error.contains(&text));
        }
    }

    #[test]
    fn a_seal_opens_in_its_place_alone() {
        let ring = KeyRing::parse(&key(1)).unwrap();
        let (tenant, row) = (Uuid::now_v7(), Uuid::now_v7());
        let (data_key, stored) = ring.new_data_key(tenant, None).unwrap();
        let place = Place { table: "credentials", row, field: "api_key" };
        let sealed = data_key.seal(place, "secret").unwrap();
        assert_ne!(sealed, data_key.seal(place, "secret").unwrap(), "the nonce is random");
        assert_eq!(data_key.open(place, &sealed).unwrap().expose_secret(), "secret");
        for elsewhere in [
            Place { table: "lb_configs", ..place },
            Place { row: Uuid::now_v7(), ..place },
            Place { field: "organization", ..place },
        ] {
            assert!(data_key.open(elsewhere, &sealed).is_none());
        }
        assert!(ring.data_key(&stored).unwrap().open(place, &sealed).is_some());
        let moved = data_keys::Model { tenant_id: Uuid::now_v7(), ..stored.clone() };
        assert!(ring.data_key(&moved).is_none());
        assert!(KeyRing::parse(&key(2)).unwrap().data_key(&stored).is_none());
    }

    #[test]
    fn a_data_key_is_the_same_under_another_master_key() {
        let old = KeyRing::parse(&key(1)).unwrap();
        let (data_key, row) = old.new_data_key(Uuid::now_v7(), None).unwrap();
        let place = Place { table: "credentials", row: Uuid::now_v7(), field: "api_key" };
        let sealed = data_key.seal(place, "secret").unwrap();
        let fields = BTreeMap::from([("api_key".to_owned(), SecretString::from("secret"))]);

        let both = KeyRing::parse(&format!("2:{},1:{}", key(2), key(1))).unwrap();
        let moved = data_keys::Model {
            master_key_id: "2".to_owned(),
            sealed: both.reseal(&row).unwrap().unwrap(),
            ..row.clone()
        };
        let new = KeyRing::parse(&format!("2:{}", key(2))).unwrap();
        let opened = new.data_key(&moved).unwrap();
        assert!(opened.open(place, &sealed).is_some());
        assert_eq!(opened.identity(&fields), data_key.identity(&fields));
        assert!(old.data_key(&moved).is_none());
        assert!(new.reseal(&row).unwrap().is_none(), "what does not open is left alone");
    }

    #[test]
    fn names_of_secrets_outlive_a_data_key() {
        let ring = KeyRing::parse(&key(1)).unwrap();
        let fields = BTreeMap::from([("api_key".to_owned(), SecretString::from("secret"))]);
        let tenant = Uuid::now_v7();
        let (first, _) = ring.new_data_key(tenant, None).unwrap();
        let (second, row) = ring.new_data_key(tenant, Some(&first)).unwrap();
        assert_eq!(first.identity(&fields), second.identity(&fields));
        assert_eq!(first.identity(&fields), ring.data_key(&row).unwrap().identity(&fields));
        let (other, _) = ring.new_data_key(tenant, None).unwrap();
        assert_ne!(first.identity(&fields), other.identity(&fields));

        // As early builds stored it: the data key alone.
        let id = Uuid::now_v7();
        let alone = ring.first.1.seal(&data_key_aad(tenant, id, "1"), first.key.0.as_ref()).unwrap();
        let row = data_keys::Model { id, tenant_id: tenant, master_key_id: "1".to_owned(), sealed: alone };
        let early = ring.data_key(&row).unwrap();
        let (later, _) = ring.new_data_key(tenant, Some(&early)).unwrap();
        assert_eq!(early.identity(&fields), later.identity(&fields));
        assert_ne!(early.identity.0.as_ref(), first.key.0.as_ref(), "it does not keep the old data key");
    }
}
