//! Every state that a power cut could leave, one after the other.
//!
//! A seed finds one of them; a short history has so few that all can be opened. They are the cross product of what may
//! be lost: of each directory, which changes; of each file that still has a name, which length, and of each sector
//! within that length which version. What nobody could see (a file without a name, a sector beyond the end) makes no state, so
//! all are different.
//!
//! Example: a file of one durable sector to which two more were written, one at a time. Three lengths; within the
//! longest two sectors that are there or zeros; 1 + 2 + 4 = 7 states.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;

use super::content::{self, Content, SECTOR_BYTES};
use super::tree::{Directory, Names, Node, NodeId, ROOT, Tree};
use super::{SimulatedDisk, State};

/// The history was too long for all its states to be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyStates {
    pub states_max: usize,
}

impl fmt::Display for TooManyStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = self.states_max;
        write!(f, "a power cut now could leave more than {max} states: persist more often, or try seeds instead")
    }
}

impl std::error::Error for TooManyStates {}

impl SimulatedDisk {
    /// What [`SimulatedDisk::cut`] could leave now, every state as a disk of its own and each once; this one is not
    /// changed. The first of them lost all it could. Misfortunes are not inherited, time and capacity are.
    pub fn states_after_cut(
        &self,
        states_max: usize,
    ) -> Result<impl Iterator<Item = SimulatedDisk> + use<>, TooManyStates> {
        let states = States::of(&self.state(), states_max)?;
        Ok((0..states.count()).map(move |index| states.disk(index)))
    }
}

/// All of them, as choices.
struct States {
    /// By their nodes; what is no file has none.
    files: BTreeMap<NodeId, FileStates>,
    modified_ms: BTreeMap<NodeId, i64>,
    /// What could be found under which name, and how many states that has.
    trees: Vec<(Named, usize)>,
    nodes: usize,
    now_ms: i64,
    capacity_bytes: u64,
    cuts: u64,
}

/// Which directories and files have a name, with what the directories hold.
#[derive(Clone, Default)]
struct Named {
    directories: BTreeMap<NodeId, Names>,
    files: BTreeSet<NodeId>,
}

/// What one file could hold: for every length, versions of the sectors that are not certain.
struct FileStates {
    durable: Vec<u8>,
    lengths: Vec<OfLength>,
}

struct OfLength {
    bytes: usize,
    sectors: Vec<(usize, Vec<content::Sector>)>,
    count: usize,
}

impl States {
    fn of(state: &State, states_max: usize) -> Result<States, TooManyStates> {
        let too_many = TooManyStates { states_max };
        let (mut files, mut modified, mut directories) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (id, node) in state.tree.nodes.iter().enumerate() {
            match node {
                Node::File { content, modified_ms } => {
                    files.insert(id, FileStates::of(content));
                    modified.insert(id, *modified_ms);
                }
                Node::Directory(directory) => {
                    directories.insert(id, names_after_cut(directory, states_max).ok_or(too_many)?);
                }
            }
        }
        let mut states = States {
            files,
            modified_ms: modified,
            trees: Vec::new(),
            nodes: state.tree.nodes.len(),
            now_ms: state.now_ms,
            capacity_bytes: state.capacity_bytes,
            cuts: state.cuts,
        };
        // Directories are decided on the way down, so that one without a name is never decided.
        let mut undecided = vec![(Named::default(), vec![ROOT])];
        while let Some((named, mut ways)) = undecided.pop() {
            let Some(next) = ways.pop() else {
                let counts = named.files.iter().map(|file| states.files[file].count());
                let count = counts.fold(1, usize::saturating_mul);
                states.trees.push((named, count));
                if states.count() > states_max {
                    return Err(too_many);
                }
                continue;
            };
            if named.directories.contains_key(&next) {
                undecided.push((named, ways));
                continue;
            }
            // The last pushed is the first done: what lost most comes first.
            for names in directories[&next].iter().rev() {
                let (mut named, mut ways) = (named.clone(), ways.clone());
                for node in names.values() {
                    match states.files.contains_key(node) {
                        true => drop(named.files.insert(*node)),
                        false => ways.push(*node),
                    }
                }
                named.directories.insert(next, names.clone());
                undecided.push((named, ways));
            }
            if undecided.len() > states_max {
                return Err(too_many);
            }
        }
        Ok(states)
    }

