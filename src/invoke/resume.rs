//! Streamed chats that go on after a break: another config begins anew, or goes on from the text that came.

use super::{
    attempt::Attempt,
    call::{Call, CallMode},
    engine::Engine,
    heard::Heard,
    history::CallHistory,
    opened::Opened,
    route::Route,
    trail::Trail,
    walk::Success,
};
use crate::{
    balance::{Failure, OnBreak},
    provider::{Driver, PREFIX_KINDS, Target, takes_prefill},
    wire::{ChatEvent, ChatRequest, Content, Extra, Message},
};
use futures::{StreamExt, future::BoxFuture};
use serde_json::Map;
use std::sync::Arc;

/// Parameters with which models do not take the beginning of an answer: those of reasoning, and of a form that it must have
/// (<https://platform.claude.com/docs/en/build-with-claude/extended-thinking>,
/// <https://platform.claude.com/docs/en/build-with-claude/structured-outputs>).
const NO_PREFILL: &[&str] =
    &["thinking", "reasoning", "reasoning_effort", "response_format", "output_format", "output_config"];

/// What goes on with a stream of such events when it breaks.
pub(super) trait Resume<E>: Send {
    /// Takes note of what is passed on.
    fn hear(&mut self, event: &E);

    /// Goes on after that failure.
    ///
    /// # Errors
    /// The route with what was tried in vain.
    fn resume(
        self: Box<Self>,
        failure: Failure,
        route: Route,
    ) -> BoxFuture<'static, Result<Resumed<E>, Route>>;
}

/// A stream that has gone on.
pub(super) struct Resumed<E> {
    pub(super) opened: Opened<E>,
    pub(super) attempt: Attempt,
    pub(super) route: Route,
    /// Whether what came before is void.
    pub(super) anew: bool,
    /// For the next break.
    pub(super) again: Box<dyn Resume<E>>,
}

/// A streamed chat that may go on.
pub(super) struct ResumableChat {
    pub(super) engine: Arc<Engine>,
    pub(super) call: Call,
    pub(super) request: Box<ChatRequest>,
    pub(super) trail: Trail,
    pub(super) heard: Heard,
}

impl Resume<ChatEvent> for ResumableChat {
    fn hear(&mut self, event: &ChatEvent) {
        self.heard.hear(event);
    }

    fn resume(
        self: Box<Self>,
        failure: Failure,
        route: Route,
    ) -> BoxFuture<'static, Result<Resumed<ChatEvent>, Route>> {
        Box::pin((*self).go_on(failure, route))
    }
}

impl ResumableChat {
    async fn go_on(mut self, failure: Failure, route: Route) -> Result<Resumed<ChatEvent>, Route> {
        let how = self.call.on_break;
        let Some(pool) = self.call.chain.get(self.trail.place).cloned() else { return Err(route) };
        let (bound, made) = (self.call.max_attempts, self.trail.attempts);
        let may_go_on = failure.class.moves_on()
            && !(bound > 0 && made >= bound)
            && self.engine.latencies.allow(pool.roster.id, CallMode::Streaming, self.call.left());
        let Some(plan) = self.plan(how).filter(|_| may_go_on) else { return Err(route) };
        if plan.prefilled.is_some() {
            let engine = &self.engine;
            self.trail.leave_out(&self.call.chain, |pool, index| {
                let knows = engine.driver(pool).is_ok();
                !(knows
                    && pool.members.get(index).is_some_and(|member| takes_prefill(pool.kind, &member.target)))
            });
        }
        if !(self.trail.is_member_left(&self.call.chain, 0)
            && self.engine.budgets.allow(pool.roster.id, failure.class))
        {
            return Err(route);
        }
        let Self { engine, call, request, trail, mut heard } = self;
        let asked = plan.prefilled.as_deref().unwrap_or(&request);
        let open = async |driver: &dyn Driver, target: &Target| {
            Opened::at_content(driver.chat_stream(target, asked).await?).await
        };
        let history = CallHistory::resumed(route.clone(), how);
        let ask = |driver, target| -> BoxFuture<'_, _> { Box::pin(open(driver, target)) };
        let gone_on = engine.go_on(&call, CallMode::Streaming, &ask, trail, history).await;
        let Success { reply, attempt, route, trail } =
            gone_on.map_err(|error| error.route().unwrap_or(route))?;
        let anew = plan.prefilled.is_none();
        if anew {
            heard = Heard::default();
        }
        let opened = without_gap(reply, plan.gap);
        let again = Box::new(Self { engine, call, request, trail, heard });
        Ok(Resumed { opened, attempt, route, anew, again })
    }

