//! What became of every job, in two bits.
//!
//! A page is 16,384 jobs by number, 4 KiB. A hundred million pending jobs cost 25 MB. Old pages where all came to an end are
//! forgotten, and of those where few wait only these are kept, so that one job that is due in a year does not keep its page.
//!
//! Pages are shared with snapshots and copied when they change after one was taken: a checkpoint costs whoever holds the lock a
//! list of pointers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits::{PAGES_REMEMBERED_MAX, SPARSE_MAX};

const JOBS: u64 = 1 << 14;
const BYTES: usize = (JOBS / 4) as usize;

/// What a job's two bits say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There never was one with this number, or it is forgotten that it came to an end.
    Unknown,
    Pending,
    Fired,
    /// Deleted, or dropped after it was parked: it never fires.
    Deleted,
}

impl State {
    fn of(bits: u8) -> State {
        match bits & 3 {
            0 => State::Unknown,
            1 => State::Pending,
            2 => State::Fired,
            _ => State::Deleted,
        }
    }
}

/// See the module. Clones are snapshots.
#[derive(Clone, Debug, Default)]
pub struct States {
    pages: BTreeMap<u64, Page>,
    pending: u64,
}

#[derive(Clone, Debug)]
enum Page {
    Dense(Arc<Dense>),
    /// Only those that are pending, ascending.
    Sparse(Arc<Vec<u16>>),
}

#[derive(Clone, Debug)]
struct Dense {
    pending: u32,
    bits: [u8; BYTES],
}

impl Dense {
    fn get(&self, at: u64) -> State {
        State::of(self.bits[(at / 4) as usize] >> (at % 4 * 2))
    }

    fn set(&mut self, at: u64, state: State) {
        let (byte, shift) = ((at / 4) as usize, at % 4 * 2);
        self.bits[byte] = self.bits[byte] & !(3 << shift) | (state as u8) << shift;
    }
}

impl Page {
    fn empty() -> Page {
        Page::Dense(Arc::new(Dense { pending: 0, bits: [0; BYTES] }))
    }

    fn get(&self, at: u64) -> State {
        match self {
            Page::Dense(dense) => dense.get(at),
            Page::Sparse(pending) => match pending.binary_search(&(at as u16)) {
                Ok(_) => State::Pending,
                Err(_) => State::Unknown,
            },
        }
    }

    fn pending(&self) -> u64 {
        match self {
            Page::Dense(dense) => u64::from(dense.pending),
            Page::Sparse(pending) => pending.len() as u64,
        }
    }
}

impl States {
    pub fn get(&self, seq: u64) -> State {
        self.pages.get(&(seq / JOBS)).map_or(State::Unknown, |page| page.get(seq % JOBS))
    }

    pub fn is_pending(&self, seq: u64) -> bool {
        self.get(seq) == State::Pending
    }

    /// All that are.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    pub fn pages(&self) -> usize {
        self.pages.len()
    }

    pub fn set(&mut self, seq: u64, state: State) {
        let (number, at) = (seq / JOBS, seq % JOBS);
        if state == State::Unknown && !self.pages.contains_key(&number) {
            return;
        }
        let page = self.pages.entry(number).or_insert_with(Page::empty);
        let before = page.get(at);
        if before == state {
            return;
        }
        match page {
            Page::Dense(dense) => {
                let dense = Arc::make_mut(dense);
                dense.set(at, state);
                dense.pending += u32::from(state == State::Pending);
                dense.pending -= u32::from(before == State::Pending);
            }
            Page::Sparse(pending) => {
                let pending = Arc::make_mut(pending);
                match (pending.binary_search(&(at as u16)), state) {
                    (Err(at_index), State::Pending) => pending.insert(at_index, at as u16),
                    (Ok(at_index), _) => drop(pending.remove(at_index)),
                    (Err(_), _) => {}
                }
            }
        }
        self.pending += u64::from(state == State::Pending);
        self.pending -= u64::from(before == State::Pending);
        let is_gone = matches!(page, Page::Sparse(pending) if pending.is_empty());
        if is_gone {
            self.pages.remove(&number);
        }
    }

    /// Forgets ends that are older than the last [`PAGES_REMEMBERED_MAX`] pages.
    pub fn forget(&mut self) {
        let Some((newest, _)) = self.pages.last_key_value() else { return };
        let old = newest.saturating_sub(PAGES_REMEMBERED_MAX);
        let mut gone = Vec::new();
        for (number, page) in self.pages.range_mut(..old) {
            let Page::Dense(dense) = page else { continue };
            match dense.pending {
                0 => gone.push(*number),
                few if few as usize <= SPARSE_MAX => {
                    let pending = (0..JOBS).filter(|at| dense.get(*at) == State::Pending).map(|at| at as u16);
                    *page = Page::Sparse(Arc::new(pending.collect()));
                }
                _ => {}
            }
        }
        gone.iter().for_each(|number| drop(self.pages.remove(number)));
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        let of = |page: &Page| match page {
            Page::Dense(_) => BYTES + 48,
            Page::Sparse(pending) => pending.len() * 2 + 80,
        };
        self.pages.values().map(of).sum()
    }

    /// Every pending number, ascending.
    pub fn all_pending(&self) -> impl Iterator<Item = u64> {
        let of = |(number, page): (&u64, &Page)| {
            let (number, page) = (*number, page.clone());
            (0..JOBS).filter(move |at| page.get(*at) == State::Pending).map(move |at| number * JOBS + at)
        };
        self.pages.iter().flat_map(of)
    }
}

