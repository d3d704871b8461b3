//! Cuts lists into pages. A page token holds the key of the last row of the page before.

use crate::catalog::types::{Error, Page, PageRequest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

/// A page request, checked: how many, and the last key of the page before.
pub(in crate::catalog) struct Paging {
    /// At most this many.
    pub size: u64,
    /// The key's parts; none on the first page.
    pub after: Option<Vec<String>>,
}

impl Paging {
    /// Checks a request for pages whose key has that many parts.
    pub fn new(request: &PageRequest, parts: usize) -> Result<Self, Error> {
        let size = match request.size {
            0 => 100,
            size => u64::try_from(size)
                .map_err(|_| Error::invalid("page_size", "must not be negative"))?
                .min(1000),
        };
        let after = if request.token.is_empty() {
            None
        } else {
            let bytes = URL_SAFE_NO_PAD.decode(&request.token).ok();
            let key = bytes.and_then(|bytes| serde_json::from_slice::<Vec<String>>(&bytes).ok());
            // PostgreSQL takes no NUL in a text, and no name holds one.
            let key = key.filter(|key| key.len() == parts && !key.iter().any(|part| part.contains('\0')));
            Some(key.ok_or_else(|| Error::invalid("page_token", "is not from a page before"))?)
        };
        Ok(Self { size, after })
    }

    /// The one id that the page before ended with.
    pub fn after_id(&self) -> Result<Option<Uuid>, Error> {
        let Some(text) = self.after.as_ref().and_then(|key| key.first()) else { return Ok(None) };
        let id = text.parse().map_err(|_| Error::invalid("page_token", "is not from a page before"))?;
        Ok(Some(id))
    }

    /// The section, one of those, and the id in it that the page before ended with; the first one's beginning where
    /// there is none.
    pub fn place<'s>(&self, sections: [&'s str; 4]) -> Result<(&'s str, Uuid), Error> {
        let bad = || Error::invalid("page_token", "is not from a page before");
        let Some([section, id]) = self.after.as_deref() else { return Ok((sections[0], Uuid::nil())) };
        let section = sections.into_iter().find(|known| known == section).ok_or_else(bad)?;
        Ok((section, id.parse().map_err(|_| bad())?))
    }

    /// The token of a page that ended there.
    pub fn token(section: &str, id: Uuid) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::json!([section, id.to_string()]).to_string())
    }

    /// Cuts a page from rows that were read with one more than [`size`](Self::size).
    pub fn page<R, T>(
        &self,
        mut rows: Vec<R>,
        key: impl Fn(&R) -> Vec<String>,
        item: impl Fn(R) -> T,
    ) -> Page<T> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        let next = match rows.last() {
            Some(last) if more => URL_SAFE_NO_PAD.encode(serde_json::json!(key(last)).to_string()),
            _ => String::new(),
        };
        Page { items: rows.into_iter().map(item).collect(), next }
    }
}
