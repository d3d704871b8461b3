//! How the one message of a request comes in: its bytes are counted as they come, and unpacked and measured before they are
//! decoded. So whoever sends much, or packs much into little, is told at once, and never makes the process hold it.

use super::{
    measure::{Measured, measured},
    status,
};
use crate::gate::Refusal;
use async_compression::tokio::bufread::GzipDecoder;
use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;
use std::{future::poll_fn, io, time::Duration};
use tokio::{
    io::AsyncReadExt,
    task::yield_now,
    time::{Instant, timeout_at},
};
use tonic::Status;

/// The head of a message: whether it is packed, and its length.
pub(super) const HEAD: usize = 5;
/// How much is unpacked before others have a turn, in bytes.
const STRETCH: usize = 256 << 10;
/// A request that takes less in memory is not counted: the number of calls bounds these.
const SMALL: usize = 16 << 10;

/// What a request may be.
pub(super) struct Limits {
    /// The largest message, in bytes.
    pub(super) most: usize,
    /// More memory than it can have, in bytes.
    pub(super) memory: usize,
    /// How long it may take to come.
    pub(super) time: Duration,
    /// Whether it may be packed with gzip.
    pub(super) gzip: bool,
}

/// Reads the whole body, which is one message. Returns it with its head, not packed. `hold` counts how many bytes it takes,
/// or says that it is too much.
pub(super) async fn received(
    body: RecvStream,
    limits: &Limits,
    rpc: &str,
    mut hold: impl FnMut(usize) -> Result<(), Refusal>,
) -> Result<Bytes, Status> {
    let end = Instant::now() + limits.time;
    // Most requests are there as a whole: no timer is set then.
    let came = timeout_at(end, whole(body, limits.most, &mut hold)).await;
    let mut message = came.map_err(|_| status::from_refusal(Refusal::TooSlow))??;
    if message.first() == Some(&1) {
        if !limits.gzip {
            return Err(malformed("the message is compressed, and grpc-encoding does not say how"));
        }
        message = unpacked(message, limits.most, &mut hold).await?;
    }
    match measured(rpc, message.get(HEAD..).unwrap_or_default(), limits.memory) {
        Measured::Size(size) if size <= SMALL => {}
        Measured::Size(size) => hold(size).map_err(status::from_refusal)?,
        Measured::Nul(path) => return Err(status::invalid(path, "must not contain NUL")),
    }
    Ok(message)
}

async fn whole(
    mut body: RecvStream,
    most: usize,
    hold: &mut impl FnMut(usize) -> Result<(), Refusal>,
) -> Result<Bytes, Status> {
    // Most requests come in one piece, which is their end. Others are copied: a piece may keep far more in memory than itself.
    let mut pieces = BytesMut::new();
    let mut whole = None;
    let mut counted = SMALL;
    while let Some(data) = poll_fn(|cx| body.poll_data(cx)).await {
        let data = data.map_err(|_| Status::cancelled("the request was broken off"))?;
        let _ = body.flow_control().release_capacity(data.len());
        if pieces.is_empty() && body.is_end_stream() {
            whole = Some(data);
            break;
        }
        pieces.put(data);
        let length = checked(&pieces, most)?;
        if pieces.len() > counted {
            // What has come, and its copy that grows.
            counted = pieces.len().saturating_mul(2).min(length + HEAD).max(pieces.len());
            hold(counted).map_err(status::from_refusal)?;
        }
        if body.is_end_stream() {
            break;
        }
    }
    let bytes = whole.unwrap_or_else(|| pieces.freeze());
    if bytes.is_empty() {
        return Err(malformed("there is no message"));
    }
    if bytes.len() < HEAD || bytes.len() != HEAD + checked(&bytes, most)? {
        return Err(malformed("the message is shorter than it says"));
    }
    Ok(bytes)
}

/// Checks what has come of a message so far. Returns its length, as far as it is known.
fn checked(bytes: &[u8], most: usize) -> Result<usize, Status> {
    let Some(([packed, a, b, c, d], rest)) = bytes.split_first_chunk().map(|(head, rest)| (*head, rest))
    else {
        return Ok(most);
    };
    if packed > 1 {
        return Err(malformed("the first byte is neither 0 nor 1"));
    }
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > most {
        // In tonic's words.
        return Err(Status::out_of_range(format!(
            "Error, decoded message length too large: found {length} bytes, the limit is: {most} bytes"
        )));
    }
    if rest.len() > length {
        return Err(malformed("more follows the message"));
    }
    Ok(length)
}

