//! Where the provider speaks the door's protocol, bytes stay as they are: those of the request but for `model`, those of a
//! whole answer, and the payload of each event.

use reqwest::Response;
use rota::scripted::{Raw, Script, Upstream};
use serde_json::{Value, json};

use crate::support::{
    http::{BOUNDARY, Http, form, model},
    kinds::{self, Kind},
    rota::Rota,
    sdk::named,
    world::Scene,
};

/// A provider with one door for its protocol.
struct Door {
    kind: &'static Kind,
    path: &'static str,
    /// What a request of it must hold, as fields of JSON.
    fields: &'static str,
}

const DOORS: [Door; 3] = [
    Door {
        kind: &kinds::OPENAI,
        path: "/v1/chat/completions",
        fields: r#""messages":[{"role":"user","content":"h\u0069 \ud83d\ude00 \/\/","x":[ ]}]"#,
    },
    Door {
        kind: &kinds::OPENAI,
        path: "/v1/responses",
        fields: r#""input" : "h\u0069"  , "conversation":"conv_1""#,
    },
    Door {
        kind: &kinds::ANTHROPIC,
        path: "/v1/messages",
        fields: r#""max_tokens":  9,"messages":[{"role":"user","content":[{"text":"h\u0069","type":"text","cache_control":{"type":"ephemeral"}}]}]"#,
    },
];

/// What no reader would write again as it stands.
const ODD: &str = "\"zeta\" : 1.0E+2 ,\"big\":123456789012345678901234567890,\"dup\":1,\"dup\":{\"b\":1,\"a\":2},\r\n\t\"null\" :null,";

fn body(door: &Door, model: &str, more: &str) -> String {
    format!("{{ {ODD} \"model\"\t: {model:?} , {}{more} }}\n", door.fields)
}

async fn set(door: &Door) -> (Http, Upstream, Scene) {
    let rota = Rota::shared().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::of_kind(rota, door.kind, &upstream, 2).await;
    (Http::of(rota).await, upstream, scene)
}

fn script(scene: &Scene, upstream: &Upstream, raw: &Raw) {
    for key in &scene.keys {
        upstream.script(key, Script::Raw(raw.clone()));
    }
}

