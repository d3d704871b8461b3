//! Carries finished spans to a collector over OTLP, in a task of its own.
//!
//! No call waits for it. Spans wait in a bounded queue and are dropped where it is full; a collector that is away or
//! hangs costs the spans of that time and nothing else. The log says once that it is away and once that it is back.

use super::TraceOptions;
use opentelemetry::Context;
use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    transform::{
        common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Error};

/// So many spans wait at most: some megabytes.
const QUEUE: usize = 2048;
/// So many go at once.
const BATCH: usize = 512;
/// How long the first of a batch waits for more.
const PAUSE: Duration = Duration::from_secs(1);
/// A collector that takes longer counts as away.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a shutdown spends on what is still waiting.
const LAST_CHANCE: Duration = Duration::from_millis(1500);
/// Of what a collector says, so many characters are logged.
const SAID: usize = 200;

/// Where spans are put when they end. Cheap to clone; the task ends with its last clone.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    items: mpsc::Sender<Item>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Item {
    Span(Box<SpanData>),
    /// Say when all before is sent.
    Flush(oneshot::Sender<()>),
}

impl Outbox {
    /// Starts the task. Connects when there is something to send.
    pub(super) fn open(options: &TraceOptions, resource: &Resource) -> Result<Self, Error> {
        let mut endpoint = Endpoint::from_shared(options.endpoint.clone())?.connect_timeout(PATIENCE);
        if endpoint.uri().scheme_str() == Some("https") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
        }
        let (items, inbox) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let client = TraceServiceClient::new(endpoint.connect_lazy());
        let courier =
            Courier { endpoint, client, resource: resource.into(), dropped: dropped.clone(), away: false };
        tokio::spawn(courier.run(inbox));
        Ok(Self { items, dropped })
    }

    /// Sends what is waiting, as far as that goes in [`LAST_CHANCE`].
    pub(super) async fn flush(&self) {
        let sent = async {
            let (done, sent) = oneshot::channel();
            if self.items.send(Item::Flush(done)).await.is_ok() {
                let _ = sent.await;
            }
        };
        if timeout(LAST_CHANCE, sent).await.is_err() {
            tracing::warn!("the last traces were not taken in time: they are dropped");
        }
    }
}

impl SpanProcessor for Outbox {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.items.try_send(Item::Span(Box::new(span))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    // Both block where they do anything: see `flush`.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _limit: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The task.
struct Courier {
    endpoint: Endpoint,
    client: TraceServiceClient<Channel>,
    resource: ResourceAttributesWithSchema,
    dropped: Arc<AtomicU64>,
    away: bool,
}

impl Courier {
    async fn run(mut self, mut inbox: mpsc::Receiver<Item>) {
        while let Some(first) = inbox.recv().await {
            let due = Instant::now() + PAUSE;
            let mut batch = Vec::new();
            let mut next = Some(first);
            let mut flushed = None;
            while let Some(item) = next {
                match item {
                    Item::Span(span) => batch.push(*span),
                    Item::Flush(done) => flushed = Some(done),
                }
                let more = batch.len() < BATCH && flushed.is_none();
                next = if more { timeout_at(due, inbox.recv()).await.ok().flatten() } else { None };
            }
            if !batch.is_empty() {
                self.deliver(batch).await;
            }
            if let Some(done) = flushed {
                let _ = done.send(());
            }
        }
    }

    async fn deliver(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        let problem = self.send(batch).await.err();
        if let Some(reason) = problem {
            self.dropped.fetch_add(count, Ordering::Relaxed);
            // A connection on which nothing comes back would be taken for a good one for minutes.
            self.client = TraceServiceClient::new(self.endpoint.connect_lazy());
            if !std::mem::replace(&mut self.away, true) {
                tracing::warn!(reason, "the trace collector is away: traces are dropped");
            }
        } else if std::mem::take(&mut self.away) {
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            tracing::info!(dropped, "the trace collector is back");
        }
    }

    /// Why it was not taken, where it was not.
    async fn send(&mut self, batch: Vec<SpanData>) -> Result<(), String> {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let request = ExportTraceServiceRequest { resource_spans };
        let said = |message: &str| message.chars().take(SAID).collect::<String>();
        match timeout(PATIENCE, self.client.export(request)).await {
            Err(_) => Err(format!("no answer in {PATIENCE:?}")),
            Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), said(status.message()))),
            Ok(Ok(answer)) => match answer.into_inner().partial_success {
                Some(partly) if partly.rejected_spans > 0 => {
                    Err(format!("{} of them refused: {}", partly.rejected_spans, said(&partly.error_message)))
                }
                _ => Ok(()),
            },
        }
    }
}
