//! What Rota is measured beside: an upstream that answers at once, and the floor, a bare tonic service with the same
//! messages.

use bytes::Bytes;
use futures::{Stream, StreamExt, future::BoxFuture, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Frame, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use rota::api::pb::{
    AcquireRequest, AcquireResponse, Delta, InvokeLlmRequest, InvokeLlmResponse, Message, ReleaseRequest,
    ReleaseResponse, StreamLlmRequest, StreamLlmResponse, Usage,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, body::Body, server::Grpc};
use tonic_prost::ProstCodec;
use tower::service_fn as tower_fn;

const WORDS: &str = "Try the atlas of night birds, the story of the barn by the river, and the book about feathers; any \
                     branch orders them for you within a week.";

/// Serves chat completions at once, over HTTP/1.1, until the process ends. `"model":"chunks-N"` streams N chunks, each
/// in a write of its own.
pub async fn upstream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    say(&listener);
    let answer = Bytes::from(
        serde_json::json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "instant",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": WORDS },
                "logprobs": null, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 90, "completion_tokens": 40, "total_tokens": 130 },
            "system_fingerprint": "fp_1"
        })
        .to_string(),
    );
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let answer = answer.clone();
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    Ok::<_, hyper::Error>(reply(&body, answer))
                }
            });
            // A client that leaves ends its connection.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

fn reply(body: &[u8], answer: Bytes) -> hyper::Response<UnsyncBoxBody<Bytes, Infallible>> {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let chunks: Option<usize> = text
        .split_once("chunks-")
        .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok());
    let response = hyper::Response::builder();
    match chunks {
        None => {
            let response = response.header("content-type", "application/json");
            response.body(Full::new(answer).boxed_unsync()).unwrap()
        }
        Some(chunks) => {
            let frames = stream::iter(0..chunks + 2).then(move |place| async move {
                // The socket is written before the next one.
                tokio::task::yield_now().await;
                Ok(Frame::data(chunk(place, chunks)))
            });
            let response = response.header("content-type", "text/event-stream");
            response.body(StreamBody::new(frames).boxed_unsync()).unwrap()
        }
    }
}

fn chunk(place: usize, chunks: usize) -> Bytes {
    const HEAD: &str = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"instant","system_fingerprint":"fp_1","#;
    let text = match place {
        _ if place < chunks => format!(
            "{HEAD}\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"word{place} \"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
        ),
        _ if place == chunks => format!(
            "{HEAD}\"choices\":[{{\"index\":0,\"delta\":{{}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":90,\"completion_tokens\":{chunks},\"total_tokens\":130}}}}\n\n"
        ),
        _ => "data: [DONE]\n\n".to_owned(),
    };
    text.into()
}

/// Serves the floor until the process ends: `Acquire` and `Release` answer at once, `InvokeLlm` and `StreamLlm` call the
/// upstream at `127.0.0.1:port` with one of four keys and translate JSON both ways, or answer at once where there is no
/// port. No token is asked for, nothing is counted, kept, logged or tried again.
pub async fn floor(port: u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    say(&listener);
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let floor = Floor(Arc::new(Relay {
        http: Client::builder(TokioExecutor::new()).build(connector),
        url: (port > 0).then(|| format!("http://127.0.0.1:{port}/v1/chat/completions").parse().unwrap()),
        turn: AtomicUsize::new(0),
    }));
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder().add_service(floor).serve_with_incoming(incoming).await.unwrap();
}

fn say(listener: &TcpListener) {
    println!("listening on {}", listener.local_addr().unwrap());
}

struct Relay {
    http: Client<HttpConnector, Full<Bytes>>,
    url: Option<hyper::Uri>,
    turn: AtomicUsize,
}

#[derive(Clone)]
struct Floor(Arc<Relay>);

impl tonic::server::NamedService for Floor {
    const NAME: &'static str = "rota.v1.InvokeService";
}

impl tower::Service<http::Request<Body>> for Floor {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let relay = self.0.clone();
        Box::pin(async move {
            Ok(match request.uri().path().rsplit('/').next().unwrap_or_default() {
                "InvokeLlm" => {
                    let mut grpc = Grpc::new(ProstCodec::<InvokeLlmResponse, InvokeLlmRequest>::default());
                    let unary = move |request| {
                        let relay = relay.clone();
                        async move { relay.unary(request).await }
                    };
                    grpc.unary(tower_fn(unary), request).await
                }
                "StreamLlm" => {
                    let mut grpc = Grpc::new(ProstCodec::<StreamLlmResponse, StreamLlmRequest>::default());
                    let stream = move |request| {
                        let relay = relay.clone();
                        async move { relay.stream(request).await }
                    };
                    grpc.server_streaming(tower_fn(stream), request).await
                }
                "Acquire" => {
                    let mut grpc = Grpc::new(ProstCodec::<AcquireResponse, AcquireRequest>::default());
                    grpc.unary(tower_fn(acquire), request).await
                }
                _ => {
                    let mut grpc = Grpc::new(ProstCodec::<ReleaseResponse, ReleaseRequest>::default());
                    let release = async |_| Ok(Response::new(ReleaseResponse {}));
                    grpc.unary(tower_fn(move |request| Box::pin(release(request))), request).await
                }
            })
        })
    }
}

