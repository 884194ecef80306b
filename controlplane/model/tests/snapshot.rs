//! Rows that make a snapshot, rows that do not, and what survives a disk.

mod fixture;

use std::sync::LazyLock;

use model::doc::SnapshotDoc;
use model::{Snapshot, snapshot_file};
use proptest::prelude::*;

fn refusal(change: impl FnOnce(&mut SnapshotDoc)) -> String {
    let mut doc = fixture::doc();
    change(&mut doc);
    Snapshot::build(doc).unwrap_err().to_string()
}

#[test]
fn rows_that_contradict_each_other_are_refused_whole() {
    assert_eq!(refusal(|d| d.apps.push(fixture::app(99, "shop", true))), "app shop occurs twice");
    assert_eq!(refusal(|d| d.apps.push(fixture::app(1, "new", true))), "app index 1 occurs twice");
    assert_eq!(
        refusal(|d| d.topics.push(fixture::topic(99, "shop", "orders", "v1", true))),
        "topic shop/orders/v1 occurs twice"
    );
    assert_eq!(refusal(|d| d.topics.push(fixture::topic(1, "shop", "new", "v1", true))), "topic index 1 occurs twice");
    assert_eq!(
        refusal(|d| d.topics.push(fixture::topic(99, "nobody", "orders", "v1", true))),
        "topic orders/v1 belongs to app nobody, which does not exist"
    );
    assert_eq!(
        refusal(|d| d.apps[0].scram.iterations = u32::MAX),
        "app shop has a SCRAM salt of 16 bytes and 4294967295 iterations"
    );
}

#[test]
fn a_snapshot_reads_back_from_its_file_form() {
    let doc = fixture::doc();
    assert_eq!(snapshot_file::decode(&snapshot_file::encode(&doc)).unwrap(), doc);
    let empty = SnapshotDoc::default();
    assert_eq!(snapshot_file::decode(&snapshot_file::encode(&empty)).unwrap(), empty);
}

#[test]
fn a_file_cut_at_any_byte_is_an_error() {
    let file = snapshot_file::encode(&fixture::doc());
    for length in 0..file.len() {
        assert!(snapshot_file::decode(&file[..length]).is_err(), "cut at {length} of {}", file.len());
    }
}

#[test]
fn a_file_we_cannot_use_says_why() {
    let file = snapshot_file::encode(&SnapshotDoc::default());
    let text = String::from_utf8(file.clone()).unwrap();
    let rows = [
        (String::new(), "snapshot file is empty"),
        ("{}".to_owned(), "snapshot file does not begin with a gafka-snapshot line"),
        (text.replace("snapshot 1", "snapshot 2"), "snapshot file has format 2, this version reads format 1"),
        (
            text.replace("\"apps\"", "\"apqs\""),
            "snapshot file is damaged: its checksum does not match its 94 bytes of content",
        ),
    ];
    for (file, expected) in rows {
        assert_eq!(snapshot_file::decode(file.as_bytes()).unwrap_err().to_string(), expected);
    }
}

/// Deriving its secrets takes a while, so once for all cases.
static DOC: LazyLock<SnapshotDoc> = LazyLock::new(fixture::doc);

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_anywhere_in_a_file_is_noticed(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut file = snapshot_file::encode(&DOC);
        let at = at.index(file.len());
        file[at] ^= 1 << bit;
        // Case of the checksum's digits is the one thing that may differ.
        if let Ok(read) = snapshot_file::decode(&file) {
            prop_assert_eq!(&read, &*DOC);
        }
    }

    #[test]
    fn arbitrary_bytes_are_an_error_not_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(snapshot_file::decode(&bytes).is_err());
    }
}
