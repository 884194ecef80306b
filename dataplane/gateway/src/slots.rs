//! The answers a connection still owes, in request order.
//!
//! HTTP/1.1 pipelining (RFC 9112 section 9.3.2): responses leave in the order of their requests, whatever order
//! they become ready in. A slot is opened when a request starts, filled when its answer is known, taken when it is
//! written. One per connection, on one shard.
//!
//! Invariants:
//! - `first` is the sequence number of the front slot; slots are contiguous.
//! - After a slot with `close`, nothing is taken any more: the connection ends there.

use crate::limits::PIPELINE_DEPTH_MAX;
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::rc::Rc;

/// What to do when an answer reached the network, or could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Shard that owns the subscription.
    pub shard: usize,
    /// Cluster of the subscription on that shard.
    pub cluster: usize,
    /// The subscription's key on that shard.
    pub subscription: usize,
    /// The poll whose records were handed out.
    pub poll: u64,
}

/// A finished answer.
#[derive(Debug, Default)]
pub struct Answer {
    pub bytes: Bytes,
    /// A large body, written after `bytes` without being copied.
    pub body: Option<Bytes>,
    /// The connection ends after this answer.
    pub close: bool,
    pub delivery: Option<Delivery>,
}

/// An answer that grows while it is written: receipts of a batch. It is asked for more only when what it gave is on
/// its way, so a slow reader holds back its source, not memory here.
pub trait Source {
    /// Appends what is ready, about a piece of it.
    fn take(&self, out: &mut BytesMut) -> Grown;

    /// True when [`Source::take`] would append something or end.
    fn is_ready(&self) -> bool;
}

/// How far a growing answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grown {
    /// More will come.
    Open,
    /// That was the last of it; the connection ends after it or not.
    End { close: bool },
}

enum Slot {
    Waiting,
    Growing(Rc<dyn Source>),
    Ready(Answer),
}

/// Open answers of one connection.
#[derive(Default)]
pub struct Slots {
    first: u64,
    slots: VecDeque<Slot>,
    closed: bool,
}

/// What can be written now.
#[derive(Debug, Default)]
pub struct Batch {
    pub chunks: SmallVec<[Bytes; 1]>,
    /// Of the last answer: one that hands out records ends its batch, so that it is known whether it was written whole.
    pub delivery: Option<Delivery>,
    pub close: bool,
    /// Answers in this batch.
    pub count: u32,
}

impl Slots {
    /// Opens the next slot and returns its sequence number.
    pub fn open(&mut self) -> u64 {
        debug_assert!(self.slots.len() < PIPELINE_DEPTH_MAX, "callers stop reading at the limit");
        self.slots.push_back(Slot::Waiting);
        self.first + self.slots.len() as u64 - 1
    }

    /// Fills a slot. True when something can be written now that could not before.
    ///
    /// A sequence number that is no longer open is ignored: the connection had ended the answer itself.
    pub fn fill(&mut self, sequence: u64, answer: Answer) -> bool {
        let Some(index) = sequence.checked_sub(self.first) else { return false };
        let Some(slot) = self.slots.get_mut(index as usize) else { return false };
        if !matches!(slot, Slot::Waiting) {
            return false;
        }
        *slot = Slot::Ready(answer);
        index == 0
    }

    /// As [`Slots::fill`], with an answer that is not whole yet.
    pub fn grow(&mut self, sequence: u64, source: Rc<dyn Source>) -> bool {
        let Some(index) = sequence.checked_sub(self.first) else { return false };
        let Some(slot) = self.slots.get_mut(index as usize) else { return false };
        if !matches!(slot, Slot::Waiting) {
            return false;
        }
        *slot = Slot::Growing(source);
        index == 0
    }

    /// True while the slot waits for its answer.
    pub fn is_waiting(&self, sequence: u64) -> bool {
        sequence
            .checked_sub(self.first)
            .and_then(|index| self.slots.get(index as usize))
            .is_some_and(|slot| matches!(slot, Slot::Waiting))
    }

    /// Takes the answers at the front that are ready, up to the first that hands out records or is not ready, and what there
    /// is of that one.
    pub fn take_ready(&mut self) -> Option<Batch> {
        if self.closed {
            return None;
        }
        let mut batch = Batch::default();
        while let Some(slot) = self.slots.front_mut() {
            let close = match slot {
                Slot::Waiting => break,
                Slot::Ready(answer) => {
                    let answer = std::mem::take(answer);
                    batch.chunks.push(answer.bytes);
                    batch.chunks.extend(answer.body.filter(|body| !body.is_empty()));
                    batch.delivery = answer.delivery;
                    answer.close
                }
                Slot::Growing(source) => {
                    let mut piece = BytesMut::new();
                    let grown = source.take(&mut piece);
                    if !piece.is_empty() {
                        batch.chunks.push(piece.freeze());
                    }
                    match grown {
                        Grown::Open => break,
                        Grown::End { close } => close,
                    }
                }
            };
            self.slots.pop_front();
            self.first += 1;
            batch.count += 1;
            if !close && batch.delivery.is_some() {
                break;
            }
            if close {
                batch.close = true;
                self.closed = true;
                break;
            }
        }
        (batch.count > 0 || !batch.chunks.is_empty()).then_some(batch)
    }

