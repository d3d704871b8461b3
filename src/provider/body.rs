//! The body of an answer.
//!
//! None is asked for packed (`Accept-Encoding: identity`), but some servers and proxies pack all of them. What is packed
//! is unpacked as it comes, a piece at a time: whoever reads bounds what a small answer can become. An answer that says
//! that it is packed and is not is taken as it is.

use super::{
    http_error::{broke, failure},
    pool::Answer,
};
use crate::balance::{ErrorClass, Failure};
use async_compression::tokio::bufread::{
    BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder,
};
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use std::{io, pin::Pin, time::Duration};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};
use tokio_util::io::{ReaderStream, StreamReader};

/// How much of an error's body is read, in bytes.
const MAX_ERROR: usize = 64 << 10;

/// How long to wait for an error's body: its status and headers are known already.
const ERROR_BODY_WAIT: Duration = Duration::from_secs(2);

/// Bytes, in pieces as they come. Dropping it ends the upstream request.
pub type ByteStream = BoxStream<'static, Result<Bytes, Failure>>;

/// The body of an answer.
pub(super) enum Body {
    /// As it comes.
    Plain(Answer),
    /// What was in it, where the provider has packed it.
    Unpacked(ByteStream),
}

/// An answer whose body is no longer packed.
pub(super) fn open(response: http::Response<Answer>) -> http::Response<Body> {
    let (mut head, body) = response.into_parts();
    let codings = codings(&mut head.headers);
    let body = if codings.is_empty() {
        Body::Plain(body)
    } else {
        Body::Unpacked(unpacked(Body::Plain(body).into_stream(), codings))
    };
    http::Response::from_parts(head, body)
}

impl Body {
    /// The bytes as they come.
    pub(super) fn into_stream(self) -> ByteStream {
        match self {
            Self::Plain(body) => body.into_data_stream().map(|chunk| chunk.map_err(failure)).boxed(),
            Self::Unpacked(body) => body,
        }
    }

    /// Whether nothing more will come, where that is known.
    pub(super) fn is_at_end(&self) -> bool {
        matches!(self, Self::Plain(body) if body.is_end_stream())
    }

    /// How many bytes will come at least, as far as that is known.
    pub(super) fn expected(&self) -> usize {
        match self {
            Self::Plain(body) => usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX),
            Self::Unpacked(_) => 0,
        }
    }
}

/// The next bytes of a body; none at its end.
pub(super) async fn data(body: &mut Body) -> Result<Option<Bytes>, Failure> {
    let body = match body {
        Body::Plain(body) => body,
        Body::Unpacked(body) => return body.next().await.transpose(),
    };
    while let Some(frame) = body.frame().await {
        // Trailers say nothing to us.
        if let Ok(data) = frame.map_err(failure)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Reads the start of an error's body, and whether the connection broke meanwhile. More may follow.
pub(super) async fn read_error(body: &mut Body) -> (Vec<u8>, Option<Failure>) {
    let mut start = Vec::new();
    let fill = async {
        while start.len() < MAX_ERROR {
            match data(body).await {
                Ok(Some(chunk)) => start.extend_from_slice(&chunk),
                Ok(None) => return None,
                Err(failure) => return Some(failure),
            }
        }
        None
    };
    // Late or not, what has come is used.
    let broke = tokio::time::timeout(ERROR_BODY_WAIT, fill).await.ok().flatten();
    (start, broke)
}

/// More layers are no server's mistake.
const MAX_LAYERS: usize = 3;

type Reader = Pin<Box<dyn AsyncBufRead + Send>>;

/// Takes the names of how an answer is packed out of its headers, the outermost first. Empty: it is not.
fn codings(headers: &mut HeaderMap) -> Vec<String> {
    let names = headers.get_all(header::CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let names = names.flat_map(|value| value.split(',')).map(|name| name.trim().to_ascii_lowercase());
    let mut codings: Vec<_> = names.filter(|name| !matches!(name.as_str(), "" | "identity")).collect();
    codings.reverse();
    if !codings.is_empty() {
        headers.remove(header::CONTENT_ENCODING);
        headers.remove(header::CONTENT_LENGTH);
    }
    codings
}

/// What is in an answer packed in these ways.
fn unpacked(body: ByteStream, codings: Vec<String>) -> ByteStream {
    stream::once(async {
        if codings.len() > MAX_LAYERS {
            return Err(Failure::new(ErrorClass::ServerError, "the provider's answer is packed too often"));
        }
        let mut bytes: Reader = Box::pin(StreamReader::new(body.map_err(io::Error::other)));
        for coding in codings {
            bytes = layer(bytes, &coding).await?;
        }
        Ok(ReaderStream::new(bytes).map_err(failure_of_unpacking))
    })
    .try_flatten()
    .boxed()
}

fn buffered(decoder: impl AsyncRead + Send + 'static) -> Reader {
    Box::pin(BufReader::new(decoder))
}

async fn layer(mut packed: Reader, coding: &str) -> Result<Reader, Failure> {
    let start = packed.fill_buf().await.map_err(failure_of_unpacking)?;
    Ok(match (coding, start) {
        (_, []) => packed,
        ("gzip" | "x-gzip", [0x1f, ..]) => {
            let mut decoder = GzipDecoder::new(packed);
            decoder.multiple_members(true);
            buffered(decoder)
        }
        // RFC 9110 section 8.4.1.2 means zlib by it, and some servers do not.
        ("deflate", [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..]) => buffered(ZlibDecoder::new(packed)),
        ("deflate", [first, ..]) if !b"{[<:de".contains(first) => buffered(DeflateDecoder::new(packed)),
        ("zstd", [0x28, ..]) => {
            let mut decoder = ZstdDecoder::new(packed);
            decoder.multiple_members(true);
            buffered(decoder)
        }
        // It has no mark of its own.
        ("br", [first, ..]) if !b"{[".contains(first) => buffered(BrotliDecoder::new(packed)),
        ("gzip" | "x-gzip" | "deflate" | "zstd" | "br", _) => packed,
        _ => {
            let message = "the provider's answer is packed in a way that is not known";
            return Err(Failure::new(ErrorClass::ServerError, message));
        }
    })
}

/// A failure comes through the decoders as it was.
fn failure_of_unpacking(error: io::Error) -> Failure {
    match error.downcast::<Failure>() {
        Ok(failure) => failure,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => broke(),
        Err(_) => Failure::new(ErrorClass::ServerError, "the provider's answer cannot be unpacked"),
    }
}
