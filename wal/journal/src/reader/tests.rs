//! What a run of records costs, and what of it is kept for how long.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;

use disk::{Disk, Files, Operation};

use super::*;
use crate::config::Config;
use crate::journal::{Journal, random};
use crate::limits::TABLES_KEPT_MAX;
use crate::record::{Group, Record};
use crate::waiter::Waiter;

const RECORDS_PER_BLOCK: u32 = 4;
const BLOCKS: usize = TABLES_KEPT_MAX + 4;

/// Blocks of a journal in several segments, and what reads them.
struct Scene {
    reader: Reader,
    /// The first record of each.
    blocks: Vec<Place>,
    found: BTreeMap<(u64, u32, u32), Entry>,
    reads: Arc<AtomicU64>,
    /// This segment is let go when so many more reads were begun.
    leaves: Arc<Mutex<Option<(u64, u64)>>>,
    _journal: Journal,
    _dir: tempfile::TempDir,
}

fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let reads: Arc<AtomicU64> = Arc::default();
    let leaves: Arc<Mutex<Option<(u64, u64)>>> = Arc::default();
    let core: Arc<OnceLock<Arc<Core>>> = Arc::default();
    let (ours, counted, left, known) =
        (thread::current().id(), Arc::clone(&reads), Arc::clone(&leaves), Arc::clone(&core));
    // The journal's own threads read what they like.
    let before = move |operation: &Operation| {
        if let (Operation::Read { .. }, true) = (operation, thread::current().id() == ours) {
            counted.fetch_add(1, Ordering::Relaxed);
            let mut leaves = left.lock().unwrap();
            *leaves = match *leaves {
                Some((segment, 0)) => {
                    known.get().unwrap().table().live.remove(&segment);
                    None
                }
                later => later.map(|(segment, reads)| (segment, reads - 1)),
            };
        }
        Ok(())
    };
    let disk: Arc<dyn Disk> = Arc::new(Files::start(before, || {}, || {}).unwrap());
    let (segment_bytes_first, segment_bytes_max) = (64 << 10, 64 << 10);
    let new = Config::new(dir.path().join("journal"), "node-1");
    let config = Config { segment_bytes_first, segment_bytes_max, reserve_bytes: 0, ..new };
    let (idle, _) = Journal::recover(config, disk, random()).unwrap();
    let journal = idle.start(|| {}, |_| {}).unwrap();
    let (ring, rang) = mpsc::channel();
    let waiter = Waiter::new(move || ring.send(()).unwrap());
    for block in 0..BLOCKS {
        // Lengths of their own, so that no body lies where another's would.
        let records = (0..RECORDS_PER_BLOCK).map(|index| {
            let body = vec![block as u8; 1_000 + 37 * index as usize + block];
            Record::new(1, 1, u64::from(index), body)
        });
        journal.append(Group::new(records).unwrap(), block as u64, &waiter).unwrap();
        rang.recv().unwrap();
    }
    let mut reader = journal.reader();
    core.set(Arc::clone(&reader.core)).ok().unwrap();
    let mut found = BTreeMap::new();
    let mut keep = |entry: Entry| {
        let Place { segment, block, index } = entry.place;
        found.insert((segment, block, index), entry);
    };
    assert_eq!(reader.scan(0, &mut keep).unwrap(), []);
    let blocks: Vec<Place> = found.values().map(|entry| entry.place).filter(|place| place.index == 0).collect();
    assert_eq!(blocks.len(), BLOCKS, "each group was committed alone");
    assert!(blocks[0].segment < blocks[BLOCKS - 1].segment);
    Scene { reader, blocks, found, reads, leaves, _journal: journal, _dir: dir }
}

