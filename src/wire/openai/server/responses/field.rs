//! The names of fields.

/// A field as this API names it, where a driver names it in the words of chat completions.
#[must_use]
pub fn field(name: &str) -> String {
    let name = name.strip_prefix("parameters.").unwrap_or(name);
    let ours = match name {
        "max_completion_tokens" | "max_tokens" => "max_output_tokens",
        "reasoning_effort" => "reasoning.effort",
        "response_format" => "text.format",
        "verbosity" => "text.verbosity",
        "logprobs" => "top_logprobs",
        // Which item it was, a message does not say.
        messages if messages.starts_with("messages") => "input",
        other => other,
    };
    ours.to_owned()
}
