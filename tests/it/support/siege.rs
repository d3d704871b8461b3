//! A service that is attacked, beside a client that means well: all of that one's calls succeed, on new connections too,
//! and what the attack took comes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rota::{api::pb::invoke_service_client::InvokeServiceClient, scripted::Upstream};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tonic::{Request, transport::Endpoint};

use super::{eventually, rota::Rota, wire, world::Scene};

/// Longer than anything here may hold a connection: a peer is pinged after 30 s and given up after 20 more.
pub const GIVEN_UP: Duration = Duration::from_secs(90);
/// How long a call may take beside an attack, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much memory an attack may leave behind, in KiB.
pub const ROOM: u64 = 96 << 10;

/// See the module's documentation.
pub struct Siege {
    pub rota: Rota,
    pub scene: Scene,
    _upstream: Upstream,
    stop: Arc<AtomicBool>,
    caller: JoinHandle<(usize, Duration)>,
    descriptors: Option<usize>,
    /// Its resident memory before, in KiB.
    pub resident: Option<u64>,
}

impl Siege {
    /// With those settings.
    pub async fn set(args: &[&str]) -> Self {
        let upstream = Upstream::start().await.unwrap();
        let rota = args.iter().fold(Rota::builder(), |builder, arg| builder.arg(*arg)).start().await;
        let scene = Scene::set(&rota, &upstream, 2).await;
        let stop = Arc::new(AtomicBool::new(false));
        scene.ask().await.unwrap();
        let (descriptors, resident) = (rota.descriptors(), rota.resident());
        let caller = tokio::spawn(call_on(rota.address().to_owned(), scene.clone(), stop.clone()));
        Self { rota, scene, _upstream: upstream, stop, caller, descriptors, resident }
    }

    pub fn address(&self) -> &str {
        self.rota.address()
    }

    /// Headers of a call that the scene may make.
    pub fn headers(&self, flags: u8, stream: u32) -> Vec<u8> {
        let block = wire::call(self.address(), "InvokeService/InvokeLlm", &self.scene.token);
        wire::frame(wire::HEADERS, flags, stream, &block)
    }

    /// Ends the client that means well; what was taken must have come back then.
    pub async fn recovers(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (calls, slowest) = self.caller.await.expect("a call of the client that means well has failed");
        assert!(calls >= 2, "{calls} calls");
        assert!(slowest < PATIENCE, "a call took {slowest:?}");
        self.scene.ask().await.unwrap();
        eventually(GIVEN_UP, async || {
            let (now, before) = (self.rota.descriptors(), self.descriptors);
            // Connections to the provider and the database come and go.
            if now > before.map(|before| before + 10) {
                return Err(format!("{now:?} descriptors, {before:?} before"));
            }
            let text = self.rota.metrics().await;
            if text.contains("rota_calls_in_flight 0\n") { Ok(()) } else { Err(text) }
        })
        .await;
        let (now, before) = (self.rota.resident(), self.resident);
        assert!(now <= before.map(|before| before + ROOM), "{now:?} KiB resident, {before:?} before");
    }
}

/// Calls, on a standing connection and on a new one, until it is told to stop: how often, and how long the slowest took.
async fn call_on(address: String, scene: Scene, stop: Arc<AtomicBool>) -> (usize, Duration) {
    let (mut calls, mut slowest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        timeout(PATIENCE, scene.ask()).await.expect("no answer").unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = timeout(PATIENCE, endpoint.connect()).await.expect("no connection").unwrap();
        let mut request = Request::new(scene.request());
        request.metadata_mut().insert("authorization", format!("Bearer {}", scene.token).parse().unwrap());
        let mut client = InvokeServiceClient::new(channel);
        let call = client.invoke_llm(request);
        drop(timeout(PATIENCE, call).await.expect("no answer").unwrap());
        calls += 2;
        slowest = slowest.max(began.elapsed());
        sleep(Duration::from_millis(100)).await;
    }
    (calls, slowest)
}
