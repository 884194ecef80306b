//! The simulation loses what was not persisted, and nothing else. Every property is looked for over many seeds: that
//! what may be lost is lost in some, and that what may survive survives in some.

use std::collections::BTreeSet;

use super::*;

const SEEDS: u64 = 200;
const LOG: &str = "/d/log";

fn open(disk: &SimulatedDisk, path: &str, how: Open) -> io::Result<File> {
    disk.open(Path::new(path), how)
}

/// A directory and a file in it, both durable.
fn prepared(seed: u64) -> (SimulatedDisk, File) {
    let disk = SimulatedDisk::new(seed);
    disk.make_dir(Path::new("/d")).unwrap();
    disk.persist_dir(Path::new("/")).unwrap();
    let file = open(&disk, LOG, Open::Empty).unwrap();
    disk.persist_dir(Path::new("/d")).unwrap();
    (disk, file)
}

fn put(disk: &SimulatedDisk, file: &File, at: usize, bytes: &[u8]) {
    disk.write_all(file, Bytes::copy_from_slice(bytes), Bytes::new(), at as u64).unwrap();
}

fn content(disk: &SimulatedDisk, path: &str) -> Option<Vec<u8>> {
    let file = open(disk, path, Open::Existing).ok()?;
    Some(disk.read(&file, 0, 1 << 20).unwrap().to_vec())
}

/// What `story` leaves on the disk after a cut, over all seeds.
fn after_cuts(story: impl Fn(&SimulatedDisk, &File)) -> BTreeSet<Option<Vec<u8>>> {
    let left = (0..SEEDS).map(|seed| {
        let (disk, file) = prepared(seed);
        story(&disk, &file);
        disk.cut();
        content(&disk, LOG)
    });
    left.collect()
}

/// Sectors as letters, for reading: `a` a sector of a's, `.` one of zeros, `?` a mixture.
fn letters(content: &Option<Vec<u8>>) -> String {
    let Some(content) = content else { return "none".to_owned() };
    let letter = |sector: &[u8]| match sector.iter().all(|byte| *byte == sector[0]) {
        true if sector[0] == 0 => '.',
        true => char::from(sector[0]),
        false => '?',
    };
    content.chunks(SECTOR_BYTES).map(letter).collect()
}

fn sectors(pattern: &str) -> Vec<u8> {
    pattern.bytes().flat_map(|byte| [byte; SECTOR_BYTES]).collect()
}

#[test]
fn what_was_persisted_is_always_there() {
    let left = after_cuts(|disk, file| {
        put(disk, file, 0, &sectors("abc"));
        disk.persist(file, 0).unwrap();
    });
    assert_eq!(left.iter().map(letters).collect::<Vec<_>>(), ["abc"]);
}

#[test]
fn what_was_not_persisted_is_there_or_not_sector_by_sector_and_so_is_the_length() {
    let left = after_cuts(|disk, file| {
        put(disk, file, 0, &sectors("a"));
        disk.persist(file, 0).unwrap();
        put(disk, file, SECTOR_BYTES, &sectors("b"));
        put(disk, file, 2 * SECTOR_BYTES, &sectors("c"));
    });
    let seen: BTreeSet<String> = left.iter().map(letters).collect();
    // Nothing; all; the length without the bytes; the later write without the earlier one; and so on.
    let all = ["a", "a.", "a..", "a.c", "ab", "ab.", "abc"].map(str::to_owned);
    assert_eq!(seen, BTreeSet::from(all));
}

#[test]
fn a_sector_written_over_is_the_old_one_or_any_of_the_newer_ones_never_half() {
    let left = after_cuts(|disk, file| {
        put(disk, file, 0, &sectors("a"));
        disk.persist(file, 0).unwrap();
        put(disk, file, 0, &sectors("b"));
        put(disk, file, 0, &sectors("c"));
    });
    assert_eq!(left.iter().map(letters).collect::<BTreeSet<_>>(), BTreeSet::from(["a", "b", "c"].map(str::to_owned)));
}

#[test]
fn a_persist_from_a_byte_on_leaves_what_is_before_it_to_chance() {
    let left = after_cuts(|disk, file| {
        put(disk, file, 0, &sectors("ab"));
        disk.persist(file, SECTOR_BYTES as u64).unwrap();
    });
    assert_eq!(left.iter().map(letters).collect::<BTreeSet<_>>(), BTreeSet::from([".b", "ab"].map(str::to_owned)));
}

#[test]
fn what_a_failed_persist_was_for_is_not_covered_by_the_next_one() {
    let left = after_cuts(|disk, file| {
        put(disk, file, 0, &sectors("a"));
        disk.fail_next(|operation| matches!(operation, Operation::Persist { .. }), Errno::IO.raw_os_error());
        assert!(disk.persist(file, 0).is_err());
        assert!(disk.persist(file, 0).is_err(), "for this file it is final");
        assert_eq!(letters(&content(disk, LOG)), "a", "it reads as if nothing were wrong");
        let again = open(disk, LOG, Open::Existing).unwrap();
        put(disk, &again, SECTOR_BYTES, &sectors("b"));
        disk.persist(&again, 0).expect("opened anew it lies");
    });
    assert_eq!(left.iter().map(letters).collect::<BTreeSet<_>>(), BTreeSet::from([".b", "ab"].map(str::to_owned)));
}

