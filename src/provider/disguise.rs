//! The forms in which a server may show a secret that it was sent. Pure.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// A shorter value, in bytes, is no secret worth the holes it would cut into every word.
const MIN_SECRET: usize = 4;

/// The forms of a shorter one, in bytes, would be found in what has nothing to do with it.
const MIN_DISGUISED: usize = 8;

/// What a component of a URL keeps as it is (RFC 3986, "unreserved").
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The secret as it is sent, in JSON, in URLs, in hexadecimal digits, and in base64 wherever it stands in what was encoded,
/// the longest first. Empty where it is too short to be one.
pub(super) fn disguises(secret: &str) -> Vec<String> {
    let secret = secret.trim();
    if secret.len() < MIN_SECRET {
        return Vec::new();
    }
    let mut forms = vec![secret.to_owned()];
    if secret.len() >= MIN_DISGUISED {
        let json = serde_json::Value::from(secret).to_string();
        let json = json.trim_start_matches('"').strip_suffix('"').unwrap_or(&json);
        forms.extend([json.to_owned(), json.replace('/', "\\/")]);
        for set in [COMPONENT, NON_ALPHANUMERIC] {
            let upper = utf8_percent_encode(secret, set).to_string();
            forms.extend([with_lower_hex(&upper), upper]);
        }
        let hex = |each: &dyn Fn(&u8) -> String| secret.as_bytes().iter().map(each).collect::<String>();
        forms.extend([hex(&|byte| format!("{byte:02x}")), hex(&|byte| format!("{byte:02X}"))]);
        forms.extend([hex(&|byte| format!("%{byte:02x}")), hex(&|byte| format!("%{byte:02X}"))]);
        forms.extend([hex(&|byte| format!("\\u{byte:04x}")), hex(&|byte| format!("\\u{byte:04X}"))]);
        forms.extend((0..3).flat_map(|before| in_base64(secret.as_bytes(), before)));
    }
    forms.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    forms.dedup();
    forms
}

/// The characters that base64 has for the secret alone, with so many bytes before it.
fn in_base64(secret: &[u8], before: usize) -> [String; 2] {
    let padded = [&[0; 2][..before.min(2)], secret].concat();
    // The first and the last characters hold bits of what stands beside it.
    let (from, to) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
    let middle = |text: String| text.get(from..to).unwrap_or_default().to_owned();
    [middle(BASE64_STANDARD_NO_PAD.encode(&padded)), middle(BASE64_URL_SAFE_NO_PAD.encode(&padded))]
}

/// The same with the digits of its percent signs in lower case.
fn with_lower_hex(text: &str) -> String {
    let mut digits = 0;
    let lower = |c: char| {
        digits = if c == '%' { 2 } else { i32::max(digits - 1, -1) };
        if digits >= 0 && c != '%' { c.to_ascii_lowercase() } else { c }
    };
    text.chars().map(lower).collect()
}

/// What a text says once its percent signs are read, and then its escapes of JSON: what is written in a mixture of forms.
pub(super) fn undisguised(text: &str) -> [String; 2] {
    let decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut plain = String::with_capacity(decoded.len());
    let mut rest = decoded.as_str();
    while let Some((before, escape)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = escape.strip_prefix('u').and_then(|digits| digits.get(..4));
        let unescaped = code.and_then(|digits| char::from_u32(u32::from_str_radix(digits, 16).ok()?));
        let length = if unescaped.is_some() { 5 } else { escape.chars().next().map_or(0, char::len_utf8) };
        plain.extend(unescaped.or(escape.chars().next()));
        rest = escape.get(length..).unwrap_or_default();
    }
    plain.push_str(rest);
    [decoded, plain]
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

    const SECRET: &str = "sk-p/roj+Ab_9=\"x\\y~z.Q";

    fn shows(text: &str, secret: &str) -> bool {
        disguises(secret).iter().any(|form| text.contains(form.as_str()))
    }

    #[test]
    fn a_secret_is_known_in_every_form() {
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut texts = vec![
            SECRET.to_owned(),
            format!("Bearer {SECRET}"),
            serde_json::json!({"key": SECRET}).to_string(),
            serde_json::json!({"key": SECRET}).to_string().replace('/', "\\/"),
            url::form_urlencoded::byte_serialize(SECRET.replace(' ', "").as_bytes()).collect::<String>(),
            utf8_percent_encode(SECRET, COMPONENT).to_string(),
            with_lower_hex(&utf8_percent_encode(SECRET, NON_ALPHANUMERIC).to_string()),
            hex.to_uppercase(),
            hex,
        ];
        for before in ["", "x", "xy", "xyz", "user:", "Bearer "] {
            for after in ["", "1", "12", "123"] {
                let text = format!("{before}{SECRET}{after}");
                texts.extend([BASE64_STANDARD.encode(&text), BASE64_URL_SAFE.encode(&text)]);
            }
        }
        for text in texts {
            let plain = undisguised(&text);
            assert!(shows(&text, SECRET) || plain.iter().any(|text| shows(text, SECRET)), "{text}");
            assert!(!shows(&text, "another-secret"), "{text}");
        }
    }

    #[test]
    fn mixtures_are_read() {
        for text in ["s%6b-abcd%65fgh", "\\u0073k-abcd\\u0065fgh", "%5Cu0073k-abcdefgh", "sk-abcdefgh"] {
            assert!(undisguised(text).iter().any(|plain| plain.contains("sk-abcdefgh")), "{text}");
        }
        assert_eq!(undisguised("100% of \\d and \\u12 stay")[1], "100% of d and u12 stay");
    }

    #[test]
    fn what_is_short_is_no_secret() {
        assert!(disguises("no").is_empty() && disguises("  no  ").is_empty());
        assert_eq!(disguises(" four "), ["four"]);
    }

    proptest::proptest! {
        #[test]
        fn base64_shows_it_wherever_it_stands(secret in "[ -~]{8,40}", before in ".{0,9}", after in ".{0,9}") {
            let secret = secret.trim();
            if secret.len() >= MIN_DISGUISED {
                let text = BASE64_STANDARD.encode(format!("{before}{secret}{after}"));
                proptest::prop_assert!(shows(&text, secret), "{text}");
            }
        }
    }
}
