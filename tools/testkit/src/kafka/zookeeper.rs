//! One ZooKeeper server, from the jars of the last Kafka that ships it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::limits::{KAFKA_READY_WITHIN, KAFKA_STOP_WITHIN, PROBE_TIMEOUT};
use crate::process::{Process, scratch_dir, tethered};
use crate::{components, ports, wait};

pub(super) const COMPONENT: &str = "kafka-zk";

/// Standalone, on a free loopback port; killed and removed on drop.
#[derive(Debug)]
pub struct Zookeeper {
    process: Process,
    port: u16,
    _dir: TempDir,
}

impl Zookeeper {
    /// Starts it and waits until it serves.
    pub fn start() -> Result<Self> {
        let jars = components::ensure(COMPONENT)?.join("files").join("*");
        let dir = scratch_dir("zookeeper")?;
        let port = ports::free(1)?[0];
        let config = dir.path().join("zoo.cfg");
        // Short ticks let tests use session timeouts from 400 ms; the disk is not what is tested.
        let text = format!(
            "tickTime=200\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n\
             maxSessionTimeout=60000\n4lw.commands.whitelist=srvr,mntr,dump\nadmin.enableServer=false\n\
             preAllocSize=1024\nforceSync=no\n",
            dir.path().join("data").display()
        );
        fs::write(&config, text)?;
        let mut command = tethered("java");
        command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]).arg(jars);
        command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(&config);
        let mut process = Process::start("zookeeper", command, &dir.path().join("server.log"), false)?;
        // `ruok` is answered before it serves; a mode in `srvr` means that it does.
        wait::until("ZooKeeper to serve", KAFKA_READY_WITHIN, || {
            if !process.is_running() {
                return Ok(Err(anyhow::anyhow!("zookeeper ended\n{}", process.log_tail())));
            }
            let said = ask(port, b"srvr")?;
            if said.contains("Mode:") { Ok(Ok(())) } else { bail!("srvr says {said:?}") }
        })??;
        Ok(Self { process, port, _dir: dir })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn connect(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Whether a live session holds the ephemeral node at `path`.
    pub fn has_ephemeral(&self, path: &str) -> Result<bool> {
        Ok(ask(self.port, b"dump")?.lines().any(|line| line.trim() == path))
    }

    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Why it ended, if it did by itself.
    pub fn death(&mut self) -> Option<String> {
        if self.process.is_running() { None } else { Some(self.process.log_tail()) }
    }

    /// SIGTERM, for a person at work.
    pub fn stop(mut self) {
        let _ = self.process.signal(Signal::TERM);
        let _ = self.process.wait(KAFKA_STOP_WITHIN);
    }
}

/// A four-letter command.
fn ask(port: u16, command: &[u8; 4]) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.write_all(command)?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}
