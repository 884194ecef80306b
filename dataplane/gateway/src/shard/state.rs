//! What a shard is made of.

use crate::endpoints::Services;
use crate::serve::conns::Conns;
use model::Side;
use runtime::notify::Notify;
use runtime::server::Placement;
use std::rc::Rc;

/// One per core.
pub struct Shard {
    pub services: Rc<Services>,
    pub conns: Rc<Conns>,
    /// Where fresh connections are served.
    pub placement: Placement<Side>,
    /// Rung when the shard is to end.
    pub stopped: Notify,
}
