//! What the tests can ask for, and how each part comes to this machine.
//!
//! | component | by | why this one |
//! |---|---|---|
//! | `node`, `npm` | the distribution's packages | run and install the JavaScript client |
//! | `go` | the system, Debian's is too old | must be there, new enough for `go/go.mod`; builds Go's Kafka clients |
//! | `jdk`, `maven`, `python`, `kcat` | the distribution's packages | must be there; installed when we may, else named |
//! | `strace` | the distribution's package | fault injection into system calls |
//! | `beanstalkd`, `redis` | the distribution's packages | job servers that kbench measures beside ours |
//! | `cargo-deny` | `cargo install` | licences, bans and sources of dependencies; minutes to build, once |
//! | `cargo-mutants` | `cargo install` | what no test notices; for `cargo xtask mutants` only |
//! | `kafka` 4.4.0 | Maven | KRaft broker and Java clients |
//! | `kafka-tools` 4.3.0 | Maven | Kafka's own command-line tools with the client of their version |
//! | `kafka-zk` 3.9.2 | Maven | the last line that runs with ZooKeeper, and ZooKeeper itself |
//! | `kafka2` 2.7.2 | Maven | brokers from before topic ids, nightly; and programs that librdkafka's own tests start |
//! | `python-clients` | pip into a venv | librdkafka (confluent-kafka) and two independent implementations (kafka-python, aiokafka), the newest |
//! | `python-clients-old` | pip into a venv | confluent-kafka and kafka-python in the versions that many still run |
//! | `api-tools` | pip into a venv | a validator of OpenAPI documents, and schemathesis, which sends what they describe |
//! | `kafkajs` | npm | the JavaScript client |
//! | `librdkafka-headers` | the distribution's packages | what building librdkafka's own tests takes |
//!
//! Versions are pinned here and their bytes in `components.lock`. To move one: change the number, run
//! `cargo xtask components --lock`, look at the difference, commit.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};

use anyhow::{Context, Result, bail};

use crate::fetch::Store;
use crate::lockfile::Strength;
use crate::pip::Wheels;
use crate::system::Program;

/// How a component is obtained.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// A program of the system.
    System(Program),
    /// Headers below `/usr/include`, which the distribution's packages bring.
    Headers { files: &'static [&'static str], apt: &'static [&'static str] },
    /// `group:artifact:version`, with everything they need at run time.
    Maven { artifacts: &'static [&'static str] },
    /// A program from the crate registry, built here with the lock file it was published with.
    Cargo { package: &'static str },
    /// Wheels into a virtual environment.
    Pip(Wheels),
    /// `name@version` into `node_modules`, also of what these need: nothing else is installed.
    Npm { packages: &'static [&'static str] },
}

#[derive(Debug)]
pub struct Component {
    pub name: &'static str,
    pub version: &'static str,
    pub about: &'static str,
    pub source: Source,
    /// Components that must be there first.
    pub needs: &'static [&'static str],
    /// Only fetched for `--nightly`.
    pub nightly: bool,
}

