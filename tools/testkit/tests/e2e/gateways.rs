//! Gateways that keep their ports and their data whatever becomes of their process.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use testkit::gateway::{Gateway, Tenant};
use testkit::{ports, wait};

/// On ports of its own for life, so that it comes back where its clients expect it; one database for all of a directory.
/// `keys` go before all tables, `of_cluster` into that of the cluster.
pub fn write_config(dir: &Path, index: usize, bootstrap: &str, keys: &str, of_cluster: &str) -> Result<()> {
    let free = ports::free(3)?;
    let servers: Vec<String> = bootstrap.split(',').map(|server| format!("\"{server}\"")).collect();
    let text = format!(
        "data_dir = \"{data}\"
{keys}
[listen]
pub = \"127.0.0.1:{}\"
sub = \"127.0.0.1:{}\"
man = \"127.0.0.1:{}\"
[shards]
count = 2
pin = false
[clusters.main]
bootstrap = [{servers}]
{of_cluster}",
        free[0],
        free[1],
        free[2],
        data = dir.join("data").display(),
        servers = servers.join(", "),
    );
    fs::write(dir.join(format!("gateway-{index}.toml")), text)?;
    Ok(())
}

/// Starts one of which [`write_config`] wrote the configuration.
pub fn serve(dir: &Path, index: usize) -> Result<Gateway> {
    Gateway::serve(&dir.join(format!("gateway-{index}.toml")), &dir.join("data"))
}

/// Every gateway accepts what the app sends.
pub fn wait_until_known(gateways: &[Gateway], tenant: &Tenant) -> Result<()> {
    for gateway in gateways {
        wait::until("the gateway to know the app", Duration::from_secs(10), || {
            // Not a publish, which would be in the topic: a poll of a group nobody else uses.
            gateway.poll(tenant, "is-it-known", "&wait=0s")?.expect(204).map(drop)
        })?;
    }
    Ok(())
}
