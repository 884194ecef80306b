//! Requests of one connection whose answers have not come, oldest first: a broker answers in order.

use std::collections::VecDeque;
use std::time::Instant;

use crate::apis::Api;
use crate::limits::IN_FLIGHT_MAX;

/// A request that was passed on.
#[derive(Debug, Clone, Copy)]
pub struct Outstanding {
    pub api: &'static Api,
    pub version: i16,
    pub correlation_id: i32,
    pub at: Instant,
}

/// One per connection.
#[derive(Debug, Default)]
pub struct InFlight {
    queue: VecDeque<Outstanding>,
}

impl InFlight {
    pub fn push(&mut self, one: Outstanding) {
        self.queue.push_back(one);
    }

    pub fn front(&self) -> Option<&Outstanding> {
        self.queue.front()
    }

    pub fn pop(&mut self) -> Option<Outstanding> {
        let one = self.queue.pop_front();
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
        self.queue.len() >= IN_FLIGHT_MAX
    }
}

/// Room that an idle connection may keep.
const KEPT: usize = 16;
