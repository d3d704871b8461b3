//! The load: a process apart, one thread, that calls as told and says how long it took and what it cost.

use super::{
    clock::Clock,
    measure::{Cost, redis},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rota::api::pb::{
    AcquireRequest, InvokeLlmRequest, Message, ModelKey, ModelType, ReleaseRequest, StreamLlmRequest,
    invoke_service_client::InvokeServiceClient,
};
use serde::{Deserialize, Serialize};
use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::task::LocalSet;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

/// Connections to the server; callers share them.
const CONNECTIONS: usize = 4;
/// How long callers call before anything is counted: connections, pools and caches are warm then.
const WARM_UP: Duration = Duration::from_secs(1);

/// What one call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// `InvokeLlm`.
    Unary,
    /// `StreamLlm`, read to its end.
    Stream,
    /// `Acquire` and `Release`, one after the other.
    Lease,
    /// A chat completion over HTTP/1.1, read to its end.
    Http,
}

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// `127.0.0.1:PORT`.
    pub server: String,
    /// A token, where the server wants one.
    pub token: String,
    /// The tenant whose model is called.
    pub tenant: String,
    /// The model: `chunks-N` streams N chunks.
    pub model: String,
    /// What one call is.
    pub call: Call,
    /// What goes with each request over HTTP.
    pub headers: Vec<(String, String)>,
    /// How many call at a time, each one call after the other (closed loop).
    pub callers: usize,
    /// Calls a second that come whatever becomes of those before (open loop, exponential gaps); 0: closed loop.
    pub rate: f64,
    /// How long is counted.
    pub seconds: f64,
    /// Processes whose CPU time is told.
    pub pids: Vec<u32>,
    /// The port of a Redis whose commands are counted; 0: none.
    pub redis: u16,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Calls that were answered.
    pub calls: usize,
    /// Calls that were not, and what the first one said.
    pub failures: usize,
    pub first_failure: String,
    /// Answered calls a second.
    pub rate: f64,
    /// Microseconds from a call's start (open loop: from when it was due) to its end.
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    /// CPU time of each process a call, in microseconds.
    pub cpu: Vec<f64>,
    /// Resident memory of each process at the end, in KiB.
    pub resident: Vec<u64>,
    /// CPU time of the load itself a call, in microseconds.
    pub own_cpu: f64,
    /// Scripts that Redis was sent, a call.
    pub redis_commands: f64,
    /// Redis's CPU time a call, in microseconds.
    pub redis_cpu: f64,
}

/// Does what the plan says, on this thread.
pub fn run(plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, drive(plan))
}

#[derive(Default)]
struct Tally {
    counting: bool,
    over: bool,
    took: Vec<Duration>,
    failures: usize,
    first_failure: String,
}

async fn drive(plan: &Plan) -> Outcome {
    let tally = Rc::new(RefCell::new(Tally::default()));
    let callers: Vec<Rc<Caller>> = {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(Caller::new(plan).await);
        }
        (0..plan.callers.max(CONNECTIONS)).map(|i| channels[i % CONNECTIONS].clone()).collect()
    };
    let mut tasks = Vec::new();
    if plan.rate > 0.0 {
        let (tally, rate) = (tally.clone(), plan.rate);
        tasks.push(tokio::task::spawn_local(open_loop(callers, rate, tally)));
    } else {
        for caller in callers.into_iter().take(plan.callers) {
            let tally = tally.clone();
            tasks.push(tokio::task::spawn_local(async move {
                while !tally.borrow().over {
                    let began = Instant::now();
                    let answer = caller.call().await;
                    note(&tally, began, answer);
                }
            }));
        }
    }
    tokio::time::sleep(WARM_UP).await;
    let shared = redis(plan.redis);
    let before: Vec<Cost> = plan.pids.iter().map(|&pid| Cost::of(pid)).collect();
    let own = Cost::of(std::process::id());
    let began = Instant::now();
    tally.borrow_mut().counting = true;
    tokio::time::sleep(Duration::from_secs_f64(plan.seconds)).await;
    tally.borrow_mut().counting = false;
    let lasted = began.elapsed();
    let after: Vec<Cost> = plan.pids.iter().map(|&pid| Cost::of(pid)).collect();
    let own = Cost::of(std::process::id()).cpu.saturating_sub(own.cpu);
    let (commands, cpu) = redis(plan.redis);
    let (commands, cpu) = (commands - shared.0, cpu - shared.1);
    tally.borrow_mut().over = true;
    for task in tasks {
        task.await.unwrap();
    }
    let mut tally = tally.borrow_mut();
    tally.took.sort_unstable();
    let calls = tally.took.len();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / calls.max(1) as f64;
    let quantile = |share: f64| {
        let index = ((calls as f64 * share) as usize).min(calls.saturating_sub(1));
        tally.took.get(index).map_or(0.0, |took| took.as_secs_f64() * 1e6)
    };
    Outcome {
        calls,
        failures: tally.failures,
        first_failure: tally.first_failure.clone(),
        rate: calls as f64 / lasted.as_secs_f64(),
        p50: quantile(0.5),
        p99: quantile(0.99),
        p999: quantile(0.999),
        cpu: before
            .iter()
            .zip(&after)
            .map(|(before, after)| each(after.cpu.saturating_sub(before.cpu)))
            .collect(),
        resident: after.iter().map(|cost| cost.resident).collect(),
        own_cpu: each(own),
        redis_commands: commands / calls.max(1) as f64,
        redis_cpu: cpu * 1e6 / calls.max(1) as f64,
    }
}

