//! For whom a request is written.

use serde::{Deserialize, Serialize};
use std::ops::Not;

/// The provider that a request is written for.
#[derive(Debug, Clone, Copy)]
pub struct Recipient<'a> {
    /// Its kind, as tenants name it.
    pub kind: &'a str,
    /// The model, as the provider names it.
    pub model: &'a str,
    /// What it refuses.
    pub switches: Switches,
}

/// What a server does not take, though its kind does, and what it has beyond that. All off: as its kind is. A database holds
/// it as JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, named in the contract")]
pub struct Switches {
    /// It refuses `stream_options`: no usage is asked for.
    pub no_stream_options: bool,
    /// It knows no role `developer`: such messages are `system`.
    pub no_developer_role: bool,
    /// It knows no `max_completion_tokens`: it gets `max_tokens`.
    pub no_max_completion_tokens: bool,
    /// It refuses `parallel_tool_calls`: it is left out.
    pub no_parallel_tool_calls: bool,
    /// It writes the reasoning into the text, between `<think>` and `</think>`.
    pub think_tags: bool,
    /// Whether it has `/responses`; none: as its kind has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub responses: Option<bool>,
    /// Its models go on from the beginning of an answer.
    #[serde(skip_serializing_if = "Not::not")]
    pub takes_prefill: bool,
}

impl Switches {
    /// For a server that takes everything.
    pub const NONE: Self = Self {
        no_stream_options: false,
        no_developer_role: false,
        no_max_completion_tokens: false,
        no_parallel_tool_calls: false,
        think_tags: false,
        responses: None,
        takes_prefill: false,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_not_stored() {
        let stored = serde_json::to_string(&Switches::NONE).unwrap();
        assert!(!stored.contains("responses"), "{stored}");
        for responses in [None, Some(true), Some(false)] {
            let switches = Switches { responses, ..Switches::NONE };
            let stored = serde_json::to_string(&switches).unwrap();
            assert_eq!(serde_json::from_str::<Switches>(&stored).unwrap(), switches);
        }
    }
}