#[test]
fn names_are_durable_when_their_directory_is_and_each_is_lost_by_itself() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let (disk, file) = prepared(seed);
        put(&disk, &file, 0, b"old");
        disk.persist(&file, 0).unwrap();
        for name in ["/d/new", "/d/kept"] {
            let file = open(&disk, name, Open::Empty).unwrap();
            put(&disk, &file, 0, name.as_bytes());
            disk.persist(&file, 0).unwrap();
            if name == "/d/kept" {
                disk.persist_dir(Path::new("/d")).unwrap();
            }
        }
        disk.rename(Path::new("/d/new"), Path::new(LOG)).unwrap();
        disk.remove(Path::new("/d/kept")).unwrap();
        disk.cut();
        let there = ["/d/new", "/d/kept", LOG].map(|path| content(&disk, path));
        let there = there.map(|bytes| bytes.map_or("none".to_owned(), |bytes| String::from_utf8(bytes).unwrap()));
        seen.insert(there);
    }
    let row = |new: &str, kept: &str, log: &str| [new, kept, log].map(str::to_owned);
    let expected = [
        row("/d/new", "/d/kept", "old"),
        row("/d/new", "none", "old"),
        row("none", "/d/kept", "/d/new"),
        row("none", "none", "/d/new"),
    ];
    assert_eq!(seen, BTreeSet::from(expected), "a rename is whole; which changes survive is chance");
}

#[test]
fn a_file_in_a_directory_whose_name_was_lost_is_lost_with_it() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        disk.make_dir(Path::new("/d")).unwrap();
        let file = open(&disk, LOG, Open::Empty).unwrap();
        put(&disk, &file, 0, b"x");
        disk.persist(&file, 0).unwrap();
        disk.persist_dir(Path::new("/d")).unwrap();
        disk.cut();
        seen.insert(content(&disk, LOG).is_some());
    }
    assert_eq!(seen, BTreeSet::from([false, true]), "the root was never persisted");
}

#[test]
fn the_power_goes_in_the_middle_and_nothing_is_done_until_it_is_back() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let (disk, file) = prepared(seed);
        disk.cut_after(1);
        put(&disk, &file, 0, b"x");
        assert!(disk.persist(&file, 0).is_err());
        assert!(disk.is_off());
        assert!(disk.read(&file, 0, 1).is_err());
        assert!(open(&disk, "/d/other", Open::Empty).is_err());
        disk.cut();
        assert!(disk.read(&file, 0, 1).is_err(), "opened before the cut");
        seen.insert(content(&disk, LOG).unwrap());
    }
    // The length without the byte is there too.
    assert_eq!(seen, BTreeSet::from([b"".to_vec(), b"\0".to_vec(), b"x".to_vec()]));
}

#[test]
fn submitted_operations_begin_in_any_order_and_cover_what_was_written_until_then() {
    let mut orders = BTreeSet::new();
    for seed in 0..SEEDS {
        let (disk, first) = prepared(seed);
        let second = open(&disk, "/d/second", Open::Empty).unwrap();
        disk.submit(1, Operation::Persist { file: first.clone(), from: 0 });
        disk.submit(2, Operation::Persist { file: second, from: 0 });
        put(&disk, &first, 0, b"x");
        let mut order = Vec::new();
        while disk.step() {
            match disk.complete().unwrap() {
                Completion { ticket, result: Ok(Outcome::Persisted { writes }) } => order.push((ticket, writes)),
                other => panic!("{other:?}"),
            }
        }
        orders.insert(order);
    }
    assert_eq!(orders, BTreeSet::from([vec![(1, 1), (2, 0)], vec![(2, 0), (1, 1)]]));
}

#[test]
fn misfortunes_come_as_often_as_asked_for_and_a_short_write_is_finished() {
    let (disk, file) = prepared(1);
    disk.set_chances(Chances { short_write: 1000, ..Chances::default() });
    let operation =
        Operation::Write { file: file.clone(), at: 0, head: Bytes::from_static(b"head"), body: Bytes::new() };
    assert!(disk.call(operation).unwrap().into_written() < 4);
    disk.set_chances(Chances { short_write: 500, ..Chances::default() });
    disk.write_all(&file, Bytes::from_static(b"the head"), Bytes::from_static(b" and the body"), 0).unwrap();
    assert_eq!(content(&disk, LOG).unwrap(), b"the head and the body");
    for (chances, errno) in [
        (Chances { disk_full: 1000, ..Chances::default() }, Errno::NOSPC),
        (Chances { persist_fails: 1000, ..Chances::default() }, Errno::IO),
        (Chances { shortage: 1000, ..Chances::default() }, Errno::MFILE),
    ] {
        disk.set_chances(chances);
        let errors = [
            disk.write_all(&file, Bytes::from_static(b"x"), Bytes::new(), 0),
            disk.persist(&file, 0),
            disk.persist_dir(Path::new("/d")),
        ];
        let codes: Vec<i32> = errors.iter().filter_map(|done| done.as_ref().err()?.raw_os_error()).collect();
        assert_eq!(codes, [errno.raw_os_error()]);
    }
}

