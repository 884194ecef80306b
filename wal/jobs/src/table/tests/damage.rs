//! Rot at every byte and a cut at every length of every file of a table: a right answer, or an error that names the place.

use std::ops::Range;
use std::path::PathBuf;

use disk::Open;
use journal::format::PAGE_BYTES;

use super::*;

struct Stage {
    disk: SimulatedDisk,
    meta: Meta,
    rows: Vec<Row>,
}

fn stage() -> Stage {
    let disk = SimulatedDisk::new(1);
    let rows: Vec<Row> = (1..=40).map(|n| row(n / 3 - 5, 1000 - 20 * n as u64, n as u32, vec![n as u8; 60])).collect();
    let limits = Limits { part_bytes: 6300, block_bytes: 300, sort_entries: 100 };
    let mut rows = rows;
    rows.sort_by_key(|row| row.key);
    let meta = write_rows(&disk, 5, &rows, limits).unwrap();
    assert!(meta.parts.len() == 3 && open(&disk, &meta).parts[0].blocks.len() > 2, "{meta:?}");
    Stage { disk, meta, rows }
}

/// A table of two pages in its directory.
fn stage_of_two_pages() -> Stage {
    let disk = SimulatedDisk::new(1);
    let rows: Vec<Row> = (1..=600).map(|n| row(n << 34, n as u64 * 2, 1, [])).collect();
    let meta = write_rows(&disk, 5, &rows, Limits::default()).unwrap();
    assert_eq!(meta.directory_bytes, 3 * PAGE_BYTES as u64 + 16 + 64);
    Stage { disk, meta, rows }
}

/// Bytes of a file that nobody looks at: behind its header, and up to the sectors that blocks begin on.
fn padding(table: &Table, name: &str) -> Vec<Range<u64>> {
    let of_header = 56..PAGE_BYTES as u64;
    let part = table.parts.iter().find(|part| part.file.path.ends_with(name));
    let blocks = part.map_or(&[][..], |part| &part.blocks);
    let behind = |block: &format::tail::BlockEntry| {
        let end = u64::from(block.at + block.bytes);
        end..end.next_multiple_of(512)
    };
    std::iter::once(of_header).chain(blocks.iter().map(behind)).collect()
}

/// Opens and asks everything; what was told to be rotten on the way.
fn ask(stage: &Stage, what: &str) -> Vec<Rotten> {
    let Stage { disk, meta, rows } = stage;
    let (table, mut told) = at_once(Table::open(&AtOnce(disk), Path::new(DIR), STORE, meta)).unwrap();
    let (found, lost) = scan(disk, &table, Key::MIN);
    let mut truth = rows.iter();
    assert!(
        found.iter().all(|row| truth.any(|true_row| true_row == row)),
        "{what}: a row that is wrong or out of order"
    );
    let lost_rows: u64 = lost.iter().map(|lost| lost.rows).sum();
    assert_eq!(found.len() as u64 + lost_rows, rows.len() as u64, "{what}: {lost:?}");
    for row in rows.iter().step_by(1 + rows.len() / 50) {
        match read_job(disk, &table, row.key) {
            Ok(read) => assert_eq!(read, Some((row.queue, row.body.clone())), "{what}"),
            Err(ReadError::Rotten(rotten)) => assert!(lost.contains(&rotten), "{what}: {rotten:?}"),
            Err(err) => panic!("{what}: {err}"),
        }
        for (seq, right) in [(row.key.seq, Some((row.key.due_ms, row.queue))), (row.key.seq + 1, None)] {
            match find(disk, &table, seq) {
                Ok(answer) => assert_eq!(answer, right, "{what}: {seq}"),
                Err(ReadError::Rotten(rotten)) => told.push(rotten),
                Err(err) => panic!("{what}: {err}"),
            }
        }
    }
    told.extend(scrub(disk, &table).1);
    // What is left can be written anew, alone. That costs most, so not after every flip.
    if told.iter().map(|rotten| rotten.at).sum::<u64>() % 8 > 0 {
        told.extend(lost);
        return told;
    }
    let merging = at_once(merge(&AtOnce(disk), target(6), &[&table], Key::MIN, |_, _| true, SMALL, &GO_ON)).unwrap();
    assert_eq!(merging.lost, lost, "{what}");
    if let Some(meta) = merging.meta {
        check(disk, &open(disk, &meta), &found);
        meta.names().for_each(|name| disk.remove(&Path::new(DIR).join(name)).unwrap());
    }
    told.extend(lost);
    told
}

