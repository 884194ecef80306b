//! A disk in memory that takes at its word whoever forgets to persist.
//!
//! After [`SimulatedDisk::cut`] there is what was persisted, and of everything else what chance left: sectors of a file
//! in any mixture of old and new, its length, and names made, removed and moved, each by itself. The power can also go
//! in the middle of whatever its user does next ([`SimulatedDisk::cut_after`]). Errors and shortages come on demand or
//! by chance, and like the operating system it calls sectors clean after a persist that failed.
//!
//! One seed is one story: the operations are the user's, everything else comes from the seed. Submitted operations begin
//! in any order when the test says so ([`SimulatedDisk::step`]).
//!
//! Of a short history, all that a cut could leave can be had one by one ([`SimulatedDisk::states_after_cut`]).
//!
//! What it does not have: permissions, links, holes, sectors torn in themselves.

mod chance;
mod content;
mod states;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::io::Errno;

use crate::Disk;
use crate::file::File;
use crate::operation::{Completion, Entry, Meta, Open, Operation, Outcome, Space};
use crate::segment;
pub use chance::Chance;
use tree::{NodeId, Tree};

pub use content::SECTOR_BYTES;
pub use states::TooManyStates;

/// How often, of a thousand times, an operation meets its misfortune.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chances {
    /// A persist of a file fails: EIO, and its sectors count as clean.
    pub persist_fails: u32,
    /// A write, or the zeroing of a file, finds the disk full.
    pub disk_full: u32,
    /// A write takes only some of the bytes.
    pub short_write: u32,
    /// Opening a file or persisting a directory finds no descriptor left: EMFILE, nothing was done.
    pub shortage: u32,
}

/// See the module.
pub struct SimulatedDisk {
    state: Mutex<State>,
}

struct State {
    tree: Tree,
    chance: Chance,
    chances: Chances,
    /// Operations and the errors they are to fail with, the next one first.
    errors: VecDeque<(Matches, Errno)>,
    /// Persists that are answered and not done: a disk that lies.
    pretends: Option<Matches>,
    /// Operations until the power goes.
    power: Option<u64>,
    is_off: bool,
    /// Files opened before a cut are of no use after it.
    cuts: u64,
    now_ms: i64,
    capacity_bytes: u64,
    submitted: Vec<(u64, Operation)>,
    completed: VecDeque<Completion>,
}

type Matches = Box<dyn Fn(&Operation) -> bool + Send>;

/// What a file of this disk is.
struct Handle {
    node: NodeId,
    opened_after_cuts: u64,
    is_segment: bool,
}

/// Room of a disk that was not told how much it has.
const CAPACITY_BYTES: u64 = 1 << 40;

impl SimulatedDisk {
    /// An empty disk with a root directory.
    pub fn new(seed: u64) -> SimulatedDisk {
        SimulatedDisk { state: Mutex::new(State::new(Tree::new(), seed)) }
    }

    /// Sets the clock that files are stamped with.
    pub fn set_now_ms(&self, now_ms: i64) {
        self.state().now_ms = now_ms;
    }

    /// Misfortunes from now on.
    pub fn set_chances(&self, chances: Chances) {
        self.state().chances = chances;
    }

    /// The next operation that matches fails like this, after those named before.
    pub fn fail_next(&self, matches: impl Fn(&Operation) -> bool + Send + 'static, code: i32) {
        self.state().errors.push_back((Box::new(matches), Errno::from_raw_os_error(code)));
    }

    /// Forgets errors that were not met.
    pub fn clear_errors(&self) {
        self.state().errors.clear();
    }

    /// Persists that match are answered and not done.
    pub fn pretend(&self, matches: impl Fn(&Operation) -> bool + Send + 'static) {
        self.state().pretends = Some(Box::new(matches));
    }

    /// Does one of the submitted operations. False: there is none.
    pub fn step(&self) -> bool {
        let mut state = self.state();
        if state.submitted.is_empty() {
            return false;
        }
        let bound = state.submitted.len();
        let at = state.chance.below(bound);
        let (ticket, operation) = state.submitted.swap_remove(at);
        let result = state.perform(operation);
        state.completed.push_back(Completion { ticket, result });
        true
    }

    /// How many bytes all files together can hold; until told otherwise, more than anybody has. A write, zeroing or
    /// truncation that would pass it finds the disk full. What is only preallocated, and files without a name, are not counted.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    /// The power goes within this many operations; the one it goes in is done or not.
    pub fn cut_after(&self, operations: u64) {
        self.state().power = Some(operations);
    }

