//! Records of a batch on their way among the delayed jobs: those of a burst go to the store together.
//!
//! They are encoded as they are parsed, one behind the other, and given to the store in groups. When it has no room for now
//! they stay, and nothing more is taken; what waits is bounded by [`JOBS_GROUP_BYTES_MAX`] and one record.

use super::sink::{Burst, Taker};
use crate::due::Due;
use crate::env::Env;
use crate::jobs::group::{Batched, Group, NotAdded};
use crate::jobs::when;
use crate::limits::{JOBS_GROUP_BYTES_MAX, JOBS_GROUP_RECORDS_MAX};
use crate::publish::batch::session::State;
use crate::publish::format::limits::SCRATCH_KEEP_BYTES;
use crate::publish::format::{ParsedRecord, RecordError};
use ::jobs::log::Name;
use ::jobs::store::NewJob;
use kafka_wire::job_entry;
use smallvec::SmallVec;

/// See the module.
pub struct ToJobs {
    name: Name,
    /// Of records that say none themselves.
    default_due: Option<Due>,
    /// What is not given to the store yet.
    jobs: Vec<Encoded>,
    /// Their messages, one behind the other.
    own: Vec<u8>,
    /// The store has no room for them now.
    waits: bool,
}

#[derive(Clone, Copy)]
struct Encoded {
    job: Batched,
    /// Where its message ends.
    end: usize,
}

impl ToJobs {
    pub fn new(name: Name, default_due: Option<Due>) -> ToJobs {
        ToJobs { name, default_due, jobs: Vec::new(), own: Vec::new(), waits: false }
    }

    pub(super) fn give_up(&mut self, env: &Env, state: &mut State, why: &RecordError) {
        fail(env, state, &self.jobs, why);
        self.clear();
    }

    fn clear(&mut self) {
        self.jobs.clear();
        self.own.clear();
        if self.own.capacity() > SCRATCH_KEEP_BYTES {
            self.own = Vec::new();
        }
        self.waits = false;
    }

    /// When a record is due, or why it is no job.
    fn due_ms(&self, record: &ParsedRecord<'_>, now_ms: i64) -> Result<i64, RecordError> {
        let due = record.due.or(self.default_due).ok_or_else(when::missing)?;
        Ok(when::check(due.ms(now_ms), now_ms)?)
    }

    /// Gives what there is to the store, as far as it takes it.
    fn give(&mut self, burst: &mut Burst<'_>) {
        let (mut given, mut from) = (0, 0);
        self.waits = false;
        while given < self.jobs.len() {
            let count = group_len(&self.jobs[given..], from);
            let group = &self.jobs[given..given + count];
            match self.add(burst, group, from) {
                Ok(()) => burst.got_through = true,
                Err(NotAdded::ForNow(_)) if !burst.given_up => {
                    self.waits = true;
                    break;
                }
                Err(NotAdded::ForNow(refusal) | NotAdded::ForGood(refusal)) => {
                    fail(burst.around.env, burst.state, group, &RecordError::from(refusal));
                }
            }
            given += count;
            from = self.jobs[given - 1].end;
        }
        if !self.waits {
            return self.clear();
        }
        self.jobs.drain(..given);
        self.own.drain(..from);
        self.jobs.iter_mut().for_each(|job| job.end -= from);
    }

    fn add(&self, burst: &Burst<'_>, group: &[Encoded], mut from: usize) -> Result<(), NotAdded> {
        let new = |encoded: &Encoded| {
            let own = &self.own[from..encoded.end];
            from = encoded.end;
            NewJob { due_ms: encoded.job.due_ms, key: None, own }
        };
        let new: SmallVec<[NewJob<'_>; 64]> = group.iter().map(new).collect();
        let jobs = group.iter().map(|encoded| encoded.job).collect();
        burst.around.jobs.add_group(&self.name, &new, Group { tag: burst.tag, jobs })
    }
}

/// How many of these go to the store together; their messages begin there.
fn group_len(jobs: &[Encoded], from: usize) -> usize {
    let fit = jobs.iter().take(JOBS_GROUP_RECORDS_MAX).take_while(|job| job.end - from <= JOBS_GROUP_BYTES_MAX).count();
    fit.max(1)
}

/// These come to nothing, and are no longer unanswered.
fn fail(env: &Env, state: &mut State, jobs: &[Encoded], why: &RecordError) {
    let runs = jobs.chunk_by(|one, next| one.job.record.wrapping_add(1) == next.job.record);
    runs.for_each(|run| state.fail_unanswered(env, run[0].job.record, run.len() as u64, why));
}

impl Taker for ToJobs {
    fn take_waiting(&mut self, burst: &mut Burst<'_>) {
        if self.waits {
            self.give(burst);
        }
    }

    fn take(&mut self, burst: &mut Burst<'_>, record: ParsedRecord<'_>) {
        let right = burst.right_timestamp(&record);
        let due_ms = match right.and_then(|()| self.due_ms(&record, burst.now_ms)) {
            Ok(due_ms) => due_ms,
            Err(error) => return burst.refuse(&error),
        };
        let begin = self.own.len();
        let ParsedRecord { timestamp_ms, key, value, headers, partition, .. } = record;
        job_entry::Entry { timestamp_ms, partition, key, headers, value }.encode(&mut self.own);
        let (_, index) = burst.state.next_index();
        burst.accept(self.own.len() - begin);
        self.jobs.push(Encoded { job: Batched { record: index, due_ms }, end: self.own.len() });
        if self.own.len() >= JOBS_GROUP_BYTES_MAX || self.jobs.len() >= JOBS_GROUP_RECORDS_MAX {
            self.give(burst);
        }
    }

    fn flush(&mut self, burst: &mut Burst<'_>) {
        if !self.waits {
            self.give(burst);
        }
    }

    fn waits(&self) -> bool {
        self.waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_as_many_as_fit_and_one_that_is_larger_goes_alone() {
        let jobs = |lengths: &[usize]| {
            let mut end = 0;
            let job = |(at, length): (usize, &usize)| {
                end += length;
                Encoded { job: Batched { record: at as u32, due_ms: 0 }, end }
            };
            lengths.iter().enumerate().map(job).collect::<Vec<_>>()
        };
        const MAX: usize = JOBS_GROUP_BYTES_MAX;
        for (lengths, expected) in [
            (vec![1], 1),
            (vec![MAX / 2, MAX / 2, 1], 2),
            (vec![MAX, 1], 1),
            (vec![MAX + 1, 1], 1),
            (vec![1, MAX], 1),
            (vec![1; JOBS_GROUP_RECORDS_MAX + 5], JOBS_GROUP_RECORDS_MAX),
        ] {
            assert_eq!(group_len(&jobs(&lengths), 0), expected, "{:?} …", &lengths[..lengths.len().min(3)]);
        }
        assert_eq!(group_len(&jobs(&[MAX, MAX / 2, MAX / 2, 1])[1..], MAX), 2, "from where they begin");
    }
}
