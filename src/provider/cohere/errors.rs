//! What Cohere's errors mean. They have no type and no code; 429 is the answer to a trial key's calls a minute and a
//! month alike.

use crate::{
    balance::ErrorClass::{
        ContentFiltered, ContextTooLong, ModelUnavailable, QuotaExhausted, RateLimited, Timeout,
    },
    provider::{Rule, Status},
    wire::cohere::answer::TIMED_OUT,
};

const PAGE: &str = "https://docs.cohere.com/reference/errors";
const CHAT: &str = "https://docs.cohere.com/reference/chat";
const TOKENS: &str = "https://github.com/cohere-ai/sandbox-topically/issues/4";

/// Its texts, and its status for a word on its deny list.
pub(in crate::provider) const ERRORS: &[Rule] = &[
    Rule::sentence("You are using a Trial key**API calls / month**", QuotaExhausted, PAGE).under(BUSY),
    // Those of 429 again: in a stream no status says it.
    Rule::sentence("You are using a Trial key**API calls / minute**", RateLimited, PAGE).under(BUSY),
    Rule::sentence("You are past the per minute request limit**", RateLimited, PAGE).under(BUSY),
    Rule::sentence("trial token rate limit exceeded**", RateLimited, PAGE).under(BUSY),
    Rule::sentence("finetuned model with name * is not ready for serving", ModelUnavailable, PAGE),
    Rule::words("too many tokens: ", ContextTooLong, TOKENS).under(Status::In(&[200, 400, 413, 422])),
    // The finish reason of an answer.
    Rule::word(TIMED_OUT, Timeout, CHAT),
    Rule::status(Status::Is(498), ContentFiltered, CHAT),
];

const BUSY: Status = Status::In(&[200, 429]);
