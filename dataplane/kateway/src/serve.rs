//! `kateway serve --config FILE`: a gateway in front of real clusters.

use crate::cli::Serve;
use crate::config::{self, ClusterConfig, Config, TlsFiles};
use crate::node::{self, Cluster, NodeConfig};
use crate::{exit, logging};
use anyhow::{Context, Result};
use gateway::{ClusterSpec, GatewayConfig};
use kafka_admin::AdminTls;
use kafka_client::{ClientConfig, Mechanism, Sasl, Security};
use runtime::net::tls::{ClientCert, ClientTls};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

pub fn run(flags: &Serve) -> Result<ExitCode> {
    let env = |path: &str| std::env::var(config::keys::env(path)).ok();
    let config = match config::load(&flags.config, |path| flags.overrides.get(path).cloned(), env) {
        Ok(config) => config,
        Err(mistakes) => {
            for mistake in &mistakes {
                eprintln!("{mistake}");
            }
            let count = mistakes.len();
            eprintln!("kateway: {count} mistake{} in the configuration", if count == 1 { "" } else { "s" });
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    // Certificates are read now, so that a bad file is found before anything starts.
    let clusters = config
        .clusters
        .iter()
        .map(|(name, cluster)| {
            cluster_spec(name, cluster).with_context(|| format!("{}: clusters.{name}", flags.config.display()))
        })
        .collect::<Result<Vec<_>>>()?;
    if flags.check_config {
        println!("{}: good; {} cluster(s)", flags.config.display(), clusters.len());
        return Ok(ExitCode::SUCCESS);
    }
    logging::init(&config.log_level, config.log_json);
    let json = flags.json;
    node::run(
        node_config(&config, clusters)?,
        async |_| Ok(()),
        |ready, _| {
            if json {
                let line = serde_json::json!({
                    "ready": true, "pub": ready.publish, "sub": ready.subscribe, "man": ready.manager,
                });
                println!("{line}");
            }
            Ok(())
        },
    )
}

fn node_config(config: &Config, clusters: Vec<Cluster>) -> Result<NodeConfig> {
    fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make the data directory {}", config.data_dir.display()))?;
    Ok(NodeConfig {
        data_dir: config.data_dir.clone(),
        listen_pub: config.listen_pub,
        listen_sub: config.listen_sub,
        listen_man: config.listen_man,
        gateway: GatewayConfig {
            shard_count: node::shard_count(config.shard_count),
            pin: config.shard_pin,
            driver: match config.driver.as_str() {
                "io_uring" => Some(runtime::Driver::IoUringCoop),
                "io_uring_plain" => Some(runtime::Driver::IoUring),
                "epoll" => Some(runtime::Driver::Epoll),
                _ => None,
            },
            memory_bytes: config.memory_bytes,
            message_bytes_max: config.message_bytes_max,
            publish_timeout: config.publish_timeout,
            idle_timeout: config.idle_timeout,
            head_timeout: config.head_timeout,
            write_timeout: config.write_timeout,
            cors_origins: config.cors_origins.clone(),
        },
        clusters,
        access_log: config.access_log.clone(),
        drain_delay: config.drain_delay,
        drain_limit: config.drain_limit,
    })
}

/// The client settings of one cluster; reads the PEM files.
pub fn cluster_spec(name: &str, cluster: &ClusterConfig) -> Result<Cluster> {
    let sasl = cluster
        .sasl
        .as_ref()
        .map(|login| {
            let mechanism = match login.mechanism.as_str() {
                "PLAIN" => Mechanism::Plain,
                "SCRAM-SHA-256" => Mechanism::ScramSha256,
                "SCRAM-SHA-512" => Mechanism::ScramSha512,
                other => anyhow::bail!("sasl.mechanism {other} is not known"),
            };
            Ok(Sasl { mechanism, username: login.username.clone(), password: login.password.clone() })
        })
        .transpose()?;
    let admin_tls = cluster.tls.as_ref().map(read_pem).transpose()?;
    let tls = admin_tls
        .as_ref()
        .map(|pem| {
            let client_cert = match (&pem.cert_pem, &pem.key_pem) {
                (Some(chain_pem), Some(key_pem)) => Some(ClientCert { chain_pem, key_pem }),
                _ => None,
            };
            ClientTls::new(pem.ca_pem.as_deref(), client_cert)
        })
        .transpose()?;
    let spec = ClusterSpec {
        name: name.to_owned(),
        client: ClientConfig {
            client_id: "kateway".to_owned(),
            bootstrap: cluster.bootstrap.clone(),
            security: Security { tls: tls.is_some(), sasl },
            request_timeout: cluster.request_timeout,
            connect_timeout: ClientConfig::default().connect_timeout.min(cluster.request_timeout),
            ..ClientConfig::default()
        },
        tls,
    };
    Ok(Cluster { spec, admin_tls })
}

fn read_pem(files: &TlsFiles) -> Result<AdminTls> {
    let read = |path: &Option<PathBuf>| -> Result<Option<Vec<u8>>> {
        path.as_ref().map(|path| fs::read(path).with_context(|| format!("cannot read {}", path.display()))).transpose()
    };
    Ok(AdminTls { ca_pem: read(&files.ca_file)?, cert_pem: read(&files.cert_file)?, key_pem: read(&files.key_file)? })
}
