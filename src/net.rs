//! Listening on a port: one accept loop for every listener of the process.
//!
//! When the system has no descriptors left, accepting pauses, and the log says so once. Otherwise it would take a whole core.

mod places;

pub use places::{Place, Places};

use parking_lot::Mutex;
use std::{
    io::{self, ErrorKind},
    mem,
    net::SocketAddr,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// Where the system has no descriptors left, it has none a moment later either.
const PAUSE: Duration = Duration::from_millis(50);

/// A port that is listened on. A task that serves it may fail and serve it again: the port is kept meanwhile, and clients that
/// connect wait.
pub struct Port {
    address: SocketAddr,
    /// `None` once the port is closed.
    listener: Mutex<Option<std::net::TcpListener>>,
}

impl Port {
    /// Listens on that address; port 0 is any that is free.
    ///
    /// # Errors
    /// Where the address cannot be listened on.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, listener: Mutex::new(Some(listener.into_std()?)) })
    }

    /// The address, with the port that the system gave.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections, until what is returned is dropped.
    ///
    /// # Errors
    /// Where the port is closed, or the system gives no descriptor.
    pub fn accept(&self) -> io::Result<Accept> {
        let listener = match &*self.listener.lock() {
            Some(listener) => listener.try_clone()?,
            None => return Err(ErrorKind::NotConnected.into()),
        };
        Ok(Accept { listener: TcpListener::from_std(listener)?, failing: false })
    }

    /// Stops listening, once every [`Accept`] is gone, too.
    pub fn close(&self) {
        *self.listener.lock() = None;
    }
}

/// Accepts the connections to a port.
pub struct Accept {
    listener: TcpListener,
    failing: bool,
}

impl Accept {
    /// The next connection. Dropping the future loses none.
    pub async fn next(&mut self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((tcp, _)) => {
                    self.failing = false;
                    return tcp;
                }
                // The peer's doing.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    if !mem::replace(&mut self.failing, true) {
                        tracing::warn!(%error, "cannot accept connections");
                    }
                    // The listener stays ready: asking again at once would take a whole core.
                    sleep(PAUSE).await;
                }
            }
        }
    }
}
