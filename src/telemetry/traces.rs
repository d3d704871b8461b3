//! The spans of a call: one of the call itself, one of each pick, one of each attempt. Names and attributes follow
//! OpenTelemetry's conventions for RPC and generative AI where they have one; the others begin with `rota.`.
//!
//! Where nothing is exported, or a call is not sampled, its spans are nothing: no clock is read and no text is made. No
//! span holds what callers and models say, a provider's error text, a credential or a whole URL.

use super::{
    metrics::{operation, provider_name},
    otlp::Outbox,
};
use http::HeaderMap;
use opentelemetry::{
    Array, Context, KeyValue, StringValue, Value,
    context::FutureExt,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanBuilder, SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracer, SdkTracerProvider, SpanLimits},
};
use std::{borrow::Cow, time::Duration};

/// Codes of gRPC that are the server's fault. The others are answers like any.
const SERVER_ERRORS: [&str; 6] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];
/// A caller's `tracestate` that is longer is left behind.
const LONGEST_STATE: usize = 512;
/// Of a provider's word, so many characters are told.
const LONGEST_WORD: usize = 256;
/// Of a stream's choices, so many finish reasons are told.
const MOST_REASONS: usize = 8;

/// What is exported, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceOptions {
    /// The collector: `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoint: String,
    /// The share of calls that are sampled, from 0 to 1, where the caller does not say.
    pub sample: f64,
}

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
#[error("--otlp-endpoint cannot be used: {0}")]
pub struct TraceError(#[from] tonic::transport::Error);

/// Begins spans. The default begins none. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces(Option<On>);

#[derive(Clone)]
struct On {
    tracer: SdkTracer,
    outbox: Outbox,
}

/// One attempt at a provider, as its span tells of it.
pub struct AttemptFacts<'a> {
    /// The tenant's id.
    pub tenant: &'a str,
    /// The tenant's name for the provider.
    pub provider: &'a str,
    /// The kind of provider.
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
    /// Whether the answer comes in pieces.
    pub streamed: bool,
}