fn last(upstream: &Upstream) -> rota::scripted::Recorded {
    upstream.requests().pop().expect("a request")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_arrives_as_it_was_sent_but_for_the_model() {
    for door in &DOORS {
        let (http, upstream, scene) = set(door).await;
        // By its full name, which is another than the provider's, and by the name that is the same.
        for name in [model(&scene), scene.key.model.clone()] {
            let answer = http.post(&scene.token, door.path, body(door, &name, "")).await;
            assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
            let arrived = last(&upstream);
            assert_eq!(String::from_utf8_lossy(&arrived.raw), body(door, "chat", ""), "{}", door.path);
            assert_eq!(arrived.headers["content-type"], "application/json");
            assert_eq!(arrived.headers["content-length"], arrived.raw.len().to_string().as_str());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_arrives_as_it_was_sent_but_for_the_model() {
    let (http, upstream, scene) = set(&DOORS[0]).await;
    let scene = scene.of_type(rota::api::pb::ModelType::SpeechToText, "hears").await;
    let kind = format!("multipart/form-data; boundary=\"{BOUNDARY}\"");
    let request = http.client.post(format!("{}/v1/audio/transcriptions", http.origin));
    let request = request.bearer_auth(&scene.token).header("content-type", &kind);
    let answer = request.body(form(&model(&scene))).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"text": "hello.mp3"}));
    let arrived = last(&upstream);
    assert_eq!(String::from_utf8_lossy(&arrived.raw), form("hears"));
    assert_eq!(arrived.headers["content-type"], kind.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_as_the_provider_sent_it() {
    for door in &DOORS {
        let (http, upstream, scene) = set(door).await;
        let said = match door.path {
            "/v1/chat/completions" => {
                r#""choices":[{"index":0,"message":{"role":"assistant","content":"h\u0069"},"finish_reason":"stop"}]"#
            }
            "/v1/responses" => {
                r#""status":"completed","output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"h\u0069"}]}]"#
            }
            _ => {
                r#""type":"message","role":"assistant","content":[{"type":"text","text":"h\u0069"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}"#
            }
        };
        let whole = format!("\r\n{{ {ODD} {said} ,\"model\":\"m\"}} \n");
        let raw = Raw::new("application/json; charset=utf-8", whole.clone())
            .header("set-cookie", "a=b")
            .header("openai-organization", "org-secret")
            .header("anthropic-organization-id", "org-secret")
            .header("x-ratelimit-remaining-requests", "1")
            .header("anthropic-ratelimit-requests-remaining", "1");
        script(&scene, &upstream, &raw);
        let answer = http.post(&scene.token, door.path, body(door, &model(&scene), "")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/json; charset=utf-8");
        let names: Vec<_> = answer.headers().keys().map(|name| name.as_str().to_owned()).collect();
        for name in &names {
            let of_account = ["cookie", "organization", "ratelimit"].iter().any(|part| name.contains(part));
            assert!(!of_account, "{}: {names:?}", door.path);
        }
        for name in ["x-request-id", "x-rota-config", "x-rota-provider", "x-rota-model", "x-rota-attempts"] {
            assert!(answer.headers().contains_key(name), "{}: {name} is missing in {names:?}", door.path);
        }
        assert_eq!(answer.headers()["x-rota-attempts"], "1");
        assert_eq!(answer.text().await.unwrap(), whole, "{}", door.path);
    }
}

/// The payloads of a stream's events, and its text.
async fn payloads(answer: Response) -> (Vec<String>, String) {
    assert_eq!(answer.status(), 200);
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let text = answer.text().await.unwrap();
    assert!(!text.contains('\r'), "{text}");
    let events = text.split("\n\n").filter(|event| !event.is_empty());
    let payload = |event: &str| {
        let data: Vec<_> = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(data.len(), 1, "{event}");
        data.concat()
    };
    (events.map(payload).collect(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streams_payloads_come_as_the_provider_sent_them_in_the_doors_frames() {
    let (http, upstream, scene) = set(&DOORS[0]).await;
    let choice = |delta: &str, finish: &str| {
        format!(
            r#"{{ "id":"c" ,"x":1.0E2,"choices":[ {{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}"#
        )
    };
    let payload = [
        choice(r#"{"role":"assistant","content":""}"#, "null"),
        choice(r#"{"content":"h\u0069","vendor":{"b":1,"a":2}}"#, "null"),
        choice("{}", "\"stop\""),
        "[DONE]".to_owned(),
    ];
    // CRLF, a comment, no space, an id.
    let sent = format!(
        ": hello\r\n\r\nevent: x\r\nid: 1\r\ndata: {}\r\n\r\ndata:{}\r\n\r\ndata: {}\r\n\r\ndata: {}\r\n\r\n",
        payload[0], payload[1], payload[2], payload[3]
    );
    script(&scene, &upstream, &Raw::stream(sent));
    let asked = body(&DOORS[0], &model(&scene), r#","stream":true,"stream_options":{"include_usage":false}"#);
    let (seen, text) = payloads(http.post(&scene.token, DOORS[0].path, asked.clone()).await).await;
    assert_eq!(seen, payload);
    // On this door lines of data and nothing else.
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with("data: ")), "{text}");
    let own = asked.replace(&format!("{:?}", model(&scene)), "\"chat\"");
    assert_eq!(String::from_utf8_lossy(&last(&upstream).raw), own);

    let (http, upstream, scene) = set(&DOORS[2]).await;
    let payload = [
        r#"{ "type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],"model":"m","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0 ,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"h\u0069"}}"#,
        r#"{"type":"tomorrow","big":123456789012345678901234567890}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let frame = |payload: &&str| {
        let kind = serde_json::from_str::<Value>(payload).unwrap()["type"].as_str().unwrap().to_owned();
        format!("event:{kind}\r\ndata:{payload}\r\n\r\n")
    };
    script(&scene, &upstream, &Raw::stream(payload.iter().map(frame).collect::<String>()));
    let asked = body(&DOORS[2], &model(&scene), r#","stream":true"#);
    let (seen, text) = payloads(http.post(&scene.token, DOORS[2].path, asked).await).await;
    assert_eq!(seen, payload);
    assert!(text.contains("event: tomorrow\ndata: {\"type\":\"tomorrow\","), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_asked_for_and_not_shown_where_the_caller_has_not_asked() {
    let (http, upstream, scene) = set(&DOORS[0]).await;
    let asked = |more: &str| body(&DOORS[0], &model(&scene), more);
    let usage = |payloads: &[String]| payloads.iter().filter(|payload| payload.contains("\"usage\"")).count();
    let (seen, _) = payloads(http.post(&scene.token, DOORS[0].path, asked(r#","stream":true"#)).await).await;
    assert_eq!((usage(&seen), seen.last().map(String::as_str)), (0, Some("[DONE]")));
    assert_eq!(last(&upstream).body["stream_options"], json!({"include_usage": true}));
    let own = r#","stream":true,"stream_options" : {"include_usage" :true}"#;
    let (seen, _) = payloads(http.post(&scene.token, DOORS[0].path, asked(own)).await).await;
    assert_eq!(usage(&seen), 1);
    assert!(String::from_utf8_lossy(&last(&upstream).raw).contains(own));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_router_and_provider_would_read_apart_is_refused() {
    for door in &DOORS {
        let (http, upstream, scene) = set(door).await;
        for (field, more) in [
            ("model", r#","model":"other""#),
            ("model", r#","mod\u0065l":"other""#),
            ("stream", r#","stream":true,"stream":false"#),
            ("stream", r#","stream":true,"\u0073tream":true"#),
            ("stream_options", r#","stream_options":{},"stream_options":{"include_usage":true}"#),
        ] {
            let answer = http.post(&scene.token, door.path, body(door, &model(&scene), more)).await;
            assert_eq!(answer.status(), 400, "{} {more}", door.path);
            let text = answer.text().await.unwrap();
            assert!(text.contains(field), "{} {more}: {text}", door.path);
        }
        assert_eq!(upstream.total_hits(), 0);
    }
    let (http, upstream, scene) = set(&DOORS[0]).await;
    let twice =
        form(&model(&scene)).replacen("--", &form("other").replace(&format!("--{BOUNDARY}--\r\n"), "--"), 1);
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let request = http.client.post(format!("{}/v1/audio/transcriptions", http.origin));
    let answer =
        request.bearer_auth(&scene.token).header("content-type", kind).body(twice).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), upstream.total_hits()), (400, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_a_provider_echoes_is_blotted_out() {
    for stream in [false, true] {
        let (http, upstream, scene) = set(&DOORS[0]).await;
        for key in &scene.keys {
            let choice = json!({"index": 0, "message": {"role": "assistant", "content": format!("Your key is {key}!")},
                "delta": {"content": format!("Your key is {key}!")}, "finish_reason": "stop"});
            let answer = json!({"id": "c", "choices": [choice]});
            let raw = if stream { Raw::events([&answer]) } else { Raw::json(&answer) };
            upstream.script(key, Script::Raw(raw));
        }
        let asked = body(&DOORS[0], &model(&scene), &format!(r#","stream":{stream}"#));
        let text = http.post(&scene.token, DOORS[0].path, asked).await.text().await.unwrap();
        assert!(text.contains("Your key is "), "{text}");
        assert!(scene.keys.iter().all(|key| !text.contains(key.as_str())), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_caller_stay_here_but_for_a_few() {
    for door in &DOORS {
        let (http, upstream, scene) = set(door).await;
        let request =
            http.client.post(format!("{}{}?trace=1", http.origin, door.path)).bearer_auth(&scene.token);
        let request = [
            ("content-type", "application/json"),
            ("cookie", "session=1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-own", "1"),
            ("openai-organization", "org-of-the-caller"),
            ("x-rota-flow", "a"),
            ("openai-beta", "assistants=v2"),
            ("anthropic-beta", "context-1m-2025-08-07"),
            ("anthropic-version", "2023-06-01"),
        ]
        .into_iter()
        .fold(request, |request, (name, value)| request.header(name, value));
        let answer = request.body(body(door, &model(&scene), "")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        let headers = last(&upstream).headers;
        for name in ["cookie", "x-forwarded-for", "x-own", "openai-organization", "x-rota-flow"] {
            assert!(!headers.contains_key(name), "{}: {name} went on", door.path);
        }
        let (on, off) = if door.kind.name == "anthropic" {
            ("anthropic-beta", "openai-beta")
        } else {
            ("openai-beta", "anthropic-beta")
        };
        assert!(headers.contains_key(on) && !headers.contains_key(off), "{}: {headers:?}", door.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn geminis_bytes_stay_as_they_are() {
    let rota = Rota::shared().await;
    let upstream = Upstream::discreet().await.unwrap();
    let scene = Scene::of_kind(rota, &kinds::GEMINI, &upstream, 2).await;
    let http = Http::of(rota).await;
    // The model stands in the path: the whole body stays.
    let asked = format!(
        "{{ {ODD} \"contents\":[{{\"parts\":[{{\"text\":\"h\\u0069\"}}]}}] ,\"generation_config\":{{}}}}"
    );
    for (method, query) in [("generateContent", ""), ("streamGenerateContent", "?alt=sse")] {
        let path = format!("/v1beta/models/{}:{method}{query}", model(&scene).replace('/', "%2F"));
        let answer = http.post(&scene.token, &path, asked.clone()).await;
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text().await.unwrap());
        let arrived = last(&upstream);
        assert_eq!(arrived.path, format!("/v1beta/models/chat:{method}"));
        assert_eq!(String::from_utf8_lossy(&arrived.raw), asked);
    }
    // As an array.
    let path = format!("/v1beta/models/{}:streamGenerateContent", model(&scene));
    let answer = http.post(&scene.token, &path, asked.clone()).await;
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("application/json"));
    let chunks: Vec<Value> = answer.json().await.unwrap();
    let text = |chunk: &Value| {
        chunk["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap_or_default().to_owned()
    };
    let text: String = chunks.iter().map(text).collect();
    assert!(scene.keys.iter().any(|key| text == format!("served by {}", named(key))), "{text}");
}
