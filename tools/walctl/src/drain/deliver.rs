//! Delivers: partition by partition, several at once, in each one run of messages after the other.
//!
//! ```text
//!   taken ──▶ checked ──▶ one run ──▶ stored ───────────▶ settled, durably ──▶ the next run
//!                │            │ refused for what it is ─▶ parked
//!                │            └ anything else ──────────▶ everything not stored waits again; the stream ends here
//!                └ cannot be read ─▶ parked
//! ```
//! A run fits into one batch of the client, which is stored whole or not at all, and nobody else writes to the partition from
//! here, so no message overtakes one before it that was not taken. Before the first run, what the gateway sent and did not note
//! is looked for, as a gateway does at a start (`publish/handoff/begin.rs`): that is settled, and not sent again. The first run of a stream is one message: if Kafka does not
//! take that, nothing else is under way. A lane by key goes when its topic's numbered partitions have nothing left, as the
//! gateway does it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use journal::queue::{Fate, Note, Reason, Receipt, StreamId};
use journal::receipt_id::ReceiptId;
use kafka_admin::{ExactRecord, ProduceError, Stored};
use kafka_client::{Found, Since};
use kafka_wire::handoff_entry::{self as entry, MSG_ID_HEADER};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::connect::Kafka;
use super::plan::Planned;
use super::report::now_ms;
use super::settled::{Settling, Taken, note};
use crate::cli::Drain;
use crate::exit;

/// Partitions that are delivered at once.
pub const PARTITIONS_MAX: usize = 16;
/// Of one partition on their way, but at least one message: with what Kafka adds to them less than half of a batch.
pub const RUN_BYTES_MAX: u64 = 512 << 10;
pub const RUN_RECORDS_MAX: u32 = 512;
const _: () = assert!(RUN_BYTES_MAX as usize * 2 <= kafka_client::limits::BATCH_BYTES_MAX);
// No message of the journal is longer than a group of it: all that are on their way have room in the client.
const _: () = assert!(PARTITIONS_MAX * journal::limits::GROUP_BYTES_MAX * 2 <= kafka_client::limits::QUEUE_BYTES_MAX);
const _: () = assert!(PARTITIONS_MAX * RUN_RECORDS_MAX as usize <= kafka_client::limits::WAITING_RECORDS_MAX);

/// Why something is left when somebody, or the journal, ended it.
const INTERRUPTED: &str = "interrupted";

/// What became of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct End {
    pub delivered: u64,
    /// By this run.
    pub parked: u64,
    /// Why something is left, or was parked.
    pub why: Option<String>,
}

/// One per program.
pub struct Delivery {
    pub settling: RefCell<Settling>,
    pub ends: RefCell<BTreeMap<StreamId, End>>,
    pub delivered: Cell<u64>,
    /// The journal failed, and nothing goes on.
    pub failed: RefCell<Option<String>>,
    kafka: Kafka,
    is_stopped: Cell<bool>,
    stopped: Notify,
    include_parked: bool,
    recreated: bool,
}

impl Delivery {
    pub fn new(drain: &Drain, kafka: Kafka, settling: Settling) -> Delivery {
        Delivery {
            settling: settling.into(),
            ends: RefCell::default(),
            delivered: Cell::default(),
            failed: RefCell::default(),
            kafka,
            is_stopped: Cell::default(),
            stopped: Notify::new(),
            include_parked: drain.include_parked,
            recreated: drain.recreated,
        }
    }

    fn stop(&self) {
        self.is_stopped.set(true);
        self.stopped.notify_waiters();
    }
}

/// Ends early when somebody wants that: what is under way is waited for, so that it is noted.
pub async fn stop_when_told(delivery: Rc<Delivery>) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    next().await;
    delivery.stop();
    eprintln!("walctl: what is under way is waited for; once more ends at once, and the next run looks for it");
    next().await;
    std::process::exit(i32::from(exit::FAILED));
}

