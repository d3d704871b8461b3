//! Makes the calls at a steady pace, half of them unary and half streamed, and reads the state of the configs meanwhile.

use super::{
    screen::Screen,
    stage::{Authorized, FAILING, Stage, model},
    tally::{Outcome, Tally},
};
use crate::api::pb::{self, invoke_service_client::InvokeServiceClient};
use anyhow::{Result, anyhow};
use std::time::Duration;
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep_until},
};
use tonic::{Request, Status};

/// Calls a second that one can still follow with the eye.
const EASY: f64 = 19.0;
/// The least and the most time that the calls are spread over, in seconds.
const SPREAD: (f64, f64) = (7.5, 20.0);
/// Calls that begin together, so that more than one is on its way to a key when that begins to fail.
const TOGETHER: u64 = 6;
/// No more calls begin while so many are in flight.
const IN_FLIGHT: usize = 32;
/// Between two pictures.
const FRAME: Duration = Duration::from_millis(125);
/// No call of the demo may take longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// Makes the calls and shows them.
pub(super) async fn run(calls: u64, stage: &Stage, screen: &mut Screen) -> Result<Tally> {
    let spread = (calls as f64 / EASY).clamp(SPREAD.0, SPREAD.1);
    // Whole seconds, as Retry-After has.
    let limited = Duration::from_secs((spread * 0.38).round() as u64);
    let mut tally = Tally::new();
    let mut pace = interval(Duration::from_secs_f64(spread * TOGETHER as f64 / calls as f64));
    let mut frame = interval(FRAME);
    let limit_at = Instant::now() + Duration::from_secs_f64(spread / 4.0);
    let mut limit_set = false;
    let mut sent = 0;
    let mut running = JoinSet::new();
    while tally.made() < calls {
        tokio::select! {
            _ = pace.tick(), if sent < calls && running.len() < IN_FLIGHT => {
                let next = calls.min(sent + TOGETHER);
                for number in sent..next {
                    running.spawn(call(stage.invoke.clone(), number));
                }
                sent = next;
            }
            Some(ended) = running.join_next() => {
                let (streamed, outcome) = ended.map_err(|_| anyhow!("a call's task broke"))?;
                tally.count(streamed, outcome);
            }
            () = sleep_until(limit_at), if !limit_set => {
                limit_set = true;
                stage.rate_limit(limited);
                let seconds = limited.as_secs();
                tally.tell(format!("from now on the upstream answers {FAILING} with 429, for {seconds} s"));
            }
            _ = frame.tick() => look(stage, &mut tally).await?,
        }
        screen.draw(&mut tally);
    }
    look(stage, &mut tally).await?;
    Ok(tally)
}

/// Reads who is cooling down.
async fn look(stage: &Stage, tally: &mut Tally) -> Result<()> {
    let request = pb::GetLoadBalancingConfigsRequest {
        key: Some(model()),
        ..pb::GetLoadBalancingConfigsRequest::default()
    };
    let hits = stage.hits();
    let answer = stage.config.clone().get_load_balancing_configs(request).await?.into_inner();
    tally.see(&answer.configs, hits);
    Ok(())
}

/// Every second call is streamed, less one in ten, so that no key gets one kind alone.
async fn call(client: InvokeServiceClient<Authorized>, number: u64) -> (bool, Outcome) {
    let streamed = number % 2 == (number / 10) % 2;
    (streamed, if streamed { stream(client).await } else { unary(client).await })
}

async fn unary(mut client: InvokeServiceClient<Authorized>) -> Outcome {
    let request = pb::InvokeLlmRequest {
        key: Some(model()),
        messages: vec![question()],
        ..pb::InvokeLlmRequest::default()
    };
    let answer = client.invoke_llm(within_deadline(request)).await?.into_inner();
    route(answer.route, answer.message.is_some_and(|message| !message.content.is_empty()))
}

async fn stream(mut client: InvokeServiceClient<Authorized>) -> Outcome {
    let request = pb::StreamLlmRequest {
        key: Some(model()),
        messages: vec![question()],
        ..pb::StreamLlmRequest::default()
    };
    let mut answer = client.stream_llm(within_deadline(request)).await?.into_inner();
    let (mut way, mut text) = (None, false);
    while let Some(piece) = answer.message().await? {
        way = way.or(piece.route);
        text |= piece.delta.is_some_and(|delta| !delta.content.is_empty());
    }
    route(way, text)
}

/// An answer without a text, or one that does not say who gave it, is none.
fn route(route: Option<pb::Route>, text: bool) -> Outcome {
    route.filter(|_| text).ok_or_else(|| Status::data_loss("the answer was not complete"))
}

fn question() -> pb::Message {
    pb::Message { role: "user".into(), content: "Who is on duty?".into(), ..pb::Message::default() }
}

fn within_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}
