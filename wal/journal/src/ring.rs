//! Reads and scrubs on glommio: a ring of their own, on the thread that is for them.
//!
//! ```text
//!   queue "reads"   many shares   page cache (a mapped page that is dirty must not be read around)   one at a time, in order
//!   queue "scrub"   few shares    past the page cache: what the medium has, and no hot page is evicted    one piece at a time
//! ```
//!
//! One read and one piece of a scrub are in flight at most, so a commit finds no more than those before it at its device.
//! What is asked for comes from other threads through [`Shared`]; an idle ring sleeps in the kernel.
//!
//! glommio asks for more than it checks, so it is checked before ([`disk::ring`]). It panics where a file loses its name while it
//! is opened, which segments do, so the name it is given is that of a handle.

use std::collections::HashMap;
use std::fs;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use disk::ring::{TURN_MAX, plain, tells_its_limits};
use glommio::io::{BufferedFile, DmaFile, ReadResult};
use glommio::timer::Timer;
use glommio::{Latency, LocalExecutor, Shares};

use crate::background::{Scrubbed, Shared};
use crate::core::{is_medium, names};
use crate::format::PAGE_BYTES;
use crate::format::block::HEADER_BYTES;
use crate::format::segment::BLOCKS_BEGIN;
use crate::limits::{READ_SHARES, RING_DEPTH, RING_MEMORY_BYTES, SCRUB_PAUSE_MAX, SCRUB_READ_BYTES, SCRUB_SHARES};
use crate::reader::{HANDLES_MAX, judge, lost_of};
use crate::record::{Entry, Place};
use crate::refused::ReadError;
use crate::run::{Run, Tables, Wanted};
use crate::walk;

/// A ring for this thread, or why there can be none.
pub(crate) fn executor() -> io::Result<LocalExecutor> {
    disk::ring::executor("journal-reads", RING_MEMORY_BYTES, RING_DEPTH)
}

/// Answers what is asked for until the journal closes.
pub(crate) fn run(shared: &Arc<Shared>, executor: &LocalExecutor) {
    let (of_reads, of_scrub) = (Arc::clone(shared), Arc::clone(shared));
    executor.run(async move {
        let here = glommio::executor();
        let (often, seldom) = (Shares::Static(READ_SHARES), Shares::Static(SCRUB_SHARES));
        let reads = here.create_task_queue(often, Latency::Matters(TURN_MAX), "reads");
        let scrub = here.create_task_queue(seldom, Latency::NotImportant, "scrub");
        let reads = glommio::spawn_local_into(read_all(of_reads), reads).expect("its queue was made above");
        let scrub = glommio::spawn_local_into(scrub_all(of_scrub), scrub).expect("its queue was made above");
        reads.await;
        scrub.await;
    });
}

async fn read_all(shared: Arc<Shared>) {
    let mut handles = Handles { shared: Arc::clone(&shared), files: HashMap::new(), tables: Tables::default() };
    while let Some(request) = poll_fn(|cx| shared.poll_request(cx)).await {
        let entries = handles.read_run(request.place, request.count).await;
        request.answer(entries);
    }
}

/// Open segments, and what is known of their blocks.
struct Handles {
    shared: Arc<Shared>,
    files: HashMap<u64, BufferedFile>,
    tables: Tables,
}

impl Handles {
    /// As [`Reader::read_run`](crate::Reader::read_run).
    async fn read_run(&mut self, place: Place, count: u32) -> Result<Vec<Result<Entry, ReadError>>, ReadError> {
        let segment = place.segment;
        let key = self.shared.core.table().live.get(&segment).map(|live| live.header.key());
        let run = Run { place, count, key: key.ok_or_else(|| self.gone(segment))? };
        let read = self.read_bytes_of(run).await.map_err(|err| err.of(segment));
        // Its file may have become another segment while we read, or nobody's.
        if !self.shared.core.is_live(segment) {
            return Err(self.gone(segment));
        }
        let (wanted, bodies) = read?;
        Ok(wanted.entries(&bodies))
    }

    async fn read_bytes_of(&mut self, run: Run) -> Result<(Wanted, Bytes), Failed> {
        let begin = u64::from(run.place.block);
        let wanted = match self.tables.wanted(&run) {
            Some(wanted) => wanted,
            None => {
                let file = self.file(run.place.segment).await?;
                let head = read_paged(file, begin, HEADER_BYTES).await?;
                let table = read_paged(file, begin, run.table_bytes(&head)?).await?;
                self.tables.learn(&run, &table)?
            }
        };
        let file = self.file(run.place.segment).await?;
        let bodies = wanted.bodies();
        let bodies = read_paged(file, begin + bodies.start as u64, bodies.len()).await?;
        Ok((wanted, bodies))
    }

    /// Nothing of this segment is needed again.
    fn gone(&mut self, segment: u64) -> ReadError {
        self.files.remove(&segment);
        self.tables.forget(segment);
        ReadError::Gone { segment }
    }

    async fn file(&mut self, segment: u64) -> io::Result<&BufferedFile> {
        if !self.files.contains_key(&segment) {
            if self.files.len() >= HANDLES_MAX {
                self.files.clear();
            }
            let path = self.shared.core.path(&names::segment(segment));
            self.files.insert(segment, BufferedFile::open(path).await.map_err(plain)?);
        }
        Ok(&self.files[&segment])
    }
}

