//! Writing and merging where the power goes, the disk is full, and anything fails, at every step.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use disk::Operation;

use super::*;

const SEEDS: u64 = 12;
const STEPS_MAX: u64 = 10_000;

/// More parts and more runs than one.
const TINY: Limits = Limits { part_bytes: 7000, block_bytes: 300, sort_entries: 20 };

fn rows(odd: bool) -> Vec<Row> {
    (1..=70).map(|n| row(n * 2 + i64::from(odd), 500 - 2 * n as u64 + u64::from(odd), 3, vec![n as u8; 50])).collect()
}

/// What is done, on a disk with two tables.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Write,
    Merge,
    Rebuild,
}

const DEEDS: [Deed; 3] = [Deed::Write, Deed::Merge, Deed::Rebuild];

struct Stage {
    disk: SimulatedDisk,
    metas: [Meta; 2],
}

impl Stage {
    fn new(seed: u64) -> Stage {
        let disk = SimulatedDisk::new(seed);
        let metas = [false, true].map(|odd| write_rows(&disk, 1 + u64::from(odd), &rows(odd), TINY).unwrap());
        Stage { disk, metas }
    }

    /// What it made, and the rows it shall have.
    fn run(&self, deed: Deed, stop: &AtomicBool) -> Result<Meta, String> {
        let disk = AtOnce(&self.disk);
        let opened = |meta: &Meta| {
            let (table, _) = at_once(Table::open(&disk, Path::new(DIR), STORE, meta)).map_err(|err| err.to_string())?;
            Ok::<Table, String>(table)
        };
        let made = match deed {
            Deed::Write => {
                let rows = Self::rows_of(deed);
                let rows = rows.iter().map(|row| RowRef { key: row.key, queue: row.queue, body: &row.body });
                at_once(write(&disk, target(9), rows, TINY, stop)).map_err(|err| err.to_string())?
            }
            Deed::Merge => {
                let tables = [opened(&self.metas[0])?, opened(&self.metas[1])?];
                let is_alive = |seq, _| seq % 3 > 0;
                let [a, b] = &tables;
                let merged = at_once(merge(&disk, target(9), &[a, b], key(20, 0), is_alive, TINY, stop));
                let merged = merged.map_err(|err| err.to_string())?;
                assert_eq!(merged.lost, []);
                merged.meta
            }
            Deed::Rebuild => {
                let table = opened(&self.metas[0])?;
                let rebuilt = at_once(table.rebuild_directory(&disk, TINY, stop)).map_err(|err| err.to_string())?;
                assert_eq!(rebuilt.1, []);
                Some(rebuilt.0)
            }
        };
        Ok(made.expect("there are rows"))
    }

    fn rows_of(deed: Deed) -> Vec<Row> {
        match deed {
            Deed::Write | Deed::Rebuild => rows(false),
            Deed::Merge => {
                let mut both = [rows(false), rows(true)].concat();
                both.retain(|row| row.key >= key(20, 0) && row.key.seq % 3 > 0);
                both.sort_by_key(|row| row.key);
                both
            }
        }
    }

    /// As its owner does at a start: all it knows is whole, everything else goes.
    fn start(&self, what: &str, made: Option<(Deed, &Meta)>) {
        let mut known = self.metas.to_vec();
        known.extend(made.filter(|(deed, _)| !matches!(deed, Deed::Rebuild)).map(|(_, meta)| meta.clone()));
        for name in unknown(&self.disk.list(Path::new(DIR)).unwrap(), &known) {
            self.disk.remove(&Path::new(DIR).join(name)).unwrap();
        }
        let mut expected: Vec<String> = known.iter().flat_map(Meta::names).collect();
        expected.sort();
        assert_eq!(names(&self.disk), expected, "{what}");
        for (meta, odd) in self.metas.iter().zip([false, true]) {
            check(&self.disk, &open(&self.disk, meta), &rows(odd));
        }
        if let Some((deed, meta)) = made {
            check(&self.disk, &open(&self.disk, meta), &Self::rows_of(deed));
        }
    }
}

#[test]
fn after_a_power_cut_at_any_step_a_table_is_whole_or_unknown() {
    for deed in DEEDS {
        let mut steps = 0;
        for seed in 0..SEEDS {
            println!("{deed:?}, seed {seed}");
            for step in 0..STEPS_MAX {
                let stage = Stage::new(seed * STEPS_MAX + step);
                stage.disk.cut_after(step);
                let made = stage.run(deed, &GO_ON);
                let was_off = stage.disk.is_off();
                assert!(was_off == made.is_err(), "{deed:?} at {step}: {made:?}");
                stage.disk.cut();
                let made = made.ok();
                stage.start(&format!("{deed:?} at {step}, seed {seed}"), made.as_ref().map(|meta| (deed, meta)));
                if !was_off {
                    steps = step;
                    break;
                }
            }
        }
        println!("{deed:?}: {steps} steps");
        assert!(steps > 15 && steps < STEPS_MAX);
    }
}

