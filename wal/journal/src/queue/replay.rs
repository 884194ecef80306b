//! The queue that a log tells of: its checkpoint, where entries are, and what came after the checkpoint.

use super::{Budget, Committed, Keeping, Kind, Malformed, Place, Queue};
use crate::reader::Reader;
use crate::record::Entry;
use crate::recovery::{Lost, Recovered};
use crate::refused::ReadError;

/// See the module.
#[derive(Debug)]
pub struct Replayed {
    pub queue: Queue,
    /// What could not be read meanwhile; more than [`Recovered::lost`], which does not look at what lies before the checkpoint.
    pub lost: Vec<Lost>,
    /// Records that make no sense, and were passed over.
    pub malformed: u64,
}

/// Why there is no queue.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("the checkpoint of handed-off messages is not understood")]
    Checkpoint(#[source] Malformed),
    #[error("handed-off messages cannot be read")]
    Read(#[source] ReadError),
}

/// Replays what was recovered, or would be.
pub fn replay(
    recovered: &Recovered,
    reader: &mut Reader,
    budget: Budget,
    keeping: Keeping,
) -> Result<Replayed, ReplayError> {
    let restored = recovered.checkpoint.as_deref().map(|blob| Queue::restore(blob, budget, keeping)).transpose();
    let mut queue = restored.map_err(ReplayError::Checkpoint)?.unwrap_or_else(|| Queue::new(budget, keeping));
    let mut malformed = 0;
    let is_entry = |kind: u8| matches!(Kind::of(kind), Some(Kind::Entry | Kind::Moved));
    let mut tell = |entry: Entry| {
        if !is_entry(entry.kind) && entry.lsn < recovered.from_lsn {
            return;
        }
        let told = Committed {
            stream: entry.stream,
            kind: entry.kind,
            sequence: entry.sequence,
            place: Place::from(entry.place),
            bytes: entry.location.bytes,
            wall_ms: entry.wall_ms,
            body: &entry.body,
        };
        malformed += u64::from(queue.apply(&told).is_err());
    };
    let lost = reader.scan_rows(&|row| !is_entry(row.kind), &mut tell).map_err(ReplayError::Read)?;
    queue.recovered();
    Ok(Replayed { queue, lost, malformed })
}

impl From<crate::record::Place> for Place {
    fn from(place: crate::record::Place) -> Place {
        Place { segment: place.segment, block: place.block, index: place.index }
    }
}

impl From<Place> for crate::record::Place {
    fn from(place: Place) -> crate::record::Place {
        crate::record::Place { segment: place.segment, block: place.block, index: place.index }
    }
}
