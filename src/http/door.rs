//! Takes every request through the gate, from its head to the last byte of its answer.

use super::{
    body::Body,
    call::{self, Answer, Asker},
    error::Fault,
    models, origin,
    receive::received,
    routes::{self, Wanted},
    serving::{DoorOptions, Serving},
    token,
};
use crate::{
    catalog::Catalog,
    gate::{Gate, Inside, PartysCall, Peer},
    invoke::Engine,
    wire::Protocol,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, request::Parts};
use hyper::body::Incoming;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where Anthropic's clients look for it.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// See the module's documentation. Cheap to clone.
#[derive(Clone)]
pub struct Door(Arc<Serving>);

impl Door {
    /// Serves the models of `catalog` behind that gate. Answers end when `stop` is cancelled.
    #[must_use]
    pub fn new(
        gate: Gate,
        catalog: Catalog,
        engine: Arc<Engine>,
        options: DoorOptions,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Serving { gate, catalog, engine, options, stop }))
    }

    pub(super) fn send_timeout(&self) -> Duration {
        self.0.options.send_timeout
    }

    /// Answers a request. Its panic ends it alone, and it ends when its client goes away.
    pub(super) async fn answer(
        &self,
        peer: &Peer,
        local: SocketAddr,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let protocol = routes::protocol(head.uri.path(), &head.headers);
        // No two are the same, on any replica.
        let id = Uuid::now_v7().simple().to_string();
        let told = format!("req_{id}");
        let answered = Box::pin(self.0.answered(peer, local, head, body, &id)).await;
        let mut response = answered.unwrap_or_else(|fault| fault.response(protocol, &told));
        if let Ok(value) = HeaderValue::from_str(&told) {
            response.headers_mut().insert(REQUEST_ID, value.clone());
            if protocol == Protocol::Anthropic {
                response.headers_mut().insert(ANTHROPIC_REQUEST_ID, value);
            }
        }
        response
    }
}

impl Serving {
    async fn answered(
        self: &Arc<Self>,
        peer: &Peer,
        local: SocketAddr,
        head: Parts,
        body: Incoming,
        id: &str,
    ) -> Result<Response<Body>, Fault> {
        let began = Instant::now();
        origin::check(&head.headers, &head.uri, local, &self.options.allowed_hosts)?;
        let (path, query) = (head.uri.path(), head.uri.query());
        let wanted = routes::wanted(&head.method, path, query, &head.headers)?;
        let mut inside = self.gate.enter(wanted.operation(), &head.headers);
        let token = token::token(&head.headers, query);
        let admitted = self.gate.admit(&mut inside, peer, token).await;
        let (caller, mut counted) = admitted.map_err(|refusal| refused(&mut inside, refusal.into()))?;
        let asker = Asker { caller, began, id: id.to_owned() };
        let work = Box::pin(self.worked(wanted, asker, head, body, &mut counted));
        let answer = match self.gate.run(&inside, work).await {
            Ok(answer) => answer.map_err(|fault| refused(&mut inside, fault))?,
            Err(refusal) => return Err(refused(&mut inside, refusal.into())),
        };
        Ok(match answer {
            Answer::Whole(whole) => {
                inside.ended("OK");
                whole.response((inside, counted), self.options.send_timeout)
            }
            Answer::Stream(begun) => begun.response(self, (inside, counted)),
        })
    }

    async fn worked(
        self: &Arc<Self>,
        wanted: Wanted,
        asker: Asker,
        head: Parts,
        body: Incoming,
        counted: &mut PartysCall,
    ) -> Result<Answer, Fault> {
        match wanted {
            Wanted::Models(protocol) => models::all(self, protocol, &asker, &head.headers),
            Wanted::Model(protocol, name) => models::one(self, protocol, &asker, &head.headers, &name).await,
            Wanted::Call { endpoint, model, array } => {
                let bytes = self.body(&head, body, counted).await?;
                call::call(self, asker, head, bytes, call::Target { endpoint, model, array }).await
            }
            Wanted::Other(path) => {
                let bytes = self.body(&head, body, counted).await?;
                call::forward(self, asker, head, bytes, &path).await
            }
        }
    }

    async fn body(&self, head: &Parts, body: Incoming, counted: &mut PartysCall) -> Result<Bytes, Fault> {
        let hold = |bytes| self.gate.hold(counted, bytes);
        received(body, &head.headers, self.options.max_body, self.gate.receive_timeout(), hold).await
    }
}

fn refused(inside: &mut Inside, fault: Fault) -> Fault {
    inside.ended(fault.outcome);
    fault
}
