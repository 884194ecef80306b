//! What the control plane tells a shard. Not a queue: a set of flags and a doorbell, so that it is never full, whatever
//! waits in the mailboxes, and whoever tells never waits. A snapshot is a cell on the board that the shard reads.

use crate::env::board::Board;
use crate::shard::drain;
use crate::shard::state::Shard;
use runtime::mailbox::{Receiver, Sender, mailbox};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

/// Something to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// The board has a newer snapshot.
    Snapshot = 1,
    /// Stop accepting; end waiting polls; finish what is in flight.
    Drain = 2,
    /// Answer what is still in flight as unknown or not stored, and end.
    Stop = 4,
    /// Panic, for tests of what follows.
    Panic = 8,
}

impl Control {
    /// In the order they are obeyed.
    const ALL: [Control; 4] = [Control::Snapshot, Control::Drain, Control::Stop, Control::Panic];
}

/// The control plane's end.
pub struct ControlSender {
    flags: Arc<AtomicU8>,
    doorbell: Sender<()>,
}

/// The shard's end.
pub struct ControlInbox {
    flags: Arc<AtomicU8>,
    doorbell: Receiver<()>,
}

pub fn lane() -> (ControlSender, ControlInbox) {
    let flags = Arc::new(AtomicU8::new(0));
    let (sender, receiver) = mailbox(1);
    (ControlSender { flags: Arc::clone(&flags), doorbell: sender }, ControlInbox { flags, doorbell: receiver })
}

impl ControlSender {
    pub fn tell(&self, what: Control) {
        self.flags.fetch_or(what as u8, Ordering::AcqRel);
        // A full doorbell rings already, and the flags are read after it was taken.
        let _ = self.doorbell.try_send(());
    }
}

impl ControlInbox {
    /// Everything told since the last time; `None` when nobody can tell anything any more.
    async fn next(&mut self) -> Option<impl Iterator<Item = Control> + use<>> {
        self.doorbell.recv().await?;
        let flags = self.flags.swap(0, Ordering::AcqRel);
        Some(Control::ALL.into_iter().filter(move |what| flags & *what as u8 != 0))
    }
}

/// Does what it is told until it is told to stop.
pub async fn obey(shard: Rc<Shard>, mut inbox: ControlInbox) {
    while let Some(told) = inbox.next().await {
        for what in told {
            let now = shard.services.env.tick();
            match what {
                Control::Snapshot => shard.take_snapshot(now),
                Control::Drain => drain::begin(&shard, now),
                Control::Stop => return drain::expire_all(&shard, now),
                Control::Panic => panic!("this shard was told to panic"),
            }
        }
    }
}

impl Shard {
    fn take_snapshot(&self, now: Instant) {
        let crate::endpoints::Services { env, access, clusters, publishing, subscriptions, .. } = &*self.services;
        let board: &Board = &env.board;
        let (edition, snapshot) = board.snapshot();
        let old = access.replace(snapshot);
        clusters.routes.forget_topics();
        env.traffic.forget();
        board.set_applied(env.shard, edition);
        subscriptions.reauthorize(env, access, clusters, now);
        publishing.wake_batches();
        board.retire(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_told_before_the_shard_looks_is_seen_when_it_looks_and_nothing_twice() {
        let (sender, mut inbox) = lane();
        let seen = |inbox: &mut ControlInbox| -> Vec<Control> {
            if inbox.doorbell.try_recv().is_none() {
                return Vec::new();
            }
            let flags = inbox.flags.swap(0, Ordering::AcqRel);
            Control::ALL.into_iter().filter(|what| flags & *what as u8 != 0).collect()
        };
        for _ in 0..10_000 {
            sender.tell(Control::Snapshot);
        }
        sender.tell(Control::Stop);
        sender.tell(Control::Drain);
        assert_eq!(seen(&mut inbox), [Control::Snapshot, Control::Drain, Control::Stop]);
        assert_eq!(seen(&mut inbox), []);
        sender.tell(Control::Snapshot);
        assert_eq!(seen(&mut inbox), [Control::Snapshot]);
    }
}
