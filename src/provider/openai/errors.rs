//! What the codes of OpenAI, of Azure, and of vendors, servers and gateways with OpenAI's API mean.

use crate::{
    balance::ErrorClass::{
        Authentication, BadRequest, ContentFiltered, ContextTooLong, ModelUnavailable, QuotaExhausted,
        RateLimited, Timeout,
    },
    provider::{Rule, Status},
    wire::FLAGGED,
};

const OPENAI: &str = "https://developers.openai.com/api/docs/guides/error-codes";
const AZURE: &str = "https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter";
const AZURE_DEPLOYMENT: &str = "https://github.com/stulzq/azure-openai-proxy/issues/104";
const AZURE_OPERATION: &str = "https://github.com/run-llama/llama_index/issues/16503";
const GROQ: &str = "https://console.groq.com/docs/errors";
const GROQ_MODELS: &str = "https://console.groq.com/docs/deprecations";
const GROQ_PERMISSIONS: &str = "https://console.groq.com/docs/model-permissions";
const FLEX: &str = "https://console.groq.com/docs/flex-processing";
const LITELLM: &str = "https://github.com/BerriAI/litellm/blob/main/litellm/proxy/auth/user_api_key_auth.py";
const LITELLM_TYPES: &str = "https://github.com/BerriAI/litellm/blob/main/litellm/proxy/_types.py";
const LITELLM_KEY: &str = "https://github.com/BerriAI/litellm/pull/39660";
const LITELLM_TEAM: &str = "https://github.com/BerriAI/litellm/issues/38629";
const ALIBABA: &str = "https://www.alibabacloud.com/help/en/model-studio/error-code";
const ZHIPU: &str = "https://docs.bigmodel.cn/cn/api/api-code";
const MINIMAX: &str = "https://platform.minimax.io/docs/api-reference/errorcode";
const MOONSHOT: &str = "https://platform.kimi.ai/docs/api/errors";
const DEEPSEEK: &str = "https://api-docs.deepseek.com/quick_start/error_codes";
const OPENROUTER: &str = "https://openrouter.ai/docs/api/reference/errors-and-debugging";
const PERPLEXITY: &str = "https://github.com/perplexityai/api-discussion/issues/262";
const LLAMA_CPP: &str = "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md";
const VLLM: &str = "https://docs.vllm.ai/en/latest/serving/openai_compatible_server/";
const ONE_API: &str = "https://github.com/popjane/free_chatgpt_api/issues/78";
const ONE_API_TOKEN: &str = "https://github.com/songquanpeng/one-api/blob/main/relay/controller/helper.go";
// It comes under 400 and 500.
const NEW_API: &str = "https://github.com/QuantumNous/new-api/issues/6656";
const ARK: &str = "https://www.volcengine.com/docs/82379/1299023";
const NOVITA: &str = "https://novita.ai/docs/api-reference/basic-error-code";
const CLOUDFLARE: &str = "https://developers.cloudflare.com/workers-ai/platform/errors/";
const HUGGING_FACE: &str = "https://github.com/cline/cline/issues/5098";
const GITHUB: &str = "https://github.com/eslint/tsc-meetings/pull/593";
const GITHUB_MODELS: &str = "https://github.com/github/gh-models/issues/65";
const SILICONFLOW: &str = "https://docs.siliconflow.cn/en/faqs/error-code";
const SILICONFLOW_MONEY: &str = "https://github.com/FoundationAgents/OpenManus/issues/438";
const ZENMUX: &str = "https://docs.zenmux.ai/guide/advanced/error-codes.html";

