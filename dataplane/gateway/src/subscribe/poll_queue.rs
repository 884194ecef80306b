//! The waiting polls of one group and topic, first come first served, and the records between them and the network.
//!
//! ```text
//!   group member ──take──→ [filter] ──→ a poll's answer ──handed over──→ delivered watermark ──→ commit
//!                              │                 └─returned─→ front of its partition's queue, for the next poll
//!                              └─ does not match: counts as delivered
//! ```
//! At most once: an answer that reached the network is delivered, whatever becomes of its client; one whose client was
//! gone before is not, and its records go to the next poll, before newer ones of their partition.
//!
//! Per partition the *watermark* is the offset below which everything was delivered or filtered out: the lowest offset
//! that is handed out or came back, else the one after the last record taken. Answers may be handed over in any order,
//! the watermark waits for the slowest.
//!
//! Invariants:
//! - A record is in exactly one place: the member's queue, an answer, or the returned queue.
//! - After [`PollQueue::forget`], answers still out count for nothing in that partition: it may be somebody else's by now.
//! - All polls that wait or are being answered have the same filter.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use kafka_client::group::{FetchedRecord, Reset, record_bytes};

use super::limits::{HANDED_OUT_BYTES_MAX, PINNED_RATIO_MAX, POLLS_WAITING_MAX, SCAN_RECORDS_MAX};
use super::memory::answer_room;
use crate::codes;
use crate::refusal::Refusal;
use crate::tags::TagFilter;

/// A client that waits for records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// Chosen by the caller, unique among the polls of this queue.
    pub id: u64,
    /// Most records of the answer, at least 1.
    pub batch: u32,
    /// Most bytes of keys, values and headers; one record comes whatever its size.
    pub max_bytes: usize,
    pub deadline: Instant,
    pub filter: Option<TagFilter>,
    /// Where the group should begin, if the client said.
    pub reset: Option<Reset>,
}

/// What a poll gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollResult {
    /// At least one. The caller tells [`PollQueue::handed_over`] or [`PollQueue::returned`] later.
    Records(Arc<Vec<FetchedRecord>>),
    /// None came in time.
    Empty,
    Error(Refusal),
}

/// One partition's records on their way.
#[derive(Debug)]
struct Ledger {
    /// Tells this ownership of the partition from earlier ones.
    epoch: u64,
    /// (first offset, poll) of every answer that is out.
    out: BTreeSet<(i64, u64)>,
    /// Came back, in offset order.
    returned: VecDeque<FetchedRecord>,
    /// One past the last record taken from the member.
    taken_offset: i64,
    /// Last watermark told.
    watermark: i64,
}

impl Ledger {
    fn watermark(&self) -> i64 {
        let out = self.out.first().map(|(first, _)| *first);
        let returned = self.returned.front().map(|fetched| fetched.record.offset);
        [out, returned].into_iter().flatten().min().unwrap_or(self.taken_offset)
    }
}

/// An answer that is out.
#[derive(Debug)]
struct HandedOut {
    records: Arc<Vec<FetchedRecord>>,
    bytes: usize,
    /// First offset and ledger epoch per partition.
    firsts: Vec<(i32, i64, u64)>,
}

/// See the module.
#[derive(Debug)]
pub struct PollQueue {
    strip_2017_tags: bool,
    waiting: VecDeque<Poll>,
    answers: VecDeque<(u64, PollResult)>,
    handed_out: HashMap<u64, HandedOut>,
    handed_out_bytes: usize,
    /// Of records that came back.
    returned_bytes: usize,
    filter: Option<TagFilter>,
    ledgers: BTreeMap<i32, Ledger>,
    epoch: u64,
    touched: BTreeSet<i32>,
}

impl PollQueue {
    pub fn new(strip_2017_tags: bool) -> PollQueue {
        PollQueue {
            strip_2017_tags,
            waiting: VecDeque::new(),
            answers: VecDeque::new(),
            handed_out: HashMap::new(),
            handed_out_bytes: 0,
            returned_bytes: 0,
            filter: None,
            ledgers: BTreeMap::new(),
            epoch: 0,
            touched: BTreeSet::new(),
        }
    }