/// The one list.
pub const ALL: &[Component] = &[
    Component {
        name: "jdk",
        version: "17+",
        about: "Java, to run brokers and the Java clients",
        source: Source::System(Program {
            name: "javac",
            version_args: &["-version"],
            major_min: 17,
            apt: &["openjdk-17-jdk-headless"],
        }),
        needs: &[],
        nightly: false,
    },
    Component {
        name: "maven",
        version: "3+",
        about: "fetches Java components",
        source: Source::System(Program { name: "mvn", version_args: &["-v"], major_min: 3, apt: &["maven"] }),
        needs: &["jdk"],
        nightly: false,
    },
    Component {
        name: "python",
        version: "3+",
        about: "runs the Python clients and tools",
        source: Source::System(Program {
            name: "python3",
            version_args: &["-c", "import sys, venv, ensurepip; print('Python', sys.version.split()[0])"],
            major_min: 3,
            apt: &["python3", "python3-venv"],
        }),
        needs: &[],
        nightly: false,
    },
    Component {
        name: "kcat",
        version: "1+",
        about: "command-line client on librdkafka; Debian's is old (2.0.2), which is why it is here",
        source: Source::System(Program { name: "kcat", version_args: &["-V"], major_min: 1, apt: &["kcat"] }),
        needs: &[],
        nightly: false,
    },
    Component {
        name: "strace",
        version: "5+",
        about: "makes system calls of our binaries fail, and ends them at chosen ones",
        source: Source::System(Program { name: "strace", version_args: &["-V"], major_min: 5, apt: &["strace"] }),
        needs: &[],
        nightly: false,
    },
    Component {
        name: "beanstalkd",
        version: "1+",
        about: "a job server with a log of its own, which kbench measures beside ours",
        source: Source::System(Program {
            name: "beanstalkd",
            version_args: &["-v"],
            major_min: 1,
            apt: &["beanstalkd"],
        }),
        needs: &[],
        nightly: false,
    },
    Component {
        name: "redis",
        version: "6+",
        about: "a server that many keep delayed jobs in, which kbench measures beside ours",
        source: Source::System(Program {
            name: "redis-server",
            version_args: &["--version"],
            major_min: 6,
            apt: &["redis-server"],
        }),
        needs: &[],
        nightly: false,
    },
    Component {
        name: "go",
        version: "1+",
        about: "builds Sarama, kafka-go and franz-go; how new it must be is said by testkit/go/go.mod",
        source: Source::System(Program { name: "go", version_args: &["version"], major_min: 1, apt: &["golang-go"] }),
        needs: &[],
        nightly: false,
    },
    Component {
        name: "cargo-deny",
        version: "0.20.2",
        about: "licences, bans and sources of our dependencies",
        source: Source::Cargo { package: "cargo-deny" },
        needs: &[],
        nightly: false,
    },
    Component {
        name: "cargo-mutants",
        version: "27.1.0",
        about: "changes our code and sees whether a test notices; for `cargo xtask mutants`",
        source: Source::Cargo { package: "cargo-mutants" },
        needs: &[],
        nightly: true,
    },
    Component {
        name: "kafka",
        version: "4.4.0",
        about: "Apache Kafka broker (KRaft) and the Java clients",
        source: Source::Maven {
            artifacts: &[
                "org.apache.kafka:kafka_2.13:4.4.0",
                "org.apache.logging.log4j:log4j-core:2.25.1",
                "org.apache.logging.log4j:log4j-1.2-api:2.25.1",
                "org.apache.logging.log4j:log4j-slf4j-impl:2.25.1",
            ],
        },
        needs: &["jdk", "maven"],
        nightly: false,
    },
    Component {
        name: "kafka-tools",
        // The newest that is published; -1: with what it needs.
        version: "4.3.0-1",
        about: "Kafka's console and verifiable clients, and its producer performance tool, which kbench measures against",
        source: Source::Maven { artifacts: &["org.apache.kafka:kafka-tools:4.3.0"] },
        needs: &["jdk", "maven"],
        nightly: false,
    },
    Component {
        name: "kafka-zk",
        version: "3.9.2",
        about: "the last Apache Kafka that runs with ZooKeeper, and ZooKeeper itself",
        source: Source::Maven { artifacts: &["org.apache.kafka:kafka_2.13:3.9.2", "org.slf4j:slf4j-reload4j:1.7.36"] },
        needs: &["jdk", "maven"],
        nightly: false,
    },
    Component {
        name: "kafka2",
        version: "2.7.2",
        about: "an Apache Kafka whose brokers know no topic ids (before 2.8), on the ZooKeeper of kafka-zk",
        source: Source::Maven { artifacts: &["org.apache.kafka:kafka_2.13:2.7.2", "org.slf4j:slf4j-reload4j:1.7.36"] },
        needs: &["kafka-zk"],
        nightly: false,
    },
    Component {
        name: "python-clients",
        version: "2026.11-1",
        about: "confluent-kafka 2.16.1, kafka-python 3.0.12 and aiokafka 0.14.0 (Python 3.11 to 3.14)",
        source: Source::Pip(Wheels {
            packages: &[
                "confluent-kafka==2.16.1",
                "kafka-python==3.0.12",
                "aiokafka==0.14.0",
                "async-timeout==5.0.1",
                "packaging==26.4",
                "typing-extensions==4.16.0",
                // Compression: of aiokafka and python-snappy, of kafka-python.
                "cramjam==2.14.0",
                "python-snappy==0.7.3",
                "lz4==4.4.5",
                "zstandard==0.25.0",
            ],
            pythons: &["3.11", "3.12", "3.13", "3.14"],
            modules: "confluent_kafka, kafka, aiokafka, cramjam, snappy, lz4, zstandard",
        }),
        needs: &["python"],
        nightly: false,
    },
    Component {
        name: "python-clients-old",
        version: "2026.11",
        about: "confluent-kafka 2.3.0 and kafka-python 2.0.2, which have no wheels for newer Pythons (3.11 or 3.12)",
        source: Source::Pip(Wheels {
            packages: &[
                "confluent-kafka==2.3.0",
                "kafka-python==2.0.2",
                // kafka-python brings a copy of six that Python 3.12 cannot import; this one takes its place.
                "six==1.17.0",
                "cramjam==2.14.0",
                "python-snappy==0.7.3",
                "lz4==4.4.5",
                "zstandard==0.25.0",
            ],
            pythons: &["3.11", "3.12"],
            modules: "confluent_kafka, six, cramjam, snappy, lz4, zstandard",
        }),
        needs: &["python"],
        nightly: false,
    },
    Component {
        name: "api-tools",
        version: "2026.11",
        about: "openapi-spec-validator 0.9.0 and schemathesis 4.32.5 (Python 3.11 to 3.14)",
        source: Source::Pip(Wheels {
            packages: &[
                "openapi-spec-validator==0.9.0",
                "schemathesis==4.32.5",
                "annotated-types==0.8.0",
                "anyio==4.16.0",
                "attrs==26.1.0",
                "certifi==2026.10.19.post1",
                "charset-normalizer==3.5.3",
                "click==8.5.1",
                "graphql-core==3.3.2",
                "harfile==0.6.0",
                "hypothesis==6.170.17",
                "hypothesis-graphql==0.13.5",
                "idna==3.20",
                "iniconfig==2.3.1",
                "jsonschema==4.26.0",
                "jsonschema-path==0.5.0",
                "jsonschema-rs==0.60.3",
                "jsonschema-specifications==2025.9.1",
                "lazy-object-proxy==1.13.0",
                "markdown-it-py==4.3.0",
                "markupsafe==3.0.4",
                "mdurl==0.1.2",
                "openapi-schema-validator==0.9.0",
                "packaging==26.4",
                "pathable==0.6.0",
                "pluggy==1.7.0",
                "pydantic==2.14.4",
                "pydantic-core==2.50.5",
                "pydantic-settings==2.16.3",
                "pygments==2.21.0",
                "pyrate-limiter==4.5.1",
                "pytest==9.2.0",
                "python-dotenv==1.2.4",
                "pyyaml==6.0.4",
                "referencing==0.37.0",
                "requests==2.34.2",
                "rfc3339-validator==0.1.4",
                "rich==15.0.0",
                "rpds-py==2026.9.1",
                "six==1.17.0",
                "sortedcontainers==2.4.0",
                "typing-extensions==4.16.0",
                "typing-inspection==0.4.5",
                "urllib3==2.8.0",
                "werkzeug==3.1.9",
            ],
            pythons: &["3.11", "3.12", "3.13", "3.14"],
            modules: "openapi_spec_validator, schemathesis",
        }),
        needs: &["python"],
        nightly: false,
    },
    Component {
        name: "node",
        version: "18+",
        about: "runs the JavaScript client",
        source: Source::System(Program { name: "node", version_args: &["--version"], major_min: 18, apt: &["nodejs"] }),
        needs: &[],
        nightly: false,
    },
    Component {
        name: "npm",
        version: "9+",
        about: "fetches and installs the JavaScript client",
        source: Source::System(Program { name: "npm", version_args: &["--version"], major_min: 9, apt: &["npm"] }),
        needs: &["node"],
        nightly: false,
    },
    Component {
        name: "kafkajs",
        version: "2.2.4",
        about: "KafkaJS, a client in JavaScript alone",
        source: Source::Npm { packages: &["kafkajs@2.2.4"] },
        needs: &["node", "npm"],
        nightly: false,
    },
    Component {
        name: "librdkafka-headers",
        version: "any",
        about: "headers that librdkafka's own tests are built with",
        source: Source::Headers {
            files: &["sasl/sasl.h", "zstd.h", "lz4.h", "rapidjson/document.h", "openssl/ssl.h", "zlib.h"],
            apt: &[
                "g++",
                "make",
                "libsasl2-dev",
                "libzstd-dev",
                "liblz4-dev",
                "rapidjson-dev",
                "libssl-dev",
                "zlib1g-dev",
            ],
        },
        needs: &[],
        nightly: false,
    },
];

