//! A collector of traces: takes what comes by OTLP over gRPC and keeps it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, Span, span::SpanKind, status::StatusCode},
};
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use super::{authority::Authority, eventually};

/// A running collector. Dropped, it is gone.
pub struct Collector {
    port: u16,
    scheme: &'static str,
    taken: Taken,
    _stop: DropGuard,
}

#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Taken {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// On a free port of 127.0.0.1.
    pub async fn start() -> Self {
        Self::at(0).await
    }

    /// On that port.
    pub async fn at(port: u16) -> Self {
        Self::serve(TcpListener::bind(("127.0.0.1", port)).await.unwrap(), None)
    }

    /// On a free port, with TLS.
    pub async fn with_tls(authority: &Authority) -> Self {
        let identity = Identity::from_pem(authority.own.pem(), authority.key.serialize_pem());
        let tls = ServerTlsConfig::new().identity(identity);
        Self::serve(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), Some(tls))
    }

    fn serve(listener: TcpListener, tls: Option<ServerTlsConfig>) -> Self {
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (taken, stop) = (Taken::default(), CancellationToken::new());
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let router = server.add_service(TraceServiceServer::new(taken.clone()));
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(router.serve_with_incoming_shutdown(TcpIncoming::from(listener), stopped));
        Self { port, scheme, taken, _stop: stop.drop_guard() }
    }

    /// What `--otlp-endpoint` is told.
    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// Everything that came, as it stood on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        self.taken.0.lock().iter().flat_map(Message::encode_to_vec).collect()
    }

    /// Everything that came.
    pub fn resources(&self) -> Vec<ResourceSpans> {
        self.taken.0.lock().iter().flat_map(|request| request.resource_spans.clone()).collect()
    }

    /// Every span that came.
    pub fn spans(&self) -> Vec<Told> {
        let scopes = self.resources().into_iter().flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).map(Told::from).collect()
    }

    /// The spans of one trace, once the one of its call has come and so many in all; the call's first, the others in the
    /// order they began.
    pub async fn trace(&self, id: &str, count: usize) -> Vec<Told> {
        eventually(Duration::from_secs(20), async || {
            let mut spans = self.spans();
            spans.retain(|span| span.trace == id);
            spans.sort_by_key(|span| (span.kind != SpanKind::Server, span.began));
            let whole = spans.len() >= count && spans.iter().any(|span| span.kind == SpanKind::Server);
            if whole { Ok(spans) } else { Err(format!("{spans:?}")) }
        })
        .await
    }
}

/// A span as tests ask for it.
#[derive(Debug, Clone)]
pub struct Told {
    pub trace: String,
    pub id: String,
    /// Empty for a root.
    pub parent: String,
    /// Its `tracestate`.
    pub state: String,
    pub name: String,
    pub kind: SpanKind,
    pub began: u64,
    pub took: Duration,
    pub failed: bool,
    attributes: HashMap<String, Value>,
}

impl From<Span> for Told {
    fn from(span: Span) -> Self {
        assert_eq!(span.dropped_attributes_count, 0, "{span:?}");
        let count = span.attributes.len();
        let attributes = attributes(&span.attributes);
        assert_eq!(attributes.len(), count, "an attribute stands twice");
        Self {
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            kind: span.kind(),
            began: span.start_time_unix_nano,
            took: Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano),
            failed: span.status.is_some_and(|status| status.code() == StatusCode::Error),
            state: span.trace_state,
            name: span.name,
            attributes,
        }
    }
}

impl Told {
    /// A text; empty where it is not told.
    pub fn text(&self, name: &str) -> &str {
        match self.attributes.get(name) {
            Some(Value::StringValue(text)) => text,
            None => "",
            other => panic!("{name} is {other:?}"),
        }
    }

    /// A whole number, where it is told.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.attributes.get(name).map(|value| match value {
            Value::IntValue(number) => *number,
            other => panic!("{name} is {other:?}"),
        })
    }

    /// A time in seconds, where it is told.
    pub fn seconds(&self, name: &str) -> Option<Duration> {
        self.attributes.get(name).map(|value| match value {
            Value::DoubleValue(seconds) => Duration::from_secs_f64(*seconds),
            other => panic!("{name} is {other:?}"),
        })
    }

    /// Yes or no; no where it is not told.
    pub fn yes(&self, name: &str) -> bool {
        matches!(self.attributes.get(name), Some(Value::BoolValue(true)))
    }

    /// Texts; none where they are not told.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        let Some(Value::ArrayValue(array)) = self.attributes.get(name) else { return Vec::new() };
        let text = |value| match value {
            &AnyValue { value: Some(Value::StringValue(ref text)) } => text.as_str(),
            other => panic!("{name} holds {other:?}"),
        };
        array.values.iter().map(text).collect()
    }
}

/// Attributes by name.
pub fn attributes(pairs: &[KeyValue]) -> HashMap<String, Value> {
    pairs.iter().filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?.value?))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