    /// How to go on, where that may be.
    fn plan(&self, how: OnBreak) -> Option<Plan> {
        match how {
            OnBreak::Fail => None,
            OnBreak::Restart => {
                self.heard.may_be_void().then(|| Plan { prefilled: None, gap: String::new() })
            }
            OnBreak::Continue => {
                let refused = |name: &&str| {
                    self.request.parameters.contains_key(*name)
                        || self.request.extra.fields.contains_key(*name)
                };
                if NO_PREFILL.iter().any(refused) {
                    return None;
                }
                let text = self.heard.plain_text()?;
                // Anthropic refuses an answer whose beginning ends in blanks.
                let begun = text.trim_end();
                let gap = text.get(begun.len()..).unwrap_or_default().to_owned();
                Some(Plan { prefilled: Some(prefilled(&self.request, begun)), gap })
            }
        }
    }
}

/// How a chat goes on.
struct Plan {
    /// The request with the text that came. None where it begins anew.
    prefilled: Option<Box<ChatRequest>>,
    /// The blanks at the text's end, which were left out.
    gap: String,
}

/// The request with the beginning of its answer. Where it has one already, the text goes on from that.
fn prefilled(request: &ChatRequest, begun: &str) -> Box<ChatRequest> {
    let mut request = Box::new(request.clone());
    if begun.is_empty() {
        return request;
    }
    if let Some(Message { role, content: Content::Text(text), .. }) = request.messages.last_mut()
        && role == "assistant"
    {
        text.push_str(begun);
        return request;
    }
    let prefix = Map::from_iter([("prefix".to_owned(), true.into())]).into();
    let kinds = PREFIX_KINDS.iter().map(|kind| (*kind).to_owned()).collect();
    request.messages.push(Message {
        role: "assistant".to_owned(),
        content: Content::Text(begun.to_owned()),
        extra: Extra { fields: prefix, kinds },
        ..Message::default()
    });
    request
}

/// Takes from the beginning of a stream the blanks that have been passed on before.
fn without_gap(opened: Opened<ChatEvent>, mut gap: String) -> Opened<ChatEvent> {
    if gap.is_empty() {
        return opened;
    }
    let Opened { first, rest } = opened;
    let mut take = move |mut event: ChatEvent| {
        let common = event.content.bytes().zip(gap.bytes()).take_while(|(one, other)| one == other).count();
        // Blanks are few sorts of characters: where they differ in the middle of one, the whole of it stays.
        let common = (0..=common).rev().find(|&end| gap.is_char_boundary(end)).unwrap_or_default();
        let ends = common < event.content.len();
        event.content.drain(..common);
        gap.drain(..common);
        if ends {
            gap.clear();
        }
        event
    };
    let first = first.map(&mut take);
    Opened { first, rest: rest.map(move |event| event.map(&mut take)).boxed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn blanks_that_were_passed_on_do_not_come_twice() {
        for (gap, pieces, expected) in [
            (" ", [" on", " and on"], "on and on"),
            (" ", ["on", " and on"], "on and on"),
            ("\n\n", ["\n", "\n  on"], "  on"),
            ("\n", ["\n\n", "on"], "\non"),
            ("\u{3000}", ["\u{2003}", "on"], "\u{2003}on"),
        ] {
            let event = |content: &str| ChatEvent { content: content.to_owned(), ..ChatEvent::default() };
            let [first, second] = pieces.map(event);
            let rest = futures::stream::iter([Ok(second)]).boxed();
            let opened = without_gap(Opened { first: Some(first), rest }, gap.to_owned());
            let mut text = opened.first.unwrap().content;
            for event in opened.rest.collect::<Vec<_>>().await {
                text.push_str(&event.unwrap().content);
            }
            assert_eq!(text, expected, "{gap:?} {pieces:?}");
        }
    }
}
