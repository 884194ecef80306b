//! One damage at a time: what a start believes, what it says is lost, and that it starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use disk::{Chance, Disk, Open, Operation, SECTOR_BYTES, SimulatedDisk};

use super::*;
use crate::config::Config;
use crate::format::{PAGE_BYTES, pages};
use crate::reader::Reader;
use crate::record::{Group, Location};
use crate::refused::Refused;
use crate::simulation::{config, random};
use crate::writer::Writer;

const EIO: i32 = 5;

/// A journal on a simulated disk, and what it was given.
struct Scene {
    disk: Arc<SimulatedDisk>,
    core: Arc<Core>,
    writer: Writer,
    recovered: Recovered,
    now: Now,
    told: BTreeMap<u64, (Location, Bytes)>,
}

fn open(disk: &Arc<SimulatedDisk>, config: Config, now: Now) -> Result<(Arc<Core>, Writer, Recovered), OpenError> {
    let looked = what_a_look_says(disk, &config.dir);
    let core = Arc::new(Core::new(Arc::clone(disk) as Arc<dyn Disk>, config));
    let (writer, recovered) = Writer::open(Arc::clone(&core), random(now.monotonic_ms), now)?;
    if let (Some(looked), false) = (looked, core.table().is_unfinished) {
        assert_eq!(looked, recovered, "who only looks says what a recovery says");
    }
    Ok((core, writer, recovered))
}

/// As a recovery would say it, and nothing has changed. `None`: the disk fails, or there is no journal.
fn what_a_look_says(disk: &Arc<SimulatedDisk>, dir: &Path) -> Option<Recovered> {
    let before = contents(disk, dir);
    let looked = crate::look(dir, Arc::clone(disk) as Arc<dyn Disk>);
    assert_eq!(contents(disk, dir), before, "who only looks changes nothing");
    looked.ok().flatten().map(|looked| looked.recovered)
}

/// Every file there is, with what is in it.
fn contents(disk: &SimulatedDisk, dir: &Path) -> BTreeMap<PathBuf, Option<Bytes>> {
    let mut all = BTreeMap::new();
    for entry in disk.list(dir).unwrap_or_default() {
        let path = dir.join(&entry.name);
        match entry.is_dir {
            true => all.extend(contents(disk, &path)),
            false => {
                let file = disk.open(&path, Open::Reading).ok();
                all.insert(path, file.and_then(|file| disk.read(&file, 0, 1 << 30).ok()));
            }
        }
    }
    all
}

fn body(lsn: u64, bytes: usize) -> Bytes {
    let mut dice = Chance::new(lsn);
    (0..bytes).map(|_| dice.number() as u8).collect()
}

impl Scene {
    fn new() -> Scene {
        Scene::on(Arc::new(SimulatedDisk::new(1)))
    }

    fn on(disk: Arc<SimulatedDisk>) -> Scene {
        let now = Now { wall_ms: 1, monotonic_ms: 1 };
        let (core, writer, recovered) = open(&disk, config(), now).unwrap();
        Scene { disk, core, writer, recovered, now, told: BTreeMap::new() }
    }

    /// Commits groups of these many bytes, each one record.
    fn commit(&mut self, sizes: &[usize]) -> Vec<Result<u64, Refused>> {
        self.commit_as(sizes, false)
    }

    fn commit_as(&mut self, sizes: &[usize], reserved: bool) -> Vec<Result<u64, Refused>> {
        let groups = sizes.iter().zip(self.core.table().durable_lsn..).map(|(bytes, lsn)| {
            let record = Record::new(1, 2, lsn, body(lsn, *bytes));
            Group::new([if reserved { record.reserved() } else { record }]).unwrap()
        });
        let groups: Vec<Group> = groups.collect();
        let told = &mut self.told;
        self.writer.commit(&groups, self.now, &mut |committed| {
            told.insert(committed.lsn, (committed.location, committed.record.head().clone()));
        })
    }