    fn count(&self) -> usize {
        self.trees.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    fn disk(&self, mut index: usize) -> SimulatedDisk {
        let seed = index as u64;
        let mut trees = self.trees.iter();
        let named = loop {
            let (named, count) = trees.next().expect("an index below the count");
            match index.checked_sub(*count) {
                Some(later) => index = later,
                None => break named,
            }
        };
        let mut tree = Tree { nodes: Vec::with_capacity(self.nodes) };
        for node in 0..self.nodes {
            let file = self.files.get(&node).map(|file| {
                let bytes = match named.files.contains(&node) {
                    true => file.bytes(take(&mut index, file.count())),
                    false => Vec::new(),
                };
                Node::File { content: Content::settled(bytes), modified_ms: self.modified_ms[&node] }
            });
            let names = || named.directories.get(&node).cloned().unwrap_or_default();
            tree.nodes.push(file.unwrap_or_else(|| Node::Directory(Directory::settled(names()))));
        }
        let mut state = State::new(tree, seed);
        (state.now_ms, state.capacity_bytes, state.cuts) = (self.now_ms, self.capacity_bytes, self.cuts + 1);
        SimulatedDisk { state: Mutex::new(state) }
    }
}

impl FileStates {
    fn of(content: &Content) -> FileStates {
        let mut lengths = vec![content.durable.len()];
        for bytes in &content.lengths {
            if !lengths.contains(bytes) {
                lengths.push(*bytes);
            }
        }
        let lengths = lengths.into_iter().map(|bytes| OfLength::of(content, bytes)).collect();
        FileStates { durable: content.durable.clone(), lengths }
    }

    fn count(&self) -> usize {
        self.lengths.iter().fold(0, |sum, length| sum.saturating_add(length.count))
    }

