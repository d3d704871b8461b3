//! The HTTP door, called as any program may.

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

use super::{rota::Rota, world::Scene};

/// An endpoint of the door.
#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "as HTTP has them")]
pub struct Path {
    pub method: Method,
    /// With the model in it, where it stands there.
    pub path: String,
    /// What a right request sends.
    pub body: Body,
}

/// The body of a request.
#[derive(Debug, Clone)]
pub enum Body {
    None,
    Json(Value),
    /// A form: its boundary is [`BOUNDARY`].
    Form(String),
}

/// What divides the fields of forms.
pub const BOUNDARY: &str = "boundary-of-a-test";

impl Path {
    fn post(path: &str, body: Value) -> Self {
        Self { method: Method::POST, path: path.to_owned(), body: Body::Json(body) }
    }

    fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), body: Body::None }
    }

    /// Whose words it speaks.
    pub fn protocol(&self) -> &'static str {
        if self.path.starts_with("/v1/messages") {
            "anthropic"
        } else if self.path.starts_with("/v1beta/")
            || self.path.contains("/models/") && self.path.contains(':')
        {
            "gemini"
        } else {
            "openai"
        }
    }
}

/// A form with a file and that model.
pub fn form(model: &str) -> String {
    format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--{BOUNDARY}\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"hello.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n\
         sound\r\n--{BOUNDARY}--\r\n"
    )
}

/// Every endpoint, for that model.
pub fn paths(model: &str) -> Vec<Path> {
    let hi = json!([{"role": "user", "content": "hi"}]);
    let contents = json!([{"role": "user", "parts": [{"text": "hi"}]}]);
    let one = json!({"content": {"parts": [{"text": "hi"}]}});
    let speech = |path: &str| Path { body: Body::Form(form(model)), ..Path::post(path, Value::Null) };
    let mut paths = vec![
        Path::post("/v1/chat/completions", json!({"model": model, "messages": hi})),
        Path::post("/v1/chat/completions", json!({"model": model, "messages": hi, "stream": true})),
        Path::post("/v1/completions", json!({"model": model, "prompt": "hi"})),
        Path::post("/v1/responses", json!({"model": model, "input": "hi"})),
        Path::post("/v1/embeddings", json!({"model": model, "input": "hi"})),
        Path::post("/v1/rerank", json!({"model": model, "query": "hi", "documents": ["a"]})),
        Path::post("/v1/moderations", json!({"model": model, "input": "hi"})),
        speech("/v1/audio/transcriptions"),
        speech("/v1/audio/translations"),
        Path::post("/v1/audio/speech", json!({"model": model, "input": "hi", "voice": "alloy"})),
        Path::post("/v1/images/generations", json!({"model": model, "prompt": "hi"})),
        Path::post("/v1/anything/else", json!({ "model": model })),
        Path::post("/v1/messages", json!({"model": model, "max_tokens": 9, "messages": hi})),
        Path::post("/v1/messages/count_tokens", json!({"model": model, "messages": hi})),
        Path::get("/v1/models"),
        Path::get(&format!("/v1/models/{model}")),
        Path::get("/v1beta/models"),
        Path::get(&format!("/v1beta/models/{model}")),
    ];
    for version in ["v1beta", "v1"] {
        let method =
            |name: &str, body: &Value| Path::post(&format!("/{version}/models/{model}:{name}"), body.clone());
        paths.extend([
            method("generateContent", &json!({ "contents": contents })),
            method("streamGenerateContent", &json!({ "contents": contents })),
            method("streamGenerateContent?alt=sse", &json!({ "contents": contents })),
            method("countTokens", &json!({ "contents": contents })),
            method("embedContent", &one),
            method(
                "batchEmbedContents",
                &json!({"requests": [{"model": model, "content": {"parts": [{"text": "hi"}]}}]}),
            ),
        ]);
    }
    paths
}

/// The name of the scene's model on the door.
pub fn model(scene: &Scene) -> String {
    format!("{}/{}", scene.provider, scene.key.model)
}

/// The door of a Rota.
#[derive(Clone)]
pub struct Http {
    pub origin: String,
    pub client: Client,
}

impl Http {
    pub async fn of(rota: &Rota) -> Self {
        let client = Client::builder().no_proxy().build().unwrap();
        Self { origin: format!("http://{}", rota.http().await), client }
    }

    /// A request without a token.
    pub fn request(&self, path: &Path) -> RequestBuilder {
        let request = self.client.request(path.method.clone(), format!("{}{}", self.origin, path.path));
        match &path.body {
            Body::None => request,
            Body::Json(body) => request.json(body),
            Body::Form(body) => {
                let kind = format!("multipart/form-data; boundary={BOUNDARY}");
                request.header("content-type", kind).body(body.clone())
            }
        }
    }

    /// Bytes as they are, as JSON, under a token.
    pub async fn post(&self, token: &str, path: &str, body: impl Into<reqwest::Body>) -> Response {
        let request = self.client.post(format!("{}{path}", self.origin)).bearer_auth(token);
        request.header("content-type", "application/json").body(body).send().await.unwrap()
    }
}

/// What an error says in the form of its protocol: its type, and its text. Fails where it is in another form.
#[track_caller]
pub fn told(protocol: &str, body: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{protocol}: {body}")).to_owned();
    let error = &body["error"];
    match protocol {
        "anthropic" => {
            assert_eq!(body["type"], "error", "{body}");
            (text(&error["type"]), text(&error["message"]))
        }
        "gemini" => {
            assert!(error["code"].is_u64(), "{body}");
            (text(&error["status"]), text(&error["message"]))
        }
        _ => {
            assert!(error.get("param").is_some() && error.get("code").is_some(), "{body}");
            (text(&error["type"]), text(&error["message"]))
        }
    }
}
