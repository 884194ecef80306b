//! Tables against a plain list of the same jobs.

mod damage;
mod decoders;
mod power;
mod twin;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use disk::{AtOnce, Chance, Disk, SimulatedDisk, at_once};

use super::*;
use crate::Key;

pub(super) const DIR: &str = "/";
pub(super) const STORE: StoreId = [7; 16];
pub(super) static GO_ON: AtomicBool = AtomicBool::new(false);

/// Small enough that a few hundred jobs have all there can be: parts, blocks, runs.
pub(super) const SMALL: Limits = Limits { part_bytes: 16 << 10, block_bytes: 700, sort_entries: 50 };

pub(super) fn key(due_ms: i64, seq: u64) -> Key {
    Key { due_ms, seq }
}

pub(super) fn row(due_ms: i64, seq: u64, queue: u32, body: impl Into<Vec<u8>>) -> Row {
    Row { key: key(due_ms, seq), queue, body: Bytes::from(body.into()) }
}

pub(super) fn target(number: u64) -> Target<'static> {
    Target { dir: Path::new(DIR), store: STORE, number, tier: 3 }
}

pub(super) fn write_rows(disk: &dyn Disk, number: u64, rows: &[Row], limits: Limits) -> Result<Meta, WriteError> {
    let rows = rows.iter().map(|row| RowRef { key: row.key, queue: row.queue, body: &row.body });
    at_once(write(&AtOnce(disk), target(number), rows, limits, &GO_ON)).map(|meta| meta.expect("there are rows"))
}

/// Opened, with nothing rotten.
pub(super) fn open(disk: &dyn Disk, meta: &Meta) -> Table {
    let (table, rotten) = at_once(Table::open(&AtOnce(disk), Path::new(DIR), STORE, meta)).unwrap();
    assert_eq!(rotten, []);
    table
}

/// All rows from this key on, and what is rotten between them.
pub(super) fn scan(disk: &dyn Disk, table: &Table, from: Key) -> (Vec<Row>, Vec<Rotten>) {
    let (mut rows, mut rotten) = (Vec::new(), Vec::new());
    let mut next = table.block_at_or_after(from);
    while let Some(block) = next {
        next = table.next(block);
        match at_once(table.read_block(&AtOnce(disk), block)) {
            Ok(read) => {
                assert_eq!(read.first(), table.first_key(block));
                rows.extend(read.rows().filter(|row| row.key >= from));
            }
            Err(ReadError::Rotten(found)) => rotten.push(found),
            Err(err) => panic!("{err}"),
        }
    }
    (rows, rotten)
}

pub(super) fn find(disk: &dyn Disk, table: &Table, seq: u64) -> Result<Option<(i64, u32)>, ReadError> {
    at_once(table.find(&AtOnce(disk), seq, |_| true))
}

pub(super) fn read_job(disk: &dyn Disk, table: &Table, key: Key) -> Result<Option<(u32, Bytes)>, ReadError> {
    at_once(table.read_job(&AtOnce(disk), key))
}

pub(super) fn names(disk: &dyn Disk) -> Vec<String> {
    disk.list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect()
}

/// Everything a table can be asked about these jobs, and about their neighbours.
pub(super) fn check(disk: &dyn Disk, table: &Table, rows: &[Row]) {
    assert_eq!(scan(disk, table, Key::MIN), (rows.to_vec(), vec![]));
    let (first, last) = (rows[0].key, rows[rows.len() - 1].key);
    assert!(table.block_at_or_after(last.after()).is_none_or(|_| last == Key::MAX));
    let meta = table.meta();
    assert_eq!((meta.parts[0].first, meta.parts[meta.parts.len() - 1].last), (first, last));
    for Row { key, queue, body } in rows.iter().step_by(1 + rows.len() / 500) {
        assert_eq!(find(disk, table, key.seq).unwrap(), Some((key.due_ms, *queue)));
        assert_eq!(read_job(disk, table, *key).unwrap(), Some((*queue, body.clone())));
        let block = table.block_at_or_after(*key).unwrap();
        let block = at_once(table.read_block(&AtOnce(disk), block)).unwrap();
        assert_eq!(block.rows().find(|row| row.key >= *key).map(|row| row.key), Some(*key));
        if rows.binary_search_by_key(&key.after(), |row| row.key).is_err() {
            assert_eq!(read_job(disk, table, key.after()).unwrap(), None);
        }
        if rows.iter().all(|row| row.key.seq != key.seq + 1) {
            assert_eq!(find(disk, table, key.seq + 1).unwrap(), None);
        }
    }
}

