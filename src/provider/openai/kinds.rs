//! The kinds that speak OpenAI's API, and in what they differ.

use super::errors::ERRORS;
use crate::{
    balance::Failure,
    provider::{
        CredentialField, KindSpec, ModelType, Payload, Rule, Target,
        address::{add_query, join},
        anthropic, client, cohere, gemini,
    },
};
use http::{HeaderName, Request, Uri};
use secrecy::ExposeSecret;
use url::{Url, form_urlencoded};

const MODEL_TYPES: &[ModelType] = &[
    ModelType::Llm,
    ModelType::TextEmbedding,
    ModelType::SpeechToText,
    ModelType::Moderation,
    ModelType::Tts,
];
/// vLLM, Jina and others serve `/rerank` beside OpenAI's API; OpenAI has none.
const COMPATIBLE_MODEL_TYPES: &[ModelType] = &ModelType::ALL;
/// Moderation is a service of its own on Azure.
const AZURE_MODEL_TYPES: &[ModelType] =
    &[ModelType::Llm, ModelType::TextEmbedding, ModelType::SpeechToText, ModelType::Tts];

/// OpenAI takes so many texts in a request (API reference, "Create embeddings").
const EMBEDDING_BATCH: usize = 2048;

const ORGANIZATION: CredentialField = CredentialField {
    name: "organization",
    label: "Organization",
    secret: false,
    required: false,
    default_value: "",
    options: &[],
    max_length: 256,
    help: "Sent as OpenAI-Organization, for keys that belong to several.",
};

const BATCH: CredentialField = CredentialField {
    name: "embedding_batch",
    label: "Texts per embedding request",
    secret: false,
    required: false,
    default_value: "",
    options: &["1", "8", "10", "16", "25", "32", "64", "96", "128", "256", "512", "1024", "2048"],
    max_length: 4,
    help: "More texts are sent in several requests; 2048 where nothing is given.",
};

const API_VERSION: CredentialField = CredentialField {
    name: "api_version",
    label: "API version",
    secret: false,
    required: false,
    default_value: "2024-10-21",
    options: &[],
    max_length: 64,
    help: "A date such as 2024-10-21, or v1 for the API without dates.",
};

/// A kind that speaks OpenAI's API.
pub(in crate::provider) struct Kind {
    pub(in crate::provider) spec: KindSpec,
    pub(super) dialect: Dialect,
}

/// A gateway with OpenAI's API may stand before any vendor, and hand on what that one says.
const TABLES: &[&[Rule]] = &[ERRORS, anthropic::ERRORS, gemini::ERRORS, cohere::ERRORS];

/// OpenAI itself.
pub(in crate::provider) static OPENAI: Kind = Kind {
    spec: KindSpec {
        name: "openai",
        display_name: "OpenAI",
        model_types: MODEL_TYPES,
        default_base_url: Some("https://api.openai.com/v1"),
        credential_fields: &[CredentialField::api_key(true, "Begins with sk-."), ORGANIZATION],
        telemetry_name: "openai",
        errors: TABLES,
    },
    dialect: PLAIN,
};

/// Any server with the same API: vLLM, Ollama, most gateways.
pub(in crate::provider) static OPENAI_COMPATIBLE: Kind = Kind {
    spec: KindSpec {
        name: "openai_compatible",
        display_name: "OpenAI-compatible",
        model_types: COMPATIBLE_MODEL_TYPES,
        default_base_url: None,
        credential_fields: &[
            CredentialField::api_key(false, "Leave it out where the server asks for none."),
            ORGANIZATION,
            BATCH,
        ],
        telemetry_name: "openai_compatible",
        errors: TABLES,
    },
    dialect: COMPATIBLE,
};

/// OpenAI's models at a resource of Azure's: `https://NAME.openai.azure.com`. The model is a deployment's name.
pub(in crate::provider) static AZURE_OPENAI: Kind = Kind {
    spec: KindSpec {
        name: "azure_openai",
        display_name: "Azure OpenAI",
        model_types: AZURE_MODEL_TYPES,
        default_base_url: None,
        credential_fields: &[CredentialField::api_key(true, "One of the resource's two keys."), API_VERSION],
        telemetry_name: "azure.ai.openai",
        errors: TABLES,
    },
    dialect: AZURE,
};

