//! What an idle keep-alive connection costs: memory from the slope, so that the gateway itself does not count.

use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::gateway::Quickstart;
use testkit::http::{Connection, Request};
use testkit::process::scratch_dir;
use testkit::progress::say;

use crate::harness::{Case, case};

pub const CASES: &[Case] = &[case("8000_idle_connections_cost_at_most_8_kib_each", &["bin:kateway"], idle_connections)];

const CONNECTIONS_MAX: usize = 8_000;
/// Where the slope begins: after pools and tables have grown to their first working size.
const CONNECTIONS_FIRST: usize = 1_000;
const BYTES_EACH_MAX: u64 = 8 * 1024;
/// Ours and the gateway's, which inherits the limit.
const FILES_NEEDED: u64 = CONNECTIONS_MAX as u64 + 500;

fn idle_connections() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    ensure!(limit.maximum.is_none_or(|most| most >= FILES_NEEDED), "at most {:?} open files here", limit.maximum);
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit.maximum.unwrap_or(65_536)), ..limit })?;
    let dir = scratch_dir("idle")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let mut idle = Vec::with_capacity(CONNECTIONS_MAX);
    open_until(&quickstart, &mut idle, CONNECTIONS_FIRST)?;
    let before = quickstart.resident_bytes()?;
    open_until(&quickstart, &mut idle, CONNECTIONS_MAX)?;
    let after = quickstart.resident_bytes()?;
    let each = after.saturating_sub(before) / (CONNECTIONS_MAX - CONNECTIONS_FIRST) as u64;
    say(&format!(
        "  {each} bytes for each idle connection ({before} at {CONNECTIONS_FIRST}, {after} at {CONNECTIONS_MAX})"
    ));
    ensure!(each <= BYTES_EACH_MAX, "{each} bytes for each idle connection");
    // They are idle, not dead.
    for connection in idle.iter_mut().step_by(997) {
        connection.call(&Request::get("/alive"))?.expect(200)?;
    }
    Ok(())
}

/// Each connection publishes once, so that it has been through a whole request before it idles.
fn open_until(quickstart: &Quickstart, idle: &mut Vec<Connection>, count: usize) -> Result<()> {
    let request = quickstart.demo.publish("").body(vec![b'x'; 100]);
    while idle.len() < count {
        let fresh = (count - idle.len()).min(100);
        let first = idle.len();
        for _ in 0..fresh {
            let mut connection = Connection::open_within(&quickstart.publish, Duration::from_secs(20))?;
            connection.send(&request)?;
            idle.push(connection);
        }
        for connection in &mut idle[first..] {
            connection.read()?.expect(201)?;
        }
    }
    Ok(())
}
