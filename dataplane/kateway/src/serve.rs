//! `kateway serve --config FILE`: a gateway in front of real clusters.

use crate::config::{ClusterKeys, Driver, Settings};
use crate::live::Live;
use crate::node::{self, Cluster, NodeConfig};
use anyhow::{Context, Result};
use daemon::brokers::{self, Tls};
use daemon::files;
use daemon::logging::LogHandle;
use gateway::{ClusterSpec, GatewayConfig};
use kafka_admin::AdminTls;
use kafka_client::{ClientConfig, Mechanism, Sasl, Security};
use runtime::net::tls::{ClientCert, ClientTls};
use std::cell::RefCell;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

pub fn run(flags: daemon::Serve<Settings>) -> Result<ExitCode> {
    let process = match daemon::open(flags) {
        Ok(process) => process,
        Err(code) => return Ok(code),
    };
    let config = node_config(process.settings(), process.log())?;
    let process = RefCell::new(process); // told ready, then reloaded; never both at once
    node::run(
        config,
        async |_| Ok(()),
        |ready, _| {
            let listeners = [("pub", &ready.publish), ("sub", &ready.subscribe), ("man", &ready.manager)];
            process.borrow().ready(&listeners.map(|(name, at)| (name, at.clone())));
            ControlFlow::Continue(())
        },
        |gateway, controls| {
            gateway.reopen_access_log();
            process.borrow_mut().reload(|settings| controls.reload(Live::of(settings)));
            ControlFlow::Continue(())
        },
    )
}

fn node_config(settings: &Settings, log: LogHandle) -> Result<NodeConfig> {
    files::make_private_dir(&settings.data_dir)
        .with_context(|| format!("cannot make the data directory {}", settings.data_dir.display()))?;
    let clusters = settings
        .clusters
        .iter()
        .map(|(name, cluster)| cluster_spec(name, cluster).with_context(|| format!("clusters.{name}")));
    Ok(NodeConfig {
        data_dir: settings.data_dir.clone(),
        listen_pub: settings.listen_pub,
        listen_sub: settings.listen_sub,
        listen_man: settings.listen_man,
        gateway: GatewayConfig {
            shard_count: node::shard_count(settings.shard_count),
            pin: settings.shard_pin,
            driver: match settings.driver {
                Driver::Auto => None,
                Driver::IoUring => Some(runtime::Driver::IoUringCoop),
                Driver::IoUringPlain => Some(runtime::Driver::IoUring),
                Driver::Epoll => Some(runtime::Driver::Epoll),
            },
            memory_bytes: settings.memory.0,
            message_bytes_max: settings.message_bytes_max(),
            publish_timeout: settings.publish_timeout,
            idle_timeout: settings.idle_timeout,
            head_timeout: settings.head_timeout,
            write_timeout: settings.write_timeout,
            cors_origins: settings.cors_origins.clone(),
            handoff: settings.handoff.config(),
            jobs: settings.jobs.config(),
            // What is live comes from there.
            ..GatewayConfig::default()
        },
        clusters: clusters.collect::<Result<_>>()?,
        access_log: settings.access_log.clone(),
        live: Live::of(settings),
        log,
        oidc: settings.oidc.config(),
        audit_topic: settings.audit_topic.clone(),
        kproxy: None,
    })
}

/// The client settings of one cluster; reads password and PEM files.
pub fn cluster_spec(name: &str, cluster: &ClusterKeys) -> Result<Cluster> {
    let login = cluster.sasl.mechanism.map(|mechanism| {
        let mechanism = match mechanism {
            brokers::Mechanism::Plain => Mechanism::Plain,
            brokers::Mechanism::ScramSha256 => Mechanism::ScramSha256,
            brokers::Mechanism::ScramSha512 => Mechanism::ScramSha512,
        };
        let password = cluster.sasl.password().context("cannot read sasl.password_file")?.expose().to_owned();
        Ok::<_, anyhow::Error>(Sasl { mechanism, username: cluster.sasl.username.clone(), password })
    });
    let admin_tls = cluster.tls.enabled.then(|| read_pem(&cluster.tls)).transpose()?;
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
            bootstrap: cluster.bootstrap.iter().map(ToString::to_string).collect(),
            security: Security { tls: tls.is_some(), sasl: login.transpose()? },
            request_timeout: cluster.request_timeout,
            connect_timeout: ClientConfig::default().connect_timeout.min(cluster.request_timeout),
            ..ClientConfig::default()
        },
        tls,
    };
    Ok(Cluster { spec, admin_tls })
}

