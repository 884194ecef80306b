//! The answers a connection still owes, in request order.
//!
//! HTTP/1.1 pipelining (RFC 9112 section 9.3.2): responses leave in the order of their requests, whatever order
//! they become ready in. A slot is opened when a request starts, filled when its answer is known, taken when it is
//! written. One per connection, on one shard.
//!
//! Invariants:
//! - `first` is the sequence number of the front slot; slots are contiguous.
//! - After [`Slots::close`] nothing is ready any more: the connection ends there.

use crate::exchange::meta::Meta;
use crate::exchange::reply::{Body, Delivery, Reply};
use crate::limits::PIPELINE_DEPTH_MAX;
use std::collections::VecDeque;

/// An answer and what of its request it is written by.
pub struct Answered {
    pub meta: Meta,
    pub reply: Reply,
    /// Of one that grows: its head was written, and said that the connection is kept.
    pub begun: bool,
    pub keep: bool,
}

impl Answered {
    pub fn new(meta: Meta, reply: Reply) -> Answered {
        Answered { meta, reply, begun: false, keep: false }
    }
}

enum Slot {
    Waiting,
    Ready(Box<Answered>),
}

/// Open answers of one connection.
#[derive(Default)]
pub struct Slots {
    first: u64,
    slots: VecDeque<Slot>,
    closed: bool,
}

impl Slots {
    /// Opens the next slot and returns its sequence number.
    pub fn open(&mut self) -> u64 {
        debug_assert!(self.slots.len() < PIPELINE_DEPTH_MAX, "callers stop reading at the limit");
        self.slots.push_back(Slot::Waiting);
        self.first + self.slots.len() as u64 - 1
    }

    /// Fills a slot; false when it does not wait: it was answered, or the connection is gone.
    pub fn fill(&mut self, sequence: u64, answered: Answered) -> bool {
        let index = sequence.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        match index.and_then(|index| self.slots.get_mut(index)) {
            Some(slot @ Slot::Waiting) => {
                *slot = Slot::Ready(Box::new(answered));
                true
            }
            _ => false,
        }
    }

    /// Whether this is the next answer to be written.
    pub fn is_front(&self, sequence: u64) -> bool {
        sequence == self.first
    }

    /// The answer at the front, if it is known. One that grows stays there until [`Slots::pop`].
    pub fn front(&mut self) -> Option<&mut Answered> {
        match self.slots.front_mut() {
            Some(Slot::Ready(answered)) if !self.closed => Some(answered),
            _ => None,
        }
    }

    /// Takes the answer at the front, if it is known.
    pub fn pop(&mut self) -> Option<Box<Answered>> {
        if self.closed || !matches!(self.slots.front(), Some(Slot::Ready(_))) {
            return None;
        }
        let Some(Slot::Ready(answered)) = self.slots.pop_front() else { unreachable!("just looked") };
        self.first += 1;
        Some(answered)
    }

    /// The last answer of this connection was taken.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Deliveries among answers that will never be written, because the connection is gone.
    pub fn abandon(&mut self) -> Vec<Delivery> {
        self.closed = true;
        self.slots
            .drain(..)
            .filter_map(|slot| match slot {
                Slot::Ready(answered) => answered.reply.delivery,
                Slot::Waiting => None,
            })
            .collect()
    }

    /// True when something of the front can be written.
    pub fn is_front_ready(&self) -> bool {
        !self.closed
            && self.slots.front().is_some_and(|slot| match slot {
                Slot::Waiting => false,
                Slot::Ready(answered) => match &answered.reply.body {
                    Body::Growing(growing) => growing.source.is_ready(),
                    _ => true,
                },
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::SmallVec;

    fn answered(text: &str) -> Answered {
        let meta = Meta { id: SmallVec::new(), keep_alive: true, minor_version: 1, origin: None, head_only: false };
        Answered::new(meta, Reply::json(200, text))
    }

    fn taken(slots: &mut Slots) -> Vec<String> {
        std::iter::from_fn(|| slots.pop())
            .map(|answered| match answered.reply.body {
                Body::Small(_, bytes) => String::from_utf8(bytes).expect("text"),
                _ => unreachable!("only small ones are filled in"),
            })
            .collect()
    }

    #[test]
    fn answers_leave_in_request_order_whatever_order_they_come_in() {
        let mut slots = Slots::default();
        let (a, b, c) = (slots.open(), slots.open(), slots.open());
        assert!(slots.fill(c, answered("c")));
        assert!(!slots.is_front(c) && !slots.is_front_ready());
        assert_eq!(taken(&mut slots), [""; 0]);
        assert!(slots.fill(a, answered("a")));
        assert!(slots.is_front(a) && slots.is_front_ready());
        assert_eq!(taken(&mut slots), ["a"]);
        assert!(slots.fill(b, answered("b")));
        assert_eq!(taken(&mut slots), ["b", "c"]);
        assert!(slots.is_empty());
    }

    #[test]
    fn a_second_answer_for_a_slot_is_ignored() {
        let mut slots = Slots::default();
        let a = slots.open();
        assert!(slots.fill(a, answered("first")));
        assert!(!slots.fill(a, answered("second")));
        assert_eq!(taken(&mut slots), ["first"]);
        assert!(!slots.fill(a, answered("late")));
        assert!(slots.is_empty());
    }

    #[test]
    fn nothing_follows_an_answer_that_closes() {
        let mut slots = Slots::default();
        let (a, b) = (slots.open(), slots.open());
        slots.fill(a, answered("bye"));
        slots.fill(b, answered("never"));
        assert!(slots.pop().is_some());
        slots.close();
        assert!(!slots.is_front_ready());
        assert_eq!(taken(&mut slots), [""; 0]);
    }

    #[test]
    fn deliveries_of_unwritten_answers_are_given_back() {
        let mut slots = Slots::default();
        let (_, b) = (slots.open(), slots.open());
        let delivery = Delivery { shard: 1, subscription: 2, poll: 3 };
        let mut answer = answered("records");
        answer.reply.delivery = Some(delivery);
        slots.fill(b, answer);
        assert_eq!(slots.abandon(), vec![delivery]);
    }
}
