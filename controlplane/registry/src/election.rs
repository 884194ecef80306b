//! Leading an election, and knowing that one cannot know for sure.
//!
//! A leader that was paused (a long page fault, a stopped machine) wakes up believing that it leads, while another does.
//! No registry can prevent that. So every leader gets an epoch, greater than that of every leader before it, over restarts
//! and crashes; it goes along with whatever the leader writes, and who stores that refuses a smaller epoch than it has
//! seen: the fencing token. [`Leadership::lost`] is the courtesy of being told early.
//!
//! [`Leadership`] is the leader's half, [`Keeper`] the registry's: each notices when the other lets go.

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

/// Who leads an election.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    pub candidate: String,
    /// Of leaders of one election, later ones have greater epochs; the first has 1.
    pub epoch: u64,
}

/// The right to lead, until it is resigned, dropped or lost.
#[derive(Debug)]
pub struct Leadership {
    election: String,
    leader: Leader,
    /// Closed by the registry when it is over.
    over: watch::Receiver<()>,
    /// Dropped to resign.
    resign: Option<oneshot::Sender<()>>,
}

impl Leadership {
    /// For implementations of [`crate::Registry`], who make sure first that the epoch is never given away again.
    pub fn new(election: &str, leader: Leader) -> (Leadership, Keeper) {
        let (keeping, over) = watch::channel(());
        let (resign, resigned) = oneshot::channel();
        let leadership = Leadership { election: election.to_owned(), leader, over, resign: Some(resign) };
        (leadership, Keeper { _keeping: keeping, resigned })
    }

    pub fn election(&self) -> &str {
        &self.election
    }

    pub fn candidate(&self) -> &str {
        &self.leader.candidate
    }

    /// The fencing token.
    pub fn epoch(&self) -> u64 {
        self.leader.epoch
    }

    /// Whether it is known to be over. `false` proves nothing: that is what the epoch is for.
    pub fn is_lost(&self) -> bool {
        self.over.has_changed().is_err()
    }

    /// Ends when this leadership is known to be over, without us having resigned.
    pub async fn lost(&self) {
        let mut over = self.over.clone();
        while over.changed().await.is_ok() {}
    }

    /// Ends when the next one can lead. Dropping resigns, too, but does not wait.
    pub async fn resign(mut self) {
        self.resign.take();
        self.lost().await;
    }
}

/// The registry's half of a leadership. Dropping it tells the leader that it is over: before the place is free when it
/// was lost, after that when it was resigned.
#[derive(Debug)]
pub struct Keeper {
    _keeping: watch::Sender<()>,
    resigned: oneshot::Receiver<()>,
}

impl Keeper {
    /// Ends when the leader has resigned. To be asked until then, not after.
    pub async fn resigned(&mut self) {
        // Nothing is ever sent: the sender is dropped.
        let _ = (&mut self.resigned).await;
    }
}
