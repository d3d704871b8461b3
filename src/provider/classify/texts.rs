//! What errors mean that say it in words alone. Vendors of every kind say these, and gateways hand them on.

use crate::{
    balance::ErrorClass::{
        self, Authentication, BadRequest, ContentFiltered, ContextTooLong, ModelUnavailable, QuotaExhausted,
    },
    provider::{Rule, Status},
};

/// A request that is too long: some servers fail over it, some say so under 200, and Together under 403
/// (<https://docs.together.ai/docs/error-codes>).
const TOO_LONG: Status = Status::In(&[200, 400, 403, 413, 422, 500]);
/// A request that is refused for what it says.
const REFUSED: Status = Status::In(&[200, 400, 403, 422]);
/// Something in the request that the account does not have.
const MISSING: Status = Status::In(&[400, 403, 404]);

const fn long(words: &'static str, source: &'static str) -> Rule {
    Rule::words(words, ContextTooLong, source).under(TOO_LONG)
}

const fn refused(words: &'static str, source: &'static str) -> Rule {
    Rule::words(words, ContentFiltered, source).under(REFUSED)
}

const fn missing(words: &'static str, source: &'static str) -> Rule {
    Rule::words(words, BadRequest, source).under(MISSING)
}

/// No money, where providers do not repeat what callers wrote.
const fn broke(words: &'static str, source: &'static str) -> Rule {
    Rule::words(words, QuotaExhausted, source).under(Status::In(&[401, 429]))
}

/// What a model cannot read, though the server fails over it.
const fn unread(words: &'static str, source: &'static str) -> Rule {
    Rule::words(words, BadRequest, source).under(Status::Is(500))
}

const fn says(sentence: &'static str, class: ErrorClass, source: &'static str) -> Rule {
    Rule::sentence(sentence, class, source)
}

