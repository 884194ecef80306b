//! The client connections of a shard.

use crate::env::board::Board;
use crate::exchange::conn::Conn;
use slab::Slab;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// One per shard.
pub struct Conns {
    shard: usize,
    count_max: usize,
    board: Arc<Board>,
    table: RefCell<Slab<Rc<Conn>>>,
}

impl Conns {
    pub fn new(shard: usize, count_max: usize, board: Arc<Board>) -> Conns {
        Conns { shard, count_max, board, table: RefCell::default() }
    }

    pub fn add(&self, conn: &Rc<Conn>) {
        let key = self.table.borrow_mut().insert(Rc::clone(conn));
        conn.key.set(key);
    }

    /// A connection that was counted on the board is gone.
    pub fn remove(&self, conn: &Conn) {
        self.table.borrow_mut().remove(conn.key.get());
        if let Some(app) = conn.app.get() {
            self.board.ledger.connections.remove(&app);
        }
        self.uncount(conn.peer);
    }

    /// One fewer on the board: it is gone, or was never served.
    pub fn uncount(&self, peer: SocketAddr) {
        self.board.by_address.remove(&peer.ip());
        self.board.connections.leave(self.shard);
    }

    /// Ends those past their deadline.
    pub fn sweep(&self, now: Instant) {
        self.table.borrow().iter().for_each(|(_, conn)| conn.sweep(now));
    }

    /// Ends each as soon as it is idle.
    pub fn close_when_idle(&self) {
        self.table.borrow().iter().for_each(|(_, conn)| conn.close_when_idle());
    }

    pub fn is_full(&self) -> bool {
        self.count() >= self.count_max
    }

    pub fn count(&self) -> usize {
        self.table.borrow().len()
    }
}
