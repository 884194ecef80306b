//! What the two halves of a subscription say to each other: the shard a poll came in on (origin) and the shard its group
//! lives on (owner). Values only, so that another gateway could send them.
//!
//! Nothing that matters is lost: a letter a full mailbox does not take is kept by its sender, in order, and sent again.
//! A poll is the exception, for it can be refused: nothing was stored and its client may ask again.

use crate::exchange::reply::Delivery;
use crate::limits::MAIL_RETRY_PAUSE;
use crate::refusal::Refusal;
use crate::subscribe::framing::{Form, Framed};
use crate::tags::TagFilter;
use kafka_client::group::Reset;
use runtime::mailbox::Sender;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A poll on its way to the shard that owns its group.
#[derive(Debug, Clone)]
pub struct PollRequest {
    /// Unique in this process: the origin shard and a counter.
    pub poll: u64,
    pub origin: usize,
    pub cluster: usize,
    /// The app that polls, for the memory budget.
    pub tenant: u32,
    /// `appid.group`.
    pub group: String,
    /// Physical topic.
    pub topic: Arc<str>,
    pub batch: u32,
    pub max_bytes: usize,
    pub wait: Duration,
    pub deadline: Instant,
    pub reset: Option<Reset>,
    pub filter: Option<TagFilter>,
    pub form: Form,
    pub strip_2017_tags: bool,
}

/// Its answer on the way back.
#[derive(Debug)]
pub struct PollAnswer {
    pub poll: u64,
    pub outcome: PollOutcome,
}

#[derive(Debug)]
pub enum PollOutcome {
    Records(Framed, Delivery),
    Empty { reset_ignored: bool },
    Refused(Refusal),
}

/// Whether an answer with messages reached the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Their positions advance.
    Whole,
    /// They go back.
    Not,
}

/// A letter.
#[derive(Debug)]
pub enum Mail {
    /// To the owner: a poll.
    Poll(Box<PollRequest>),
    /// To the origin: its answer.
    Answer(Box<PollAnswer>),
    /// To the owner: the poll's client went away.
    Cancel { poll: u64 },
    /// To the owner: what became of an answer with messages.
    Settle { delivery: Delivery, written: Written },
}

/// A shard's way to send letters to the others. One per shard.
pub struct Post {
    lanes: Vec<Sender<Mail>>,
    /// By receiver: what its mailbox did not take yet.
    kept: Rc<RefCell<Vec<VecDeque<Mail>>>>,
    retries: Rc<Cell<bool>>,
}

impl Post {
    pub fn new(lanes: Vec<Sender<Mail>>) -> Post {
        let kept = lanes.iter().map(|_| VecDeque::new()).collect();
        Post { lanes, kept: Rc::new(RefCell::new(kept)), retries: Rc::default() }
    }

    pub fn shard_count(&self) -> usize {
        self.lanes.len()
    }

    /// Sends a letter that may be refused; it comes back when it would have to wait.
    pub fn offer(&self, to: usize, mail: Mail) -> Result<(), Mail> {
        if !self.kept.borrow()[to].is_empty() {
            return Err(mail); // behind those that wait
        }
        self.lanes[to].try_send(mail).map_err(|refused| refused.into_inner())
    }

    /// Sends a letter, now or as soon as there is room. False: it has to wait.
    pub fn send(&self, to: usize, mail: Mail) -> bool {
        let Err(mail) = self.offer(to, mail) else { return true };
        if self.lanes[to].is_closed() {
            return true; // that shard has ended, and with it everything the letter is about
        }
        self.kept.borrow_mut()[to].push_back(mail);
        if !self.retries.replace(true) {
            let (lanes, kept, retries) = (self.lanes.clone(), Rc::clone(&self.kept), Rc::clone(&self.retries));
            drop(runtime::spawn(async move {
                while !deliver(&lanes, &mut kept.borrow_mut()) {
                    runtime::time::sleep(MAIL_RETRY_PAUSE).await;
                }
                retries.set(false);
            }));
        }
        false
    }

    /// Letters that wait for room.
    pub fn kept_count(&self) -> usize {
        self.kept.borrow().iter().map(VecDeque::len).sum()
    }
}

/// Sends what was kept, in order; true when nothing is left.
fn deliver(lanes: &[Sender<Mail>], kept: &mut [VecDeque<Mail>]) -> bool {
    for (lane, kept) in lanes.iter().zip(&mut *kept) {
        while let Some(mail) = kept.pop_front() {
            if let Err(refused) = lane.try_send(mail) {
                if lane.is_closed() {
                    kept.clear();
                } else {
                    kept.push_front(refused.into_inner());
                }
                break;
            }
        }
    }
    kept.iter().all(VecDeque::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::mailbox::mailbox;

    fn polls(inbox: &mut runtime::mailbox::Receiver<Mail>) -> Vec<u64> {
        std::iter::from_fn(|| inbox.try_recv())
            .map(|mail| match mail {
                Mail::Cancel { poll } => poll,
                other => panic!("only cancels are sent: {other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_a_full_mailbox_does_not_take_is_kept_and_arrives_in_order() {
        let (sender, mut inbox) = mailbox(2);
        let lanes = [sender];
        let mut kept = vec![VecDeque::new()];
        (0..5).for_each(|poll| kept[0].push_back(Mail::Cancel { poll }));
        assert!(!deliver(&lanes, &mut kept));
        assert_eq!(polls(&mut inbox), [0, 1]);
        assert!(!deliver(&lanes, &mut kept));
        assert_eq!(polls(&mut inbox), [2, 3]);
        assert!(deliver(&lanes, &mut kept));
        assert_eq!(polls(&mut inbox), [4]);
    }

    #[test]
    fn letters_to_a_shard_that_has_ended_are_let_go() {
        let (sender, inbox) = mailbox(1);
        drop(inbox);
        let mut kept = vec![VecDeque::from([Mail::Cancel { poll: 1 }, Mail::Cancel { poll: 2 }])];
        assert!(deliver(&[sender], &mut kept));
    }
}
