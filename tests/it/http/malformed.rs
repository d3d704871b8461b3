//! Ten thousand requests that are malformed: their framing, their JSON, their forms, their paths, their encodings. None of them
//! breaks anything, and none reaches a provider.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rota::{api::pb::ModelType, scripted::Upstream};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    http::{BOUNDARY, Body, Http, Path, form, model, paths},
    rota::Rota,
    world::Scene,
};

const SEED: u64 = 20_261_130;

/// Writes requests.
struct Maker {
    random: StdRng,
    token: String,
    paths: Vec<Path>,
    model: String,
}

/// A right request, taken apart.
struct Request {
    line: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Request {
    fn bytes(self) -> Vec<u8> {
        let mut head = self.line + "\r\n";
        for header in self.headers {
            head += &(header + "\r\n");
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

impl Maker {
    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.random.random_range(0..from.len())]
    }

    /// The head of a request with that body.
    fn request(&mut self, path: &str, kind: &str, body: &[u8]) -> Request {
        let token = self.token.clone();
        let way = match self.random.random_range(0..3) {
            0 => format!("authorization: Bearer {token}"),
            1 => format!("x-api-key: {token}"),
            _ => format!("X-Goog-Api-Key: {token}"),
        };
        let length = format!("content-length: {}", body.len());
        let headers = vec!["host: 127.0.0.1".to_owned(), way, format!("content-type: {kind}"), length];
        Request { line: format!("POST {path} HTTP/1.1"), headers, body: body.to_vec() }
    }

    /// A path that takes JSON, with its right body.
    fn json_path(&mut self) -> (String, Value) {
        let with_json: Vec<_> = self
            .paths
            .iter()
            .filter_map(|path| match &path.body {
                Body::Json(body) => Some((path.path.clone(), body.clone())),
                _ => None,
            })
            .collect();
        self.pick(&with_json).clone()
    }

    /// One that is malformed, and in which part.
    fn malformed(&mut self) -> (&'static str, Vec<u8>) {
        match self.random.random_range(0..5) {
            0 => ("framing", self.framing()),
            1 => ("json", self.json()),
            2 => ("form", self.form()),
            3 => ("path", self.path()),
            _ => ("encoding", self.encoding()),
        }
    }

    fn framing(&mut self) -> Vec<u8> {
        let (path, body) = self.json_path();
        let body = body.to_string();
        let mut request = self.request(&path, "application/json", body.as_bytes());
        let noise: Vec<u8> = (0..self.random.random_range(1..200)).map(|_| self.random.random()).collect();
        match self.random.random_range(0..20) {
            // No request at all. A null byte begins neither HTTP/1.1 nor HTTP/2.
            0 => return [&[0][..], &noise].concat(),
            1 => return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
            2 => request.line = format!("POST {path}"),
            3 => request.line = format!("POST  {path} HTTP/1.1"),
            4 => request.line = format!("POST {path} HTTP/{}", self.pick(&["0.9", "1.2", "3", "1.1.1", "x"])),
            5 => request.line = format!("PO\u{7f}ST {path} HTTP/1.1"),
            6 => {
                request.headers[3] = format!(
                    "content-length: {}",
                    self.pick(&["-1", "+5", "0x10", "1e3", "99999999999999999999999", "5, 6", ""])
                );
            }
            7 => request.headers.push(format!("content-length: {}", body.len() + 1)),
            8 => {
                // Both at once: RFC 9112, section 6.3, lets a server refuse what smuggles.
                request.headers[3] = "content-length: 5".to_owned();
                request.headers.push("transfer-encoding: chunked".to_owned());
                request.body = b"zz\r\n".to_vec();
            }
            9 => {
                request.headers[3] = "transfer-encoding: chunked".to_owned();
                let chunk = *self.pick(&[
                    "zz\r\n{}\r\n0\r\n\r\n",
                    "-1\r\n",
                    "ffffffffffffffffff\r\n",
                    "5;\n{",
                    "2\r\n{}XX0\r\n\r\n",
                ]);
                request.body = chunk.as_bytes().to_vec();
            }
            10 => {
                request.headers[3] = format!(
                    "transfer-encoding: {}",
                    self.pick(&["gzip", "chunked, gzip", "x", "identity, x"])
                );
            }
            11 => request.headers.push("no colon here".to_owned()),
            12 => request.headers.push(format!("x{}: 1", self.pick(&[" ", "\t", "(", "\u{1}"]))),
            13 => request.headers.push(format!("x: a{}b", self.pick(&["\u{0}", "\u{7f}", "\u{8}"]))),
            14 => request.headers.push(" folded: 1".to_owned()),
            15 => {
                request.headers[0] = self
                    .pick(&["x: 1", "host: a b", "host: evil.example", "host: 127.0.0.1\r\nhost: 127.0.0.1"])
                    .to_string();
            }
            16 => request.headers.push(format!("x: {}", "a".repeat(1 << 20))),
            17 => request.headers.extend((0..2000).map(|n| format!("x-{n}: 1"))),
            // It breaks off: in its head, or in its body.
            18 => {
                let mut bytes = request.bytes();
                bytes.truncate(self.random.random_range(0..bytes.len()));
                return bytes;
            }
            _ => {
                request.headers[3] =
                    format!("content-length: {}", body.len() + self.random.random_range(1..100));
            }
        }
        request.bytes()
    }

    fn json(&mut self) -> Vec<u8> {
        let (path, body) = self.json_path();
        let text = body.to_string();
        let in_path = !body.as_object().is_some_and(|fields| fields.contains_key("model"));
        let spoiled: Vec<u8> = match self.random.random_range(0..14) {
            // Every beginning of an object is none.
            0 | 1 => text.as_bytes()[..self.random.random_range(0..text.len())].to_vec(),
            2 => format!("{text}{}", self.pick(&["}", "x", "{}", ",", "\u{0}"])).into(),
            3 => self
                .pick(&[
                    "[]",
                    "null",
                    "1",
                    "\"x\"",
                    "true",
                    "",
                    " ",
                    "nul",
                    "NaN",
                    "'x'",
                    "{'a':1}",
                    "{\"a\":NaN}",
                    "{\"a\":01}",
                    "{a:1}",
                    "{\"a\":1,}",
                    "{\"a\" 1}",
                ])
                .as_bytes()
                .to_vec(),
            4 => format!("{{\"deep\":{}1{},{}", "[".repeat(20_000), "]".repeat(20_000), &text[1..]).into(),
            5 => format!("{{\"deep\":{}", "{\"a\":".repeat(20_000)).into(),
            6 => [&b"{\"x\":\"\xc3\x28\xff\","[..], &text.as_bytes()[1..]].concat(),
            7 => {
                format!("{{\"x\":\"a{}b\",{}", self.pick(&["\u{1}", "\n", "\\x", "\\u12"]), &text[1..]).into()
            }
            8 => format!("/* hi */{text}").into(),
            // Fields that route: wrong, twice, missing.
            9 if !in_path => text
                .replace(
                    &format!("{:?}", self.model),
                    self.pick::<&str>(&["1", "null", "[]", "{}", "true", "\"\""]),
                )
                .into(),
            10 if !in_path => format!("{{\"mod\\u0065l\":\"x\",{}", &text[1..]).into(),
            11 if !in_path => format!(
                "{{\"stream\":true,\"stream\":false,{}",
                text[1..].replace("\"stream\":true", "\"s\":1")
            )
            .into(),
            12 if !in_path => format!(
                "{{\"stream\":{},{}",
                self.pick(&["\"yes\"", "1", "[]", "{}"]),
                text[1..].replace("\"stream\":true", "\"s\":1")
            )
            .into(),
            13 if !in_path => text.replace(&self.model, "nobody/knows").into(),
            _ => text.replace('{', "[").into(),
        };
        self.request(&path, "application/json", &spoiled).bytes()
    }

    fn form(&mut self) -> Vec<u8> {
        let path = *self.pick(&["/v1/audio/transcriptions", "/v1/audio/translations"]);
        let right = form(&self.model);
        let usual = format!("multipart/form-data; boundary={BOUNDARY}");
        let (kind, body): (String, Vec<u8>) = match self.random.random_range(0..12) {
            0 => ("multipart/form-data".to_owned(), right.into()),
            1 => ("multipart/form-data; boundary=".to_owned(), right.into()),
            2 => ("multipart/form-data; boundary=other".to_owned(), right.into()),
            3 => (format!("multipart/form-data; boundary={}", "b".repeat(5000)), right.into()),
            // Before the end of its last field.
            4 => (usual, right.as_bytes()[..self.random.random_range(0..right.len() - 8)].to_vec()),
            5 => (
                usual,
                right
                    .replace(
                        "name=\"model\"",
                        self.pick::<&str>(&["", "name=", "name=\"\"", "name=\"other\"", "name=\"model"]),
                    )
                    .into(),
            ),
            6 => (
                usual,
                right
                    .replacen(
                        "--",
                        &format!(
                            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nx\r\n--"
                        ),
                        1,
                    )
                    .into(),
            ),
            7 => (usual, right.replace("\r\n\r\n", "\r\n").into()),
            8 => {
                let other = *self.pick(&["", "nobody/knows", "\u{0}"]);
                (usual, right.replace(&self.model, other).into())
            }
            9 => (usual, [right.replace(&self.model, "\u{fffd}").as_bytes(), b"\xff\xfe"].concat()),
            10 => (usual, "--".repeat(self.random.random_range(1..10_000)).into()),
            _ => (usual, (0..1000).map(|_| self.random.random::<u8>()).collect()),
        };
        self.request(path, &kind, &body).bytes()
    }

    fn path(&mut self) -> Vec<u8> {
        let long = format!("/v1/{}", "a".repeat(200_000));
        let model = self.model.clone();
        let bad = [
            "/".to_owned(),
            "/v1".to_owned(),
            "/v2/chat/completions".to_owned(),
            "//v1/chat/completions".to_owned(),
            "/v1/../admin".to_owned(),
            "/v1beta/chat/completions".to_owned(),
            "/v1beta/models/".to_owned(),
            format!("/v1beta/models/{model}:"),
            format!("/v1beta/models/{model}:deleteEverything"),
            format!("/v1beta/models/{model}"),
            "/v1beta/models/:generateContent".to_owned(),
            "/v1beta/models/%ff%fe:generateContent".to_owned(),
            "/v1beta/models/%00:generateContent".to_owned(),
            "/v1beta/models/%2e%2e%2f%2e%2e:generateContent".to_owned(),
            "/v1beta/models/nobody:generateContent".to_owned(),
            "*".to_owned(),
            "http://evil.example/v1/chat/completions".to_owned(),
            "/v1/chat/completions\u{0}".to_owned(),
            "/v1/chat completions".to_owned(),
            "v1/chat/completions".to_owned(),
            long,
        ];
        let path = self.pick(&bad).clone();
        let (_, body) = self.json_path();
        // Paths that a provider may know are handed on: these name no model that there is.
        let body = body.to_string().replace(&model, "nobody/knows");
        let mut request = self.request(&path, "application/json", body.as_bytes());
        if self.random.random_range(0..3) == 0 {
            let (path, _) = self.json_path();
            let method = *self.pick(&[
                "GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "post",
            ]);
            request.line = format!("{method} {path} HTTP/1.1");
        }
        request.bytes()
    }

    fn encoding(&mut self) -> Vec<u8> {
        let (path, body) = self.json_path();
        let body = body.to_string();
        let (header, body): (String, Vec<u8>) = match self.random.random_range(0..6) {
            0 => (
                format!("content-encoding: {}", self.pick(&["gzip", "br", "zstd", "deflate", "x"])),
                body.into(),
            ),
            1 => ("content-encoding: gzip".to_owned(), b"\x1f\x8b\x08\x00garbage".to_vec()),
            2 => ("x: 1".to_owned(), body.encode_utf16().flat_map(u16::to_le_bytes).collect()),
            3 => ("x: 1".to_owned(), body.encode_utf16().flat_map(u16::to_be_bytes).collect()),
            4 => ("content-encoding: gzip, gzip".to_owned(), body.into()),
            _ => {
                let header = *self.pick(&[
                    "x-rota-max-attempts: -1",
                    "x-rota-timeout: soon",
                    "x-rota-on-break: x",
                    "x-rota-fallback: 7",
                    "x-rota-max-attempts: 1\r\nx-rota-max-attempts: 2",
                ]);
                (header.to_owned(), body.into())
            }
        };
        let mut request = self.request(&path, "application/json", &body);
        request.headers.push(header);
        request.bytes()
    }
}

/// Sends it and says the status of the answer; none where the connection ends without one.
async fn status(address: &str, bytes: &[u8], ends: bool) -> Result<Option<u16>, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        // A server that refuses early closes while this is on its way.
        let sent = stream.write_all(bytes).await;
        // Whoever ends the connection does not wait for an answer.
        if sent.is_ok() && ends {
            let _ = stream.shutdown().await;
        }
        let mut head = [0; 64];
        let mut length = 0;
        while length < 12 {
            match stream.read(&mut head[length..]).await {
                Ok(0) | Err(_) => break,
                Ok(more) => length += more,
            }
        }
        let text = String::from_utf8_lossy(&head[..length]).into_owned();
        let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        Ok(status)
    };
    timeout(Duration::from_secs(60), exchange).await.map_err(|_| "it hangs".to_owned())?
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_malformed_requests_are_the_callers_fault() {
    let rota = Rota::builder().start().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::set(&rota, &upstream, 2).await;
    // One of each type, so that nothing is refused for want of a model.
    let types = [
        ModelType::TextEmbedding,
        ModelType::Rerank,
        ModelType::SpeechToText,
        ModelType::Moderation,
        ModelType::Tts,
    ];
    for model_type in types {
        scene.of_type(model_type, &scene.key.model).await;
    }
    let address = rota.http().await;
    let mut maker = Maker {
        random: StdRng::seed_from_u64(SEED),
        token: scene.token.clone(),
        paths: paths(&model(&scene)),
        model: model(&scene),
    };
    let requests: Vec<_> = (0..10_000).map(|_| maker.malformed()).collect();
    let answers = stream::iter(requests).map(|(part, bytes)| {
        let address = address.clone();
        async move {
            let answer = status(&address, &bytes, matches!(part, "framing" | "path")).await;
            (part, bytes, answer)
        }
    });
    let mut counts = BTreeMap::<(&str, Option<u16>), usize>::new();
    let mut answers = answers.buffer_unordered(16);
    while let Some((part, bytes, answer)) = answers.next().await {
        let shown = || format!("seed {SEED}, {part}: {}", bytes[..bytes.len().min(2000)].escape_ascii());
        let status = answer.unwrap_or_else(|why| panic!("{why}: {}", shown()));
        *counts.entry((part, status)).or_default() += 1;
        // What is not framed as HTTP says may end without a word.
        assert!(status.is_some() || matches!(part, "framing" | "path"), "no answer: {}", shown());
        // 501 and 505 say that a method, an encoding or a version is not known.
        let of_caller =
            status.is_none_or(|status| (400..500).contains(&status) || matches!(status, 501 | 505));
        assert!(of_caller, "{status:?}: {}", shown());
        assert_eq!(upstream.total_hits(), 0, "it reached the provider: {}", shown());
    }
    for part in ["framing", "json", "form", "path", "encoding"] {
        let told: usize = counts
            .iter()
            .filter(|((own, status), _)| *own == part && status.is_some())
            .map(|(_, count)| count)
            .sum();
        // Some end before they are answered, and how many is chance.
        assert!(told > 500, "{part}: {counts:?}");
    }
    let log = rota.logs();
    assert!(!log.contains("panicked"), "{log}");
    let http = Http::of(&rota).await;
    let answer = http.request(&paths(&model(&scene))[0]).bearer_auth(&scene.token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}
