//! The journal with its threads, on real files of every device.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use disk::{Device, Disk, Files};
use journal::limits::TABLES_KEPT_MAX;
use journal::{
    Background, Completion, Config, Entry, Group, Idle, Journal, Place, ReadCompletion, ReadError, ReadWaiter, Record,
    Recovered, Refused, Waiter, random,
};

const WITHIN: Duration = Duration::from_secs(20);

const BACKGROUNDS: [Background; 2] = [Background::Plain, Background::Ring];

fn recover(dir: &std::path::Path, device: Device) -> (Idle, Recovered) {
    recover_on(dir, device, Background::Plain)
}

fn recover_on(dir: &std::path::Path, device: Device, background: Background) -> (Idle, Recovered) {
    let disk: Arc<dyn Disk> = Arc::new(Files::with_device(device, |_| Ok(()), || {}, || {}).unwrap());
    // Small, so that there are several segments.
    let (segment_bytes_first, segment_bytes_max) = (1 << 20, 1 << 20);
    let new = Config::new(dir.join("journal"), "node-1");
    let config = Config { background, segment_bytes_first, segment_bytes_max, reserve_bytes: 0, ..new };
    Journal::recover(config, disk, random()).unwrap()
}

/// Appends so many groups, one after another, and says where the first record of each lies.
fn append_all(journal: &Journal, observed: &Mutex<Vec<Place>>, count: u64) -> Vec<Place> {
    let (waiter, rang) = waiter();
    for n in 0..count {
        journal.append(group(1, n), n, &waiter).unwrap();
        completions(&waiter, &rang, 1);
    }
    observed.lock().unwrap().iter().step_by(2).copied().collect()
}

/// A journal on this background that tells where records lie.
fn start(idle: Idle, background: Background) -> (Journal, Arc<Mutex<Vec<Place>>>) {
    let observed: Arc<Mutex<Vec<Place>>> = Arc::default();
    let theirs = Arc::clone(&observed);
    let journal = idle.start(|| {}, move |committed| theirs.lock().unwrap().push(committed.place)).unwrap();
    assert_eq!(journal.background(), background, "io_uring is needed for this test");
    (journal, observed)
}

fn reads() -> (ReadWaiter, mpsc::Receiver<()>) {
    let (ring, rang) = mpsc::channel();
    (ReadWaiter::new(move || ring.send(()).unwrap()), rang)
}

