//! Refuses what would take a tenant over a quota. What was there before goes on working, and can shrink.

use crate::catalog::types::Error;

/// Refuses a number that is above the quota.
pub(in crate::catalog) fn check(wanted: u64, most: u64, of: &'static str) -> Result<(), Error> {
    if wanted > most { Err(Error::Quota { most, of }) } else { Ok(()) }
}

/// The same for a number that may be above the quota already.
pub(in crate::catalog) fn check_growth(
    before: u64,
    after: u64,
    most: u64,
    of: &'static str,
) -> Result<(), Error> {
    check(if after > before { after } else { 0 }, most, of)
}
