//! What a disk promises, asked of every disk and every device: they differ in how, never in what.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use rustix::io::Errno;
use tempfile::TempDir;

use crate::ring::Ring;
use crate::{Completion, Device, Disk, File, Files, Open, Operation, Outcome, SimulatedDisk, WaitedDisk};

const PAGE: usize = 4096;
const SEGMENT_BYTES: u64 = 64 * PAGE as u64;

/// Which operation is to fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Persist,
}

impl Kind {
    fn is_of(self, operation: &Operation) -> bool {
        match self {
            Kind::Write => matches!(operation, Operation::Write { .. }),
            Kind::Persist => matches!(operation, Operation::Persist { .. }),
        }
    }
}

/// A disk to ask, and a directory on it.
struct Asked {
    name: &'static str,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    fail_next: Box<dyn Fn(Kind)>,
    _temporary: Option<TempDir>,
}

fn files(name: &'static str, device: Device) -> Asked {
    let temporary = tempfile::tempdir().unwrap();
    let fails: Arc<Mutex<Option<Kind>>> = Arc::default();
    let theirs = Arc::clone(&fails);
    let before = move |operation: &Operation| {
        let next = theirs.lock().unwrap().take_if(|kind| kind.is_of(operation));
        next.map_or(Ok(()), |_| Err(Errno::IO.into()))
    };
    Asked {
        name,
        disk: Arc::new(Files::with_device(device, before, || {}, || {}).unwrap()),
        dir: temporary.path().to_owned(),
        fail_next: Box::new(move |kind| *fails.lock().unwrap() = Some(kind)),
        _temporary: Some(temporary),
    }
}

/// A disk whose every operation is one of a ring, on a thread of its own.
struct OnRing {
    ask: mpsc::Sender<(Operation, mpsc::Sender<io::Result<Outcome>>)>,
}

impl OnRing {
    fn start(disk: Arc<dyn Disk>) -> OnRing {
        let (ask, asked) = mpsc::channel::<(Operation, mpsc::Sender<io::Result<Outcome>>)>();
        std::thread::spawn(move || {
            let executor = crate::ring::executor("promises", 64 << 10, 16).expect("this machine has io_uring");
            executor.run(async {
                let ring = Ring::new(&*disk);
                // The only task.
                while let Ok((operation, answer)) = asked.recv() {
                    answer.send(ring.run(operation).await).unwrap();
                }
            });
        });
        OnRing { ask }
    }
}

impl Disk for OnRing {
    fn call(&self, operation: Operation) -> io::Result<Outcome> {
        let (answer, answered) = mpsc::channel();
        self.ask.send((operation, answer)).unwrap();
        answered.recv().unwrap()
    }

    fn submit(&self, _: u64, _: Operation) {
        unreachable!("these tests only call");
    }

    fn complete(&self) -> Option<Completion> {
        None
    }
}

fn ring() -> Asked {
    let files = files("ring", Device::Mapped);
    Asked { disk: Arc::new(OnRing::start(Arc::clone(&files.disk))), ..files }
}

fn simulated() -> Asked {
    let disk = Arc::new(SimulatedDisk::new(1));
    disk.make_dir(Path::new("/d")).unwrap();
    let theirs = Arc::clone(&disk);
    Asked {
        name: "simulated",
        disk,
        dir: PathBuf::from("/d"),
        fail_next: Box::new(move |kind| {
            theirs.fail_next(move |operation| kind.is_of(operation), Errno::IO.raw_os_error());
        }),
        _temporary: None,
    }
}

/// Every disk, each by itself, so that a failure names it.
fn each(ask: impl Fn(&Asked)) {
    for asked in of_the_system().into_iter().chain([ring(), simulated()]) {
        eprintln!("{}", asked.name);
        ask(&asked);
    }
}

fn of_the_system() -> Vec<Asked> {
    let all = [files("plain", Device::Plain), files("mapped", Device::Mapped), files("direct", Device::Direct)];
    let does_direct_writes = |asked: &Asked| match asked.try_segment("probe") {
        Err(err) if err.kind() == io::ErrorKind::Unsupported => {
            eprintln!("skipped: {err}");
            false
        }
        opened => opened.is_ok(),
    };
    all.into_iter().filter(does_direct_writes).collect()
}