impl Traces {
    /// Begins to export what is asked for, under the name of this replica.
    ///
    /// # Errors
    /// Where the collector's address is no address, or TLS cannot be had.
    pub fn start(options: &TraceOptions, replica: &str) -> Result<Self, TraceError> {
        // Everything is said here: what is left open, the library takes from the environment.
        let resource = Resource::builder_empty()
            .with_service_name("rota")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", replica.to_owned()))
            .build();
        let outbox = Outbox::open(options, &resource)?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(options.sample))))
            .with_span_limits(SpanLimits::default())
            .with_span_processor(outbox.clone())
            .build();
        Ok(Self(Some(On { tracer: provider.tracer("rota"), outbox })))
    }

    /// A call that has come in, under the caller's own span where `headers` name one.
    #[must_use]
    pub fn call(&self, method: &'static str, headers: &HeaderMap) -> CallSpan {
        let Some(on) = &self.0 else { return CallSpan::default() };
        let attributes = vec![KeyValue::new("rpc.system.name", "grpc"), KeyValue::new("rpc.method", method)];
        let builder = SpanBuilder::from_name(method).with_kind(SpanKind::Server).with_attributes(attributes);
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Caller(headers));
        let span = on.tracer.build_with_context(builder, &parent);
        CallSpan(Open(Some(parent.with_span(span))))
    }

    /// A question to the state store: who serves next?
    #[must_use]
    pub fn pick(&self) -> PickSpan {
        let span = self.open(|| SpanBuilder::from_name("pick").with_kind(SpanKind::Internal));
        PickSpan { span, decision: Vec::new() }
    }

    /// An attempt at a provider.
    #[must_use]
    pub fn attempt(&self, facts: &AttemptFacts<'_>) -> AttemptSpan {
        let span = self.open(|| {
            let operation = operation(facts.model_type);
            let name: Cow<'static, str> = format!("{operation} {}", facts.model).into();
            let mut attributes = vec![
                KeyValue::new("gen_ai.operation.name", operation),
                KeyValue::new("gen_ai.provider.name", provider_name(facts.kind)),
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
        AttemptSpan { span, used: None, reasons: Vec::new() }
    }

    /// Sends what is waiting, for at most a second and a half.
    pub async fn flush(&self) {
        if let Some(on) = &self.0 {
            on.outbox.flush().await;
        }
    }

    /// A span under the call that is being served, where that one is sampled.
    fn open(&self, builder: impl FnOnce() -> SpanBuilder) -> Open {
        let Some(on) = &self.0 else { return Open(None) };
        if !Context::map_current(|call| call.span().span_context().is_sampled()) {
            return Open(None);
        }
        Open(Some(Context::current_with_span(on.tracer.build(builder()))))
    }
}

/// The span of a call.
#[derive(Default)]
pub struct CallSpan(Open);

impl CallSpan {
    /// Does this work of the call; what begins in it belongs to the call.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        self.0.run(work).await
    }

    /// Notes whose call it is.
    pub fn of_tenant(&self, tenant: &str) {
        self.0.set(|| [KeyValue::new("rota.tenant.id", tenant.to_owned())]);
    }

    /// The call is over; `code` is the name of gRPC's code.
    pub fn end(&self, code: &'static str) {
        self.0.set(|| [KeyValue::new("rpc.response.status_code", code)]);
        if SERVER_ERRORS.contains(&code) {
            self.0.fail(code);
        }
        self.0.end();
    }
}

/// The span of a pick, with the wait for a trial where there is one. It ends when it is dropped.
pub struct PickSpan {
    span: Open,
    /// The last word.
    decision: Vec<KeyValue>,
}

impl PickSpan {
    /// Does this work of the pick.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        self.span.run(work).await
    }

    /// How it went this time; `picked` is the id and name of who serves, `alone` whether this replica has decided by
    /// itself.
    pub fn decided(&mut self, outcome: &'static str, picked: Option<(&str, &str)>, alone: bool) {
        if self.span.0.is_none() {
            return;
        }
        self.decision =
            vec![KeyValue::new("rota.pick.outcome", outcome), KeyValue::new("rota.degraded", alone)];
        if let Some((id, name)) = picked {
            self.decision.push(KeyValue::new("rota.config.id", id.to_owned()));
            self.decision.push(KeyValue::new("rota.config.name", name.to_owned()));
        }
    }
}

impl Drop for PickSpan {
    fn drop(&mut self) {
        // Only now: the library keeps every value that an attribute is given, not the last.
        self.span.set(|| std::mem::take(&mut self.decision));
        self.span.end();
    }
}

/// The span of an attempt, until the last piece of its answer. Dropped before it has been told how it ended, its caller
/// went away.
#[derive(Default)]
pub struct AttemptSpan {
    span: Open,
    used: Option<(u32, u32)>,
    reasons: Vec<StringValue>,
}

impl AttemptSpan {
    /// Does this work of the attempt.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        self.span.run(work).await
    }

    /// A streamed answer's first content has come, so long after the attempt began.
    pub fn first_content(&self, after: Duration) {
        self.span.set(|| [KeyValue::new("gen_ai.response.time_to_first_chunk", after.as_secs_f64())]);
    }

    /// The provider has told what was used so far.
    pub fn used(&mut self, input: u32, output: u32) {
        self.used = Some((input, output)).filter(|used| *used != (0, 0));
    }

    /// The provider has named the model that answers.
    pub fn model(&self, model: &str) {
        if !model.is_empty() {
            self.span.set(|| [KeyValue::new("gen_ai.response.model", short(model))]);
        }
    }

    /// The provider has said why it stopped.
    pub fn finished(&mut self, reason: &str) {
        if !reason.is_empty() && self.span.0.is_some() && self.reasons.len() < MOST_REASONS {
            self.reasons.push(short(reason).into());
        }
    }

    /// The attempt has served, to its end.
    pub fn served(mut self) {
        self.close();
    }

    /// The attempt has failed. `class` names why; `cooldown` is what its config was given.
    pub fn failed(mut self, class: &'static str, http_status: Option<u16>, cooldown: Option<Duration>) {
        self.span.set(|| {
            let status =
                http_status.map(|status| KeyValue::new("http.response.status_code", i64::from(status)));
            let cooldown = cooldown.map(|time| KeyValue::new("rota.cooldown.duration", time.as_secs_f64()));
            status.into_iter().chain(cooldown)
        });
        self.span.fail(class);
        self.close();
    }

    fn close(&mut self) {
        let reasons = std::mem::take(&mut self.reasons);
        self.span.set(|| {
            let used = self.used.map(|(input, output)| {
                [
                    KeyValue::new("gen_ai.usage.input_tokens", i64::from(input)),
                    KeyValue::new("gen_ai.usage.output_tokens", i64::from(output)),
                ]
            });
            let reasons = (!reasons.is_empty()).then(|| {
                KeyValue::new("gen_ai.response.finish_reasons", Value::Array(Array::String(reasons)))
            });
            used.into_iter().flatten().chain(reasons)
        });
        self.span.end();
        self.span = Open(None);
    }
}