const OPENAI: &str = "https://developers.openai.com/api/docs/guides/error-codes";
const QUOTA: &str = "https://github.com/ChatGPTNextWeb/NextChat/issues/449";
const XAI_KEY: &str = "https://github.com/continuedev/continue/issues/10778";
const XAI_MONEY: &str = "https://github.com/continuedev/continue/issues/10373";
const XAI_SUBSCRIPTION: &str = "https://github.com/Wei-Shaw/sub2api/issues/4069";
const XAI_MODEL: &str = "https://github.com/definableai/definable.ai/issues/73";
const XAI_TEAM: &str = "https://github.com/yihong0618/bilingual_book_maker/issues/464";
const XAI_CONTENT: &str = "https://github.com/theopenco/llmgateway/issues/1785";
const XAI_LONG: &str = "https://github.com/cline/cline/issues/3120";
const DEEPSEEK_MONEY: &str = "https://github.com/NousResearch/hermes-agent/pull/16772";
const DEEPSEEK_MODEL: &str = "https://github.com/ConardLi/easy-dataset/issues/9";
const DEEPSEEK_CONTENT: &str = "https://github.com/666ghj/BettaFish/issues/108";
const XAI_TEAM_MONEY: &str = "https://github.com/continuedev/continue/issues/12670";
const XAI_SEARCH: &str = "https://github.com/superagent-ai/grok-cli/issues/142";
const VERIFY: &str = "https://github.com/langflow-ai/openrag/issues/257";
const VERIFY_SOON: &str = "https://github.com/danny-avila/LibreChat/issues/6926";
const DATABRICKS: &str = "https://github.com/databricks/databricks-sdk-go/issues/873";
const CLOUDFLARE: &str = "https://github.com/diegosouzapw/OmniRoute/issues/6980";
const ARK: &str = "https://www.volcengine.com/docs/82379/1299023";
const NVIDIA_DEGRADED: &str = "https://github.com/Alishahryar1/free-claude-code/issues/1012";
const OPENROUTER_ROUTING: &str = "https://openrouter.ai/docs/guides/routing/provider-selection";
const OPENROUTER_IMAGES: &str = "https://github.com/NousResearch/hermes-agent/pull/23411";
const OPENROUTER: &str = "https://openrouter.ai/docs/api/reference/errors-and-debugging";
const OPENROUTER_CREDITS: &str = "https://github.com/Alishahryar1/free-claude-code/issues/772";
const OPENROUTER_KEY: &str = "https://github.com/MCPJam/inspector/issues/1287";
const OPENROUTER_MODEL: &str = "https://github.com/maxnowack/anthropic-proxy/issues/4";
const FIREWORKS: &str = "https://github.com/pollinations/pollinations/issues/12136";
const LITELLM_BUDGET: &str = "https://github.com/BerriAI/litellm/issues/20615";
const LITELLM_MODEL: &str = "https://github.com/BerriAI/litellm/pull/3142";
const LITELLM_ERRORS: &str = "https://docs.litellm.ai/docs/exception_mapping";
const NOVITA: &str = "https://novita.ai/docs/api-reference/basic-error-code";
const ZAI: &str = "https://github.com/vercel/ai/issues/9290";
const ZHIPU: &str = "https://github.com/continuedev/continue/issues/10296";
const ZHIPU_OWING: &str = "https://github.com/langgenius/dify/issues/5850";
const NVIDIA: &str = "https://github.com/Alishahryar1/free-claude-code/issues/1242";
const KIMI: &str = "https://github.com/openclaw/openclaw/pull/142656";
const MOONSHOT: &str = "https://platform.kimi.ai/docs/api/errors";
const GROQ: &str = "https://github.com/RightNow-AI/openfang/issues/60";
const CREDIT: &str = "https://github.com/songquanpeng/one-api/blob/main/monitor/manage.go";
const COPILOT: &str = "https://github.com/decolua/9router/issues/470";
const HUGGING_FACE: &str = "https://github.com/cline/cline/issues/5098";
const MISTRAL: &str = "https://github.com/tmc/langchaingo/issues/1233";
const GITHUB: &str = "https://github.com/tonybaloney/llm-github-models/issues/52";
const PERPLEXITY: &str = "https://github.com/ELPROFUG0/TexTab/issues/2";
const SILICONFLOW: &str = "https://github.com/anyme123/Any-code/issues/1";
const SILICONFLOW_LONG: &str = "https://github.com/langgenius/dify/issues/19394";
const SILICONFLOW_TOTAL: &str = "https://github.com/continuedev/continue/issues/10993";
const BEDROCK_MODEL: &str = "https://github.com/MattJColes/lgtmaybe/pull/70";
const BEDROCK_ACCESS: &str = "https://github.com/anthropics/claude-code/issues/536";
const BEDROCK_DEMAND: &str = "https://github.com/terricain/aioboto3/issues/352";
const BEDROCK: &str =
    "https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html";
const NEW_API: &str =
    "https://github.com/QuantumNous/new-api/blob/main/setting/operation_setting/operation_setting.go";
