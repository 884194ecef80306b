//! Requests of one connection whose answers have not come, oldest first: a broker answers in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use model::Side;

use crate::apis::Api;
use crate::limits::{IN_FLIGHT_KEPT_BYTES_MAX, IN_FLIGHT_MAX};
use kafka_wire::ErrorCode;

/// A request that was passed on, or answered here while others are still out.
#[derive(Debug)]
pub struct Outstanding {
    pub api: &'static Api,
    pub version: i16,
    pub correlation_id: i32,
    pub at: Instant,
    /// What a tenant's answer has to be made of; None for everybody else's.
    pub asked: Option<Box<Asked>>,
}

/// What is kept of a tenant's request until its answer.
#[derive(Debug, Default)]
pub struct Asked {
    /// The answer, made here.
    pub answer: Option<Bytes>,
    /// Topics that were cut out.
    pub refused: Vec<Refused>,
    /// The group's members are consumers, who name topics to each other.
    pub is_consumer: bool,
    /// Whose limits of its app are drawn from, of a Produce or a Fetch.
    pub side: Option<Side>,
    /// Topics of a Produce that have limits of their own.
    pub limited: Vec<Arc<str>>,
}

/// What a client called a topic that it may not touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Called {
    Name(Box<[u8]>),
    Id([u8; 16]),
}

/// A group that topics are asked of, in Kafka's name, and which of those with that name: a request may name one twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InGroup {
    pub name: Box<str>,
    pub nth: u32,
}

/// A topic that was cut out of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The group it was asked of, where a request is about several.
    pub group: Option<InGroup>,
    pub called: Called,
    pub partitions: Vec<i32>,
    pub error: ErrorCode,
}

/// One per connection.
#[derive(Debug, Default)]
pub struct InFlight {
    queue: VecDeque<Outstanding>,
    /// Of all that was asked.
    kept_bytes: usize,
}

impl Asked {
    /// Memory it takes, about.
    fn kept_bytes(&self) -> usize {
        let of_refused = |refused: &Refused| {
            let name = match &refused.called {
                Called::Name(name) => name.len(),
                Called::Id(_) => 0,
            };
            size_of::<Refused>() + name + size_of_val(&*refused.partitions)
        };
        self.answer.as_ref().map_or(0, Bytes::len) + self.refused.iter().map(of_refused).sum::<usize>()
    }
}

impl InFlight {
    pub fn push(&mut self, one: Outstanding) {
        self.kept_bytes += kept_bytes(&one);
        self.queue.push_back(one);
    }

    pub fn front(&self) -> Option<&Outstanding> {
        self.queue.front()
    }

    /// The answer to the oldest request, if it was made here.
    pub fn take_answer(&mut self) -> Option<Bytes> {
        let answer = self.queue.front_mut()?.asked.as_mut()?.answer.take();
        self.kept_bytes -= answer.as_ref().map_or(0, Bytes::len);
        answer
    }

    /// Whether the oldest request was answered here.
    pub fn has_answer(&self) -> bool {
        self.queue.front().and_then(|one| one.asked.as_ref()).is_some_and(|asked| asked.answer.is_some())
    }

    pub fn pop(&mut self) -> Option<Outstanding> {
        let one = self.queue.pop_front();
        self.kept_bytes -= one.as_ref().map_or(0, kept_bytes);
        // What a burst needed is not kept for the hours after it.
        if self.queue.is_empty() && self.queue.capacity() > KEPT {
            self.queue = VecDeque::new();
        }
        one
    }

    pub fn count(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.queue.len() >= IN_FLIGHT_MAX || self.kept_bytes >= IN_FLIGHT_KEPT_BYTES_MAX
    }
}

fn kept_bytes(one: &Outstanding) -> usize {
    one.asked.as_ref().map_or(0, |asked| asked.kept_bytes())
}

/// Room that an idle connection may keep.
const KEPT: usize = 16;
