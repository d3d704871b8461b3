//! A client of Rota.
//!
//! ```text
//! cargo run --example rust -- ask|stream|first|lookaside PROVIDER MODEL TEXT
//! ```
//!
//! `first` closes a stream after its first piece. Environment: `ROTA_REPLICAS` (`http://A:PORT,http://B:PORT`),
//! `ROTA_TOKEN`, and for TLS (`https://…`) the files `ROTA_CA`, `ROTA_CERT` and `ROTA_KEY` and the name `ROTA_NAME`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it says what it has got")]

use std::{env, error::Error, fs, future::Future, process::ExitCode, time::Duration};

use prost::Message as _;
use rota::api::pb::{
    AcquireRequest, AcquireResponse, Attempt, ErrorClass, InvokeLlmRequest, InvokeLlmResponse, Message,
    ModelKey, ModelType, Outcome, ReleaseRequest, RenewLeaseRequest, Route, StreamLlmRequest,
    StreamLlmResponse, Usage, invoke_service_client::InvokeServiceClient,
};
use serde_json::{Value, json};
use tokio::time::{Instant, interval_at, sleep, timeout};
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
use tonic_types::StatusExt;

mod connect;

use connect::{connect, replica, tls};

#[derive(Clone)]
struct Client {
    stub: InvokeServiceClient<Channel>,
    bearer: MetadataValue<Ascii>,
}

impl Client {
    // [ask]
    /// The request with the token and the deadline.
    fn request<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request.set_timeout(deadline);
        request
    }

    async fn ask(&self, key: ModelKey, text: &str, deadline: Duration) -> Result<InvokeLlmResponse, Status> {
        let messages = vec![Message { role: "user".into(), content: text.into(), ..Default::default() }];
        let request = InvokeLlmRequest { key: Some(key), messages, ..Default::default() };
        let request = self.request(request, deadline);
        Ok(within(deadline, self.stub.clone().invoke_llm(request)).await?.into_inner())
    }

    /// Whoever drops the stream tells Rota so, which tells the provider.
    async fn stream(
        &self,
        key: ModelKey,
        text: &str,
        deadline: Duration,
    ) -> Result<Streaming<StreamLlmResponse>, Status> {
        let messages = vec![Message { role: "user".into(), content: text.into(), ..Default::default() }];
        let request = StreamLlmRequest { key: Some(key), messages, ..Default::default() };
        let request = self.request(request, deadline);
        Ok(within(deadline, self.stub.clone().stream_llm(request)).await?.into_inner())
    }
    // [/ask]

    // [lookaside]
    /// Calls the provider by itself: `call` returns what it got and how many tokens that took, or what became of it.
    async fn lookaside<T, F>(
        &self,
        key: ModelKey,
        call: impl Fn(AcquireResponse) -> F,
        renew_every: Duration,
    ) -> Result<(T, AcquireResponse), Box<dyn Error>>
    where
        F: Future<Output = Result<(T, u32), Outcome>>,
    {
        let soon = Duration::from_secs(10);
        let mut stub = self.stub.clone();
        let mut exclude_config_ids = Vec::new();
        loop {
            let request = AcquireRequest {
                key: Some(key.clone()),
                exclude_config_ids: exclude_config_ids.clone(),
                ..Default::default()
            };
            let lease = within(soon, stub.acquire(self.request(request, soon))).await?.into_inner();
            let lease_id = lease.lease_id.clone();
            exclude_config_ids.push(lease.config_id.clone());
            // Whoever drops this future leaves the lease to end by itself, within 60 s.
            let result = tokio::select! {
                result = call(lease.clone()) => result,
                // The lease is over, and another call may have this turn by now.
                () = self.renew(&lease_id, renew_every) => continue,
            };
            let (answer, outcome) = match result {
                Ok((answer, total_tokens)) => {
                    let usage = Some(Usage { total_tokens, ..Default::default() });
                    (Some(answer), Outcome { http_status: 200, usage, ..Default::default() })
                }
                Err(outcome) => (None, outcome),
            };
            let refused = outcome.error_class() == ErrorClass::BadRequest;
            let request = self.request(ReleaseRequest { lease_id, outcome: Some(outcome) }, soon);
            within(soon, stub.release(request)).await?;
            match answer {
                Some(answer) => return Ok((answer, lease)),
                None if refused => return Err("the provider refuses the request itself".into()),
                None => {}
            }
        }
    }

    /// A lease ends by itself after 60 s, unless it is renewed. Returns when it is over.
    async fn renew(&self, lease_id: &str, every: Duration) {
        let mut ticks = interval_at(Instant::now() + every, every);
        loop {
            ticks.tick().await;
            let request = RenewLeaseRequest { lease_id: lease_id.to_owned() };
            let request = self.request(request, every);
            match within(every, self.stub.clone().renew_lease(request)).await {
                Err(status) if status.code() == Code::NotFound => return,
                _ => {}
            }
        }
    }
    // [/lookaside]
}

// [within]
/// The call, or DEADLINE_EXCEEDED: tonic itself waits for ever where no replica serves.
async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(limit, call).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("not in time")))
}
// [/within]

// [errors]
/// What Rota says of a call that failed. All is empty where the error is not Rota's, as when a connection broke.
struct Told {
    reason: String,
    again_in: Option<Duration>,
    attempts: Vec<Attempt>,
}

fn told(status: &Status) -> Told {
    let details = tonic_types::Status::decode(status.details()).unwrap_or_default().details;
    let route = details.iter().find(|detail| detail.type_url.ends_with("/rota.v1.Route"));
    let route = route.and_then(|detail| Route::decode(&*detail.value).ok()).unwrap_or_default();
    Told {
        reason: status.get_details_error_info().map(|info| info.reason).unwrap_or_default(),
        again_in: status.get_details_retry_info().and_then(|info| info.retry_delay),
        attempts: route.attempts,
    }
}

