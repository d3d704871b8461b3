//! Sends finished spans to a collector over OTLP, in a task of its own.
//!
//! No call waits for it. Spans wait in a bounded queue and are dropped if it is full. A collector that is away or hangs
//! costs the spans of that time and nothing else. The log says once that it is away and once that it is back.
//!
//! The queue is ours and not the SDK's `BatchSpanProcessor`: that one keeps its count of dropped spans to itself, and its
//! thread blocks on each export and on shutdown.

use crate::tasks::{Task, Tasks};
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
    sync::{Mutex, mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Error};

/// What is exported, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceOptions {
    /// The collector: `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoint: String,
    /// The share of calls that are sampled, from 0 to 1, if the caller does not say.
    pub sample: f64,
}

/// The most spans that wait: some megabytes.
const QUEUE: usize = 2048;
/// The most spans in one request.
const BATCH: usize = 512;
/// How long the first span of a batch waits for more.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// A collector that takes longer counts as away.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a shutdown waits for the last spans to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(1500);
/// The most characters of a collector's message in the log.
const MAX_MESSAGE: usize = 200;

/// The spans that have ended and are not yet sent. Cheap to clone; the task ends with the last clone.
#[derive(Debug, Clone)]
pub(super) struct SpanQueue {
    items: mpsc::Sender<Item>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Item {
    Span(Box<SpanData>),
    /// Answer when all before it is sent.
    Flush(oneshot::Sender<()>),
}

impl SpanQueue {
    /// Starts the task. It connects when there is something to send.
    pub(super) fn start(options: &TraceOptions, resource: &Resource, tasks: &Tasks) -> Result<Self, Error> {
        let mut endpoint = Endpoint::from_shared(options.endpoint.clone())?.connect_timeout(EXPORT_TIMEOUT);
        if endpoint.uri().scheme_str() == Some("https") {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
        }
        let (items, inbox) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let client = TraceServiceClient::new(endpoint.connect_lazy());
        let exporter =
            Exporter { endpoint, client, resource: resource.into(), dropped: dropped.clone(), away: false };
        // Kept where one that panics leaves them: with the spans that wait.
        let kept = Arc::new(Mutex::new((exporter, inbox)));
        tasks.spawn(Task::TraceExport, move |_| {
            let kept = kept.clone();
            async move {
                let (exporter, inbox) = &mut *kept.lock().await;
                exporter.run(inbox).await;
            }
        });
        Ok(Self { items, dropped })
    }

    /// Sends the spans that wait, as far as that goes in [`FLUSH_TIMEOUT`].
    pub(super) async fn flush(&self) {
        let sent = async {
            let (done, sent) = oneshot::channel();
            if self.items.send(Item::Flush(done)).await.is_ok() {
                let _ = sent.await;
            }
        };
        if timeout(FLUSH_TIMEOUT, sent).await.is_err() {
            tracing::warn!("the last traces were not taken in time: they are dropped");
        }
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.items.try_send(Item::Span(Box::new(span))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    // Both would have to block. `flush` takes their place.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _limit: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The task that sends.
struct Exporter {
    endpoint: Endpoint,
    client: TraceServiceClient<Channel>,
    resource: ResourceAttributesWithSchema,
    dropped: Arc<AtomicU64>,
    away: bool,
}

impl Exporter {
    async fn run(&mut self, inbox: &mut mpsc::Receiver<Item>) {
        while let Some(first) = inbox.recv().await {
            let due = Instant::now() + FLUSH_INTERVAL;
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
                self.export(batch).await;
            }
            if let Some(done) = flushed {
                let _ = done.send(());
            }
        }
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        let problem = self.send(batch).await.err();
        if let Some(reason) = problem {
            self.dropped.fetch_add(count, Ordering::Relaxed);
            // Otherwise a connection that never answers would be used for minutes.
            self.client = TraceServiceClient::new(self.endpoint.connect_lazy());
            if !std::mem::replace(&mut self.away, true) {
                tracing::warn!(reason, "the trace collector is away: traces are dropped");
            }
        } else if std::mem::take(&mut self.away) {
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            tracing::info!(dropped, "the trace collector is back");
        }
    }

    /// # Errors
    /// Why the collector did not take the batch.
    async fn send(&mut self, batch: Vec<SpanData>) -> Result<(), String> {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let request = ExportTraceServiceRequest { resource_spans };
        let said = |message: &str| message.chars().take(MAX_MESSAGE).collect::<String>();
        match timeout(EXPORT_TIMEOUT, self.client.export(request)).await {
            Err(_) => Err(format!("no answer in {EXPORT_TIMEOUT:?}")),
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

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    #[tokio::test]
    async fn a_collector_that_hangs_costs_spans_that_are_counted_and_no_time() {
        let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", hanging.local_addr().unwrap());
        let options = TraceOptions { endpoint, sample: 1.0 };
        let queue =
            SpanQueue::start(&options, &Resource::builder_empty().build(), &Tasks::default()).unwrap();
        let provider = SdkTracerProvider::builder().with_span_processor(queue.clone()).build();
        let tracer = provider.tracer("test");
        let end = |count: usize| (0..count).for_each(|_| drop(tracer.start("span")));
        // The task takes a batch and waits for the collector. The others fill the queue.
        end(BATCH);
        while queue.items.capacity() < QUEUE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 0);
        end(QUEUE + 7);
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 7);
        let began = Instant::now();
        queue.flush().await;
        assert!(began.elapsed() < FLUSH_TIMEOUT * 2, "{:?}", began.elapsed());
    }
}
