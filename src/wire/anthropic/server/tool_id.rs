//! The ids of tool calls. Anthropic takes letters, digits, `_` and `-` in them, and others write more, such as Kimi's
//! `functions.f:0` (<https://github.com/langchain-ai/langchain/pull/37756>). Those want their own back
//! (<https://github.com/BerriAI/litellm/pull/34523>). So one that Anthropic does not take is told in base64.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

const PREFIX: &str = "toolu_rota1_";

fn is_plain(id: &str) -> bool {
    id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// The id that clients see.
pub(super) fn told(id: &str) -> String {
    if is_plain(id) && !id.starts_with(PREFIX) {
        id.to_owned()
    } else {
        format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(id))
    }
}

/// The id that the provider gave.
pub(super) fn given(id: String) -> String {
    let bytes = id.strip_prefix(PREFIX).and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok());
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_anthropic_refuses_is_changed() {
        for id in ["toolu_01A", "call_a-b", ""] {
            assert_eq!(told(id), id);
        }
        assert_eq!(told("functions.f:0"), "toolu_rota1_ZnVuY3Rpb25zLmY6MA");
        assert_eq!(given("toolu_rota1_!".into()), "toolu_rota1_!");
        assert_eq!(given("toolu_rota1__w".into()), "toolu_rota1__w", "no UTF-8");
    }

    proptest::proptest! {
        #[test]
        fn each_comes_back(id: String) {
            let shown = told(&id);
            proptest::prop_assert!(is_plain(&shown));
            proptest::prop_assert_eq!(given(shown), id);
        }
    }
}
