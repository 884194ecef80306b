//! Takes over what a dead node left: its messages are appended to this node's journal, in their order, and settled in its own.
//!
//! Message by message it is: durable here, then settled there. Who dies in between leaves some in both, which are delivered
//! twice; nobody leaves one in neither.

use std::io;
use std::path::Path;
use std::sync::Arc;

use disk::{Device, Disk, Files};
use journal::queue::{self, Budget, Extent, Fate, Keeping, Kind, Name, Note, Queue, Reason, StreamId};
use journal::{Group, Journal, Reader, Record};

use super::open::{now_ms, tell_lost};
use super::store::{Store, record_of};
use crate::limits::{HANDOFF_GROUP_BYTES_MAX, HANDOFF_GROUP_RECORDS_MAX};

/// What was taken over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Adopted {
    pub records: u64,
    pub bytes: u64,
}

/// What a stream of the dead node has.
struct Left {
    stream: StreamId,
    name: Name,
    waiting: Vec<Extent>,
    parked: Vec<(u64, Extent, Reason)>,
}

impl Store {
    /// Takes over the journal in `dir` of the node `from`, whose lock the caller holds. For a thread that may wait.
    pub fn adopt(&self, dir: &Path, from: &str) -> io::Result<Adopted> {
        if !dir.exists() {
            return Ok(Adopted::default());
        }
        let disk: Arc<dyn Disk> = Arc::new(Files::with_device(Device::Plain, |_| Ok(()), || {}, || {})?);
        let failed = |err: &dyn std::fmt::Display| io::Error::other(format!("the journal of node {from}: {err}"));
        let (idle, recovered) =
            Journal::recover(journal::Config::new(dir, from), disk, journal::random()).map_err(|err| failed(&err))?;
        let unbounded = Budget {
            bytes_max: u64::MAX,
            subject_bytes_max: u64::MAX,
            account_bytes_max: u64::MAX,
            records_max: u64::MAX,
            age_ms_max: None,
        };
        let keeping = Keeping { receipts_ms: i64::MAX };
        let replayed = queue::replay(&recovered, &mut idle.reader(), unbounded, keeping).map_err(io::Error::other)?;
        tell_lost(&replayed.lost, replayed.malformed, dir);
        let mut theirs = replayed.queue;
        let all = left(&mut theirs);
        let mut reader = idle.reader();
        let journal = idle.start(|| {}, |_| {}).map_err(|err| failed(&err))?;
        let mut adopted = Adopted::default();
        for stream in &all {
            self.adopt_stream(stream, &mut theirs, &journal, &mut reader, &mut adopted).map_err(|err| failed(&err))?;
        }
        let lsn = journal.durable_lsn();
        if let Err(err) = journal.checkpoint(lsn, theirs.checkpoint()) {
            tracing::warn!(%err, from, "no last checkpoint of the adopted journal; nothing is lost by that");
        }
        journal.close();
        Ok(adopted)
    }

    fn adopt_stream(
        &self,
        left: &Left,
        theirs: &mut Queue,
        journal: &Journal,
        reader: &mut Reader,
        adopted: &mut Adopted,
    ) -> io::Result<()> {
        for extent in &left.waiting {
            self.adopt_extent(left, extent, None, theirs, journal, reader, adopted)?;
        }
        for (_, extent, reason) in &left.parked {
            self.adopt_extent(left, extent, Some(reason), theirs, journal, reader, adopted)?;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // from where, to where, and what is counted
    fn adopt_extent(
        &self,
        left: &Left,
        extent: &Extent,
        parked: Option<&Reason>,
        theirs: &mut Queue,
        journal: &Journal,
        reader: &mut Reader,
        adopted: &mut Adopted,
    ) -> io::Result<()> {
        let place =
            journal::Place { segment: extent.place.segment, block: extent.place.block, index: extent.place.index };
        let entries = reader.read_run(place, extent.count).map_err(io::Error::other)?;
        let mut group: Vec<(u64, Record)> = Vec::new();
        let mut bytes = 0;
        for (at, entry) in entries.into_iter().enumerate() {
            let number = extent.first + at as u64;
            match entry {
                Ok(entry) => {
                    bytes += entry.body.len();
                    group.push((number, Record::new(0, Kind::Entry as u8, 0, entry.body)));
                }
                Err(err) => {
                    tracing::error!(%err, number, "a message of the adopted journal cannot be read and stays there")
                }
            }
            if bytes >= HANDOFF_GROUP_BYTES_MAX || group.len() >= HANDOFF_GROUP_RECORDS_MAX {
                self.adopt_group(left, std::mem::take(&mut group), parked, theirs, journal, adopted)?;
                bytes = 0;
            }
        }
        self.adopt_group(left, group, parked, theirs, journal, adopted)
    }

    fn adopt_group(
        &self,
        left: &Left,
        group: Vec<(u64, Record)>,
        parked: Option<&Reason>,
        theirs: &mut Queue,
        journal: &Journal,
        adopted: &mut Adopted,
    ) -> io::Result<()> {
        if group.is_empty() {
            return Ok(());
        }
        let (numbers, records): (Vec<u64>, Vec<Record>) = group.into_iter().unzip();
        let bytes: u64 = records.iter().map(|record| record.body_bytes() as u64).sum();
        self.take_in(&left.name, records, parked).map_err(io::Error::other)?;
        let notes: Vec<Note> = numbers
            .iter()
            .filter_map(|number| theirs.settle(left.stream, *number, 1, Fate::Adopted, now_ms()))
            .collect();
        let group = Group::new(notes.into_iter().map(record_of)).map_err(io::Error::other)?;
        // Not waited for: a crash now means that some are adopted twice.
        journal.append_unwatched(group).map_err(io::Error::other)?;
        adopted.records += numbers.len() as u64;
        adopted.bytes += bytes;
        Ok(())
    }
}

/// Everything that is not settled.
fn left(queue: &mut Queue) -> Vec<Left> {
    let streams: Vec<(StreamId, Name)> = queue.streams().map(|(stream, name)| (stream, name.clone())).collect();
    streams
        .into_iter()
        .map(|(stream, name)| {
            let waiting = queue.take(stream, u64::MAX, u32::MAX);
            let parked = queue.parked(stream, 0);
            let parked = parked.map(|(sequence, parked)| (sequence, parked.extent, parked.reason.clone())).collect();
            Left { stream, name, waiting, parked }
        })
        .collect()
}
