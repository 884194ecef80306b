//! librdkafka's own suite against the embedded broker.

use anyhow::Result;
use testkit::gateway::Quickstart;
use testkit::librdkafka_suite::{Broker, Expectations, Suite};
use testkit::process::scratch_dir;
use testkit::progress::say;

use crate::harness::{Case, case};

pub const CASES: &[Case] = &[Case {
    nightly: true,
    ..case(
        "librdkafkas_own_suite_passes_against_the_embedded_broker_but_for_what_is_written_down",
        &["bin:kateway", "librdkafka-headers", "kafka2"],
        embedded,
    )
}];

/// On two cores; with more of them tests run into their own time limits.
const AT_ONCE: usize = 3;

fn embedded() -> Result<()> {
    let expected = Expectations::parse(include_str!("../../librdkafka-expected.txt"))?;
    let suite = Suite::built()?;
    let dir = scratch_dir("librdkafka")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let broker = Broker { bootstrap: &quickstart.kafka, version: "4.4.0" };
    say(&format!("  librdkafka's suite: {}", suite.check(broker, &expected, AT_ONCE)?));
    Ok(())
}
