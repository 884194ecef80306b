//! What does not begin, go on or end as a Kafka connection does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Buf;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest, TopicName};
use testkit::proxy::Kproxy;
use testkit::{python, wait};

use super::wire::{Wire, frame_of, introduction, text};
use crate::harness::same;
use crate::shared::{kafka, three_nodes, unique};

/// `STALL_TIMEOUT` of the proxy, a sweep, and a busy machine.
const STALLED_FOR: Duration = Duration::from_secs(30);
const STALL_NOTICED_WITHIN: Duration = Duration::from_secs(40);
const SOON: Duration = Duration::from_secs(5);
const UNSUPPORTED_VERSION: i16 = 35;
const REBOOTSTRAP_REQUIRED: i16 = 129;
/// As the kit's clusters are named.
const CLUSTER: &str = "Z2Fma2EtdGVzdGtpdC0wMA";

/// HAProxy's `send-proxy-v2`: the client at 10.1.2.3 (or another last number) port 4711.
fn proxy_header(last: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([10, 1, 2, last, 127, 0, 0, 1]);
    header.extend([4711_u16.to_be_bytes(), 9092_u16.to_be_bytes()].concat());
    header
}

fn ended(kproxy: &Kproxy, reason: &str) -> Result<()> {
    wait::until(&format!("a connection that ended by {reason}"), SOON, || {
        let series = format!("kproxy_connections_ended_total{{reason=\"{reason}\"}}");
        ensure!(kproxy.metric(&series)? >= 1, "none");
        Ok(())
    })
}

/// First bytes of others, what they are called in metric and log; and what is half a request.
pub fn foreign_bytes_are_named_and_half_a_request_ends() -> Result<()> {
    let kafka = three_nodes()?;
    let kproxy = Kproxy::start(&kafka.bootstrap(), &["--node-id-base", "1", "--limits-request-bytes", "1MiB"])?;
    let mut half = Wire::connect(&kproxy.bootstrap)?;
    half.offered()?;
    let whole = frame_of(2, 1, &MetadataRequest::default())?;
    half.send_raw(&whole[..whole.len() - 1])?;
    let since = Instant::now();

    let rows: [(&str, &[u8], &str, &str); 6] = [
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01", "tls_on_plain_port", "TLS"),
        ("a TLS alert", b"\x15\x03\x03\x00\x02\x02\x28\x00", "tls_on_plain_port", "TLS"),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http_on_kafka_port", "HTTP"),
        ("a frame beyond the limit", b"\x00\x20\x00\x00\x00\x03\x00\x01", "frame_length", "1048576"),
        ("an API between brokers", b"\0\0\0\x0a\x00\x04\x00\x00\0\0\0\x01\xff\xff", "not_offered", "key 4 version 0"),
        ("a version to come", b"\0\0\0\x0a\x00\x03\x00\x63\0\0\0\x01\xff\xff", "not_offered", "key 3 version 99"),
    ];
    for (what, bytes, reason, said) in rows {
        let mut wire = Wire::connect(&kproxy.bootstrap)?;
        wire.send_raw(bytes)?;
        ensure!(wire.is_closed_within(SOON)?, "{what} is not closed");
        ensure!(wire.received.is_empty(), "{what} is answered {:?}", wire.received);
        ended(&kproxy, reason).context(what)?;
        let log = kproxy.log();
        ensure!(log.contains(reason) && log.contains(said), "{what}: {log}");
    }
    // Nobody else noticed.
    Wire::connect(&kproxy.bootstrap)?.ask(1, &MetadataRequest::default())?;

    ensure!(half.is_closed_within(STALL_NOTICED_WITHIN)?, "half a request is not closed");
    ensure!(since.elapsed() >= STALLED_FOR, "half a request was closed after {:?}", since.elapsed());
    ended(&kproxy, "half_a_request")
}

pub fn a_balancer_says_who_the_client_is() -> Result<()> {
    let kafka = three_nodes()?;
    let flags = ["--node-id-base", "1", "--proxy-protocol", "true", "--limits-connections-per-address", "2"];
    let kproxy = Kproxy::start(&kafka.bootstrap(), &flags)?;
    let connect = |last: u8| -> Result<Wire> {
        let mut wire = Wire::connect(&kproxy.bootstrap)?;
        // In two pieces, the second with the first bytes of Kafka: no byte too many may be read.
        let (mut header, request) = (proxy_header(last), frame_of(1, 0, &ApiVersionsRequest::default())?);
        wire.send_raw(&header[..7])?;
        header.drain(..7);
        header.extend(request);
        wire.send_raw(&header)?;
        Ok(wire)
    };
    let (mut first, mut second) = (connect(3)?, connect(3)?);
    first.frame().and_then(|_| second.frame()).context("two connections of one client")?;
    let mut third = connect(3)?;
    ensure!(third.is_closed_within(SOON)?, "a third connection of 10.1.2.3 is open");
    ensure!(third.received.is_empty(), "a third connection was answered");
    ended(&kproxy, "connections_of_address")?;
    connect(4)?.frame().context("another client")?;
    drop(first);
    wait::until("room for one more", SOON, || connect(3)?.frame().map(drop))?;
    ensure!(kproxy.log().contains("10.1.2.3:4711"), "{}", kproxy.log());

    let mut without = Wire::connect(&kproxy.bootstrap)?;
    without.send_raw(&frame_of(1, 0, &ApiVersionsRequest::default())?)?;
    ensure!(without.is_closed_within(SOON)?, "a client without a header is served");
    ended(&kproxy, "proxy_protocol")?;
    ensure!(kproxy.log().contains("no PROXY protocol v2 header"), "{}", kproxy.log());
    Ok(())
}