/// Starts calls when they are due, whatever becomes of those before.
async fn open_loop(callers: Vec<Rc<Caller>>, rate: f64, tally: Rc<RefCell<Tally>>) {
    let mut running = VecDeque::new();
    let mut clock = Clock::start(rate);
    for turn in 0.. {
        let due = clock.due().await;
        if tally.borrow().over {
            break;
        }
        let (caller, tally) = (callers[turn % callers.len()].clone(), tally.clone());
        running.push_back(tokio::task::spawn_local(async move {
            let answer = caller.call().await;
            note(&tally, due, answer);
        }));
        while running.front().is_some_and(tokio::task::JoinHandle::is_finished) {
            running.pop_front();
        }
    }
    for call in running {
        call.await.unwrap();
    }
}

fn note(tally: &Rc<RefCell<Tally>>, began: Instant, answer: Result<(), String>) {
    let mut tally = tally.borrow_mut();
    match answer {
        Ok(()) if tally.counting => tally.took.push(began.elapsed()),
        Ok(()) => {}
        Err(what) => {
            tally.failures += 1;
            if tally.failures == 1 {
                tally.first_failure = what;
            }
        }
    }
}

/// One connection, and the call that is made on it.
struct Caller {
    call: Call,
    key: ModelKey,
    grpc: InvokeServiceClient<Channel>,
    authorization: MetadataValue<Ascii>,
    http: Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>,
    url: hyper::Uri,
    headers: hyper::HeaderMap,
    body: Bytes,
}

impl Caller {
    async fn new(plan: &Plan) -> Rc<Self> {
        let url = format!("http://{}", plan.server);
        let endpoint = Endpoint::from_shared(url.clone()).unwrap().tcp_nodelay(true);
        let channel = match plan.call {
            Call::Http => endpoint.connect_lazy(),
            _ => endpoint.connect().await.unwrap(),
        };
        let mut connector = hyper_util::client::legacy::connect::HttpConnector::new();
        connector.set_nodelay(true);
        let messages = [("system", SYSTEM), ("user", USER)]
            .map(|(role, content)| serde_json::json!({ "role": role, "content": content }));
        let body = serde_json::json!({
            "model": plan.model, "messages": messages, "stream": plan.model.starts_with("chunks"),
        });
        Rc::new(Self {
            call: plan.call,
            key: ModelKey {
                tenant_id: plan.tenant.clone(),
                provider: "upstream".into(),
                model_type: ModelType::Llm.into(),
                model: plan.model.clone(),
            },
            grpc: InvokeServiceClient::new(channel),
            authorization: format!("Bearer {}", plan.token).parse().unwrap(),
            http: Client::builder(TokioExecutor::new()).build(connector),
            url: format!("{url}/v1/chat/completions").parse().unwrap(),
            headers: plan
                .headers
                .iter()
                .map(|(name, value)| {
                    (name.parse::<hyper::header::HeaderName>().unwrap(), value.parse().unwrap())
                })
                .collect(),
            body: body.to_string().into(),
        })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request
    }

    async fn call(&self) -> Result<(), String> {
        let mut grpc = self.grpc.clone();
        let said = |status: tonic::Status| format!("{:?}: {}", status.code(), status.message());
        match self.call {
            Call::Unary => {
                let request = InvokeLlmRequest {
                    key: Some(self.key.clone()),
                    messages: messages(),
                    ..InvokeLlmRequest::default()
                };
                let answer = grpc.invoke_llm(self.request(request)).await.map_err(said)?.into_inner();
                let content = answer.message.unwrap_or_default().content;
                if content.is_empty() { Err("an empty answer".into()) } else { Ok(()) }
            }
            Call::Stream => {
                let request = StreamLlmRequest {
                    key: Some(self.key.clone()),
                    messages: messages(),
                    ..StreamLlmRequest::default()
                };
                let mut stream = grpc.stream_llm(self.request(request)).await.map_err(said)?.into_inner();
                let mut finished = false;
                while let Some(message) = stream.message().await.map_err(said)? {
                    finished |= !message.finish_reason.is_empty();
                }
                if finished { Ok(()) } else { Err("a stream without its end".into()) }
            }
            Call::Lease => {
                let request = AcquireRequest { key: Some(self.key.clone()), ..AcquireRequest::default() };
                let lease = grpc.acquire(self.request(request)).await.map_err(said)?.into_inner();
                let request = ReleaseRequest { lease_id: lease.lease_id, ..ReleaseRequest::default() };
                grpc.release(self.request(request)).await.map_err(said)?;
                Ok(())
            }
            Call::Http => {
                let mut request = hyper::Request::post(self.url.clone())
                    .header("content-type", "application/json")
                    .body(Full::new(self.body.clone()))
                    .unwrap();
                request.headers_mut().extend(self.headers.clone());
                let answer = self.http.request(request).await.map_err(|error| error.to_string())?;
                let status = answer.status();
                let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
                if status.is_success() && !body.to_bytes().is_empty() {
                    Ok(())
                } else {
                    Err(status.to_string())
                }
            }
        }
    }
}

const SYSTEM: &str = "You are the assistant of a public library. Answer in one short paragraph, in plain words, and say \
                      so when you do not know. Do not invent opening hours, prices or the names of people.";
const USER: &str = "My daughter is seven and has read every book about owls that the branch on the hill has. Which \
                    three books should I ask for next, and may I order them from another branch?";

/// About 400 bytes of text, as a short question is.
fn messages() -> Vec<Message> {
    [("system", SYSTEM), ("user", USER)]
        .map(|(role, content)| Message { role: role.into(), content: content.into(), ..Message::default() })
        .into()
}
