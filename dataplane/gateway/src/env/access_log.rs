//! One line per request, when an access log is configured: never a credential, never a query, never a body.
//!
//! Shards format into their own buffer and hand it over when it is large or a sweep passes; a plain thread writes.
//! When the disk is slower than the traffic, lines are dropped and counted, never waited for; only a shard that ends
//! waits, so that its last requests are in the file when the process is gone.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes a shard collects before it hands them over.
const BUFFER_BYTES: usize = 32 << 10;
/// Buffers that may wait for the writer.
const QUEUE_DEPTH: usize = 64;

/// A shard's end. One per shard; without a file it does nothing.
#[derive(Default)]
pub struct AccessLog {
    lines: RefCell<String>,
    writer: RefCell<Option<SyncSender<String>>>,
    /// Lines that were not written because the disk was too slow.
    pub dropped_total: Cell<u64>,
}

/// The thread that writes. It ends, with everything written, when all [`AccessLog`]s are closed.
pub struct Writer {
    thread: JoinHandle<()>,
    reopen: Arc<AtomicBool>,
}

impl Writer {
    /// What is written from now on goes into a new file, if the old one was renamed.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    pub fn join(self) -> std::thread::Result<()> {
        self.thread.join()
    }
}

/// Opens the file and starts the writer; [`AccessLog`]s are made from the sender.
pub fn open(path: &Path) -> io::Result<(SyncSender<String>, Writer)> {
    let file = open_file(path)?;
    let (sender, receiver) = sync_channel(QUEUE_DEPTH);
    let reopen = Arc::new(AtomicBool::new(false));
    let (path, asked) = (path.to_owned(), Arc::clone(&reopen));
    let write = move || write_all(file, &path, &asked, &receiver);
    let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(write)?;
    Ok((sender, Writer { thread, reopen }))
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_all(mut file: File, path: &Path, reopen: &AtomicBool, receiver: &Receiver<String>) {
    while let Ok(lines) = receiver.recv() {
        if reopen.swap(false, Ordering::Relaxed) {
            match open_file(path) {
                Ok(opened) => file = opened,
                Err(err) => {
                    tracing::error!(%err, path = %path.display(), "cannot reopen the access log; the old file goes on")
                }
            }
        }
        if let Err(err) = file.write_all(lines.as_bytes()) {
            tracing::error!(%err, "access log lines lost");
        }
    }
}

impl AccessLog {
    pub fn new(writer: Option<SyncSender<String>>) -> AccessLog {
        AccessLog { lines: RefCell::default(), writer: RefCell::new(writer), dropped_total: Cell::new(0) }
    }

    /// `2026-11-22T15:45:45.123Z 127.0.0.1:4711 publish 201 842 0123abcd…` (microseconds).
    pub fn write(
        &self,
        now_ms: i64,
        peer: SocketAddr,
        endpoint: &str,
        status: u16,
        elapsed: Duration,
        request_id: &[u8],
    ) {
        if self.writer.borrow().is_none() {
            return;
        }
        let mut lines = self.lines.borrow_mut();
        let time = jiff::Timestamp::from_millisecond(now_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let _ = write!(lines, "{time:.3} {peer} {endpoint} {status} {} ", elapsed.as_micros());
        lines.extend(request_id.iter().map(|byte| if byte.is_ascii_graphic() { *byte as char } else { '?' }));
        lines.push('\n');
        if lines.len() >= BUFFER_BYTES {
            drop(lines);
            self.hand_over();
        }
    }

    /// Gives collected lines to the writer.
    pub fn hand_over(&self) {
        let writer = self.writer.borrow();
        let Some(writer) = &*writer else { return };
        let lines = std::mem::take(&mut *self.lines.borrow_mut());
        if lines.is_empty() {
            return;
        }
        let count = lines.matches('\n').count() as u64;
        if writer.try_send(lines).is_err() {
            self.dropped_total.set(self.dropped_total.get() + count);
        }
    }
}

impl AccessLog {
    /// Gives the last lines to the writer, waiting for it if need be. Nothing is written after this.
    pub fn close(&self) {
        let Some(writer) = self.writer.take() else { return };
        let _ = writer.send(self.lines.take()); // the writer ends only after us, unless it panicked
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_who_what_and_how_long_and_a_request_id_cannot_forge_another_line() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("access.log");
        let (writer, thread) = open(&path).expect("opens");
        let log = AccessLog::new(Some(writer));
        let peer: SocketAddr = "127.0.0.1:4711".parse().expect("an address");
        log.write(1_795_362_345_123, peer, "publish", 201, Duration::from_micros(842), b"r1\nforged \xff");
        log.close();
        thread.join().expect("the writer ends when the last log is closed");
        let expected = "2026-11-22T15:45:45.123Z 127.0.0.1:4711 publish 201 842 r1?forged??\n";
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), expected);
    }

    #[test]
    fn after_a_reopen_lines_go_into_a_new_file_and_none_is_lost() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("access.log");
        let (sender, writer) = open(&path).expect("opens");
        let log = AccessLog::new(Some(sender));
        let peer: SocketAddr = "127.0.0.1:4711".parse().expect("an address");
        let write = |id: &[u8]| log.write(0, peer, "publish", 201, Duration::ZERO, id);
        let until_written = |path: &Path, id: &str| {
            while !std::fs::read_to_string(path).is_ok_and(|text| text.contains(id)) {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        write(b"before");
        log.hand_over();
        until_written(&path, "before");
        let rotated = dir.path().join("access.log.1");
        std::fs::rename(&path, &rotated).expect("renamed");
        write(b"unaware");
        log.hand_over();
        until_written(&rotated, "unaware");
        writer.reopen();
        write(b"after");
        log.close();
        writer.join().expect("the writer ends");
        assert!(std::fs::read_to_string(&path).expect("a new file").ends_with(" after\n"));
        assert_eq!(std::fs::read_to_string(&rotated).expect("the old file").lines().count(), 2);
    }
}
