//! What an operator sees: what is wrong with a configuration, whether the proxy may take traffic, how much passed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use testkit::daemon::bin_path;
use testkit::kafka::Cluster;
use testkit::process::{run, scratch_dir, tethered};
use testkit::proxy::Kproxy;
use testkit::{ports, wait};

use super::wire::{Wire, frame_of};
use crate::harness::same;
use crate::shared::three_nodes;

const SOON: Duration = Duration::from_secs(20);

/// Lines of a file, and what `--check-config` must say of them, if anything.
const FILES: &[(&str, &[&str])] = &[
    ("listen = \"127.0.0.1:19092\"\nbootstrap = [\"kafka:9092\"]\n", &[]),
    ("listen = \"127.0.0.1:19092\"\n", &["bootstrap"]),
    (
        "listen = \"127.0.0.1:19092\"\nbootstrap = [\"kafka:9092\"]\nops.listen = \"127.0.0.1:19100\"\n",
        &[":3", "ops.listen", "listen"],
    ),
    ("listen = \"127.0.0.1:65500\"\nbootstrap = [\"kafka:9092\"]\n", &[":1", "65564", "range_width"]),
    ("bootstrap = [\"kafka:9092\"]\nadvertised = \"proxy.example:9092\"\n", &[":2", "advertised", "without a port"]),
    ("bootstrap = [\"kafka:9092\"]\nsni_pattern = \"b$.kafka.example\"\n", &[":2", "sni_pattern", "tls.cert_file"]),
    ("bootstrap = [\"kafka:9092\"]\nsni_pattern = \"kafka.example\"\n", &[":2", "one $"]),
    ("bootstrap = [\"kafka:9092\"]\n[tls]\ncert_file = \"CERT\"\n", &[":3", "tls.key_file", "go together"]),
    ("bootstrap = [\"kafka:9092\"]\nrange_widht = 3\n", &[":2", "range_width"]),
    ("bootstrap = [\"kafka:9092\"]\n[drain]\ndelay = \"40s\"\n", &[":3", "drain.delay", "drain.limit"]),
];

pub fn a_wrong_configuration_is_told_with_its_line() -> Result<()> {
    let dir = scratch_dir("kproxy")?;
    let cert = dir.path().join("cert.pem");
    fs::write(&cert, "not looked into")?;
    for (number, (text, expected)) in FILES.iter().enumerate() {
        let path = dir.path().join(format!("{number}.toml"));
        fs::write(&path, text.replace("CERT", &cert.display().to_string()))?;
        checked(&path, expected).with_context(|| (*text).to_owned())?;
    }
    Ok(())
}

fn checked(path: &Path, expected: &[&str]) -> Result<()> {
    let mut command = tethered(bin_path("kproxy")?);
    command.args(["serve", "--check-config", "--config"]).arg(path);
    match (run(command, SOON), expected) {
        (Ok(_), []) => Ok(()),
        (Ok(_), _) => bail!("passed"),
        (Err(err), _) => {
            let said = format!("{err:#}");
            ensure!(!expected.is_empty() && said.contains("exit status: 2"), "{said}");
            let missing = expected.iter().find(|word| !said.contains(**word));
            ensure!(missing.is_none(), "{missing:?} is not in: {said}");
            Ok(())
        }
    }
}