#[test]
fn a_flipped_bit_is_there_before_and_after_a_cut() {
    let (disk, file) = prepared(1);
    put(&disk, &file, 0, b"abc");
    disk.persist(&file, 0).unwrap();
    disk.flip(Path::new(LOG), 1, 0).unwrap();
    assert_eq!(content(&disk, LOG).unwrap(), b"acc");
    disk.cut();
    assert_eq!(content(&disk, LOG).unwrap(), b"acc");
}

#[test]
fn a_disk_that_lies_says_done_and_loses() {
    let left = after_cuts(|disk, file| {
        disk.pretend(|operation| matches!(operation, Operation::Persist { .. }));
        put(disk, file, 0, &sectors("a"));
        disk.persist(file, 0).unwrap();
    });
    let seen: BTreeSet<String> = left.iter().map(letters).collect();
    assert_eq!(seen, BTreeSet::from(["", ".", "a"].map(str::to_owned)));
}

#[test]
fn a_seed_tells_its_story_again() {
    let story = |seed| {
        let (disk, file) = prepared(seed);
        put(&disk, &file, 0, &sectors("abcdefgh"));
        disk.cut();
        letters(&content(&disk, LOG))
    };
    let stories: Vec<String> = (0..SEEDS).map(story).collect();
    assert_eq!(stories, (0..SEEDS).map(story).collect::<Vec<_>>());
    assert!(stories.iter().collect::<BTreeSet<_>>().len() > 20, "and others tell others");
}

#[test]
fn a_disk_with_a_capacity_is_full_when_all_files_together_would_pass_it_and_has_room_when_one_is_gone() {
    let (disk, file) = prepared(1);
    let space = |disk: &SimulatedDisk| disk.space(Path::new("/d")).unwrap();
    disk.set_capacity(1000);
    put(&disk, &file, 0, &[1; 600]);
    assert_eq!(space(&disk), Space { free_bytes: 400, total_bytes: 1000 });
    let other = open(&disk, "/d/other", Open::Empty).unwrap();
    let full = Some(Errno::NOSPC.raw_os_error());
    assert_eq!(disk.write_all(&other, Bytes::from(vec![1; 401]), Bytes::new(), 0).unwrap_err().raw_os_error(), full);
    assert_eq!(disk.write_all(&other, Bytes::from_static(b"x"), Bytes::new(), 400).unwrap_err().raw_os_error(), full);
    assert_eq!(disk.truncate(&file, 1001).unwrap_err().raw_os_error(), full);
    assert_eq!(disk.zero(&other, 401).unwrap_err().raw_os_error(), full);
    assert_eq!(space(&disk).free_bytes, 0, "zeroing took what there was");
    put(&disk, &file, 0, &[2; 600]);
    disk.remove(Path::new("/d/other")).unwrap();
    put(&disk, &file, 600, &[3; 400]);
    disk.set_capacity(10);
    put(&disk, &file, 0, &[4; 1000]);
    assert_eq!(space(&disk), Space { free_bytes: 0, total_bytes: 10 });
}

#[test]
fn a_zeroed_file_has_its_length_when_it_is_persisted_and_any_before() {
    let lengths = |persisted: bool| -> BTreeSet<usize> {
        let left = after_cuts(|disk, file| {
            disk.zero(file, 4 * SECTOR_BYTES as u64).unwrap();
            if persisted {
                disk.persist(file, 0).unwrap();
            }
        });
        left.into_iter().flatten().map(|content| content.len()).collect()
    };
    assert_eq!(lengths(true), BTreeSet::from([4 * SECTOR_BYTES]));
    assert_eq!(lengths(false), BTreeSet::from([0, 2 * SECTOR_BYTES, 4 * SECTOR_BYTES]));
}

#[test]
fn zeroing_an_emptied_file_leaves_what_it_held_to_chance() {
    let left = after_cuts(|disk, file| {
        put(disk, file, 0, &sectors("ab"));
        disk.persist(file, 0).unwrap();
        disk.truncate(file, 0).unwrap();
        disk.zero(file, 2 * SECTOR_BYTES as u64).unwrap();
    });
    let seen: BTreeSet<String> = left.iter().map(letters).collect();
    assert_eq!(seen, BTreeSet::from(["", ".", "a", "..", "a.", ".b", "ab"].map(str::to_owned)));
}