const VLLM_LONG: &str = "https://github.com/linagora/openrag/issues/128";
const VLLM_FIT: &str = "https://github.com/vllm-project/vllm/issues/12165";
const VLLM: &str = "https://docs.vllm.ai/en/latest/serving/openai_compatible_server/";
const AZURE: &str = "https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter";
const ALIBABA: &str = "https://www.alibabacloud.com/help/en/model-studio/error-code";
const LLAMA_CPP_BATCH: &str = "https://github.com/ggml-org/llama.cpp/issues/11105";
const LLAMA_CPP_IMAGE: &str = "https://github.com/ggml-org/llama.cpp/issues/13566";
const LLAMA_CPP: &str = "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md";
const LM_STUDIO: &str = "https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/2205";
const LM_STUDIO_FIRST: &str = "https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/546";
const LM_STUDIO_MLX: &str = "https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/2339";
const OLLAMA_IMAGE: &str = "https://github.com/valentinfrlch/ha-llmvision/issues/691";
const OLLAMA: &str = "https://github.com/ollama/ollama/issues/18559";
const SGLANG: &str = "https://github.com/sgl-project/sglang/issues/12081";
const CEREBRAS_MODEL: &str = "https://github.com/decolua/9router/issues/1106";
const CEREBRAS: &str = "https://github.com/cline/cline/issues/5140";
const SAMBANOVA: &str = "https://github.com/cline/cline/issues/294";
const TGI: &str = "https://github.com/bytedance/UI-TARS-desktop/issues/626";
const TGI_INPUTS: &str = "https://github.com/meta-llama/llama/issues/1103";
const ANTHROPIC: &str = "https://github.com/earendil-works/pi/issues/102";
const OMLX: &str = "https://github.com/ValueCell-ai/ClawX/issues/658";
const OVERFLOW: &str = "https://github.com/earendil-works/pi/blob/main/packages/ai/src/utils/overflow.ts";
const LARGE: &str = "https://github.com/fork-dev/TrackerWin/issues/2595";
const CONTAINER_FILE: &str = "https://github.com/sbslee/streamlit-openai/issues/18";
const ITEM: &str = "https://github.com/home-assistant/core/issues/150251";
const FILES: &str = "https://platform.openai.com/docs/api-reference/files";
const CONTAINERS: &str = "https://platform.openai.com/docs/api-reference/containers";
const RESPONSES: &str = "https://platform.openai.com/docs/guides/conversation-state";

