//! librdkafka's own suite: against the embedded broker, and against Kafka 4.4 directly and through kproxy.

use anyhow::Result;
use testkit::gateway::Quickstart;
use testkit::kafka::{Cluster, KafkaOptions};
use testkit::librdkafka_suite::{Broker, Expectations, Suite};
use testkit::process::scratch_dir;
use testkit::progress::say;
use testkit::proxy::Kproxy;

use crate::harness::{Case, case};

pub const CASES: &[Case] = &[
    Case {
        nightly: true,
        ..case(
            "librdkafkas_own_suite_passes_against_the_embedded_broker_but_for_what_is_written_down",
            &["bin:kateway", "librdkafka-headers", "kafka2"],
            embedded,
        )
    },
    Case {
        nightly: true,
        ..case(
            "librdkafkas_own_suite_ends_alike_directly_and_through_kproxy",
            &["bin:kproxy", "librdkafka-headers", "kafka", "kafka2"],
            through_kproxy,
        )
    },
];

/// On two cores; with more of them tests run into their own time limits.
const AT_ONCE: usize = 3;

/// Java heap of a broker: 256 MiB are too few for what the suite does at once.
const HEAP_MB: u32 = 900;

fn through_kproxy() -> Result<()> {
    let suite = Suite::built()?;
    let kafka = Cluster::start(KafkaOptions { auto_create: true, heap_mb: HEAP_MB, ..KafkaOptions::nodes(3) })?;
    let direct = kafka.bootstrap();
    let kproxy = Kproxy::start(&direct, &["--node-id-base", "1"])?;
    let brokers = [&direct, &kproxy.bootstrap].map(|bootstrap| Broker { bootstrap, version: "4.4.0" });
    say(&format!("  librdkafka's suite: {}", suite.compare(brokers, &suite.tests()?, AT_ONCE)?));
    Ok(())
}

fn embedded() -> Result<()> {
    let expected = Expectations::parse(include_str!("../../librdkafka-expected.txt"))?;
    let suite = Suite::built()?;
    let dir = scratch_dir("librdkafka")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let broker = Broker { bootstrap: &quickstart.kafka, version: "4.4.0" };
    say(&format!("  librdkafka's suite: {}", suite.check(broker, &expected, AT_ONCE)?));
    Ok(())
}
