//! What the gateway answered, against what is in Kafka.
//!
//! Publishers write one [`Entry`] per message, with a value that no other message has. Afterwards [`check`] compares
//! the ledger with every record of the topic, as a client of another make read it:
//!
//! | answer | must be in Kafka |
//! |---|---|
//! | 201 partition, offset | exactly once, there, with that key |
//! | 202 | exactly once, with that key |
//! | 4xx, 503 | not at all |
//! | 504, or the connection broke before the answer | at most once |
//!
//! Which [`Rule`] was broken is counted, so that nothing depends on how many are shown. Records that nobody published are
//! violations too. Order: one connection sends a request only after the last one
//! was answered, and a batch is stored in its own order, so what a connection stored under one key (or, without a key,
//! in one partition) has growing offsets. What was answered 202 stands in that order where it is found, the first time.
//! Messages of unknown outcome have no place in it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use anyhow::{Result, bail};

use crate::limits::DIFFERENCES_SHOWN_MAX;
use crate::record::Record;
use crate::rules::Rule;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub connection: u32,
    /// Counts this connection's messages.
    pub sequence: u64,
    pub key: Option<Vec<u8>>,
    /// Unique in the ledger.
    pub value: Vec<u8>,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 201.
    Stored { partition: i32, offset: i64 },
    /// 202: it will be in Kafka. What is asked with later, where the answer says it.
    HandedOff { receipt: Option<String> },
    /// 504, or no answer.
    Unknown { why: String },
    /// Any other answer: nothing was stored.
    Refused { status: u16 },
}

impl Outcome {
    /// Its publisher was told that it is in Kafka, or will be.
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Stored { .. } | Self::HandedOff { .. })
    }
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub entries: Vec<Entry>,
}

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub stored: usize,
    pub handed_off: usize,
    /// Records too many of messages that were answered 202.
    pub doubled: usize,
    pub unknown: usize,
    /// Of the unknown ones, how many are in Kafka.
    pub unknown_found: usize,
    pub refused: usize,
    /// Which rules were broken, and how many times.
    pub broken: BTreeMap<Rule, usize>,
    /// The first few times, with what they are about.
    pub violations: Vec<String>,
}

impl Report {
    pub fn violation_count(&self) -> usize {
        self.broken.values().sum()
    }

    pub(crate) fn violation(&mut self, rule: Rule, text: String) {
        *self.broken.entry(rule).or_default() += 1;
        if self.violations.len() < DIFFERENCES_SHOWN_MAX {
            self.violations.push(text);
        }
    }

    /// Ok when nothing was violated, else an error that shows the first differences.
    pub fn into_result(self) -> Result<Self> {
        if !self.broken.is_empty() {
            bail!("{self}");
        }
        Ok(self)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} stored, {} handed off ({} records twice), {} unknown ({} of them in Kafka), {} refused, {} violations",
            self.stored,
            self.handed_off,
            self.doubled,
            self.unknown,
            self.unknown_found,
            self.refused,
            self.violation_count()
        )?;
        for (rule, count) in &self.broken {
            write!(out, "\n  broken {count} times: {}", rule.sentence())?;
        }
        self.violations.iter().try_for_each(|violation| write!(out, "\n  {violation}"))
    }
}

/// Compares the ledger with everything that is in the topic.
pub fn check(ledger: &Ledger, records: &[Record]) -> Report {
    let mut report = Report::default();
    let mut places: HashMap<&[u8], Vec<&Record>> = HashMap::with_capacity(records.len());
    for record in records {
        places.entry(record.value.as_deref().unwrap_or_default()).or_default().push(record);
    }
    let firsts: Places<'_> = places.iter().map(|(value, found)| (*value, first_of(found))).collect();
    let mut seen: HashSet<&[u8]> = HashSet::with_capacity(ledger.entries.len());
    for entry in &ledger.entries {
        if !seen.insert(&entry.value) {
            // Else the second could hide behind the record of the first.
            report.violation(Rule::ValuesDiffer, format!("{}: twice in the ledger", show(&entry.value)));
            continue;
        }
        let found = places.remove(entry.value.as_slice()).unwrap_or_default();
        check_entry(entry, &found, &mut report);
    }
    for (value, found) in places {
        let record = found[0];
        let value = show(value);
        report.violation(
            Rule::NobodyElse,
            format!("{value} at {}/{}: nobody published it", record.partition, record.offset),
        );
    }
    check_order(ledger, &firsts, &mut report);
    report
}

