//! One file of a table, opened when it is first read and kept open.

use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

use bytes::Bytes;
use disk::{File, Open, WaitedDisk};
use journal::format::{Bad, PAGE_BYTES};

use super::format::tail::{FOOTER_BYTES, Footer};
use super::format::{FileKey, Header};
use super::rotten::{ReadError, Rotten, Why};

pub(super) struct TableFile {
    pub path: PathBuf,
    pub header: Header,
    pub key: FileKey,
    how: Open,
    open: OnceLock<File>,
}

impl TableFile {
    pub fn new(path: PathBuf, header: Header, how: Open) -> TableFile {
        TableFile { path, header, key: header.key(), how, open: OnceLock::new() }
    }

    /// All of these bytes; less is rot.
    pub async fn read<D: WaitedDisk>(&self, disk: &D, at: u64, bytes: usize) -> Result<Bytes, ReadError> {
        let read = self.read_some(disk, at, bytes).await?;
        match read.len() == bytes {
            true => Ok(read),
            false => Err(self.rotten(at, bytes as u64, 0, Why::Missing).into()),
        }
    }

    /// As many as there are.
    pub async fn read_some<D: WaitedDisk>(&self, disk: &D, at: u64, bytes: usize) -> Result<Bytes, ReadError> {
        let io = |source| match Why::of_read(&source) {
            Some(why) => ReadError::Rotten(self.rotten(at, bytes as u64, 0, why)),
            None => ReadError::Io { file: self.path.clone(), at, bytes: bytes as u64, source },
        };
        disk.read(self.opened(disk).await.map_err(io)?, at, bytes).await.map_err(io)
    }

    async fn opened<D: WaitedDisk>(&self, disk: &D) -> io::Result<&File> {
        if let Some(file) = self.open.get() {
            return Ok(file);
        }
        let opened = disk.open(&self.path, self.how).await?;
        // Who came first while this one waited has the one that is kept.
        Ok(self.open.get_or_init(|| opened))
    }

    /// Has the next read of these bytes come from the medium. A file that cannot be opened is found out by that read.
    pub async fn forget<D: WaitedDisk>(&self, disk: &D, at: u64, bytes: usize) {
        if let Ok(file) = self.opened(disk).await {
            let _ = disk.forget(file, at, bytes).await;
        }
    }

    pub fn rotten(&self, at: u64, bytes: u64, rows: u64, why: Why) -> Rotten {
        Rotten { file: self.path.clone(), at, bytes, rows, why }
    }

    /// Whether its first page says that it is this file. Newer: not to be touched.
    pub async fn check_header<D: WaitedDisk>(&self, disk: &D) -> Result<(), ReadError> {
        let why = match Header::decode(&self.read(disk, 0, PAGE_BYTES).await?) {
            Ok(header) if header == self.header => return Ok(()),
            Ok(_) => Why::Other,
            Err(bad) => Why::Bad(bad),
        };
        Err(self.rotten(0, PAGE_BYTES as u64, 0, why).into())
    }

    /// The index of a file so long, and its footer.
    pub async fn index<D: WaitedDisk>(
        &self,
        disk: &D,
        length: u64,
        entry_bytes: usize,
    ) -> Result<(Bytes, Footer), ReadError> {
        let bad = |at, bytes, bad: Bad| self.rotten(at, bytes, 0, Why::Bad(bad));
        let at = length.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| bad(0, length, Bad::Short))?;
        let footer = self.read(disk, at, FOOTER_BYTES).await?;
        let footer = Footer::decode(&footer, entry_bytes, self.key, at);
        let footer = footer.map_err(|err| bad(at, FOOTER_BYTES as u64, err))?;
        // The footer is checked, and with it that the index lies between the begin of the file and itself.
        let bytes = (at - footer.index_at) as usize;
        let index = self.read(disk, footer.index_at, bytes).await?;
        match self.key.checksum(footer.index_at, &index) == footer.index_crc {
            true => Ok((index, footer)),
            false => Err(bad(footer.index_at, bytes as u64, Bad::Checksum).into()),
        }
    }
}