    /// Puts a poll at the end of the line. A refused one has its answer at once.
    pub fn enqueue(&mut self, poll: Poll) {
        if self.is_live() && poll.filter != self.filter {
            let message = "the group is being read with another X-Tag filter; use that one or another group";
            return self.answer(poll.id, PollResult::Error(Refusal::new(codes::OTHER_FILTER, message)));
        }
        if self.waiting.len() >= POLLS_WAITING_MAX {
            let message = format!("{POLLS_WAITING_MAX} polls of this group wait already, try again after Retry-After");
            return self.answer(poll.id, PollResult::Error(Refusal::new(codes::TOO_MANY_POLLS, message)));
        }
        self.filter.clone_from(&poll.filter);
        self.waiting.push_back(poll);
    }

    /// Whether a poll waits or an answer is out.
    pub fn is_live(&self) -> bool {
        !self.waiting.is_empty() || !self.handed_out.is_empty()
    }

    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Memory that records keep which were handed out or came back.
    pub fn held_bytes(&self) -> usize {
        self.handed_out_bytes + self.returned_bytes
    }

    /// Serves waiting polls with returned records first, then with new ones, until there are none. True when it stopped
    /// only because it has looked at enough records for now. Answers take up to `room` bytes of memory together; when
    /// nothing is on its way to a client, one gets a little whatever the room.
    ///
    /// `take(records_max, bytes_max, out)` appends records until `out` holds so many or has grown by so many bytes; only
    /// an empty `out` gets a record larger than that.
    pub fn serve(&mut self, room: usize, take: &mut impl FnMut(usize, usize, &mut Vec<FetchedRecord>)) -> bool {
        let mut scan_left = SCAN_RECORDS_MAX;
        let room_until = self.handed_out_bytes.saturating_add(room);
        while let Some(poll) = self.waiting.front() {
            let room_left = room_until.saturating_sub(self.handed_out_bytes);
            if self.handed_out_bytes >= HANDED_OUT_BYTES_MAX || (room_left == 0 && self.handed_out_bytes > 0) {
                return false;
            }
            let (id, batch) = (poll.id, poll.batch.max(1) as usize);
            let max_bytes = poll.max_bytes.min(answer_room(room_left));
            let mut records = self.take_returned(batch, max_bytes);
            if records.is_empty() {
                self.take_new(batch, max_bytes, take, &mut scan_left, &mut records);
            }
            if records.is_empty() {
                return scan_left == 0;
            }
            self.waiting.pop_front();
            self.hand_out(id, records);
        }
        false
    }

    /// Answers polls whose time is over: with `refusal` when there is one, as empty otherwise.
    pub fn expire(&mut self, now: Instant, refusal: Option<&Refusal>) {
        let mut over = Vec::new();
        self.waiting.retain(|poll| {
            let waits = poll.deadline > now;
            if !waits {
                over.push(poll.id);
            }
            waits
        });
        for id in over {
            self.answer(id, refusal.map_or(PollResult::Empty, |refusal| PollResult::Error(refusal.clone())));
        }
    }

    /// Answers every waiting poll.
    pub fn answer_all(&mut self, answer: &PollResult) {
        while let Some(poll) = self.waiting.pop_front() {
            self.answer(poll.id, answer.clone());
        }
    }

    /// The next poll with an answer.
    pub fn poll_answer(&mut self) -> Option<(u64, PollResult)> {
        self.answers.pop_front()
    }

    /// The answer of poll `id` reached the network.
    pub fn handed_over(&mut self, id: u64) {
        let Some(handed_out) = self.settle(id) else { return };
        for (partition, first_offset, epoch) in &handed_out.firsts {
            if let Some(ledger) = current(&mut self.ledgers, *partition, *epoch) {
                ledger.out.remove(&(*first_offset, id));
                self.touched.insert(*partition);
            }
        }
    }