/// Why a run was not read.
enum Failed {
    Io(io::Error),
    Read(ReadError),
}

impl Failed {
    fn of(self, segment: u64) -> ReadError {
        match self {
            Failed::Io(source) => ReadError::Io { segment, source },
            Failed::Read(err) => err,
        }
    }
}

impl From<io::Error> for Failed {
    fn from(err: io::Error) -> Failed {
        Failed::Io(err)
    }
}

impl From<ReadError> for Failed {
    fn from(err: ReadError) -> Failed {
        Failed::Read(err)
    }
}

/// Up to `bytes`, fewer only at the end of the file. Copied once: glommio's buffer is its thread's.
async fn read_paged(file: &BufferedFile, at: u64, bytes: usize) -> io::Result<Bytes> {
    let mut whole = Vec::with_capacity(bytes);
    while whole.len() < bytes {
        let some = file.read_at(at + whole.len() as u64, bytes - whole.len()).await.map_err(plain)?;
        if some.is_empty() {
            break;
        }
        whole.extend_from_slice(&some);
    }
    Ok(Bytes::from(whole))
}

async fn scrub_all(shared: Arc<Shared>) {
    while let Some((segment, bytes_per_second)) = poll_fn(|cx| shared.poll_segment(cx)).await {
        let scrubbed = scrub(&shared, segment, bytes_per_second).await;
        shared.tell(segment, scrubbed);
    }
}

/// Checks one segment. `None`: it is gone meanwhile, or the journal closes.
async fn scrub(shared: &Shared, segment: u64, bytes_per_second: u64) -> Scrubbed {
    let Some(live) = shared.core.table().live.get(&segment).cloned() else { return Ok(None) };
    let path = shared.core.path(&names::segment(segment));
    let read = read_sealed(shared, &path, live.extent.end as usize, bytes_per_second).await;
    if !shared.core.is_live(segment) {
        return Ok(None);
    }
    let Some(bytes) = read.map_err(|source| ReadError::Io { segment, source })? else { return Ok(None) };
    let (mut nodes, mut offset) = (Vec::new(), BLOCKS_BEGIN as usize);
    while offset < bytes.len() {
        let (node, next) = walk::node_at(&bytes, &live.header, offset);
        nodes.extend(node);
        offset = next;
        // A read goes first.
        glommio::executor().yield_if_needed().await;
    }
    let lost = lost_of(&live, &judge(&live, nodes)).collect();
    Ok(Some((bytes.len() as u64, lost)))
}

/// The begin of a segment that nobody writes, at this pace; what the medium does not give back is zeros, and so is found
/// rotten. `None`: the journal closes.
async fn read_sealed(shared: &Shared, path: &Path, bytes: usize, bytes_per_second: u64) -> io::Result<Option<Vec<u8>>> {
    let file = Sealed::open(path).await?;
    let mut whole = vec![0; bytes];
    for (piece, part) in whole.chunks_mut(SCRUB_READ_BYTES).enumerate() {
        if shared.is_closing() {
            return Ok(None);
        }
        file.fill((piece * SCRUB_READ_BYTES) as u64, part).await?;
        let pause = Duration::from_secs_f64(part.len() as f64 / bytes_per_second as f64).min(SCRUB_PAUSE_MAX);
        let mut pause = Timer::new(pause);
        let over = |cx: &mut std::task::Context<'_>| match shared.poll_closing(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => Pin::new(&mut pause).poll(cx).map(drop),
        };
        poll_fn(over).await;
    }
    Ok(Some(whole))
}

/// A segment that is read from its medium, or through the page cache where its file system has no other way.
struct Sealed {
    how: How,
    /// Its name in the meantime.
    _handle: fs::File,
}

enum How {
    Direct(DmaFile),
    Paged(BufferedFile),
}

impl Sealed {
    async fn open(path: &Path) -> io::Result<Sealed> {
        let handle = fs::File::open(path)?;
        let name = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        let direct = match tells_its_limits(&handle) {
            true => DmaFile::open(&name).await.ok(),
            false => None,
        };
        let how = match direct {
            Some(file) => How::Direct(file),
            None => How::Paged(BufferedFile::open(&name).await.map_err(plain)?),
        };
        Ok(Sealed { how, _handle: handle })
    }

    /// Reads what is at a page, or leaves it as it is where the medium fails.
    async fn fill(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        match self.read(at, into.len()).await {
            Ok(read) => copy(&read, into),
            Err(err) if is_medium(&err) => {
                for (page, part) in into.chunks_mut(PAGE_BYTES).enumerate() {
                    match self.read(at + (page * PAGE_BYTES) as u64, part.len()).await {
                        Ok(read) => copy(&read, part),
                        Err(err) if is_medium(&err) => {}
                        Err(err) => return Err(err),
                    }
                }
            }
            Err(err) => return Err(err),
        }
        Ok(())
    }

    async fn read(&self, at: u64, bytes: usize) -> io::Result<ReadResult> {
        match &self.how {
            How::Direct(file) => file.read_at_aligned(at, bytes.next_multiple_of(PAGE_BYTES)).await.map_err(plain),
            How::Paged(file) => file.read_at(at, bytes).await.map_err(plain),
        }
    }
}

/// A read that is short leaves zeros, which are found rotten.
fn copy(read: &[u8], into: &mut [u8]) {
    let bytes = read.len().min(into.len());
    into[..bytes].copy_from_slice(&read[..bytes]);
}
