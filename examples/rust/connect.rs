//! Connects to several replicas and balances over those that serve.

use std::time::Duration;

use tokio::{sync::mpsc::Sender, time::sleep};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, channel::Change};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

// [connect]
/// One replica. `tls` for `https://…`.
pub fn replica(url: &str, tls: Option<ClientTlsConfig>) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(Duration::from_secs(5))
        // A connection that has died in silence is noticed within 40 s.
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    match tls {
        Some(tls) => endpoint.tls_config(tls),
        None => Ok(endpoint),
    }
}

/// A channel over those replicas that say that they serve.
pub fn connect(replicas: Vec<Endpoint>) -> Channel {
    let (channel, changes) = Channel::balance_channel(replicas.len().max(1));
    for replica in replicas {
        let changes = changes.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = follow(&replica, &changes) => {}
                // Nobody holds the channel any more.
                () = changes.closed() => {}
            }
        });
    }
    channel
}

/// Adds the replica when it says that it serves and takes it out when it says otherwise, or nothing.
async fn follow(replica: &Endpoint, changes: &Sender<Change<String, Endpoint>>) {
    let name = replica.uri().to_string();
    loop {
        let mut serving = false;
        if let Ok(channel) = replica.connect().await
            && let Ok(watch) = HealthClient::new(channel).watch(HealthCheckRequest::default()).await
        {
            let mut watch = watch.into_inner();
            while let Ok(Some(said)) = watch.message().await {
                let serves = said.status() == ServingStatus::Serving;
                if serves != serving {
                    serving = serves;
                    let change = if serves {
                        Change::Insert(name.clone(), replica.clone())
                    } else {
                        Change::Remove(name.clone())
                    };
                    let _ = changes.send(change).await;
                }
            }
        }
        if serving {
            let _ = changes.send(Change::Remove(name.clone())).await;
        }
        sleep(Duration::from_secs(1)).await;
    }
}
// [/connect]

// [tls]
/// `name` stands in the replicas' certificate; `own` (a certificate and its key) is for a Rota with `--tls-client-ca`.
pub fn tls(ca: Vec<u8>, name: &str, own: Option<(Vec<u8>, Vec<u8>)>) -> ClientTlsConfig {
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name(name);
    match own {
        Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
        None => config,
    }
}
// [/tls]
