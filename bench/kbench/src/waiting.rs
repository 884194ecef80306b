//! Polls that wait, ten thousand of them: client processes that send each poll again whenever it was answered.
//!
//! They are processes of their own because of descriptors, and so that closing every connection at once is what it is
//! when clients die: `kill -9`, and the kernel closes them all. That is work for the kernel, on a CPU which real clients do
//! not share with a broker: so these are nice, and use epoll, whose sockets are closed by the dying process itself.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::{Buf, Bytes, BytesMut};
use runtime::{Driver, ShardOptions, spawn, spawn_shard, time};
use serde::{Deserialize, Serialize};

use crate::cli::WaitPolls;
use crate::limits::{ERROR_KINDS_MAX, RECONNECT_AFTER};
use crate::load::{exchange, split_url};
use crate::process::{Process, TempDir, tethered, this_program};
use crate::{pin, ready};

/// Client processes for one gateway.
const CLIENTS: usize = 2;
/// Polls that begin together,
const BEGIN_TOGETHER: usize = 50;
/// and the pause behind them: a listener's backlog is not what is measured.
const BEGIN_PAUSE: Duration = Duration::from_millis(10);

/// As nice as can be.
const NICENESS: i32 = 19;

/// What one client process is told.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    /// `http://host:port`.
    target: String,
    /// Whole requests; each has a connection of its own.
    requests: Vec<String>,
}

/// The clients of one gateway.
pub struct WaitingPolls {
    clients: Vec<Process>,
}

impl WaitingPolls {
    /// Starts the clients; their polls are on their way then.
    pub fn start(target: &str, requests: &[String], cpu: usize) -> Result<WaitingPolls> {
        let dir = TempDir::new()?;
        let each = requests.len().div_ceil(CLIENTS).max(1);
        let clients = requests.chunks(each).enumerate().map(|(index, requests)| {
            let path = dir.path.join(format!("client-{index}.json"));
            let plan = Plan { target: target.to_owned(), requests: requests.to_vec() };
            let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
            serde_json::to_writer(BufWriter::new(file), &plan)?;
            let mut command = tethered(Some(cpu), &this_program()?)?;
            command.arg("wait-polls").arg("--plan").arg(&path);
            Ok(Process::start(command, "a client whose polls wait", None)?.0)
        });
        Ok(WaitingPolls { clients: clients.collect::<Result<_>>()? })
    }

    /// Every connection is closed at once.
    pub fn kill(&mut self) -> Result<()> {
        self.clients.iter_mut().try_for_each(Process::kill)
    }
}

/// `kbench wait-polls`, until killed.
pub fn run(wait: WaitPolls) -> Result<ExitCode> {
    runtime::descriptors::raise_limit();
    let cannot = || format!("cannot read {}", wait.plan.display());
    let file = File::open(&wait.plan).with_context(cannot)?;
    let plan: Plan = serde_json::from_reader(BufReader::new(file)).with_context(cannot)?;
    pin::this_thread(wait.cpu)?;
    let (host, port) = split_url(&plan.target)?;
    rustix::process::nice(NICENESS).context("cannot be nice")?;
    let options = ShardOptions { cpu: wait.cpu, force: Some(Driver::Epoll), ..ShardOptions::named("polls") };
    let shard = spawn_shard(options, move |_| begin(host, port, plan.requests)).context("cannot start the polls")?;
    shard.join().map_err(|_| anyhow!("the thread of the polls ended"))?;
    Ok(ExitCode::SUCCESS)
}

/// Shared by all polls of a process.
struct Client {
    host: String,
    port: u16,
    /// What went wrong, told once each.
    told: RefCell<BTreeSet<String>>,
}

async fn begin(host: String, port: u16, requests: Vec<String>) {
    let client = Rc::new(Client { host, port, told: RefCell::default() });
    for together in requests.chunks(BEGIN_TOGETHER) {
        for request in together {
            drop(spawn(poll(client.clone(), Bytes::from(request.clone()))));
        }
        time::sleep(BEGIN_PAUSE).await;
    }
    ready::announce(true, "polls", &requests.len().to_string());
    std::future::pending().await
}

async fn poll(client: Rc<Client>, request: Bytes) {
    let mut stream = None;
    let mut buf = BytesMut::new();
    loop {
        match exchange(&client.host, client.port, &request, &mut stream, &mut buf).await {
            Ok(answer) => {
                buf.advance(answer.bytes);
                let good = (200..300).contains(&answer.status);
                if answer.closes {
                    stream = None;
                }
                if good {
                    continue;
                }
                client.tell(&format!("a poll was answered {}", answer.status));
            }
            Err(err) => {
                client.tell(&format!("a poll broke off: {err}"));
                stream = None;
                buf.clear();
            }
        }
        time::sleep(RECONNECT_AFTER).await;
    }
}

impl Client {
    fn tell(&self, what: &str) {
        let mut told = self.told.borrow_mut();
        if told.len() < ERROR_KINDS_MAX && told.insert(what.to_owned()) {
            eprintln!("{what} (said once)");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;

    #[test]
    fn a_poll_that_was_answered_or_broke_off_is_sent_again() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let (heard, polls) = mpsc::channel();
        // Answers the first two of each connection and hangs up with the third.
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (mut socket, heard) = (socket.expect("accept"), heard.clone());
                std::thread::spawn(move || {
                    let lines = BufReader::new(socket.try_clone().expect("a socket")).lines().map_while(Result::ok);
                    for (number, line) in lines.filter(|line| line.starts_with("GET ")).take(3).enumerate() {
                        let _ = heard.send(line);
                        if number < 2 {
                            socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("write");
                        }
                    }
                });
            }
        });
        let requests = ["/a", "/b"].map(|path| format!("GET {path} HTTP/1.1\r\n\r\n")).to_vec();
        // Until the test's process ends.
        spawn_shard(ShardOptions::named("polls"), move |_| begin("127.0.0.1".to_owned(), port, requests))
            .expect("a shard");
        let mut counts = std::collections::BTreeMap::new();
        while counts.len() < 2 || counts.values().any(|&count| count < 4) {
            let line = polls.recv_timeout(Duration::from_secs(60)).expect("polls go on");
            *counts.entry(line).or_insert(0) += 1;
        }
        assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["GET /a HTTP/1.1", "GET /b HTTP/1.1"]);
    }
}
