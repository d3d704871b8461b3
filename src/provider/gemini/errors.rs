//! What errors of Google's Gemini API and of Vertex AI mean: the reasons that their details bear, and texts where they bear
//! none. A wrong key is refused with 400.

use crate::{
    balance::ErrorClass::{
        Authentication, BadRequest, ContentFiltered, ContextTooLong, ModelUnavailable, QuotaExhausted,
    },
    provider::{Rule, Status},
    wire::{DAILY_QUOTA, gemini::answer::BLOCKED},
};

const REASONS: &str = "https://github.com/googleapis/googleapis/blob/master/google/api/error_reason.proto";
const PAGE: &str = "https://ai.google.dev/gemini-api/docs/troubleshooting";
const LIMITS: &str = "https://ai.google.dev/gemini-api/docs/rate-limits";
const GENERATE: &str = "https://ai.google.dev/api/generate-content";
const KEYS: &str = "https://github.com/songquanpeng/one-api/blob/main/monitor/manage.go";
const CREDITS: &str = "https://github.com/dyad-sh/dyad/issues/3626";
const UNREGISTERED: &str = "https://github.com/PublicAffairs/openai-gemini/issues/92";
const FILES: &str = "https://github.com/googleapis/python-genai/issues/1218";
const CACHE: &str = "https://ai.google.dev/gemini-api/docs/caching";
const VERTEX_CACHE: &str =
    "https://cloud.google.com/vertex-ai/generative-ai/docs/context-cache/context-cache-use";
const TOKENS: &str = "https://github.com/google-gemini/gemini-cli/issues/6678";
const ARMOR: &str = "https://cloud.google.com/security-command-center/docs/model-armor-vertex-integration";
const RESPONSIBLE: &str = "https://cloud.google.com/vertex-ai/generative-ai/docs/image/responsible-ai-imagen";

/// Google's reasons and texts.
pub(in crate::provider) const ERRORS: &[Rule] = &[
    Rule::money("BILLING_DISABLED", REASONS),
    Rule::money(DAILY_QUOTA, LIMITS),
    Rule::words("prepayment credits are depleted", QuotaExhausted, CREDITS).under(Status::Is(429)),
    // A country without a free tier.
    Rule::sentence(
        "Gemini API free tier is not available in your country. Please enable billing on your project \
         in Google AI Studio.",
        QuotaExhausted,
        PAGE,
    ),
    Rule::code("API_KEY_INVALID", Authentication, REASONS),
    Rule::code("API_KEY_SERVICE_BLOCKED", Authentication, REASONS),
    Rule::code("API_KEY_HTTP_REFERRER_BLOCKED", Authentication, REASONS),
    Rule::code("API_KEY_IP_ADDRESS_BLOCKED", Authentication, REASONS),
    Rule::code("API_KEY_ANDROID_APP_BLOCKED", Authentication, REASONS),
    Rule::code("API_KEY_IOS_APP_BLOCKED", Authentication, REASONS),
    Rule::code("ACCESS_TOKEN_EXPIRED", Authentication, REASONS),
    Rule::code("ACCESS_TOKEN_SCOPE_INSUFFICIENT", Authentication, REASONS),
    Rule::code("ACCESS_TOKEN_TYPE_UNSUPPORTED", Authentication, REASONS),
    Rule::code("ACCOUNT_STATE_INVALID", Authentication, REASONS),
    Rule::code("CREDENTIALS_MISSING", Authentication, REASONS),
    Rule::code("SERVICE_DISABLED", Authentication, REASONS),
    Rule::code("CONSUMER_INVALID", Authentication, REASONS),
    Rule::code("CONSUMER_SUSPENDED", Authentication, REASONS),
    Rule::code("USER_PROJECT_DENIED", Authentication, REASONS),
    Rule::sentence("API key not valid. Please pass a valid API key.", Authentication, KEYS),
    Rule::sentence("API key expired. Please renew the API key.", Authentication, KEYS),
    // A key that was found in public.
    Rule::sentence("Your API key was reported as leaked. Please use another API key.", Authentication, PAGE),
    Rule::sentence("Your project has been denied access. Please contact support.", Authentication, PAGE),
    Rule::sentence(
        "Method doesn't allow unregistered callers (callers without established identity). Please use \
         API Key or other form of API consumer identity to call this API.",
        Authentication,
        UNREGISTERED,
    ),
    // A caller from where it does not serve.
    Rule::sentence("User location is not supported for the API use.", ModelUnavailable, PAGE),
    Rule::code(BLOCKED, ContentFiltered, GENERATE),
    Rule::words("blocked by model armor", ContentFiltered, ARMOR).under(REFUSED),
    Rule::words("model_armor", ContentFiltered, ARMOR).under(REFUSED),
    Rule::words("responsible ai practices", ContentFiltered, RESPONSIBLE).under(REFUSED),
    Rule::words("input token count", ContextTooLong, TOKENS).under(Status::In(&[200, 400, 413])),
    Rule::words("exceeds the maximum number of tokens", ContextTooLong, TOKENS)
        .under(Status::In(&[200, 400, 413])),
    Rule::words("cachedcontent not found", BadRequest, CACHE).under(MISSING),
    Rule::words("cached content", BadRequest, VERTEX_CACHE).under(MISSING),
    Rule::words("permission to access the file", BadRequest, FILES).under(MISSING),
];

const REFUSED: Status = Status::In(&[200, 400, 403]);
const MISSING: Status = Status::In(&[400, 403, 404]);
