//! Elections of one machine.
//!
//! ```text
//! DIR/elections/.lock          held for the milliseconds in which a leader changes, or is asked for
//! DIR/elections/NAME.lock      flock held by the leader for as long as it leads
//! DIR/elections/NAME.json      {"epoch":7,"candidate":"gw-1"}: the last leader there was
//! ```
//! The order is: lock, write the next epoch aside, sync it, rename it, sync the directory, then tell the candidate. A
//! crash in between wastes an epoch and never repeats one. Removing NAME.json begins at 1 again, so nobody should.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use super::directory::{identity, io_error, is_at, lock_in};
use super::in_background;
use crate::limits::{CAMPAIGN_PERIOD, ELECTION_BYTES_MAX, WATCH_PERIOD};
use crate::{ConnectionState, Keeper, Leader, Leadership, RegistryError};

#[derive(Clone)]
pub(super) struct Elections {
    pub(super) dir: PathBuf,
}

impl Elections {
    /// Waits until the candidate leads. `session` changes when the session does, which ends what is led in it.
    ///
    /// Looks every [`CAMPAIGN_PERIOD`]: a thread that waits for the lock could not be called off.
    pub(super) async fn campaign(
        &self,
        election: &str,
        candidate: &str,
        session: watch::Receiver<ConnectionState>,
    ) -> Result<Leadership, RegistryError> {
        loop {
            let (elections, name, who) = (self.clone(), election.to_owned(), candidate.to_owned());
            // Given up while this runs: the lock is let go of with its answer.
            let won = in_background(move || elections.try_lead(&name, &who)).await?;
            if session.has_changed().unwrap_or(true) {
                return Err(RegistryError::Away { why: "the session was lost during a campaign".to_owned() });
            }
            if let Some((lock, leader)) = won {
                let (leadership, keeper) = Leadership::new(election, leader);
                tokio::spawn(keep(keeper, lock, self.lock_path(election), session));
                return Ok(leadership);
            }
            tokio::time::sleep(CAMPAIGN_PERIOD).await;
        }
    }

    pub(super) fn leader(&self, election: &str) -> Result<Option<Leader>, RegistryError> {
        let _guard = lock_in(&self.dir, File::lock)?;
        let path = self.lock_path(election);
        match File::open(&path) {
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
            Err(err) => Err(io_error(&path)(err)),
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => Ok(None),
                Err(TryLockError::WouldBlock) => self.last_leader(election),
                Err(TryLockError::Error(err)) => Err(io_error(&path)(err)),
            },
        }
    }

    /// The lock and the new leader, if nobody leads.
    fn try_lead(&self, election: &str, candidate: &str) -> Result<Option<(File, Leader)>, RegistryError> {
        let _guard = lock_in(&self.dir, File::lock)?;
        let path = self.lock_path(election);
        let open = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
        let lock = open.map_err(io_error(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(err)) => return Err(io_error(&path)(err)),
        }
        let last = self.last_leader(election)?.map_or(0, |leader| leader.epoch);
        let unknown = || self.unknown(election, "no epoch is greater than the last one");
        let leader = Leader { candidate: candidate.to_owned(), epoch: last.checked_add(1).ok_or_else(unknown)? };
        self.persist(election, &leader)?;
        Ok(Some((lock, leader)))
    }

    fn last_leader(&self, election: &str) -> Result<Option<Leader>, RegistryError> {
        let path = self.record_path(election);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(io_error(&path)(err)),
        };
        let mut text = Vec::new();
        file.take(ELECTION_BYTES_MAX as u64).read_to_end(&mut text).map_err(io_error(&path))?;
        serde_json::from_slice(&text).map(Some).map_err(|err| self.unknown(election, &err.to_string()))
    }

    fn persist(&self, election: &str, leader: &Leader) -> Result<(), RegistryError> {
        let path = self.record_path(election);
        let aside = self.dir.join(format!(".{election}.new"));
        let text = serde_json::to_vec(leader).expect("a leader has string keys only");
        assert!(text.len() < ELECTION_BYTES_MAX, "names are short: {} bytes", text.len());
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside);
        let mut file = open.map_err(io_error(&aside))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(io_error(&aside))?;
        fs::rename(&aside, &path).map_err(io_error(&path))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(io_error(&self.dir))
    }

    fn unknown(&self, election: &str, why: &str) -> RegistryError {
        let (election, path) = (election.to_owned(), self.record_path(election));
        RegistryError::EpochUnknown { election, path, why: why.to_owned() }
    }

    fn lock_path(&self, election: &str) -> PathBuf {
        self.dir.join(format!("{election}.lock"))
    }

    fn record_path(&self, election: &str) -> PathBuf {
        self.dir.join(format!("{election}.json"))
    }
}

/// Holds the lock until the leader resigns, the session ends, or somebody removes the file, so that others can lock
/// another one in its place.
async fn keep(mut keeper: Keeper, lock: File, path: PathBuf, mut session: watch::Receiver<ConnectionState>) {
    tokio::select! {
        () = keeper.resigned() => {
            // Free first, then told.
            drop(lock);
            return;
        }
        // An error: the registry is gone.
        _ = session.changed() => {}
        () = until_removed(&lock, &path) => tracing::warn!(path = %path.display(), "lock of a leader was removed"),
    }
    // Told first, then free.
    drop(keeper);
    drop(lock);
}

async fn until_removed(lock: &File, path: &Path) {
    let Ok(identity) = identity(lock) else { return };
    loop {
        tokio::time::sleep(WATCH_PERIOD).await;
        let path = path.to_owned();
        let look = in_background(move || is_at(identity, &path).map_err(io_error(&path)));
        // An error says nothing: the next look may.
        if let Ok(false) = look.await {
            return;
        }
    }
}
