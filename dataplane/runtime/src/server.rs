//! What every server on shards does with fresh connections: accept, hand over to the shard with the fewest, count.
//!
//! The users are the gateway and the proxy. What a connection is, and how it ends, is theirs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::crew::Roll;
use crate::mailbox::Sender;
use crate::net::Listener;
use crate::notify::Notify;
use crate::{Either, race, time};

/// A listener that fails is asked again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that was accepted and not touched since, so that it may still change shards. `tag` says what its listener
/// is for.
pub struct Fresh<T> {
    pub stream: std::net::TcpStream,
    pub peer: SocketAddr,
    pub tag: T,
}

/// How many connections each shard has. Shared by shards.
#[derive(Clone)]
pub struct Crowd {
    counts: Arc<[AtomicUsize]>,
}

impl Crowd {
    pub fn new(shard_count: usize) -> Crowd {
        Crowd { counts: (0..shard_count).map(|_| AtomicUsize::new(0)).collect() }
    }

    /// Connections of a shard.
    pub fn of(&self, shard: usize) -> usize {
        self.counts[shard].load(Ordering::Relaxed)
    }

    /// Connections of all shards.
    pub fn total(&self) -> usize {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// A connection of this shard is gone.
    pub fn leave(&self, shard: usize) {
        self.counts[shard].fetch_sub(1, Ordering::Relaxed);
    }

    fn join(&self, shard: usize) {
        self.counts[shard].fetch_add(1, Ordering::Relaxed);
    }

    /// Where a fresh connection of this shard belongs: to the shard with the fewest, if this one has clearly more
    /// (SO_REUSEPORT is lumpy for few fat connections).
    fn target(&self, shard: usize, roll: &Roll) -> usize {
        let mine = self.of(shard);
        let alive = (0..self.counts.len()).filter(|other| !roll.has_fallen(*other));
        let least = alive.min_by_key(|other| self.of(*other)).unwrap_or(shard);
        let fewest = self.of(least);
        if mine > fewest + (fewest / 4).max(1) { least } else { shard }
    }
}

/// Where one shard's fresh connections go. One per shard.
pub struct Placement<T> {
    shard: usize,
    crowd: Crowd,
    roll: Roll,
    /// By shard: where a fresh connection is handed over.
    adopt: Vec<Sender<Fresh<T>>>,
}

impl<T: Send> Placement<T> {
    pub fn new(shard: usize, crowd: Crowd, roll: Roll, adopt: Vec<Sender<Fresh<T>>>) -> Placement<T> {
        Placement { shard, crowd, roll, adopt }
    }

    /// Hands the connection to another shard, or gives it back to be served here. It is counted either way; whoever serves
    /// it calls [`Crowd::leave`] at its end.
    pub fn place(&self, mut fresh: Fresh<T>) -> Option<Fresh<T>> {
        let target = self.crowd.target(self.shard, &self.roll);
        if target != self.shard {
            self.crowd.join(target);
            match self.adopt[target].try_send(fresh) {
                Ok(()) => return None,
                Err(refused) => {
                    self.crowd.leave(target);
                    fresh = refused.into_inner();
                }
            }
        }
        self.crowd.join(self.shard);
        Some(fresh)
    }
}

/// Accepts until `stop` is notified; `failed` hears of errors that pass, such as too few descriptors.
pub async fn accept<T: Clone>(
    listener: &Listener,
    tag: T,
    stop: &Notify,
    mut fresh: impl FnMut(Fresh<T>),
    mut failed: impl FnMut(std::io::Error),
) {
    loop {
        match race(listener.accept_std(), stop.notified()).await {
            Either::Second(()) => {
                stop.notify(); // one notification lets one waiter through: pass it on
                return;
            }
            Either::First(Ok((stream, peer))) => fresh(Fresh { stream, peer, tag: tag.clone() }),
            Either::First(Err(err)) => {
                failed(err);
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::mailbox;

    #[test]
    fn connections_go_to_the_shard_with_the_fewest_and_stay_where_the_difference_is_small() {
        let crowd = Crowd::new(2);
        let (to_first, _first) = mailbox(8);
        let (to_second, mut second) = mailbox(1);
        let placement = Placement::new(0, crowd.clone(), Roll::new(2), vec![to_first, to_second]);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let fresh = |tag: u8| {
            let stream = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
            Fresh { peer: stream.local_addr().expect("connected"), stream, tag }
        };
        let kept: Vec<bool> = (0..4).map(|tag| placement.place(fresh(tag)).is_some()).collect();
        assert_eq!(kept, [true, true, false, true]);
        assert_eq!(second.try_recv().map(|fresh| fresh.tag), Some(2));
        assert_eq!((crowd.of(0), crowd.of(1), crowd.total()), (3, 1, 4));
        assert!(placement.place(fresh(5)).is_none(), "three against one");
        crowd.leave(1);
        crowd.leave(1);
        assert!(placement.place(fresh(6)).is_some(), "a full mailbox refuses: it is served here");
        assert_eq!((crowd.of(0), crowd.of(1)), (4, 0));
    }

    #[test]
    fn a_shard_that_has_fallen_is_handed_nothing_though_it_has_the_fewest() {
        let (crowd, roll) = (Crowd::new(3), Roll::new(3));
        for _ in 0..5 {
            crowd.join(0);
            crowd.join(2);
        }
        assert_eq!(crowd.target(0, &roll), 1);
        roll.note(1, &"broken");
        assert_eq!(crowd.target(0, &roll), 0);
    }
}
