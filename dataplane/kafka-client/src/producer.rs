//! What makes acks=all exactly once within a session: producer ids, sequence numbers, and what a broker's answer
//! means for a batch.
//!
//! One producer id per client, fetched with InitProducerId without a transactional id. Each partition counts its own
//! sequence under it. A partition that gave up on a batch which may be stored never uses that id again: a late copy
//! of the batch can then only arrive under an id and sequence nobody else uses. Giving up on one partition burns the
//! id for that partition alone; partitions that need a fresh one at the same time share it.
//!
//! What an error says about storage decides between 503 and 504, so it is written down here once
//! ([`verdict`]). With acks=all a broker appends first and waits for its followers; when it loses the partition
//! while it waits it answers NOT_LEADER_OR_FOLLOWER, KAFKA_STORAGE_ERROR or UNKNOWN_TOPIC_OR_PARTITION, with the
//! batch appended and perhaps replicated. So these say "may be stored" for acks=all, and "not stored" for acks=1.
//! UNKNOWN_TOPIC_OR_PARTITION is also what a restarted broker says that has not heard of its partitions yet; the
//! answer to an appended batch still carries the offset where it was, so without one nothing was appended. (Brokers
//! that are no Kafka give it only before appending.)

use std::time::Instant;

use kafka_wire::error_code::ErrorCode;

use crate::backoff::Backoff;
use crate::limits::{CORRUPT_ATTEMPTS_MAX, IDEMPOTENCE_RETRY};
use crate::types::Acks;

/// A producer id with its epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub id: i64,
    pub epoch: i16,
    /// Counts our InitProducerId answers.
    pub generation: u32,
}

/// The client's producer id and how to get another.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    pub current: Option<Identity>,
    /// Some partition needs an id of at least this generation.
    pub wanted: bool,
    /// Since when a record waits for one.
    pub wanted_since: Option<Instant>,
    pub asking: bool,
    pub retry_at: Option<Instant>,
    pub backoff: Backoff,
    /// The brokers do not let us (before 2.8 without IdempotentWrite, or before 0.11): acks=all goes without an id
    /// until one is granted after all.
    pub refused: bool,
    generation: u32,
}

impl ProducerIds {
    /// The id a partition may use, if there is one it has not burnt; else asks for one.
    pub fn adopt(&mut self, generation_min: u32, now: Instant) -> Option<Identity> {
        match self.current {
            Some(identity) if identity.generation >= generation_min => Some(identity),
            _ => {
                self.wanted = true;
                self.wanted_since.get_or_insert(now);
                None
            }
        }
    }

    pub fn granted(&mut self, id: i64, epoch: i16) {
        self.generation += 1;
        self.current = Some(Identity { id, epoch, generation: self.generation });
        self.asking = false;
        self.wanted = false;
        self.wanted_since = None;
        self.refused = false;
        self.retry_at = None;
        self.backoff.succeeded();
    }

    /// No id for now; one is asked for again later.
    pub fn refused(&mut self, now: Instant) {
        self.asking = false;
        self.refused = true;
        self.wanted = true;
        self.wanted_since = None;
        self.retry_at = Some(now + IDEMPOTENCE_RETRY);
    }
}

/// `sequence + count`, in Kafka's way round the end: after `i32::MAX` comes 0.
pub(crate) fn sequence_after(sequence: i32, count: u32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) % (1 << 31)) as i32
}

/// What an answer for one partition means for its batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Stored at the offset told.
    Stored,
    /// The broker has this sequence already; it does not say where.
    Duplicate,
    /// Try again, the same batch.
    Retry {
        /// The leader may be another now.
        refresh: bool,
        /// This attempt may have been stored.
        maybe_stored: bool,
    },
    /// Not stored: too large together.
    TooLarge,
    /// Not stored: one of the records is refused.
    BadRecord,
    /// Not stored: the broker's view of our producer id and ours differ.
    FreshIdentity,
    /// Not stored: we may not use a producer id.
    NoIdentity,
    /// Not stored: we may not write there.
    NotAuthorized,
    /// Not stored: refused for good.
    Rejected,
    /// Whatever happened at the broker, it does not know itself.
    Unknown,
}