impl Asked {
    /// A zeroed segment, made as one is made.
    fn segment(&self, name: &str) -> File {
        self.try_segment(name).unwrap()
    }

    fn try_segment(&self, name: &str) -> io::Result<File> {
        let (making, path) = (self.dir.join("making"), self.dir.join(name));
        let file = self.disk.open(&making, Open::Empty).unwrap();
        self.disk.zero(&file, SEGMENT_BYTES).unwrap();
        self.disk.persist(&file, 0).unwrap();
        self.disk.rename(&making, &path).unwrap();
        self.disk.persist_dir(&self.dir).unwrap();
        self.disk.open(&path, Open::Segment)
    }

    fn put(&self, file: &File, at: u64, bytes: Vec<u8>) -> io::Result<()> {
        self.disk.write_all(file, Bytes::from(bytes), Bytes::new(), at)
    }
}

fn pages(letters: &str) -> Vec<u8> {
    letters.bytes().flat_map(|letter| [letter; PAGE]).collect()
}

#[test]
fn a_segment_has_zeros_and_then_what_was_written_also_for_who_opens_it_later() {
    each(|asked| {
        let file = asked.segment("s");
        let end = SEGMENT_BYTES - PAGE as u64;
        assert_eq!(asked.disk.read(&file, 0, 1 << 20).unwrap(), vec![0; SEGMENT_BYTES as usize]);
        asked.put(&file, 0, pages("ab")).unwrap();
        asked.disk.write_all(&file, Bytes::from(pages("c")), Bytes::from(pages("d")), 2 * PAGE as u64).unwrap();
        asked.put(&file, end, pages("z")).unwrap();
        let writes = file.writes();
        let persist = Operation::Persist { file: file.clone(), from: 0 };
        assert!(
            matches!(asked.disk.call(persist), Ok(crate::Outcome::Persisted { writes: covered }) if covered == writes)
        );
        let again = asked.disk.open(&asked.dir.join("s"), Open::Existing).unwrap();
        for reader in [&file, &again] {
            assert_eq!(asked.disk.read(reader, 0, 5 * PAGE).unwrap(), pages("abcd\0"));
            assert_eq!(asked.disk.read(reader, end - PAGE as u64, 5 * PAGE).unwrap(), pages("\0z"));
            assert_eq!(asked.disk.read(reader, SEGMENT_BYTES, 1).unwrap(), Bytes::new());
        }
        assert_eq!(asked.disk.look_at(&asked.dir.join("s")).unwrap().bytes, SEGMENT_BYTES);
    });
}

#[test]
fn a_segment_keeps_its_length_and_says_so_and_goes_on() {
    each(|asked| {
        let (disk, file) = (&asked.disk, asked.segment("s"));
        let beyond = [(SEGMENT_BYTES, 1), (SEGMENT_BYTES - PAGE as u64, 2), (u64::MAX - PAGE as u64 + 1, 1)];
        for (at, page_count) in beyond {
            let err = asked.put(&file, at, vec![1; page_count * PAGE]).unwrap_err();
            assert_eq!(err.kind(), io::ErrorKind::InvalidInput, "{err}");
            assert!(err.to_string().contains("pass the end"), "{err}");
        }
        for done in [disk.truncate(&file, 0), disk.preallocate(&file, 1 << 20), disk.zero(&file, 1 << 20)] {
            assert!(done.unwrap_err().to_string().contains("its length does not change"));
        }
        assert_eq!(file.writes(), 0);
        asked.put(&file, 0, pages("a")).unwrap();
        disk.persist(&file, 0).expect("a caller's mistake is not the file's");
        assert_eq!(disk.look_at(&asked.dir.join("s")).unwrap().bytes, SEGMENT_BYTES);
    });
}

