//! Field masks of updates.

use crate::api::status;
use tonic::Status;

/// Which fields an update changes: the fields of its mask or, without a mask, the fields that are set.
pub(super) struct Mask(Option<Vec<String>>);

impl Mask {
    /// Reads a mask. Refuses a path that is not in `known`.
    pub(super) fn read(mask: Option<prost_types::FieldMask>, known: &[&str]) -> Result<Self, Status> {
        let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else { return Ok(Self(None)) };
        if mask.paths.iter().any(|path| !known.contains(&path.as_str())) {
            return Err(status::invalid("update_mask", format!("may name {}", known.join(", "))));
        }
        Ok(Self(Some(mask.paths)))
    }

    /// Returns `value` where the mask names `path`, or where there is no mask and the field is `present`.
    pub(super) fn pick<T>(&self, path: &str, present: bool, value: T) -> Option<T> {
        let chosen = match &self.0 {
            Some(paths) => paths.iter().any(|named| named == path),
            None => present,
        };
        chosen.then_some(value)
    }
}