/// Unpacks a message, and counts what it becomes before there is room for it.
async fn unpacked(
    message: Bytes,
    most: usize,
    hold: &mut impl FnMut(usize) -> Result<(), Refusal>,
) -> Result<Bytes, Status> {
    let packed = message.get(HEAD..).unwrap_or_default();
    let mut decoder = GzipDecoder::new(packed);
    let mut out = BytesMut::with_capacity(HEAD + (2 * packed.len()).clamp(64, STRETCH).min(most.max(64)));
    out.put_bytes(0, HEAD);
    let (mut counted, mut rested) = (SMALL, 0);
    loop {
        if out.len() == out.capacity() {
            let grown = (2 * out.capacity()).min(HEAD + most + 1);
            if grown > counted {
                counted = grown;
                hold(packed.len() + counted).map_err(status::from_refusal)?;
            }
            out.reserve(grown - out.len());
        }
        let read = (&mut decoder).take((out.capacity() - out.len()) as u64).read_buf(&mut out).await;
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Err(malformed(&format!("the message is no gzip: {}", cause(&error)))),
        }
        if out.len() > HEAD + most {
            // In tonic's words.
            return Err(Status::resource_exhausted(format!(
                "Error decompressing: size limit, of {most} bytes, exceeded while decompressing message"
            )));
        }
        if out.len() - rested > STRETCH {
            rested = out.len();
            yield_now().await;
        }
    }
    let length = u32::try_from(out.len() - HEAD).map_err(|_| malformed("the message is too long"))?;
    if let Some(head) = out.get_mut(1..HEAD) {
        head.copy_from_slice(&length.to_be_bytes());
    }
    Ok(out.freeze())
}

/// Short, and nothing of the message.
fn cause(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends too early",
        _ => "it is damaged",
    }
}

/// The status of bytes that are no message.
pub(super) fn malformed(what: &str) -> Status {
    status::unreadable("", what)
}

/// What tonic says of bytes that the message's type cannot be read from becomes a field that is invalid. tonic itself tells
/// of an internal error then. Ours have details.
pub(super) fn mended(headers: &HeaderMap) -> Option<Status> {
    if headers.get("grpc-status")? != "13" || headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    let told = Status::from_header_map(headers)?;
    // `failed to decode Protobuf message: Inner.field: Outer.field: what is wrong`
    let mut rest =
        told.message().strip_prefix("failed to decode Protobuf message: ").unwrap_or(told.message());
    let mut path = Vec::new();
    while let Some((step, after)) = rest.split_once(": ") {
        let Some((_, field)) = step.split_once('.').filter(|(kind, _)| !kind.contains(' ')) else { break };
        path.insert(0, field);
        rest = after;
    }
    Some(status::unreadable(&path.join("."), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;
    use tonic_types::StatusExt;

    #[test]
    fn what_cannot_be_decoded_names_its_field() {
        for (told, field, what) in [
            (
                "failed to decode Protobuf message: ModelKey.model: Model.key: PutModelRequest.model: invalid string value: data is not UTF-8 encoded",
                "model.key.model",
                "invalid string value: data is not UTF-8 encoded",
            ),
            ("failed to decode Protobuf message: buffer underflow", "", "buffer underflow"),
            (
                "failed to decode Protobuf message: invalid wire type: Varint (expected LengthDelimited)",
                "",
                "invalid wire type: Varint (expected LengthDelimited)",
            ),
        ] {
            let status = mended(Status::internal(told).into_http::<()>().headers()).unwrap();
            assert_eq!(status.code(), Code::InvalidArgument);
            let violations =
                status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
            let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
            assert_eq!(fields, if field.is_empty() { vec![] } else { vec![field] }, "{told}");
            assert!(status.message().contains(what), "{}", status.message());
        }
        for other in [status::from_refusal(Refusal::Panicked), Status::out_of_range("x")] {
            assert!(mended(other.into_http::<()>().headers()).is_none());
        }
    }
}