    fn bytes(&self, mut index: usize) -> Vec<u8> {
        let mut lengths = self.lengths.iter();
        let length = loop {
            let length = lengths.next().expect("an index below the count");
            match index.checked_sub(length.count) {
                Some(later) => index = later,
                None => break length,
            }
        };
        let mut bytes = self.durable.clone();
        for (number, versions) in &length.sectors {
            content::put(&mut bytes, *number, &versions[take(&mut index, versions.len())]);
        }
        bytes.resize(length.bytes, 0);
        bytes
    }
}

impl OfLength {
    fn of(content: &Content, bytes: usize) -> OfLength {
        let mut sectors: BTreeMap<usize, Vec<content::Sector>> = BTreeMap::new();
        for (number, versions) in content.forsaken.iter().chain(&content.dirty) {
            let begin = number * SECTOR_BYTES;
            if begin >= bytes {
                continue;
            }
            let within = SECTOR_BYTES.min(bytes - begin);
            let choices = sectors.entry(*number).or_insert_with(|| vec![content::sector(&content.durable, *number)]);
            for version in versions {
                if choices.iter().all(|known| known[..within] != version[..within]) {
                    choices.push(*version);
                }
            }
        }
        sectors.retain(|_, choices| choices.len() > 1);
        let sectors: Vec<(usize, Vec<content::Sector>)> = sectors.into_iter().collect();
        let count = sectors.iter().map(|(_, choices)| choices.len()).fold(1, usize::saturating_mul);
        OfLength { bytes, sectors, count }
    }
}

/// What a directory could hold, the durable names first. None: more than so many.
fn names_after_cut(directory: &Directory, states_max: usize) -> Option<Vec<Names>> {
    let mut all = vec![directory.durable.clone()];
    for change in &directory.changes {
        let changed: Vec<Names> = all
            .iter()
            .cloned()
            .map(|mut names| {
                change.apply(&mut names);
                names
            })
            .collect();
        for names in changed {
            if !all.contains(&names) {
                all.push(names);
            }
        }
        if all.len() > states_max {
            return None;
        }
    }
    Some(all)
}

/// The next digit of a number whose digits have different bases.
fn take(index: &mut usize, base: usize) -> usize {
    let digit = *index % base;
    *index /= base;
    digit
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;

    use super::*;
    use crate::{Disk, File, Open, Operation};

    const SEEDS: u64 = 1000;
    const STATES_MAX: usize = 20_000;

    /// Everything that can be seen, by path; a directory has no bytes.
    type Image = BTreeMap<String, Option<Vec<u8>>>;

    fn image(disk: &SimulatedDisk) -> Image {
        let (mut seen, mut ways) = (Image::new(), vec![String::new()]);
        while let Some(way) = ways.pop() {
            for entry in disk.list(Path::new(&format!("{way}/"))).unwrap() {
                let path = format!("{way}/{}", entry.name);
                let bytes = (!entry.is_dir).then(|| {
                    let file = disk.open(Path::new(&path), Open::Existing).unwrap();
                    disk.read(&file, 0, 1 << 20).unwrap().to_vec()
                });
                if entry.is_dir {
                    ways.push(path.clone());
                }
                seen.insert(path, bytes);
            }
        }
        seen
    }

    fn open(disk: &SimulatedDisk, name: &str) -> File {
        disk.open(Path::new(name), Open::Empty).unwrap()
    }

    fn put(disk: &SimulatedDisk, file: &File, at: usize, letters: &str) {
        let bytes: Vec<u8> = letters.bytes().flat_map(|letter| [letter; SECTOR_BYTES]).collect();
        disk.write_all(file, Bytes::from(bytes), Bytes::new(), (at * SECTOR_BYTES) as u64).unwrap();
    }

    type Story = fn(&SimulatedDisk);

    /// What happened, and in how many ways it can end.
    const STORIES: &[(&str, usize, Story)] = &[
        ("nothing", 1, |_| {}),
        ("one name", 2, |disk| drop(open(disk, "/a"))),
        ("two names, each by itself", 4, |disk| {
            drop(open(disk, "/a"));
            drop(open(disk, "/b"));
        }),
        ("appended twice to a durable sector", 7, |disk| {
            let file = open(disk, "/a");
            put(disk, &file, 0, "a");
            disk.persist(&file, 0).unwrap();
            disk.persist_dir(Path::new("/")).unwrap();
            put(disk, &file, 1, "b");
            put(disk, &file, 2, "c");
        }),
        ("written over twice, once with what is there", 2, |disk| {
            let file = open(disk, "/a");
            put(disk, &file, 0, "a");
            disk.persist(&file, 0).unwrap();
            disk.persist_dir(Path::new("/")).unwrap();
            put(disk, &file, 0, "b");
            put(disk, &file, 0, "a");
        }),
        ("an odd length: half a sector is cut off", 4, |disk| {
            let file = open(disk, "/a");
            disk.persist_dir(Path::new("/")).unwrap();
            put(disk, &file, 0, "a");
            disk.truncate(&file, 100).unwrap();
            disk.persist(&file, 0).unwrap();
            disk.write_all(&file, Bytes::from_static(b"bb"), Bytes::new(), 99).unwrap();
        }),
        ("a persist failed and a later one did not", 2, |disk| {
            let file = open(disk, "/a");
            disk.persist_dir(Path::new("/")).unwrap();
            put(disk, &file, 0, "a");
            disk.fail_next(|operation| matches!(operation, Operation::Persist { .. }), 5);
            assert!(disk.persist(&file, 0).is_err());
            let again = disk.open(Path::new("/a"), Open::Existing).unwrap();
            put(disk, &again, 1, "b");
            disk.persist(&again, 0).unwrap();
        }),
        ("zeroed, written, renamed, without any persist", 11, |disk| {
            let file = open(disk, "/new");
            disk.zero(&file, 2 * SECTOR_BYTES as u64).unwrap();
            put(disk, &file, 0, "a");
            disk.rename(Path::new("/new"), Path::new("/a")).unwrap();
            // No name; or one of two, and of length 0 one, of length 1 two, of length 2 two.
        }),
        ("a file removed is uncertain as long as its name is", 3, |disk| {
            let file = open(disk, "/a");
            disk.persist_dir(Path::new("/")).unwrap();
            disk.persist(&file, 0).unwrap();
            disk.write_all(&file, Bytes::from_static(b"a"), Bytes::new(), 0).unwrap();
            disk.persist(&file, 0).unwrap();
            disk.write_all(&file, Bytes::from_static(b"b"), Bytes::new(), 0).unwrap();
            disk.remove(Path::new("/a")).unwrap();
        }),
        ("a directory whose name may be lost with what is in it", 4, |disk| {
            disk.make_dir(Path::new("/d")).unwrap();
            drop(open(disk, "/d/a"));
            disk.persist_dir(Path::new("/d")).unwrap();
            drop(open(disk, "/d/b"));
            disk.rename(Path::new("/d/b"), Path::new("/d/c")).unwrap();
        }),
    ];

    #[test]
    fn the_states_are_those_that_seeds_find_and_each_is_there_once() {
        for (what, count, story) in STORIES {
            let disk = SimulatedDisk::new(0);
            story(&disk);
            let all: Vec<Image> = disk.states_after_cut(STATES_MAX).unwrap().map(|disk| image(&disk)).collect();
            let different: BTreeSet<Image> = all.iter().cloned().collect();
            let found = (0..SEEDS).map(|seed| {
                let disk = SimulatedDisk::new(seed);
                story(&disk);
                disk.cut();
                image(&disk)
            });
            assert_eq!(different, found.collect(), "{what}");
            assert_eq!((all.len(), different.len()), (*count, *count), "{what}");
        }
    }

    #[test]
    fn a_state_is_a_disk_of_its_own_and_the_first_lost_all_it_could() {
        let disk = SimulatedDisk::new(0);
        disk.set_capacity(10_000);
        let file = open(&disk, "/a");
        put(&disk, &file, 0, "a");
        let before = image(&disk);
        let states: Vec<SimulatedDisk> = disk.states_after_cut(STATES_MAX).unwrap().collect();
        assert!(image(&states[0]).is_empty());
        for state in &states {
            assert!(state.read(&file, 0, 1).is_err(), "opened before the cut");
            let file = open(state, "/b");
            put(state, &file, 0, "b");
            state.persist(&file, 0).unwrap();
            assert_eq!(state.space(Path::new("/")).unwrap().total_bytes, 10_000);
        }
        assert_eq!(image(&disk), before);
    }

    #[test]
    fn more_states_than_wanted_are_refused_whatever_they_are_of() {
        let sectors: Story = |disk| {
            let file = open(disk, "/a");
            disk.zero(&file, 40 * SECTOR_BYTES as u64).unwrap();
            disk.persist(&file, 0).unwrap();
            disk.persist_dir(Path::new("/")).unwrap();
            put(disk, &file, 0, &"x".repeat(40));
        };
        let names: Story = |disk| (0..40).for_each(|n| drop(open(disk, &format!("/{n}"))));
        let directories: Story = |disk| {
            for n in 0..40 {
                disk.make_dir(Path::new(&format!("/{n}"))).unwrap();
                drop(open(disk, &format!("/{n}/a")));
            }
            disk.persist_dir(Path::new("/")).unwrap();
        };
        for story in [sectors, names, directories] {
            let disk = SimulatedDisk::new(0);
            story(&disk);
            assert_eq!(disk.states_after_cut(STATES_MAX).err(), Some(TooManyStates { states_max: STATES_MAX }));
        }
        let (_, count, story) = STORIES[3];
        let disk = SimulatedDisk::new(0);
        story(&disk);
        assert!(disk.states_after_cut(count).is_ok());
        assert!(disk.states_after_cut(count - 1).is_err());
    }
}
