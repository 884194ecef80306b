//! Looking, and repairing: journals of released versions and ones made here, whole and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};
use journal::queue::{Fate, Name, Reason};
use kafka_wire::record_batch::HeaderRef;

use crate::made::{DataDir, Made, NODE, contents, message, walctl};
use crate::unpack::unpack;

struct Scene(DataDir);

impl Scene {
    /// Two apps; one message delivered, one parked, the others wait.
    fn new() -> Scene {
        Scene(DataDir::new(Scene::fill))
    }

    fn fill(made: &mut Made) {
        let headers = [HeaderRef { name: b"a", value: Some(b"1") }, HeaderRef { name: b"bin", value: Some(b"\xff") }];
        made.accept("shop", 0, &message(Some(b"k"), Some(b"delivered"), &[]));
        made.accept("shop", 0, &message(Some(b"k"), Some(b"parked"), &[]));
        made.accept("shop", 0, &message(Some(b"\xff\x00"), Some("h\u{e9}llo\n".as_bytes()), &headers));
        made.accept("bank", -1, &message(None, None, &[]));
        for _ in 0..3 {
            made.accept("shop", 0, &message(None, Some(&[b'x'; 30_000]), &[]));
        }
        let stream =
            made.queue.find(&Name { account: "shop".into(), subject: "main/shop.orders.v1".into(), lane: 0 }).unwrap();
        made.queue.take(stream, u64::MAX, 2);
        let settled = made.queue.settle(stream, 0, 1, Fate::Delivered { partition: 0, offset: 7 }, 0).unwrap();
        let reason = Reason { code: "record_too_large".into(), sentence: "Kafka takes no more".into() };
        let parked = made.queue.park(stream, 1, reason, 0).unwrap();
        made.commit(vec![Made::note(settled), Made::note(parked)]);
        made.journal.checkpoint(made.journal.durable_lsn(), made.queue.checkpoint()).unwrap();
        made.accept("shop", 0, &message(None, Some(b"after the checkpoint"), &[]));
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn journal(&self) -> PathBuf {
        self.0.journal()
    }

    /// The segment that was written to last.
    fn last_segment(&self) -> PathBuf {
        (1..9).rev().map(|number| self.0.segment(number)).find(|path| path.exists()).unwrap()
    }

    fn run(&self, args: &str) -> (i32, String, String) {
        let mut words = args.split_whitespace();
        let command = words.next().unwrap();
        let dir = self.path().to_str().unwrap().to_owned();
        let all: Vec<String> = [command.to_owned(), dir].into_iter().chain(words.map(str::to_owned)).collect();
        walctl(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Its code and output; paths and times, which differ, replaced.
    fn check(&self, args: &str, expected: Expect) {
        let (code, out, err) = self.run(args);
        let text = format!("{code}\n{out}--\n{err}").replace(self.journal().to_str().unwrap(), "JOURNAL");
        expected.assert_eq(&without_times(&text));
    }
}

/// Times of today become `TIME`, and gaps between columns, which depend on the length of paths, two spaces.
fn without_times(text: &str) -> String {
    let is_time =
        |word: &str| word.len() >= 20 && word.starts_with("20") && word.ends_with('Z') && word.as_bytes()[10] == b'T';
    let word = |word: &str| if is_time(word) { "TIME".to_owned() } else { word.to_owned() };
    let quoted = |part: &str| part.split('"').map(word).collect::<Vec<_>>().join("\"");
    let line = |line: &str| {
        let words = line.split("  ").map(str::trim).filter(|word| !word.is_empty());
        words.map(quoted).collect::<Vec<_>>().join("  ") + "\n"
    };
    text.lines().map(line).collect()
}

#[test]
fn the_journal_of_a_released_version_is_shown_and_whole() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wal/journal/tests/data/v1");
    let dir = tempfile::tempdir().unwrap();
    unpack(&golden, dir.path());
    let path = dir.path().to_str().unwrap();
    let (code, out, _) = walctl(&["inspect", path, "-o", "table"]);
    assert_eq!(code, 0);
    let journal = dir.path().canonicalize().unwrap();
    expect![[r#"
        JOURNAL
        JOURNAL  NODE  IN_USE  RECORDS  BYTES  NEXT_LSN
        JOURNAL  node-1  unknown  -  -  20

        SEGMENTS
        SEGMENT  STATE  BYTES  FIRST_LSN  NEXT_LSN  UNSETTLED  UNSETTLED_BYTES  CREATED
        1  live  32 KiB  0  8  -  -  TIME
        2  live  64 KiB  8  16  -  -  TIME
        3  live  64 KiB  16  20  -  -  TIME

        CHECKPOINTS
        CHECKPOINT  STATE  LSN  SEGMENTS  BLOB_BYTES
        1  good  10  2  14 B

        OTHER_FILES
        FILE  WHAT  BYTES
        spare-0000000000000004.wal  spare  64 KiB

        FINDINGS
        FINDING  DETAIL
        not_understood  the checkpoint of handed-off messages is not understood: a record of 14 bytes is no checkpoint of the queue; what waits cannot be told
    "#]]
        .assert_eq(&without_times(&out.replace(journal.to_str().unwrap(), "JOURNAL")));
    let (code, out, err) = walctl(&["verify", path]);
    assert_eq!((code, &*out), (0, ""), "{err}");
    assert!(err.contains("whole; 20 records of"), "{err}");
}

#[test]
fn a_backlog_is_shown_by_app_and_partition() {
    let scene = Scene::new();
    scene.check(
        "inspect -o table",
        expect![[r#"
            0
            JOURNAL
            JOURNAL  NODE  IN_USE  RECORDS  BYTES  NEXT_LSN
            JOURNAL  5f0c9a3e71d2b684  no  7  88.2 KiB  12

            BACKLOG
            APP  CLUSTER  TOPIC  PARTITION  WAITING  PARKED  BYTES  OLDEST
            bank  main  bank.orders.v1  -  1  0  32 B  TIME
            shop  main  shop.orders.v1  0  5  1  88.1 KiB  TIME

            SEGMENTS
            SEGMENT  STATE  BYTES  FIRST_LSN  NEXT_LSN  UNSETTLED  UNSETTLED_BYTES  CREATED
            1  live  64 KiB  0  7  4  29.5 KiB  TIME
            2  live  64 KiB  7  8  1  29.3 KiB  TIME
            3  live  64 KiB  8  12  2  29.4 KiB  TIME

            CHECKPOINTS
            CHECKPOINT  STATE  LSN  SEGMENTS  BLOB_BYTES
            1  good  11  3  239 B

            OTHER_FILES
            FILE  WHAT  BYTES
            spare-0000000000000004.wal  spare  64 KiB
            --
        "#]],
    );
    let (_, out, _) = scene.run("inspect -o json");
    let all: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(all["backlog"][0]["app"], "bank");
    assert_eq!(all["backlog"][0]["partition"], serde_json::Value::Null);
    assert_eq!(all["findings"], serde_json::json!([]));
    scene.check(
        "verify",
        expect![[r#"
        0
        --
        JOURNAL: whole; 12 records of 88.3 KiB in 3 segments are good
    "#]],
    );
}

#[test]
fn messages_are_printed_as_subscribers_would_get_them() {
    let scene = Scene::new();
    scene.check("dump -o jsonl --limit 2", expect![[r#"
        0
        {"accepted":"TIME","app":"bank","cluster":"main","headers":[],"lsn":5,"partition":null,"sequence":0,"state":"waiting","stream":1,"timestamp":1700000000123,"topic":"bank.orders.v1","value":null}
        {"accepted":"TIME","app":"shop","cluster":"main","headers":[["a","1"],["bin",{"base64":"/w=="}]],"key_base64":"/wA=","lsn":3,"partition":0,"sequence":2,"state":"waiting","stream":0,"timestamp":1700000000123,"topic":"shop.orders.v1","value":"héllo\n"}
        --
    "#]]);
    scene.check("dump -o jsonl --parked", expect![[r#"
        0
        {"accepted":"TIME","app":"shop","cluster":"main","headers":[],"key":"k","lsn":2,"partition":0,"sequence":1,"state":"parked: record_too_large","stream":0,"timestamp":1700000000123,"topic":"shop.orders.v1","value":"parked","why":"Kafka takes no more"}
        --
    "#]]);
    let (code, out, _) = scene.run("dump -o name");
    assert_eq!((code, &*out), (0, "bank\nshop\nshop\nshop\nshop\nshop\n"));
    let count = |args: &str| scene.run(args).1.lines().count();
    assert_eq!(count("dump -o tsv --app shop --limit 3"), 3);
    assert_eq!(count("dump -o tsv --app bank --topic orders"), 1);
    assert_eq!(count("dump -o tsv --topic shop.orders.v1"), 5);
    assert_eq!(count("dump -o tsv --topic payments"), 0);
}

#[test]
fn rot_is_found_before_and_after_the_checkpoint_and_the_rest_is_still_read() {
    let scene = Scene::new();
    scene.0.rot("h\u{e9}llo".as_bytes());
    scene.0.rot(b"after the checkpoint");
    scene.check(
        "verify -o table",
        expect![[r#"
            1
            SEGMENT  AT  BYTES  FROM_LSN  TO_LSN  RECORDS  WHAT
            1  12288  4 KiB  3  3  1  acknowledged records do not match their checksum
            3  40960  4 KiB  11  11  1  acknowledged records do not match their checksum
            --
            JOURNAL: 2 RECORDS ARE LOST; 10 records of 88.2 KiB in 3 segments are good
        "#]],
    );
    let (code, out, err) = scene.run("dump -o jsonl --app shop");
    assert_eq!(code, 0, "{err}");
    assert_eq!(out.lines().filter(|line| line.contains("xxx")).count(), 3, "{out}");
    assert_eq!(out.lines().count(), 3, "{out}");
    assert!(err.contains("records of this journal are lost"), "{err}");
}

#[test]
fn a_torn_tail_is_said_and_is_no_loss() {
    let scene = Scene::new();
    // The last block in the last segment and the mark behind it: cut off within the block, as a power cut leaves it.
    let last = scene.last_segment();
    let mut bytes = fs::read(&last).unwrap();
    let value = b"after the checkpoint";
    let at = bytes.windows(value.len()).position(|window| window == value).unwrap();
    let page = at / 4096 * 4096;
    let end = bytes.len() - 4096;
    bytes[at] ^= 1;
    bytes[page + 4096..end].fill(0);
    fs::write(&last, bytes).unwrap();
    let (code, out, err) = scene.run("verify");
    assert_eq!((code, &*out), (0, ""), "{err}");
    assert!(err.contains("torn_tail: ") && err.contains("whole"), "{err}");
}

#[test]
fn a_lost_segment_and_a_rotten_header_are_loss() {
    let gone = Scene::new();
    fs::remove_file(gone.0.segment(1)).unwrap();
    let (code, out, err) = gone.run("verify");
    assert_eq!(code, 1, "{out}{err}");
    let rotten = Scene::new();
    let last = rotten.last_segment();
    let mut bytes = fs::read(&last).unwrap();
    let end = bytes.len();
    bytes[0] ^= 1;
    bytes[end - 4096] ^= 1;
    fs::write(&last, bytes).unwrap();
    let (code, out, _) = rotten.run("verify");
    assert_eq!(code, 1);
    assert!(out.contains("both headers of the segment are rotten"), "{out}");
    let (_, out, _) = rotten.run("inspect -o tsv");
    assert!(out.lines().any(|line| line.starts_with("segments") && line.contains("rotten")), "{out}");
}

#[test]
fn looking_changes_nothing_also_while_a_process_has_it() {
    let scene = Scene::new();
    scene.0.rot("h\u{e9}llo".as_bytes());
    scene.0.rot(b"after the checkpoint");
    fs::write(scene.journal().join("checkpoint.tmp"), "half").unwrap();
    let before = contents(scene.path());
    for is_held in [false, true] {
        let _held = is_held.then(|| scene.0.hold());
        for (args, expected) in [("inspect", 0), ("verify", 1), ("dump --app bank", 0), ("dump --parked", 0)] {
            let (code, out, err) = scene.run(args);
            assert_eq!(code, expected, "{args}: {out}{err}");
            assert!(contents(scene.path()) == before, "{args}");
        }
        let (_, out, _) = scene.run("inspect -o tsv");
        let in_use = if is_held { "\tyes\t" } else { "\tno\t" };
        assert!(out.lines().next().unwrap().contains(in_use), "{out}");
        assert!(out.contains("checkpoint.tmp\tunfinished"), "{out}");
    }
    let (code, _, err) = scene.run("repair --dry-run");
    assert_eq!(code, 0, "{err}");
    assert!(contents(scene.path()) == before);
}

#[test]
fn repair_puts_aside_what_is_rotten_and_needs_the_lock() {
    let scene = Scene::new();
    scene.0.rot("h\u{e9}llo".as_bytes());
    scene.0.rot(b"after the checkpoint");
    let before = contents(scene.path());
    let held = scene.0.hold();
    let (code, _, err) = scene.run("repair --yes");
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("a process has") && contents(scene.path()) == before, "{err}");
    drop(held);
    let (code, _, err) = scene.run("repair");
    assert_eq!(code, 2, "without a terminal and --yes: {err}");
    assert!(contents(scene.path()) == before, "{err}");
    let (code, out, err) = scene.run("repair --yes");
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(out.matches("lost\t").count(), 2, "{out}");
    assert_eq!(err.matches("put aside: ").count(), 2, "{err}");
    let aside = fs::read_dir(scene.journal().join("quarantine")).unwrap().count();
    assert_eq!(aside, 2);
    let (_, _, err) = scene.run("repair --yes");
    assert!(!err.contains("put aside"), "once is enough: {err}");
    let whole = Scene::new();
    let (code, out, err) = whole.run("repair --yes");
    assert_eq!((code, &*out), (0, ""), "{err}");
    assert!(err.contains("nothing is wrong"), "{err}");
}

#[test]
fn a_directory_is_found_from_above_and_from_within() {
    let scene = Scene::new();
    let journal = scene.journal();
    for dir in [scene.path(), journal.parent().unwrap(), &journal] {
        let (code, out, err) = walctl(&["dump", dir.to_str().unwrap(), "--app", "bank", "-o", "name"]);
        assert_eq!((code, &*out), (0, "bank\n"), "{dir:?}: {err}");
    }
    for (args, expected) in [("dump --node 0000000000000000", 3), (&*format!("dump --app bank --node {NODE}"), 0)] {
        assert_eq!(scene.run(args).0, expected, "{args}");
    }
    let other = scene.path().join("nodes/00000000000000aa/journal");
    fs::create_dir_all(&other).unwrap();
    let (code, _, err) = scene.run("dump");
    assert_eq!(code, 2);
    assert!(err.contains(&format!("name one with --node: 00000000000000aa, {NODE}")), "{err}");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(walctl(&["inspect", empty.path().to_str().unwrap()]).0, 3);
    assert_eq!(walctl(&["inspect", "/nowhere/at/all"]).0, 3);
    assert_eq!(walctl(&["inspect"]).0, 2);
}