/// The proxy is there before its brokers, says what it waits for, and is ready without a restart.
pub fn readiness_follows_the_brokers() -> Result<()> {
    // Nobody listens where the first of the brokers is to be; the second is alive but no broker.
    let nobody = ports::free(1)?[0];
    let kafka = three_nodes()?;
    let lonely = Kproxy::start(&format!("127.0.0.1:{nobody}"), &[])?;
    let (status, reasons) = lonely.readiness()?;
    same("readiness", &status, &503)?;
    ensure!(reasons.to_string().contains(&format!("127.0.0.1:{nobody}: ")), "{reasons}");
    let mut early = Wire::connect(&lonely.bootstrap)?;
    early.send_raw(&frame_of(1, 0, &ApiVersionsRequest::default())?)?;
    ensure!(early.is_closed_within(SOON)?, "a client waits for a broker that is not there");

    // Somebody opens that port: it passes what it is given on to a broker.
    let broker = kafka.address(1)?;
    let listener = std::net::TcpListener::bind(("127.0.0.1", nobody))?;
    std::thread::spawn(move || {
        for from in listener.incoming().map_while(Result::ok) {
            let Ok(to) = std::net::TcpStream::connect(&broker) else { return };
            let (Ok(mut from_again), Ok(mut to_again)) = (from.try_clone(), to.try_clone()) else { return };
            let (mut from, mut to) = (from, to);
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || std::io::copy(&mut to_again, &mut from_again));
        }
    });
    wait::until("readiness", SOON, || same("readiness", &lonely.readiness()?.0, &200))?;
    Wire::connect(&lonely.bootstrap)?.offered().map(drop)
}

/// Bytes in the metrics are the client's, byte by byte, so that nobody measures something that passed by.
pub fn bytes_counted_are_bytes_moved() -> Result<()> {
    let kafka = three_nodes()?;
    let kproxy = Kproxy::start(&kafka.bootstrap(), &["--node-id-base", "1"])?;
    let (mut sent, mut wire) = (0, Wire::connect(&kproxy.node(2, 1)?)?);
    for number in 1..=50 {
        let request = frame_of(number, 1, &MetadataRequest::default())?;
        sent += request.len();
        wire.send_raw(&request)?;
        wire.frame()?;
    }
    let counted =
        |peer: &str, way: &str| kproxy.metric(&format!("kproxy_bytes_total{{peer=\"{peer}\",direction=\"{way}\"}}"));
    same("from the client", &counted("client", "in")?, &(sent as u64))?;
    same("to the broker", &counted("broker", "out")?, &(sent as u64))?;
    same("to the client", &counted("client", "out")?, &(wire.received.len() as u64))?;
    let asked = kproxy.metric("kproxy_requests_total{api=\"Metadata\"}")?;
    same("requests", &asked, &50)?;
    let of_second = kproxy.metric("kproxy_broker_bytes_total{broker=\"2\"}")?;
    same("of the broker", &of_second, &(counted("broker", "in")? + sent as u64))?;
    // A client is no label (T34).
    let text = kproxy.metrics()?.text();
    let client = wire.local_address()?.port().to_string();
    ensure!(!text.contains("wire") && !text.contains(&client), "a client is in the metrics:\n{text}");
    Ok(())
}

/// A dead broker takes its own connections with it and no other.
pub fn a_lost_broker_ends_its_own_connections(kafka: &mut Cluster) -> Result<()> {
    let kproxy = Kproxy::start(&kafka.bootstrap(), &["--node-id-base", "1"])?;
    let mut to_each: Vec<Wire> = (1..=3).map(|node| Wire::connect(&kproxy.node(node, 1)?)).collect::<Result<_>>()?;
    for wire in &mut to_each {
        wire.offered()?;
    }
    kafka.kill(2)?;
    ensure!(to_each[1].is_closed_within(Duration::from_secs(5))?, "the connection to the dead broker lives on");
    for node in [1, 3] {
        let wire = &mut to_each[node - 1];
        ensure!(!wire.is_closed_within(Duration::from_millis(200))?, "the connection to node {node} was closed");
        wire.offered().with_context(|| format!("node {node}"))?;
    }
    let mut refused = Wire::connect(&kproxy.node(2, 1)?)?;
    refused.send_raw(&frame_of(1, 0, &ApiVersionsRequest::default())?)?;
    ensure!(refused.is_closed_within(Duration::from_secs(5))?, "somebody answers for the dead broker");
    same("readiness with two of three", &kproxy.readiness()?.0, &200)?;
    kafka.restart(2)?;
    kafka.wait_until_all_visible()?;
    Wire::connect(&kproxy.node(2, 1)?)?.offered().map(drop)
}
