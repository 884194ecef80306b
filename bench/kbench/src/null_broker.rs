//! `kbench null-broker`: Kafka's protocol at the least possible cost, so that a measurement shows the gateway.

use std::process::ExitCode;

use anyhow::Result;
use embedded_kafka::{EmbeddedConfig, EmbeddedKafka};

use crate::cli::NullBroker;
use crate::{pin, ready};

pub fn run(command: NullBroker) -> Result<ExitCode> {
    pin::this_thread(command.serve.cpu)?;
    let config = EmbeddedConfig { listen: command.serve.listen, null: true, ..EmbeddedConfig::default() };
    let broker = EmbeddedKafka::start(config)?;
    ready::announce(command.serve.json, "kafka", &broker.bootstrap());
    // Until killed: there is nothing to lose.
    loop {
        std::thread::park();
    }
}
