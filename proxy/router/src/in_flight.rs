//! Requests of one connection whose answers have not come, oldest first: a broker answers in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use model::Side;

use crate::apis::Api;
use crate::limits::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX};
use crate::tenant::rename::Refused;

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

impl Asked {
    /// What it costs to keep, about.
    fn bytes(&self) -> usize {
        let refused: usize = self.refused.iter().map(Refused::bytes).sum();
        self.answer.as_ref().map_or(0, Bytes::len) + refused
    }
}

/// One per connection.
#[derive(Debug, Default)]
pub struct InFlight {
    queue: VecDeque<Outstanding>,
    /// Of what is kept of them beside the queue.
    bytes: usize,
}

impl InFlight {
    pub fn push(&mut self, one: Outstanding) {
        self.bytes += bytes(&one);
        self.queue.push_back(one);
    }

    pub fn front(&self) -> Option<&Outstanding> {
        self.queue.front()
    }

    /// The answer to the oldest request, if it was made here.
    pub fn take_answer(&mut self) -> Option<Bytes> {
        let answer = self.queue.front_mut()?.asked.as_mut()?.answer.take()?;
        self.bytes -= answer.len();
        Some(answer)
    }

    /// Whether the oldest request was answered here.
    pub fn has_answer(&self) -> bool {
        self.queue.front().and_then(|one| one.asked.as_ref()).is_some_and(|asked| asked.answer.is_some())
    }

    pub fn pop(&mut self) -> Option<Outstanding> {
        let one = self.queue.pop_front();
        self.bytes -= one.as_ref().map_or(0, bytes);
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
        self.queue.len() >= IN_FLIGHT_MAX || self.bytes >= IN_FLIGHT_BYTES_MAX
    }
}

fn bytes(one: &Outstanding) -> usize {
    one.asked.as_ref().map_or(0, |asked| asked.bytes())
}

/// Room that an idle connection may keep.
const KEPT: usize = 16;
