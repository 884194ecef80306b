//! A broker in the foreground, to try real clients against.
//!
//! `cargo run -p embedded-kafka --example broker -- [LISTEN] [DATA_DIR | null]`

use std::path::PathBuf;

use embedded_kafka::{EmbeddedConfig, EmbeddedKafka};

fn main() -> std::io::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let mut args = std::env::args().skip(1);
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let data_dir = args.next().unwrap_or_else(|| "kafka-data".to_owned());
    let config = EmbeddedConfig {
        listen: listen.parse().map_err(std::io::Error::other)?,
        null: data_dir == "null",
        data_dir: PathBuf::from(data_dir),
        ..EmbeddedConfig::default()
    };
    let broker = EmbeddedKafka::start(config)?;
    println!("{}", broker.bootstrap());
    loop {
        std::thread::park();
    }
}