/// All of them; what became of each is in [`Delivery::ends`].
pub async fn run(delivery: &Rc<Delivery>, planned: &[Planned]) {
    let (by_key, numbered): (Vec<&Planned>, Vec<&Planned>) = planned.iter().partition(|one| one.name.lane < 0);
    for phase in [numbered, by_key] {
        let mut partitions: BTreeMap<(Arc<str>, i32), Vec<Planned>> = BTreeMap::new();
        for one in phase {
            let partition = (Arc::clone(&one.name.subject), one.name.lane);
            partitions.entry(partition).or_default().push(one.clone());
        }
        let mut running = JoinSet::new();
        for streams in partitions.into_values() {
            if running.len() >= PARTITIONS_MAX {
                joined(running.join_next().await);
            }
            let delivery = Rc::clone(delivery);
            running.spawn_local(async move {
                for stream in streams {
                    delivery.deliver(&stream).await;
                }
            });
        }
        while !running.is_empty() {
            joined(running.join_next().await);
        }
    }
}

/// A bug of ours ends the program.
fn joined(ended: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(err)) = ended {
        std::panic::resume_unwind(err.into_panic());
    }
}

/// What is done with an entry that does not go.
enum Verdict {
    Park(Reason),
    /// It, and everything behind it, stays as it is.
    Leave(String),
}

impl Delivery {
    async fn deliver(&self, planned: &Planned) {
        let mut end = End::default();
        if let Err(why) = self.deliver_all(planned, &mut end).await {
            end.why = Some(why);
        }
        self.ends.borrow_mut().insert(planned.stream, end);
    }

    /// Until nothing of the stream is left; `Err`: why something is.
    async fn deliver_all(&self, planned: &Planned, end: &mut End) -> Result<(), String> {
        self.check_turn(planned)?;
        if self.is_stopped.get() {
            return Err(INTERRUPTED.to_owned());
        }
        let topic_id = tokio::select! {
            found = self.kafka.topic(planned.topic()) => found?,
            () = self.stopped.notified() => return Err(INTERRUPTED.to_owned()),
        };
        self.begin(planned, end).await?;
        if self.include_parked {
            self.unpark(planned.stream).await?;
        }
        let mut count_max = 1;
        loop {
            if self.is_stopped.get() {
                return Err(INTERRUPTED.to_owned());
            }
            let taken = self.settling.borrow_mut().take(planned.stream, RUN_BYTES_MAX, count_max);
            if taken.is_empty() {
                let note = self.settling.borrow_mut().queue_mut().sending(planned.stream, BTreeMap::new());
                return self.note(note.into_iter().collect()).await;
            }
            count_max = RUN_RECORDS_MAX;
            self.deliver_run(planned, topic_id, taken, end).await?;
        }
    }

