//! Join and sync requests in the group coordinator's hands.

use std::rc::Rc;

use foldhash::HashMap;

use crate::groups::Ticket;
use crate::waiting::slot::Slot;

/// Whose answer the coordinator means.
#[derive(Default)]
pub struct Tickets {
    slots: HashMap<Ticket, Rc<Slot>>,
    next: Ticket,
}

impl Tickets {
    /// Keeps a slot until the coordinator answers under this ticket.
    pub fn keep(&mut self, slot: &Rc<Slot>) -> Ticket {
        self.next += 1;
        self.slots.insert(self.next, Rc::clone(slot));
        self.next
    }

    /// Gives the slot back.
    pub fn take(&mut self, ticket: Ticket) -> Option<Rc<Slot>> {
        self.slots.remove(&ticket)
    }
}
