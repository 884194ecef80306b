//! Snapshots from the agent to the shards of this process, also those that come before any shard runs, and word of it once
//! every shard has one.
//!
//! A process may have several sets of shards (those of a gateway, those of a proxy). A generation is in force when all of
//! them have it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Snapshot;
use model::ids::Generation;
use registry::{AppliedGeneration, Registration};
use tokio::sync::watch;

/// How often a snapshot on its way to the shards is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Hands a snapshot over; its edition.
pub type SetSnapshot = dyn Fn(&Arc<Snapshot>) -> u64 + Send + Sync;

/// A set of shards, by what can be done to it.
pub struct Shards {
    pub set_snapshot: Box<SetSnapshot>,
    /// Edition of the newest snapshot that each of them has.
    pub applied_edition: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Drops, here and not on a shard, snapshots that none of them uses any more.
    pub drop_retired: Box<dyn Fn() + Send + Sync>,
    /// Whether all of them have ended, and will take nothing.
    pub is_finished: Box<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shards")
    }
}

impl Shards {
    async fn take(&self, edition: u64) {
        while (self.applied_edition)() < edition && !(self.is_finished)() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        (self.drop_retired)();
    }
}

/// Stands between the agent, which knows no shards, and the shards, which know no agent.
pub struct Feed {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    applied: watch::Sender<Generation>,
}

struct State {
    latest: Arc<Snapshot>,
    shards: Vec<Arc<Shards>>,
    registration: Option<Arc<Registration>>,
    /// Snapshots that came, and which of them was last said to be with every shard.
    published: u64,
    announced: u64,
}

impl Feed {
    /// And what to give to [`crate::AgentConfig::applied`].
    pub fn new() -> (Feed, watch::Receiver<Generation>) {
        let (applied, seen) = watch::channel(Generation::default());
        let state = Mutex::new(State {
            latest: Arc::new(Snapshot::empty()),
            shards: Vec::new(),
            registration: None,
            published: 0,
            announced: 0,
        });
        (Feed { inner: Arc::new(Inner { state, applied }) }, seen)
    }

    /// What [`crate::Agent::start`] publishes to.
    pub fn publisher(&self) -> impl Fn(Arc<Snapshot>) + Send + 'static {
        let inner = Arc::clone(&self.inner);
        move |snapshot| inner.publish(snapshot)
    }

    /// The newest snapshot, to start shards with.
    pub fn latest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.inner.lock().latest)
    }

    /// From now on snapshots go to these shards, and what they have taken is announced. One that came while they started
    /// goes now.
    pub fn connect(&self, shards: Vec<Shards>, registration: Option<&Arc<Registration>>) {
        let latest = {
            let mut state = self.inner.lock();
            state.shards = shards.into_iter().map(Arc::new).collect();
            state.registration = registration.cloned();
            Arc::clone(&state.latest)
        };
        self.inner.publish(latest);
    }

    /// Lets go of the shards.
    pub fn disconnect(&self) {
        let mut state = self.inner.lock();
        state.shards.clear();
        state.registration = None;
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(self: &Arc<Self>, snapshot: Arc<Snapshot>) {
        let generation = snapshot.generation;
        let mut state = self.lock();
        state.latest = Arc::clone(&snapshot);
        if state.shards.is_empty() {
            self.applied.send_replace(generation);
            return;
        }
        // Under the lock, so that of two that come at the same time the later one is also the last everywhere.
        let hand_over = |shards: &Arc<Shards>| (Arc::clone(shards), (shards.set_snapshot)(&snapshot));
        let taking: Vec<(Arc<Shards>, u64)> = state.shards.iter().map(hand_over).collect();
        state.published += 1;
        let number = state.published;
        drop(state);
        drop(snapshot);
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            for (shards, edition) in taking {
                shards.take(edition).await;
            }
            inner.announce(number, generation);
        });
    }

    /// To the agent, and to whoever asks the registry whether a revocation is in force everywhere. A task that was
    /// overtaken by that of a later snapshot has nothing to say any more.
    fn announce(&self, number: u64, generation: Generation) {
        let mut state = self.lock();
        if number < state.announced {
            return;
        }
        state.announced = number;
        self.applied.send_replace(generation);
        if let Some(registration) = &state.registration {
            let Generation { history, number } = generation;
            registration.update_applied(AppliedGeneration { history: history.to_string(), number });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::SnapshotDoc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A set of shards that takes what it is told to, and how many snapshots it was handed.
    fn shards() -> (Shards, Arc<AtomicU64>, Arc<AtomicU64>) {
        let (handed, applied) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (count, taken) = (Arc::clone(&handed), Arc::clone(&applied));
        let shards = Shards {
            set_snapshot: Box::new(move |_| count.fetch_add(1, Ordering::SeqCst) + 1),
            applied_edition: Box::new(move || taken.load(Ordering::SeqCst)),
            drop_retired: Box::new(|| ()),
            is_finished: Box::new(|| false),
        };
        (shards, handed, applied)
    }

    fn snapshot(number: u64) -> Arc<Snapshot> {
        Arc::new(Snapshot::build(SnapshotDoc { generation: number, ..SnapshotDoc::default() }).expect("a snapshot"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_generation_is_in_force_when_every_set_of_shards_has_it() {
        let (feed, seen) = Feed::new();
        let publish = feed.publisher();
        publish(snapshot(1));
        assert_eq!(seen.borrow().number, 1, "nobody has to take it yet");
        let ((one, handed, applied), (other, also_handed, also_applied)) = (shards(), shards());
        feed.connect(vec![one, other], None);
        publish(snapshot(2));
        let handed = [handed, also_handed].map(|handed| handed.load(Ordering::SeqCst));
        assert_eq!(handed, [2, 2], "also the one that came before they ran");
        applied.store(2, Ordering::SeqCst);
        tokio::time::sleep(100 * LOOK_EVERY).await;
        assert_eq!(seen.borrow().number, 1, "the second set has none");
        also_applied.store(2, Ordering::SeqCst);
        tokio::time::sleep(100 * LOOK_EVERY).await;
        assert_eq!((seen.borrow().number, feed.latest().generation.number), (2, 2));
    }
}
