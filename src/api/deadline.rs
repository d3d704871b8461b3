//! The deadline that a client sends.

use http::HeaderMap;
use std::time::Duration;

/// Reads the client's deadline from the `grpc-timeout` header: at most 8 digits and a unit.
///
/// See the [gRPC over HTTP/2 protocol](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
pub(super) fn client_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(text: &str) -> Option<Duration> {
        let mut metadata = HeaderMap::new();
        metadata.insert("grpc-timeout", text.parse().unwrap());
        client_timeout(&metadata)
    }

    #[test]
    fn timeouts_of_the_protocol_are_read() {
        assert_eq!(timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for malformed in ["S", "5", "5x", "-1S", "123456789S", "5 S"] {
            assert_eq!(timeout(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn no_timeout_is_none() {
        assert_eq!(client_timeout(&HeaderMap::new()), None);
    }
}