    fn restart(&mut self) {
        self.disk.kill();
        self.now.monotonic_ms += 1;
        (self.core, self.writer, self.recovered) = open(&self.disk, config(), self.now).unwrap();
    }

    /// Every lsn there is, each with the right body.
    fn there(&self) -> Vec<u64> {
        let mut there = Vec::new();
        let mut reader = Reader::new(Arc::clone(&self.core));
        reader
            .scan(0, &mut |entry| {
                if let Some((_, body)) = self.told.get(&entry.lsn) {
                    assert!(entry.body == *body, "lsn {}", entry.lsn);
                }
                assert!(reader_agrees(&self.core, &entry));
                there.push(entry.lsn);
            })
            .unwrap();
        there
    }

    fn lost(&self) -> Vec<u64> {
        self.recovered.lost.iter().flat_map(|lost| lost.from_lsn..lost.to_lsn).collect()
    }

    fn put(&self, name: &str, at: u64, bytes: &[u8]) {
        let file = self.disk.open(&path(name), Open::Existing).unwrap();
        self.disk.write_all(&file, Bytes::copy_from_slice(bytes), Bytes::new(), at).unwrap();
        self.disk.persist(&file, 0).unwrap();
    }

    fn get(&self, name: &str) -> Vec<u8> {
        let file = self.disk.open(&path(name), Open::Existing).unwrap();
        self.disk.read(&file, 0, 1 << 30).unwrap().to_vec()
    }

    /// The same journal after a power cut, with these bytes in one of its files.
    fn damaged(&self, name: &str, at: u64, bytes: &[u8]) -> Scene {
        let disk = Arc::new(self.disk.states_after_cut(1).unwrap().next().unwrap());
        let file = disk.open(&path(name), Open::Existing).unwrap();
        disk.write_all(&file, Bytes::copy_from_slice(bytes), Bytes::new(), at).unwrap();
        disk.persist(&file, 0).unwrap();
        Scene { told: self.told.clone(), ..Scene::on(disk) }
    }

    fn rot(&self, name: &str, at: u64) {
        let file = self.disk.open(&path(name), Open::Existing).unwrap();
        let sector = self.disk.read(&file, at, SECTOR_BYTES).unwrap();
        let rotten: Vec<u8> = sector.iter().map(|byte| byte ^ 0x55).collect();
        self.put(name, at, &rotten);
    }

