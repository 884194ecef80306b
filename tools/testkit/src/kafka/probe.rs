//! Asking a broker what it knows of brokers and of a topic: one Metadata v1 request, written by hand.
//!
//! Not with our own client: whether the cluster is ready must not depend on what is being tested. v1 is in every
//! broker from 0.10 to 4.x (KIP-896 kept it).
//!
//! ```text
//! request   length i32 | api_key 3 i16 | version 1 i16 | correlation i32 | client_id string | topics [ name string ]
//! response  length i32 | correlation i32 | brokers [ id i32 | host string | port i32 | rack string ] | controller i32
//!           | topics [ error i16 | name string | is_internal bool
//!                    | partitions [ error i16 | id i32 | leader i32 | replicas [ i32 ] | in sync [ i32 ] ] ]
//! ```

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use crate::limits::{PROBE_BYTES_MAX, PROBE_TIMEOUT};

/// Brokers, topics, partitions or replicas in one answer.
const COUNT_MAX: usize = 1_000;
const CORRELATION: i32 = 7;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub host: String,
    pub port: i32,
}

/// One partition as a broker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub id: i32,
    /// −1 while nobody leads.
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

/// Brokers known to the one at `address`; an error while it has no controller.
pub fn brokers(address: &str) -> Result<Vec<Broker>> {
    let body = ask(address, &[])?;
    parse_brokers(&mut body.as_slice())
}

/// Partitions of a topic, by their ids, as the broker at `address` knows them.
pub fn partitions(address: &str, topic: &str) -> Result<Vec<Partition>> {
    let body = ask(address, &[topic])?;
    let mut input = body.as_slice();
    parse_brokers(&mut input)?;
    parse_partitions(&mut input)
}

fn ask(address: &str, topics: &[&str]) -> Result<Vec<u8>> {
    let address: SocketAddr = address.parse().context("a numeric address")?;
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.set_write_timeout(Some(PROBE_TIMEOUT))?;
    stream.write_all(&request(topics))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length))?;
    ensure!(length <= PROBE_BYTES_MAX, "an answer of {length} bytes");
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn request(topics: &[&str]) -> Vec<u8> {
    const CLIENT: &[u8] = b"testkit";
    let mut body = Vec::new();
    body.extend(3i16.to_be_bytes());
    body.extend(1i16.to_be_bytes());
    body.extend(CORRELATION.to_be_bytes());
    body.extend((CLIENT.len() as i16).to_be_bytes());
    body.extend(CLIENT);
    body.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        body.extend((topic.len() as i16).to_be_bytes());
        body.extend(topic.as_bytes());
    }
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

fn parse_brokers(input: &mut &[u8]) -> Result<Vec<Broker>> {
    ensure!(take_i32(input)? == CORRELATION, "an answer to another request");
    let count = take_count(input)?;
    let mut brokers = Vec::with_capacity(count);
    for _ in 0..count {
        let id = take_i32(input)?;
        let host = take_string(input)?.context("a broker without host")?;
        let port = take_i32(input)?;
        take_string(input)?;
        brokers.push(Broker { id, host, port });
    }
    if take_i32(input)? < 0 {
        bail!("no controller yet");
    }
    Ok(brokers)
}

/// Of the one topic that was asked for.
fn parse_partitions(input: &mut &[u8]) -> Result<Vec<Partition>> {
    ensure!(take_count(input)? == 1, "not the one topic that was asked for");
    let error = take_i16(input)?;
    let name = take_string(input)?.context("a topic without name")?;
    ensure!(error == 0, "topic {name}: error {error}");
    take(input, 1)?;
    let count = take_count(input)?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        // A partition without leader has an error beside its −1.
        take_i16(input)?;
        partitions.push(Partition {
            id: take_i32(input)?,
            leader: take_i32(input)?,
            replicas: take_ids(input)?,
            in_sync: take_ids(input)?,
        });
    }
    partitions.sort_by_key(|partition| partition.id);
    Ok(partitions)
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (head, rest) = input.split_at_checked(count).context("the answer ends early")?;
    *input = rest;
    Ok(head)
}

fn take_i32(input: &mut &[u8]) -> Result<i32> {
    Ok(i32::from_be_bytes(take(input, 4)?.try_into()?))
}

fn take_i16(input: &mut &[u8]) -> Result<i16> {
    Ok(i16::from_be_bytes(take(input, 2)?.try_into()?))
}

fn take_count(input: &mut &[u8]) -> Result<usize> {
    let count = usize::try_from(take_i32(input)?)?;
    ensure!(count <= COUNT_MAX, "an array of {count}");
    Ok(count)
}

fn take_ids(input: &mut &[u8]) -> Result<Vec<i32>> {
    (0..take_count(input)?).map(|_| take_i32(input)).collect()
}

fn take_string(input: &mut &[u8]) -> Result<Option<String>> {
    let length = take_i16(input)?;
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
        body.extend(1i32.to_be_bytes());
        body.extend([0, 0, 0, 1, b't', 0]);
        body.extend(2i32.to_be_bytes());
        for (id, leader, in_sync) in [(1i32, -1i32, &[][..]), (0, 2, &[2i32, 1][..])] {
            body.extend(if leader < 0 { 5i16 } else { 0 }.to_be_bytes());
            [id, leader, 2, 1, 2].iter().for_each(|number| body.extend(number.to_be_bytes()));
            body.extend((in_sync.len() as i32).to_be_bytes());
            in_sync.iter().for_each(|number| body.extend(number.to_be_bytes()));
        }
        body
    }

    fn parse(body: &[u8]) -> Result<(Vec<Broker>, Vec<Partition>)> {
        let mut input = body;
        Ok((parse_brokers(&mut input)?, parse_partitions(&mut input)?))
    }

    #[test]
    fn brokers_and_partitions_are_read_from_an_answer() {
        let (brokers, partitions) = parse(&answer(2)).unwrap();
        assert_eq!(brokers, [Broker { id: 2, host: "h".into(), port: 9092 }]);
        let described = |id, leader, in_sync| Partition { id, leader, replicas: vec![1, 2], in_sync };
        assert_eq!(partitions, [described(0, 2, vec![2, 1]), described(1, -1, vec![])]);
        assert!(parse(&answer(-1)).is_err());
    }

    #[test]
    fn an_answer_cut_anywhere_is_an_error() {
        let whole = answer(2);
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err(), "cut at {end}");
        }
    }
}
