//! Handlers that panic, called over real gRPC through the gate.

use crate::support::{sql::sqlite_url, until};
use bytes::Bytes;
use futures::{
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt},
};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use rota::{
    api::{
        self, Door, DoorOptions, ServerOptions,
        pb::{
            CountTokensRequest, ExplainRequest, InvokeTtsRequest, InvokeTtsResponse, ListTtsVoicesRequest,
            StreamLlmRequest, StreamLlmResponse, invoke_service_client::InvokeServiceClient,
        },
    },
    catalog::{Bounds, Catalog, DatabaseOptions, MasterKeySource, NewToken, OpenOptions, Role},
    gate::{Bound, CallLimits, Connections, Drain, Gate},
    net::Port,
    provider::Networks,
    tasks::Tasks,
    telemetry::{self, Metrics, Traces},
};
use secrecy::ExposeSecret;
use std::{
    convert::Infallible,
    fs::File,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    body::Body,
    metadata::MetadataValue,
    server::NamedService,
    service::{Routes, interceptor::InterceptedService},
    transport::Endpoint,
};
use tower::Service;

/// What no caller and no log may see.
const SECRET: &str = "hunter2";

/// In the place of InvokeService: some of its calls panic.
#[derive(Clone, Default)]
struct Shaky {
    /// How many calls hold something, as a real one holds its config.
    holding: Arc<AtomicUsize>,
    go_on: Arc<Notify>,
}

/// What a call holds.
#[derive(Debug)]
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl NamedService for Shaky {
    const NAME: &'static str = "rota.v1.InvokeService";
}

impl Service<Request<Body>> for Shaky {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.holding.fetch_add(1, Ordering::SeqCst);
        let held = Held(self.holding.clone());
        let go_on = self.go_on.clone();
        let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
        assert_ne!(method, "ListTtsVoices", "{SECRET}, before there is a future");
        Box::pin(async move {
            tokio::task::yield_now().await;
            let frames: BoxStream<'static, Frame<Bytes>> = match method.as_str() {
                "Explain" => panic!("{SECRET}, held by {held:?}"),
                "StreamLlm" => message(&StreamLlmResponse::default())
                    .chain(stream::once(async move { panic!("{SECRET}, held by {held:?}") }))
                    .boxed(),
                "InvokeTts" => message(&InvokeTtsResponse::default())
                    .chain(
                        stream::once(async move { go_on.notified().await })
                            .flat_map(|()| message(&InvokeTtsResponse::default()).chain(fine())),
                    )
                    .boxed(),
                _ => stream::once(async { Frame::data(Bytes::from_static(&[0; 5])) }).chain(fine()).boxed(),
            };
            let body = Body::new(StreamBody::new(frames.map(Ok::<_, Status>)));
            Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
        })
    }
}

/// One message, as gRPC frames it.
fn message(message: &impl Message) -> BoxStream<'static, Frame<Bytes>> {
    let payload = message.encode_to_vec();
    let head = [&[0][..], &(payload.len() as u32).to_be_bytes()].concat();
    stream::iter([Frame::data([head, payload].concat().into())]).boxed()
}

/// The end of an answer.
fn fine() -> BoxStream<'static, Frame<Bytes>> {
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    stream::iter([Frame::trailers(trailers)]).boxed()
}

async fn catalog(folder: &Path) -> Catalog {
    let catalog = Catalog::open(OpenOptions {
        database_url: sqlite_url(folder),
        master_key: MasterKeySource::OwnFile(folder.join("master-key")),
        networks: Networks::Private,
        database: DatabaseOptions::default(),
        bounds: Bounds::default(),
    });
    let catalog = catalog.await.unwrap();
    catalog.migrate().await.unwrap();
    catalog
}

fn internal(status: &Status) -> bool {
    let told = format!("{status:?}");
    assert!(!told.contains(SECRET) && !told.contains("panic"), "{told}");
    (status.code(), status.message()) == (Code::Internal, "internal error")
}

