//! Requests of the proxy's own to a broker, one at a time on a connection of their own or before a client's.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_client::sasl::{Exchange, SaltedKeys, Sasl};
use kafka_wire::frame::FrameReader;
use kafka_wire::header::{decode_response_header, encode_request_header};
use kafka_wire::limits::FRAME_BYTES_MAX;
use kafka_wire::pieces::{bytes, put_count, put_string, text};
use kafka_wire::shape::walk;
use kafka_wire::shapes::{sasl_authenticate, sasl_handshake};
use kafka_wire::{ApiKey, WireError};
use runtime::net::Stream;

/// What brokers' logs call the proxy's own requests.
const CLIENT_ID: &str = "kproxy";
const READ_BYTES: usize = 16 * 1024;
/// Everything the proxy asks a broker for is answered within this, or the broker is taken for dead.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// One request, one answer: its body.
pub async fn ask(stream: &mut Stream, api: ApiKey, version: i16, body: &[u8]) -> io::Result<Bytes> {
    let mut frame = ask_raw(stream, api, version, body).await?;
    decode_response_header(&mut frame, api, version).map_err(invalid)?;
    Ok(frame)
}

/// As [`ask`], with the header.
pub async fn ask_raw(stream: &mut Stream, api: ApiKey, version: i16, body: &[u8]) -> io::Result<Bytes> {
    let mut request = BytesMut::from(&[0; 4][..]);
    encode_request_header(&mut request, api, version, 1, CLIENT_ID);
    request.extend_from_slice(body);
    let length = request.len() as i32 - 4;
    request[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(request.freeze()).await?;
    let (mut reader, mut buffer) = (FrameReader::new(FRAME_BYTES_MAX), BytesMut::new());
    loop {
        match reader.next(&mut buffer) {
            Ok(Some(frame)) => return Ok(frame),
            Ok(None) => {}
            Err(err) => return Err(io::Error::new(io::ErrorKind::InvalidData, err)),
        }
        buffer.reserve(READ_BYTES);
        let (read, filled) = stream.read(buffer).await;
        buffer = filled;
        if read? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("closed at {api}")));
        }
    }
}

fn invalid(err: WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, err)
}

const HANDSHAKE_VERSION: i16 = 1;
const AUTHENTICATE_VERSION: i16 = 0;

/// Logs the proxy in. `keys` are derived once and kept: that takes milliseconds of a shard, and brokers of a cluster have the
/// same salt.
pub async fn log_in(stream: &mut Stream, sasl: &Sasl, keys: &RefCell<SaltedKeys>) -> io::Result<()> {
    let denied = |why: String| io::Error::new(io::ErrorKind::PermissionDenied, why);
    let mut body = BytesMut::new();
    put_string(&mut body, false, sasl.mechanism.name().as_bytes());
    let answer = ask(stream, ApiKey::SaslHandshake, HANDSHAKE_VERSION, &body).await?;
    if error_code(&answer) != 0 {
        let (mechanism, mut offered) = (sasl.mechanism.name(), Vec::new());
        let _ = walk(&sasl_handshake::RESPONSE, HANDSHAKE_VERSION, &answer, |visit| {
            offered.extend(text(&answer[visit.range], false).map(str::to_owned));
        });
        return Err(denied(format!("the broker does not take {mechanism}, only {}", offered.join(", "))));
    }
    let random = [runtime::clock::seed(), runtime::clock::seed(), runtime::clock::seed()];
    let (mut exchange, mut message) = Exchange::start_with(sasl, random);
    loop {
        let mut body = BytesMut::new();
        put_count(&mut body, false, message.len());
        body.extend_from_slice(&message);
        let answer = ask(stream, ApiKey::SaslAuthenticate, AUTHENTICATE_VERSION, &body).await?;
        let (mut why, mut said) = (String::new(), Vec::new());
        walk(&sasl_authenticate::RESPONSE, AUTHENTICATE_VERSION, &answer, |visit| match visit.field.name {
            "error_message" => why = text(&answer[visit.range], false).unwrap_or_default().to_owned(),
            "auth_bytes" => said = bytes(&answer[visit.range], false).unwrap_or_default().to_vec(),
            _ => {}
        })
        .map_err(invalid)?;
        if error_code(&answer) != 0 {
            return Err(denied(format!("the broker refuses the proxy's login as {}: {why}", sasl.username)));
        }
        match exchange.on_message(&said, sasl, &mut keys.borrow_mut()).map_err(|err| denied(err.to_string()))? {
            Some(next) => message = next,
            None => return Ok(()),
        }
    }
}

/// Of an answer that begins with it.
fn error_code(body: &[u8]) -> i16 {
    body.first_chunk().map_or(0, |code| i16::from_be_bytes(*code))
}