    fn names(&self) -> Vec<String> {
        self.disk.list(Path::new("/j")).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    /// Goes on, and is whole after one more start.
    fn goes_on(&mut self) {
        let next = self.recovered.next_lsn;
        assert_eq!(self.commit(&[10, 5000]), [Ok(next), Ok(next + 1)]);
        self.restart();
        assert!(self.there().ends_with(&[next, next + 1]));
    }
}

fn reader_agrees(core: &Arc<Core>, entry: &crate::record::Entry) -> bool {
    Reader::new(Arc::clone(core)).read(&entry.location).unwrap() == entry.body
}

fn path(name: &str) -> PathBuf {
    Path::new("/j").join(name)
}

const FIRST: &str = "segment-0000000000000001.wal";
const SECOND: &str = "segment-0000000000000002.wal";
const PAGE: u64 = PAGE_BYTES as u64;

/// Ten commits over some segments, and a mark.
fn some() -> Scene {
    let mut scene = Scene::new();
    for bytes in [100, 9000, 1, 4000, 0, 20_000, 33, 12_000, 4096, 700] {
        assert!(scene.commit(&[bytes, 64])[1].is_ok());
    }
    scene.writer.mark(scene.now);
    scene
}

#[test]
fn an_empty_directory_stays_empty_until_the_first_record() {
    let mut scene = Scene::new();
    assert_eq!(scene.recovered, Recovered::default());
    scene.writer.mark(scene.now);
    assert!(scene.disk.list(Path::new("/j")).is_err(), "not even the directory is made");
    assert_eq!(scene.commit(&[1]), [Ok(0)]);
    assert_eq!(scene.names(), ["id", FIRST]);
}

#[test]
fn a_journal_that_was_closed_goes_on_in_its_segment() {
    let mut scene = some();
    let names = scene.names();
    for _ in 0..3 {
        scene.restart();
        assert_eq!((scene.recovered.rewritten, scene.recovered.torn), (0, false));
        assert_eq!((scene.names(), scene.there()), (names.clone(), (0..20).collect()));
    }
    scene.goes_on();
}

#[test]
fn many_kills_do_not_leave_many_segments() {
    let mut scene = Scene::new();
    scene.commit(&[100]);
    scene.commit(&[100]);
    for _ in 0..20 {
        scene.restart();
        assert_eq!(scene.there(), [0, 1]);
        assert!(scene.names().len() <= 6, "{:?}", scene.names());
    }
}

#[test]
fn any_flipped_bit_below_the_watermark_costs_what_it_hit_and_is_told() {
    let mut dice = Chance::new(7);
    let (mut lossless, mut losses) = (0, 0);
    for _ in 0..400 {
        let mut scene = some();
        let segments: Vec<String> = scene.names().into_iter().filter(|name| name.starts_with("segment")).collect();
        let name = &segments[dice.below(segments.len())];
        let bytes = scene.get(name).len();
        // As often in a place where something lies as anywhere.
        let at =
            if dice.below(2) == 0 { dice.below(bytes) } else { PAGE_BYTES * (1 + dice.below(7)) + dice.below(150) };
        scene.disk.flip(&path(name), at as u64, dice.below(8) as u8).unwrap();
        scene.restart();
        let (lost, there) = (scene.lost(), scene.there());
        let mut all = [lost.clone(), there].concat();
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>(), "{name} at {at}: lost or there, never both");
        assert!(lost.len() <= 2, "{name} at {at}: {lost:?}");
        if lost.is_empty() {
            lossless += 1
        } else {
            losses += 1
        }
        assert_eq!(scene.names().contains(&"quarantine".to_owned()), !lost.is_empty());
        scene.goes_on();
    }
    assert!(lossless > 50 && losses > 50, "{lossless} {losses}");
}

#[test]
fn the_last_block_cut_at_every_byte_is_there_or_not() {
    let mut scene = some();
    scene.restart();
    assert_eq!(scene.commit(&[500, 300]), [Ok(20), Ok(21)]);
    let (location, _) = scene.told[&20];
    let name = names::segment(location.segment);
    let begin = u64::from(location.offset) / PAGE * PAGE;
    let whole = scene.get(&name)[begin as usize..][..PAGE_BYTES].to_vec();
    let length = u32::from_le_bytes(whole[8..12].try_into().unwrap()) as usize;
    for cut in (0..length).chain([length, PAGE_BYTES]) {
        let mut page = whole.clone();
        page[cut..].fill(0);
        let torn = scene.damaged(&name, begin, &page);
        let kept = torn.there().len();
        // Trailing zeros of a body are no cut.
        assert!(kept == if page[..length] == whole[..length] { 22 } else { 20 }, "cut at {cut}: {kept}");
        assert_eq!(torn.recovered.lost, []);
    }
}

#[test]
fn a_block_torn_at_any_sector_is_rejected_whole() {
    let mut scene = some();
    scene.restart();
    scene.commit(&[3000, 9000]);
    let (location, _) = scene.told[&20];
    let name = names::segment(location.segment);
    let begin = u64::from(location.offset) / PAGE * PAGE;
    let sectors = pages(12_500) / SECTOR_BYTES;
    for sector in 0..12_000 / SECTOR_BYTES {
        assert!(sector < sectors);
        let mut torn = scene.damaged(&name, begin + (sector * SECTOR_BYTES) as u64, &[0xee; SECTOR_BYTES]);
        assert_eq!(torn.there(), (0..20).collect::<Vec<_>>(), "sector {sector}");
        assert_eq!((torn.recovered.lost.len(), torn.recovered.torn), (0, sector > 0), "sector {sector}");
        torn.goes_on();
    }
}