fn read_completions(reads: &ReadWaiter, rang: &mpsc::Receiver<()>, count: usize) -> Vec<ReadCompletion> {
    let mut done = Vec::new();
    while done.len() < count {
        rang.recv_timeout(WITHIN).unwrap();
        reads.take(&mut done);
    }
    done
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + WITHIN;
    while !is_so() {
        assert!(Instant::now() < end, "not within time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn reads_are_answered_in_order_while_commits_run_and_a_slow_scrub_runs_and_a_close_answers_them_and_ends_it() {
    for background in BACKGROUNDS {
        let dir = tempfile::tempdir().unwrap();
        let (idle, _) = recover_on(dir.path(), Device::Mapped, background);
        let (journal, observed) = start(idle, background);
        append_all(&journal, &observed, 1_500);
        assert!(journal.segments().len() >= 2);
        // The first piece of it takes many seconds.
        journal.scrub(1 << 14);
        let places = append_all(&journal, &observed, 100);
        let (waiter, rang) = reads();
        let began = Instant::now();
        for (ticket, place) in places.iter().enumerate() {
            journal.read(*place, 1, ticket as u64, &waiter).unwrap();
        }
        journal.close();
        let done = read_completions(&waiter, &rang, places.len());
        assert!(done.iter().map(|done| done.ticket).eq(0..places.len() as u64), "in the order of asking");
        assert!(done.iter().zip(&places).all(|(done, place)| match &done.entries {
            Ok(entries) => entries.len() == 1 && entries[0].as_ref().unwrap().place == *place,
            Err(_) => false,
        }));
        assert!(began.elapsed() < Duration::from_secs(10), "nobody waited for the scrub");
    }
}

#[test]
fn a_rotten_body_is_an_error_of_that_record_alone_and_a_scrub_finds_it_and_what_is_not_there_is_gone() {
    for background in BACKGROUNDS {
        let dir = tempfile::tempdir().unwrap();
        let (idle, _) = recover_on(dir.path(), Device::Plain, background);
        let (journal, observed) = start(idle, background);
        let places = append_all(&journal, &observed, 1_500);
        let (first, segments) = (places[0], journal.segments());
        let (waiter, rang) = reads();
        journal.read(first, 2, 0, &waiter).unwrap();
        let good: Vec<Entry> =
            read_completions(&waiter, &rang, 1).remove(0).entries.unwrap().into_iter().map(Result::unwrap).collect();
        let path = dir.path().join(format!("journal/segment-{:016x}.wal", first.segment));
        let file = std::fs::File::options().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"rot", u64::from(good[0].location.offset)).unwrap();
        file.sync_all().unwrap();

        journal.read(first, 2, 1, &waiter).unwrap();
        journal.read(Place { segment: 1 << 40, ..first }, 1, 2, &waiter).unwrap();
        let mut done = read_completions(&waiter, &rang, 2);
        assert!(matches!(done[1].entries, Err(ReadError::Gone { segment }) if segment == 1 << 40));
        let entries = done.remove(0).entries.unwrap();
        assert!(matches!(entries[0], Err(ReadError::Rotten { .. })), "{:?}", entries[0]);
        assert_eq!(entries[1].as_ref().unwrap(), &good[1]);

        journal.scrub(1 << 30);
        let closed = segments.len() as u64 - 1;
        until("every closed segment is checked", || {
            journal.metrics().scrubbed_bytes.get() > (closed - 1) * (900 << 10)
        });
        assert_eq!(journal.metrics().lost_records.get(), 1);
    }
}

#[test]
fn a_table_that_was_read_is_not_read_again_until_so_many_others_were() {
    for background in BACKGROUNDS {
        let dir = tempfile::tempdir().unwrap();
        let (idle, _) = recover_on(dir.path(), Device::Plain, background);
        let (journal, observed) = start(idle, background);
        // Each in a block of its own.
        let places = append_all(&journal, &observed, TABLES_KEPT_MAX as u64 + 1);
        let (first, others) = places.split_first().unwrap();
        let (waiter, rang) = reads();
        let read = |place: Place, count| {
            journal.read(place, count, 0, &waiter).unwrap();
            read_completions(&waiter, &rang, 1).remove(0).entries
        };
        let good: Vec<Entry> = read(*first, 2).unwrap().into_iter().map(Result::unwrap).collect();
        // Without its header and table the block can be read only by who knows them.
        let path = dir.path().join(format!("journal/segment-{:016x}.wal", first.segment));
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let zeros = vec![0; good[0].location.offset as usize - first.block as usize];
        std::os::unix::fs::FileExt::write_all_at(&file, &zeros, u64::from(first.block)).unwrap();
        for (index, entry) in (0..).zip(&good) {
            let again = read(Place { index, ..*first }, 1).unwrap();
            assert_eq!(again.into_iter().map(Result::unwrap).collect::<Vec<_>>(), std::slice::from_ref(entry));
        }
        for other in others {
            assert_eq!(read(*other, 2).unwrap().len(), 2);
        }
        let forgotten = read(*first, 1);
        assert!(matches!(forgotten, Err(ReadError::Rotten { .. })), "{background:?}: {forgotten:?}");
    }
}

#[test]
fn every_read_that_any_of_many_threads_asks_for_is_answered() {
    const THREADS: u64 = 4;
    const READS: u64 = 4_000;
    for background in BACKGROUNDS {
        let dir = tempfile::tempdir().unwrap();
        let (idle, _) = recover_on(dir.path(), Device::Mapped, background);
        let (journal, observed) = start(idle, background);
        let places = append_all(&journal, &observed, 300);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (journal, places) = (&journal, &places);
                scope.spawn(move || {
                    let (waiter, rang) = reads();
                    // Alone, so that the other side sleeps in between; and many at once, so that it is found awake.
                    for burst in (0..).map(|n: u64| 1 + (n * (thread + 1)) % 7).scan(0, |asked, burst| {
                        let begin = *asked;
                        *asked += burst;
                        (begin < READS).then_some(begin..*asked)
                    }) {
                        for ticket in burst.clone() {
                            let place = places[(ticket * (thread + 3)) as usize % places.len()];
                            journal.read(place, 2, ticket, &waiter).unwrap();
                        }
                        let done = read_completions(&waiter, &rang, (burst.end - burst.start) as usize);
                        assert!(done.iter().map(|done| done.ticket).eq(burst), "in the order of asking");
                        assert!(done.iter().all(|done| done.entries.as_ref().is_ok_and(|entries| entries.len() == 2)));
                    }
                });
            }
        });
    }
}

fn entries(idle: &Idle) -> Vec<Entry> {
    let mut entries = Vec::new();
    assert_eq!(idle.reader().scan(0, &mut |entry| entries.push(entry)).unwrap(), []);
    entries
}

/// A waiter whose doorbell can be waited for.
fn waiter() -> (Waiter, mpsc::Receiver<()>) {
    let (ring, rang) = mpsc::channel();
    (Waiter::new(move || ring.send(()).unwrap()), rang)
}

fn completions(waiter: &Waiter, rang: &mpsc::Receiver<()>, count: usize) -> Vec<Completion> {
    let mut completions = Vec::new();
    while completions.len() < count {
        rang.recv_timeout(WITHIN).unwrap();
        waiter.take(&mut completions);
    }
    completions
}

fn group(stream: u32, n: u64) -> Group {
    let head = Bytes::copy_from_slice(&n.to_le_bytes());
    // Some are handed to the disk without a copy.
    let tail = Bytes::from(vec![n as u8; if n.is_multiple_of(50) { 100_000 } else { 200 }]);
    Group::new([Record::of_parts(stream, 1, 8, head, tail), Record::new(stream, 2, 9, &b"end"[..])]).unwrap()
}