    /// The client of poll `id` was gone before its answer reached the network.
    pub fn returned(&mut self, id: u64) {
        let Some(handed_out) = self.settle(id) else { return };
        for (partition, first_offset, epoch) in &handed_out.firsts {
            let Some(ledger) = current(&mut self.ledgers, *partition, *epoch) else { continue };
            ledger.out.remove(&(*first_offset, id));
            let back = handed_out.records.iter().filter(|fetched| fetched.partition == *partition).cloned();
            self.returned_bytes += back.clone().map(|fetched| record_bytes(&fetched.record)).sum::<usize>();
            ledger.returned.extend(back);
            ledger.returned.make_contiguous().sort_unstable_by_key(|fetched| fetched.record.offset);
        }
    }

    /// The client of poll `id` is gone, wherever the poll stands.
    pub fn cancel(&mut self, id: u64) {
        self.waiting.retain(|poll| poll.id != id);
        self.answers.retain(|(answered, _)| *answered != id);
        self.returned(id);
    }

    /// The partition is no longer ours, or ours anew.
    pub fn forget(&mut self, partition: i32) {
        if let Some(ledger) = self.ledgers.remove(&partition) {
            let bytes: usize = ledger.returned.iter().map(|fetched| record_bytes(&fetched.record)).sum();
            self.returned_bytes -= bytes;
        }
        self.touched.remove(&partition);
    }

    /// Watermarks that moved since the last call.
    pub fn take_delivered(&mut self) -> Vec<(i32, i64)> {
        let mut moved = Vec::new();
        for partition in std::mem::take(&mut self.touched) {
            let Some(ledger) = self.ledgers.get_mut(&partition) else { continue };
            let watermark = ledger.watermark();
            if watermark != ledger.watermark {
                ledger.watermark = watermark;
                moved.push((partition, watermark));
            }
        }
        moved
    }

    /// The earliest deadline of a waiting poll.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|poll| poll.deadline).min()
    }

    /// Answers a poll that never came to wait.
    pub fn refuse(&mut self, id: u64, refusal: Refusal) {
        self.answer(id, PollResult::Error(refusal));
    }

    fn answer(&mut self, id: u64, answer: PollResult) {
        self.answers.push_back((id, answer));
    }

    fn settle(&mut self, id: u64) -> Option<HandedOut> {
        let handed_out = self.handed_out.remove(&id)?;
        self.handed_out_bytes -= handed_out.bytes;
        Some(handed_out)
    }

    /// Records that came back and match the filter of now.
    fn take_returned(&mut self, batch: usize, max_bytes: usize) -> Vec<FetchedRecord> {
        let mut records: Vec<FetchedRecord> = Vec::new();
        let mut bytes_left = max_bytes;
        for (partition, ledger) in &mut self.ledgers {
            while let Some(front) = ledger.returned.front() {
                if !matches(&self.filter, front, self.strip_2017_tags) {
                    self.returned_bytes -= record_bytes(&front.record);
                    ledger.returned.pop_front();
                    self.touched.insert(*partition);
                    continue;
                }
                let bytes = record_bytes(&front.record);
                if records.len() >= batch || (bytes > bytes_left && !records.is_empty()) {
                    return records;
                }
                bytes_left = bytes_left.saturating_sub(bytes);
                self.returned_bytes -= bytes;
                records.extend(ledger.returned.pop_front());
            }
        }
        records
    }

    /// Records from the member that match the filter; the others are passed over.
    fn take_new(
        &mut self,
        batch: usize,
        max_bytes: usize,
        take: &mut impl FnMut(usize, usize, &mut Vec<FetchedRecord>),
        scan_left: &mut usize,
        records: &mut Vec<FetchedRecord>,
    ) {
        let mut bytes_left = max_bytes;
        while records.len() < batch && *scan_left > 0 && (bytes_left > 0 || records.is_empty()) {
            let kept = records.len();
            take(batch.min(kept + *scan_left), bytes_left, records);
            let scanned = records.len() - kept;
            if scanned == 0 {
                return;
            }
            *scan_left -= scanned;
            for fetched in &records[kept..] {
                self.note_taken(fetched);
            }
            let filter = &self.filter;
            if filter.is_some() {
                let strip = self.strip_2017_tags;
                let mut index = 0;
                records.retain(|fetched| {
                    index += 1;
                    index <= kept || matches(filter, fetched, strip)
                });
            }
            let added: usize = records[kept..].iter().map(|fetched| record_bytes(&fetched.record)).sum();
            bytes_left = bytes_left.saturating_sub(added);
        }
    }

    fn note_taken(&mut self, fetched: &FetchedRecord) {
        let ledger = self.ledgers.entry(fetched.partition).or_insert_with(|| {
            self.epoch += 1;
            Ledger {
                epoch: self.epoch,
                out: BTreeSet::new(),
                returned: VecDeque::new(),
                taken_offset: fetched.record.offset,
                watermark: i64::MIN,
            }
        });
        ledger.taken_offset = fetched.record.offset.saturating_add(1);
        self.touched.insert(fetched.partition);
    }

    fn hand_out(&mut self, id: u64, mut records: Vec<FetchedRecord>) {
        unpin(&mut records);
        let mut firsts: Vec<(i32, i64, u64)> = Vec::new();
        for fetched in &records {
            if firsts.iter().all(|(partition, ..)| *partition != fetched.partition) {
                let ledger = self.ledgers.get_mut(&fetched.partition).expect("a record is noted when it is taken");
                ledger.out.insert((fetched.record.offset, id));
                firsts.push((fetched.partition, fetched.record.offset, ledger.epoch));
            }
        }
        let bytes = records.iter().map(|fetched| record_bytes(&fetched.record)).sum();
        let records = Arc::new(records);
        self.handed_out_bytes += bytes;
        self.handed_out.insert(id, HandedOut { records: Arc::clone(&records), bytes, firsts });
        self.answer(id, PollResult::Records(records));
    }
}