fn tells_of(told: &[Rotten], path: &Path, at: u64) -> bool {
    told.iter().any(|rotten| rotten.file == path && (rotten.at..rotten.at + rotten.bytes).contains(&at))
}

fn files(meta: &Meta) -> Vec<(String, PathBuf)> {
    meta.names().map(|name| (name.clone(), Path::new(DIR).join(name))).collect()
}

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is_and_harms_only_its_place() {
    for stage in [stage(), stage_of_two_pages()] {
        let whole = open(&stage.disk, &stage.meta);
        for (name, path) in files(&stage.meta) {
            let length = stage.disk.look_at(&path).unwrap().bytes;
            let padding = padding(&whole, &name);
            for at in (0..length).step_by(if stage.rows.len() > 100 { 53 } else { 1 }) {
                let is_padding = padding.iter().any(|padding| padding.contains(&at));
                if is_padding && at % 97 != 0 {
                    continue;
                }
                stage.disk.flip(&path, at, (at % 8) as u8).unwrap();
                let told = ask(&stage, &format!("{name} at {at}"));
                assert_eq!(tells_of(&told, &path, at), !is_padding, "{name} at {at}: {told:?}");
                assert!(is_padding || told.iter().all(|rotten| rotten.file == path), "{name} at {at}: {told:?}");
                stage.disk.flip(&path, at, (at % 8) as u8).unwrap();
            }
        }
        check(&stage.disk, &whole, &stage.rows);
    }
}

#[test]
fn a_file_cut_anywhere_or_gone_is_noticed_and_the_rest_is_read() {
    for stage in [stage(), stage_of_two_pages()] {
        for (name, path) in files(&stage.meta) {
            let disk = &stage.disk;
            let length = disk.look_at(&path).unwrap().bytes;
            let file = disk.open(&path, Open::Existing).unwrap();
            let bytes = disk.read(&file, 0, length as usize).unwrap();
            let cut_at = |cut: u64| cut.is_multiple_of(61) || length - cut < 400 || cut.is_multiple_of(512);
            for cut in (0..length).filter(|cut| cut_at(*cut)) {
                disk.truncate(&file, cut).unwrap();
                let told = ask(&stage, &format!("{name} cut at {cut}"));
                assert!(tells_of(&told, &path, length - 1), "{name} cut at {cut}: {told:?}");
                disk.write_all(&file, bytes.slice(cut as usize..), Bytes::new(), cut).unwrap();
            }
            disk.remove(&path).unwrap();
            let told = ask(&stage, &format!("{name} gone"));
            assert!(tells_of(&told, &path, length - 1), "{name} gone: {told:?}");
            let file = disk.open(&path, Open::Empty).unwrap();
            disk.write_all(&file, bytes, Bytes::new(), 0).unwrap();
        }
        check(&stage.disk, &open(&stage.disk, &stage.meta), &stage.rows);
    }
}

#[test]
fn with_the_index_gone_a_rotten_block_is_lost_alone() {
    let stage = stage();
    let whole = open(&stage.disk, &stage.meta);
    for part in &whole.parts {
        let path = &part.file.path;
        stage.disk.flip(path, part.meta.bytes - 20, 3).unwrap();
        for block in &part.blocks {
            stage.disk.flip(path, u64::from(block.at) + 40, 1).unwrap();
            let (table, told) = at_once(Table::open(&AtOnce(&stage.disk), Path::new(DIR), STORE, &stage.meta)).unwrap();
            let (found, lost) = scan(&stage.disk, &table, Key::MIN);
            assert_eq!(found.len() + block.rows as usize, stage.rows.len());
            assert!(lost.len() == 1 && lost[0].rows == u64::from(block.rows) && lost[0].at == u64::from(block.at));
            assert_eq!(told.len(), 2, "the index and the block: {told:?}");
            ask(&stage, "index and block");
            stage.disk.flip(path, u64::from(block.at) + 40, 1).unwrap();
        }
        stage.disk.flip(path, part.meta.bytes - 20, 3).unwrap();
    }
}

