//! What is not text, where vendors other than OpenAI want it written otherwise. Pure.

/// The type and the base64 of a `data:` URL (RFC 2397), which OpenAI takes for an image's URL and others do not.
pub(super) fn data_url(url: &str) -> Option<(String, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    Some((essence(head.strip_suffix(";base64")?), data))
}

/// `image/png` of `image/PNG; x=y`.
pub(super) fn essence(mime_type: &str) -> String {
    let essence = mime_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // Not a registered name, but a common one, which Anthropic refuses.
    if essence == "image/jpg" { "image/jpeg".to_owned() } else { essence }
}