#[test]
fn the_first_record_of_a_segment_costs_nothing_else() {
    let mut scene = some();
    scene.rot(FIRST, PAGE);
    scene.restart();
    assert_eq!((scene.lost(), scene.there()), (vec![0, 1], (2..20).collect()));
    scene.goes_on();
}

#[test]
fn one_rotten_header_costs_nothing_two_cost_the_segment() {
    let mut scene = some();
    let first_of_second = scene.core.table().live[&2].extent.first_lsn;
    let next_of_second = scene.core.table().live[&2].extent.next_lsn;
    scene.rot(SECOND, 0);
    scene.restart();
    assert_eq!((scene.lost(), scene.there()), (vec![], (0..20).collect()));
    let end = scene.get(SECOND).len() as u64;
    scene.rot(SECOND, end - PAGE);
    scene.restart();
    assert_eq!(scene.lost(), (first_of_second..next_of_second).collect::<Vec<_>>());
    assert!(scene.disk.look_at(&path("quarantine").join(SECOND)).is_ok(), "put aside whole");
    scene.goes_on();
}

#[test]
fn a_last_segment_with_no_header_never_has_its_lsns_used_again() {
    let mut scene = some();
    let (last, live) = scene.core.table().live.last_key_value().map(|(last, live)| (*last, live.clone())).unwrap();
    let name = names::segment(last);
    scene.rot(&name, 0);
    scene.rot(&name, live.header.length - PAGE);
    scene.restart();
    assert_eq!(scene.recovered.lost[0].from_lsn, live.extent.first_lsn);
    assert!(scene.recovered.next_lsn >= live.extent.next_lsn);
    scene.goes_on();
}

#[test]
fn a_rotten_checkpoint_falls_back_to_the_one_before_and_everything_it_needs_is_there() {
    let mut scene = some();
    for lsn in [2, 12, 20] {
        scene.core.checkpoint(lsn, vec![lsn as u8]).unwrap();
        for segment in Reader::new(Arc::clone(&scene.core)).segments() {
            scene.core.free(segment);
        }
    }
    scene.restart();
    assert_eq!((scene.recovered.from_lsn, scene.recovered.checkpoint.clone()), (20, Some(vec![20])));
    for (rotten, lsn) in [(3, 12), (2, 2)] {
        scene.rot(&names::checkpoint(rotten), 0);
        scene.restart();
        assert_eq!((scene.recovered.from_lsn, scene.recovered.checkpoint.clone()), (lsn, Some(vec![lsn as u8])));
        assert_eq!(scene.recovered.bad_checkpoints, [rotten]);
        assert_eq!((scene.lost(), scene.there().last()), (vec![], Some(&19)));
    }
    scene.rot(&names::checkpoint(1), 80);
    scene.restart();
    assert_eq!((scene.recovered.checkpoint.clone(), scene.lost()), (None, vec![]));
    scene.restart();
    assert_eq!(scene.lost(), [0; 0], "nor is anything missed by the start after that");
    scene.core.checkpoint(20, Vec::new()).unwrap();
    scene.goes_on();
}

#[test]
fn a_segment_goes_when_two_checkpoints_do_without_it_and_comes_back_as_a_new_one() {
    let mut scene = some();
    let [before, salt] = [FIRST, FIRST].map(|name| scene.get(name));
    scene.core.checkpoint(20, Vec::new()).unwrap();
    scene.core.free(1);
    scene.core.checkpoint(20, Vec::new()).unwrap();
    scene.core.tend().unwrap();
    assert!(scene.names().contains(&FIRST.to_owned()), "the checkpoint before needs it");
    scene.core.checkpoint(20, Vec::new()).unwrap();
    scene.core.tend().unwrap();
    assert!(!scene.names().contains(&FIRST.to_owned()));
    let spare = scene.names().into_iter().rfind(|name| name.starts_with("spare")).unwrap();
    assert_eq!(scene.get(&spare), before, "as it was");
    // Until it is used: then nothing that is still in it is believed.
    while scene.core.metrics.spares.get() > 0 || scene.names().contains(&spare) {
        scene.commit(&[3000]);
    }
    let last = *scene.core.table().live.last_key_value().unwrap().0;
    assert_ne!(scene.get(&names::segment(last))[24..40], salt[24..40], "a new salt");
    let next = scene.core.table().durable_lsn;
    scene.restart();
    assert_eq!((scene.lost(), scene.recovered.next_lsn), (vec![], next));
    assert_eq!(scene.there().last(), Some(&(next - 1)));
}