    /// Settles what is in Kafka already, and notes where sending begins.
    async fn begin(&self, planned: &Planned, end: &mut End) -> Result<(), String> {
        let stream = planned.stream;
        let sent = self.settling.borrow().queue().sent(stream);
        let is_in_doubt = !sent.is_empty();
        let since = if is_in_doubt { Since::Offsets(sent) } else { Since::Nothing };
        let partition = (planned.name.lane >= 0).then_some(planned.name.lane);
        let searched = self.kafka.search(planned.topic(), partition, since).await;
        let (ends, found) = match searched {
            Ok(searched) => searched,
            // Who may write and not read can deliver all the same.
            Err(why) if is_in_doubt => {
                let topic = planned.topic();
                eprintln!(
                    "walctl: {topic}: what was under way cannot be looked for, and is delivered, perhaps again: {why}"
                );
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        let there: Vec<(u64, Stored)> = {
            let settling = self.settling.borrow();
            let stored = |found: &Found| {
                let text = std::str::from_utf8(found.header(MSG_ID_HEADER)?).ok()?;
                let id = ReceiptId::parse(text).filter(|id| id.stream == stream && settling.issuer().is_genuine(id))?;
                let at = Stored { partition: found.partition, offset: found.offset, timestamp_ms: -1 };
                let is_pending = settling.queue().receipt(stream, id.sequence) == Receipt::Pending;
                is_pending.then_some((id.sequence, at))
            };
            found.iter().filter_map(stored).collect()
        };
        let notes: Vec<Note> = {
            let (mut settling, now_ms) = (self.settling.borrow_mut(), now_ms());
            let queue = settling.queue_mut();
            let settled = delivered(&there).into_iter();
            let settled = settled.filter_map(|(first, count, fate)| queue.settle(stream, first, count, fate, now_ms));
            let mut notes: Vec<Note> = settled.collect();
            notes.extend(queue.sending(stream, ends));
            notes
        };
        self.note(notes).await?;
        end.delivered += there.len() as u64;
        self.delivered.set(self.delivered.get() + there.len() as u64);
        if !there.is_empty() {
            eprintln!("walctl: {}: {} messages are in Kafka already", planned.topic(), there.len());
        }
        Ok(())
    }

    /// Messages whose partition is chosen by key come after those for which it was chosen before.
    fn check_turn(&self, planned: &Planned) -> Result<(), String> {
        let settling = self.settling.borrow();
        let queue = settling.queue();
        let goes_first = |name: &journal::queue::Name| {
            name.account == planned.name.account && name.subject == planned.name.subject && name.lane >= 0
        };
        let is_left = planned.name.lane < 0
            && queue.streams().any(|(stream, name)| goes_first(name) && !queue.backlog(stream).is_empty());
        if is_left { Err("messages for partitions of this topic are to go first".to_owned()) } else { Ok(()) }
    }

    async fn unpark(&self, stream: StreamId) -> Result<(), String> {
        let notes: Vec<Note> = {
            let mut settling = self.settling.borrow_mut();
            let parked: Vec<u64> = settling.queue().parked(stream, 0).map(|(number, _)| number).collect();
            parked.into_iter().filter_map(|number| settling.queue_mut().unpark(stream, number)).collect()
        };
        self.note(notes).await
    }

    async fn deliver_run(
        &self,
        planned: &Planned,
        topic_id: Option<[u8; 16]>,
        taken: Vec<Taken>,
        end: &mut End,
    ) -> Result<(), String> {
        let (mut run, mut numbers) = (Vec::new(), Vec::new());
        let (mut parked, mut left): (Vec<(u64, Reason)>, Option<String>) = (Vec::new(), None);
        for (number, body) in taken {
            match self.checked(body, topic_id) {
                Ok(mut record) => {
                    let id = self.settling.borrow().issuer().issue(&planned.name.account, planned.stream, number);
                    record.headers.push((Bytes::from_static(MSG_ID_HEADER), Some(id.into())));
                    run.push(record);
                    numbers.push(number);
                }
                Err(Verdict::Park(reason)) => parked.push((number, reason)),
                Err(Verdict::Leave(why)) => {
                    left = Some(why);
                    break;
                }
            }
        }
        let outcomes = match run.is_empty() {
            true => Vec::new(),
            false => self.kafka.produce(planned.topic(), run).await,
        };
        let mut stored = Vec::new();
        for (number, outcome) in numbers.into_iter().zip(outcomes) {
            match outcome.map_err(verdict) {
                Ok(at) => stored.push((number, at)),
                Err(Verdict::Park(reason)) => parked.push((number, reason)),
                // The first is the one that all behind it wait for.
                Err(Verdict::Leave(why)) => drop(left.get_or_insert(why)),
            }
        }
        let notes: Vec<Note> = {
            let (mut settling, now_ms) = (self.settling.borrow_mut(), now_ms());
            let queue = settling.queue_mut();
            let settled = delivered(&stored).into_iter();
            let settled =
                settled.filter_map(|(first, count, fate)| queue.settle(planned.stream, first, count, fate, now_ms));
            let mut notes: Vec<Note> = settled.collect();
            for (number, reason) in &parked {
                notes.extend(queue.park(planned.stream, *number, reason.clone(), now_ms));
            }
            notes
        };
        if let Some((_, reason)) = parked.last() {
            end.parked += parked.len() as u64;
            end.why = Some(format!("parked: {}", reason.sentence));
        }
        end.delivered += stored.len() as u64;
        self.note(notes).await?;
        self.delivered.set(self.delivered.get() + stored.len() as u64);
        left.map_or(Ok(()), Err)
    }

    async fn note(&self, notes: Vec<Note>) -> Result<(), String> {
        if let Err(refused) = note(&self.settling, notes).await {
            let why = format!(
                "what was delivered could not be noted in the journal, and would be delivered again: {refused}"
            );
            self.stop();
            self.failed.borrow_mut().get_or_insert_with(|| why.clone());
            return Err(why);
        }
        Ok(())
    }

    /// An entry as a record, if it can go to the topic that has this id now.
    fn checked(&self, body: Result<Bytes, String>, topic_id: Option<[u8; 16]>) -> Result<ExactRecord, Verdict> {
        let unreadable = |why: &str| Verdict::Park(reason("unreadable", why));
        let body = body.map_err(|why| unreadable(&why))?;
        let read = entry::read(&body).ok_or_else(|| unreadable("its bytes in the journal make no sense"))?;
        let is_other = topic_id.is_some_and(|id| read.target.topic_id != [0; 16] && read.target.topic_id != id);
        if is_other && !self.recreated {
            let said = "the topic was deleted and made again since this message was accepted, or this is another cluster \
                        (--recreated delivers all the same)";
            return Err(Verdict::Leave(said.to_owned()));
        }
        Ok(ExactRecord {
            partition: read.target.partition,
            timestamp_ms: read.timestamp_ms,
            key: read.key.map(|key| body.slice_ref(key)),
            value: read.value.map(|value| body.slice_ref(value)),
            headers: read
                .headers
                .iter()
                .map(|header| (body.slice_ref(header.name), header.value.map(|value| body.slice_ref(value))))
                .collect(),
        })
    }
}

/// What an error says of a message; the gateway says the same of those that it parks.
fn verdict(error: ProduceError) -> Verdict {
    match error {
        ProduceError::RecordTooLarge { .. } => Verdict::Park(reason("record_too_large", &error.to_string())),
        ProduceError::Rejected { .. } => Verdict::Park(reason("rejected_by_kafka", &error.to_string())),
        ProduceError::Unknown { .. } => Verdict::Leave(format!("{error}; it may be in Kafka, and come again")),
        error => Verdict::Leave(error.to_string()),
    }
}

fn reason(code: &str, sentence: &str) -> Reason {
    Reason { code: code.into(), sentence: sentence.into() }
}

/// Messages that follow each other in the stream and in Kafka come to one end.
fn delivered(stored: &[(u64, Stored)]) -> Vec<(u64, u32, Fate)> {
    let mut ends: Vec<(u64, u32, Fate)> = Vec::new();
    for (number, at) in stored {
        if let Some((first, count, Fate::Delivered { partition, offset })) = ends.last_mut() {
            let is_next = *first + u64::from(*count) == *number && *partition == at.partition;
            let is_there = if *offset < 0 { at.offset < 0 } else { at.offset == *offset + i64::from(*count) };
            if is_next && is_there {
                *count += 1;
                continue;
            }
        }
        ends.push((*number, 1, Fate::Delivered { partition: at.partition, offset: at.offset }));
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_follow_each_other_here_and_in_kafka_come_to_one_end() {
        let at = |(number, partition, offset): (u64, i32, i64)| (number, Stored { partition, offset, timestamp_ms: 0 });
        let to = |partition, offset| Fate::Delivered { partition, offset };
        type Row<'r> = (&'r [(u64, i32, i64)], &'r [(u64, u32, Fate)]);
        let rows: [Row<'_>; 5] = [
            (&[], &[]),
            (&[(5, 2, 100), (6, 2, 101), (7, 2, 102)], &[(5, 3, to(2, 100))]),
            (&[(5, 2, 100), (7, 2, 101), (8, 2, 103)], &[(5, 1, to(2, 100)), (7, 1, to(2, 101)), (8, 1, to(2, 103))]),
            (&[(5, 0, 9), (6, 1, 10), (7, 1, 11)], &[(5, 1, to(0, 9)), (6, 2, to(1, 10))]),
            (&[(5, 2, -1), (6, 2, -1), (7, 2, 0)], &[(5, 2, to(2, -1)), (7, 1, to(2, 0))]),
        ];
        for (given, expected) in rows {
            let given: Vec<(u64, Stored)> = given.iter().copied().map(at).collect();
            assert_eq!(delivered(&given), expected, "{given:?}");
        }
    }
}