#[test]
fn a_block_a_page_and_a_file_are_not_believed_elsewhere() {
    let stage = stage();
    let disk = &stage.disk;
    let whole = open(disk, &stage.meta);
    // The second block over the first: both have room for it.
    let part = &whole.parts[0];
    let file = disk.open(&part.file.path, Open::Existing).unwrap();
    let second = part.blocks[1];
    let bytes = disk.read(&file, second.at.into(), second.bytes as usize).unwrap();
    disk.write_all(&file, bytes, Bytes::new(), part.blocks[0].at.into()).unwrap();
    assert!(tells_of(&ask(&stage, "a block elsewhere"), &part.file.path, part.blocks[0].at.into()));
    // The same jobs in another table: its files under these names.
    for number in [6, 5] {
        let other = SimulatedDisk::new(2);
        let limits = Limits { part_bytes: 6300, block_bytes: 300, sort_entries: 100 };
        let store = if number == 5 { [8; 16] } else { STORE };
        let rows = stage.rows.iter().map(|row| RowRef { key: row.key, queue: row.queue, body: &row.body });
        let at_once_of_other = AtOnce(&other);
        let written = write(&at_once_of_other, Target { store, ..target(number) }, rows, limits, &GO_ON);
        let meta = at_once(written).unwrap().unwrap();
        for (theirs, ours) in meta.names().zip(stage.meta.names()) {
            let theirs = other.open(&Path::new(DIR).join(theirs), Open::Existing).unwrap();
            let bytes = other.read(&theirs, 0, 1 << 20).unwrap();
            let ours = disk.open(&Path::new(DIR).join(ours), Open::Empty).unwrap();
            disk.write_all(&ours, bytes, Bytes::new(), 0).unwrap();
        }
        let told = ask(&stage, "another table");
        for (_, path) in files(&stage.meta) {
            assert!(told.iter().any(|rotten| rotten.file == path), "{path:?}");
        }
        let (table, _) = at_once(Table::open(&AtOnce(disk), Path::new(DIR), STORE, &stage.meta)).unwrap();
        assert_eq!(scan(disk, &table, Key::MIN).0, []);
    }
}

#[test]
fn a_newer_file_is_refused_untouched() {
    let stage = stage();
    for (name, path) in files(&stage.meta) {
        let file = stage.disk.open(&path, Open::Existing).unwrap();
        let mut header = stage.disk.read(&file, 0, 56).unwrap().to_vec();
        let before = Bytes::from(header.clone());
        header[16] = 2;
        let crc = crc32c::crc32c(&header[4..]);
        header[..4].copy_from_slice(&crc.to_le_bytes());
        stage.disk.write_all(&file, header.into(), Bytes::new(), 0).unwrap();
        let opened = at_once(Table::open(&AtOnce(&stage.disk), Path::new(DIR), STORE, &stage.meta));
        assert!(matches!(opened, Err(OpenError::Newer { .. })), "{name}");
        stage.disk.write_all(&file, before, Bytes::new(), 0).unwrap();
    }
}

