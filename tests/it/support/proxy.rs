//! A TCP proxy that takes its time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
    time::sleep,
};

/// Passes on what comes, in both directions, after a delay that may change at any time.
pub struct Proxy {
    port: u16,
    behind: Arc<AtomicU16>,
    delay: Arc<AtomicU64>,
    server: JoinHandle<()>,
}

impl Proxy {
    /// In front of that port of 127.0.0.1, without a delay.
    pub async fn start(behind: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let delay = Arc::new(AtomicU64::new(0));
        let behind = Arc::new(AtomicU16::new(behind));
        let (shared, leads_to) = (delay.clone(), behind.clone());
        let server = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                // Where nobody listens behind, dropping it says so.
                let Ok(far) = TcpStream::connect(("127.0.0.1", leads_to.load(Ordering::Relaxed))).await
                else {
                    continue;
                };
                // Small packets of either side wait for nothing but the delay.
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(pass(near_in, far_out, shared.clone()));
                tokio::spawn(pass(far_in, near_out, shared.clone()));
            }
        });
        Self { port, behind, delay, server }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections go to that port from now on; those that are there stay where they are.
    pub fn lead_to(&self, port: u16) {
        self.behind.store(port, Ordering::Relaxed);
    }

    /// From now on everything waits for so long, each way.
    pub fn delay(&self, delay: Duration) {
        self.delay.store(delay.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Arc<AtomicU64>) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        sleep(Duration::from_millis(delay.load(Ordering::Relaxed))).await;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
