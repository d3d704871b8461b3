//! What a path asks for.

use crate::{
    gate::{Access, Operation},
    provider::ModelType,
    wire::{Endpoint, Protocol},
};
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A call of a model.
    Call {
        /// What is to be done.
        endpoint: Endpoint,
        /// The model, where the path names it.
        model: Option<String>,
        /// For a stream of Gemini's: whether it is a JSON array and no stream of events.
        array: bool,
    },
    /// The models that can be called.
    Models(Protocol),
    /// One of them.
    Model(Protocol, String),
    /// A path that Rota does not know and a provider may: what stands behind `/v1/`.
    Other(String),
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nowhere {
    /// There is nothing at that path.
    NotFound,
    /// Something else may be done there.
    Method(&'static str),
}

/// OpenAI's and Anthropic's paths behind `/v1/`, each with what it is called in metrics.
const POSTS: &[(&str, Endpoint, &str)] = &[
    ("chat/completions", Endpoint::ChatCompletions, "POST /v1/chat/completions"),
    ("completions", Endpoint::Completions, "POST /v1/completions"),
    ("responses", Endpoint::Responses, "POST /v1/responses"),
    ("embeddings", Endpoint::Embeddings, "POST /v1/embeddings"),
    ("rerank", Endpoint::Rerank, "POST /v1/rerank"),
    ("moderations", Endpoint::Moderations, "POST /v1/moderations"),
    ("audio/transcriptions", Endpoint::Transcriptions, "POST /v1/audio/transcriptions"),
    ("audio/translations", Endpoint::Translations, "POST /v1/audio/translations"),
    ("audio/speech", Endpoint::Speech, "POST /v1/audio/speech"),
    ("images/generations", Endpoint::Images, "POST /v1/images/generations"),
    ("messages", Endpoint::Messages, "POST /v1/messages"),
    ("messages/count_tokens", Endpoint::MessagesCountTokens, "POST /v1/messages/count_tokens"),
];

/// Gemini's methods, behind the last colon of a model's path.
const METHODS: &[(&str, Endpoint, &str)] = &[
    ("generateContent", Endpoint::GenerateContent, "POST /v1beta/models/{model}:generateContent"),
    (
        "streamGenerateContent",
        Endpoint::StreamGenerateContent,
        "POST /v1beta/models/{model}:streamGenerateContent",
    ),
    ("countTokens", Endpoint::CountTokens, "POST /v1beta/models/{model}:countTokens"),
    ("embedContent", Endpoint::EmbedContent, "POST /v1beta/models/{model}:embedContent"),
    ("batchEmbedContents", Endpoint::BatchEmbedContents, "POST /v1beta/models/{model}:batchEmbedContents"),
];

/// In whose words an answer at that path is, whatever it says.
pub fn protocol(path: &str, headers: &HeaderMap) -> Protocol {
    if path.starts_with("/v1beta/") || headers.contains_key("x-goog-api-key") {
        Protocol::Gemini
    } else if path.starts_with("/v1/messages") || headers.contains_key("anthropic-version") {
        Protocol::Anthropic
    } else if path.starts_with("/v1/models/") && path.contains(':') && method_of(path).is_some() {
        Protocol::Gemini
    } else {
        Protocol::OpenAi
    }
}

/// Finds what is asked for.
///
/// # Errors
/// Where there is no such thing.
pub fn wanted(
    method: &Method,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Wanted, Nowhere> {
    let (version, rest) = path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .filter(|(version, rest)| matches!(*version, "v1" | "v1beta") && !rest.is_empty())
        .ok_or(Nowhere::NotFound)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if let Some(name) = rest.strip_prefix("models/") {
        return of_model(method, name, path, query, headers);
    }
    if rest == "models" {
        return only(method, &Method::GET, "GET").map(|()| Wanted::Models(protocol(path, headers)));
    }
    if version != "v1" {
        return Err(Nowhere::NotFound);
    }
    match POSTS.iter().find(|(known, ..)| *known == rest) {
        Some((_, endpoint, _)) => only(method, &Method::POST, "POST").map(|()| Wanted::Call {
            endpoint: *endpoint,
            model: None,
            array: false,
        }),
        None if method == Method::POST => Ok(Wanted::Other(rest.to_owned())),
        None => Err(Nowhere::NotFound),
    }
}

fn only(method: &Method, wanted: &Method, name: &'static str) -> Result<(), Nowhere> {
    if method == wanted { Ok(()) } else { Err(Nowhere::Method(name)) }
}

/// Gemini's method that a path ends with.
fn method_of(path: &str) -> Option<(&str, Endpoint)> {
    let (model, method) = path.rsplit_once(':')?;
    METHODS.iter().find(|(known, ..)| *known == method).map(|(_, endpoint, _)| (model, *endpoint))
}

fn of_model(
    method: &Method,
    name: &str,
    path: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Wanted, Nowhere> {
    let decoded =
        |name: &str| percent_decode_str(name).decode_utf8().map(Into::into).map_err(|_| Nowhere::NotFound);
    if let Some((model, endpoint)) = method_of(name) {
        only(method, &Method::POST, "POST")?;
        let is_stream = endpoint == Endpoint::StreamGenerateContent;
        let events = query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
        return Ok(Wanted::Call { endpoint, model: Some(decoded(model)?), array: is_stream && !events });
    }
    only(method, &Method::GET, "GET")?;
    Ok(Wanted::Model(protocol(path, headers), decoded(name)?))
}

impl Wanted {
    /// What it is called in metrics and traces, and what it asks of its caller.
    pub fn operation(&self) -> Operation {
        let name = match self {
            Self::Call { endpoint, .. } => POSTS
                .iter()
                .chain(METHODS)
                .find(|(_, known, _)| known == endpoint)
                .map_or("POST /v1/*", |(.., name)| *name),
            Self::Models(_) => "GET /v1/models",
            Self::Model(..) => "GET /v1/models/{model}",
            Self::Other(_) => "POST /v1/*",
        };
        let access = match self {
            Self::Call { .. } | Self::Other(_) => Access::Call,
            Self::Models(_) | Self::Model(..) => Access::Look,
        };
        Operation { name, access }
    }
}

/// The type of the models that an endpoint calls; none where any will do.
pub const fn model_type(endpoint: Endpoint) -> Option<ModelType> {
    match endpoint {
        Endpoint::Embeddings | Endpoint::EmbedContent | Endpoint::BatchEmbedContents => {
            Some(ModelType::TextEmbedding)
        }
        Endpoint::Rerank => Some(ModelType::Rerank),
        Endpoint::Moderations => Some(ModelType::Moderation),
        Endpoint::Transcriptions | Endpoint::Translations => Some(ModelType::SpeechToText),
        Endpoint::Speech => Some(ModelType::Tts),
        Endpoint::Images => None,
        Endpoint::ChatCompletions
        | Endpoint::Completions
        | Endpoint::Responses
        | Endpoint::Messages
        | Endpoint::MessagesCountTokens
        | Endpoint::GenerateContent
        | Endpoint::StreamGenerateContent
        | Endpoint::CountTokens => Some(ModelType::Llm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(method: Method, path: &str) -> Result<Wanted, Nowhere> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        wanted(&method, path, query, &HeaderMap::new())
    }

    fn call(endpoint: Endpoint, model: Option<&str>, array: bool) -> Wanted {
        Wanted::Call { endpoint, model: model.map(str::to_owned), array }
    }

    #[test]
    fn every_endpoint_has_a_path() {
        for (path, endpoint, _) in POSTS {
            assert_eq!(at(Method::POST, &format!("/v1/{path}")), Ok(call(*endpoint, None, false)));
            assert_eq!(at(Method::POST, &format!("/v1/{path}/")), Ok(call(*endpoint, None, false)));
            assert_eq!(at(Method::GET, &format!("/v1/{path}")), Err(Nowhere::Method("POST")));
        }
        for (method, endpoint, _) in METHODS {
            let array = *endpoint == Endpoint::StreamGenerateContent;
            for version in ["v1", "v1beta"] {
                let path = format!("/{version}/models/m:{method}");
                assert_eq!(at(Method::POST, &path), Ok(call(*endpoint, Some("m"), array)));
                assert_eq!(at(Method::GET, &path), Err(Nowhere::Method("POST")));
            }
        }
    }

    #[test]
    fn the_last_colon_of_a_model_begins_the_method() {
        let table = [
            ("/v1beta/models/openai/gpt-4o:generateContent", "openai/gpt-4o"),
            ("/v1beta/models/openai%2Fgpt-4o:generateContent", "openai/gpt-4o"),
            ("/v1beta/models/ft:gpt-4o:me:generateContent", "ft:gpt-4o:me"),
            ("/v1beta/models/a%3Ab:generateContent", "a:b"),
        ];
        for (path, model) in table {
            assert_eq!(at(Method::POST, path), Ok(call(Endpoint::GenerateContent, Some(model), false)));
        }
        let events = "/v1beta/models/m:streamGenerateContent?alt=sse&x=y";
        assert_eq!(at(Method::POST, events), Ok(call(Endpoint::StreamGenerateContent, Some("m"), false)));
    }

    #[test]
    fn models_are_listed_in_the_words_of_who_asks() {
        let mut headers = HeaderMap::new();
        assert_eq!(at(Method::GET, "/v1/models"), Ok(Wanted::Models(Protocol::OpenAi)));
        assert_eq!(at(Method::GET, "/v1beta/models"), Ok(Wanted::Models(Protocol::Gemini)));
        headers.insert("anthropic-version", "2023-06-01".parse().unwrap());
        let listed = wanted(&Method::GET, "/v1/models", None, &headers);
        assert_eq!(listed, Ok(Wanted::Models(Protocol::Anthropic)));
        let one = Wanted::Model(Protocol::OpenAi, "openai/ft:gpt-4o:x".into());
        assert_eq!(at(Method::GET, "/v1/models/openai%2Fft:gpt-4o:x"), Ok(one.clone()));
        assert_eq!(at(Method::GET, "/v1/models/openai/ft:gpt-4o:x"), Ok(one));
    }

    #[test]
    fn other_paths_lead_on_below_v1_alone() {
        assert_eq!(at(Method::POST, "/v1/images/edits"), Ok(Wanted::Other("images/edits".into())));
        for path in ["/", "", "/v1", "/v1/", "/v2/chat/completions", "/v1beta/files", "/metrics", "//v1/x"] {
            assert_eq!(at(Method::POST, path), Err(Nowhere::NotFound), "{path}");
        }
        assert_eq!(at(Method::GET, "/v1/files"), Err(Nowhere::NotFound));
        assert_eq!(at(Method::POST, "/v1/models"), Err(Nowhere::Method("GET")));
    }

    #[test]
    fn whoever_may_call_may_call_here() {
        let operation = at(Method::POST, "/v1/messages").unwrap().operation();
        assert_eq!((operation.name, operation.access), ("POST /v1/messages", Access::Call));
        let operation = at(Method::GET, "/v1/models").unwrap().operation();
        assert_eq!((operation.name, operation.access), ("GET /v1/models", Access::Look));
    }
}
