//! The connections of a host as they are kept: how old each is, who has it, and until when.

use super::{
    link::{Multiple, Single},
    open::Open,
};
use http::{HeaderMap, HeaderName};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Which requests may use a connection.
#[derive(Clone, Copy)]
pub(super) struct Age {
    pub(super) made: Instant,
    pub(super) ends: Instant,
}

impl Age {
    pub(super) fn fits(self, now: Instant, after: Option<Instant>) -> bool {
        self.ends > now && after.is_none_or(|after| self.made > after)
    }
}

/// A connection over HTTP/1.1.
pub(super) struct Own {
    pub(super) single: Single,
    pub(super) age: Age,
    /// How long the server keeps it, where it says so.
    pub(super) announced: Option<Duration>,
    pub(super) open: Open,
}

/// One that nobody uses.
pub(super) struct Idle {
    pub(super) own: Own,
    pub(super) until: Instant,
}

impl Idle {
    pub(super) fn fits(&self, now: Instant, after: Option<Instant>) -> bool {
        self.until > now && self.own.age.fits(now, after) && self.own.single.is_ready()
    }
}

/// A connection over HTTP/2.
pub(super) struct Shared {
    pub(super) link: Arc<Multiple>,
    pub(super) age: Age,
    /// For whom it was made.
    pub(super) tenant: Uuid,
    /// How many calls are on it.
    pub(super) active: usize,
    /// How long it is kept without any.
    pub(super) until: Instant,
}

impl Shared {
    pub(super) fn has_room(&self, now: Instant, after: Option<Instant>) -> bool {
        self.active < self.link.room() && self.age.fits(now, after) && self.link.is_open()
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// How long a server says that it keeps the connection, less a second for the way: `Keep-Alive: timeout=5`, as Node and
/// Apache send it.
pub(super) fn announced(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let seconds = text.split(',').find_map(|word| word.trim().strip_prefix("timeout="))?;
    Some(Duration::from_secs(seconds.trim().parse::<u64>().ok()?.min(u32::MAX.into()).saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_server_says_how_long_it_keeps_a_connection() {
        let table = [
            ("timeout=5", Some(4)),
            ("max=100, timeout=75", Some(74)),
            ("timeout=0", Some(0)),
            ("max=100", None),
            ("timeout=soon", None),
        ];
        for (value, seconds) in table {
            let headers = HeaderMap::from_iter([(KEEP_ALIVE, HeaderValue::from_static(value))]);
            assert_eq!(announced(&headers), seconds.map(Duration::from_secs), "{value}");
        }
        assert_eq!(announced(&HeaderMap::new()), None);
    }
}
