//! Random tables, merged and read, beside a map of the same jobs. `GAFKA_SIM_SEED=7` runs one seed.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const SEEDS: u64 = 150;

fn seeds() -> Vec<u64> {
    match std::env::var("GAFKA_SIM_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    }
}

fn rows_of(jobs: &BTreeMap<Key, (u32, Vec<u8>)>) -> Vec<Row> {
    jobs.iter().map(|(key, (queue, body))| row(key.due_ms, key.seq, *queue, body.clone())).collect()
}

fn limits(dice: &mut Chance) -> Limits {
    Limits {
        part_bytes: 8192 + dice.below(1 << 16) as u64,
        block_bytes: 64 + dice.below(2000),
        sort_entries: 1 + dice.below(300),
    }
}

fn body(dice: &mut Chance) -> Vec<u8> {
    let bytes = [0, 1, 20, 64, 127, 128, 3000][dice.below(7)];
    (0..bytes).map(|_| dice.number() as u8).collect()
}

/// Jobs added, moved and ended at random, flushed into tables that overlap; what is alive is where the map says.
#[test]
fn merged_tables_have_what_is_alive_and_nothing_else() {
    for seed in seeds() {
        println!("seed {seed}");
        let mut dice = Chance::new(seed);
        let disk = SimulatedDisk::new(seed);
        let mut alive: BTreeMap<u64, (i64, u32, Vec<u8>)> = BTreeMap::new();
        let spread = [1, 50, 100_000, 1 << 45][dice.below(4)];
        let (mut metas, mut seq, mut all) = (Vec::new(), 0, 0);
        for number in 1..=2 + dice.below(6) as u64 {
            let mut flushed: BTreeMap<Key, (u32, Vec<u8>)> = BTreeMap::new();
            let mut in_it: BTreeSet<u64> = BTreeSet::new();
            for _ in 0..1 + dice.below(250) {
                let moved = alive.keys().nth(dice.below(alive.len() + 20)).filter(|_| dice.happens(300)).copied();
                seq += 1 + dice.below(3) as u64;
                let job = moved.unwrap_or(seq);
                if !in_it.insert(job) {
                    continue;
                }
                let due_ms = dice.below(spread) as i64 - spread as i64 / 2;
                let (queue, body) = (dice.below(300) as u32, body(&mut dice));
                let queue = alive.get(&job).map_or(queue, |(_, queue, _)| *queue);
                let body = alive.get(&job).map_or(body, |(_, _, body)| body.clone());
                flushed.insert(key(due_ms, job), (queue, body.clone()));
                alive.insert(job, (due_ms, queue, body));
            }
            all += flushed.len() as u64;
            metas.push(write_rows(&disk, number, &rows_of(&flushed), limits(&mut dice)).unwrap());
            check(&disk, &open(&disk, &metas[metas.len() - 1]), &rows_of(&flushed));
            let over: Vec<u64> = alive.keys().filter(|_| dice.happens(200)).copied().collect();
            over.iter().for_each(|job| drop(alive.remove(job)));
        }
        let tables: Vec<Table> = metas.iter().map(|meta| open(&disk, meta)).collect();
        let from = match dice.below(3) {
            0 => key(dice.below(spread) as i64 - spread as i64 / 2, 0),
            1 if !alive.is_empty() => {
                let (job, (due_ms, ..)) = alive.iter().nth(dice.below(alive.len())).unwrap();
                key(*due_ms, *job)
            }
            _ => Key::MIN,
        };
        let expected: BTreeMap<Key, (u32, Vec<u8>)> = alive
            .iter()
            .map(|(job, (due_ms, queue, body))| (key(*due_ms, *job), (*queue, body.clone())))
            .filter(|(key, _)| *key >= from)
            .collect();
        let is_alive = |job: u64, due_ms: i64| alive.get(&job).is_some_and(|(due, ..)| *due == due_ms);
        let inputs: Vec<&Table> = tables.iter().collect();
        let disk_ = AtOnce(&disk);
        let merging = merge(&disk_, target(100), &inputs, from, is_alive, limits(&mut dice), &GO_ON);
        let merged = at_once(merging).unwrap();
        assert_eq!(merged.lost, []);
        assert!(merged.dropped <= all - expected.len() as u64);
        let Some(meta) = merged.meta else {
            assert!(expected.is_empty());
            continue;
        };
        assert_eq!(meta.seq_min, expected.keys().map(|key| key.seq).min().unwrap());
        assert_eq!(meta.seq_max, expected.keys().map(|key| key.seq).max().unwrap());
        let table = open(&disk, &meta);
        check(&disk, &table, &rows_of(&expected));
        let known = [metas, vec![meta]].concat();
        assert_eq!(unknown(&disk.list(Path::new(DIR)).unwrap(), &known), [""; 0], "no run is left");
    }
}

#[test]
fn a_job_moved_back_is_once_in_a_merge_and_one_alive_twice_is_found_where_it_is() {
    let disk = SimulatedDisk::new(1);
    let tables =
        [vec![row(10, 1, 4, *b"one"), row(30, 2, 5, *b"two")], vec![row(20, 1, 4, *b"one"), row(30, 2, 5, *b"two")]];
    let metas: Vec<Meta> = (1..).zip(&tables).map(|(n, rows)| write_rows(&disk, n, rows, SMALL).unwrap()).collect();
    let opened: Vec<Table> = metas.iter().map(|meta| open(&disk, meta)).collect();
    let inputs: Vec<&Table> = opened.iter().collect();
    let disk_ = AtOnce(&disk);
    let merged = at_once(merge(&disk_, target(9), &inputs, Key::MIN, |_, _| true, SMALL, &GO_ON)).unwrap();
    assert_eq!(merged.dropped, 1);
    let table = open(&disk, &merged.meta.unwrap());
    let (rows, _) = scan(&disk, &table, Key::MIN);
    assert_eq!(rows, [row(10, 1, 4, *b"one"), row(20, 1, 4, *b"one"), row(30, 2, 5, *b"two")]);
    for due_ms in [10, 20] {
        let found = at_once(table.find(&AtOnce(&disk), 1, |due| due == due_ms)).unwrap();
        assert_eq!(found, Some((due_ms, 4)));
    }
    assert_eq!(at_once(table.find(&AtOnce(&disk), 1, |due| due == 15)).unwrap(), None);
}

#[test]
fn a_job_with_two_dues_is_found_across_pages() {
    let disk = SimulatedDisk::new(1);
    // Some 3,000 dues of one job fill several pages.
    let mut rows: Vec<Row> = (0..3000).map(|n| row(n << 20, 500, 1, [])).collect();
    rows.extend((1..500).map(|seq| row(-1, seq, 1, [])));
    rows.extend((501..900).map(|seq| row(-1, seq, 1, [])));
    rows.sort_by_key(|row| row.key);
    let meta = write_rows(&disk, 1, &rows, SMALL).unwrap();
    assert!(meta.directory_bytes > 5 * 4096);
    let table = open(&disk, &meta);
    for n in 0..3000 {
        let found = at_once(table.find(&AtOnce(&disk), 500, |due| due == n << 20)).unwrap();
        assert_eq!(found, Some((n << 20, 1)));
    }
    assert_eq!(find(&disk, &table, 499).unwrap(), Some((-1, 1)));
    assert_eq!(find(&disk, &table, 501).unwrap(), Some((-1, 1)));
}

#[test]
fn parts_that_are_over_are_let_go_one_by_one() {
    let disk = SimulatedDisk::new(1);
    let rows: Vec<Row> = (1..600).map(|seq| row(seq as i64 * 10, seq, 1, [1; 100])).collect();
    let meta = write_rows(&disk, 1, &rows, SMALL).unwrap();
    let table = open(&disk, &meta);
    assert!(meta.parts.len() > 3);
    let second = meta.parts[1];
    for (from, gone) in [(Key::MIN, 0), (second.first, 1), (second.last, 1), (second.last.after(), 2), (Key::MAX, 99)] {
        let gone = gone.min(meta.parts.len() - 1);
        let (rest, names) = table.release_before(from);
        assert_eq!(names.len(), gone, "{from:?}");
        assert_eq!(rest.meta().parts, meta.parts[gone..]);
        let left: Vec<Row> = rows.iter().filter(|row| row.key >= meta.parts[gone].first).cloned().collect();
        check(&disk, &rest, &left);
        check(&disk, &open(&disk, rest.meta()), &left);
        let listed = disk.list(Path::new(DIR)).unwrap();
        assert_eq!(unknown(&listed, &[rest.meta().clone()]), names, "a crash before they are removed");
        let mut bytes = Vec::new();
        rest.meta().encode(&mut bytes);
        assert_eq!(Meta::decode(&mut &bytes[..]).as_ref(), Some(rest.meta()));
    }
}

#[test]
fn only_files_of_tables_that_nobody_knows_are_unknown() {
    let disk = SimulatedDisk::new(1);
    let meta = write_rows(&disk, 0xab, &[row(1, 1, 1, [])], SMALL).unwrap();
    let entry = |name: &str| disk::Entry { name: name.to_owned(), is_dir: false };
    let ours = [
        "table-00000000000000ac-0000.jobs",
        "table-00000000000000ab-0001.jobs",
        "table-00000000000000ac.dir",
        "table-00000000000000ab-0000.jobs.tmp",
        "table-00000000000000ab.dir.tmp",
        "table-00000000000000ab.run-0003.tmp",
    ];
    let others = [
        "table-00000000000000ab-0000.jobs",
        "table-00000000000000ab.dir",
        "table-00000000000000AC.dir",
        "table-ac.dir",
        "table-00000000000000ac-0000.jobs.tmp.tmp",
        "table-00000000000000ac.jobs",
        "id",
        "checkpoint.tmp",
        "segment-0000000000000003.wal",
    ];
    let listing: Vec<disk::Entry> = ours.iter().chain(&others).map(|name| entry(name)).collect();
    assert_eq!(unknown(&listing, &[meta]), ours);
}