/// Records that keep much more in memory than they are get memory of their own.
fn unpin(records: &mut [FetchedRecord]) {
    // Of one batch are those of one partition that keep the same.
    for of_batch in records.chunk_by_mut(|a, b| (a.partition, a.pinned_bytes) == (b.partition, b.pinned_bytes)) {
        let bytes: usize = of_batch.iter().map(|fetched| record_bytes(&fetched.record)).sum();
        if bytes.saturating_mul(PINNED_RATIO_MAX) < of_batch[0].pinned_bytes {
            for fetched in of_batch {
                fetched.record = fetched.record.unpinned();
                fetched.pinned_bytes = 0; // it keeps itself
            }
        }
    }
}

fn current(ledgers: &mut BTreeMap<i32, Ledger>, partition: i32, epoch: u64) -> Option<&mut Ledger> {
    ledgers.get_mut(&partition).filter(|ledger| ledger.epoch == epoch)
}

fn matches(filter: &Option<TagFilter>, fetched: &FetchedRecord, strip_2017_tags: bool) -> bool {
    filter.as_ref().is_none_or(|filter| filter.lets_through(&fetched.record, strip_2017_tags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscribe::framing::tests::{fetched, record};
    use crate::subscribe::limits::ANSWER_BYTES_MIN;
    use std::time::Duration;

    /// A queue, records to come, and the conversation so far.
    struct Scene {
        queue: PollQueue,
        records: VecDeque<FetchedRecord>,
        room: usize,
        now: Instant,
    }

    impl Scene {
        fn new() -> Scene {
            Scene { queue: PollQueue::new(false), records: VecDeque::new(), room: usize::MAX, now: Instant::now() }
        }

        /// "partition@offset" with 10-byte values, "partition@offset#tag" with a tag.
        fn arrive(&mut self, records: &[&str]) {
            for text in records {
                let (place, tag) = text.split_once('#').map_or((*text, None), |(place, tag)| (place, Some(tag)));
                let (partition, offset) = place.split_once('@').unwrap();
                let headers: Vec<(&[u8], Option<&[u8]>)> =
                    tag.iter().map(|tag| (&b"tag"[..], Some(tag.as_bytes()))).collect();
                let record = record(&headers, Some(&[b'x'; 10]));
                self.records.push_back(fetched(partition.parse().unwrap(), offset.parse().unwrap(), record));
            }
        }

        fn poll(&mut self, id: u64, batch: u32) {
            self.poll_with(id, batch, 1 << 20, None);
        }

        fn poll_with(&mut self, id: u64, batch: u32, max_bytes: usize, tags: Option<&str>) {
            let filter = tags.and_then(|tags| TagFilter::parse(tags.as_bytes()).unwrap());
            let deadline = self.now + Duration::from_secs(1);
            self.queue.enqueue(Poll { id, batch, max_bytes, deadline, filter, reset: None });
        }

        /// Serves and lists the answers since the last call: "1: 0@5 0@6".
        fn answers(&mut self) -> Vec<String> {
            let records = &mut self.records;
            self.queue.serve(self.room, &mut |records_max: usize, bytes_max: usize, out: &mut Vec<FetchedRecord>| {
                let mut bytes_left = bytes_max;
                while out.len() < records_max {
                    let Some(front) = records.front() else { return };
                    let bytes = record_bytes(&front.record);
                    if bytes > bytes_left && !out.is_empty() {
                        return;
                    }
                    bytes_left = bytes_left.saturating_sub(bytes);
                    out.extend(records.pop_front());
                }
            });
            std::iter::from_fn(|| self.queue.poll_answer())
                .map(|(id, answer)| match answer {
                    PollResult::Records(records) => {
                        let places = records.iter().map(|r| format!("{}@{}", r.partition, r.record.offset));
                        format!("{id}: {}", places.collect::<Vec<_>>().join(" "))
                    }
                    PollResult::Empty => format!("{id}: empty"),
                    PollResult::Error(refusal) => format!("{id}: {} {}", refusal.status, refusal.code),
                })
                .collect()
        }
    }

    #[test]
    fn polls_are_served_in_the_order_they_came_with_whatever_is_there() {
        let mut scene = Scene::new();
        scene.poll(1, 10);
        scene.poll(2, 1);
        scene.poll(3, 10);
        assert_eq!(scene.answers(), [""; 0]);
        scene.arrive(&["0@5", "0@6", "1@0"]);
        assert_eq!(scene.answers(), ["1: 0@5 0@6 1@0"], "as soon as one is there, all that is there");
        scene.arrive(&["0@7", "0@8"]);
        assert_eq!(scene.answers(), ["2: 0@7", "3: 0@8"]);
    }

    #[test]
    fn an_answer_holds_at_most_max_bytes_but_one_record_whatever_its_size() {
        let mut scene = Scene::new();
        scene.arrive(&["0@0", "0@1", "0@2", "0@3"]);
        scene.poll_with(1, 10, 25, None);
        scene.poll_with(2, 10, 5, None);
        assert_eq!(scene.answers(), ["1: 0@0 0@1", "2: 0@2"]);
    }

    #[test]
    fn polls_without_a_record_in_time_end_empty() {
        let mut scene = Scene::new();
        scene.poll(1, 1);
        assert_eq!(scene.queue.next_deadline(), Some(scene.now + Duration::from_secs(1)));
        scene.queue.expire(scene.now, None);
        assert_eq!(scene.answers(), [""; 0]);
        scene.queue.expire(scene.now + Duration::from_secs(1), None);
        assert_eq!((scene.answers(), scene.queue.is_live()), (vec!["1: empty".to_owned()], false));
    }

    #[test]
    fn the_watermark_waits_for_the_slowest_answer() {
        let mut scene = Scene::new();
        scene.arrive(&["0@5", "0@6", "0@7"]);
        (1..=3).for_each(|id| scene.poll(id, 1));
        scene.answers();
        assert_eq!(scene.queue.take_delivered(), [(0, 5)], "where the partition begins");
        scene.queue.handed_over(2);
        assert_eq!(scene.queue.take_delivered(), []);
        scene.queue.handed_over(1);
        assert_eq!(scene.queue.take_delivered(), [(0, 7)]);
        scene.queue.handed_over(3);
        assert_eq!(scene.queue.take_delivered(), [(0, 8)]);
        scene.queue.handed_over(3);
        assert_eq!(scene.queue.take_delivered(), [], "twice is once");
    }

    #[test]
    fn returned_records_go_to_the_next_poll_before_newer_ones() {
        let mut scene = Scene::new();
        scene.arrive(&["0@0", "0@1", "0@2", "0@3", "0@4"]);
        scene.poll(1, 2);
        scene.poll(2, 2);
        scene.answers();
        scene.queue.returned(2);
        scene.queue.returned(1);
        assert_eq!(scene.queue.take_delivered(), [(0, 0)]);
        scene.poll(3, 3);
        scene.poll(4, 3);
        scene.poll(5, 3);
        assert_eq!(scene.answers(), ["3: 0@0 0@1 0@2", "4: 0@3", "5: 0@4"]);
        (3..=5).for_each(|id| scene.queue.handed_over(id));
        assert_eq!(scene.queue.take_delivered(), [(0, 5)]);
    }

    #[test]
    fn a_cancelled_poll_gives_back_what_it_had_wherever_it_stood() {
        let mut scene = Scene::new();
        scene.poll(1, 1);
        scene.queue.cancel(1);
        scene.arrive(&["0@0"]);
        scene.poll(2, 1);
        assert_eq!(scene.answers(), ["2: 0@0"]);
        scene.queue.cancel(2);
        scene.poll(3, 1);
        assert_eq!(scene.answers(), ["3: 0@0"]);
    }

    #[test]
    fn answers_of_a_partition_that_went_away_count_for_nothing() {
        let mut scene = Scene::new();
        scene.arrive(&["0@0", "1@0"]);
        scene.poll(1, 2);
        scene.poll(2, 2);
        assert_eq!(scene.answers(), ["1: 0@0 1@0"]);
        scene.queue.take_delivered();
        scene.queue.forget(0);
        scene.arrive(&["0@0"]); // ours again, from the committed offset
        assert_eq!(scene.answers(), ["2: 0@0"]);
        scene.queue.handed_over(1);
        assert_eq!(scene.queue.take_delivered(), [(0, 0), (1, 1)], "the old answer delivers nothing of partition 0");
        scene.queue.forget(0);
        scene.queue.returned(2);
        scene.poll(3, 1);
        assert_eq!(scene.answers(), [""; 0], "whoever owns partition 0 delivers it");
    }

    #[test]
    fn records_the_filter_keeps_back_count_as_delivered() {
        let mut scene = Scene::new();
        scene.arrive(&["0@0#b", "0@1#a", "0@2", "0@3#a", "0@4#b"]);
        scene.poll_with(1, 10, 1 << 20, Some("a"));
        assert_eq!(scene.answers(), ["1: 0@1 0@3"]);
        assert_eq!(scene.queue.take_delivered(), [(0, 1)]);
        scene.queue.handed_over(1);
        assert_eq!(scene.queue.take_delivered(), [(0, 5)]);
        scene.arrive(&["0@5#b"]);
        scene.poll_with(2, 10, 1 << 20, Some("a"));
        assert_eq!(scene.answers(), [""; 0]);
        assert_eq!(scene.queue.take_delivered(), [(0, 6)], "also while nothing matches");
    }

    #[test]
    fn another_filter_is_refused_while_the_group_is_live_and_taken_after() {
        let mut scene = Scene::new();
        scene.poll_with(1, 1, 1 << 20, Some("a;b"));
        scene.poll_with(2, 1, 1 << 20, Some("b;a"));
        scene.poll_with(3, 1, 1 << 20, None);
        scene.poll_with(4, 1, 1 << 20, Some("a"));
        assert_eq!(scene.answers(), ["3: 409 other_filter", "4: 409 other_filter"]);
        scene.arrive(&["0@0#a"]);
        scene.queue.cancel(2);
        assert_eq!(scene.answers(), ["1: 0@0"]);
        scene.poll_with(5, 1, 1 << 20, None);
        assert_eq!(scene.answers(), ["5: 409 other_filter"], "live until the answer reached the network");
        scene.queue.handed_over(1);
        scene.poll_with(6, 1, 1 << 20, None);
        scene.arrive(&["0@1"]);
        assert_eq!(scene.answers(), ["6: 0@1"]);
    }

    #[test]
    fn a_returned_record_meets_the_filter_of_the_poll_that_takes_it() {
        let mut scene = Scene::new();
        scene.arrive(&["0@0#a", "0@1#b"]);
        scene.poll_with(1, 2, 1 << 20, None);
        scene.answers();
        scene.queue.returned(1);
        scene.poll_with(2, 2, 1 << 20, Some("b"));
        assert_eq!(scene.answers(), ["2: 0@1"]);
        scene.queue.handed_over(2);
        assert_eq!(scene.queue.take_delivered(), [(0, 2)]);
    }

    #[test]
    fn without_memory_one_answer_at_a_time_gets_a_little_and_is_counted_until_it_is_settled() {
        let mut scene = Scene::new();
        for offset in 0..4 {
            scene.records.push_back(fetched(0, offset, record(&[], Some(&vec![0; ANSWER_BYTES_MIN / 2]))));
        }
        scene.room = 0;
        (1..=3).for_each(|id| scene.poll(id, 10));
        assert_eq!(scene.answers(), ["1: 0@0 0@1"], "a little, and nobody else before it is settled");
        assert_eq!(scene.queue.held_bytes(), ANSWER_BYTES_MIN);
        scene.queue.returned(1);
        assert_eq!(scene.queue.held_bytes(), ANSWER_BYTES_MIN, "they are still here");
        scene.room = ANSWER_BYTES_MIN * 2;
        assert_eq!(scene.answers(), ["2: 0@0 0@1", "3: 0@2 0@3"], "room for two");
        scene.queue.handed_over(2);
        scene.queue.returned(3);
        assert_eq!(scene.queue.held_bytes(), ANSWER_BYTES_MIN);
        scene.queue.forget(0);
        assert_eq!(scene.queue.held_bytes(), 0);
    }

    #[test]
    fn records_that_keep_a_large_batch_are_copied_when_they_are_handed_out() {
        for (pinned_bytes, is_copied) in [(0, false), (19, false), (20, false), (21, true), (1 << 20, true)] {
            let mut scene = Scene::new();
            scene.arrive(&["0@0"]);
            scene.records[0].pinned_bytes = pinned_bytes;
            let before = scene.records[0].record.clone();
            scene.poll(1, 1);
            scene.queue.serve(usize::MAX, &mut |_, _, out| out.extend(scene.records.pop_front()));
            let Some((1, PollResult::Records(records))) = scene.queue.poll_answer() else { panic!("an answer") };
            assert_eq!(records[0].record, before);
            let at = |record: &kafka_wire::record_batch::Record| record.value.as_ref().map(|value| value.as_ptr());
            assert_eq!(at(&records[0].record) != at(&before), is_copied, "it keeps {pinned_bytes} bytes");
        }
    }

    #[test]
    fn polls_wait_while_too_much_is_on_its_way_to_clients() {
        let mut scene = Scene::new();
        scene.records.push_back(fetched(0, 0, record(&[], Some(&vec![0; HANDED_OUT_BYTES_MAX]))));
        scene.arrive(&["0@1"]);
        scene.poll(1, 1);
        scene.poll(2, 1);
        assert_eq!(scene.answers(), ["1: 0@0"]);
        scene.queue.handed_over(1);
        assert_eq!(scene.answers(), ["2: 0@1"]);
    }
}