/// The rows, asked after those of the driver.
pub(in crate::provider) const TEXTS: &[Rule] = &[
    // No money.
    says(
        "You exceeded your current quota, please check your plan and billing details.",
        QuotaExhausted,
        QUOTA,
    ),
    says(
        "You exceeded your current quota, please check your plan and billing details. For more \
         information on this error, read the docs: https://platform.openai.com/*",
        QuotaExhausted,
        OPENAI,
    ),
    says(
        "Your team * has either used all available credits or reached its monthly spending limit. To \
         continue making API requests, please purchase more credits or raise your spending limit.",
        QuotaExhausted,
        XAI_MONEY,
    ),
    says(
        "You have run out of credits or need a Grok subscription. Add credits at * or upgrade at *.",
        QuotaExhausted,
        XAI_SUBSCRIPTION,
    ),
    says(
        "Your newly created team doesn't have any credits or licenses yet. You can purchase those on https://*",
        QuotaExhausted,
        XAI_TEAM_MONEY,
    ),
    says("Insufficient Balance", QuotaExhausted, DEEPSEEK_MONEY),
    says("not enough balance", QuotaExhausted, NOVITA),
    says("Key limit exceeded. Manage it using https://*", QuotaExhausted, OPENROUTER_KEY),
    says("Key limit exceeded (* limit). Manage it using https://*", QuotaExhausted, OPENROUTER_KEY),
    says(
        "Account * is suspended, possibly due to reaching the monthly spending limit or failure to pay \
         past invoices. Please go to https://* for more information.",
        QuotaExhausted,
        FIREWORKS,
    ),
    says("Budget has been exceeded! Current cost: *, Max budget: *", QuotaExhausted, LITELLM_BUDGET),
    says(
        "You've reached your **usage limit** To continue now, purchase extra usage or upgrade your \
         plan: https://*",
        QuotaExhausted,
        KIMI,
    ),
    says("Insufficient balance or no resource package. Please recharge.", QuotaExhausted, ZAI),
    says("余额不足或无可用资源包,请充值。", QuotaExhausted, ZHIPU),
    broke("insufficient balance", ZAI),
    broke("insufficient credits", OPENROUTER_CREDITS),
    broke("run out of credits", XAI_SUBSCRIPTION),
    broke("used all available credits", XAI_MONEY),
    broke("credit balance is too low", CREDIT),
    broke("used up your daily free allocation", CLOUDFLARE),
    broke("余额不足", ZHIPU),
    broke("欠费", ZHIPU_OWING),
    // A key that is wrong, expired or disabled.
    says("Incorrect API key provided: *. You can obtain an API key from https://*.", Authentication, XAI_KEY),
    says("Incorrect API key provided: *. You can find your API key at https://*.", Authentication, OPENAI),
    says(
        "Organization has been restricted. Please reach out to support if you believe this was in error.",
        Authentication,
        CREDIT,
    ),
    says("Authorization failed", Authentication, NVIDIA),
    says("Invalid access token.", Authentication, DATABRICKS),
    says("The security token included in the request is invalid", Authentication, NEW_API),
    says("The security token included in the request is invalid.", Authentication, NEW_API),
    says("The security token included in the request is expired", Authentication, BEDROCK),
    says("Your account is not authorized to invoke this API operation.", Authentication, NEW_API),
    // A model that is unknown, retired, or not for this key.
    says("Model Not Exist", ModelUnavailable, DEEPSEEK_MODEL),
    says("Model not found: *", ModelUnavailable, XAI_MODEL),
    says(
        "The model * does not exist or your team * does not have access to it. Please ensure you're \
         using the correct API key. If you believe this is a mistake, please contact support and quote \
         your team ID and the model name.",
        ModelUnavailable,
        XAI_TEAM,
    ),
    says("Model does not exist. Please check it carefully.", ModelUnavailable, SILICONFLOW),
    says("The model `*` does not exist.", ModelUnavailable, VLLM),
    says("The model `*` does not exist or you do not have access to it.", ModelUnavailable, OPENAI),
    says("The model `*` does not exist", ModelUnavailable, OPENAI),
    says("Model * does not exist or you do not have access to it.", ModelUnavailable, CEREBRAS_MODEL),
    says("The model `*` has been deprecated, learn more here: https://*", ModelUnavailable, OPENAI),
    says(
        "The model `*` has been decommissioned and is no longer supported. Please refer to https://* \
         for a recommendation on which model to use instead.",
        ModelUnavailable,
        GROQ,
    ),
    says(
        "The requested model '*' is not supported by any provider you have enabled.",
        ModelUnavailable,
        HUGGING_FACE,
    ),
    says("The model `*` has been decommissioned and is no longer supported.", ModelUnavailable, GROQ),
    says("The requested model is not supported.", ModelUnavailable, COPILOT),
    says(
        "Invalid model '*'. Permitted models can be found in the documentation at https://*.",
        ModelUnavailable,
        PERPLEXITY,
    ),
    says("Invalid model: *", ModelUnavailable, MISTRAL),
    says("Unknown model: *", ModelUnavailable, GITHUB),
    says("* is not a valid model ID", ModelUnavailable, OPENROUTER_MODEL),
    says("400: {'error': 'Invalid model name passed in model=*'}", ModelUnavailable, LITELLM_MODEL),
    says(
        "{'error': '*: Invalid model name passed in model=*. Call `/v1/models` to view available \
         models for your key.'}",
        ModelUnavailable,
        LITELLM_MODEL,
    ),
    says("The provided model identifier is invalid.", ModelUnavailable, BEDROCK_MODEL),
    says(
        "Invocation of model ID * with on-demand throughput isn’t supported. Retry your request with \
         the ID or ARN of an inference profile that contains this model.",
        ModelUnavailable,
        BEDROCK_DEMAND,
    ),
    says("You don't have access to the model with the specified model ID.", ModelUnavailable, BEDROCK_ACCESS),
    says("Function id '*': DEGRADED function cannot be invoked", ModelUnavailable, NVIDIA_DEGRADED),
    // OpenAI streams some models to verified accounts alone.
    says(
        "Your organization must be verified to stream this model. Please go to: https://* and click on \
         Verify Organization.",
        ModelUnavailable,
        VERIFY_SOON,
    ),
    says(
        "Your organization must be verified to stream this model. Please go to: https://* and click on \
         Verify Organization. If you just verified, it can take up to 15 minutes for access to propagate.",
        ModelUnavailable,
        VERIFY,
    ),
    // Content that is refused.
    refused("content violates usage guidelines", XAI_CONTENT),
    refused("safety_check_type", XAI_CONTENT),
    refused("content management policy", AZURE),
    refused("flagged as potentially violating our usage policy", OPENAI),
    refused("rejected as a result of our safety system", OPENAI),
    refused("your input was flagged", OPENROUTER),
    refused("content exists risk", DEEPSEEK_CONTENT),
    refused("data may contain inappropriate content", ALIBABA),
    refused("it was considered high risk", MOONSHOT),
    refused("contentpolicyviolationerror", LITELLM_ERRORS),
    refused("blocked by our content filters", BEDROCK),
    // Too long.
    long("maximum context length", OPENAI),
    long("exceeds the context window", OPENAI),
    long("context window exceeds limit", OVERFLOW),
    long("max context window", OMLX),
    long("contextwindowexceedederror", LITELLM_ERRORS),
    says(
        "Invalid 'messages**': string too long. Expected a string with maximum length **",
        ContextTooLong,
        OPENAI,
    ),
    long("input tokens exceed the configured limit", OPENAI),
    long("prompt is too long", ANTHROPIC),
    long("maximum prompt length", XAI_LONG),
    long("reduce the length of the messages", CEREBRAS),
    long("maximum supported sequence length", SAMBANOVA),
    long("input is too long for requested model", BEDROCK),
    long("range of input length should be", ALIBABA),
    long("exceeded model token limit", MOONSHOT),
    long("input token length too long", MOONSHOT),
    long("prompt exceeds max length", "https://docs.bigmodel.cn/cn/api/api-code"),
    long("exceed max message tokens", ARK),
    long("must be less than max_seq_len", SILICONFLOW_LONG),
    long("must be less than or equal to max_seq_len", SILICONFLOW_TOTAL),
    long("`inputs` tokens + `max_new_tokens` must be", TGI),
    long("`inputs` must have less than", TGI_INPUTS),
    long("available context size", LLAMA_CPP),
    long("context size has been exceeded", LM_STUDIO_MLX),
    long("increase the physical batch size", LLAMA_CPP_BATCH),
    long("greater than the context length", LM_STUDIO),
    long("when context the overflows", LM_STUDIO_FIRST),
    long("exceeds the context length", OLLAMA),
    long("exceeded context length", OLLAMA),
    long("longer than the model's context length", SGLANG),
    long("longer than the maximum model length", VLLM_LONG),
    long("too long to fit into the model", VLLM_FIT),
    // What is too large for the limit itself never passes, and says nothing of the key.
    says("Request too large for **", BadRequest, LARGE).under(Status::Is(429)),
    // What the account does not have: files, containers, earlier answers.
    missing("no such file object", FILES),
    missing("no file found with id", FILES),
    missing("file with id ", FILES),
    missing("container with id ", CONTAINERS),
    missing("container is expired", CONTAINERS),
    missing("not found on container", CONTAINER_FILE),
    missing("response with id ", RESPONSES),
    missing("conversation with id ", RESPONSES),
    missing("item with id ", ITEM),
    missing("vector store with id ", FILES),
    // What the request asks of a model that has no such thing.
    Rule::words("no endpoints found that support", BadRequest, OPENROUTER_IMAGES).under(Status::Is(404)),
    Rule::words(
        "no endpoints found that can handle the requested parameters",
        BadRequest,
        OPENROUTER_ROUTING,
    )
    .under(Status::Is(404)),
    Rule::words("live search is deprecated", BadRequest, XAI_SEARCH).under(Status::Is(410)),
    // What the model cannot read.
    unread("image input is not supported", LLAMA_CPP_IMAGE),
    unread("audio input is not supported", LLAMA_CPP_IMAGE),
    unread("is not a multimodal model", VLLM),
    unread("missing data required for image input", OLLAMA_IMAGE),
];