/// Where a value stands the first time.
type Places<'a> = HashMap<&'a [u8], (i32, i64)>;

fn first_of(found: &[&Record]) -> (i32, i64) {
    found.iter().map(|record| (record.partition, record.offset)).min().unwrap_or((-1, -1))
}

fn check_entry(entry: &Entry, found: &[&Record], report: &mut Report) {
    let value = show(&entry.value);
    let at: Vec<String> = found.iter().map(|record| format!("{}/{}", record.partition, record.offset)).collect();
    let at = at.join(", ");
    match &entry.outcome {
        Outcome::Stored { partition, offset } => {
            report.stored += 1;
            match found {
                [record] => {
                    if (record.partition, record.offset) != (*partition, *offset) {
                        report.violation(
                            Rule::StoredWhereTold,
                            format!("{value}: answered {partition}/{offset}, is at {at}"),
                        );
                    }
                    if record.key != entry.key {
                        report.violation(
                            Rule::KeyIsKept,
                            format!("{value}: published with key {:?}, has {:?}", entry.key, record.key),
                        );
                    }
                }
                [] => report.violation(
                    Rule::StoredIsThere,
                    format!("{value}: lost; answered 201 {partition}/{offset}, is not there"),
                ),
                _ => report.violation(Rule::StoredOnce, format!("{value}: stored {} times, at {at}", found.len())),
            }
        }
        Outcome::HandedOff { .. } => {
            report.handed_off += 1;
            if found.is_empty() {
                report.violation(Rule::HandedOffIsThere, format!("{value}: lost; answered 202, is not there"));
            }
            report.doubled += found.len().saturating_sub(1);
            if found.len() > 1 {
                report.violation(
                    Rule::HandedOffOnce,
                    format!("{value}: answered 202, stored {} times, at {at}", found.len()),
                );
            }
            if let Some(other) = found.iter().find(|record| record.key != entry.key) {
                report.violation(
                    Rule::KeyIsKept,
                    format!("{value}: published with key {:?}, has {:?}", entry.key, other.key),
                );
            }
        }
        Outcome::Unknown { why } => {
            report.unknown += 1;
            report.unknown_found += usize::from(!found.is_empty());
            if found.len() > 1 {
                report.violation(
                    Rule::UnknownAtMostOnce,
                    format!("{value}: unknown ({why}), stored {} times, at {at}", found.len()),
                );
            }
        }
        Outcome::Refused { status } => {
            report.refused += 1;
            if !found.is_empty() {
                report.violation(Rule::RefusedIsNotThere, format!("{value}: answered {status}, yet is at {at}"));
            }
        }
    }
}

