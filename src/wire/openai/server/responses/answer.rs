//! The answer: as a whole, or as the events of a stream.

use super::{
    super::error,
    field::field,
    passed::{self, Passed},
    pieces::pieces,
    request::Echo,
    told::{Items, Pen, frame},
};
use crate::wire::{ChatEvent, ErrorReport, Output, Stamp, TokenUsage, WriteAnswer};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json};

/// Writes the answer to one request.
#[derive(Default)]
pub(super) struct Writer {
    /// What the answer says of its request.
    echo: Map<String, Value>,
    items: Items,
    /// What the answer says about itself.
    id: String,
    created: u64,
    model: String,
    service_tier: String,
    finish_reason: String,
    usage: Option<TokenUsage>,
    /// The number of the next event.
    sequence: u64,
    /// Whether the stream has begun.
    begun: bool,
    /// Whether it has ended.
    ended: bool,
}

impl Writer {
    pub(super) fn new(echo: Echo) -> Self {
        Self { echo: echo.into_fields(), ..Self::default() }
    }

    fn stamp(&mut self, stamp: &Stamp) {
        if self.id.is_empty() {
            self.id = format!("resp_{}", stamp.id);
            self.created = stamp.created;
            self.items.of(&stamp.id);
        }
        if self.model.is_empty() {
            self.model.clone_from(&stamp.model);
        }
    }

    /// Takes what an event says, and tells its pieces.
    fn tell(&mut self, mut event: ChatEvent, pen: &mut Pen<'_>) {
        if let Some(head) = event.rare.as_mut().map(|rare| std::mem::take(&mut rare.head)) {
            for (own, said) in [(&mut self.model, head.model), (&mut self.service_tier, head.service_tier)] {
                if !said.is_empty() {
                    *own = said;
                }
            }
        }
        if let Some(usage) = event.usage.take() {
            self.usage.get_or_insert_default().update(usage);
        }
        // A response is one answer alone.
        if event.index != 0 {
            return;
        }
        if !event.finish_reason.is_empty() {
            self.finish_reason = std::mem::take(&mut event.finish_reason);
        }
        self.begin(pen);
        for piece in pieces(event) {
            self.items.take(piece, pen);
        }
    }

    fn begin(&mut self, pen: &mut Pen<'_>) {
        if !std::mem::replace(&mut self.begun, true) {
            for name in ["response.created", "response.in_progress"] {
                pen.send(name, Told { response: self.response("in_progress", None) });
            }
        }
    }

    /// Why it is incomplete, where it is.
    fn cut(&self) -> Option<&'static str> {
        match self.finish_reason.as_str() {
            _ if self.items.is_full() => Some("max_output_tokens"),
            "length" => Some("max_output_tokens"),
            "content_filter" => Some("content_filter"),
            _ => None,
        }
    }

    fn status(&self) -> &'static str {
        if self.cut().is_some() { "incomplete" } else { "completed" }
    }

    fn response<'w>(&'w self, status: &'w str, error: Option<Value>) -> Response<'w> {
        Response { writer: self, status, error }
    }
}

/// What an event of the response as a whole says.
#[derive(Serialize)]
struct Told<'w> {
    response: Response<'w>,
}

/// The response as far as it has come (API reference, "The response object").
struct Response<'w> {
    writer: &'w Writer,
    status: &'w str,
    error: Option<Value>,
}

impl Serialize for Response<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Writer { id, created, model, service_tier, items, usage, echo, .. } = self.writer;
        let details = self.writer.cut().filter(|_| self.status == "incomplete");
        let mut response = serializer.serialize_map(None)?;
        response.serialize_entry("id", id)?;
        response.serialize_entry("object", "response")?;
        response.serialize_entry("created_at", created)?;
        response.serialize_entry("status", self.status)?;
        response.serialize_entry("background", &false)?;
        response.serialize_entry("error", &self.error)?;
        response.serialize_entry("incomplete_details", &details.map(|reason| json!({ "reason": reason })))?;
        response.serialize_entry("model", model)?;
        response.serialize_entry("output", items.output())?;
        response.serialize_entry("previous_response_id", &())?;
        let tier = if service_tier.is_empty() { "default" } else { service_tier };
        response.serialize_entry("service_tier", tier)?;
        // It is kept nowhere.
        response.serialize_entry("store", &false)?;
        response.serialize_entry("truncation", "disabled")?;
        response.serialize_entry("usage", &usage.as_ref().map(counts))?;
        for (name, value) in echo {
            response.serialize_entry(name, value)?;
        }
        response.end()
    }
}

fn counts(usage: &TokenUsage) -> Value {
    json!({
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    })
}

impl WriteAnswer for Writer {
    fn whole(&mut self, stamp: &Stamp, output: Output) -> Vec<u8> {
        self.stamp(stamp);
        let mut pen = Pen::silent();
        if let Output::Chat(reply) = output {
            for event in reply.into_events() {
                self.tell(event, &mut pen);
            }
        }
        self.items.finish(self.cut().is_some(), &mut pen);
        serde_json::to_vec(&self.response(self.status(), None)).unwrap_or_default()
    }

    fn event(&mut self, stamp: &Stamp, event: ChatEvent, out: &mut Vec<u8>) {
        self.stamp(stamp);
        let mut pen = Pen::new(out, self.sequence);
        self.tell(event, &mut pen);
        self.sequence = pen.sequence;
    }

    fn heard(&mut self, event: &ChatEvent) {
        self.tell(event.clone(), &mut Pen::silent());
    }

    fn frame(&mut self, name: &str, data: &[u8], out: &mut Vec<u8>) {
        let Passed { name, sequence, response, item, is_end } = passed::note(name, data);
        self.begun = true;
        self.ended |= is_end;
        self.sequence = sequence.unwrap_or(self.sequence).saturating_add(1);
        if let Some((id, created)) = response {
            self.items.of(id.strip_prefix("resp_").unwrap_or(&id));
            (self.id, self.created) = (id, created);
        }
        if let Some((place, id)) = item {
            self.items.adopt(place, id);
        }
        frame(&name, data, out);
    }

    fn end(&mut self, stamp: &Stamp, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.stamp(stamp);
        let mut pen = Pen::new(out, self.sequence);
        self.begin(&mut pen);
        self.items.finish(self.cut().is_some(), &mut pen);
        let status = self.status();
        pen.send(&format!("response.{status}"), Told { response: self.response(status, None) });
        self.sequence = pen.sequence;
    }

    /// OpenAI's own streams end with both events. Its clients raise an exception for the first, where it has an `error`
    /// (<https://github.com/openai/openai-python/blob/main/src/openai/_streaming.py>); others wait for the second
    /// (<https://github.com/router-for-me/CLIProxyAPI/pull/4683>).
    fn error(&mut self, stamp: &Stamp, report: &ErrorReport, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.stamp(stamp);
        let mut pen = Pen::new(out, self.sequence);
        let report = &ErrorReport { field: field(&report.field), ..report.clone() };
        let error = error::error(report);
        let mut body = error.clone();
        if let Some(body) = body.as_object_mut() {
            // The event's own type stands there.
            body.shift_remove("type");
            body.insert("error".to_owned(), error);
        }
        pen.send("error", body);
        let error = json!({"code": error::code(report), "message": report.message});
        pen.send("response.failed", Told { response: self.response("failed", Some(error)) });
        self.sequence = pen.sequence;
    }

    fn keep_alive(&self) -> &'static [u8] {
        b": keep-alive\n\n"
    }
}