impl Drop for AttemptSpan {
    fn drop(&mut self) {
        if self.span.0.is_some() {
            self.span.fail("CANCELLED");
            self.close();
        }
    }
}

/// A span that has begun, or nothing.
#[derive(Default)]
struct Open(Option<Context>);

impl Open {
    async fn run<F: Future>(&self, work: F) -> F::Output {
        match &self.0 {
            Some(context) => work.with_context(context.clone()).await,
            None => work.await,
        }
    }

    fn set<A: IntoIterator<Item = KeyValue>>(&self, attributes: impl FnOnce() -> A) {
        if let Some(context) = &self.0
            && context.span().is_recording()
        {
            context.span().set_attributes(attributes());
        }
    }

    fn fail(&self, class: &'static str) {
        self.set(|| [KeyValue::new("error.type", class)]);
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(""));
        }
    }

    fn end(&self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// The trace and the span that are being worked on, where there are any.
pub(super) fn current() -> Option<(String, String)> {
    Context::map_current(|context| {
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid().then(|| (ids.trace_id().to_string(), ids.span_id().to_string()))
    })
}

/// What a caller's metadata says of its trace.
struct Caller<'a>(&'a HeaderMap);

impl Extractor for Caller<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let mut values = self.0.get_all(key).iter();
        let value = values.next()?.to_str().ok()?;
        // Two parents are none.
        let fits = values.next().is_none() && (key != "tracestate" || value.len() <= LONGEST_STATE);
        fits.then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

fn short(word: &str) -> String {
    word.chars().take(LONGEST_WORD).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// The trace and the state that are gone on with.
    fn taken(headers: &[(&'static str, &str)]) -> Option<(String, String)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Caller(&map));
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid().then(|| (ids.trace_id().to_string(), ids.trace_state().header()))
    }

    #[test]
    fn a_callers_trace_is_gone_on_with_where_there_is_one() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let with = |state: &str| Some((trace.to_owned(), state.to_owned()));
        assert_eq!(taken(&[("traceparent", PARENT), ("tracestate", "a=1,b=2")]), with("a=1,b=2"));
        let long = format!("a={}", "1".repeat(LONGEST_STATE));
        for state in [long.as_str(), "no state", ""] {
            assert_eq!(taken(&[("traceparent", PARENT), ("tracestate", state)]), with(""), "{state}");
        }
        for parent in ["", "00-00-00-01", &PARENT.to_uppercase(), &PARENT.replace('-', "_")] {
            assert_eq!(taken(&[("traceparent", parent)]), None, "{parent}");
        }
        assert_eq!(taken(&[("traceparent", PARENT), ("traceparent", PARENT)]), None);
        assert_eq!(taken(&[("tracestate", "a=1")]), None);
    }

    #[test]
    fn where_nothing_is_exported_there_are_no_spans() {
        let traces = Traces::default();
        assert!(traces.call("rota.v1.InvokeService/InvokeLlm", &HeaderMap::new()).0.0.is_none());
        assert!(traces.pick().span.0.is_none());
    }
}
