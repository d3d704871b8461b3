//! The way to an upstream, as a load balancer is one: it passes on what comes, and may forget its idle connections.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rota::scripted::Upstream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Counts of connections, and how they end.
#[derive(Default)]
struct Shared {
    made: AtomicUsize,
    open: AtomicUsize,
    forgotten: AtomicUsize,
    swallowed: AtomicUsize,
    resets: AtomicBool,
}

/// See the module's documentation.
pub struct Door {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Door {
    /// To that upstream, on a free port of 127.0.0.1.
    pub async fn to(upstream: &Upstream) -> Self {
        Self::at("127.0.0.1:0", upstream).await.unwrap()
    }

    /// The same at an address.
    pub async fn at(address: &str, upstream: &Upstream) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let (to, kept) = (upstream.origin().trim_start_matches("http://").to_owned(), shared.clone());
        let server = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                shared.made.fetch_add(1, Ordering::SeqCst);
                // Where nobody listens behind, dropping it says so.
                let Ok(far) = TcpStream::connect(&to).await else { continue };
                let shared = shared.clone();
                tokio::spawn(async move {
                    shared.open.fetch_add(1, Ordering::SeqCst);
                    let _ = pass(near, far, &shared).await;
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Ok(Self { address, shared: kept, server })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What goes into a provider's `base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Forgets the connections that have served: the next request on one is answered by its end.
    pub fn forget(&self) {
        self.shared.forgotten.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether that end is a reset.
    pub fn resets(&self, resets: bool) {
        self.shared.resets.store(resets, Ordering::SeqCst);
    }

    /// How many connections were made to it.
    pub fn made(&self) -> usize {
        self.shared.made.load(Ordering::SeqCst)
    }

    /// How many of them are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many requests came over forgotten connections.
    pub fn swallowed(&self) -> usize {
        self.shared.swallowed.load(Ordering::SeqCst)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(mut near: TcpStream, mut far: TcpStream, shared: &Shared) -> io::Result<()> {
    let born = shared.forgotten.load(Ordering::SeqCst);
    let (mut request, mut answer) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut has_served = false;
    loop {
        tokio::select! {
            count = near.read(&mut request) => match count? {
                0 => return Ok(()),
                _ if has_served && shared.forgotten.load(Ordering::SeqCst) > born => {
                    shared.swallowed.fetch_add(1, Ordering::SeqCst);
                    if shared.resets.load(Ordering::SeqCst) {
                        near.set_zero_linger()?;
                    }
                    return Ok(());
                }
                count => far.write_all(&request[..count]).await?,
            },
            count = far.read(&mut answer) => match count? {
                0 => return Ok(()),
                count => {
                    near.write_all(&answer[..count]).await?;
                    has_served = true;
                }
            },
        }
    }
}
