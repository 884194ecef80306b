//! Asking a broker which brokers it knows: one Metadata v1 request, written by hand.
//!
//! Not with our own client: whether the cluster is ready must not depend on what is being tested. v1 is in every
//! broker from 0.10 to 4.x (KIP-896 kept it).
//!
//! ```text
//! request   length i32 | api_key 3 i16 | version 1 i16 | correlation i32 | client_id string | topic_count i32 = 0
//! response  length i32 | correlation i32 | brokers [ id i32 | host string | port i32 | rack string ] | controller i32 …
//! ```

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use crate::limits::{PROBE_BYTES_MAX, PROBE_TIMEOUT};

const BROKERS_MAX: usize = 1_000;
const CORRELATION: i32 = 7;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub host: String,
    pub port: i32,
}

/// Brokers known to the one at `address`; an error while it has no controller.
pub fn brokers(address: &str) -> Result<Vec<Broker>> {
    let address: SocketAddr = address.parse().context("a numeric address")?;
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.set_write_timeout(Some(PROBE_TIMEOUT))?;
    stream.write_all(&request())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length))?;
    ensure!(length <= PROBE_BYTES_MAX, "an answer of {length} bytes");
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    parse(&body)
}

fn request() -> Vec<u8> {
    const CLIENT: &[u8] = b"testkit";
    let mut body = Vec::new();
    body.extend(3i16.to_be_bytes());
    body.extend(1i16.to_be_bytes());
    body.extend(CORRELATION.to_be_bytes());
    body.extend((CLIENT.len() as i16).to_be_bytes());
    body.extend(CLIENT);
    body.extend(0i32.to_be_bytes());
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

fn parse(body: &[u8]) -> Result<Vec<Broker>> {
    let mut input = body;
    ensure!(take_i32(&mut input)? == CORRELATION, "an answer to another request");
    let count = usize::try_from(take_i32(&mut input)?)?;
    ensure!(count <= BROKERS_MAX, "{count} brokers");
    let mut brokers = Vec::with_capacity(count);
    for _ in 0..count {
        let id = take_i32(&mut input)?;
        let host = take_string(&mut input)?.context("a broker without host")?;
        let port = take_i32(&mut input)?;
        take_string(&mut input)?;
        brokers.push(Broker { id, host, port });
    }
    if take_i32(&mut input)? < 0 {
        bail!("no controller yet");
    }
    Ok(brokers)
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (head, rest) = input.split_at_checked(count).context("the answer ends early")?;
    *input = rest;
    Ok(head)
}

fn take_i32(input: &mut &[u8]) -> Result<i32> {
    Ok(i32::from_be_bytes(take(input, 4)?.try_into()?))
}

fn take_string(input: &mut &[u8]) -> Result<Option<String>> {
    let length = i16::from_be_bytes(take(input, 2)?.try_into()?);
    if length < 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8(take(input, usize::try_from(length)?)?.to_vec())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(controller: i32) -> Vec<u8> {
        let mut body = CORRELATION.to_be_bytes().to_vec();
        body.extend(1i32.to_be_bytes());
        body.extend(2i32.to_be_bytes());
        body.extend([0, 1, b'h']);
        body.extend(9092i32.to_be_bytes());
        body.extend((-1i16).to_be_bytes());
        body.extend(controller.to_be_bytes());
        body.extend(0i32.to_be_bytes());
        body
    }

    #[test]
    fn brokers_are_read_from_an_answer() {
        assert_eq!(parse(&answer(2)).unwrap(), [Broker { id: 2, host: "h".into(), port: 9092 }]);
        assert!(parse(&answer(-1)).is_err());
    }

    #[test]
    fn an_answer_cut_anywhere_is_an_error() {
        let whole = answer(2);
        for end in 0..whole.len() - 4 {
            assert!(parse(&whole[..end]).is_err(), "cut at {end}");
        }
    }
}