async fn acquire(request: Request<AcquireRequest>) -> Result<Response<AcquireResponse>, Status> {
    let key = request.into_inner().key.unwrap_or_default();
    Ok(Response::new(AcquireResponse {
        lease_id: "0".repeat(100),
        config_id: "01890000-0000-7000-8000-000000000000".into(),
        config_name: "config-0".into(),
        upstream_model: key.model,
        ..AcquireResponse::default()
    }))
}

#[derive(Serialize)]
struct Chat<'a> {
    model: &'a str,
    messages: Vec<Said<'a>>,
    stream: bool,
}

#[derive(Serialize)]
struct Said<'a> {
    role: &'a str,
    content: &'a str,
}

#[derive(Deserialize)]
struct Completion {
    model: Option<String>,
    choices: Vec<Choice>,
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(alias = "delta")]
    message: Words,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Words {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Counts {
    #[serde(rename = "prompt_tokens")]
    prompt: u32,
    #[serde(rename = "completion_tokens")]
    completion: u32,
    #[serde(rename = "total_tokens")]
    total: u32,
}

impl Relay {
    async fn post(
        &self,
        url: &hyper::Uri,
        model: &str,
        messages: &[Message],
        stream: bool,
    ) -> Result<hyper::body::Incoming, Status> {
        let messages = messages.iter().map(|one| Said { role: &one.role, content: &one.content }).collect();
        let body = serde_json::to_vec(&Chat { model, messages, stream }).unwrap();
        let key = self.turn.fetch_add(1, Ordering::Relaxed) % 4;
        let request = hyper::Request::post(url.clone())
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer key-{key}"))
            .body(Full::new(body.into()))
            .unwrap();
        let answer =
            self.http.request(request).await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(answer.into_body())
    }

    async fn unary(&self, request: Request<InvokeLlmRequest>) -> Result<Response<InvokeLlmResponse>, Status> {
        let request = request.into_inner();
        let model = request.key.unwrap_or_default().model;
        let Some(url) = &self.url else {
            let message = Message { role: "assistant".into(), content: WORDS.into(), ..Message::default() };
            return Ok(Response::new(InvokeLlmResponse {
                message: Some(message),
                finish_reason: "stop".into(),
                model,
                ..InvokeLlmResponse::default()
            }));
        };
        let body = self.post(url, &model, &request.messages, false).await?;
        let body = body.collect().await.map_err(|error| Status::unavailable(error.to_string()))?.to_bytes();
        let answer: Completion =
            serde_json::from_slice(&body).map_err(|error| Status::internal(error.to_string()))?;
        let choice = answer.choices.into_iter().next().ok_or_else(|| Status::internal("no choice"))?;
        let content = choice.message.content.unwrap_or_default();
        Ok(Response::new(InvokeLlmResponse {
            message: Some(Message { role: "assistant".into(), content, ..Message::default() }),
            finish_reason: choice.finish_reason.unwrap_or_default(),
            usage: answer.usage.map(usage),
            model: answer.model.unwrap_or_default(),
            ..InvokeLlmResponse::default()
        }))
    }

    async fn stream(
        &self,
        request: Request<StreamLlmRequest>,
    ) -> Result<
        Response<impl Stream<Item = Result<StreamLlmResponse, Status>> + Send + 'static + use<>>,
        Status,
    > {
        let request = request.into_inner();
        let model = request.key.unwrap_or_default().model;
        let url = self.url.as_ref().ok_or_else(|| Status::unimplemented("no upstream"))?;
        let body = self.post(url, &model, &request.messages, true).await?;
        let events =
            stream::unfold((body, Vec::new(), VecDeque::new()), |(mut body, mut held, mut ready)| async {
                loop {
                    if let Some(event) = ready.pop_front() {
                        return Some((event, (body, held, ready)));
                    }
                    let frame = match body.frame().await? {
                        Ok(frame) => frame,
                        Err(error) => {
                            return Some((Err(Status::unavailable(error.to_string())), (body, held, ready)));
                        }
                    };
                    held.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default());
                    while let Some(end) = held.windows(2).position(|two| two == b"\n\n") {
                        let event = held.drain(..end + 2).collect::<Vec<u8>>();
                        let data = event.strip_prefix(b"data: ").unwrap_or(&event).trim_ascii();
                        if data != b"[DONE]" {
                            ready.push_back(event_of(data));
                        }
                    }
                }
            });
        Ok(Response::new(events))
    }
}

fn event_of(data: &[u8]) -> Result<StreamLlmResponse, Status> {
    let chunk: Completion =
        serde_json::from_slice(data).map_err(|error| Status::internal(error.to_string()))?;
    let choice = chunk.choices.into_iter().next().ok_or_else(|| Status::internal("no choice"))?;
    Ok(StreamLlmResponse {
        delta: Some(Delta { content: choice.message.content.unwrap_or_default(), ..Delta::default() }),
        finish_reason: choice.finish_reason.unwrap_or_default(),
        usage: chunk.usage.map(usage),
        ..StreamLlmResponse::default()
    })
}

fn usage(counts: Counts) -> Usage {
    Usage {
        prompt_tokens: counts.prompt,
        completion_tokens: counts.completion,
        total_tokens: counts.total,
        ..Usage::default()
    }
}
