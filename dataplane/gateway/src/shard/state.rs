//! What a shard is made of.

use crate::endpoints::Services;
use crate::serve::conns::Conns;
use crate::shard::accept::Adopted;
use runtime::mailbox::Sender;
use runtime::notify::Notify;
use std::rc::Rc;

/// One per core.
pub struct Shard {
    pub services: Rc<Services>,
    pub conns: Rc<Conns>,
    /// By shard: where a fresh connection is handed over.
    pub adopt: Vec<Sender<Adopted>>,
    /// Rung when the shard is to end.
    pub stopped: Notify,
}
