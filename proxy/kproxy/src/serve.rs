//! One proxy process from start to end. The main thread tells, asks and drains; the shards have their own threads.

use crate::settings::{Driver, Settings};
use crate::tenants::Tenants;
use anyhow::{Context, Result};
use daemon::{Fault, Ops, Process, Readiness, Signals, exit, fault};
use router::topology::Address;
use router::{Listen, Proxy, ProxyConfig};
use runtime::crew::Fallen;
use runtime::net::tls::{ClientCert, ClientTls, ServerTls};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The ready line waits so long for a first broker; after that the proxy says it is up, and `/readyz` says what is missing.
const FIRST_BROKER_WAIT: Duration = Duration::from_secs(5);
/// How often a drain, or a broker that is to answer, is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How often is asked whether a shard has fallen.
const WATCH_EVERY: Duration = Duration::from_millis(50);
/// After the drain limit, closed connections get so long.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub fn run(process: Process<Settings>) -> Result<ExitCode> {
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build();
    control.context("cannot start the control thread")?.block_on(live(process))
}

async fn live(mut process: Process<Settings>) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let settings = process.settings().clone();
    let tenants = match &settings.tenants.data_dir {
        Some(data_dir) => Some(Arc::new(Tenants::start(&settings, data_dir).await?)),
        None => None,
    };
    let config = proxy_config(&settings, tenants.as_deref())?;
    let fault = Fault::of_environment(config.shard_count)?;
    let proxy = Arc::new(Proxy::start(config).context("cannot start the proxy")?);
    let ops = operators_port(&proxy, tenants.as_ref()).serve(settings.ops()).await;
    let ops = ops.with_context(|| format!("cannot listen on the operator's port {}", settings.ops()))?;
    if let Some(tenants) = &tenants {
        tenants.connect(&proxy, &settings.advertised).await;
    }
    wait_for_a_broker(&proxy).await;
    if proxy.fallen().is_empty() {
        process.ready(&[("bootstrap", proxy.bootstrap().to_string()), ("ops", format!("http://{}", ops.address))]);
    }
    tokio::select! {
        () = process.until_stopped(&mut signals, |live| reload(&proxy, tenants.as_deref(), live)) => {}
        () = fallen(&proxy) => {}
        () = fall(&proxy, fault) => {}
    }
    let told = tell_fallen(&proxy, 0);
    let left = async {
        if let Some(tenants) = &tenants {
            tenants.leave().await;
        }
    };
    // Beside each other: the shards do not wait for a registry that is away.
    tokio::join!(left, drain(&proxy, &settings));
    drop(ops);
    let ended = proxy.join();
    if let Some(tenants) = &tenants {
        tenants.stop().await;
    }
    tell_fallen(&proxy, told);
    Ok(ExitCode::from(if ended.is_ok() { exit::OK } else { exit::FAILED }))
}

fn operators_port(proxy: &Arc<Proxy>, tenants: Option<&Arc<Tenants>>) -> Ops {
    let (asked, counted) = ((Arc::clone(proxy), tenants.cloned()), (Arc::clone(proxy), tenants.cloned()));
    Ops {
        readiness: Box::new(move || {
            let (proxy, tenants) = &asked;
            let mut reasons = proxy.unready();
            reasons.extend(tenants.as_ref().and_then(|tenants| tenants.unready()));
            Readiness { ready: reasons.is_empty(), reasons }
        }),
        metrics: Box::new(move || {
            let (proxy, tenants) = &counted;
            proxy.metrics() + &tenants.as_ref().map_or(String::new(), |tenants| tenants.metrics())
        }),
    }
}