#[test]
fn when_it_is_told_of_nothing_of_a_table_is_uncertain() {
    for deed in DEEDS {
        let stage = Stage::new(1);
        stage.run(deed, &GO_ON).unwrap();
        assert_eq!(stage.disk.states_after_cut(1).unwrap().count(), 1, "{deed:?}");
    }
}

#[test]
fn a_full_disk_leaves_the_old_tables_and_no_new_file() {
    for deed in DEEDS {
        let (mut failed, mut bytes) = (0, 0);
        loop {
            let stage = Stage::new(1);
            let before = names(&stage.disk);
            let used: u64 = stage.metas.iter().map(Meta::bytes).sum();
            stage.disk.set_capacity(used + bytes);
            if stage.run(deed, &GO_ON).is_ok() {
                break;
            }
            assert_eq!(names(&stage.disk), before, "{deed:?} with {bytes} bytes left");
            stage.start("a full disk", None);
            failed += 1;
            bytes += 501;
        }
        assert!(failed > 10, "{deed:?}: {failed}");
    }
}

/// Operations so far, of which the one at `at` does something.
fn at_operation(stage: &Stage, at: usize, then: impl Fn(&Operation) -> bool + Send + 'static) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    stage.disk.fail_next(move |operation| counted.fetch_add(1, Ordering::Relaxed) == at && then(operation), 12);
    count
}

#[test]
fn whatever_fails_leaves_no_file() {
    for deed in DEEDS {
        for at in 0.. {
            let stage = Stage::new(1);
            let before = names(&stage.disk);
            // What cannot be removed stays until the next start.
            let count = at_operation(&stage, at, |operation| !matches!(operation, Operation::Remove { .. }));
            let made = stage.run(deed, &GO_ON);
            if count.load(Ordering::Relaxed) <= at {
                assert!(at > 15 && made.is_ok(), "{deed:?}: {at} operations");
                break;
            }
            if made.is_err() {
                assert_eq!(names(&stage.disk), before, "{deed:?}, operation {at}");
            }
            stage.disk.clear_errors();
            stage.start(&format!("{deed:?}, operation {at} failed"), made.as_ref().ok().map(|meta| (deed, meta)));
        }
    }
}

#[test]
fn a_stop_at_any_step_leaves_no_file() {
    for deed in DEEDS {
        let mut stopped = 0;
        for at in 0.. {
            let stage = Stage::new(1);
            let before = names(&stage.disk);
            let stop = Arc::new(AtomicBool::new(false));
            let asked = Arc::clone(&stop);
            let count = at_operation(&stage, at, move |_| {
                asked.store(true, Ordering::Relaxed);
                false
            });
            let made = stage.run(deed, &stop);
            if count.load(Ordering::Relaxed) <= at {
                break;
            }
            if let Err(err) = &made {
                assert!(err.contains("was stopped"), "{err}");
                assert_eq!(names(&stage.disk), before, "{deed:?}, operation {at}");
                stopped += 1;
            }
            stage.disk.clear_errors();
            stage.start(&format!("{deed:?} stopped at {at}"), made.as_ref().ok().map(|meta| (deed, meta)));
        }
        assert!(stopped > 5, "{deed:?}: {stopped}");
    }
}

#[test]
fn a_stop_reaches_a_directory_that_is_being_written() {
    let disk = SimulatedDisk::new(1);
    let rows: Vec<Row> = (1..=70_000).map(|n| row(n, n as u64, 0, [])).collect();
    let rows = rows.iter().map(|row| RowRef { key: row.key, queue: row.queue, body: &row.body });
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let opens_directory = move |operation: &Operation| {
        if let Operation::Open { path, .. } = operation
            && path.to_string_lossy().contains(".dir")
        {
            asked.store(true, Ordering::Relaxed);
        }
        false
    };
    disk.fail_next(opens_directory, 12);
    let written = at_once(write(&AtOnce(&disk), target(1), rows, Limits::default(), &stop));
    assert!(matches!(written, Err(WriteError::Stopped { number: 1 })), "{written:?}");
    assert_eq!(names(&disk), [""; 0]);
}
