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
    let mut nodes = Vec::new();
    let mut offset = BLOCKS_BEGIN as usize;
    while offset < bytes.len() {
        let (node, next) = node_at(bytes, header, offset);
        nodes.extend(node);
        offset = next;
    }
    nodes
}

/// One step of [`nodes`], for who has other things to do in between: the block at `offset`, if there is one, and where the
/// next may begin.
pub fn node_at(bytes: &[u8], header: &SegmentHeader, offset: usize) -> (Option<Node>, usize) {
    let Ok(block) = Block::decode(&bytes[offset..], header.key(), offset as u64) else {
        return (None, offset + PAGE_BYTES);
    };
    let is_bad = |(lsn, row, begin): (u64, _, usize)| (!block.body_is_good(&row, begin)).then_some(lsn);
    let bad: Vec<u64> = block.records().filter_map(is_bad).collect();
    let end = offset + pages(block.length());
    // In a block that is not whole there may begin another one: it may be a left-over that was written over.
    let next = if bad.is_empty() { end } else { offset + PAGE_BYTES };
    let first_lsn = block.header.first_lsn;
    let node = Node {
        offset: offset as u64,
        end: end as u64,
        first_lsn,
        next_lsn: first_lsn + u64::from(block.record_count),
        durable_lsn: block.header.durable_lsn,
        previous_hash: block.header.previous_hash,
        hash: block.hash,
        bad,
    };
    (Some(node), next)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::segment::End;

    fn header() -> SegmentHeader {
        let previous = End::default();
        SegmentHeader {
            salt: [1; 16],
            journal: [2; 16],
            number: 1,
            first_lsn: 0,
            length: 1 << 20,
            previous,
            created_ms: 0,
        }
    }

    /// A block of one page: where, its hash and its parent's, lsns, what was durable.
    fn node(page: u64, hash: u64, previous_hash: u64, lsns: (u64, u64), durable_lsn: u64) -> Node {
        let (offset, (first_lsn, next_lsn)) = (page * PAGE_BYTES as u64, lsns);
        let end = offset + PAGE_BYTES as u64;
        Node { offset, end, first_lsn, next_lsn, durable_lsn, previous_hash, hash, bad: Vec::new() }
    }

    /// What is believed, by hash, and which lsns are lost.
    fn check(nodes: Vec<Node>, witnesses: &[Witness], durable_lsn: u64, believed: &[u64], lost: &[(u64, u64)]) {
        let verdict = judge(&header(), nodes, witnesses, durable_lsn, 1 << 20);
        assert_eq!(verdict.believed.iter().map(|node| node.hash).collect::<Vec<_>>(), believed);
        assert_eq!(verdict.gaps.iter().map(|gap| (gap.from_lsn, gap.to_lsn)).collect::<Vec<_>>(), lost);
    }

    #[test]
    fn a_left_over_that_is_chained_to_what_was_written_over_is_not_believed() {
        let root = header().hash();
        // 11 was written, refused, and its place taken by 1; 12 was chained to 11, and is longer than what came after 1.
        let left_over = node(2, 12, 11, (1, 2), 0);
        check(vec![node(1, 1, root, (0, 1), 0), left_over.clone()], &[], 0, &[1], &[]);
        // Nor when 1 is rotten and 3 says so.
        let third = node(3, 3, 1, (1, 2), 1);
        check(vec![left_over, third], &[], 0, &[3], &[(0, 1)]);
    }

    #[test]
    fn what_is_missing_is_rot_when_somebody_says_that_it_was_durable_and_else_a_torn_tail() {
        let root = header().hash();
        let [a, b, c] = [node(1, 1, root, (0, 2), 0), node(2, 2, 1, (2, 4), 0), node(3, 3, 2, (4, 6), 0)];
        let told = node(4, 4, 3, (6, 7), 6);
        let mark = node(4, 4, 3, (6, 6), 6);
        check(vec![a.clone(), c.clone()], &[], 0, &[1], &[]);
        check(vec![a.clone(), c.clone(), told], &[], 0, &[1, 3, 4], &[(2, 4)]);
        check(vec![a.clone(), c.clone(), mark.clone()], &[], 0, &[1, 3, 4], &[(2, 4)]);
        check(vec![a.clone(), mark], &[], 0, &[1, 4], &[(2, 6)]);
        check(vec![a.clone(), c], &[Witness { hash: 3, lsn: 6 }], 6, &[1, 3], &[(2, 4)]);
        check(vec![a.clone(), b.clone()], &[Witness { hash: 3, lsn: 6 }], 6, &[1, 2], &[(4, 6)]);
        let rotten = Node { bad: vec![3], ..b };
        check(vec![a.clone(), rotten.clone()], &[], 0, &[1], &[]);
        check(vec![a, rotten], &[], 4, &[1, 2], &[(3, 4)]);
    }

    #[test]
    fn a_rotten_mark_does_not_take_the_commit_behind_it_along() {
        let root = header().hash();
        check(vec![node(1, 1, root, (0, 2), 0), node(3, 3, 2, (2, 3), 2)], &[], 0, &[1, 3], &[]);
    }

    #[test]
    fn any_order_of_any_blocks_is_judged_without_believing_an_lsn_twice() {
        let root = header().hash();
        let chain: Vec<Node> =
            (0..5).map(|n| node(n + 1, n + 1, if n == 0 { root } else { n }, (n, n + 1), n)).collect();
        let mut dice = disk::Chance::new(3);
        for _ in 0..2_000 {
            let mut nodes: Vec<Node> = (0..6).map(|_| chain[dice.below(5)].clone()).collect();
            for (page, node) in nodes.iter_mut().enumerate() {
                let offset = (page as u64 + 1) * PAGE_BYTES as u64;
                (node.offset, node.end) = (offset, offset + PAGE_BYTES as u64);
            }
            let verdict = judge(&header(), nodes, &[], 0, 1 << 20);
            assert!(verdict.believed.is_sorted_by(|a, b| a.next_lsn <= b.first_lsn));
        }
    }
}
