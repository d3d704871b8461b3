//! What servers with OpenAI's API count, under all the names that they have for it.

use crate::wire::{
    Keys, TokenUsage,
    answer::keep_counts,
    lenient::{Number, fields},
};

fields! {
    /// Counts of tokens (API reference, "The chat completion object"; Responses and Anthropic's names in proxies).
    pub(super) struct Usage {
        prompt: Number = "prompt_tokens" | "input_tokens",
        completion: Number = "completion_tokens" | "output_tokens",
        total: Number = "total_tokens",
        prompt_details: Option<Box<Details>> = "prompt_tokens_details" | "input_tokens_details",
        completion_details: Option<Box<Details>> = "completion_tokens_details" | "output_tokens_details",
        /// DeepSeek, <https://api-docs.deepseek.com/guides/kv_cache>; Moonshot's `cached_tokens`; Anthropic's in proxies.
        cached: Number = "prompt_cache_hit_tokens" | "cached_tokens" | "cache_read_input_tokens",
        cache_write: Number = "cache_creation_input_tokens",
        reasoning: Number = "reasoning_tokens",
    }
    ignores []
}

fields! {
    struct Details {
        cached: Number = "cached_tokens",
        /// OpenRouter, <https://openrouter.ai/docs/guides/best-practices/prompt-caching>.
        cache_write: Number = "cache_write_tokens" | "cache_creation_tokens",
        audio: Number = "audio_tokens",
        reasoning: Number = "reasoning_tokens" | "thinking_tokens",
    }
    ignores []
}

impl Usage {
    /// What it says beside the counts that have a field, such as OpenRouter's costs.
    pub(super) fn rest(&mut self) -> Keys {
        let mut rest = std::mem::take(&mut self.rest);
        for (name, details) in [
            ("prompt_tokens_details", &mut self.prompt_details),
            ("completion_tokens_details", &mut self.completion_details),
        ] {
            let own = details.as_mut().map(|details| std::mem::take(&mut details.rest)).unwrap_or_default();
            keep_counts(&mut rest, name, own);
        }
        rest
    }
}

impl From<Box<Usage>> for TokenUsage {
    fn from(usage: Box<Usage>) -> Self {
        let (input, output) =
            (usage.prompt_details.unwrap_or_default(), usage.completion_details.unwrap_or_default());
        let first = |one: Number, other: Number| if one.count() > 0 { one.count() } else { other.count() };
        let (prompt, mut completion) = (usage.prompt.count(), usage.completion.count());
        let reasoning = first(output.reasoning, usage.reasoning);
        let sum = prompt.saturating_add(completion);
        // xAI counts the reasoning beside the completion: only the total has both
        // (<https://docs.x.ai/docs/guides/reasoning>).
        if usage.total.count() == sum.saturating_add(reasoning) {
            completion = completion.saturating_add(reasoning);
        }
        Self {
            prompt,
            completion,
            total: usage.total.count().max(prompt.saturating_add(completion)),
            cached: first(input.cached, usage.cached),
            cache_write: first(input.cache_write, usage.cache_write),
            reasoning,
            prompt_audio: input.audio.count(),
            completion_audio: output.audio.count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::lenient::object;
    use serde_json::{Value, json};

    fn read(usage: &Value) -> TokenUsage {
        Box::new(object::<Usage>(usage.to_string().as_bytes()).unwrap()).into()
    }

    #[test]
    fn every_name_of_a_count_is_known() {
        let cached = |usage: TokenUsage| (usage.prompt, usage.cached, usage.cache_write);
        let table = [
            json!({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2}}),
            json!({"prompt_tokens": 9.0, "prompt_cache_hit_tokens": "4", "cache_creation_input_tokens": 2}),
            json!({"input_tokens": 9, "cached_tokens": 4, "input_tokens_details": {"cache_creation_tokens": 2}}),
            json!({"prompt_tokens": "9", "prompt_tokens_details": [], "cache_read_input_tokens": 4,
                "cache_creation_input_tokens": 2}),
        ];
        for usage in table {
            assert_eq!(cached(read(&usage)), (9, 4, 2), "{usage}");
        }
        let usage = read(&json!({
            "prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8,
            "prompt_tokens_details": {"audio_tokens": 1}, "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 1},
        }));
        let expected = TokenUsage {
            prompt: 5,
            completion: 3,
            total: 8,
            reasoning: 2,
            prompt_audio: 1,
            completion_audio: 1,
            ..TokenUsage::default()
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn reasoning_is_a_part_of_the_completion() {
        let details = |reasoning: u32| json!({"reasoning_tokens": reasoning});
        let table = [
            // OpenAI: inside. xAI: beside, and the total has both.
            (
                json!({"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14, "completion_tokens_details": details(6)}),
                9,
            ),
            (
                json!({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 14, "completion_tokens_details": details(6)}),
                9,
            ),
            (json!({"prompt_tokens": 5, "completion_tokens": 9, "reasoning_tokens": 6}), 9),
        ];
        for (usage, completion) in table {
            let read = read(&usage);
            assert_eq!((read.completion, read.total, read.reasoning), (completion, 14, 6), "{usage}");
        }
    }
}
