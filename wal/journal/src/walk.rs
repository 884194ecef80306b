//! Which blocks of one segment are believed. Pure: bytes in, a verdict out.
//!
//! A break in the chain is either a torn tail, which nobody was told about, or rot of what was acknowledged. Only a later
//! witness tells the two apart: a block says how far the log was durable when it was made, and it is itself believed for that
//! when nothing acknowledged could have been written instead of it. So a witness counts for the blocks it is chained to:
//!
//! ```text
//!   A ◄── B ◄── (rot) ◄── D ◄── E      E says: durable up to D. So D counts, and what is missing before D was durable.
//!   A ◄── B ◄── (torn)    D'           D' says: durable up to what B says. Nobody was told of D': not believed.
//! ```
//!
//! Witnesses from outside are the header of the next segment and a checkpoint ([`Witness`]).

use std::collections::HashMap;

use crate::format::block::Block;
use crate::format::segment::{BLOCKS_BEGIN, SegmentHeader};
use crate::format::{PAGE_BYTES, pages};

/// Something that says: the block with this hash was the last below this lsn, and all of it was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    pub hash: u64,
    pub lsn: u64,
}

/// A block with a good header and table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub offset: u64,
    /// The next block may begin here.
    pub end: u64,
    pub first_lsn: u64,
    pub next_lsn: u64,
    pub durable_lsn: u64,
    pub previous_hash: u64,
    pub hash: u64,
    /// Lsns whose body is bad.
    pub bad: Vec<u64>,
}

impl Node {
    fn is_mark(&self) -> bool {
        self.first_lsn == self.next_lsn
    }
}

/// Lsns that were durable and are not there, and the bytes where they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub from_lsn: u64,
    pub to_lsn: u64,
    pub at: u64,
    pub bytes: u64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub believed: Vec<Node>,
    pub gaps: Vec<Gap>,
    pub next_lsn: u64,
    pub end: u64,
    pub last_hash: u64,
    /// Every record below it is known to be durable.
    pub durable_lsn: u64,
    /// There are blocks that were not believed.
    pub leftovers: bool,
}

impl Verdict {
    /// Where the log may go on in this very segment, and what the next block is chained to: when everything there is
    /// known to be durable. In the place of a trailing mark, which may be in the page cache only.
    pub fn continues(&self) -> Option<(u64, u64)> {
        match self.believed.last() {
            _ if self.leftovers || self.durable_lsn != self.next_lsn => None,
            Some(mark) if mark.is_mark() => Some((mark.offset, mark.previous_hash)),
            _ => Some((self.end, self.last_hash)),
        }
    }
}

/// All blocks of a segment, in order, wherever they begin; `bytes` is the file up to the end of what may be looked at.
pub fn nodes(bytes: &[u8], header: &SegmentHeader) -> Vec<Node> {
    let key = header.key();
    let mut nodes = Vec::new();
    let mut offset = BLOCKS_BEGIN as usize;
    while offset < bytes.len() {
        let Ok(block) = Block::decode(&bytes[offset..], key, offset as u64) else {
            offset += PAGE_BYTES;
            continue;
        };
        let is_bad = |(lsn, row, begin): (u64, _, usize)| (!block.body_is_good(&row, begin)).then_some(lsn);
        let bad: Vec<u64> = block.records().filter_map(is_bad).collect();
        let end = offset + pages(block.length());
        // In a block that is not whole there may begin another one: it may be a left-over that was written over.
        let next = if bad.is_empty() { end } else { offset + PAGE_BYTES };
        let first_lsn = block.header.first_lsn;
        nodes.push(Node {
            offset: offset as u64,
            end: end as u64,
            first_lsn,
            next_lsn: first_lsn + u64::from(block.record_count),
            durable_lsn: block.header.durable_lsn,
            previous_hash: block.header.previous_hash,
            hash: block.hash,
            bad,
        });
        offset = next;
    }
    nodes
}

/// Judges the blocks of one segment, whose `nodes` begin below `bytes`. `durable_lsn`: this segment is known to have held
/// every record below it, durably: the first lsn of the next one, or a checkpoint's.
pub fn judge(header: &SegmentHeader, nodes: Vec<Node>, witnesses: &[Witness], durable_lsn: u64, bytes: u64) -> Verdict {
    let proofs = proofs(&nodes, witnesses);
    let mut verdict = Verdict {
        believed: Vec::with_capacity(nodes.len()),
        gaps: Vec::new(),
        next_lsn: header.first_lsn,
        end: BLOCKS_BEGIN,
        last_hash: header.hash(),
        durable_lsn: durable_lsn.max(header.first_lsn),
        leftovers: false,
    };
    for (node, proof) in nodes.into_iter().zip(proofs) {
        if node.offset < verdict.end {
            continue;
        }
        let is_chained = node.previous_hash == verdict.last_hash && node.first_lsn == verdict.next_lsn;
        let is_durable = proof.max(durable_lsn) >= node.next_lsn;
        let follows_rot = node.first_lsn >= verdict.next_lsn && proof > verdict.next_lsn;
        // Only marks are missing before it: the first block of a commit says that everything before it was durable.
        // A left-over cannot say so, because what is written instead of it begins where it begins.
        let follows_rot = follows_rot || (node.first_lsn == verdict.next_lsn && node.durable_lsn == verdict.next_lsn);
        let is_whole = node.bad.is_empty();
        if !(is_chained || follows_rot) || !(is_whole || is_durable) {
            verdict.leftovers = true;
            continue;
        }
        if node.first_lsn > verdict.next_lsn {
            let (at, bytes) = (verdict.end, node.offset - verdict.end);
            verdict.gaps.push(Gap { from_lsn: verdict.next_lsn, to_lsn: node.first_lsn, at, bytes });
        }
        for lsn in &node.bad {
            let bytes = node.end - node.offset;
            verdict.gaps.push(Gap { from_lsn: *lsn, to_lsn: lsn + 1, at: node.offset, bytes });
        }
        verdict.durable_lsn = verdict.durable_lsn.max(node.durable_lsn).max(proof);
        verdict.next_lsn = node.next_lsn;
        verdict.end = node.end;
        verdict.last_hash = node.hash;
        verdict.believed.push(node);
    }
    if durable_lsn > verdict.next_lsn {
        let (at, bytes) = (verdict.end, bytes.saturating_sub(verdict.end));
        verdict.gaps.push(Gap { from_lsn: verdict.next_lsn, to_lsn: durable_lsn, at, bytes });
        verdict.next_lsn = durable_lsn;
        verdict.leftovers = true;
    }
    verdict
}

/// How much each block, or one chained to it, says was durable.
fn proofs(nodes: &[Node], witnesses: &[Witness]) -> Vec<u64> {
    let mut of_children: HashMap<u64, u64> = HashMap::new();
    for witness in witnesses {
        let proof = of_children.entry(witness.hash).or_default();
        *proof = witness.lsn.max(*proof);
    }
    let mut proofs = vec![0; nodes.len()];
    for (node, proof) in nodes.iter().zip(&mut proofs).rev() {
        *proof = node.durable_lsn.max(of_children.get(&node.hash).copied().unwrap_or(0));
        let of_parent = of_children.entry(node.previous_hash).or_default();
        *of_parent = (*of_parent).max(*proof);
    }
    proofs
}
