//! The directory of a table, sorted from its rows as they come in the order of their dues.
//!
//! From the rows, not from the directories of what is merged: so it has what the parts have, whatever was rotten in an
//! input and whoever died while it was merged. Memory is [`Limits::sort_entries`](super::limits::Limits) of 24 bytes; what
//! is more goes through sorted runs, pages without an index in temporary files. Small chunks are sorted one by one and
//! merged, so that the thread is never busy for long.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::path::{Path, PathBuf};

use disk::{File, WaitedDisk};
use journal::format::PAGE_BYTES;

use super::format::page::{self, Entry};
use super::format::tail::Footer;
use super::format::{DIRECTORY, FileKey, Header, RUN};
use super::limits::{RUN_PAGES, SORT_CHUNK_ENTRIES};
use super::meta;
use super::output::Output;

/// Pages being written: a run, or a directory behind its header.
pub(super) struct Pages<'d, D> {
    output: Output<'d, D>,
    key: FileKey,
    page: page::Builder,
    index: Vec<u8>,
    rows: u64,
}

impl<'d, D: WaitedDisk> Pages<'d, D> {
    pub async fn of_run(disk: &'d D, path: &Path, key: FileKey) -> io::Result<Self> {
        let output = Output::create(disk, path, false).await?;
        Ok(Pages { output, key, page: page::Builder::new(), index: Vec::new(), rows: 0 })
    }

    pub async fn of_directory(disk: &'d D, path: &Path, header: &Header) -> io::Result<Self> {
        let mut output = Output::create(disk, path, true).await?;
        output.put(&header.encode()).await?;
        output.align(PAGE_BYTES);
        Ok(Pages { output, key: header.key(), page: page::Builder::new(), index: Vec::new(), rows: 0 })
    }

    pub async fn push(&mut self, entry: Entry) -> io::Result<()> {
        self.rows += 1;
        if !self.page.push(entry) {
            self.close_page().await?;
            assert!(self.page.push(entry), "an entry fits into an empty page");
        }
        Ok(())
    }

    async fn close_page(&mut self) -> io::Result<()> {
        self.index.extend_from_slice(&self.page.first().to_le_bytes());
        let page = self.page.seal(self.key, self.output.at());
        self.output.put(&page).await
    }

    /// Where its pages end.
    pub async fn finish_run(mut self) -> io::Result<(File, u64)> {
        self.close_page().await?;
        let end = self.output.finish().await?;
        Ok((self.output.file.clone(), end))
    }

    /// Its length, with index and footer, all durable.
    pub async fn finish_directory(mut self) -> io::Result<u64> {
        if !self.page.is_empty() {
            self.close_page().await?;
        }
        let entries = (self.index.len() / super::format::tail::PAGE_ENTRY_BYTES) as u32;
        let footer = Footer::new(&self.index, entries, self.rows, self.key, self.output.at());
        self.output.put(&self.index).await?;
        self.output.put(&footer.seal(self.key, self.output.at())).await?;
        self.output.finish().await
    }
}

/// See the module.
pub(super) struct Sorter {
    dir: PathBuf,
    directory: Header,
    entries_max: usize,
    chunk: Vec<Entry>,
    chunks: Vec<Vec<Entry>>,
    /// In all chunks.
    in_memory: usize,
    runs: Vec<(File, u64)>,
    /// Files that were made; they are the caller's to remove.
    pub made: Vec<PathBuf>,
}

impl Sorter {
    /// For the table of this header.
    pub fn new(dir: &Path, header: Header, entries_max: usize) -> Sorter {
        Sorter {
            dir: dir.to_owned(),
            directory: Header { part: DIRECTORY, ..header },
            entries_max,
            chunk: Vec::new(),
            chunks: Vec::new(),
            in_memory: 0,
            runs: Vec::new(),
            made: Vec::new(),
        }
    }

    pub async fn push<D: WaitedDisk>(&mut self, disk: &D, entry: Entry) -> io::Result<()> {
        self.chunk.push(entry);
        self.in_memory += 1;
        if self.chunk.len() >= SORT_CHUNK_ENTRIES.min(self.entries_max) {
            self.close_chunk();
        }
        match self.in_memory >= self.entries_max {
            true => self.spill(disk).await,
            false => Ok(()),
        }
    }

    fn close_chunk(&mut self) {
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.sort_unstable();
        self.chunks.push(chunk);
    }