fn check_order(ledger: &Ledger, firsts: &Places<'_>, report: &mut Report) {
    // Of one connection, partition and key.
    type Lane<'a> = (u32, i32, Option<&'a [u8]>);
    let mut in_order: Vec<&Entry> = ledger.entries.iter().collect();
    in_order.sort_by_key(|entry| (entry.connection, entry.sequence));
    // The last offset and whose it is.
    let mut last: HashMap<Lane<'_>, (i64, &[u8])> = HashMap::new();
    let mut partition_of: HashMap<&[u8], i32> = HashMap::new();
    for entry in in_order {
        let (partition, offset) = match (&entry.outcome, firsts.get(entry.value.as_slice())) {
            (Outcome::Stored { partition, offset }, _) => (*partition, *offset),
            (Outcome::HandedOff { .. }, Some(first)) => *first,
            _ => continue,
        };
        let key = entry.key.as_deref();
        if let Some(key) = key {
            let first = *partition_of.entry(key).or_insert(partition);
            if first != partition {
                let key = show(key);
                report.violation(
                    Rule::KeyInOnePartition,
                    format!("{}: key {key} is in partitions {first} and {partition}", show(&entry.value)),
                );
            }
        }
        let lane = (entry.connection, partition, key);
        if let Some((before, earlier)) = last.insert(lane, (offset, &entry.value))
            && before >= offset
        {
            let (earlier, value) = (show(earlier), show(&entry.value));
            report.violation(
                Rule::InOrder,
                format!("{value} at {partition}/{offset} was published after {earlier} at {before}"),
            );
        }
    }
}