// On one thread, so that its log is this test's own.
#[tokio::test]
async fn a_panic_ends_its_own_call_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let lines =
        tracing_subscriber::fmt().with_writer(Mutex::new(File::create(&log).unwrap())).with_ansi(false);
    let _log = tracing::subscriber::set_default(lines.finish());
    telemetry::log_panics();

    let catalog = catalog(folder.path()).await;
    let new = NewToken { role: Some(Role::Operator), ..NewToken::default() };
    let (_, token) = catalog.by_command_line().create_token(new).await.unwrap();
    let metrics = Arc::new(Metrics::new(10));
    let some = Bound { most: 1 << 20, each: None };
    let receive_timeout = Duration::from_secs(60);
    let limits = CallLimits {
        calls: some,
        request_bytes: some,
        connections: some,
        tenant_calls_per_second: 0,
        receive_timeout,
    };
    let gate = Gate::new(catalog, Drain::default(), limits, metrics.clone(), Traces::default());
    let shaky = Shaky::default();
    let options = DoorOptions {
        max_message_size: 1 << 20,
        send_timeout: receive_timeout,
        default_deadline: receive_timeout,
    };
    let door = Door::new(gate, Routes::new(shaky.clone()), options);
    let options = ServerOptions {
        door: options,
        max_strangers: 10,
        max_connections: 10,
        max_connection_age: receive_timeout,
        streams_per_connection: 10,
        tls: None,
    };
    let port = Port::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let tasks = Tasks::new(CancellationToken::new(), metrics.clone());
    let connections = Connections::to(port, 10, 10, None, metrics.clone(), &tasks).await.unwrap();
    let address = connections.address();
    tokio::spawn(async move { api::serve(door, &connections, &options, CancellationToken::new()).await });

    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let bearer: MetadataValue<_> = format!("Bearer {}", token.expose_secret()).parse().unwrap();
    let mut client =
        InvokeServiceClient::new(InterceptedService::new(channel, |mut request: tonic::Request<()>| {
            request.metadata_mut().insert("authorization", bearer.clone());
            Ok(request)
        }));
    // One that runs beside them, on the same connection.
    let mut beside = client.invoke_tts(InvokeTtsRequest::default()).await.unwrap().into_inner();
    assert!(beside.message().await.unwrap().is_some());

    assert!(internal(&client.list_tts_voices(ListTtsVoicesRequest::default()).await.unwrap_err()));
    assert!(internal(&client.explain(ExplainRequest::default()).await.unwrap_err()));
    let mut broken = client.stream_llm(StreamLlmRequest::default()).await.unwrap().into_inner();
    assert!(broken.message().await.unwrap().is_some());
    assert!(internal(&broken.message().await.unwrap_err()));
    client.count_tokens(CountTokensRequest::default()).await.unwrap();

    shaky.go_on.notify_one();
    assert!(beside.message().await.unwrap().is_some());
    assert!(beside.message().await.unwrap().is_none());
    // A call is over for its caller a moment before it is for the server.
    until("the end of every call", async || {
        metrics.render().contains("rota_calls_in_flight 0") && shaky.holding.load(Ordering::SeqCst) == 0
    })
    .await;
    let text = metrics.render();
    assert!(text.contains("rota_calls_in_flight 0"), "{text}");
    assert_eq!(shaky.holding.load(Ordering::SeqCst), 0);
    assert!(text.contains("rota_panics_total 3"), "{text}");
    for method in ["ListTtsVoices", "Explain", "StreamLlm"] {
        let count = format!(
            "count{{rpc_method=\"rota.v1.InvokeService/{method}\",rpc_response_status_code=\"INTERNAL\"}} 1"
        );
        assert!(text.contains(&count), "{count}\nis not in\n{text}");
    }
    let log = std::fs::read_to_string(log).unwrap();
    let panics: Vec<_> = log.lines().filter(|line| line.contains("a panic")).collect();
    assert_eq!(panics.len(), 3, "{log}");
    assert!(panics.iter().all(|line| line.contains("ERROR") && line.contains("gate/panics.rs:")), "{log}");
    assert!(!log.contains(SECRET), "{log}");
}