impl Scene {
    /// Reads a run, checks that it is what a scan finds there, and says how many reads it took.
    fn reads_of(&mut self, block: usize, index: u32, count: u32) -> u64 {
        let place = Place { index, ..self.blocks[block] };
        let before = self.reads.load(Ordering::Relaxed);
        let entries = self.reader.read_run(place, count).unwrap();
        let entries: Vec<Entry> = entries.into_iter().map(Result::unwrap).collect();
        let end = index.saturating_add(count).min(RECORDS_PER_BLOCK);
        let wanted = (index..end).map(|index| self.found[&(place.segment, place.block, index)].clone());
        assert_eq!(entries, wanted.collect::<Vec<_>>(), "block {block}, {count} from {index} on");
        self.reads.load(Ordering::Relaxed) - before
    }

    fn knows(&mut self, block: usize) -> bool {
        let place = self.blocks[block];
        self.reader.tables.knows(place.segment, place.block)
    }
}

#[test]
fn a_run_of_a_block_whose_table_was_read_costs_one_read() {
    let mut scene = scene();
    for (what, block, index, count, reads) in [
        ("header, table, bodies", 0, 0, 2, 3),
        ("the records behind them", 0, 2, 1, 1),
        ("the same again", 0, 0, 2, 1),
        ("all of them", 0, 0, RECORDS_PER_BLOCK, 1),
        ("another block", 1, 3, 1, 3),
        ("and back", 0, 1, 2, 1),
        ("more than there are", 1, 1, u32::MAX, 1),
        ("none there", 1, RECORDS_PER_BLOCK, 1, 0),
        ("none there, of a block that is not known", 2, u32::MAX, 1, 2),
        ("none wanted", 2, 1, 0, 0),
        ("of another segment", BLOCKS - 1, 0, 1, 3),
        ("and again", BLOCKS - 1, 1, 1, 1),
    ] {
        assert_eq!(scene.reads_of(block, index, count), reads, "{what}");
    }
}

#[test]
fn so_many_tables_are_kept_and_the_one_that_was_not_used_for_longest_goes() {
    let mut scene = scene();
    for block in 0..TABLES_KEPT_MAX {
        assert_eq!(scene.reads_of(block, 0, 1), 3);
    }
    assert_eq!(scene.reads_of(0, 1, 1), 1, "the first is still known, and used again");
    assert_eq!(scene.reads_of(TABLES_KEPT_MAX, 0, 1), 3, "one more than are kept");
    assert!((0..=TABLES_KEPT_MAX).map(|block| scene.knows(block)).eq((0..=TABLES_KEPT_MAX).map(|block| block != 1)));
    assert_eq!((scene.reads_of(0, 2, 1), scene.reads_of(1, 2, 1)), (1, 3));
}

#[test]
fn the_run_of_a_segment_that_is_gone_is_gone_and_its_tables_and_handle_are_dropped_and_no_others() {
    for (when, reads_until) in [("before", None), ("while its table is read", Some(1)), ("with its bodies", Some(2))] {
        let mut scene = scene();
        let (leaving, staying) = (scene.blocks[0], scene.blocks[BLOCKS - 1]);
        // While it leaves, the block that is read is not known yet; its neighbour is.
        for block in [1, BLOCKS - 1] {
            scene.reads_of(block, 0, 1);
        }
        assert!(scene.knows(1) && scene.reader.files.contains_key(&leaving.segment));
        assert_eq!(scene.blocks[1].segment, leaving.segment);
        match reads_until {
            None => drop(scene.reader.core.table().live.remove(&leaving.segment)),
            Some(reads) => *scene.leaves.lock().unwrap() = Some((leaving.segment, reads)),
        }
        let run = scene.reader.read_run(leaving, 1);
        assert!(matches!(run, Err(ReadError::Gone { segment }) if segment == leaving.segment), "{when}: {run:?}");
        assert!(!scene.knows(0) && !scene.knows(1), "{when}");
        assert!(!scene.reader.files.contains_key(&leaving.segment), "{when}");
        assert!(scene.knows(BLOCKS - 1) && scene.reader.files.contains_key(&staying.segment), "{when}");
    }
}
