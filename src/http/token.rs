//! The token of a request, wherever the vendors' clients put a key.

use crate::gate::bearer;
use http::{HeaderMap, HeaderValue};

/// Where clients put a key, beside `authorization` and the query: Anthropic's, Google's and Azure's.
const HEADERS: [&str; 3] = ["x-api-key", "x-goog-api-key", "api-key"];
/// Google's name for a key in the query.
const QUERY: &str = "key";

/// Finds the token: in `authorization: Bearer …`, `x-api-key`, `x-goog-api-key`, `api-key` or `?key=`.
pub fn token<'r>(headers: &'r HeaderMap, query: Option<&'r str>) -> Option<&'r str> {
    bearer(headers)
        .filter(|token| !token.is_empty())
        .or_else(|| HEADERS.iter().find_map(|name| headers.get(*name).and_then(text)))
        .or_else(|| query?.split('&').find_map(|pair| pair.strip_prefix(QUERY)?.strip_prefix('=')))
        .filter(|token| !token.is_empty())
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().map(str::trim)
}

/// The query without the token.
pub fn query_without(query: Option<&str>) -> String {
    let is_token = |pair: &&str| pair.split('=').next() == Some(QUERY);
    let kept = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !is_token(pair));
    kept.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_token_is_found_wherever_a_client_puts_it() {
        type Row<'r> = (&'r [(&'static str, &'r str)], Option<&'r str>, Option<&'r str>);
        let table: [Row<'_>; 9] = [
            (&[("authorization", "Bearer a")], None, Some("a")),
            (&[("authorization", "bearer  a ")], None, Some("a")),
            (&[("x-api-key", "a")], None, Some("a")),
            (&[("x-goog-api-key", "a")], Some("alt=sse"), Some("a")),
            (&[("api-key", "a")], None, Some("a")),
            (&[], Some("alt=sse&key=a"), Some("a")),
            (&[("authorization", "Bearer a"), ("x-api-key", "b")], Some("key=c"), Some("a")),
            // Dify sends an empty one where no key is set.
            (&[("authorization", "Bearer ")], None, None),
            (&[("authorization", "Basic a")], Some("keys=a&xkey=b"), None),
        ];
        for (pairs, query, found) in table {
            assert_eq!(token(&headers(pairs), query), found, "{pairs:?} {query:?}");
        }
    }

    #[test]
    fn no_token_goes_on_in_a_query() {
        assert_eq!(query_without(Some("key=a&alt=sse&key=b&keys=c")), "alt=sse&keys=c");
        assert_eq!(query_without(None), "");
    }
}
