//! One number for the processes of a data directory: the channel on which they learn their shares of limits
//! ([`model::quota::lease`]), apart from that of the snapshot, so that a large snapshot does not hold them up.
//!
//! Whoever holds `limits.lock` is the lessor and listens on `limits.sock`; the others ask it several times a second. A
//! lessor that hangs is waited for briefly, then shares run out by themselves; one that dies loses the lock, and the next
//! process becomes the lessor.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use model::quota::{Lessor, Report, Shares};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::limits::{CONSUMERS_MAX, SHARES_PERIOD, SHARES_WITHIN, SILENCE_MAX};
use crate::server::{Short, listen};
use crate::wire::{self, Frame};

/// What is asked for and what is given, several times a second, until this is dropped.
///
/// `report` says what is wanted here, `take` is given the shares. Neither may block.
pub async fn keep(
    data_dir: PathBuf,
    report: impl Fn() -> Report + Send + 'static,
    take: impl Fn(&Shares) + Send + 'static,
) {
    let mut part = Part::Nobody;
    let mut ticks = tokio::time::interval(SHARES_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if matches!(part, Part::Nobody) {
            part = Part::find(&data_dir).await;
        }
        let report = report();
        let shares = match &mut part {
            Part::Lessor(office) => Ok(office.desk.exchange(report)),
            Part::Client(stream) => ask(stream, report).await,
            Part::Nobody => continue,
        };
        match shares {
            Ok(shares) => take(&shares),
            Err(err) => {
                tracing::info!(%err, "whoever splits the limits among the processes of this directory is gone");
                part = Part::Nobody;
            }
        }
    }
}

enum Part {
    Lessor(Office),
    Client(UnixStream),
    /// Shares run out by themselves.
    Nobody,
}

impl Part {
    async fn find(data_dir: &Path) -> Part {
        let lock =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(data_dir.join("limits.lock"));
        let socket = data_dir.join("limits.sock");
        match lock {
            Ok(lock) if lock.try_lock().is_ok() => match Office::open(lock, &socket) {
                Ok(office) => return Part::Lessor(office),
                Err(err) => tracing::debug!(%err, "no other process can be told its share of the limits"),
            },
            Ok(_) => {
                let connected = async { UnixStream::connect(Short::of(&socket)?.path()).await };
                match tokio::time::timeout(SHARES_WITHIN, connected).await {
                    Ok(Ok(stream)) => return Part::Client(stream),
                    Ok(Err(err)) => tracing::debug!(%err, "nobody splits the limits"),
                    Err(_) => {}
                }
            }
            Err(err) => tracing::debug!(%err, "the lock of the limits cannot be opened"),
        }
        Part::Nobody
    }
}

async fn ask(stream: &mut UnixStream, report: Report) -> io::Result<Shares> {
    let answer = async {
        wire::write(stream, &Frame::Report(report)).await?;
        match wire::read(stream).await? {
            Frame::Shares(shares) => Ok(shares),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the answer has no shares")),
        }
    };
    tokio::time::timeout(SHARES_WITHIN, answer).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Where the lessor sits. Closed when it is dropped.
struct Office {
    _lock: File,
    desk: Arc<Desk>,
    accepting: JoinHandle<()>,
}

struct Desk {
    lessor: Mutex<Lessor>,
    began: Instant,
}

impl Desk {
    fn exchange(&self, report: Report) -> Shares {
        let now_ms = self.began.elapsed().as_millis() as u64;
        self.lessor.lock().unwrap_or_else(PoisonError::into_inner).exchange(report, now_ms)
    }
}

impl Office {
    fn open(lock: File, socket: &Path) -> io::Result<Office> {
        let listener = listen(socket)?;
        let desk = Arc::new(Desk { lessor: Mutex::default(), began: Instant::now() });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&desk)));
        Ok(Office { _lock: lock, desk, accepting })
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: UnixListener, desk: Arc<Desk>) {
    // Its connections end with the office: their clients then look for another.
    let mut clients = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(SHARES_PERIOD).await;
            continue;
        };
        while clients.try_join_next().is_some() {}
        if clients.len() < CONSUMERS_MAX {
            let desk = Arc::clone(&desk);
            clients.spawn(async move { serve(stream, &desk).await });
        }
    }
}

async fn serve(mut stream: UnixStream, desk: &Desk) -> io::Result<()> {
    loop {
        let read = tokio::time::timeout(SILENCE_MAX, wire::read(&mut stream)).await;
        let Frame::Report(report) = read.map_err(|_| io::ErrorKind::TimedOut)?? else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "that is no report"));
        };
        wire::write(&mut stream, &Frame::Shares(desk.exchange(report))).await?;
    }
}