#[test]
fn a_block_in_the_wrong_place_is_not_believed() {
    let mut scene = some();
    let live = scene.core.table().live.last_key_value().unwrap().1.clone();
    let name = names::segment(live.extent.number);
    let from = live.extent.end as usize - 2 * PAGE_BYTES;
    let block = scene.get(&name)[from..][..PAGE_BYTES].to_vec();
    scene.put(&name, live.extent.end, &block);
    scene.restart();
    assert_eq!((scene.there(), scene.lost()), ((0..20).collect(), vec![]));
    scene.goes_on();
}

#[test]
fn newer_files_and_those_of_another_node_are_refused_untouched() {
    for name in ["id", FIRST, "checkpoint-0000000000000001"] {
        let mut scene = some();
        scene.core.checkpoint(3, Vec::new()).unwrap();
        scene.rot(SECOND, PAGE);
        let mut bytes = scene.get(name);
        let header_bytes = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        bytes[16] += 1;
        let crc = crc32c::crc32c(&bytes[4..header_bytes]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        scene.put(name, 0, &bytes);
        let before = scene.names();
        scene.disk.kill();
        let told = open(&scene.disk, config(), scene.now).err().unwrap().to_string();
        assert!(told.contains("version 2") && told.contains("nothing was touched"), "{told}");
        assert_eq!(scene.names(), before);
        scene.now.monotonic_ms += 1;
    }
    let scene = some();
    let other = Config { node: "node-2".to_owned(), ..config() };
    let told = open(&scene.disk, other, scene.now).err().unwrap().to_string();
    assert_eq!(told, "\"/j\" holds the journal of node \"node-1\", not of \"node-2\"; nothing was touched");
}

#[test]
fn a_lost_id_is_found_in_the_segments() {
    let mut scene = some();
    let before = scene.get("id");
    scene.rot("id", 0);
    scene.restart();
    assert_eq!((scene.get("id"), scene.there().len()), (before, 20));
}

#[test]
fn a_failed_persist_costs_nobody_anything_and_that_file_is_never_persisted_again() {
    let mut scene = some();
    let poisoned = scene.writer_segment();
    scene.disk.fail_next(|operation| matches!(operation, Operation::Persist { .. }), EIO);
    assert_eq!(scene.commit(&[100, 9000]), [Ok(20), Ok(21)]);
    assert_eq!(scene.core.metrics.poisoned.get(), 1);
    assert!(scene.writer_segment() > poisoned);
    assert_eq!(scene.told[&20].0.segment, scene.writer_segment(), "written again");
    // What shows up in it later is not believed: its successor says where it ends.
    let end = scene.core.table().live[&poisoned].extent.end;
    for _ in 0..20 {
        scene.restart();
        assert_eq!((scene.there(), scene.lost()), ((0..22).collect(), vec![]));
        assert_eq!(scene.core.table().live[&poisoned].extent.end, end);
        scene.disk.cut();
    }
}

impl Scene {
    fn writer_segment(&self) -> u64 {
        *self.core.table().live.last_key_value().unwrap().0
    }
}

#[test]
fn a_second_failure_makes_it_read_only_until_the_pause_is_over() {
    let mut scene = some();
    for _ in 0..2 {
        scene.disk.fail_next(|operation| matches!(operation, Operation::Persist { .. }), EIO);
    }
    assert_eq!(scene.commit(&[100]), [Err(Refused::Unknown)]);
    assert_eq!(scene.commit(&[100]), [Err(Refused::ReadOnly)]);
    assert_eq!(scene.core.metrics.read_only.get(), 1);
    scene.now.monotonic_ms += 29_999;
    assert_eq!(scene.commit(&[100]), [Err(Refused::ReadOnly)]);
    scene.now.monotonic_ms += 1;
    assert_eq!(scene.commit(&[100]), [Ok(20)]);
    scene.restart();
    assert_eq!(scene.there(), (0..21).collect::<Vec<_>>());
    // Not soon after the first one, it is a first one again.
    for (pause_ms, commit) in [(0, Ok(21)), (60_000, Ok(22)), (59_999, Err(Refused::Unknown))] {
        scene.now.monotonic_ms += pause_ms;
        scene.disk.fail_next(|operation| matches!(operation, Operation::Persist { .. }), EIO);
        assert_eq!(scene.commit(&[100]), [commit]);
    }
}

#[test]
fn on_a_full_disk_what_settles_others_goes_on_and_makes_room() {
    let disk = Arc::new(SimulatedDisk::new(3));
    disk.set_capacity(140 << 10);
    let mut scene = Scene::on(disk);
    let mut accepted = 0;
    while scene.commit(&[2000]) == [Ok(accepted)] {
        accepted += 1;
    }
    assert!(accepted > 5);
    assert_eq!(scene.commit(&[2000]), [Err(Refused::DiskFull)]);
    assert_eq!(scene.commit_as(&[1500], true), [Ok(accepted)]);
    let first = scene.core.table().live.first_key_value().map(|(first, _)| *first).unwrap();
    scene.core.free(first);
    for _ in 0..2 {
        // A checkpoint is small; just that has room.
        let space = scene.disk.space(Path::new("/j")).unwrap();
        scene.disk.set_capacity(space.total_bytes - space.free_bytes + 1000);
        scene.core.checkpoint(accepted + 1, Vec::new()).unwrap();
    }
    assert!(scene.core.tend().is_err(), "there is no room for one more, but the first segment is ready again");
    assert_eq!(scene.commit(&[2000]), [Ok(accepted + 1)]);
    scene.restart();
    assert_eq!(scene.lost(), [0; 0]);
}

/// Everything a power cut can leave of a short history, at each of its operations.
#[test]
fn every_state_after_a_cut_of_a_short_history_has_all_that_was_told() {
    const STATES_MAX: usize = 4096;
    let (mut opened, mut skipped) = (0, 0);
    // The operation in which the power goes is done or not, as the seed says.
    for (operations, seed) in (0..).flat_map(|operations| [1, 2, 3, 4].map(|seed| (operations, seed))) {
        let mut scene = Scene::on(Arc::new(SimulatedDisk::new(seed)));
        scene.disk.cut_after(operations);
        for bytes in [3000, 2500] {
            scene.commit(&[bytes]);
        }
        scene.core.free(1);
        for lsn in [1, 2] {
            let _ = scene.core.checkpoint(lsn, vec![1]);
        }
        scene.commit(&[20_000]);
        let _ = scene.core.tend();
        let told = scene.told.clone();
        let is_over = !scene.disk.is_off();
        match scene.disk.states_after_cut(STATES_MAX) {
            Ok(states) => {
                for state in states {
                    let found = Scene::on(Arc::new(state));
                    let found = Scene { told: told.clone(), ..found };
                    assert_eq!(found.recovered.lost, [], "after {operations} operations");
                    let there = found.there();
                    let needed = |lsn: &&u64| told[lsn].0.segment > 1;
                    let missing: Vec<&u64> = told.keys().filter(needed).filter(|lsn| !there.contains(lsn)).collect();
                    assert!(missing.is_empty(), "after {operations} operations: {missing:?}");
                    opened += 1;
                }
            }
            Err(_) => skipped += 1,
        }
        if is_over {
            break;
        }
    }
    assert!(opened > 1000 && skipped < 20, "{opened} states, {skipped} cuts with too many");
}
