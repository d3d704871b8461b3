//! The spans themselves: what each says, and when it ends.

use opentelemetry::{
    Array, Context, KeyValue, StringValue, Value,
    context::FutureExt,
    trace::{Status, TraceContextExt},
};
use std::time::Duration;

/// Codes of gRPC that are the server's fault. The others are answers like any other.
const SERVER_ERRORS: [&str; 6] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];
/// The most characters of a provider's word in a span.
const MAX_WORD: usize = 256;
/// The most finish reasons of a stream's choices in a span.
const MAX_REASONS: usize = 8;

/// The span of a call.
#[derive(Default)]
pub struct CallSpan(MaybeSpan);

impl CallSpan {
    pub(super) const fn new(span: MaybeSpan) -> Self {
        Self(span)
    }

    #[cfg(test)]
    pub(super) const fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Does this work of the call. Spans that begin in it are children of the call.
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

/// The span of a pick and of its wait for a trial, if there is one. It ends when it is dropped.
pub struct PickSpan {
    span: MaybeSpan,
    /// The latest decision.
    decision: Vec<KeyValue>,
}

impl PickSpan {
    pub(super) const fn new(span: MaybeSpan) -> Self {
        Self { span, decision: Vec::new() }
    }

    #[cfg(test)]
    pub(super) const fn is_recorded(&self) -> bool {
        self.span.is_some()
    }

    /// Does this work of the pick.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        self.span.run(work).await
    }

    /// Notes the latest decision. `picked` is the id and name of the config that serves; `alone` says whether this replica
    /// decided without Redis although it has one.
    pub fn decided(&mut self, outcome: &'static str, picked: Option<(&str, &str)>, alone: bool) {
        if !self.span.is_some() {
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
        // Not before: the library keeps every value that an attribute is given, not the last one.
        self.span.set(|| std::mem::take(&mut self.decision));
        self.span.end();
    }
}

/// The span of an attempt, until the last piece of its answer. If it is dropped before [`served`](Self::served) or
/// [`failed`](Self::failed), the caller went away.
#[derive(Default)]
pub struct AttemptSpan {
    span: MaybeSpan,
    used: Option<(u32, u32)>,
    reasons: Vec<StringValue>,
}

impl AttemptSpan {
    pub(super) const fn new(span: MaybeSpan) -> Self {
        Self { span, used: None, reasons: Vec::new() }
    }

    /// Does this work of the attempt.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        self.span.run(work).await
    }

    /// Notes when a streamed answer's first content came, counted from the start of the attempt.
    pub fn first_content(&self, after: Duration) {
        self.span.set(|| [KeyValue::new("gen_ai.response.time_to_first_chunk", after.as_secs_f64())]);
    }

    /// Notes the tokens used so far, as the provider counts them.
    pub fn used(&mut self, input: u32, output: u32) {
        self.used = Some((input, output)).filter(|used| *used != (0, 0));
    }

    /// Notes the model that answers, as the provider names it.
    pub fn model(&self, model: &str) {
        if !model.is_empty() {
            self.span.set(|| [KeyValue::new("gen_ai.response.model", short(model))]);
        }
    }

    /// Notes why the provider stopped.
    pub fn finished(&mut self, reason: &str) {
        if !reason.is_empty() && self.span.is_some() && self.reasons.len() < MAX_REASONS {
            self.reasons.push(short(reason).into());
        }
    }

    /// The attempt has served to its end.
    pub fn served(mut self) {
        self.close();
    }

    /// The attempt has failed. `class` names why; `cooldown` is the cooldown that its config got.
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
        self.span = MaybeSpan::default();
    }
}

impl Drop for AttemptSpan {
    fn drop(&mut self) {
        if self.span.is_some() {
            self.span.fail("CANCELLED");
            self.close();
        }
    }
}

/// A span that has begun, or nothing.
#[derive(Default)]
pub(super) struct MaybeSpan(Option<Context>);

impl MaybeSpan {
    pub(super) const fn of(context: Context) -> Self {
        Self(Some(context))
    }

    const fn is_some(&self) -> bool {
        self.0.is_some()
    }

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

fn short(word: &str) -> String {
    word.chars().take(MAX_WORD).collect()
}
