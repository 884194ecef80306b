//! A client that is nothing but a socket: it says what no library would, and keeps every byte it was sent.
//!
//! Messages are kafka-protocol's, generated from Kafka's own definitions; nothing of ours is used.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslAuthenticateResponse,
    SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};
use kafka_protocol::records::{Compression, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Record, RecordBatchEncoder};
use kafka_protocol::records::{RecordEncodeOptions, TimestampType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const FRAME_BYTES_MAX: usize = 16 << 20;

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &stream.sock,
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(into),
            Stream::Tls(stream) => stream.read(into),
        }
    }
}

/// One connection.
pub struct Wire {
    stream: Stream,
    /// Everything that came.
    pub received: Vec<u8>,
    correlation_id: i32,
}

/// What a broker offers: key, least and newest version.
pub type Offered = Vec<(i16, i16, i16)>;

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl Wire {
    pub fn connect(address: &str) -> Result<Self> {
        Ok(Self { stream: Stream::Plain(socket(address)?), received: Vec::new(), correlation_id: 0 })
    }

    /// By TLS, as somebody who looks for `name` and trusts what is in `ca_pem`.
    pub fn connect_tls(address: &str, name: &str, ca_pem: &[u8]) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(ca_pem) {
            roots.add(cert?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned())?)?;
        let mut stream = StreamOwned::new(connection, socket(address)?);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream: Stream::Tls(Box::new(stream)), received: Vec::new(), correlation_id: 0 })
    }

    pub fn local_address(&self) -> Result<SocketAddr> {
        Ok(self.stream.socket().local_addr()?)
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Sends a request.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<()> {
        self.correlation_id += 1;
        let frame = frame_of(self.correlation_id, version, request)?;
        self.send_raw(&frame)
    }

    /// Reads the answer to the last request that was sent.
    pub fn answer<R: Request>(&mut self, version: i16) -> Result<R::Response> {
        let mut frame = self.frame()?;
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version))?;
        ensure!(header.correlation_id == self.correlation_id, "answer {} out of turn", header.correlation_id);
        R::Response::decode(&mut frame, version)
    }

    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        self.send(version, request)?;
        self.answer::<R>(version).with_context(|| format!("API {} version {version}", R::KEY))
    }

    /// Shows a password by PLAIN.
    pub fn log_in(&mut self, user: &str, password: &str) -> Result<SaslAuthenticateResponse> {
        let handshake = self.ask(1, &SaslHandshakeRequest::default().with_mechanism(text("PLAIN")))?;
        ensure!(handshake.error_code == 0, "the handshake is refused with {}", handshake.error_code);
        let words = format!("\0{user}\0{password}").into_bytes();
        self.ask(2, &SaslAuthenticateRequest::default().with_auth_bytes(words.into()))
    }

    /// What the other side offers.
    pub fn offered(&mut self) -> Result<Offered> {
        let answer = self.ask(0, &ApiVersionsRequest::default())?;
        Ok(answer.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect())
    }

    /// The next frame, without its length.
    pub fn frame(&mut self) -> Result<Bytes> {
        let mut length = [0; 4];
        self.read_exactly(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length))?;
        ensure!(length <= FRAME_BYTES_MAX, "a frame of {length} bytes");
        let mut frame = vec![0; length];
        self.read_exactly(&mut frame)?;
        Ok(frame.into())
    }

    fn read_exactly(&mut self, into: &mut [u8]) -> Result<()> {
        let mut at = 0;
        while at < into.len() {
            match self.stream.read(&mut into[at..])? {
                0 => bail!("closed after {at} of {} bytes", into.len()),
                count => at += count,
            }
        }
        self.received.extend_from_slice(into);
        Ok(())
    }

    /// Whether the other side closes, with or without bytes before that.
    pub fn is_closed_within(&mut self, within: Duration) -> Result<bool> {
        self.stream.socket().set_read_timeout(Some(within))?;
        let mut bytes = [0; 4096];
        let closed = loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => break true,
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break false,
                Err(_) => break true,
            }
        };
        self.stream.socket().set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(closed)
    }
}

fn socket(address: &str) -> Result<TcpStream> {
    let at: SocketAddr = address.parse().with_context(|| format!("{address} is no address"))?;
    let socket = TcpStream::connect_timeout(&at, ANSWER_WITHIN).with_context(|| address.to_owned())?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    socket.set_write_timeout(Some(ANSWER_WITHIN))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// A request with its length in front.
pub fn frame_of<R: Request>(correlation_id: i32, version: i16, request: &R) -> Result<Vec<u8>> {
    let mut frame = BytesMut::from(&[0; 4][..]);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(text("wire")));
    header.encode(&mut frame, R::header_version(version))?;
    request.encode(&mut frame, version).with_context(|| format!("API {} version {version}", R::KEY))?;
    let length = i32::try_from(frame.len() - 4)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.to_vec())
}

/// ApiVersions of version 5 (KIP-1242), which kafka-protocol does not know yet: who the client believes to talk to.
pub fn introduction(correlation_id: i32, version: i16, cluster_id: &str, node_id: i32) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_i16(ApiKey::ApiVersions as i16);
    frame.put_i16(version);
    frame.put_i32(correlation_id);
    frame.put_i16(4);
    frame.put_slice(b"wire\0");
    for name in ["a-socket", "1.0", cluster_id] {
        frame.put_u8(name.len() as u8 + 1);
        frame.put_slice(name.as_bytes());
    }
    frame.put_i32(node_id);
    frame.put_u8(0);
    let mut whole = (frame.len() as i32).to_be_bytes().to_vec();
    whole.extend_from_slice(&frame);
    whole
}

/// What a producer says of itself in a batch.
#[derive(Clone, Copy, Debug)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    pub sequence: i32,
    pub transactional: bool,
}

/// One that says nothing.
pub const NOBODY: Producer =
    Producer { id: NO_PRODUCER_ID, epoch: NO_PRODUCER_EPOCH, sequence: -1, transactional: false };

/// A batch of records with these values.
pub fn batch(values: &[&str], producer: Producer) -> Result<Bytes> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let record = |(index, value): (usize, &&str)| Record {
        transactional: producer.transactional,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        timestamp_type: TimestampType::Creation,
        offset: index as i64,
        sequence: producer.sequence + index as i32,
        timestamp: now_ms,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Default::default(),
    };
    let records: Vec<Record> = values.iter().enumerate().map(record).collect();
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut out, &records, &options)?;
    Ok(out.freeze())
}

/// Every version that both the other side and kafka-protocol know of a request.
pub fn versions<R: Request>(offered: &Offered) -> Result<std::ops::RangeInclusive<i16>> {
    let row = offered.iter().find(|(key, ..)| *key == R::KEY);
    let (_, min, max) = row.with_context(|| format!("API {} is not offered", R::KEY))?;
    Ok((*min).max(<R as Message>::VERSIONS.min)..=(*max).min(<R as Message>::VERSIONS.max))
}
