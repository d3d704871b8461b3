//! Secrets: where the master key comes from, sealing, the fields of credentials, and the rotation of keys.

pub(super) mod fields;
pub(super) mod key_ring;
pub(super) mod master_key;
pub(super) mod rotation;
pub(super) mod tenant_keys;
