//! A file that is written once, from its begin to its end.

use std::io;
use std::path::Path;

use bytes::Bytes;
use disk::{File, Open, WaitedDisk};

use super::limits::{PERSIST_BYTES, WRITE_BYTES};

/// Collects writes, and persists every now and then, so that the last persist is a short one.
pub(super) struct Output<'d, D> {
    disk: &'d D,
    pub file: File,
    written: u64,
    persisted: u64,
    buffer: Vec<u8>,
    is_durable: bool,
}

impl<'d, D: WaitedDisk> Output<'d, D> {
    /// `is_durable`: it shall be, in the end.
    pub async fn create(disk: &'d D, path: &Path, is_durable: bool) -> io::Result<Self> {
        let file = disk.open(path, Open::Empty).await?;
        Ok(Output { disk, file, written: 0, persisted: 0, buffer: Vec::new(), is_durable })
    }

    /// Where the next byte goes.
    pub fn at(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        match self.buffer.len() < WRITE_BYTES {
            true => Ok(()),
            false => self.flush().await,
        }
    }

    /// Zeros up to the next multiple.
    pub fn align(&mut self, to: usize) {
        let padding = self.at().next_multiple_of(to as u64) - self.at();
        self.buffer.resize(self.buffer.len() + padding as usize, 0);
    }

    async fn flush(&mut self) -> io::Result<()> {
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        let count = bytes.len() as u64;
        self.disk.write_all(&self.file, bytes, self.written).await?;
        self.written += count;
        if self.is_durable && self.written - self.persisted >= PERSIST_BYTES {
            self.disk.persist(&self.file, self.persisted).await?;
            self.persisted = self.written;
        }
        Ok(())
    }

    /// Writes the rest, and makes it durable if it shall be; its length.
    pub async fn finish(&mut self) -> io::Result<u64> {
        self.flush().await?;
        if self.is_durable {
            self.disk.persist(&self.file, self.persisted).await?;
        }
        Ok(self.written)
    }
}