impl Component {
    /// How strictly the committed lock binds this component; nothing for what the system provides.
    pub fn lock_strength(&self) -> Option<Strength> {
        match self.source {
            // Signed by the distribution; pinned by the lock file inside the published package.
            Source::System(_) | Source::Headers { .. } | Source::Cargo { .. } => None,
            Source::Maven { .. } | Source::Npm { .. } => Some(Strength::Exact),
            Source::Pip(_) => Some(Strength::OneOfEach),
        }
    }

    /// Its directory's name in the cache.
    pub fn dir_name(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }
}

pub fn by_name(name: &str) -> Result<&'static Component> {
    ALL.iter().find(|component| component.name == name).with_context(|| format!("there is no component {name:?}"))
}

/// No fetching: what is not in the cache is missing.
pub fn offline() -> bool {
    std::env::var_os("GAFKA_OFFLINE").is_some_and(|value| !value.is_empty() && value != "0")
}

type Known = Result<PathBuf, Arc<anyhow::Error>>;
static KNOWN: LazyLock<Mutex<HashMap<&'static str, Known>>> = LazyLock::new(Mutex::default);

/// Makes sure that a component is here and is what the lock says; yields its directory (or program).
///
/// Asked again in the same process it answers from memory, also when the answer was no.
pub fn ensure(name: &str) -> Result<PathBuf> {
    let component = by_name(name)?;
    for needed in component.needs {
        ensure(needed).with_context(|| format!("{name} needs {needed}"))?;
    }
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let answer = known.entry(component.name).or_insert_with(|| obtain(component).map_err(Arc::new));
    match answer {
        Ok(path) => Ok(path.clone()),
        Err(err) => bail!("{err:#}"),
    }
}

