//! Where a job stands in the order of all.

/// Jobs are due in this order: by time, and those of one time as they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Epoch ms.
    pub due_ms: i64,
    /// The job's number on its node, from 1.
    pub seq: u64,
}

impl Key {
    pub const MIN: Key = Key { due_ms: i64::MIN, seq: 0 };
    pub const MAX: Key = Key { due_ms: i64::MAX, seq: u64::MAX };

    /// Before every job that is due then.
    pub fn first_of(due_ms: i64) -> Key {
        Key { due_ms, seq: 0 }
    }

    /// The next one there can be.
    pub fn after(self) -> Key {
        match self.seq.checked_add(1) {
            Some(seq) => Key { seq, ..self },
            None => Key::first_of(self.due_ms.saturating_add(1)),
        }
    }
}
