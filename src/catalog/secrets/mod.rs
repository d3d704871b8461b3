//! Secrets: where the master key comes from, sealing, sealed fields, and the rotation of keys.

pub(in crate::catalog) mod fields;
pub(in crate::catalog) mod key_ring;
pub(in crate::catalog) mod master_key;
pub(in crate::catalog) mod rotation;