    fn run_key(&self) -> FileKey {
        Header { part: RUN, ..self.directory }.key()
    }

    async fn spill<D: WaitedDisk>(&mut self, disk: &D) -> io::Result<()> {
        self.close_chunk();
        self.in_memory = 0;
        let path = self.dir.join(meta::run_name(self.directory.number, self.runs.len()));
        self.made.push(path.clone());
        let mut pages = Pages::of_run(disk, &path, self.run_key()).await?;
        let mut merged = Merged::new(disk, std::mem::take(&mut self.chunks).into_iter().map(Source::of_memory)).await?;
        while let Some(entry) = merged.next().await? {
            pages.push(entry).await?;
        }
        self.runs.push(pages.finish_run().await?);
        Ok(())
    }

    /// Writes the directory under this name; its length.
    pub async fn finish<D: WaitedDisk>(
        &mut self,
        disk: &D,
        path: &Path,
        mut may_go_on: impl FnMut() -> bool,
    ) -> io::Result<Option<u64>> {
        self.close_chunk();
        let key = self.run_key();
        let in_memory = std::mem::take(&mut self.chunks).into_iter().map(Source::of_memory);
        let in_runs = self.runs.iter().map(|(file, end)| Source::of_run(file.clone(), *end, key));
        let mut merged = Merged::new(disk, in_memory.chain(in_runs)).await?;
        self.made.push(path.to_owned());
        let mut pages = Pages::of_directory(disk, path, &self.directory).await?;
        while let Some(entry) = merged.next().await? {
            pages.push(entry).await?;
            if pages.rows.is_multiple_of(SORT_CHUNK_ENTRIES as u64) && !may_go_on() {
                return Ok(None);
            }
        }
        pages.finish_directory().await.map(Some)
    }

    /// Runs that are not needed any more.
    pub fn take_runs(&mut self) -> Vec<PathBuf> {
        let runs = self.runs.drain(..).count();
        self.made.drain(..runs).collect()
    }
}

/// What is sorted in itself.
struct Source {
    entries: std::vec::IntoIter<Entry>,
    run: Option<RunSource>,
}

struct RunSource {
    file: File,
    at: u64,
    end: u64,
    key: FileKey,
}

impl Source {
    fn of_memory(chunk: Vec<Entry>) -> Source {
        Source { entries: chunk.into_iter(), run: None }
    }

    fn of_run(file: File, end: u64, key: FileKey) -> Source {
        Source { entries: Vec::new().into_iter(), run: Some(RunSource { file, at: 0, end, key }) }
    }

    async fn next<D: WaitedDisk>(&mut self, disk: &D) -> io::Result<Option<Entry>> {
        if let Some(entry) = self.entries.next() {
            return Ok(Some(entry));
        }
        let Some(run) = &mut self.run else { return Ok(None) };
        if run.at == run.end {
            return Ok(None);
        }
        let bytes = (RUN_PAGES * PAGE_BYTES).min((run.end - run.at) as usize);
        let read = disk.read(&run.file, run.at, bytes).await?;
        if read.len() != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut entries = Vec::new();
        for page in read.chunks(PAGE_BYTES) {
            entries.extend(page::decode(page, run.key, run.at).map_err(io::Error::other)?);
            run.at += PAGE_BYTES as u64;
        }
        self.entries = entries.into_iter();
        Ok(self.entries.next())
    }
}

/// Many sources in one order.
struct Merged<'d, D> {
    disk: &'d D,
    sources: Vec<Source>,
    next: BinaryHeap<Reverse<(Entry, usize)>>,
}

impl<'d, D: WaitedDisk> Merged<'d, D> {
    async fn new(disk: &'d D, sources: impl Iterator<Item = Source>) -> io::Result<Self> {
        let mut merged = Merged { disk, sources: sources.collect(), next: BinaryHeap::new() };
        for (index, source) in merged.sources.iter_mut().enumerate() {
            merged.next.extend(source.next(disk).await?.map(|entry| Reverse((entry, index))));
        }
        Ok(merged)
    }

    async fn next(&mut self) -> io::Result<Option<Entry>> {
        let Some(Reverse((entry, index))) = self.next.pop() else { return Ok(None) };
        let next = self.sources[index].next(self.disk).await?;
        self.next.extend(next.map(|next| Reverse((next, index))));
        Ok(Some(entry))
    }
}
