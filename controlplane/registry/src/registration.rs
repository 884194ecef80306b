//! Keeps a node registered: over lost sessions, over a registry that is away, and with what it announces changing.
//!
//! ```text
//! update, update_applied ──► wanted ──┐
//!                                     ├─► task: register when either differs from what was announced, and where
//! registry's connection state ────────┘         failed: again after a while, one line in the log
//! end ──► wanted = None ──► unregister
//! ```
//! Invariants:
//! - A call is never dropped half-way, because it might take effect after the next one.
//! - The session is read before the call. If it was lost during the call, the node is registered once too often.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::limits::{ANNOUNCE_PERIOD_MIN, END_TIMEOUT, RETRY_FIRST, RETRY_MAX, UNREGISTER_TRIES_MAX};
use crate::{AppliedGeneration, ConnectionState, NodeInfo, Registry};

/// A node that is kept registered until `end`, or until this is dropped.
pub struct Registration {
    /// What shall be announced. `None`: nothing any more.
    wanted: watch::Sender<Option<NodeInfo>>,
    progress: watch::Receiver<Progress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Trying,
    Registered,
    Ended,
}

impl Registration {
    /// Begins to register the node, in a task of the current tokio runtime.
    pub fn keep(registry: Arc<dyn Registry>, node: NodeInfo) -> Registration {
        let (wanted, orders) = watch::channel(Some(node.clone()));
        let (progress, seen) = watch::channel(Progress::Trying);
        let connection = registry.connection();
        let announcer = Announcer { registry, node, orders, connection, progress, failure_count: 0 };
        tokio::spawn(announcer.run());
        Registration { wanted, progress: seen }
    }

    /// Changes what is announced, soon: changes that follow each other quickly go out together. Its kind and id stay.
    pub fn update(&self, change: impl FnOnce(&mut NodeInfo)) {
        self.wanted.send_if_modified(|wanted| {
            let Some(node) = wanted else { return false };
            let before = node.clone();
            change(node);
            assert_eq!((node.kind, &node.id), (before.kind, &before.id), "a registered node keeps its name");
            *node != before
        });
    }

    /// Announces which generation of the tenants is in force here.
    pub fn update_applied(&self, applied: AppliedGeneration) {
        self.update(|node| node.applied = Some(applied));
    }

    /// Ends when the node is registered (or was ended).
    pub async fn registered(&self) {
        // An error: the runtime is gone, and nobody will register anything.
        let _ = self.progress.clone().wait_for(|progress| *progress != Progress::Trying).await;
    }

    /// As far as is known.
    pub fn is_registered(&self) -> bool {
        *self.progress.borrow() == Progress::Registered
    }

    /// Takes the registration back. Waits no longer than [`END_TIMEOUT`]; what could not be taken back by then goes with
    /// the session.
    pub async fn end(&self) {
        self.wanted.send_replace(None);
        let mut progress = self.progress.clone();
        let ended = progress.wait_for(|progress| *progress == Progress::Ended);
        if tokio::time::timeout(END_TIMEOUT, ended).await.is_err() {
            tracing::warn!("node could not be unregistered yet, its registration ends with this process");
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.wanted.send_replace(None);
    }
}

/// The task.
struct Announcer {
    registry: Arc<dyn Registry>,
    /// As last announced, or tried to.
    node: NodeInfo,
    orders: watch::Receiver<Option<NodeInfo>>,
    connection: watch::Receiver<ConnectionState>,
    progress: watch::Sender<Progress>,
    /// In a row.
    failure_count: u32,
}

impl Announcer {
    async fn run(mut self) {
        let mut announced_in = None;
        loop {
            let Some(wanted) = self.orders.borrow_and_update().clone() else { break };
            let ConnectionState::Connected { session } = *self.connection.borrow_and_update() else {
                self.progress.send_replace(Progress::Trying);
                self.change().await;
                continue;
            };
            if announced_in == Some(session) && wanted == self.node {
                // Also after an interruption that the session has survived.
                self.progress.send_replace(Progress::Registered);
                self.change().await;
                continue;
            }
            self.node = wanted;
            let pause = if self.register().await {
                announced_in = Some(session);
                ANNOUNCE_PERIOD_MIN
            } else {
                announced_in = None;
                backoff(self.failure_count)
            };
            self.pause(pause).await;
        }
        self.unregister().await;
        self.progress.send_replace(Progress::Ended);
    }

    async fn register(&mut self) -> bool {
        match self.registry.register(&self.node).await {
            Ok(()) => {
                if self.failure_count > 0 {
                    tracing::info!(id = self.node.id, failures = self.failure_count, "node is registered after all");
                }
                self.failure_count = 0;
                self.progress.send_replace(Progress::Registered);
                true
            }
            Err(err) => {
                match (self.failure_count, err.can_retry()) {
                    (0, true) => tracing::warn!(id = self.node.id, %err, "node could not be registered, trying on"),
                    (0, false) => tracing::error!(id = self.node.id, %err, "node cannot be registered as it is"),
                    _ => {}
                }
                self.failure_count = self.failure_count.saturating_add(1);
                self.progress.send_replace(Progress::Trying);
                false
            }
        }
    }

    /// Also where it was never registered as far as we know: the answer may have been lost.
    async fn unregister(&mut self) {
        for attempt in 1..=UNREGISTER_TRIES_MAX {
            if *self.connection.borrow_and_update() == ConnectionState::SessionLost {
                return;
            }
            match self.registry.unregister(self.node.kind, &self.node.id).await {
                Ok(()) => return,
                Err(err) if attempt == UNREGISTER_TRIES_MAX => {
                    tracing::warn!(id = self.node.id, %err, "node could not be unregistered");
                }
                Err(_) => {
                    let wait = tokio::time::sleep(backoff(attempt));
                    tokio::select! {
                        () = wait => {}
                        () = changed(&mut self.connection) => {}
                    }
                }
            }
        }
    }

    /// Until something else may have to be announced.
    async fn change(&mut self) {
        tokio::select! {
            () = changed(&mut self.orders) => {}
            () = changed(&mut self.connection) => {}
        }
    }

    /// Until the time has passed. The end, and another session, come earlier.
    async fn pause(&mut self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            Ok(_) = self.orders.wait_for(Option::is_none) => {}
            () = changed(&mut self.connection) => {}
        }
    }
}

/// Whose sender is gone never changes again. Orders end with `None` first; the registry lives as long as we do.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn backoff(failure_count: u32) -> Duration {
    let doublings = failure_count.saturating_sub(1).min(16);
    RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_at_doubling_distances_up_to_a_limit() {
        let waits: Vec<u128> = [1, 2, 3, 7, 8, 1000, u32::MAX].map(|count| backoff(count).as_millis()).to_vec();
        assert_eq!(waits, [100, 200, 400, 6400, 10_000, 10_000, 10_000]);
    }
}