#[test]
fn only_an_empty_file_is_zeroed_to_any_length() {
    each(|asked| {
        for bytes in [0, 1, PAGE as u64 - 1, PAGE as u64, 3 * PAGE as u64 + 5] {
            let path = asked.dir.join("f");
            let file = asked.disk.open(&path, Open::Empty).unwrap();
            asked.disk.zero(&file, bytes).unwrap();
            assert_eq!(asked.disk.read(&file, 0, 1 << 20).unwrap(), vec![0; bytes as usize]);
        }
        let file = asked.disk.open(&asked.dir.join("f"), Open::Existing).unwrap();
        let err = asked.disk.zero(&file, 1 << 20).unwrap_err();
        assert!(err.to_string().contains("holds 12293 bytes"), "{err}");
    });
}

#[test]
fn a_plain_file_grows_keeps_what_was_written_and_goes_on_under_another_name() {
    each(|asked| {
        let (disk, name, other) = (&asked.disk, asked.dir.join("f"), asked.dir.join("g"));
        let file = disk.open(&name, Open::Empty).unwrap();
        // Longer than what is written at once anywhere.
        let long = Bytes::from_iter((0..1 << 20).map(|n: u32| (n / 999) as u8));
        disk.write_all(&file, long.slice(..5), long.slice(5..), 0).unwrap();
        let writes = file.writes();
        assert!(writes > 0);
        let persist = Operation::Persist { file: file.clone(), from: 0 };
        assert!(matches!(disk.call(persist), Ok(Outcome::Persisted { writes: covered }) if covered == writes));
        let before = disk.open(&name, Open::Reading).unwrap();
        assert_eq!(disk.read(&before, 7, 2 << 20).unwrap(), long.slice(7..), "up to its end");
        disk.rename(&name, &other).unwrap();
        assert_eq!(disk.open(&name, Open::Existing).unwrap_err().kind(), io::ErrorKind::NotFound);
        disk.write_all(&file, Bytes::from_static(b"more"), Bytes::new(), 3).unwrap();
        disk.remove(&other).unwrap();
        // Whoever has it open has all of it, whatever it was called; also a file of the same name is another.
        let new = disk.open(&other, Open::Empty).unwrap();
        disk.write_all(&new, Bytes::from_static(b"new"), Bytes::new(), 0).unwrap();
        disk.call(Operation::Forget { file: before.clone(), at: 0, bytes: 1 << 20 }).unwrap();
        for reader in [&file, &before] {
            assert_eq!(disk.read(reader, 2, 6).unwrap(), [&long[2..3], b"more", &long[7..8]].concat());
        }
        assert_eq!(disk.read(&new, 0, 100).unwrap(), &b"new"[..]);
        assert_eq!(disk.read(&new, 100, 1).unwrap(), Bytes::new());
    });
}