/// In what a kind differs from the others.
pub(super) struct Dialect {
    /// The header of the key, and what stands before it.
    key: (&'static str, &'static str),
    /// Where an endpoint is.
    pub(super) url: fn(&Target, &[&str]) -> Url,
    /// Whether a date of the API goes with every request.
    dated: bool,
    /// Whether embeddings take `input_type`. OpenAI refuses fields that it does not know.
    pub(super) sends_input_type: bool,
    /// Whether the role `developer` is unknown: few servers beside OpenAI's have it.
    pub(super) no_developer_role: bool,
    /// Whether there is `/responses`.
    pub(super) has_responses: bool,
}

/// OpenAI's own.
const PLAIN: Dialect = Dialect {
    key: ("authorization", "Bearer "),
    url: |target, path| join(&target.base_url, path),
    dated: false,
    sends_input_type: false,
    no_developer_role: false,
    has_responses: true,
};

/// That of other servers with the same API.
const COMPATIBLE: Dialect =
    Dialect { sends_input_type: true, no_developer_role: true, has_responses: false, ..PLAIN };

/// Azure's.
const AZURE: Dialect = Dialect { key: ("api-key", ""), url: azure_url, dated: true, ..PLAIN };

impl Dialect {
    /// Puts in the credential as headers, and the API's date where every request must have one.
    pub(super) fn sign(&self, target: &Target, request: &mut Request<Payload>) -> Result<(), Failure> {
        let (name, prefix) = self.key;
        let headers = request.headers_mut();
        client::put_field(headers, HeaderName::from_static(name), target, "api_key", prefix)?;
        let organization = HeaderName::from_static("openai-organization");
        client::put_field(headers, organization, target, ORGANIZATION.name, "")?;
        if self.dated
            && let Some(version) = api_version(target)
            && wants_date(request.uri())
        {
            add_query(request.uri_mut(), "api-version", version)?;
        }
        Ok(())
    }
}

/// Where Azure has an endpoint (<https://learn.microsoft.com/azure/ai-services/openai/reference>): below the deployment, for
/// which each request says the API's date; or all in one place as at OpenAI, in the API without dates. The list of models
/// belongs to no deployment, nor do responses (<https://learn.microsoft.com/azure/ai-services/openai/how-to/responses>).
fn azure_url(target: &Target, path: &[&str]) -> Url {
    let mut root = target.base_url.clone();
    // As people copy it from their code: with what the clients add.
    let bare = root.path().trim_end_matches('/');
    let undated = bare.ends_with("/openai/v1");
    let added = ["/openai/v1", "/openai"].iter().find_map(|added| bare.strip_suffix(added));
    let bare = added.unwrap_or(bare).to_owned();
    root.set_path(&bare);
    if undated || api_version(target).is_none() {
        return join(&root, &[&["openai", "v1"], path].concat());
    }
    match path {
        ["models"] | ["responses"] => join(&root, &[&["openai"], path].concat()),
        _ => join(&root, &[&["openai", "deployments", target.model.as_str()], path].concat()),
    }
}

/// Whether a request to this address must be told the API's date and is not yet.
fn wants_date(uri: &Uri) -> bool {
    let undated = format!("{}/", uri.path()).contains("/openai/v1/");
    let query = uri.query().unwrap_or_default().as_bytes();
    !undated && !form_urlencoded::parse(query).any(|(name, _)| name == "api-version")
}

/// The API's date; none for the API without.
fn api_version(target: &Target) -> Option<&str> {
    let given = target.fields.get(API_VERSION.name).map_or("", |version| version.expose_secret().trim());
    let version = if given.is_empty() { API_VERSION.default_value } else { given };
    Some(version).filter(|version| *version != "v1")
}

