//! A client connection as those see it who answer on it: who is there, where answers go, whether it is gone.
//!
//! The task that reads and writes it is the protocol's ([`crate::serve`]); here is what the two share.

use crate::exchange::slots::{Answered, Slots};
use model::Side;
use runtime::net::Closer;
use runtime::notify::Notify;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell, RefMut};
use std::net::SocketAddr;
use std::time::Instant;

/// What waits on behalf of a request, and is told when its client is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// A poll, by its id: a client that went away must not be handed messages.
    Poll(u64),
}

/// One per connection, on one shard for life.
pub struct Conn {
    /// Index in the table of connections.
    pub key: Cell<usize>,
    pub side: Side,
    pub peer: SocketAddr,
    /// Whose credentials it uses, by [`model::App::index`]; counted on the board.
    pub app: Cell<Option<u32>>,
    slots: RefCell<Slots>,
    /// Rung when there is something to write, or to look at.
    pub ready: Notify,
    /// The sweeper ends the connection after this.
    pub deadline: Cell<Option<Instant>>,
    pub expired: Cell<bool>,
    pub writing: Cell<bool>,
    /// `None`: there is no socket, as in tests of endpoints.
    closer: Option<Closer>,
    watched: RefCell<SmallVec<[(u64, Watched); 1]>>,
}

impl Conn {
    pub fn new(side: Side, peer: SocketAddr, closer: Option<Closer>) -> Conn {
        Conn {
            key: Cell::new(0),
            side,
            peer,
            app: Cell::new(None),
            slots: RefCell::default(),
            ready: Notify::new(),
            deadline: Cell::new(None),
            expired: Cell::new(false),
            writing: Cell::new(false),
            closer,
            watched: RefCell::default(),
        }
    }

    /// The answers this connection owes, for the task that writes them.
    pub fn slots(&self) -> RefMut<'_, Slots> {
        self.slots.borrow_mut()
    }

    /// Fills a slot and wakes the task when there is something to write. False: the slot did not wait any more.
    pub fn fill(&self, sequence: u64, answered: Answered) -> bool {
        self.watched.borrow_mut().retain(|(of, _)| *of != sequence);
        let mut slots = self.slots.borrow_mut();
        let waited = slots.fill(sequence, answered);
        if waited && slots.is_front(sequence) {
            self.ready.notify();
        }
        waited
    }

    /// Has the task look again: bytes that were held back may go on, or a growing answer has grown.
    pub fn wake(&self) {
        self.ready.notify();
    }

    pub fn watch(&self, sequence: u64, what: Watched) {
        self.watched.borrow_mut().push((sequence, what));
    }

    pub fn is_watched(&self) -> bool {
        !self.watched.borrow().is_empty()
    }

    /// The client is gone, or sends no more: who is to be told.
    pub fn take_watched(&self) -> impl Iterator<Item = Watched> + use<> {
        std::mem::take(&mut *self.watched.borrow_mut()).into_iter().map(|(_, what)| what)
    }

    pub fn is_full(&self) -> bool {
        self.slots.borrow().is_full()
    }

    pub fn has_open_slots(&self) -> bool {
        !self.slots.borrow().is_empty()
    }

    /// Called by the sweeper.
    pub fn sweep(&self, now: Instant) {
        if self.deadline.get().is_some_and(|deadline| deadline <= now) {
            self.expire();
        }
    }

    /// Ends the connection as soon as its task looks: with 408 in the middle of a request, silently when idle.
    pub fn expire(&self) {
        self.expired.set(true);
        match &self.closer {
            Some(closer) if self.writing.get() => closer.shutdown(),
            _ => self.ready.notify(),
        }
    }

    /// Ends it if it is idle; a request in flight is answered first (drain).
    pub fn close_when_idle(&self) {
        self.ready.notify();
    }
}