/// OpenAI's codes and types, which most other vendors have taken over, and those that others added. Vendors that number
/// their errors do so as they like, so a number holds only where its vendor sends it.
pub(in crate::provider) const ERRORS: &[Rule] = &[
    // No money.
    Rule::money("insufficient_quota", OPENAI),
    Rule::money("billing_hard_limit_reached", OPENAI),
    Rule::money("billing_not_active", OPENAI),
    Rule::money("credit_balance_exhausted", OPENAI),
    Rule::money("organization_spend_limit_exceeded", OPENAI),
    Rule::money("organization_usage_limit_exceeded", OPENAI),
    Rule::money("project_spend_limit_exceeded", OPENAI),
    Rule::money("insufficient_balance", DEEPSEEK),
    Rule::money("insufficient_credits", OPENROUTER),
    Rule::money("insufficient_credit", ZENMUX),
    Rule::money("reject_no_credit", ZENMUX),
    Rule::money("insufficient_user_quota", ONE_API),
    Rule::money("pre_consume_token_quota_failed", ONE_API_TOKEN),
    Rule::money("exceeded_current_quota_error", MOONSHOT),
    Rule::money("blocked_api_access", GROQ),
    Rule::money("budget_exceeded", LITELLM_TYPES),
    Rule::money("Arrearage", ALIBABA),
    Rule::money("AllocationQuota.FreeTierOnly", ALIBABA),
    Rule::money("CommodityNotPurchased", ALIBABA),
    Rule::money("PrepaidBillOverdue", ALIBABA),
    Rule::money("PostpaidBillOverdue", ALIBABA),
    Rule::money("AccountOverdueError", ARK),
    Rule::money("SetLimitExceeded", ARK),
    Rule::money("NOT_ENOUGH_BALANCE", NOVITA),
    Rule::money("BILLING_BALANCE_NOT_ENOUGH", NOVITA),
    Rule::code("1113", QuotaExhausted, ZHIPU).under(Status::Client),
    Rule::code("1304", QuotaExhausted, ZHIPU).under(Status::Client),
    Rule::code("1308", QuotaExhausted, ZHIPU).under(Status::Client),
    Rule::code("1309", QuotaExhausted, ZHIPU).under(Status::Client),
    Rule::code("1310", QuotaExhausted, ZHIPU).under(Status::Client),
    Rule::code("1008", QuotaExhausted, MINIMAX).under(Status::Is(200)),
    Rule::code("2056", QuotaExhausted, MINIMAX).under(Status::Is(200)),
    Rule::code("30001", QuotaExhausted, SILICONFLOW_MONEY).under(Status::Is(403)),
    Rule::code("30011", QuotaExhausted, SILICONFLOW_MONEY).under(Status::Is(403)),
    Rule::code("3036", QuotaExhausted, CLOUDFLARE).under(Status::Is(429)),
    // A key that is wrong, expired or disabled.
    Rule::code("invalid_api_key", Authentication, OPENAI),
    Rule::code("incorrect_api_key", Authentication, OPENAI),
    Rule::code("account_deactivated", Authentication, OPENAI),
    Rule::code("organization_restricted", Authentication, GROQ),
    Rule::code("invalid_authentication_error", Authentication, MOONSHOT),
    Rule::code("incorrect_api_key_error", Authentication, MOONSHOT),
    Rule::code("InvalidApiKey", Authentication, ALIBABA),
    Rule::code("AccessDenied.Unpurchased", Authentication, ALIBABA),
    Rule::code("AuthenticationError", Authentication, ARK).under(Status::In(&[200, 401, 403])),
    Rule::code("INVALID_API_KEY", Authentication, NOVITA),
    Rule::code("FAILED_TO_AUTH", Authentication, NOVITA),
    Rule::code("expired_key", Authentication, LITELLM_TYPES),
    Rule::code("token_not_found_in_db", Authentication, LITELLM_TYPES),
    // LiteLLM's proxy without a database says so, under 400, to every key but the master key.
    Rule::code("no_db_connection", Authentication, LITELLM),
    Rule::code("1110", Authentication, ZHIPU).under(Status::Client),
    Rule::code("1111", Authentication, ZHIPU).under(Status::Client),
    Rule::code("1112", Authentication, ZHIPU).under(Status::Client),
    Rule::code("1004", Authentication, MINIMAX).under(Status::Is(200)),
    Rule::code("2049", Authentication, MINIMAX).under(Status::Is(200)),
    Rule::code("3023", Authentication, CLOUDFLARE).under(Status::Is(403)),
    // A model that is unknown, retired, or not for this key.
    Rule::code("model_not_found", ModelUnavailable, OPENAI),
    Rule::code("model_decommissioned", ModelUnavailable, GROQ_MODELS),
    Rule::code("model_terms_required", ModelUnavailable, GROQ),
    Rule::code("model_permission_blocked_org", ModelUnavailable, GROQ_PERMISSIONS),
    Rule::code("model_permission_blocked_project", ModelUnavailable, GROQ_PERMISSIONS),
    Rule::code("model_not_supported", ModelUnavailable, HUGGING_FACE),
    Rule::code("model_not_available", ModelUnavailable, ZENMUX),
    Rule::code("unknown_model", ModelUnavailable, GITHUB_MODELS),
    Rule::code("unavailable_model", ModelUnavailable, GITHUB_MODELS),
    Rule::code("invalid_model", ModelUnavailable, PERPLEXITY),
    Rule::code("key_model_access_denied", ModelUnavailable, LITELLM_KEY),
    Rule::code("team_model_access_denied", ModelUnavailable, LITELLM_TEAM),
    Rule::code("user_model_access_denied", ModelUnavailable, LITELLM_TYPES),
    Rule::code("org_model_access_denied", ModelUnavailable, LITELLM_TYPES),
    Rule::code("project_model_access_denied", ModelUnavailable, LITELLM_TYPES),
    Rule::code("Model.AccessDenied", ModelUnavailable, ALIBABA),
    Rule::code("ModelNotFound", ModelUnavailable, ALIBABA),
    Rule::code("InvalidEndpoint.ClosedEndpoint", ModelUnavailable, ARK),
    Rule::code("InvalidEndpoint.NotFound", ModelUnavailable, ARK),
    Rule::code("InvalidEndpointOrModel.NotFound", ModelUnavailable, ARK),
    Rule::code("ModelNotOpen", ModelUnavailable, ARK),
    Rule::code("DeploymentNotFound", ModelUnavailable, AZURE_DEPLOYMENT),
    Rule::code("OperationNotSupported", ModelUnavailable, AZURE_OPERATION),
    Rule::code("MODEL_NOT_FOUND", ModelUnavailable, NOVITA),
    Rule::code("1211", ModelUnavailable, ZHIPU).under(Status::Client),
    Rule::code("1220", ModelUnavailable, ZHIPU).under(Status::Client),
    Rule::code("1311", ModelUnavailable, ZHIPU).under(Status::Client),
    Rule::code("20012", ModelUnavailable, SILICONFLOW).under(Status::Is(400)),
    Rule::code("5007", ModelUnavailable, CLOUDFLARE).under(Status::Is(400)),
    // A server that was started for something else.
    Rule::code("not_supported_error", ModelUnavailable, LLAMA_CPP).under(Status::Is(501)),
    // Content that is refused.
    Rule::code("content_filter", ContentFiltered, AZURE),
    Rule::code("ResponsibleAIPolicyViolation", ContentFiltered, AZURE),
    Rule::code("content_policy_violation", ContentFiltered, OPENAI),
    Rule::code("moderation_blocked", ContentFiltered, OPENAI),
    Rule::code("data_inspection_failed", ContentFiltered, ALIBABA),
    Rule::code("DataInspectionFailed", ContentFiltered, ALIBABA),
    Rule::code(FLAGGED, ContentFiltered, OPENROUTER),
    Rule::code("sensitive_words_detected", ContentFiltered, NEW_API).under(Status::Any),
    Rule::code("safety_check_failed", ContentFiltered, ZENMUX),
    Rule::code("SensitiveContentDetected", ContentFiltered, ARK),
    Rule::code("SensitiveContentDetected.SevereViolation", ContentFiltered, ARK),
    Rule::code("SensitiveContentDetected.Violence", ContentFiltered, ARK),
    Rule::code("InputTextSensitiveContentDetected", ContentFiltered, ARK),
    Rule::code("InputImageSensitiveContentDetected", ContentFiltered, ARK),
    Rule::code("OutputTextSensitiveContentDetected", ContentFiltered, ARK),
    Rule::code("InputTextRiskDetection", ContentFiltered, ARK),
    Rule::code("InputImageRiskDetection", ContentFiltered, ARK),
    Rule::code("OutputTextRiskDetection", ContentFiltered, ARK),
    Rule::code("OutputImageRiskDetection", ContentFiltered, ARK),
    Rule::code("1301", ContentFiltered, ZHIPU).under(Status::Client),
    Rule::code("1026", ContentFiltered, MINIMAX).under(Status::Is(200)),
    Rule::code("1027", ContentFiltered, MINIMAX).under(Status::Is(200)),
    // Too long.
    Rule::code("context_length_exceeded", ContextTooLong, OPENAI).under(TOO_LONG),
    Rule::code("exceed_context_size_error", ContextTooLong, LLAMA_CPP).under(TOO_LONG),
    Rule::code("tokens_limit_reached", ContextTooLong, GITHUB),
    Rule::code("1261", ContextTooLong, ZHIPU).under(Status::Client),
    // What the account does not have.
    Rule::code("previous_response_not_found", BadRequest, OPENAI),
    // 498 while the flexible tier is full.
    Rule::code("capacity_exceeded", RateLimited, FLEX),
    Rule::code("1002", RateLimited, MINIMAX).under(Status::Is(200)),
    Rule::code("1039", RateLimited, MINIMAX).under(Status::Is(200)),
    Rule::code("1041", RateLimited, MINIMAX).under(Status::Is(200)),
    Rule::code("2045", RateLimited, MINIMAX).under(Status::Is(200)),
    // What a status would say.
    Rule::word("1001", Timeout, MINIMAX),
    Rule::word("2013", BadRequest, MINIMAX),
    Rule::word("rate_limit_exceeded", RateLimited, OPENAI),
    Rule::word("too_many_requests", RateLimited, OPENAI),
    Rule::word("timeout", Timeout, OPENROUTER),
    Rule::word("invalid_request_error", BadRequest, OPENAI),
    Rule::word("BadRequestError", BadRequest, VLLM),
];

/// Some servers fail over it.
const TOO_LONG: Status = Status::In(&[200, 400, 403, 413, 422, 500]);