/// How many texts go into one request.
pub(super) fn embedding_batch(target: &Target) -> usize {
    let given = target.fields.get(BATCH.name).and_then(|batch| batch.expose_secret().parse().ok());
    given.filter(|&batch| batch > 0).unwrap_or(EMBEDDING_BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::ErrorClass;
    use http::HeaderValue;

    fn target(base_url: &str, fields: &[(&str, &str)]) -> Target {
        Target {
            tenant: uuid::Uuid::nil(),
            base_url: base_url.parse().unwrap(),
            model: "my gpt".into(),
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect(),
            switches: crate::wire::Switches::NONE,
            connect_timeout: None,
        }
    }

    /// A request to that address after it is signed.
    fn signed(dialect: &Dialect, target: &Target, url: &str) -> Result<Request<Payload>, Failure> {
        let mut request = Request::new(Payload::default());
        *request.uri_mut() = url.parse().unwrap();
        dialect.sign(target, &mut request).map(|()| request)
    }

    #[test]
    fn credentials_become_sensitive_headers() {
        let headers = |dialect, fields: &[_]| {
            signed(dialect, &target("http://h/", fields), "http://h/")
                .map(|request| request.headers().clone())
        };
        let sent = headers(&PLAIN, &[("api_key", " k\n"), ("organization", "org-1")]).unwrap();
        assert_eq!(sent["authorization"], "Bearer k");
        assert_eq!(sent["openai-organization"], "org-1");
        assert!(sent.values().all(HeaderValue::is_sensitive));
        assert!(headers(&COMPATIBLE, &[]).unwrap().is_empty());
        assert!(headers(&COMPATIBLE, &[("api_key", "")]).unwrap().is_empty());
        let sent = headers(&AZURE, &[("api_key", "k"), ("api_version", "v1")]).unwrap();
        assert_eq!((sent.len(), &sent["api-key"]), (1, &HeaderValue::from_static("k")));
        assert!(sent["api-key"].is_sensitive());
        let failure = headers(&PLAIN, &[("api_key", "se\ncret")]).unwrap_err();
        assert_eq!(failure.class, ErrorClass::Authentication);
        assert!(!failure.message.contains("cret"), "{}", failure.message);
    }

    #[test]
    fn azures_endpoints_stand_below_the_deployment_or_not_at_all() {
        let chat: &[&str] = &["chat", "completions"];
        let models: &[&str] = &["models"];
        let dated = "https://h/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21";
        let plain = "https://h/openai/v1/chat/completions";
        let table = [
            ("https://h", "", chat, dated),
            ("https://h/", "2024-10-21", chat, dated),
            ("https://h/openai", "", chat, dated),
            ("https://h/", "v1", chat, plain),
            ("https://h/openai/v1/", "2024-10-21", chat, plain),
            ("https://h/gate/openai/v1", "", chat, "https://h/gate/openai/v1/chat/completions"),
            (
                "https://h",
                "2025-01-01-preview",
                models,
                "https://h/openai/models?api-version=2025-01-01-preview",
            ),
            ("https://h", "v1", models, "https://h/openai/v1/models"),
            ("https://h", "d", &["responses"], "https://h/openai/responses?api-version=d"),
            ("https://h", "a&b=c", models, "https://h/openai/models?api-version=a%26b%3Dc"),
        ];
        for (base, version, path, url) in table {
            let target = target(base, &[("api_version", version)]);
            let request = signed(&AZURE, &target, azure_url(&target, path).as_str()).unwrap();
            assert_eq!(request.uri(), url, "{base} {version}");
        }
    }

    #[test]
    fn a_forwarded_request_gets_azures_date_unless_it_has_one_or_needs_none() {
        let table = [
            (&AZURE, "https://h/a?b=c", "https://h/a?b=c&api-version=2024-10-21"),
            (&AZURE, "https://h/a?api-version=x", "https://h/a?api-version=x"),
            (&AZURE, "https://h/openai/v1/responses", "https://h/openai/v1/responses"),
            (&PLAIN, "https://h/a", "https://h/a"),
        ];
        for (dialect, url, expected) in table {
            assert_eq!(signed(dialect, &target("https://h", &[]), url).unwrap().uri(), expected);
        }
    }

    #[test]
    fn a_batch_is_as_large_as_the_server_takes() {
        for (given, batch) in [("", 2048), ("32", 32), ("0", 2048), ("many", 2048)] {
            assert_eq!(embedding_batch(&target("https://h", &[("embedding_batch", given)])), batch);
        }
    }
}
