//! HTTP/2 frame by frame, as somebody writes it who means no good: no library stands between the test and the wire.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// What every HTTP/2 connection begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header block of a call of `Service/Method` with that token.
pub fn call(address: &str, rpc: &str, token: &str) -> Vec<u8> {
    let path = format!("/rota.v1.{rpc}");
    let token = format!("Bearer {token}");
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", &path),
        (":authority", address),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", &token),
    ];
    headers.into_iter().flat_map(|(name, value)| header(name, value)).collect()
}

/// One header in HPACK: a literal without indexing, under a new name, both without Huffman.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    [vec![0], text(name), text(value)].concat()
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    match text.len() {
        length @ 0..127 => bytes.push(length as u8),
        length => {
            bytes.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                bytes.push(rest as u8 | 128);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
    }
    bytes.extend(text.as_bytes());
    bytes
}

/// A connection that does as it likes.
pub struct Wire {
    tcp: TcpStream,
    /// What has come and is no whole frame yet.
    read: Vec<u8>,
}

impl Wire {
    /// Connected, with nothing said.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Ok(Self { tcp, read: Vec::new() })
    }

    /// The same, after the preface and its settings.
    pub async fn greeted(address: &str) -> io::Result<Self> {
        let mut wire = Self::connect(address).await?;
        wire.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await?;
        Ok(wire)
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tcp.write_all(bytes).await
    }

    /// Sends nothing more, and still reads.
    pub async fn half_close(&mut self) {
        let _ = self.tcp.shutdown().await;
    }

    /// Ends with a reset, not an end.
    pub fn reset(self) {
        self.tcp.set_zero_linger().unwrap();
    }

    /// The next frame: its kind, flags, stream and payload; none where the connection has ended. Given up and asked
    /// again, it loses nothing.
    pub async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            if let [a, b, c, kind, flags, s1, s2, s3, s4, rest @ ..] = self.read.as_slice() {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let frame = (*kind, *flags, u32::from_be_bytes([*s1, *s2, *s3, *s4]), payload.to_vec());
                    self.read.drain(..9 + length);
                    return Some(frame);
                }
            }
            if self.tcp.read_buf(&mut self.read).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Reads to the end of the connection, and returns the code of its GOAWAY, where one came. Fails after `limit`.
    pub async fn ended(mut self, limit: Duration) -> Option<u32> {
        let mut code = None;
        let reading = async {
            while let Some((kind, _, _, payload)) = self.next().await {
                if kind == GOAWAY {
                    code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                }
            }
        };
        timeout(limit, reading).await.unwrap_or_else(|_| panic!("still open after {limit:?}"));
        code
    }

    /// Reads until the answer of each of these streams has begun. Fails after `limit`.
    pub async fn begun(&mut self, streams: &[u32], limit: Duration) {
        let mut missing = streams.to_vec();
        let reading = async {
            while !missing.is_empty() {
                let (kind, _, stream, _) = self.next().await.expect("closed before an answer");
                if kind == HEADERS {
                    missing.retain(|missing| *missing != stream);
                }
            }
        };
        timeout(limit, reading).await.unwrap_or_else(|_| panic!("no answer in {limit:?}"));
    }

    /// Reads until these streams have ended, whatever ends them. Fails after `limit`.
    pub async fn ended_streams(&mut self, streams: &[u32], limit: Duration) {
        let mut open = streams.to_vec();
        let reading = async {
            while !open.is_empty() {
                let Some((kind, flags, stream, _)) = self.next().await else { return };
                if kind == RST_STREAM || (matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0) {
                    open.retain(|open| *open != stream);
                }
            }
        };
        timeout(limit, reading).await.unwrap_or_else(|_| panic!("still open after {limit:?}"));
    }
}