fn read_pem(files: &Tls) -> Result<AdminTls> {
    let read = |path: &Option<PathBuf>| -> Result<Option<Vec<u8>>> {
        path.as_ref().map(|path| fs::read(path).with_context(|| format!("cannot read {}", path.display()))).transpose()
    };
    Ok(AdminTls { ca_pem: read(&files.ca_file)?, cert_pem: read(&files.cert_file)?, key_pem: read(&files.key_file)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::keys::Declare;
    use daemon::logging;
    use daemon::{Loaded, Sources};
    use std::collections::BTreeSet;

    /// What a file comes to: all that a running gateway is made from.
    struct Built {
        settings: Settings,
        node: NodeConfig,
    }

    impl Built {
        fn cluster(&self) -> &Cluster {
            &self.node.clusters[0]
        }

        fn client(&self) -> &ClientConfig {
            &self.cluster().spec.client
        }

        fn sasl(&self) -> Option<&Sasl> {
            self.client().security.sasl.as_ref()
        }
    }

    fn build(text: &str) -> Result<Built, String> {
        let loaded = Loaded::<Settings>::parse("test.toml", text, &Sources::default());
        let settings = loaded.map_err(|mistakes| mistakes.to_string())?.settings;
        let node = node_config(&settings, logging::init(&settings.log.level, settings.log.format))
            .map_err(|err| format!("{err:#}"))?;
        Ok(Built { settings, node })
    }

    type Row = (&'static str, &'static str, &'static str, fn(&Built) -> String, &'static str);

    /// Key, a value other than the default, what else the key needs, who obeys it, and what that one has then.
    const OBEYED: &[Row] = &[
        ("data_dir", "'DIR/other'", "", |built| format!("{}", built.node.data_dir.ends_with("other")), "true"),
        ("listen.pub", "'127.0.0.1:1'", "", |built| built.node.listen_pub.to_string(), "127.0.0.1:1"),
        ("listen.sub", "'127.0.0.1:2'", "", |built| built.node.listen_sub.to_string(), "127.0.0.1:2"),
        ("listen.man", "'127.0.0.1:3'", "", |built| built.node.listen_man.to_string(), "127.0.0.1:3"),
        ("shards.count", "3", "", |built| built.node.gateway.shard_count.to_string(), "3"),
        ("shards.pin", "false", "", |built| built.node.gateway.pin.to_string(), "false"),
        ("shards.driver", "'epoll'", "", |built| format!("{:?}", built.node.gateway.driver), "Some(Epoll)"),
        (
            "limits.memory",
            "'64MiB'",
            "shards.count = 2",
            |built| {
                let queue_bytes = built.node.gateway.client(built.client().clone()).queue_bytes_max;
                format!("{} {}", built.node.gateway.budget().tenant_bytes_max >> 20, queue_bytes >> 20)
            },
            "8 96",
        ),
        (
            "limits.message_bytes",
            "5000000",
            "",
            |built| {
                let client = built.node.gateway.client(built.client().clone());
                let fits = client.record_bytes_max > 5_000_000;
                format!("{} {fits}", built.node.gateway.message_bytes_max)
            },
            "5000000 true",
        ),
        ("limits.publish_timeout", "'7s'", "", |built| format!("{:?}", built.node.gateway.publish_timeout), "7s"),
        ("limits.idle_timeout", "'8s'", "", |built| format!("{:?}", built.node.gateway.idle_timeout), "8s"),
        ("limits.head_timeout", "'9s'", "", |built| format!("{:?}", built.node.gateway.head_timeout), "9s"),
        ("limits.write_timeout", "'11s'", "", |built| format!("{:?}", built.node.gateway.write_timeout), "11s"),
        ("limits.connections_per_address", "12", "", |built| built.node.live.connections_per_address.to_string(), "12"),
        ("limits.connections_per_app", "13", "", |built| built.node.live.connections_per_app.to_string(), "13"),
        ("drain.delay", "'2s'", "", |built| format!("{:?}", built.node.live.drain_delay), "2s"),
        ("drain.limit", "'3s'", "", |built| format!("{:?}", built.node.live.drain_limit), "3s"),
        ("tenants.stale_after", "'4s'", "", |built| format!("{:?}", built.node.live.stale_after), "4s"),
        ("handoff.enabled", "false", "", |built| built.node.gateway.handoff.enabled.to_string(), "false"),
        ("jobs.enabled", "false", "", |built| built.node.gateway.jobs.enabled.to_string(), "false"),
        (
            "jobs.free_bytes_min",
            "'3GiB'",
            "",
            |built| format!("{}", built.node.gateway.jobs.free_bytes_min(u64::MAX) >> 30),
            "3",
        ),
        ("handoff.device", "'direct'", "", |built| format!("{:?}", built.node.gateway.handoff.device), "Direct"),
        (
            "handoff.bytes_max",
            "'7GiB'",
            "",
            |built| format!("{}", built.node.gateway.handoff.bytes_max(u64::MAX) >> 30),
            "7",
        ),
        (
            "handoff.topic_bytes_max",
            "'2MiB'",
            "",
            |built| built.node.gateway.handoff.topic_bytes_max.to_string(),
            "2097152",
        ),
        (
            "handoff.app_bytes_max",
            "'3MiB'",
            "",
            |built| built.node.gateway.handoff.app_bytes_max.to_string(),
            "3145728",
        ),
        (
            "handoff.free_bytes_min",
            "'1GiB'",
            "",
            |built| format!("{}", built.node.gateway.handoff.free_bytes_min(u64::MAX) >> 30),
            "1",
        ),
        ("handoff.age_max", "'2h'", "", |built| format!("{:?}", built.node.gateway.handoff.age_max), "Some(7200s)"),
        (
            "handoff.receipts_keep",
            "'3h'",
            "",
            |built| format!("{:?}", built.node.gateway.handoff.receipts_keep),
            "10800s",
        ),
        (
            "handoff.drain_bytes_per_s",
            "'1MiB'",
            "",
            |built| format!("{:?}", built.node.gateway.handoff.drain_bytes_per_s),
            "Some(1048576)",
        ),
        (
            "manager.audit_topic",
            "'m/gafka.audit'",
            "",
            |built| built.node.audit_topic.as_ref().map_or(String::new(), |to| format!("{} {}", to.cluster, to.topic)),
            "m gafka.audit",
        ),
        (
            "manager.oidc.issuer",
            "'https://login.example'",
            "manager.oidc.audience = 'a'\nmanager.oidc.jwks_file = 'DIR/jwks.json'",
            |built| built.node.oidc.as_ref().map_or(String::new(), |oidc| oidc.issuer.clone()),
            "https://login.example",
        ),
        (
            "manager.oidc.audience",
            "'gafka'",
            "manager.oidc.issuer = 'i'\nmanager.oidc.jwks_file = 'DIR/jwks.json'",
            |built| built.node.oidc.as_ref().map_or(String::new(), |oidc| oidc.audience.clone()),
            "gafka",
        ),
        (
            "manager.oidc.jwks_file",
            "'DIR/jwks.json'",
            "manager.oidc.issuer = 'i'\nmanager.oidc.audience = 'a'",
            |built| {
                built.node.oidc.as_ref().map_or(String::new(), |oidc| oidc.jwks_file.ends_with("jwks.json").to_string())
            },
            "true",
        ),
        (
            "manager.oidc.role_claim",
            "'groups'",
            "manager.oidc.issuer = 'i'\nmanager.oidc.audience = 'a'\nmanager.oidc.jwks_file = 'DIR/jwks.json'",
            |built| built.node.oidc.as_ref().map_or(String::new(), |oidc| oidc.role_claim.clone()),
            "groups",
        ),
        (
            "manager.oidc.apps_claim",
            "'tenants'",
            "manager.oidc.issuer = 'i'\nmanager.oidc.audience = 'a'\nmanager.oidc.jwks_file = 'DIR/jwks.json'",
            |built| built.node.oidc.as_ref().map_or(String::new(), |oidc| oidc.apps_claim.clone()),
            "tenants",
        ),
        (
            "log.level",
            "'warn,kateway=debug'",
            "",
            |built| built.node.live.log_level.as_str().to_owned(),
            "warn,kateway=debug",
        ),
        ("log.format", "'json'", "", |built| format!("{:?}", built.settings.log.format), "Json"),
        ("log.access", "'DIR/access.log'", "", |built| built.node.access_log.is_some().to_string(), "true"),
        (
            "cors.origins",
            "['https://a.example']",
            "",
            |built| built.node.gateway.cors_origins.concat(),
            "https://a.example",
        ),
        ("clusters.m.bootstrap", "['b:1', 'c:2']", "", |built| built.client().bootstrap.join(","), "b:1,c:2"),
        (
            "clusters.m.request_timeout",
            "'4s'",
            "",
            |built| format!("{:?} {:?}", built.client().request_timeout, built.client().connect_timeout),
            "4s 4s",
        ),
        (
            "clusters.m.tls.enabled",
            "true",
            "clusters.m.tls.ca_file = 'DIR/cert.pem'",
            |built| format!("{} {}", built.client().security.tls, built.cluster().spec.tls.is_some()),
            "true true",
        ),
        (
            "clusters.m.tls.ca_file",
            "'DIR/cert.pem'",
            "clusters.m.tls.enabled = true",
            |built| built.cluster().admin_tls.as_ref().is_some_and(|tls| tls.ca_pem.is_some()).to_string(),
            "true",
        ),
        (
            "clusters.m.tls.cert_file",
            "'DIR/cert.pem'",
            "clusters.m.tls.enabled = true\nclusters.m.tls.ca_file = 'DIR/cert.pem'\nclusters.m.tls.key_file = 'DIR/key.pem'",
            |built| built.cluster().admin_tls.as_ref().is_some_and(|tls| tls.cert_pem.is_some()).to_string(),
            "true",
        ),
        (
            "clusters.m.tls.key_file",
            "'DIR/key.pem'",
            "clusters.m.tls.enabled = true\nclusters.m.tls.ca_file = 'DIR/cert.pem'\nclusters.m.tls.cert_file = 'DIR/cert.pem'",
            |built| built.cluster().admin_tls.as_ref().is_some_and(|tls| tls.key_pem.is_some()).to_string(),
            "true",
        ),
        (
            "clusters.m.sasl.mechanism",
            "'SCRAM-SHA-512'",
            "clusters.m.sasl.username = 'u'\nclusters.m.sasl.password = 'p'",
            |built| format!("{:?}", built.sasl().map(|sasl| sasl.mechanism)),
            "Some(ScramSha512)",
        ),
        (
            "clusters.m.sasl.username",
            "'u'",
            "clusters.m.sasl.mechanism = 'PLAIN'\nclusters.m.sasl.password = 'p'",
            |built| built.sasl().map_or(String::new(), |sasl| sasl.username.clone()),
            "u",
        ),
        (
            "clusters.m.sasl.password",
            "'p'",
            "clusters.m.sasl.mechanism = 'PLAIN'\nclusters.m.sasl.username = 'u'",
            |built| built.sasl().map_or(String::new(), |sasl| sasl.password.clone()),
            "p",
        ),
        (
            "clusters.m.sasl.password_file",
            "'DIR/password'",
            "clusters.m.sasl.mechanism = 'PLAIN'\nclusters.m.sasl.username = 'u'",
            |built| built.sasl().map_or(String::new(), |sasl| sasl.password.clone()),
            "from a file",
        ),
    ];

    /// Of nobody's key.
    const JWKS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    /// Went wrong: `limits.message_bytes` was read, checked, documented, and never reached the Kafka client.
    #[test]
    fn every_configuration_key_reaches_whoever_obeys_it() {
        let listed = Declare::of::<Settings>().keys.into_iter().map(|key| key.path.replace('*', "m"));
        let rows: BTreeSet<String> = OBEYED.iter().map(|row| row.0.to_owned()).collect();
        assert_eq!(listed.collect::<BTreeSet<_>>(), rows, "a row for each key");

        let dir = tempfile::tempdir().expect("a directory");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        for (name, content) in [
            ("cert.pem", made.cert.pem()),
            ("key.pem", made.signing_key.serialize_pem()),
            ("password", "from a file\nnot this".to_owned()),
            ("jwks.json", JWKS.to_owned()),
        ] {
            fs::write(dir.path().join(name), content).expect("written");
        }
        let required = [("data_dir", "'DIR/data'"), ("clusters.m.bootstrap", "['a:1']")];
        for (key, value, needs, obeyed, expected) in OBEYED {
            let rest = required.iter().filter(|(required, _)| required != key);
            let without: String = rest.map(|(key, value)| format!("{key} = {value}\n")).collect::<String>() + needs;
            let in_dir = |text: String| text.replace("DIR", &dir.path().display().to_string());
            let built = build(&in_dir(format!("{key} = {value}\n{without}\n")));
            let built = built.unwrap_or_else(|why| panic!("{key} = {value}: {why}"));
            assert_eq!(obeyed(&built), *expected, "{key} = {value}");
            if let Ok(built) = build(&in_dir(without)) {
                assert_ne!(obeyed(&built), *expected, "{key} makes no difference");
            }
        }
    }
}