    /// Deliveries among answers that will never be written, because the connection is gone.
    pub fn abandon(&mut self) -> Vec<Delivery> {
        self.closed = true;
        self.slots
            .drain(..)
            .filter_map(|slot| match slot {
                Slot::Ready(answer) => answer.delivery,
                Slot::Waiting | Slot::Growing(_) => None,
            })
            .collect()
    }

    /// True when [`Slots::take_ready`] would give something.
    pub fn is_front_ready(&self) -> bool {
        !self.closed
            && self.slots.front().is_some_and(|slot| match slot {
                Slot::Waiting => false,
                Slot::Growing(source) => source.is_ready(),
                Slot::Ready(_) => true,
            })
    }

    /// Answers still owed.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.slots.len() >= PIPELINE_DEPTH_MAX
    }

    /// True once the last answer was taken that this connection may give.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &'static str) -> Answer {
        Answer { bytes: Bytes::from_static(text.as_bytes()), ..Answer::default() }
    }

    fn taken(slots: &mut Slots) -> Option<String> {
        slots.take_ready().map(|batch| batch.chunks.iter().map(|chunk| String::from_utf8_lossy(chunk)).collect())
    }

    #[test]
    fn answers_leave_in_request_order_whatever_order_they_come_in() {
        let mut slots = Slots::default();
        let (a, b, c) = (slots.open(), slots.open(), slots.open());
        assert!(!slots.fill(c, answer("c")), "nothing to write yet");
        assert_eq!(taken(&mut slots), None);
        assert!(slots.fill(a, answer("a")));
        assert_eq!(taken(&mut slots).as_deref(), Some("a"));
        assert!(slots.fill(b, answer("b")));
        assert_eq!(taken(&mut slots).as_deref(), Some("bc"), "one write for all that is ready");
        assert!(slots.is_empty());
    }

    #[test]
    fn a_second_answer_for_a_slot_is_ignored() {
        let mut slots = Slots::default();
        let a = slots.open();
        assert!(slots.fill(a, answer("first")));
        assert!(!slots.fill(a, answer("second")));
        assert_eq!(taken(&mut slots).as_deref(), Some("first"));
        assert!(!slots.fill(a, answer("late")));
        assert!(slots.is_empty());
    }

    #[test]
    fn nothing_follows_an_answer_that_closes() {
        let mut slots = Slots::default();
        let (a, b) = (slots.open(), slots.open());
        slots.fill(a, Answer { close: true, ..answer("bye") });
        slots.fill(b, answer("never"));
        let batch = slots.take_ready().expect("ready");
        assert!(batch.close);
        assert_eq!(batch.count, 1);
        assert_eq!(taken(&mut slots), None);
        assert!(slots.is_closed());
    }

    /// Gives one word per call, and ends after the last.
    struct Words(std::cell::RefCell<VecDeque<&'static str>>);

    impl Source for Words {
        fn take(&self, out: &mut BytesMut) -> Grown {
            let mut words = self.0.borrow_mut();
            let Some(word) = words.pop_front() else { return Grown::Open };
            out.extend_from_slice(word.as_bytes());
            if word == "end" { Grown::End { close: false } } else { Grown::Open }
        }

        fn is_ready(&self) -> bool {
            !self.0.borrow().is_empty()
        }
    }

    #[test]
    fn an_answer_that_grows_leaves_in_pieces_and_holds_back_those_behind_it() {
        let mut slots = Slots::default();
        let (a, b, c) = (slots.open(), slots.open(), slots.open());
        let words = Rc::new(Words(std::cell::RefCell::new(["x", "y"].into())));
        slots.grow(b, Rc::<Words>::clone(&words));
        slots.fill(c, answer("c"));
        assert_eq!(taken(&mut slots), None, "a comes first");
        assert!(slots.fill(a, answer("a")));
        assert_eq!(taken(&mut slots).as_deref(), Some("ax"));
        assert!(slots.is_front_ready());
        assert_eq!(taken(&mut slots).as_deref(), Some("y"));
        assert!(!slots.is_front_ready());
        assert_eq!(taken(&mut slots), None);
        words.0.borrow_mut().push_back("end");
        assert_eq!(taken(&mut slots).as_deref(), Some("endc"));
        assert!(slots.is_empty());
        assert!(!slots.grow(b, words), "it is over");
    }

    #[test]
    fn answers_with_records_are_written_one_at_a_time_so_that_each_is_settled_by_itself() {
        let mut slots = Slots::default();
        let delivery = |poll| Some(Delivery { shard: 0, cluster: 0, subscription: 0, poll });
        for (text, poll) in [("a", None), ("b", Some(1)), ("c", Some(2)), ("d", None)] {
            let sequence = slots.open();
            slots.fill(sequence, Answer { delivery: poll.and_then(delivery), ..answer(text) });
        }
        let batches: Vec<_> = std::iter::from_fn(|| slots.take_ready())
            .map(|batch| (batch.chunks.concat(), batch.delivery.map(|delivery| delivery.poll)))
            .collect();
        assert_eq!(batches, [(b"ab".to_vec(), Some(1)), (b"c".to_vec(), Some(2)), (b"d".to_vec(), None)]);
    }

    #[test]
    fn deliveries_of_unwritten_answers_are_given_back() {
        let mut slots = Slots::default();
        let (_, b) = (slots.open(), slots.open());
        let delivery = Delivery { shard: 1, cluster: 0, subscription: 2, poll: 3 };
        slots.fill(b, Answer { delivery: Some(delivery), ..answer("records") });
        assert_eq!(slots.abandon(), vec![delivery]);
    }
}
