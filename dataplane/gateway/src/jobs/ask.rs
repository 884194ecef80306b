//! What an operator asks of one job. Waits for the store and its disk: for threads that may, which no shard does.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use ::jobs::JobId;
use ::jobs::book::{Seen, Stage};
use ::jobs::log::Name;
use ::jobs::store::{AddError, Answer, Asked, Changed, LookWaiter, Looked, Question};
use ::jobs::wheel::Entry;
use journal::{Refused, Waiter};

use super::desk::Desk;
use super::{Act, begin};

/// Whoever asks waits no longer than this for the disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// A job as it was when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Waits { entry: Entry, stage: Stage, attempts: u32 },
    Fired,
    Deleted,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("this job is {0}")]
    TooLate(&'static str),
    #[error(transparent)]
    Store(#[from] AddError),
    #[error("{0}")]
    Disk(String),
}

impl Desk {
    /// Does something with a job of that queue. None: this store does not know it.
    pub fn ask(&self, name: &Name, id: JobId, act: Act) -> Result<Option<Found>, AskError> {
        let store = self.store();
        let Some((queue, issuer)) = store.find(name).zip(store.issuer()) else { return Ok(None) };
        if !issuer.is_genuine(queue.0, id) {
            return Ok(None);
        }
        let looked = self.look_at(id.seq(), matches!(act, Act::Move(_) | Act::Fire))?;
        let (entry, stage) = match looked.seen {
            Seen::Pending(Some((entry, stage))) if entry.queue == queue.0 => (entry, stage),
            Seen::Pending(_) | Seen::Unknown => return Ok(None),
            Seen::Fired if act == Act::Show => return Ok(Some(Found::Fired)),
            Seen::Deleted if act == Act::Show => return Ok(Some(Found::Deleted)),
            Seen::Fired => return Err(AskError::TooLate("fired")),
            Seen::Deleted => return Err(AskError::TooLate("deleted")),
        };
        let found = Found::Waits { entry, stage: stage.clone(), attempts: looked.attempts };
        if act == Act::Show {
            return Ok(Some(found));
        }
        let (waiter, rang) = waiter();
        let is_parked = matches!(stage, Stage::Parked { .. });
        let begun = begin(store, act, entry, is_parked, looked.body.as_ref(), 0, &waiter);
        let unreadable = || AskError::Disk("the message of this job cannot be read from the disk".to_owned());
        match begun.ok_or_else(unreadable)?? {
            Changed::Appended => {}
            Changed::TooLate => return Err(AskError::TooLate("about to fire, or being changed")),
            Changed::Unknown => return Ok(None),
        }
        if let Err(refused) = durable(&waiter, &rang) {
            // While nobody knows, it stays as it is being changed.
            if refused != Refused::Unknown {
                store.change_failed(entry);
            }
            return Err(AddError::Log(refused).into());
        }
        Ok(Some(found))
    }

    /// Has a queue stand still, or go on. One that there is not goes on.
    pub fn pause(&self, name: &Name, is_paused: bool) -> Result<(), AskError> {
        let (waiter, rang) = waiter();
        if self.store().pause(name, is_paused, 0, &waiter)? {
            durable(&waiter, &rang).map_err(AddError::Log)?;
        }
        Ok(())
    }

    fn look_at(&self, seq: u64, with_body: bool) -> Result<Looked, AskError> {
        let store = self.store();
        let seen = store.see(seq);
        if !with_body && !matches!(seen, Seen::Pending(None)) {
            return Ok(Looked { seen, attempts: store.attempts(seq), body: None });
        }
        let (ring, rang) = channel();
        let looks = LookWaiter::new(move || ring.send(()).unwrap_or_default());
        let busy = || AskError::Disk("too many questions about delayed jobs wait".to_owned());
        let asked = Asked { question: Question::Job { seq, with_body }, ticket: 0, waiter: looks.clone() };
        store.look(asked).then_some(()).ok_or_else(busy)?;
        let silent = |_: RecvTimeoutError| AskError::Disk("the disk does not answer".to_owned());
        rang.recv_timeout(PATIENCE).map_err(silent)?;
        let mut answers = Vec::new();
        looks.take(&mut answers);
        match answers.pop() {
            Some((_, Answer::Job(looked))) => Ok(looked),
            Some((_, Answer::Failed(why))) => Err(AskError::Disk(why)),
            other => unreachable!("an answer is of its question's kind: {other:?}"),
        }
    }
}

fn waiter() -> (Waiter, Receiver<()>) {
    let (ring, rang) = channel();
    (Waiter::new(move || ring.send(()).unwrap_or_default()), rang)
}

/// Waits until what was appended is durable.
fn durable(waiter: &Waiter, rang: &Receiver<()>) -> Result<(), Refused> {
    rang.recv_timeout(PATIENCE).map_err(|_| Refused::Unknown)?;
    let mut completions = Vec::new();
    waiter.take(&mut completions);
    completions.pop().expect("it rang for one").result.map(|_| ())
}
