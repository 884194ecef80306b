//! The way to Kafka: who it is and how to log in, whether it answers, and which topics it has.
//!
//! Secrets come from files and the environment, never from the command line, which everybody on the machine can read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kafka_admin::{AdminError, AdminTls, ExactRecord, KafkaAdmin, ProduceError, Stored, TopicAdmin};
use kafka_client::{ClientConfig, Sasl, Security, Since};
use kafka_wire::handoff_entry::MSG_ID_HEADER;
use tokio::sync::OnceCell;

use super::plan::Planned;
use crate::cli::Drain;
use crate::exit::Fault;

/// Where the password is when no file has it.
const PASSWORD_VARIABLE: &str = "WALCTL_SASL_PASSWORD";
/// Whatever did not come while others waited is waited for this long at least.
const PATIENCE_MIN: Duration = Duration::from_secs(1);
/// Between two looks at a topic that is not there, or at a cluster that does not answer.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// What it takes to connect.
#[derive(Debug)]
pub struct Access {
    config: ClientConfig,
    tls: Option<AdminTls>,
}

/// From the command line; `None`: no brokers are named.
pub fn access(drain: &Drain) -> Result<Option<Access>> {
    if drain.bootstrap.is_empty() {
        return Ok(None);
    }
    for address in &drain.bootstrap {
        let port = address.rsplit_once(':').and_then(|(host, port)| Some(port).filter(|_| !host.is_empty()));
        if port.is_none_or(|port| port.parse::<u16>().is_err()) {
            return Err(Fault::Usage(format!("--bootstrap: expected HOST:PORT, found {address}")).into());
        }
    }
    let read = |file: &Option<std::path::PathBuf>| file.as_deref().map(read_whole).transpose();
    let is_tls = drain.tls || drain.ca.is_some() || drain.cert.is_some();
    let tls = AdminTls { ca_pem: read(&drain.ca)?, cert_pem: read(&drain.cert)?, key_pem: read(&drain.key)? };
    let sasl = match (drain.sasl_mechanism, &drain.sasl_username) {
        (Some(mechanism), Some(username)) => {
            Some(Sasl { mechanism, username: username.clone(), password: password(drain)? })
        }
        _ => None,
    };
    let config = ClientConfig {
        client_id: "walctl".to_owned(),
        bootstrap: drain.bootstrap.clone(),
        security: Security { tls: is_tls, sasl },
        ..ClientConfig::default()
    };
    Ok(Some(Access { config, tls: is_tls.then_some(tls) }))
}

