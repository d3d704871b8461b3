//! Addresses of endpoints, made from the base that a tenant gives. Pure.

use crate::balance::{ErrorClass, Failure};
use http::Uri;
use url::Url;

/// The URL of a path below the base, whose own path stays.
pub(super) fn join(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    // Fails for URLs without a host alone, which no `base_url` is; the client refuses them.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// The base, with the version of the API where there is no path at all: a vendor's own clients add it by themselves, so
/// that people leave it out.
pub(super) fn with_version(base: &Url, version: &str) -> Url {
    if base.path() == "/" { join(base, &[version]) } else { base.clone() }
}

/// The base without a version of the API at its end, for a vendor whose paths have one.
pub(super) fn without_version(base: &Url, versions: &[&str]) -> Url {
    let mut url = base.clone();
    let path = base.path().trim_end_matches('/');
    if let Some((root, last)) = path.rsplit_once('/')
        && versions.contains(&last)
    {
        url.set_path(root);
    }
    url
}

/// Adds a pair to the query of an address.
pub(super) fn add_query(uri: &mut Uri, name: &str, value: &str) -> Result<(), Failure> {
    let malformed = || Failure::new(ErrorClass::BadRequest, "the provider's URL is malformed");
    let mut url = Url::parse(&uri.to_string()).map_err(|_| malformed())?;
    url.query_pairs_mut().append_pair(name, value);
    *uri = Uri::try_from(url.as_str()).map_err(|_| malformed())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_there_once() {
        let with =
            [("https://h", "/v1"), ("https://h/", "/v1"), ("https://h/v1/", "/v1/"), ("https://h/a", "/a")];
        for (base, path) in with {
            assert_eq!(with_version(&base.parse().unwrap(), "v1").path(), path, "{base}");
        }
        let without =
            [("https://h", "/"), ("https://h/v2", "/"), ("https://h/a/v1/", "/a"), ("https://h/v3", "/v3")];
        for (base, path) in without {
            assert_eq!(without_version(&base.parse().unwrap(), &["v1", "v2"]).path(), path, "{base}");
        }
    }

    #[test]
    fn the_base_path_is_kept() {
        let table = [
            ("https://h/v1", "https://h/v1/chat/completions"),
            ("https://h/v1/", "https://h/v1/chat/completions"),
            ("https://h", "https://h/chat/completions"),
            ("https://h:8443/a/b%20c", "https://h:8443/a/b%20c/chat/completions"),
        ];
        for (base, url) in table {
            assert_eq!(join(&base.parse().unwrap(), &["chat", "completions"]).as_str(), url);
        }
    }
}