async fn wait_for_a_broker(proxy: &Proxy) {
    let until = Instant::now() + FIRST_BROKER_WAIT;
    while !proxy.unready().is_empty() && proxy.fallen().is_empty() {
        if Instant::now() >= until {
            tracing::warn!(reasons = proxy.unready().join("; "), "no broker has answered yet");
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn fallen(proxy: &Proxy) {
    while proxy.fallen().is_empty() {
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Tells of each shard that has fallen since the first `told`; how many have by now.
fn tell_fallen(proxy: &Proxy, told: usize) -> usize {
    let fallen = proxy.fallen();
    for Fallen { shard, message } in &fallen[told..] {
        tracing::error!(
            shard,
            panic = message,
            "a shard panicked: its connections are closed; this process drains the other shards and ends with code 1, to \
             be started again"
        );
    }
    fallen.len()
}

/// What a test asked for. Never ends otherwise.
async fn fall(proxy: &Proxy, fault: Option<Fault>) {
    if let Some(Fault::PanicShard(shard)) = fault {
        tokio::time::sleep(fault::DELAY).await;
        proxy.make_panic(shard);
    }
    std::future::pending().await
}

/// SIGTERM to the end: say no to new traffic, wait, stop accepting, answer what was asked, end the rest.
async fn drain(proxy: &Proxy, settings: &Settings) {
    let begun = Instant::now();
    proxy.announce_drain();
    tokio::time::sleep(settings.drain_delay).await;
    proxy.drain();
    while !proxy.is_finished() && begun.elapsed() < settings.drain_limit {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    if proxy.is_finished() {
        tracing::info!(elapsed_ms = begun.elapsed().as_millis() as u64, "drained");
        return;
    }
    let connections = proxy.connection_count();
    tracing::warn!(connections, "drain.limit is over: connections with requests in flight are closed");
    proxy.stop();
    let until = Instant::now() + LAST_WORDS;
    while !proxy.is_finished() && Instant::now() < until {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Certificates are read again; what is wrong with them leaves the old ones in force. The access log goes on in a new file,
/// if the old one was renamed.
fn reload(proxy: &Proxy, tenants: Option<&Tenants>, settings: &Settings) {
    if let Some(tenants) = tenants {
        tenants.reload(settings);
    }
    proxy.reopen_access_log();
    match (server_tls(settings), client_tls(settings)) {
        (Ok(tls), Ok(upstream)) => {
            tls.into_iter().for_each(|tls| proxy.set_tls(tls));
            upstream.into_iter().for_each(|tls| proxy.set_upstream_tls(tls));
        }
        (Err(err), _) | (_, Err(err)) => tracing::error!("SIGHUP: {err:#}; the certificates stay as they were"),
    }
}

fn proxy_config(settings: &Settings, tenants: Option<&Tenants>) -> Result<ProxyConfig> {
    let tenants = tenants.map(|tenants| tenants.config(&settings.tenants, &settings.upstream_sasl)).transpose()?;
    let listen = if settings.is_by_name() {
        Listen::Names { listen: settings.listen, pattern: settings.sni_pattern.clone() }
    } else {
        Listen::Ports { bootstrap: settings.listen, base: settings.node_id_base, width: settings.range_width }
    };
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(ProxyConfig {
        shard_count: if settings.shard_count == 0 { cores() } else { settings.shard_count },
        pin: settings.shard_pin,
        driver: match settings.driver {
            Driver::Auto => None,
            Driver::IoUring => Some(runtime::Driver::IoUringCoop),
            Driver::IoUringPlain => Some(runtime::Driver::IoUring),
            Driver::Epoll => Some(runtime::Driver::Epoll),
        },
        listen,
        advertised: Some(settings.advertised.clone()).filter(|host| !host.is_empty()),
        bootstrap: settings
            .bootstrap
            .iter()
            .map(|broker| Address { host: broker.host.clone(), port: broker.port })
            .collect(),
        upstream_tls: client_tls(settings)?,
        tls: server_tls(settings)?,
        proxy_protocol: settings.proxy_protocol,
        request_bytes_max: usize::try_from(settings.request_bytes.0).unwrap_or(usize::MAX),
        age_max: settings.connection_age,
        idle_max: settings.idle_timeout,
        connections_per_address: settings.connections_per_address,
        tenants,
    })
}

fn server_tls(settings: &Settings) -> Result<Option<ServerTls>> {
    let (Some(cert_file), Some(key_file)) = (&settings.cert_file, &settings.key_file) else { return Ok(None) };
    let (chain_pem, key_pem) = (read(cert_file)?, read(key_file)?);
    let client_ca_pem = settings.client_ca_file.as_deref().map(read).transpose()?;
    let cert = ClientCert { chain_pem: &chain_pem, key_pem: &key_pem };
    Ok(Some(ServerTls::new(cert, client_ca_pem.as_deref()).context("tls")?))
}

fn client_tls(settings: &Settings) -> Result<Option<ClientTls>> {
    let tls = &settings.upstream_tls;
    if !tls.enabled {
        return Ok(None);
    }
    let pem = |file: &Option<PathBuf>| file.as_deref().map(read).transpose();
    let (ca_pem, chain_pem, key_pem) = (pem(&tls.ca_file)?, pem(&tls.cert_file)?, pem(&tls.key_file)?);
    let client_cert = match (&chain_pem, &key_pem) {
        (Some(chain_pem), Some(key_pem)) => Some(ClientCert { chain_pem, key_pem }),
        _ => None,
    };
    Ok(Some(ClientTls::new(ca_pem.as_deref(), client_cert).context("upstream.tls")?))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