fn obtain(component: &Component) -> Result<PathBuf> {
    Store::of_user()?.obtain(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_is_listed_before_the_component_that_needs_it() {
        for (index, component) in ALL.iter().enumerate() {
            for needed in component.needs {
                assert!(
                    ALL[..index].iter().any(|earlier| earlier.name == *needed),
                    "{} before {needed}",
                    component.name
                );
            }
        }
    }

    #[test]
    fn every_fetched_artifact_is_pinned() {
        for component in ALL {
            match component.source {
                Source::Maven { artifacts } => {
                    assert!(artifacts.iter().all(|artifact| artifact.split(':').count() == 3), "{}", component.name);
                }
                Source::Pip(wheels) => {
                    assert!(wheels.packages.iter().all(|package| package.contains("==")), "{}", component.name);
                    assert!(!wheels.pythons.is_empty(), "{}", component.name);
                }
                Source::Npm { packages } => {
                    assert!(packages.iter().all(|package| package[1..].contains('@')), "{}", component.name);
                }
                Source::Cargo { .. } => assert_eq!(component.version.split('.').count(), 3, "{}", component.name),
                Source::System(Program { apt, .. }) | Source::Headers { apt, .. } => {
                    assert!(!apt.is_empty(), "{}", component.name);
                }
            }
        }
    }

    #[test]
    fn every_fetched_component_is_in_the_committed_lock() {
        let lock = crate::lockfile::committed().unwrap();
        for component in ALL.iter().filter(|component| component.lock_strength().is_some()) {
            assert!(lock.get(component.name, component.version).is_some(), "{} {}", component.name, component.version);
        }
    }
}