/// A page on the disk: its number u64, and how it is coded u8: 0 one byte that is all of them; 1 all bytes; 2 count u16 and
/// the pending ones, u16 each. Before the pages: their count u64.
const SAME: u8 = 0;
const ALL: u8 = 1;
const FEW: u8 = 2;

impl States {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.pages.len() as u64).to_le_bytes());
        for (number, page) in &self.pages {
            out.extend_from_slice(&number.to_le_bytes());
            match page {
                Page::Dense(dense) if dense.bits.iter().all(|byte| *byte == dense.bits[0]) => {
                    out.extend_from_slice(&[SAME, dense.bits[0]]);
                }
                Page::Dense(dense) => {
                    out.push(ALL);
                    out.extend_from_slice(&dense.bits);
                }
                Page::Sparse(pending) => {
                    out.push(FEW);
                    out.extend_from_slice(&(pending.len() as u16).to_le_bytes());
                    pending.iter().for_each(|at| out.extend_from_slice(&at.to_le_bytes()));
                }
            }
        }
    }

    /// `None`: these bytes are none of ours.
    pub fn decode(mut bytes: &[u8]) -> Option<States> {
        let mut states = States::default();
        let count = u64::from_le_bytes(take(&mut bytes)?);
        let mut last = None;
        for _ in 0..count {
            let number = u64::from_le_bytes(take(&mut bytes)?);
            if last.is_some_and(|last| last >= number) {
                return None;
            }
            last = Some(number);
            let [how] = take(&mut bytes)?;
            let page = match how {
                SAME => {
                    let [byte] = take(&mut bytes)?;
                    dense([byte; BYTES])
                }
                ALL => dense(take(&mut bytes)?),
                FEW => {
                    let count = u16::from_le_bytes(take(&mut bytes)?);
                    let mut pending = Vec::with_capacity(usize::from(count));
                    for _ in 0..count {
                        let at = u16::from_le_bytes(take(&mut bytes)?);
                        if u64::from(at) >= JOBS || pending.last().is_some_and(|last| *last >= at) {
                            return None;
                        }
                        pending.push(at);
                    }
                    Page::Sparse(Arc::new(pending))
                }
                _ => return None,
            };
            states.pending += page.pending();
            states.pages.insert(number, page);
        }
        bytes.is_empty().then_some(states)
    }
}

fn dense(bits: [u8; BYTES]) -> Page {
    // Of each pair of bits, those that are 01.
    let pending = bits.iter().map(|byte| (byte & !(byte >> 1) & 0x55).count_ones()).sum();
    Page::Dense(Arc::new(Dense { pending, bits }))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = bytes.split_first_chunk::<N>()?;
    *bytes = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use disk::Chance;

    use super::*;

    #[test]
    fn states_are_what_a_map_would_say_through_forgetting_and_a_file() {
        for seed in 0..20 {
            let mut chance = Chance::new(seed);
            let (mut states, mut twin) = (States::default(), BTreeMap::new());
            let mut snapshot = None;
            for step in 0..4_000 {
                // Numbers grow, and some old ones change.
                let seq = match chance.below(3) {
                    0 => chance.below(step * 200 + 1) as u64,
                    _ => (step * 200 + chance.below(200)) as u64,
                };
                let state = [State::Pending, State::Pending, State::Fired, State::Deleted][chance.below(4)];
                // Only what waits comes to an end.
                let was_pending = twin.get(&seq) == Some(&State::Pending);
                if was_pending || state == State::Pending && !twin.contains_key(&seq) {
                    states.set(seq, state);
                    twin.insert(seq, state);
                }
                if step % 500 == 250 {
                    states.forget();
                }
                if step == 2_000 {
                    snapshot = Some((states.clone(), twin.clone()));
                }
                if step % 1_000 == 999 {
                    let mut bytes = Vec::new();
                    states.encode(&mut bytes);
                    states = States::decode(&bytes).expect("it was encoded a moment ago");
                    assert!(States::decode(&bytes[..bytes.len() - 1]).is_none());
                }
            }
            let (then, twin_then) = snapshot.expect("taken on the way");
            for (states, twin) in [(then, twin_then), (states, twin)] {
                let pending: Vec<u64> =
                    twin.iter().filter(|(_, state)| **state == State::Pending).map(|(seq, _)| *seq).collect();
                assert_eq!(states.pending(), pending.len() as u64, "seed {seed}");
                assert!(states.all_pending().eq(pending), "seed {seed}");
                for (seq, state) in &twin {
                    let is = states.get(*seq);
                    let is_forgotten = is == State::Unknown && *state != State::Pending;
                    assert!(is == *state || is_forgotten, "seed {seed}: {seq} is {is:?}, not {state:?}");
                }
            }
        }
    }

    #[test]
    fn a_hundred_million_that_wait_take_25_mb_and_those_that_are_over_go() {
        let mut states = States::default();
        // One page in a hundred, so that the test is quick.
        for page in 0..6_104_u64 {
            for at in (0..JOBS).step_by(1 << 13) {
                states.set(page * JOBS + at, State::Pending);
            }
        }
        assert!(states.bytes() < 26 << 20, "{} bytes", states.bytes());
        for page in 0..6_104_u64 {
            states.set(page * JOBS, State::Fired);
        }
        states.forget();
        assert!(states.bytes() < 10 << 20, "{} bytes with one that waits of each page", states.bytes());
        assert_eq!(states.pending(), 6_104);
        for page in 0..6_104_u64 {
            states.set(page * JOBS + (1 << 13), State::Deleted);
        }
        states.forget();
        assert!(states.pages() as u64 <= PAGES_REMEMBERED_MAX + 1, "{} pages", states.pages());
        assert_eq!(states.get(0), State::Unknown, "it is forgotten what became of old ones");
    }
}
