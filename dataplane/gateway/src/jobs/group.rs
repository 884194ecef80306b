//! Jobs of a batch: added to the store together, told to the batch together.

use ::jobs::JobId;
use ::jobs::book::Refused;
use ::jobs::log::Name;
use ::jobs::store::{AddError, NewJob};

use super::{Jobs, Waiting, refuse};
use crate::refusal::Refusal;

/// A record of a batch that is to be a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batched {
    /// Its index in the batch, the lower half.
    pub record: u32,
    pub due_ms: i64,
}

/// Records of one batch that are added together.
pub struct Group {
    /// The batch's among publishes.
    pub tag: u64,
    pub jobs: Vec<Batched>,
}

/// What became of a group.
pub struct Settled {
    pub group: Group,
    /// Their ids, in the same order, once they are durable; or why they are no jobs after all.
    pub result: Result<Vec<JobId>, Refusal>,
}

/// Why a group was not added.
pub enum NotAdded {
    /// There may be room in a moment.
    ForNow(Refusal),
    ForGood(Refusal),
}

impl Jobs {
    /// Keeps messages of a batch until they are due; its session hears of them when they are durable. `new` are the jobs of
    /// the group.
    pub fn add_group(&self, name: &Name, new: &[NewJob<'_>], group: Group) -> Result<(), NotAdded> {
        debug_assert_eq!(new.len(), group.jobs.len());
        let (store, door) = self.takes().and_then(|()| self.open()).map_err(NotAdded::ForGood)?;
        self.has_room().map_err(NotAdded::ForNow)?;
        let mut waiting = self.waiting.borrow_mut();
        let place = waiting.vacant_entry();
        match store.add(name, new, place.key() as u64, &door.waiter) {
            Ok(first_seq) => {
                place.insert(Waiting::Grouped { name: name.clone(), first_seq, group });
                Ok(())
            }
            Err(error) => Err(match error {
                AddError::Refused(Refused::Memory) | AddError::Log(journal::Refused::Waiting) => {
                    NotAdded::ForNow(refuse(&error))
                }
                _ => NotAdded::ForGood(refuse(&error)),
            }),
        }
    }
}