fn read_whole(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

fn password(drain: &Drain) -> Result<String> {
    let password = match &drain.sasl_password_file {
        Some(file) => {
            let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            text.lines().next().unwrap_or_default().to_owned()
        }
        None => std::env::var(PASSWORD_VARIABLE).unwrap_or_default(),
    };
    match password.is_empty() {
        true => Err(Fault::Usage(format!("no password: give --sasl-password-file, or set {PASSWORD_VARIABLE}")).into()),
        false => Ok(password),
    }
}

/// The id of a topic where the cluster tells one, or why nothing can be delivered to it.
pub type Found = Result<Option<[u8; 16]>, String>;

/// Where partitions end, and records with the id of a message.
pub type Searched = (BTreeMap<i32, i64>, Vec<kafka_client::Found>);

/// A cluster that answers.
pub struct Kafka {
    admin: KafkaAdmin,
    timeout: Duration,
    /// When Kafka last took something. Nobody waits for more than the timeout from then on: a cluster that is away, or topics
    /// that are gone, cost it once, not once for each partition.
    taken_at: Cell<Instant>,
    topics: RefCell<BTreeMap<String, Rc<OnceCell<Found>>>>,
}

impl Kafka {
    /// Connects, and waits until a broker answers.
    pub async fn connect(access: Access, timeout: Duration) -> Result<Kafka> {
        let Access { config, tls } = access;
        let servers = config.bootstrap.join(",");
        let admin = KafkaAdmin::connect(config, tls).context("cannot use these certificates")?;
        let until = Instant::now() + timeout;
        loop {
            match admin.broker_count().await {
                Ok(_) => {
                    let taken_at = Cell::new(Instant::now());
                    return Ok(Kafka { admin, timeout, taken_at, topics: RefCell::default() });
                }
                Err(err) if err.is_transient() && Instant::now() + LOOK_PAUSE < until => {
                    tokio::time::sleep(LOOK_PAUSE).await;
                }
                Err(err) if err.is_transient() => {
                    return Err(Fault::Unreachable(format!("{servers}: {err}")).into());
                }
                Err(err @ (AdminError::NotAuthenticated { .. } | AdminError::NotAuthorized { .. })) => {
                    return Err(Fault::Denied(format!("{servers}: {err}")).into());
                }
                Err(err) => return Err(anyhow::Error::new(err).context(format!("{servers} does not serve us"))),
            }
        }
    }

    /// What the cluster says of a topic; one that is not there is looked for until the time is over: brokers that come back deny
    /// topics until they have been told of them.
    pub async fn topic(&self, topic: &str) -> Found {
        let cell = Rc::clone(self.topics.borrow_mut().entry(topic.to_owned()).or_default());
        cell.get_or_init(|| self.find(topic)).await.clone()
    }

    /// Looks for messages that were handed off, in a partition of a topic or in all of it: where they end, and what is there.
    pub async fn search(&self, topic: &str, partition: Option<i32>, since: Since) -> Result<Searched, String> {
        let search = self.admin.search(topic, partition, since, MSG_ID_HEADER);
        match tokio::time::timeout(self.timeout, search).await {
            Ok(searched) => searched.map_err(|err| err.to_string()),
            Err(_) => Err(format!("its partitions cannot be read within {} s", self.timeout.as_secs())),
        }
    }

    async fn find(&self, topic: &str) -> Found {
        let until = Instant::now() + self.patience();
        loop {
            match self.admin.describe_topic(topic).await {
                Ok(described) => return Ok(described.id),
                Err(err) => {
                    let may_pass = err.is_transient() || matches!(err, AdminError::NoSuchTopic { .. });
                    if !may_pass || Instant::now() + LOOK_PAUSE >= until {
                        return Err(err.to_string());
                    }
                    tokio::time::sleep(LOOK_PAUSE).await;
                }
            }
        }
    }

    /// Topics that nothing can be delivered to, and why.
    pub async fn look_at(&self, planned: &[Planned]) -> Result<BTreeMap<String, String>> {
        let mut problems = BTreeMap::new();
        for one in planned {
            if let Err(why) = self.topic(one.topic()).await {
                problems.insert(one.topic().to_owned(), why);
            }
        }
        Ok(problems)
    }

    pub async fn produce(&self, topic: &str, run: Vec<ExactRecord>) -> Vec<Result<Stored, ProduceError>> {
        let outcomes = self.admin.produce_run(topic, run, self.patience()).await;
        if outcomes.iter().any(Result::is_ok) {
            self.taken_at.set(Instant::now());
        }
        outcomes
    }

    fn patience(&self) -> Duration {
        self.timeout.saturating_sub(self.taken_at.get().elapsed()).max(PATIENCE_MIN.min(self.timeout))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use expect_test::{Expect, expect};

    use super::*;
    use crate::cli::{Cli, Command};

    fn check(args: &str, expected: Expect) {
        let words = ["walctl", "drain", "dir", "--bootstrap", "k1:9092,k2:9092"].into_iter().chain(args.split(' '));
        let Command::Drain(drain) = Cli::parse_from(words.filter(|word| !word.is_empty())).command else {
            panic!("another command")
        };
        let said = match access(&drain) {
            Ok(access) => {
                let Access { config, tls } = access.expect("brokers are named");
                let password = config.security.sasl.as_ref().map(|sasl| &sasl.password);
                format!("{:?} {:?} {password:?} {tls:?}", config.bootstrap, config.security)
            }
            Err(err) => format!("{err:#}"),
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn brokers_are_spoken_to_as_the_command_line_says_and_secrets_are_not_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let (pem, secret) = (dir.path().join("ca.pem"), dir.path().join("secret"));
        fs::write(&pem, "a certificate").unwrap();
        fs::write(&secret, "open sesame\nno part of it\n").unwrap();
        let (pem, secret) = (pem.display(), secret.display());
        check("", expect![[r#"["k1:9092", "k2:9092"] Security { tls: false, sasl: None } None None"#]]);
        check(
            "--tls",
            expect![[
                r#"["k1:9092", "k2:9092"] Security { tls: true, sasl: None } None Some(AdminTls { own_ca: false, client_cert: false, .. })"#
            ]],
        );
        check(
            &format!("--ca {pem}"),
            expect![[
                r#"["k1:9092", "k2:9092"] Security { tls: true, sasl: None } None Some(AdminTls { own_ca: true, client_cert: false, .. })"#
            ]],
        );
        check(
            &format!("--cert {pem} --key {pem}"),
            expect![[
                r#"["k1:9092", "k2:9092"] Security { tls: true, sasl: None } None Some(AdminTls { own_ca: false, client_cert: true, .. })"#
            ]],
        );
        let login = "--sasl-username me --sasl-mechanism scram-sha-256";
        check(
            &format!("{login} --sasl-password-file {secret}"),
            expect![[
                r#"["k1:9092", "k2:9092"] Security { tls: false, sasl: Some(Sasl { SCRAM-SHA-256 as "me" }) } Some("open sesame") None"#
            ]],
        );
        check(login, expect!["no password: give --sasl-password-file, or set WALCTL_SASL_PASSWORD"]);
    }
}