#[test]
fn a_persist_of_a_plain_file_that_failed_is_final_for_it() {
    each(|asked| {
        let file = asked.disk.open(&asked.dir.join("f"), Open::Empty).unwrap();
        (asked.fail_next)(Kind::Write);
        assert!(asked.put(&file, 0, pages("a")).is_err());
        asked.put(&file, 0, pages("a")).expect("a write that failed says nothing of the next");
        (asked.fail_next)(Kind::Persist);
        assert_eq!(asked.disk.persist(&file, 0).unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
        assert!(asked.disk.persist(&file, 0).unwrap_err().to_string().contains("earlier persist"));
    });
}

#[test]
fn a_segment_must_be_there() {
    each(|asked| {
        let err = asked.disk.open(&asked.dir.join("none"), Open::Segment).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn a_persist_that_failed_is_final_for_the_open_segment_and_not_for_the_name() {
    each(|asked| {
        let file = asked.segment("s");
        asked.put(&file, 0, pages("a")).unwrap();
        (asked.fail_next)(Kind::Persist);
        assert_eq!(asked.disk.persist(&file, 0).unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
        assert!(asked.disk.persist(&file, 0).unwrap_err().to_string().contains("earlier persist"));
        let again = asked.disk.open(&asked.dir.join("s"), Open::Segment).unwrap();
        asked.put(&again, 0, pages("a")).unwrap();
        asked.disk.persist(&again, 0).unwrap();
    });
}

#[test]
fn space_is_what_is_left_and_what_there_is() {
    each(|asked| {
        let space = asked.disk.space(&asked.dir).unwrap();
        assert!(0 < space.free_bytes && space.free_bytes <= space.total_bytes, "{space:?}");
        assert_eq!(asked.disk.space(&asked.dir.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn a_segment_cut_off_by_somebody_else_is_broken_for_good_and_the_process_lives() {
    for asked in of_the_system() {
        eprintln!("{}", asked.name);
        let file = asked.segment("s");
        asked.put(&file, 0, pages("a")).unwrap();
        asked.disk.persist(&file, 0).unwrap();
        let operator = std::fs::File::options().write(true).open(asked.dir.join("s")).unwrap();
        operator.set_len(PAGE as u64).unwrap();
        // Into what is gone, without a look at the length before. A plain file only grows again.
        let _ = asked.put(&file, 2 * PAGE as u64, pages("bcd"));
        let err = asked.disk.persist(&file, 0).unwrap_err();
        assert!(err.to_string().contains("cut off by somebody else") && err.to_string().contains("/s"), "{err}");
        operator.set_len(SEGMENT_BYTES).unwrap();
        assert!(asked.disk.persist(&file, 0).is_err());
    }
}

#[test]
fn a_write_that_failed_is_no_promise_and_a_direct_one_is_the_end_of_its_segment() {
    each(|asked| {
        let file = asked.segment("s");
        asked.put(&file, 0, pages("a")).unwrap();
        (asked.fail_next)(Kind::Write);
        assert!(asked.put(&file, 0, pages("b")).is_err());
        let goes_on = asked.name != "direct";
        assert_eq!(asked.put(&file, 0, pages("b")).is_ok(), goes_on);
        assert_eq!(asked.disk.persist(&file, 0).is_ok(), goes_on);
        let again = asked.disk.open(&asked.dir.join("s"), Open::Segment).unwrap();
        asked.put(&again, 0, pages("c")).unwrap();
        asked.disk.persist(&again, 0).unwrap();
        assert_eq!(asked.disk.read(&again, 0, PAGE).unwrap(), pages("c"));
    });
}

#[test]
fn a_direct_segment_takes_whole_pages_from_any_memory_and_refuses_others_without_harm() {
    let Some(asked) = of_the_system().into_iter().find(|asked| asked.name == "direct") else { return };
    let file = asked.segment("s");
    for (at, bytes) in [(1, PAGE), (0, 1), (512, 512), (0, PAGE + 512)] {
        let err = asked.put(&file, at, vec![9; bytes]).unwrap_err();
        assert!(err.kind() == io::ErrorKind::InvalidInput && err.to_string().contains("whole pages"), "{err}");
    }
    // Of a buffer one page is aligned, or none; head and body need no length of their own.
    let bytes = Bytes::from(pages("abc"));
    let aligned = bytes.as_ptr().align_offset(PAGE);
    for from in [aligned, aligned + 1] {
        let expected = bytes.slice(from..from + PAGE);
        asked.disk.write_all(&file, expected.clone(), Bytes::new(), 0).unwrap();
        asked.disk.write_all(&file, expected.slice(..100), expected.slice(100..), PAGE as u64).unwrap();
        assert_eq!(asked.disk.read(&file, 0, 2 * PAGE).unwrap(), [expected.clone(), expected].concat());
    }
    // More than is copied at once.
    let large = asked.dir.join("large");
    let zeroed = asked.disk.open(&large, Open::Empty).unwrap();
    asked.disk.zero(&zeroed, 4 << 20).unwrap();
    asked.disk.persist(&zeroed, 0).unwrap();
    let file = asked.disk.open(&large, Open::Segment).unwrap();
    let bytes = Bytes::from_iter((0..3 << 20).map(|n: u32| (n / 999) as u8));
    asked.disk.write_all(&file, bytes.slice(..5000), bytes.slice(5000..), 1 << 20).unwrap();
    asked.disk.persist(&file, 0).unwrap();
    assert!(asked.disk.read(&file, 1 << 20, 4 << 20).unwrap() == bytes);
}
