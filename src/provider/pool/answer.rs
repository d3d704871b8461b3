//! An answer whose body holds its connection, and gives it back at its end.

use super::{host::Lease, link::Broken};
use crate::provider::payload::Payload;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Sends a request over a connection.
pub(in crate::provider) async fn send(
    lease: Lease,
    request: Request<Payload>,
) -> Result<Response<Answer>, Broken> {
    let (response, lease) = lease.send(request).await?;
    Ok(response.map(|body| {
        let mut answer = Answer { body, lease: Some(lease) };
        answer.give_back_at_end();
        answer
    }))
}

/// The body of an answer as it comes. Dropping it before its end closes the connection, or the stream on a shared one.
pub(in crate::provider) struct Answer {
    body: Incoming,
    lease: Option<Lease>,
}

impl Answer {
    fn give_back_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(_)) => self.give_back_at_end(),
            Some(Err(_)) => self.lease = None,
            None => {
                if let Some(lease) = self.lease.take() {
                    lease.give_back();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
