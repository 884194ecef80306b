//! What reading may keep in memory, and who lets go first.
//!
//! Everything is charged to its tenant and this shard: fetched and decompressed records, records handed out, the bodies
//! of answers. What has arrived cannot be refused, so each step looks at what is left before it asks for more:
//!
//! | What | May use |
//! |---|---|
//! | records fetched ahead | half of what its tenant may have; of a shard's share for reading, all but room for answers |
//! | an answer | what is left of the tenant's and the reading's share |
//! | a compressed batch | as an answer, for the size it is guessed to have |
//!
//! Whoever has nothing and polls always gets a little ([`FETCH_BYTES_MIN`], [`ANSWER_BYTES_MIN`], one batch at a time in the
//! whole shard), so that full memory slows reading down and never stops it. Groups that nobody polls at present keep what
//! they have fetched ahead until somebody else needs the memory; the one that rests longest lets go first.

use crate::env::Env;
use crate::limits::READING;
use crate::subscribe::limits::ANSWER_BYTES_MIN;
use foldhash::HashMap;
use kafka_client::group::Turn;
use kafka_client::group::limits::FETCH_BYTES_MIN;
use runtime::budget::Reservation;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Instant;

/// What one subscription may use now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Records fetched ahead, those it holds included.
    pub ahead: usize,
    /// Of one answer after the other, until they are written.
    pub answers: usize,
}

impl Room {
    /// Of a shard that has nothing else to do.
    #[cfg(test)]
    pub const ALL: Room = Room { ahead: usize::MAX, answers: usize::MAX };
}

/// Who rests since when: of one tenant, or of all.
type Resting = BTreeSet<(Instant, usize)>;

/// The reading's share of a shard's memory budget. One per shard.
#[derive(Default)]
pub struct Memory {
    of_all: RefCell<Resting>,
    of_tenant: RefCell<HashMap<u32, Resting>>,
    /// The subscription that opens a batch though there is no room for it.
    overdrawn: Cell<Option<usize>>,
}

/// Memory that reading keeps already.
pub fn charge(env: &Env, tenant: u32, bytes: usize) -> Reservation {
    env.budget.charge(tenant, READING, bytes)
}

/// For a tenant's records fetched ahead: half of its share is left for answers and publishes.
fn ahead_of_tenant(env: &Env, tenant: u32) -> usize {
    (env.budget.limits().tenant_bytes_max / 2).saturating_sub(env.budget.tenant_used_bytes(tenant))
}

/// For all records fetched ahead: so much is left that a tenant can be answered.
pub fn ahead_of_shard(env: &Env) -> usize {
    let limits = env.budget.limits();
    let reading = limits.cluster_bytes_max.saturating_sub(env.budget.cluster_used_bytes(READING));
    let shard = limits.total_bytes_max.saturating_sub(env.budget.used_bytes());
    reading.min(shard).saturating_sub(limits.tenant_bytes_max / 2)
}

impl Memory {
    /// What a subscription that holds `held` bytes may use; `is_live`: somebody polls it. Only then it fetches ahead: one
    /// that let go of its records would fetch them again otherwise.
    pub fn room(env: &Env, tenant: u32, held: usize, is_live: bool) -> Room {
        let more = ahead_of_tenant(env, tenant).min(ahead_of_shard(env));
        let ahead = match is_live {
            true if held == 0 => more.max(FETCH_BYTES_MIN),
            true => held + more,
            false => 0,
        };
        Room { ahead, answers: env.budget.room(tenant, READING) }
    }

    /// What it may decompress in this turn.
    pub fn turn(&self, index: usize, bytes_left: usize, room: Room) -> Turn {
        let is_overdrawn = self.overdrawn.get() == Some(index);
        Turn::new(bytes_left, if is_overdrawn { usize::MAX } else { room.answers })
    }

    /// It had no room to open a batch: one at a time may all the same.
    pub fn overdraw(&self, index: usize) {
        if self.overdrawn.get().is_none() {
            self.overdrawn.set(Some(index));
        }
    }

    /// It has read the batch it opened.
    pub fn settled(&self, index: usize) {
        if self.overdrawn.get() == Some(index) {
            self.overdrawn.set(None);
        }
    }

    /// Nobody polls it since then, or (`None`) it holds nothing, or is polled.
    pub fn rest(&self, index: usize, tenant: u32, before: Option<Instant>, since: Option<Instant>) {
        if before == since {
            return;
        }
        let (of_all, of_tenant) = (&mut *self.of_all.borrow_mut(), &mut *self.of_tenant.borrow_mut());
        let resting = of_tenant.entry(tenant).or_default();
        if let Some(before) = before {
            of_all.remove(&(before, index));
            resting.remove(&(before, index));
        }
        if let Some(since) = since {
            of_all.insert((since, index));
            resting.insert((since, index));
        }
        if resting.is_empty() {
            of_tenant.remove(&tenant);
        }
    }

