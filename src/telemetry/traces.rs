//! The spans of a call: one for the call, one for each pick, one for each attempt. Names and attributes follow
//! OpenTelemetry's conventions for RPC and generative AI where these have one. The others begin with `rota.`.
//!
//! If nothing is exported, or a call is not sampled, its spans do nothing: no clock is read and no text is built. No span
//! holds what callers and models say, a provider's error text, a credential or a whole URL.

mod caller;
mod spans;

pub use spans::{AttemptSpan, CallSpan, PickSpan};

use super::{
    metrics::operation,
    otlp::{SpanQueue, TraceOptions},
};
use crate::tasks::Tasks;
use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanBuilder, SpanKind, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider, SpanLimits},
};
use spans::MaybeSpan;
use std::borrow::Cow;

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
#[error("--otlp-endpoint cannot be used: {0}")]
pub struct TraceError(#[from] tonic::transport::Error);

/// Begins spans. The default begins none. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces(Option<Exporting>);

#[derive(Clone)]
struct Exporting {
    tracer: SdkTracer,
    queue: SpanQueue,
}

/// What the span of an attempt at a provider says.
pub struct AttemptFacts<'a> {
    /// The tenant's id.
    pub tenant: &'a str,
    /// The tenant's name for the provider.
    pub provider: &'a str,
    /// OpenTelemetry's name for the kind of provider (`gen_ai.provider.name`).
    pub kind: &'static str,
    /// What the model does, as `llm`.
    pub model_type: &'static str,
    /// The model's name.
    pub model: &'a str,
    /// The model's name as the provider knows it.
    pub upstream_model: &'a str,
    /// The config's id.
    pub config_id: &'a str,
    /// Its name.
    pub config_name: &'a str,
    /// The provider's host.
    pub host: Option<&'a str>,
    /// Its port.
    pub port: Option<u16>,
    /// Which attempt of the call: the first is 1.
    pub number: usize,
    /// Whether the answer is streamed.
    pub streamed: bool,
}

impl Traces {
    /// Starts to export spans under the id of this replica.
    ///
    /// # Errors
    /// If the collector's address is malformed, or TLS is not available.
    pub fn start(options: &TraceOptions, replica: &str, tasks: &Tasks) -> Result<Self, TraceError> {
        // Everything is set here: the library reads what is left open from `OTEL_*` variables.
        let resource = Resource::builder_empty()
            .with_service_name("rota")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", replica.to_owned()))
            .build();
        let queue = SpanQueue::start(options, &resource, tasks)?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(options.sample))))
            .with_span_limits(SpanLimits::default())
            .with_span_processor(queue.clone())
            .build();
        Ok(Self(Some(Exporting { tracer: provider.tracer("rota"), queue })))
    }

    /// The span of a call that has arrived. It is a child of the caller's span if `headers` name one.
    #[must_use]
    pub fn call(&self, method: &'static str, headers: &HeaderMap) -> CallSpan {
        let Some(exporting) = &self.0 else { return CallSpan::default() };
        let attributes = vec![KeyValue::new("rpc.system.name", "grpc"), KeyValue::new("rpc.method", method)];
        let builder = SpanBuilder::from_name(method).with_kind(SpanKind::Server).with_attributes(attributes);
        let parent = caller::context(headers);
        let span = exporting.tracer.build_with_context(builder, &parent);
        CallSpan::new(MaybeSpan::of(parent.with_span(span)))
    }

    /// The span of a question to the state store: who serves next?
    #[must_use]
    pub fn pick(&self) -> PickSpan {
        let span = self.child(|| SpanBuilder::from_name("pick").with_kind(SpanKind::Internal));
        PickSpan::new(span)
    }

    /// The span of an attempt at a provider.
    #[must_use]
    pub fn attempt(&self, facts: &AttemptFacts<'_>) -> AttemptSpan {
        let span = self.child(|| {
            let operation = operation(facts.model_type);
            let name: Cow<'static, str> = format!("{operation} {}", facts.model).into();
            let mut attributes = vec![
                KeyValue::new("gen_ai.operation.name", operation),
                KeyValue::new("gen_ai.provider.name", facts.kind),
                KeyValue::new("gen_ai.request.model", facts.model.to_owned()),
                KeyValue::new("rota.provider", facts.provider.to_owned()),
                KeyValue::new("rota.tenant.id", facts.tenant.to_owned()),
                KeyValue::new("rota.config.id", facts.config_id.to_owned()),
                KeyValue::new("rota.config.name", facts.config_name.to_owned()),
                KeyValue::new("rota.attempt.number", facts.number as i64),
            ];
            if facts.upstream_model != facts.model {
                attributes.push(KeyValue::new("rota.upstream_model", facts.upstream_model.to_owned()));
            }
            if let Some(host) = facts.host {
                attributes.push(KeyValue::new("server.address", host.to_owned()));
                attributes.extend(facts.port.map(|port| KeyValue::new("server.port", i64::from(port))));
            }
            if facts.streamed {
                attributes.push(KeyValue::new("gen_ai.request.stream", true));
            }
            SpanBuilder::from_name(name).with_kind(SpanKind::Client).with_attributes(attributes)
        });
        AttemptSpan::new(span)
    }

    /// Sends the spans that wait, for at most 1.5 seconds.
    pub async fn flush(&self) {
        if let Some(exporting) = &self.0 {
            exporting.queue.flush().await;
        }
    }

    /// A child span of the call that is being served, if that one is sampled.
    fn child(&self, builder: impl FnOnce() -> SpanBuilder) -> MaybeSpan {
        let Some(exporting) = &self.0 else { return MaybeSpan::default() };
        if !Context::map_current(|call| call.span().span_context().is_sampled()) {
            return MaybeSpan::default();
        }
        MaybeSpan::of(Context::current_with_span(exporting.tracer.build(builder())))
    }
}

/// The ids of the trace and the span that are being worked on, if there are any.
pub(super) fn current() -> Option<(String, String)> {
    Context::map_current(|context| {
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid().then(|| (ids.trace_id().to_string(), ids.span_id().to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_exported_there_are_no_spans() {
        let traces = Traces::default();
        assert!(!traces.call("rota.v1.InvokeService/InvokeLlm", &HeaderMap::new()).is_recorded());
        assert!(!traces.pick().is_recorded());
    }
}