/// Old connections end where no answer is lost. The client always has a question open that the broker takes its time for.
pub fn old_connections_close_between_two_requests() -> Result<()> {
    let (kafka, topic) = (kafka()?, unique("old"));
    python::create_topic(&kafka.bootstrap(), &topic, 1, 1)?;
    let kproxy = Kproxy::start(&kafka.bootstrap(), &["--node-id-base", "1", "--limits-connection-age", "2s"])?;
    let mut wire = Wire::connect(&kproxy.bootstrap)?;
    let partition = FetchPartition::default().with_partition_max_bytes(1_000);
    let topic = FetchTopic::default().with_topic(TopicName(text(&topic))).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_wait_ms(150).with_min_bytes(1).with_topics(vec![topic]);
    let (began, mut answered) = (Instant::now(), 0);
    while wire.send(4, &request).is_ok() && wire.answer::<FetchRequest>(4).is_ok() {
        answered += 1;
        ensure!(began.elapsed() < Duration::from_secs(15), "open after {answered} requests");
    }
    ensure!(answered > 8, "only {answered} requests were answered");
    ensure!(began.elapsed() >= Duration::from_millis(1_700), "closed after {:?}", began.elapsed());
    same("requests that reached the broker", &kproxy.metric("kproxy_requests_total{api=\"Fetch\"}")?, &answered)?;
    ended(&kproxy, "old")?;
    let mut silent = Wire::connect(&kproxy.bootstrap)?;
    silent.offered()?;
    ensure!(silent.is_closed_within(SOON)?, "a silent connection lives on");
    Ok(())
}

/// Error of an ApiVersions answer, whatever its version, and how many APIs it lists.
fn introduced(address: &str, version: i16, cluster: &str, node: i32) -> Result<(i16, bytes::Bytes)> {
    let mut wire = Wire::connect(address)?;
    wire.send_raw(&introduction(9, version, cluster, node))?;
    let mut answer = wire.frame()?;
    // The header of this answer is always the oldest.
    same("correlation id", &answer.get_i32(), &9)?;
    Ok((answer.get_i16(), answer))
}

/// KIP-1242 is the broker's to judge: the client says whom it means, and only whoever is meant hears it.
pub fn a_client_at_the_wrong_broker_is_told_so() -> Result<()> {
    let kafka = three_nodes()?;
    let kproxy = Kproxy::start(&kafka.bootstrap(), &["--node-id-base", "1"])?;
    let second = kproxy.node(2, 1)?;
    let rows = [
        ("the one that is meant", second.as_str(), CLUSTER, 2, 0),
        ("another node", &second, CLUSTER, 3, REBOOTSTRAP_REQUIRED),
        ("another cluster", &second, "b3RoZXItY2x1c3Rlci0wMA", 2, REBOOTSTRAP_REQUIRED),
        ("any, at the bootstrap port", &kproxy.bootstrap, CLUSTER, 3, 0),
    ];
    for (what, address, cluster, node, expected) in rows {
        same(what, &introduced(address, 5, cluster, node)?.0, &expected)?;
    }
    same("and without the proxy", &introduced(&kafka.address(2)?, 5, CLUSTER, 3)?.0, &REBOOTSTRAP_REQUIRED)?;

    // What no broker knows is answered in the oldest form, with the versions of ApiVersions among the rest.
    let (error, mut rest) = introduced(&second, 99, CLUSTER, 2)?;
    same("error", &error, &UNSUPPORTED_VERSION)?;
    let count = rest.get_i32() as usize;
    same("bytes of so many APIs", &rest.remaining(), &(count * 6))?;
    let rows: Vec<[i16; 3]> = (0..count).map(|_| [rest.get_i16(), rest.get_i16(), rest.get_i16()]).collect();
    ensure!(rows.contains(&[18, 0, 5]), "{rows:?}");
    Ok(())
}