fn scrub(disk: &dyn Disk, table: &Table) -> (u64, Vec<Rotten>) {
    let (mut scrub, mut bytes, mut rotten) = (Scrub::new(), 0, Vec::new());
    while let Some(step) = at_once(scrub.step(&AtOnce(disk), table)).unwrap() {
        bytes += step.bytes;
        rotten.extend(step.rotten);
    }
    (bytes, rotten)
}

#[test]
fn what_is_written_is_read_whatever_its_shape() {
    let many = |count: u64| -> Vec<Row> {
        let mut dice = Chance::new(1);
        let mut rows: Vec<Row> = (1..=count)
            .map(|seq| row(dice.below(1 << 32) as i64, seq, seq as u32 % 9, vec![seq as u8; seq as usize % 100]))
            .collect();
        rows.sort_by_key(|row| row.key);
        rows
    };
    let usual = Limits { part_bytes: 1 << 20, ..Limits::default() };
    let (huge, max) = (limits::BODY_BYTES_MAX, crate::limits::SEQ_MAX);
    let cases: Vec<(&str, Limits, Vec<Row>, usize)> = vec![
        ("one job", SMALL, vec![row(5, 9, 1, *b"body")], 1),
        ("an empty body", SMALL, vec![row(5, 9, 1, [])], 1),
        (
            "a huge body between small ones",
            Limits::default(),
            vec![row(1, 1, 0, *b"a"), row(2, 2, 0, vec![3; huge]), row(3, 3, 0, *b"b")],
            1,
        ),
        ("all due at once", SMALL, (1..200).map(|seq| row(5, seq, 7, *b"some body")).collect(), 1),
        (
            "before the epoch, and at the ends of time",
            SMALL,
            vec![
                row(i64::MIN, 4, u32::MAX, *b"first"),
                row(i64::MIN, max, 0, *b"second"),
                row(-3, 2, 1, *b"third"),
                row(0, 1, 1, *b"fourth"),
                row(i64::MAX, 3, 1, *b"last"),
            ],
            1,
        ),
        ("some hundreds in small parts", SMALL, many(900), 7),
        ("70,000 over several parts", usual, many(70_000), 5),
    ];
    for (what, limits, rows, parts) in cases {
        let disk = SimulatedDisk::new(1);
        let meta = write_rows(&disk, 2, &rows, limits).unwrap();
        println!("{what}: {} bytes for {} jobs", meta.bytes(), meta.rows);
        assert_eq!(meta.parts.len(), parts, "{what}");
        assert!(meta.parts.iter().all(|part| part.bytes <= limits.part_bytes), "{what}");
        let mut names_of_meta: Vec<String> = meta.names().collect();
        names_of_meta.sort();
        assert_eq!(names(&disk), names_of_meta, "{what}");
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        assert_eq!(Meta::decode(&mut &bytes[..]).as_ref(), Some(&meta), "{what}");
        let table = open(&disk, &meta);
        check(&disk, &table, &rows);
        assert_eq!(scrub(&disk, &table).1, [], "{what}");
    }
}

#[test]
fn no_rows_are_no_table() {
    let disk = SimulatedDisk::new(1);
    assert_eq!(at_once(write(&AtOnce(&disk), target(1), [], SMALL, &GO_ON)).unwrap(), None);
    assert_eq!(names(&disk), [""; 0]);
}

#[test]
fn a_job_of_64_bytes_takes_some_twenty_bytes_more_directory_included() {
    let disk = SimulatedDisk::new(1);
    let mut dice = Chance::new(2);
    // As many, and as far apart, as 10 million in a month.
    let mut rows: Vec<Row> = (0..50_000)
        .map(|_| row(dice.below(13_000_000) as i64, 1 + dice.below(10_000_000) as u64, 5, [9; 64]))
        .collect();
    rows.sort_by_key(|row| row.key);
    rows.dedup_by_key(|row| row.key);
    let meta = write_rows(&disk, 1, &rows, Limits::default()).unwrap();
    let of_parts: u64 = meta.parts.iter().map(|part| part.bytes).sum();
    let (parts, directory) = (of_parts as f64 / rows.len() as f64, meta.directory_bytes as f64 / rows.len() as f64);
    println!("{parts:.1} bytes in parts, {directory:.1} in the directory");
    assert!(parts < 64.0 + 10.0, "{parts}");
    assert!(directory < 10.0, "{directory}");
}