/// Repeats `call` when and as long as Rota says that it may help.
async fn patiently<T, F>(limit: Duration, mut call: impl FnMut(Duration) -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let end = Instant::now() + limit;
    loop {
        match call(end - Instant::now()).await {
            Err(status) => match told(&status).again_in {
                Some(again_in) if Instant::now() + again_in < end => sleep(again_in).await,
                _ => return Err(status),
            },
            answer => return answer,
        }
    }
}
// [/errors]

/// A chat completion of a provider that speaks OpenAI's protocol.
async fn ask_provider(lease: AcquireResponse) -> Result<(String, u32), Outcome> {
    let body = json!({"model": lease.upstream_model, "messages": [{"role": "user", "content": "hi"}]});
    let request = reqwest::Client::new()
        .post(format!("{}/chat/completions", lease.base_url))
        .bearer_auth(lease.credentials.get("api_key").map_or("", String::as_str))
        .timeout(Duration::from_secs(30))
        .json(&body);
    let broken = |error: reqwest::Error| {
        let class = if error.is_timeout() { ErrorClass::Timeout } else { ErrorClass::Connection };
        Outcome { error_class: class.into(), ..Default::default() }
    };
    let response = request.send().await.map_err(broken)?;
    if !response.status().is_success() {
        return Err(failure(&response));
    }
    let reply: Value = response.json().await.map_err(broken)?;
    let text = reply["choices"][0]["message"]["content"].as_str().unwrap_or_default();
    Ok((text.to_owned(), reply["usage"]["total_tokens"].as_u64().unwrap_or_default() as u32))
}

// [outcome]
/// What Rota is told of an answer that is no success.
fn failure(response: &reqwest::Response) -> Outcome {
    let class = match response.status().as_u16() {
        401 | 403 => ErrorClass::Authentication,
        402 => ErrorClass::QuotaExhausted,
        404 => ErrorClass::ModelUnavailable,
        408 => ErrorClass::Timeout,
        429 => ErrorClass::RateLimited,
        500.. => ErrorClass::ServerError,
        _ => ErrorClass::BadRequest,
    };
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|seconds| seconds.parse().ok());
    Outcome {
        error_class: class.into(),
        http_status: response.status().as_u16().into(),
        retry_after: retry_after.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        ..Default::default()
    }
}
// [/outcome]

fn way(attempts: &[Attempt]) -> String {
    let one = |attempt: &Attempt| match attempt.error_class() {
        ErrorClass::Unspecified => attempt.config_name.clone(),
        class => format!("{} {}", attempt.config_name, class.as_str_name()),
    };
    attempts.iter().map(one).collect::<Vec<_>>().join(" then ")
}

async fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [command, provider, model, text] = args.as_slice() else {
        return Err("see the head of the file".into());
    };
    let seconds = |name: &str, default: f64| {
        let given = env::var(name).ok().and_then(|value| value.parse().ok());
        Duration::from_secs_f64(given.unwrap_or(default))
    };
    let read = |name: &str| env::var(name).ok().map(fs::read).transpose();
    let own = read("ROTA_CERT")?.zip(read("ROTA_KEY")?);
    let name = env::var("ROTA_NAME").unwrap_or_else(|_| "rota".to_owned());
    let secured = read("ROTA_CA")?.map(|ca| tls(ca, &name, own));
    let urls = env::var("ROTA_REPLICAS")?;
    let replicas: Result<_, _> = urls.split(',').map(|url| replica(url, secured.clone())).collect();
    let client = Client {
        stub: InvokeServiceClient::new(connect(replicas?)).max_decoding_message_size(32 << 20),
        bearer: format!("Bearer {}", env::var("ROTA_TOKEN")?).parse()?,
    };
    let key = ModelKey {
        provider: provider.clone(),
        model_type: ModelType::Llm.into(),
        model: model.clone(),
        ..Default::default()
    };
    let deadline = seconds("DEADLINE", 60.0);
    match command.as_str() {
        "ask" => {
            let answer = patiently(deadline, |left| client.ask(key.clone(), text, left)).await?;
            let content = answer.message.unwrap_or_default().content;
            println!("answer: {content}\nway: {}", way(&answer.route.unwrap_or_default().attempts));
        }
        "stream" => {
            let mut stream = client.stream(key, text, deadline).await?;
            let (mut answer, mut route) = (String::new(), None);
            while let Some(piece) = stream.message().await? {
                answer += &piece.delta.unwrap_or_default().content;
                route = route.or(piece.route);
            }
            println!("answer: {answer}\nway: {}", way(&route.unwrap_or_default().attempts));
        }
        "first" => {
            let mut stream = client.stream(key, text, deadline).await?;
            let piece = stream.message().await?.unwrap_or_default();
            println!("answer: {}…", piece.delta.unwrap_or_default().content);
        }
        "lookaside" => {
            let (answer, lease) = client.lookaside(key, ask_provider, seconds("RENEW_EVERY", 20.0)).await?;
            println!("answer: {answer}\nway: {}", lease.config_name);
        }
        other => return Err(format!("no command {other}").into()),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run().await else { return ExitCode::SUCCESS };
    let Some(status) = error.downcast_ref::<Status>() else {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    };
    let Told { reason, again_in, attempts } = told(status);
    let again =
        again_in.map(|again| format!("\nagain in: {} s", again.as_secs_f64().round())).unwrap_or_default();
    let error = if reason.is_empty() { format!("{:?}", status.code()) } else { reason };
    eprintln!("error: {error}{again}\nway: {}", way(&attempts));
    ExitCode::FAILURE
}
