//! Files of lines: an access log. Shards collect lines and hand them over when they are many or a sweep passes; a plain
//! thread writes.
//!
//! When the disk is slower than the traffic, lines are dropped and counted, never waited for; only a shard that ends
//! waits, so that its last lines are in the file when the process is gone.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes a shard collects before it hands them over.
const BUFFER_BYTES: usize = 32 << 10;
/// Buffers that may wait for the writer.
const QUEUE_DEPTH: usize = 64;

/// A shard's end. One per shard; without a file it does nothing.
#[derive(Default)]
pub struct LineLog {
    lines: RefCell<String>,
    writer: RefCell<Option<SyncSender<String>>>,
    /// Lines that were not written because the disk was too slow.
    pub dropped_total: Cell<u64>,
}

/// The thread that writes. It ends, with everything written, when all [`LineLog`]s are closed.
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

/// Opens the file and starts the writer; [`LineLog`]s are made from the sender.
pub fn open(path: &Path) -> io::Result<(SyncSender<String>, Writer)> {
    let file = open_file(path)?;
    let (sender, receiver) = sync_channel(QUEUE_DEPTH);
    let reopen = Arc::new(AtomicBool::new(false));
    let (path, asked) = (path.to_owned(), Arc::clone(&reopen));
    let write = move || write_all(file, &path, &asked, &receiver);
    let thread = std::thread::Builder::new().name("line-log".to_owned()).spawn(write)?;
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
                    tracing::error!(%err, path = %path.display(), "cannot reopen this log; the old file goes on")
                }
            }
        }
        if let Err(err) = file.write_all(lines.as_bytes()) {
            tracing::error!(%err, "lines of a log are lost");
        }
    }
}

impl LineLog {
    pub fn new(writer: Option<SyncSender<String>>) -> LineLog {
        LineLog { lines: RefCell::default(), writer: RefCell::new(writer), dropped_total: Cell::new(0) }
    }

    /// Adds a line, without its end, if there is a file. What it says may hold no line end.
    pub fn append(&self, say: impl FnOnce(&mut String)) {
        if self.writer.borrow().is_none() {
            return;
        }
        let mut lines = self.lines.borrow_mut();
        say(&mut lines);
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

    /// Gives the last lines to the writer, waiting for it if need be. Nothing is written after this.
    pub fn close(&self) {
        let Some(writer) = self.writer.take() else { return };
        let _ = writer.send(self.lines.take()); // the writer ends only after us, unless it panicked
    }
}

impl Drop for LineLog {
    fn drop(&mut self) {
        self.close();
    }
}