#[test]
fn a_lost_directory_is_made_again_from_the_parts() {
    for (stage, page) in [(stage(), false), (stage_of_two_pages(), true)] {
        let disk = &stage.disk;
        let path = Path::new(DIR).join(meta::directory_name(5));
        match page {
            true => disk.flip(&path, 9000, 1).unwrap(),
            false => disk.remove(&path).unwrap(),
        }
        let (table, _) = at_once(Table::open(&AtOnce(disk), Path::new(DIR), STORE, &stage.meta)).unwrap();
        let last = stage.rows.iter().map(|row| row.key.seq).max().unwrap();
        assert!(matches!(find(disk, &table, last), Err(ReadError::Rotten(_))));
        let limits = Limits { sort_entries: 7, ..SMALL };
        let (meta, lost) = at_once(table.rebuild_directory(&AtOnce(disk), limits, &GO_ON)).unwrap();
        assert_eq!(lost, []);
        assert_eq!(meta, stage.meta);
        check(disk, &open(disk, &meta), &stage.rows);
        assert_eq!(names(disk).len(), meta.names().count(), "nothing else is left");
    }
}

#[test]
fn an_error_of_the_moment_is_not_taken_for_rot() {
    let stage = stage();
    let merge_of =
        |table: &Table| at_once(merge(&AtOnce(&stage.disk), target(6), &[table], Key::MIN, |_, _| true, SMALL, &GO_ON));
    let table = open(&stage.disk, &stage.meta);
    const EMFILE: i32 = 24;
    const EIO: i32 = 5;
    let before = names(&stage.disk);
    stage.disk.fail_next(|operation| matches!(operation, disk::Operation::Read { .. }), EMFILE);
    assert!(matches!(merge_of(&table), Err(MergeError::Read(ReadError::Io { .. }))));
    assert_eq!(names(&stage.disk), before, "and leaves no file");
    stage.disk.fail_next(|operation| matches!(operation, disk::Operation::Read { .. }), EIO);
    let merged = merge_of(&table).unwrap();
    assert_eq!(merged.lost.len(), 1);
    assert_eq!(merged.lost[0].why, Why::Unreadable);
    assert_eq!(merged.meta.unwrap().rows + merged.lost[0].rows, 40);
}

#[test]
fn a_directory_of_another_length_than_was_written_down_is_made_again() {
    let stage = stage_of_two_pages();
    let disk = &stage.disk;
    let meta = write_rows(disk, 8, &stage.rows, Limits { part_bytes: 9000, ..SMALL }).unwrap();
    let (rest, _) = open(disk, &meta).release_before(meta.parts[meta.parts.len() - 1].first);
    let (shorter, _) = at_once(rest.rebuild_directory(&AtOnce(disk), SMALL, &GO_ON)).unwrap();
    assert!(shorter.directory_bytes < meta.directory_bytes);
    // A crash before the new meta was written down.
    let (table, told) = at_once(Table::open(&AtOnce(disk), Path::new(DIR), STORE, rest.meta())).unwrap();
    assert_eq!((told.len(), told[0].at, told[0].bytes), (1, 0, meta.directory_bytes));
    assert!(matches!(find(disk, &table, 1200), Err(ReadError::Rotten(_))));
    let again = at_once(table.rebuild_directory(&AtOnce(disk), SMALL, &GO_ON)).unwrap();
    assert_eq!(again, (shorter.clone(), vec![]));
    check(disk, &open(disk, &shorter), &scan(disk, &rest, Key::MIN).0);
}

#[test]
fn with_the_index_of_a_directory_gone_a_rotten_page_is_lost_alone() {
    let stage = stage_of_two_pages();
    let disk = &stage.disk;
    let path = Path::new(DIR).join(meta::directory_name(5));
    disk.flip(&path, stage.meta.directory_bytes - 20, 3).unwrap();
    for page in [1, 2] {
        let at = page * PAGE_BYTES as u64;
        disk.flip(&path, at + 100, 1).unwrap();
        let told = ask(&stage, "index and page");
        assert!(tells_of(&told, &path, at), "{told:?}");
        let (table, _) = at_once(Table::open(&AtOnce(disk), Path::new(DIR), STORE, &stage.meta)).unwrap();
        let answers = stage.rows.iter().filter(|row| find(disk, &table, row.key.seq).is_ok()).count();
        assert!((20..580).contains(&answers), "the other page answers: {answers}");
        disk.flip(&path, at + 100, 1).unwrap();
    }
}
