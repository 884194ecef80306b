//! `cargo xtask up`: a real component of the test kit in the foreground, for a person at work.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;
use testkit::kafka::{Cluster, KafkaOptions, SASL_MECHANISMS, SASL_PASSWORD, SASL_USER, Version, Zookeeper};

use crate::args::{Args, usage};

const NODES_MAX: usize = 5;
const CHOICES: &str =
    "kafka, kafka3 (three nodes), kafka39 (3.9 with ZooKeeper), kafka2 (2.7, without topic ids), zookeeper";

pub fn run(words: &[String]) -> Result<ExitCode> {
    let mut args = Args::new(words);
    let json = args.flag("--json");
    let mut options = KafkaOptions {
        sasl: args.flag("--sasl"),
        tls: args.flag("--tls"),
        auto_create: !args.flag("--no-auto-create"),
        client_port: args.number("--port")?,
        ..KafkaOptions::default()
    };
    let nodes = args.number("--nodes")?;
    options.heap_mb = args.number("--heap")?.unwrap_or(options.heap_mb);
    match args.word().as_deref() {
        Some("kafka") => options.nodes = nodes.unwrap_or(1),
        Some("kafka3") => options.nodes = nodes.unwrap_or(3),
        Some(old @ ("kafka39" | "kafka2")) => {
            options.version = if old == "kafka2" { Version::WithoutTopicIds } else { Version::WithZookeeper };
            options.nodes = nodes.unwrap_or(1);
        }
        Some("zookeeper") => {
            args.finish()?;
            return zookeeper(json);
        }
        Some(other) => return Err(usage(format!("there is no {other:?} to bring up; there is {CHOICES}"))),
        None => return Err(usage(format!("up what? There is {CHOICES}"))),
    }
    args.finish()?;
    if options.version.has_zookeeper() && options.sasl {
        return Err(usage("with ZooKeeper there is no SASL here"));
    }
    if options.nodes.is_multiple_of(2) || options.nodes > NODES_MAX {
        return Err(usage(format!("--nodes: an odd number up to {NODES_MAX}, for a majority")));
    }
    kafka(options, json)
}

fn kafka(options: KafkaOptions, json: bool) -> Result<ExitCode> {
    let stop = stop_on_signal()?;
    let mut cluster = Cluster::start(options.clone())?;
    if json {
        let mut ready = json!({"ready": true, "kafka": cluster.bootstrap(), "plain": cluster.internal()});
        if options.sasl {
            ready["username"] = SASL_USER.into();
            ready["password"] = SASL_PASSWORD.into();
            ready["mechanisms"] = SASL_MECHANISMS.into();
        }
        if let Some(ca) = cluster.ca_pem() {
            ready["ca"] = ca.display().to_string().into();
        }
        console::println!("{ready}");
    } else {
        banner(&cluster, &options);
    }
    wait_for_stop(&stop, || cluster.dead_node())?;
    cluster.stop();
    Ok(ExitCode::SUCCESS)
}

fn zookeeper(json: bool) -> Result<ExitCode> {
    let stop = stop_on_signal()?;
    let mut zookeeper = Zookeeper::start()?;
    if json {
        console::println!("{}", json!({"ready": true, "zookeeper": zookeeper.connect()}));
    } else {
        console::println!("ZooKeeper is ready on {}\nCtrl-C stops it and removes its data.", zookeeper.connect());
    }
    wait_for_stop(&stop, || zookeeper.death())?;
    zookeeper.stop();
    Ok(ExitCode::SUCCESS)
}

/// Becomes true at the first Ctrl-C or SIGTERM; the second one ends us at once. Asked for before anything starts, so
/// that a signal during the start also cleans up.
fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Waits for the person; an error when the component ends before they do.
fn wait_for_stop(stop: &AtomicBool, mut death: impl FnMut() -> Option<String>) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        if let Some(death) = death() {
            // Ctrl-C in a terminal reaches the component too, and it may be quicker than we are.
            std::thread::sleep(Duration::from_millis(200));
            if stop.load(Ordering::Relaxed) {
                break;
            }
            bail!("{death}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn banner(cluster: &Cluster, options: &KafkaOptions) {
    console::println!("Kafka is ready on {}", cluster.bootstrap());
    if options.sasl {
        console::println!("  SASL {SASL_MECHANISMS}: user {SASL_USER}, password {SASL_PASSWORD}");
    }
    if let Some(ca) = cluster.ca_pem() {
        console::println!("  TLS: trust {}", ca.display());
    }
    if options.sasl || options.tls {
        console::println!("  without security: {}", cluster.internal());
    }
    console::println!("  try: kcat -L -b {}", cluster.internal());
    console::println!("Ctrl-C stops it and removes its data.");
}