    /// Whether it went.
    pub fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// Takes the power away, if that has not happened, and gives it back.
    pub fn cut(&self) {
        let state = &mut *self.state();
        state.tree.cut(&mut state.chance);
        state.restart();
    }

    /// The user ends without a power cut, and begins again: what was written is there, what was submitted is not done.
    pub fn kill(&self) {
        self.state().restart();
    }

    /// A bit of a file rots, without anybody being told.
    pub fn flip(&self, path: &Path, at: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state();
        let file = state.tree.file(path)?;
        state.tree.content(file).flip(usize::try_from(at).unwrap_or(usize::MAX), bit);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for SimulatedDisk {
    fn call(&self, operation: Operation) -> io::Result<Outcome> {
        self.state().perform(operation)
    }

    fn submit(&self, ticket: u64, operation: Operation) {
        if let Operation::Persist { file, .. } = &operation {
            file.note_persist_waiting();
        }
        self.state().submitted.push((ticket, operation));
    }

    fn complete(&self) -> Option<Completion> {
        self.state().completed.pop_front()
    }
}

impl State {
    fn new(tree: Tree, seed: u64) -> State {
        State {
            tree,
            chance: Chance::new(seed),
            chances: Chances::default(),
            errors: VecDeque::new(),
            pretends: None,
            power: None,
            is_off: false,
            cuts: 0,
            now_ms: 0,
            capacity_bytes: CAPACITY_BYTES,
            submitted: Vec::new(),
            completed: VecDeque::new(),
        }
    }

    fn restart(&mut self) {
        self.power = None;
        self.is_off = false;
        self.cuts += 1;
        self.submitted.clear();
        self.completed.clear();
    }

    /// Does one operation, unless the power is gone or goes now, or it meets its misfortune.
    fn perform(&mut self, operation: Operation) -> io::Result<Outcome> {
        if self.is_off {
            return Err(power_is_off());
        }
        match &mut self.power {
            Some(0) => {
                self.is_off = true;
                if self.chance.happens(500) {
                    let _ = self.change(operation);
                }
                return Err(power_is_off());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        if self.errors.front().is_some_and(|(matches, _)| matches(&operation)) {
            let (_, errno) = self.errors.pop_front().expect("looked at above");
            return self.fail(&operation, errno);
        }
        let Chances { persist_fails, disk_full, short_write, shortage } = self.chances;
        match operation {
            Operation::Persist { .. } if self.chance.happens(persist_fails) => self.fail(&operation, Errno::IO),
            Operation::Write { .. } | Operation::Zero { .. } if self.chance.happens(disk_full) => {
                self.fail(&operation, Errno::NOSPC)
            }
            Operation::Open { .. } | Operation::PersistDir { .. } if self.chance.happens(shortage) => {
                self.fail(&operation, Errno::MFILE)
            }
            Operation::Write { file, at, head, body } if self.chance.happens(short_write) => {
                let wanted = head.len() + body.len();
                let some = if wanted > 1 { 1 + self.chance.below(wanted - 1) } else { wanted };
                let (head, body) = (head.slice(..some.min(head.len())), body.slice(..some.saturating_sub(head.len())));
                self.change(Operation::Write { file, at, head, body })
            }
            operation => self.change(operation),
        }
    }

    fn fail(&mut self, operation: &Operation, errno: Errno) -> io::Result<Outcome> {
        let Operation::Persist { file, .. } = operation else { return Err(errno.into()) };
        let node = self.node(file)?;
        let forsaken = || {
            self.tree.content(node).forsake();
            Err(errno.into())
        };
        file.run_persist(forsaken).map(|writes| Outcome::Persisted { writes })
    }

    fn change(&mut self, operation: Operation) -> io::Result<Outcome> {
        let pretended = self.pretends.as_ref().is_some_and(|matches| matches(&operation));
        let whole = |bytes: u64| usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
        match operation {
            Operation::Open { path, how } => self.open(path, how).map(Outcome::File),
            Operation::Read { file, at, bytes } => {
                let node = self.node(&file)?;
                let read = self.tree.content(node).read(whole(at)?, bytes);
                Ok(Outcome::Bytes(Bytes::copy_from_slice(read)))
            }
            // There is no cache.
            Operation::Forget { file, .. } => self.node(&file).map(|_| Outcome::Done),
            Operation::Write { file, at, head, body } => {
                let node = self.node(&file)?;
                let bytes = [head, body].concat();
                if file.handle::<Handle>().is_segment {
                    segment::check_end(file.path(), self.tree.content(node).bytes() as u64, at, bytes.len())?;
                }
                self.find_room(node, at.saturating_add(bytes.len() as u64))?;
                self.tree.content(node).write(whole(at)?, &bytes);
                *self.tree.modified_ms(node) = self.now_ms;
                file.note_write();
                Ok(Outcome::Written(bytes.len()))
            }
            Operation::Zero { file, bytes } => {
                let node = self.growing(&file)?;
                match self.tree.content(node).bytes() {
                    0 => {}
                    some => return Err(segment::is_not_empty(file.path(), some as u64)),
                }
                let room = self.find_room(node, bytes);
                // As a file system does: it fills what is left, and then finds nothing more.
                let some = if room.is_ok() { bytes } else { self.free_bytes() };
                self.tree.content(node).zero(whole(some)?);
                *self.tree.modified_ms(node) = self.now_ms;
                file.note_write();
                room.map(|()| Outcome::Done)
            }
            Operation::Preallocate { file, .. } => self.growing(&file).map(|_| Outcome::Done),
            Operation::Truncate { file, bytes } => {
                let node = self.growing(&file)?;
                self.find_room(node, bytes)?;
                self.tree.content(node).truncate(whole(bytes)?);
                *self.tree.modified_ms(node) = self.now_ms;
                file.note_write();
                Ok(Outcome::Done)
            }
            Operation::Persist { file, from } => {
                let node = self.node(&file)?;
                let persist = || {
                    if !pretended {
                        self.tree.content(node).persist(whole(from)?);
                    }
                    Ok(())
                };
                file.run_persist(persist).map(|writes| Outcome::Persisted { writes })
            }
            Operation::Rename { from, to } => self.tree.rename(&from, &to).map(|()| Outcome::Done),
            Operation::Remove { path } => self.tree.remove(&path, false).map(|()| Outcome::Done),
            Operation::MakeDir { path } => self.tree.make_dir(&path).map(|()| Outcome::Done),
            Operation::RemoveDir { path } => self.tree.remove(&path, true).map(|()| Outcome::Done),
            Operation::PersistDir { .. } if pretended => Ok(Outcome::Done),
            Operation::PersistDir { path } => self.tree.persist_dir(&path).map(|()| Outcome::Done),
            Operation::List { path } => {
                let names = self.tree.list(&path)?;
                Ok(Outcome::Entries(names.into_iter().map(|(name, is_dir)| Entry { name, is_dir }).collect()))
            }
            Operation::LookAt { path } => {
                let file = self.tree.file(&path)?;
                let bytes = self.tree.content(file).bytes() as u64;
                Ok(Outcome::Meta(Meta { bytes, modified_ms: *self.tree.modified_ms(file) }))
            }
            Operation::Space { path } => {
                self.tree.find(&path)?;
                Ok(Outcome::Space(Space { free_bytes: self.free_bytes(), total_bytes: self.capacity_bytes }))
            }
        }
    }

    fn open(&mut self, path: PathBuf, how: Open) -> io::Result<File> {
        let node = match how {
            Open::Existing | Open::Reading | Open::Segment => self.tree.file(&path)?,
            Open::Empty => {
                let node = self.tree.file_or_new(&path, self.now_ms)?;
                if self.tree.content(node).bytes() > 0 {
                    self.tree.content(node).truncate(0);
                }
                node
            }
        };
        Ok(File::new(path, Handle { node, opened_after_cuts: self.cuts, is_segment: how == Open::Segment }))
    }

    /// The node of a file whose length may change.
    fn growing(&self, file: &File) -> io::Result<NodeId> {
        match file.handle::<Handle>().is_segment {
            true => Err(segment::length_is_fixed(file.path())),
            false => self.node(file),
        }
    }

    fn free_bytes(&mut self) -> u64 {
        self.capacity_bytes.saturating_sub(self.tree.bytes_named())
    }

    /// Whether a file may become so long.
    fn find_room(&mut self, node: NodeId, bytes: u64) -> io::Result<()> {
        let more = bytes.saturating_sub(self.tree.content(node).bytes() as u64);
        match more > 0 && more > self.free_bytes() {
            true => Err(Errno::NOSPC.into()),
            false => Ok(()),
        }
    }

    fn node(&self, file: &File) -> io::Result<NodeId> {
        let handle: &Handle = file.handle();
        match handle.opened_after_cuts == self.cuts {
            true => Ok(handle.node),
            false => Err(io::Error::other("this file was opened before the last power cut")),
        }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}
