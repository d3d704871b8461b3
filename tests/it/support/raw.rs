//! Calls any RPC by its name, with bytes: what a table over the whole contract needs.

use http::uri::PathAndQuery;
use prost::{
    Message,
    bytes::{Buf, BufMut},
};
use prost_types::FileDescriptorSet;
use rota::api::pb;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::rota::{Authenticated, Clients};

/// A connection that knows no messages.
#[derive(Clone)]
pub struct Raw(Grpc<Authenticated>);

impl Raw {
    /// With the connection and the token of those clients.
    pub fn new(clients: &Clients) -> Self {
        Self(Grpc::new(clients.connection.clone()))
    }

    /// Calls `Service/Method` of the contract. Returns every message of the answer, one after the other.
    pub async fn call(&self, rpc: &str, request: Vec<u8>) -> Result<Vec<u8>, Status> {
        let mut stream = self.open(rpc, request).await?;
        let mut all = Vec::new();
        while let Some(message) = stream.message().await? {
            all.extend(message);
        }
        Ok(all)
    }

    /// The same of a stream that does not end: its first message alone.
    pub async fn first(&self, rpc: &str, request: Vec<u8>) -> Result<Vec<u8>, Status> {
        Ok(self.open(rpc, request).await?.message().await?.unwrap_or_default())
    }

    async fn open(&self, rpc: &str, request: Vec<u8>) -> Result<Streaming<Vec<u8>>, Status> {
        let mut grpc = self.0.clone();
        grpc.ready().await.expect("the connection stands");
        let path: PathAndQuery = format!("/rota.v1.{rpc}").parse().unwrap();
        // What is right for a stream is right for one message.
        Ok(grpc.server_streaming(Request::new(request), path, RawCodec).await?.into_inner())
    }
}

/// Every RPC of the contract as `Service/Method`, with its request's full name.
pub fn rpcs() -> Vec<(String, String)> {
    let set = contract();
    let services = set.file.iter().filter(|file| file.package() == "rota.v1").flat_map(|file| &file.service);
    services
        .flat_map(|service| {
            service.method.iter().map(|method| {
                (format!("{}/{}", service.name(), method.name()), method.input_type().to_owned())
            })
        })
        .collect()
}

/// The compiled protos.
pub fn contract() -> FileDescriptorSet {
    FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).unwrap()
}

#[derive(Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}
