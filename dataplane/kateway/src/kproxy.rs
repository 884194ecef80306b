//! A proxy for Kafka clients in the process of a gateway: the same snapshots, the same account of what apps use.

use agent::Shards;
use anyhow::{Context, Result};
use model::ids::ClusterName;
use model::{AuditEvent, Ledger, Snapshot};
use router::topology::Address;
use router::{Listen, Proxy, ProxyConfig, TenantConfig};
use runtime::crew::Fallen;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// How often a running drain is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// After the drain limit, closed connections get so long.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What is wanted of a proxy.
pub struct Asked {
    pub listen: SocketAddr,
    /// Nobody said where: it may be missing when that is taken.
    pub is_default: bool,
    /// Node id of the broker on the first port behind `listen`, and how many brokers have one.
    pub base: i32,
    pub width: u16,
    pub bootstrap: Vec<Address>,
    pub cluster: ClusterName,
}

/// One that runs.
pub struct Kproxy {
    pub address: SocketAddr,
    proxy: Arc<Proxy>,
}

impl Kproxy {
    /// `None`, with a warning: the default port is taken.
    pub fn start(
        asked: Asked,
        ledger: &Arc<Ledger>,
        snapshot: Arc<Snapshot>,
        audit: SyncSender<AuditEvent>,
    ) -> Result<Option<Kproxy>> {
        let Asked { listen, is_default, base, width, bootstrap, cluster } = asked;
        let started = Proxy::start(ProxyConfig {
            listen: Listen::Ports { bootstrap: listen, base, width },
            bootstrap,
            tenants: Some(TenantConfig {
                cluster,
                login: None,
                snapshot,
                ledger: Arc::clone(ledger),
                access_log: None,
                audit: Some(audit),
            }),
            ..ProxyConfig::default()
        });
        match started {
            Ok(proxy) => Ok(Some(Kproxy { address: proxy.bootstrap(), proxy: Arc::new(proxy) })),
            Err(err) if is_default && err.kind() == ErrorKind::AddrInUse => {
                tracing::warn!(
                    "no kproxy: one of its ports, {} to {}, is taken; --kproxy ADDR names others",
                    listen.port(),
                    u32::from(listen.port()) + u32::from(width)
                );
                Ok(None)
            }
            Err(err) => Err(err).with_context(|| format!("cannot start kproxy on {listen} (--kproxy)")),
        }
    }

    /// What snapshots go to.
    pub fn shards(&self) -> Shards {
        let proxy = || Arc::clone(&self.proxy);
        let (told, asked, dropping, ending) = (proxy(), proxy(), proxy(), proxy());
        Shards {
            set_snapshot: Box::new(move |snapshot| told.set_snapshot(snapshot)),
            applied_edition: Box::new(move || asked.applied_edition()),
            drop_retired: Box::new(move || dropping.drop_retired()),
            is_finished: Box::new(move || ending.is_finished()),
        }
    }

    /// Its Prometheus text, whenever that is asked for; without what is about the process, which the gateway tells.
    pub fn counter(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let proxy = Arc::clone(&self.proxy);
        move || of_kproxy(&proxy.metrics())
    }

    pub fn fallen(&self) -> Vec<Fallen> {
        self.proxy.fallen()
    }

    /// Says no to new traffic, waits, answers what was asked, ends the rest.
    pub async fn drain(&self, delay: Duration, limit: Duration) {
        let begun = Instant::now();
        self.proxy.announce_drain();
        tokio::time::sleep(delay).await;
        self.proxy.drain();
        self.finish(begun + limit).await;
        self.proxy.stop();
        self.finish(Instant::now() + LAST_WORDS).await;
    }

    async fn finish(&self, until: Instant) {
        while !self.proxy.is_finished() && Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits for its shards. What became of them [`Kproxy::fallen`] says.
    pub fn join(&self) {
        let _ = self.proxy.join();
    }
}

fn of_kproxy(metrics: &str) -> String {
    let name = |line: &'_ str| line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ").starts_with("kproxy_");
    metrics.lines().filter(|line| name(line)).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prometheus refuses a page that tells the same metric twice.
    #[test]
    fn what_the_gateway_tells_of_the_process_is_not_told_again() {
        let text = "# HELP kproxy_a Help.\n# TYPE kproxy_a gauge\nkproxy_a{b=\"process_\"} 1\n# TYPE process_x gauge\nprocess_x 2\n";
        assert_eq!(of_kproxy(text), "# HELP kproxy_a Help.\n# TYPE kproxy_a gauge\nkproxy_a{b=\"process_\"} 1\n");
    }
}
