//! librdkafka's own suite: against the embedded broker, and against Kafka 4.4 directly and through kproxy.

use anyhow::Result;
use testkit::gateway::Quickstart;
use testkit::kafka::{Cluster, KafkaOptions};
use testkit::librdkafka_suite::{Broker, Expectations, Suite, Test};
use testkit::process::scratch_dir;
use testkit::progress::say;
use testkit::proxy::Kproxy;

use crate::harness::{Case, case};
use crate::shared::three_nodes;

pub const CASES: &[Case] = &[
    case(
        "quick_tests_of_librdkafkas_own_suite_end_alike_directly_and_through_kproxy",
        &["bin:kproxy", "librdkafka-headers", "kafka", "kafka2"],
        quick_through_kproxy,
    ),
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

/// Each takes three seconds at most: producers, consumers, groups, offsets, headers, the admin client, brokers that go.
const QUICK: &[&str] = &[
    "0001", "0002", "0003", "0005", "0007", "0008", "0012", "0013", "0016", "0020", "0021", "0022", "0029", "0031",
    "0034", "0036", "0039", "0042", "0044", "0048", "0054", "0056", "0057", "0060", "0064", "0065", "0070", "0073",
    "0082", "0085", "0099", "0130", "0140",
];

fn quick_through_kproxy() -> Result<()> {
    let quick = QUICK.iter().map(|number| number.parse()).collect::<Result<Vec<_>>>()?;
    alike_through_kproxy(&Suite::built()?, &*three_nodes()?, &quick)
}

fn through_kproxy() -> Result<()> {
    let suite = Suite::built()?;
    let kafka = Cluster::start(KafkaOptions { auto_create: true, heap_mb: HEAP_MB, ..KafkaOptions::nodes(3) })?;
    alike_through_kproxy(&suite, &kafka, &suite.tests()?)
}

fn alike_through_kproxy(suite: &Suite, kafka: &Cluster, tests: &[Test]) -> Result<()> {
    let direct = kafka.bootstrap();
    let kproxy = Kproxy::start(&direct, &["--node-id-base", "1"])?;
    let brokers = [&direct, &kproxy.bootstrap].map(|bootstrap| Broker { bootstrap, version: "4.4.0" });
    say(&format!("  librdkafka's suite, directly and through kproxy: {}", suite.compare(brokers, tests, AT_ONCE)?));
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
