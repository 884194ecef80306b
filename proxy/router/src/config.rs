//! What a proxy is started with; checked values only.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use kafka_client::sasl::Sasl;
use model::{AuditEvent, ClusterName, Ledger, Snapshot};
use runtime::net::tls::{ClientTls, ServerTls};

use crate::limits::{RANGE_WIDTH_DEFAULT, REQUEST_BYTES_MAX};
use crate::topology::Address;

/// Where clients come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// The bootstrap port, and behind it one port for each of `width` brokers, the first for node `base`. With port 0 the
    /// first free such range.
    Ports { bootstrap: SocketAddr, base: i32, width: u16 },
    /// One TLS port; the server name says which broker is meant. `pattern` has one `$` for the node id.
    Names { listen: SocketAddr, pattern: String },
}

/// One proxy.
#[derive(Clone)]
pub struct ProxyConfig {
    pub shard_count: usize,
    /// Pin each shard to a core.
    pub pin: bool,
    pub driver: Option<runtime::Driver>,
    pub listen: Listen,
    /// Host clients are told. None: the address each one connected to.
    pub advertised: Option<String>,
    /// Brokers to begin with.
    pub bootstrap: Vec<Address>,
    /// TLS to the brokers.
    pub upstream_tls: Option<ClientTls>,
    /// TLS to clients.
    pub tls: Option<ServerTls>,
    /// Connections begin with a PROXY protocol v2 header.
    pub proxy_protocol: bool,
    pub request_bytes_max: usize,
    /// A connection older than this is closed between two requests, up to a tenth sooner. Zero: never.
    pub age_max: Duration,
    /// A connection without a byte either way is closed after this. Zero: brokers decide.
    pub idle_max: Duration,
    /// Connections of one address. Zero: any number.
    pub connections_per_address: usize,
    /// Whom it serves. None: everybody whom the brokers serve, as they are.
    pub tenants: Option<TenantConfig>,
}

/// A proxy for tenants: clients log in here as apps, and see of the cluster what is theirs.
#[derive(Clone)]
pub struct TenantConfig {
    /// What the cluster behind this proxy is called where apps and topics are registered.
    pub cluster: ClusterName,
    /// How the proxy itself logs in at the brokers. None: they want no login.
    pub login: Option<Sasl>,
    /// The tenants to begin with; later ones come by [`crate::Proxy::set_snapshot`].
    pub snapshot: Arc<Snapshot>,
    /// What apps have used of what they may; shared with a gateway in the same process.
    pub ledger: Arc<Ledger>,
    /// A file with a line for each session's end. None: none is written.
    pub access_log: Option<PathBuf>,
    /// Where the audit log's events go; a shard drops and counts what is not taken at once. None: there is no such log.
    pub audit: Option<SyncSender<AuditEvent>>,
}

impl Default for ProxyConfig {
    fn default() -> ProxyConfig {
        ProxyConfig {
            shard_count: 1,
            pin: false,
            driver: None,
            listen: Listen::Ports {
                bootstrap: SocketAddr::from(([127, 0, 0, 1], 0)),
                base: 0,
                width: RANGE_WIDTH_DEFAULT,
            },
            advertised: None,
            bootstrap: Vec::new(),
            upstream_tls: None,
            tls: None,
            proxy_protocol: false,
            request_bytes_max: REQUEST_BYTES_MAX,
            age_max: Duration::ZERO,
            idle_max: Duration::ZERO,
            connections_per_address: 0,
            tenants: None,
        }
    }
}