    /// Whoever should let go so that this tenant gets more than a little: of its own when its share is what runs out.
    pub fn to_let_go(&self, env: &Env, tenant: u32) -> Option<usize> {
        let longest = |resting: &Resting| resting.first().map(|(_, index)| *index);
        if ahead_of_tenant(env, tenant) < FETCH_BYTES_MIN {
            return self.of_tenant.borrow().get(&tenant).and_then(longest);
        }
        if ahead_of_shard(env) < FETCH_BYTES_MIN { longest(&self.of_all.borrow()) } else { None }
    }
}

/// Of an answer, when there is room for so much: a little always.
pub fn answer_room(room: usize) -> usize {
    room.max(ANSWER_BYTES_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GatewayConfig;
    use std::time::Duration;

    /// One shard with 64 MiB: a tenant may hold 16 MiB, reading 32 MiB.
    fn env() -> Env {
        Env::of_nobody(GatewayConfig { shard_count: 1, memory_bytes: 64 << 20, ..GatewayConfig::default() })
    }

    const MIB: usize = 1 << 20;

    #[test]
    fn fetching_ahead_leaves_room_for_answers_and_a_little_is_always_there_for_who_polls() {
        let env = env();
        // What others of the tenant, other readers and publishes hold; what a subscription with so much may use.
        let room = |tenant: usize, reading: usize, publishing: usize, held: usize, is_live| {
            let _charged = [charge(&env, 1, tenant), charge(&env, 2, reading)];
            let _publishes = env.budget.charge(3, 0, publishing);
            let room = Memory::room(&env, 1, held, is_live);
            (room.ahead, room.answers)
        };
        for (what, found, expected) in [
            ("all is free", room(0, 0, 0, 0, true), (8 * MIB, 16 * MIB)),
            ("nobody polls", room(0, 0, 0, 0, false), (0, 16 * MIB)),
            ("nobody polls what it has", room(3 * MIB, 0, 0, 3 * MIB, false), (0, 13 * MIB)),
            ("it holds a part", room(3 * MIB, 0, 0, 3 * MIB, true), (8 * MIB, 13 * MIB)),
            ("its tenant has enough", room(8 * MIB, 0, 0, MIB, true), (MIB, 8 * MIB)),
            ("its tenant has enough, it has nothing", room(9 * MIB, 0, 0, 0, true), (FETCH_BYTES_MIN, 7 * MIB)),
            ("others read", room(0, 22 * MIB, 0, 0, true), (2 * MIB, 10 * MIB)),
            ("others read a lot", room(0, 40 * MIB, 0, 0, true), (FETCH_BYTES_MIN, 0)),
            ("others publish", room(0, 0, 62 * MIB, 0, true), (FETCH_BYTES_MIN, 2 * MIB)),
        ] {
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn who_rests_longest_lets_go_first_of_the_tenant_that_has_too_much_or_of_all() {
        let (env, memory, start) = (env(), Memory::default(), Instant::now());
        let since = |seconds| Some(start + Duration::from_secs(seconds));
        for (index, tenant, seconds) in [(10, 1, 3), (11, 1, 1), (20, 2, 0), (21, 2, 2)] {
            memory.rest(index, tenant, None, since(seconds));
        }
        assert_eq!(memory.to_let_go(&env, 1), None, "there is room");
        let of_one = charge(&env, 1, 9 * MIB);
        assert_eq!((memory.to_let_go(&env, 1), memory.to_let_go(&env, 2)), (Some(11), None));
        memory.rest(11, 1, since(1), None);
        assert_eq!(memory.to_let_go(&env, 1), Some(10));
        memory.rest(10, 1, since(3), None);
        assert_eq!(memory.to_let_go(&env, 1), None, "nobody of that tenant");
        drop(of_one);
        let _of_others = [charge(&env, 3, 30 * MIB)];
        assert_eq!((memory.to_let_go(&env, 1), memory.to_let_go(&env, 2)), (Some(20), Some(20)));
        memory.rest(20, 2, since(0), since(5));
        assert_eq!(memory.to_let_go(&env, 1), Some(21));
    }

    #[test]
    fn one_subscription_at_a_time_opens_a_batch_without_room() {
        let memory = Memory::default();
        let spent = Room { ahead: 0, answers: 0 };
        let rooms = |memory: &Memory| [1, 2].map(|index| memory.turn(index, 0, spent).room);
        assert_eq!(rooms(&memory), [0, 0]);
        memory.overdraw(1);
        memory.overdraw(2);
        assert_eq!(rooms(&memory), [usize::MAX, 0]);
        memory.settled(2);
        assert_eq!(rooms(&memory), [usize::MAX, 0], "it is not its batch");
        memory.settled(1);
        memory.overdraw(2);
        assert_eq!(rooms(&memory), [0, usize::MAX]);
    }
}