#[test]
fn what_many_threads_append_is_told_in_order_found_again_and_read_back() {
    const THREADS: u32 = 4;
    const GROUPS: u64 = 500;
    let devices = [Device::Plain, Device::Mapped, Device::Direct];
    for (device, background) in
        devices.into_iter().flat_map(|device| BACKGROUNDS.map(|background| (device, background)))
    {
        let dir = tempfile::tempdir().unwrap();
        let (idle, recovered) = recover_on(dir.path(), device, background);
        assert_eq!(recovered, Recovered::default());
        let observed: Arc<Mutex<Vec<(u64, Place)>>> = Arc::default();
        let theirs = Arc::clone(&observed);
        let observer = move |committed: journal::Committed<'_>| {
            theirs.lock().unwrap().push((committed.lsn, committed.place));
        };
        let journal = idle.start(|| {}, observer).unwrap();
        assert_eq!(journal.background(), background, "io_uring is needed for this test");
        std::thread::scope(|scope| {
            for stream in 0..THREADS {
                let journal = &journal;
                scope.spawn(move || {
                    let (waiter, rang) = waiter();
                    for n in 0..GROUPS {
                        journal.append(group(stream, n), n, &waiter).unwrap();
                    }
                    let done = completions(&waiter, &rang, GROUPS as usize);
                    assert!(done.iter().map(|done| done.ticket).eq(0..GROUPS), "in the order of appends");
                    assert!(done.iter().is_sorted_by_key(|done| done.result.unwrap()));
                });
            }
        });
        let observed = observed.lock().unwrap().clone();
        assert!(observed.iter().map(|(lsn, _)| *lsn).eq(0..u64::from(THREADS) * GROUPS * 2));

        let (ring, rang) = mpsc::channel();
        let reads = ReadWaiter::new(move || ring.send(()).unwrap());
        // Those of a block are asked for together.
        let blocks = observed.chunk_by(|a, b| (a.1.segment, a.1.block) == (b.1.segment, b.1.block));
        let asked: Vec<(Place, u32)> = blocks.map(|block| (block[0].1, block.len() as u32)).collect();
        for (ticket, (place, count)) in asked.iter().enumerate() {
            journal.read(*place, *count, ticket as u64, &reads).unwrap();
        }
        let mut read = Vec::new();
        while read.len() < asked.len() {
            rang.recv_timeout(WITHIN).unwrap();
            reads.take(&mut read);
        }
        let read_entries: Vec<Entry> =
            read.into_iter().flat_map(|done| done.entries.unwrap()).map(Result::unwrap).collect();
        journal.close();

        let (idle, recovered) = recover(dir.path(), device);
        assert_eq!((recovered.next_lsn, recovered.rewritten), (observed.len() as u64, 0), "closed in order");
        let entries = entries(&idle);
        assert!(entries.iter().map(|entry| (entry.lsn, entry.place)).eq(observed));
        assert!(entries == read_entries, "asked for by their places they are the same");
        for stream in 0..THREADS {
            let of_stream = entries.iter().filter(|entry| entry.stream == stream && entry.kind == 1);
            assert!(of_stream.map(|entry| u64::from_le_bytes(entry.body[..8].try_into().unwrap())).eq(0..GROUPS));
        }
    }
}

#[test]
fn a_close_commits_what_was_appended_and_then_nothing_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (idle, _) = recover(dir.path(), Device::Plain);
    let told = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&told);
    let journal = idle
        .start(
            || {},
            move |_| {
                theirs.fetch_add(1, Ordering::Relaxed);
            },
        )
        .unwrap();
    let (waiter, rang) = waiter();
    for n in 0..100 {
        journal.append(group(1, n), n, &waiter).unwrap();
    }
    journal.close();
    assert_eq!(completions(&waiter, &rang, 100).len(), 100);
    assert_eq!(told.load(Ordering::Relaxed), 200);
}

#[test]
fn a_slow_disk_makes_appends_wait_no_further_than_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let (go, going) = mpsc::channel::<()>();
    let going = Mutex::new(going);
    let before = move |operation: &disk::Operation| match operation {
        // Until the sender is gone.
        disk::Operation::Persist { .. } => {
            let _ = going.lock().unwrap().recv_timeout(WITHIN);
            Ok(())
        }
        _ => Ok(()),
    };
    let disk: Arc<dyn Disk> = Arc::new(Files::start(before, || {}, || {}).unwrap());
    let (idle, _) = Journal::recover(Config::new(dir.path().join("j"), "n"), disk, random()).unwrap();
    let journal = idle.start(|| {}, |_| {}).unwrap();
    let (waiter, rang) = waiter();
    let large = Bytes::from(vec![1; 1 << 20]);
    let mut accepted = 0;
    let refused = loop {
        match journal.append(Group::new([Record::new(1, 1, 0, large.clone())]).unwrap(), accepted, &waiter) {
            Ok(()) => accepted += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((accepted, refused), (63, Refused::Waiting));
    drop(go);
    assert!(completions(&waiter, &rang, 63).iter().all(|done| done.result.is_ok()));
    journal.append(Group::new([Record::new(1, 1, 0, large)]).unwrap(), 0, &waiter).unwrap();
}
