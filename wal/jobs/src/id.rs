//! A job's number as its owner sees it: which node has it, which job, and that it was given out.
//!
//! | bits, from the highest | |
//! |---|---|
//! | 0, 1 | so that it is positive and always has 19 digits |
//! | 10 | number of the node |
//! | 44 | number of the job |
//! | 8 | of a hash over all else and the job's queue, keyed with the store's own id, which nobody is told |
//!
//! With the hash nobody walks along the ids of others, and it is known whose a job was that is over. Whose one is that waits, is
//! asked of the job.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use crate::limits::SEQ_MAX;

/// Nodes have a number below this.
pub const NODES: u16 = 1 << 10;

/// The number of a node in ids. Two may have the same: whose a job is then, each of them says of itself.
pub fn node_number(node: &str) -> u16 {
    crc32c::crc32c(node.as_bytes()) as u16 & (NODES - 1)
}

const SEQ_BITS: u32 = 44;
const TAG_BITS: u32 = 8;
const _: () = assert!(SEQ_MAX == (1 << SEQ_BITS) - 1);
/// Bits that are the same in all.
const MARK: u64 = 1 << 62;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobId(u64);

impl JobId {
    /// `None`: it cannot be one.
    pub fn parse(text: &str) -> Option<JobId> {
        let is_plain = (18..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        let id = text.parse::<u64>().ok().filter(|_| is_plain)?;
        (id >> 62 == 1).then_some(JobId(id))
    }

    pub fn node(self) -> u16 {
        (self.0 >> (SEQ_BITS + TAG_BITS)) as u16 & (NODES - 1)
    }

    /// All of it; below 2^63.
    pub fn number(self) -> u64 {
        self.0
    }

    pub fn seq(self) -> u64 {
        self.0 >> TAG_BITS & SEQ_MAX
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who gives ids out.
#[derive(Clone, Copy)]
pub struct Issuer {
    node: u16,
    key: [u8; 16],
}

impl Issuer {
    /// `key`: the store's own id.
    pub fn new(node: u16, key: [u8; 16]) -> Issuer {
        assert!(node < NODES, "node {node} of {NODES}");
        Issuer { node, key }
    }

    pub fn node(&self) -> u16 {
        self.node
    }

    pub fn issue(&self, queue: u32, seq: u64) -> JobId {
        let id = MARK | u64::from(self.node) << (SEQ_BITS + TAG_BITS) | (seq & SEQ_MAX) << TAG_BITS;
        JobId(id | self.tag(queue, id))
    }

    /// Whether this store gave it out for a job of that queue, or may yet.
    pub fn is_genuine(&self, queue: u32, id: JobId) -> bool {
        id.node() == self.node && self.issue(queue, id.seq()) == id
    }

    /// Eight bits are worth no more than a keyed hash.
    fn tag(&self, queue: u32, id: u64) -> u64 {
        let (low, high) = (u64::from_le_bytes(self.key[..8].try_into().expect("eight")), &self.key[8..]);
        let high = u64::from_le_bytes(high.try_into().expect("eight"));
        let mut hasher = foldhash::quality::FixedState::with_seed(low).build_hasher();
        hasher.write_u64(id ^ high);
        hasher.write_u64(high ^ u64::from(queue));
        hasher.finish() >> (64 - TAG_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_nineteen_digits_and_says_what_it_was_made_of() {
        for (node, seq) in [(0, 0), (0, 1), (1_023, SEQ_MAX), (7, 1 << 40)] {
            let issuer = Issuer::new(node, [9; 16]);
            let id = issuer.issue(5, seq);
            let text = id.to_string();
            assert_eq!((text.len(), JobId::parse(&text)), (19, Some(id)));
            assert_eq!((id.node(), id.seq()), (node, seq));
            assert!(issuer.is_genuine(5, id));
            assert!(text.parse::<i64>().is_ok(), "it fits where databases keep numbers");
        }
    }

    #[test]
    fn what_was_not_given_out_is_told_by_most_of_its_neighbours() {
        let issuer = Issuer::new(3, [7; 16]);
        let JobId(id) = issuer.issue(5, 1_000);
        let genuine = (1..=4_096_u64).filter(|step| issuer.is_genuine(5, JobId(id + step))).count();
        assert!(genuine <= 40, "{genuine} of 4,096 neighbours, one of 256 is expected");
        let another = Issuer::new(3, [8; 16]);
        let same = (0..1_000).filter(|seq| another.is_genuine(5, issuer.issue(5, *seq))).count();
        assert!(same < 30, "{same} of 1,000 are another store's");
        let same = (0..1_000).filter(|seq| issuer.is_genuine(6, issuer.issue(5, *seq))).count();
        assert!(same < 30, "{same} of 1,000 are another queue's");
        for text in
            ["", "0", "12345678901234567", "-4611686018427387904", "9999999999999999999", "+4611686018427387904"]
        {
            assert_eq!(JobId::parse(text), None, "{text}");
        }
    }
}
