//! Records that are given back to their publisher because they cannot be stored now.
//!
//! The batch owned them until then: in good times no byte is copied for this. Giving back opens the batch once, and all
//! that were in it share that memory.

use std::fmt;

use bytes::Bytes;
use kafka_wire::record_batch::{Record, Records, batches};

/// Records of one [`crate::Outcome`], in order, as they were given to produce. Cheap to hold until they are read; each
/// keeps the memory of the batch it was in ([`Record::unpinned`] lets go of it).
#[derive(Clone)]
pub struct Unsent {
    /// Boxed, so that an outcome grows by a pointer.
    records: Box<Records>,
    count: u32,
}

impl Unsent {
    /// The next `count` records, which `records` is then past.
    pub(crate) fn take(records: &mut Records, count: u32) -> Unsent {
        let unsent = Unsent { records: Box::new(records.clone()), count };
        skip(records, count);
        unsent
    }

    /// How many they are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Timestamp, key, value and headers of each; its `offset` means nothing.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let records = (*self.records).clone().take(self.count as usize);
        records.map(|record| record.expect("a record of ours decodes"))
    }
}

impl fmt::Debug for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unsent({})", self.count)
    }
}

impl PartialEq for Unsent {
    fn eq(&self, other: &Unsent) -> bool {
        let all = |unsent: &Unsent| -> Vec<Record> {
            unsent.records().map(|record| Record { offset: 0, ..record }).collect()
        };
        all(self) == all(other)
    }
}

impl Eq for Unsent {}

/// The records of a batch we made ourselves.
pub(crate) fn records(whole: Bytes) -> Records {
    let batch = batches(whole).next().expect("one batch").expect("a batch of ours decodes");
    // Ours: the limit only has to be above anything we ever put into one batch.
    batch.records(i32::MAX as usize).expect("a batch of ours decompresses")
}

/// Goes past `count` records.
pub(crate) fn skip(records: &mut Records, count: u32) {
    records.take(count as usize).for_each(|record| drop(record.expect("a record of ours decodes")));
}