/// What `code` means for a batch sent with `acks`, after `attempts` attempts; `base_offset` as the answer has it.
pub(crate) fn verdict(code: ErrorCode, base_offset: i64, acks: Acks, attempts: u32) -> Verdict {
    let appended_first = acks == Acks::All;
    match code {
        ErrorCode::NONE => Verdict::Stored,
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Verdict::Duplicate,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
            Verdict::Retry { refresh: true, maybe_stored: appended_first && base_offset >= 0 }
        }
        ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::KAFKA_STORAGE_ERROR
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_LEADER_EPOCH
        | ErrorCode::REPLICA_NOT_AVAILABLE
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::INCONSISTENT_TOPIC_ID => Verdict::Retry { refresh: true, maybe_stored: appended_first },
        ErrorCode::LEADER_NOT_AVAILABLE | ErrorCode::BROKER_NOT_AVAILABLE => {
            Verdict::Retry { refresh: true, maybe_stored: false }
        }
        ErrorCode::NETWORK_EXCEPTION => Verdict::Retry { refresh: true, maybe_stored: true },
        ErrorCode::NOT_ENOUGH_REPLICAS | ErrorCode::THROTTLING_QUOTA_EXCEEDED => {
            Verdict::Retry { refresh: false, maybe_stored: false }
        }
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND | ErrorCode::REQUEST_TIMED_OUT => {
            Verdict::Retry { refresh: false, maybe_stored: true }
        }
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => Verdict::TooLarge,
        ErrorCode::CORRUPT_MESSAGE if attempts < CORRUPT_ATTEMPTS_MAX => {
            Verdict::Retry { refresh: false, maybe_stored: false }
        }
        ErrorCode::CORRUPT_MESSAGE | ErrorCode::INVALID_RECORD | ErrorCode::INVALID_TIMESTAMP => Verdict::BadRecord,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        | ErrorCode::UNKNOWN_PRODUCER_ID
        | ErrorCode::INVALID_PRODUCER_EPOCH
        | ErrorCode::INVALID_PRODUCER_ID_MAPPING
        | ErrorCode::PRODUCER_FENCED => Verdict::FreshIdentity,
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => Verdict::NoIdentity,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => Verdict::NotAuthorized,
        ErrorCode::UNKNOWN_SERVER_ERROR => Verdict::Unknown,
        code if code.is_retriable() => Verdict::Retry { refresh: true, maybe_stored: appended_first },
        _ => Verdict::Rejected,
    }
}

/// What an answer allows, given the batch's past: an earlier attempt that `maybe_stored`, or no sequence that would
/// let the broker tell a retry from a second batch.
pub(crate) fn settle(
    said: Verdict,
    code: ErrorCode,
    base_offset: i64,
    maybe_stored: bool,
    idempotent: bool,
) -> Verdict {
    match said {
        Verdict::Stored => Verdict::Stored,
        // A sequence we never sent before is no duplicate of ours.
        Verdict::Duplicate if !maybe_stored => {
            if idempotent {
                Verdict::FreshIdentity
            } else {
                Verdict::Unknown
            }
        }
        Verdict::Duplicate => Verdict::Duplicate,
        // A retry without a sequence would append again what was appended.
        Verdict::Retry { refresh, maybe_stored: true } if !idempotent => {
            if is_refused_unread(code, base_offset) {
                Verdict::Retry { refresh, maybe_stored: false }
            } else {
                Verdict::Unknown
            }
        }
        Verdict::Retry { .. } => said,
        // This attempt was refused, an earlier one may lie in the log.
        _ if maybe_stored => Verdict::Unknown,
        Verdict::FreshIdentity | Verdict::NoIdentity if !idempotent => Verdict::Rejected,
        said => said,
    }
}

/// A broker that appended and then lost the partition answers with these codes and the offset where it was; one that
/// was not the leader to begin with has no offset to tell. (True of Apache Kafka's DelayedProduce; others say such a
/// thing only before appending.)
fn is_refused_unread(code: ErrorCode, base_offset: i64) -> bool {
    base_offset < 0
        && matches!(
            code,
            ErrorCode::NOT_LEADER_OR_FOLLOWER
                | ErrorCode::FENCED_LEADER_EPOCH
                | ErrorCode::UNKNOWN_LEADER_EPOCH
                | ErrorCode::REPLICA_NOT_AVAILABLE
                | ErrorCode::UNKNOWN_TOPIC_ID
                | ErrorCode::INCONSISTENT_TOPIC_ID
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_go_round_as_the_brokers_count_them() {
        for (sequence, count, after) in
            [(0, 1, 1), (5, 10, 15), (i32::MAX, 1, 0), (i32::MAX - 1, 2, 0), (i32::MAX - 3, 10, 6)]
        {
            assert_eq!(sequence_after(sequence, count), after, "{sequence} + {count}");
        }
    }

    #[test]
    fn what_a_broker_says_after_appending_is_never_taken_for_not_stored() {
        for code in [
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::KAFKA_STORAGE_ERROR,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            ErrorCode::REQUEST_TIMED_OUT,
        ] {
            let said = verdict(code, 7, Acks::All, 1);
            assert!(matches!(said, Verdict::Retry { maybe_stored: true, .. }), "{} gives {said:?}", code.name());
        }
        let said = verdict(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1, Acks::All, 1);
        assert_eq!(said, Verdict::Retry { refresh: true, maybe_stored: false }, "it never had the partition");
    }

    #[test]
    fn a_partition_never_takes_back_an_id_it_burnt() {
        let (mut ids, now) = (ProducerIds::default(), Instant::now());
        assert_eq!(ids.adopt(0, now), None);
        assert!(ids.wanted);
        ids.granted(7, 0);
        let first = ids.adopt(0, now).unwrap();
        assert_eq!(ids.adopt(first.generation + 1, now), None, "burnt");
        assert_eq!(ids.adopt(0, now), Some(first), "other partitions keep it");
        ids.granted(8, 0);
        assert_eq!(ids.adopt(first.generation + 1, now).map(|identity| identity.id), Some(8));
    }
}
