//! What errors of OpenAI, of Azure and of servers with the same API mean.

use crate::{balance::ErrorClass, provider::Rule};

const OPENAI: &str = "https://platform.openai.com/docs/guides/error-codes";
const AZURE: &str = "https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter";
const GROQ: &str = "https://console.groq.com/docs/flex-processing";
const LITELLM: &str = "https://github.com/BerriAI/litellm/blob/main/litellm/proxy/auth/user_api_key_auth.py";

/// OpenAI's codes and types, which most other vendors have taken over.
pub(in crate::provider) const ERRORS: &[Rule] = &[
    Rule::money("insufficient_quota", OPENAI),
    Rule::money("billing_hard_limit_reached", OPENAI),
    Rule::money("billing_not_active", OPENAI),
    Rule::money("credit_balance_exhausted", ""),
    Rule::code("invalid_api_key", ErrorClass::Authentication, OPENAI),
    Rule::code("incorrect_api_key", ErrorClass::Authentication, OPENAI),
    Rule::code("account_deactivated", ErrorClass::Authentication, OPENAI),
    // LiteLLM's proxy without a database says so, under 400, to every key but the master key.
    Rule::code("no_db_connection", ErrorClass::Authentication, LITELLM),
    Rule::code("content_filter", ErrorClass::ContentFiltered, AZURE),
    Rule::code("content_policy_violation", ErrorClass::ContentFiltered, OPENAI),
    Rule::code("model_not_found", ErrorClass::ModelUnavailable, OPENAI),
    // 498 while the flexible tier is full.
    Rule::code("capacity_exceeded", ErrorClass::RateLimited, GROQ),
    Rule::word("rate_limit_exceeded", ErrorClass::RateLimited, OPENAI),
    Rule::word("too_many_requests", ErrorClass::RateLimited, ""),
    Rule::word("timeout", ErrorClass::Timeout, ""),
    Rule::word("context_length_exceeded", ErrorClass::BadRequest, OPENAI),
    Rule::word("invalid_request_error", ErrorClass::BadRequest, OPENAI),
];
