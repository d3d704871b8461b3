//! What Anthropic's errors mean. Without credit, and beyond a spend limit, it answers 400 and a text.

use crate::{
    balance::ErrorClass::{
        Authentication, BadRequest, ContentFiltered, ContextTooLong, ModelUnavailable, QuotaExhausted,
        RateLimited, Timeout,
    },
    provider::{Rule, Status},
};

const PAGE: &str = "https://docs.claude.com/en/api/errors";
const LIMITS: &str = "https://docs.claude.com/en/api/rate-limits";
const CREDIT: &str = "https://github.com/songquanpeng/one-api/blob/main/monitor/manage.go";
const REACHED: &str = "https://github.com/anthropics/claude-code/issues/38035";
const EXTRA: &str = "https://github.com/NousResearch/hermes-agent/pull/56128";
const DISABLED: &str = "https://github.com/anthropics/claude-code/issues/8327";
const CLAUDE_CODE: &str = "https://github.com/anthropics/claude-code/issues/8046";
const LONG: &str = "https://github.com/anomalyco/opencode/pull/18683";
const SUM: &str = "https://github.com/stackblitz/bolt.new/issues/7414";
const FILES: &str = "https://docs.claude.com/en/docs/build-with-claude/files";
const CODE: &str = "https://docs.claude.com/en/docs/agents-and-tools/tool-use/code-execution-tool";

/// Its types, and its texts where the type says too little.
pub(in crate::provider) const ERRORS: &[Rule] = &[
    Rule::money("billing_error", PAGE),
    Rule::money("enforced_spend_limit_reached", LIMITS),
    Rule::code("authentication_error", Authentication, PAGE),
    Rule::sentence("Your credit balance is too low to access the Anthropic API.", QuotaExhausted, CREDIT),
    Rule::sentence(
        "Your credit balance is too low to access the * API. Please go to Plans & Billing to upgrade \
         or purchase credits.",
        QuotaExhausted,
        CREDIT,
    ),
    Rule::sentence("You have reached your specified API usage limits.", QuotaExhausted, LIMITS),
    Rule::sentence("You have reached your specified workspace API usage limits.", QuotaExhausted, LIMITS),
    Rule::sentence(
        "You have reached your specified API usage limits. You will regain access on * at * UTC.",
        QuotaExhausted,
        REACHED,
    ),
    Rule::sentence(
        "You have reached your specified workspace API usage limits. You will regain access on * at * UTC.",
        QuotaExhausted,
        LIMITS,
    ),
    Rule::sentence(
        "You're out of extra usage. Add more at claude.ai/settings/usage and keep going.",
        QuotaExhausted,
        EXTRA,
    ),
    Rule::sentence("This organization has been disabled.", Authentication, DISABLED),
    Rule::sentence(
        "OAuth authentication is currently not allowed for this organization.",
        Authentication,
        DISABLED,
    ),
    // A subscription's token in place of a key.
    Rule::sentence(
        "This credential is only authorized for use with Claude Code and cannot be used for other API requests.",
        Authentication,
        CLAUDE_CODE,
    ),
    // A tier of the account that takes less than the model does.
    Rule::sentence("Extra usage is required for long context requests.", ContextTooLong, LONG),
    Rule::words("exceed context limit", ContextTooLong, SUM).under(Status::Is(400)),
    Rule::words("blocked by content filtering policy", ContentFiltered, PAGE).under(Status::In(&[200, 400])),
    // Ids of files and containers begin so; that of no model does.
    Rule::words("file_01", BadRequest, FILES).under(MISSING),
    Rule::words("file not found", BadRequest, FILES).under(MISSING),
    Rule::words("container_01", BadRequest, CODE).under(MISSING),
    Rule::words("container not found", BadRequest, CODE).under(MISSING),
    Rule::word("rate_limit_error", RateLimited, PAGE),
    Rule::word("permission_error", ModelUnavailable, PAGE),
    Rule::word("not_found_error", ModelUnavailable, PAGE),
    Rule::word("timeout_error", Timeout, PAGE),
    Rule::word("invalid_request_error", BadRequest, PAGE),
    Rule::word("request_too_large", BadRequest, PAGE),
];

const MISSING: Status = Status::In(&[403, 404]);
