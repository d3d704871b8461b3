//! The room that an answer takes until its last frame is out: beside the message on its way to the layer that sees that frame.

use crate::provider::Room;
use http::Extensions;
use std::sync::Arc;
use tonic::Response;

/// A response that keeps the room of what it was made of.
pub(super) fn keeping<T>(message: T, room: Room) -> Response<T> {
    let mut response = Response::new(message);
    if let Some(room) = room.of_large() {
        response.extensions_mut().insert(Arc::new(room));
    }
    response
}

/// The room that a response keeps.
pub(super) fn kept(extensions: &mut Extensions) -> Option<Arc<Room>> {
    extensions.remove()
}