/// The beginning of a value, which is what makes it unique.
fn show(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(&value[..value.len().min(40)]);
    text.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sequence: u64, value: &str, outcome: Outcome) -> Entry {
        Entry { connection: 0, sequence, key: Some(b"k".to_vec()), value: value.into(), outcome }
    }

    fn stored(sequence: u64, value: &str, offset: i64) -> Entry {
        entry(sequence, value, Outcome::Stored { partition: 0, offset })
    }

    fn record(value: &str, offset: i64) -> Record {
        Record { offset, partition: 0, ..Record::with_value(value).key("k") }
    }

    #[track_caller]
    fn check_violation(entries: &[Entry], records: &[Record], expected: &str) {
        let report = check(&Ledger { entries: entries.to_vec() }, records);
        assert_eq!(report.violations, [expected], "{report}");
    }

    #[test]
    fn what_was_answered_and_is_there_once_is_fine_and_unknown_may_be_either_way() {
        let unknown = |sequence, value| entry(sequence, value, Outcome::Unknown { why: "504".into() });
        let entries = vec![
            stored(0, "a", 0),
            unknown(1, "b"),
            unknown(2, "c"),
            entry(3, "d", Outcome::Refused { status: 503 }),
            stored(4, "e", 2),
        ];
        let report = check(&Ledger { entries }, &[record("a", 0), record("b", 1), record("e", 2)]);
        let expected = Report { stored: 2, unknown: 2, unknown_found: 1, refused: 1, ..Report::default() };
        assert_eq!(report, expected);
    }

    #[test]
    fn a_lost_message_is_found() {
        check_violation(&[stored(0, "a", 7)], &[], "a: lost; answered 201 0/7, is not there");
    }

    #[test]
    fn a_doubled_message_is_found_also_when_its_answer_is_unknown() {
        let twice = [record("a", 1), record("a", 2)];
        check_violation(&[stored(0, "a", 1)], &twice, "a: stored 2 times, at 0/1, 0/2");
        let unknown = entry(0, "a", Outcome::Unknown { why: "504".into() });
        check_violation(&[unknown], &twice, "a: unknown (504), stored 2 times, at 0/1, 0/2");
    }

    #[test]
    fn a_refused_message_that_is_there_is_found() {
        let refused = entry(0, "a", Outcome::Refused { status: 503 });
        check_violation(&[refused], &[record("a", 1)], "a: answered 503, yet is at 0/1");
    }

    #[test]
    fn a_wrong_place_a_wrong_key_and_a_stranger_are_found() {
        check_violation(&[stored(0, "a", 3)], &[record("a", 4)], "a: answered 0/3, is at 0/4");
        let keyless = Record { key: None, ..record("a", 3) };
        check_violation(&[stored(0, "a", 3)], &[keyless], "a: published with key Some([107]), has None");
        check_violation(&[], &[record("x", 0)], "x at 0/0: nobody published it");
    }

    #[test]
    fn a_changed_order_is_found_with_and_without_keys() {
        let entries = [stored(0, "a", 5), stored(1, "b", 4)];
        check_violation(&entries, &[record("a", 5), record("b", 4)], "b at 0/4 was published after a at 5");
        let entries = entries.map(|entry| Entry { key: None, ..entry });
        let records = [record("a", 5), record("b", 4)].map(|record| Record { key: None, ..record });
        check_violation(&entries, &records, "b at 0/4 was published after a at 5");
    }

    #[test]
    fn a_key_in_two_partitions_is_found() {
        let moved = Entry { outcome: Outcome::Stored { partition: 1, offset: 0 }, ..stored(1, "b", 0) };
        let there = Record { partition: 1, ..record("b", 0) };
        check_violation(&[stored(0, "a", 0), moved], &[record("a", 0), there], "b: key k is in partitions 0 and 1");
    }

    fn handed_off(sequence: u64, value: &str) -> Entry {
        entry(sequence, value, Outcome::HandedOff { receipt: None })
    }

    #[test]
    fn what_was_handed_off_is_there_once_with_its_key_and_in_its_place_among_what_was_stored() {
        let entries = [stored(0, "a", 5), handed_off(1, "b"), stored(2, "c", 7)];
        let sound = [record("a", 5), record("b", 6), record("c", 7)];
        let report = check(&Ledger { entries: entries.to_vec() }, &sound);
        assert_eq!((report.violation_count(), report.handed_off), (0, 1), "{report}");
        let at = |offset| [record("a", 5), record("b", offset), record("c", 7)];
        check_violation(&entries, &at(4), "b at 0/4 was published after a at 5");
        check_violation(&entries, &at(8), "c at 0/7 was published after b at 8");
        check_violation(&entries, &[record("a", 5), record("c", 7)], "b: lost; answered 202, is not there");
        let other_key = [record("a", 5), record("b", 6).key("x"), record("c", 7)];
        check_violation(&entries, &other_key, "b: published with key Some([107]), has Some([120])");
        let twice = [record("a", 5), record("b", 6), record("c", 7), record("b", 8)];
        check_violation(&entries, &twice, "b: answered 202, stored 2 times, at 0/6, 0/8");
    }

    #[test]
    fn two_messages_with_one_value_are_found() {
        let entries = [stored(0, "a", 0), entry(1, "a", Outcome::Refused { status: 503 })];
        check_violation(&entries, &[record("a", 0)], "a: twice in the ledger");
    }

    #[test]
    fn connections_and_keys_have_no_order_among_each_other() {
        let entries = vec![
            stored(0, "a", 9),
            Entry { connection: 1, ..stored(0, "b", 8) },
            Entry { key: Some(b"other".to_vec()), ..stored(1, "c", 7) },
            Entry { key: None, ..stored(2, "d", 6) },
        ];
        let records =
            [record("a", 9), record("b", 8), record("c", 7).key("other"), Record { key: None, ..record("d", 6) }];
        let report = check(&Ledger { entries }, &records);
        assert_eq!((report.stored, report.violation_count()), (4, 0), "{report}");
    }

    /// Two connections, three keys and none, two partitions; every fifth message refused, every seventh unknown and
    /// every second of those stored all the same.
    fn sound_world() -> (Ledger, Vec<Record>) {
        let mut entries = Vec::new();
        let mut records: Vec<Record> = Vec::new();
        for sequence in 0..60_u64 {
            for connection in 0..2 {
                let key = (sequence % 4 != 3).then(|| format!("c{connection}k{}", sequence % 4));
                let partition = i32::from(sequence % 4 > 1);
                let offset = records.iter().filter(|record| record.partition == partition).count() as i64;
                let (outcome, is_there) = match sequence {
                    _ if sequence % 5 == 4 => (Outcome::Refused { status: 503 }, false),
                    _ if sequence % 7 == 6 => (Outcome::Unknown { why: "504".into() }, sequence % 2 == 0),
                    _ => (Outcome::Stored { partition, offset }, true),
                };
                let value = format!("connection {connection} message {sequence}").into_bytes();
                let key = key.map(String::into_bytes);
                if is_there {
                    let record = Record::with_value(value.clone());
                    records.push(Record { partition, offset, key: key.clone(), ..record });
                }
                entries.push(Entry { connection, sequence, key, value, outcome });
            }
        }
        (Ledger { entries }, records)
    }

    #[test]
    fn no_single_change_to_a_sound_world_goes_unnoticed() {
        let (ledger, records) = sound_world();
        let sound = check(&ledger, &records);
        assert_eq!((sound.violation_count(), sound.stored > 50, sound.unknown_found > 0), (0, true, true), "{sound}");
        let is_stored = |record: &Record| {
            let mut entries = ledger.entries.iter();
            let entry = entries.find(|entry| Some(&entry.value) == record.value.as_ref()).unwrap();
            matches!(entry.outcome, Outcome::Stored { .. })
        };
        let noticed = |records: &[Record]| check(&ledger, records).violation_count() > 0;
        for (index, record) in records.iter().enumerate() {
            let changed = |change: &dyn Fn(&mut Record)| {
                let mut records = records.clone();
                change(&mut records[index]);
                records
            };
            let mut without = records.clone();
            without.remove(index);
            // What was answered 504 may be there or not, and anywhere.
            assert_eq!(noticed(&without), is_stored(record), "lost: {}", record.text());
            assert_eq!(noticed(&changed(&|record| record.offset += 1)), is_stored(record), "moved: {}", record.text());
            assert_eq!(noticed(&changed(&|record| record.partition ^= 1)), is_stored(record), "{}", record.text());
            assert_eq!(noticed(&changed(&|record| record.key = None)), is_stored(record) && record.key.is_some());
            assert!(noticed(&changed(&|record| record.value = Some(b"other".to_vec()))), "{}", record.text());
            assert!(noticed(&changed(&|record| record.value = None)), "{}", record.text());
            let mut twice = records.clone();
            twice.push(Record { offset: 1_000, ..record.clone() });
            assert!(noticed(&twice), "doubled: {}", record.text());
        }
        for entry in &ledger.entries {
            if matches!(entry.outcome, Outcome::Refused { .. }) {
                let mut more = records.clone();
                more.push(Record { key: entry.key.clone(), offset: 1_000, ..Record::with_value(&*entry.value) });
                assert!(noticed(&more), "refused: {}", show(&entry.value));
            }
        }
        assert!(noticed(&[]), "nothing was read");
    }

    #[test]
    fn receipts_that_agree_with_a_wrong_order_in_kafka_are_noticed() {
        let (ledger, records) = sound_world();
        let mut checked = 0;
        for first in 0..ledger.entries.len() {
            for second in first + 1..ledger.entries.len() {
                let (one, two) = (&ledger.entries[first], &ledger.entries[second]);
                let (Outcome::Stored { partition, offset }, Outcome::Stored { partition: other, offset: later }) =
                    (&one.outcome, &two.outcome)
                else {
                    continue;
                };
                if (one.connection, &one.key, partition) != (two.connection, &two.key, other) {
                    continue;
                }
                let (mut swapped, mut stored) = (ledger.clone(), records.clone());
                swapped.entries[first].outcome = Outcome::Stored { partition: *partition, offset: *later };
                swapped.entries[second].outcome = Outcome::Stored { partition: *partition, offset: *offset };
                for record in &mut stored {
                    if record.value.as_ref() == Some(&one.value) {
                        record.offset = *later;
                    } else if record.value.as_ref() == Some(&two.value) {
                        record.offset = *offset;
                    }
                }
                assert!(check(&swapped, &stored).violation_count() > 0, "{first} and {second}");
                checked += 1;
            }
        }
        assert!(checked > 100, "only {checked} pairs");
    }
}
