//! What is judged after Kafka was away while publishers went on: what they were told, what is in Kafka, what receipts say.
//!
//! A pure function over a [`History`]: the end-to-end tests make histories with real brokers, the tests here write them down.
//! What is in Kafka is the [`ledger`]'s story; here is what the answers and the receipts have to be like.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use crate::ledger::{self, Ledger, Outcome, Report};
use crate::load::Answers;
use crate::record::Record;
use crate::rules::Rule;

/// Receipts that are compared with what is in Kafka, spread over the whole load.
const RECEIPTS_SAMPLED: usize = 400;

/// What came of a load. Everything that waited is delivered by now, or never will be.
#[derive(Clone, Debug)]
pub struct History {
    pub ledger: Ledger,
    pub answers: Answers,
    /// All of the topic, as a client of another make read it.
    pub records: Vec<Record>,
    /// What was said of the receipts of [`sample`].
    pub receipts: HashMap<String, Said>,
}

/// The answer to a question about a receipt.
#[derive(Clone, Debug)]
pub struct Said {
    pub status: u16,
    pub body: Value,
}

/// What a judgement makes allowances for.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Connections may break and requests be refused: a gateway was killed or stopped.
    pub gateway_ended: bool,
    /// Refusals that belong to the case: a full disk.
    pub refused: bool,
    /// Messages answered 202 that may be missing, because their bytes on the disk were damaged.
    pub lost: usize,
    /// No answer takes longer.
    pub answer_within: Duration,
}

impl Allowed {
    pub fn nothing(answer_within: Duration) -> Allowed {
        Allowed { gateway_ended: false, refused: false, lost: 0, answer_within }
    }
}

/// Ids of messages that were handed off, and their values: those that are to be asked about.
pub fn sample(ledger: &Ledger) -> Vec<(&str, &[u8])> {
    let all: Vec<(&str, &[u8])> = ledger
        .entries
        .iter()
        .filter_map(|entry| match &entry.outcome {
            Outcome::HandedOff { receipt: Some(id) } => Some((id.as_str(), entry.value.as_slice())),
            _ => None,
        })
        .collect();
    let step = all.len().div_ceil(RECEIPTS_SAMPLED).max(1);
    all.into_iter().step_by(step).collect()
}

pub fn judge(history: &History, allowed: &Allowed) -> Report {
    let mut report = ledger::check(&history.ledger, &history.records);
    excuse_lost(&mut report, allowed.lost);
    if report.handed_off == 0 {
        report.violation(Rule::ProvesSomething, "nothing was handed off".to_owned());
    }
    judge_answers(&history.answers, allowed.gateway_ended, allowed.answer_within, &mut report);
    let mut refused = history.ledger.entries.iter().filter(|entry| matches!(entry.outcome, Outcome::Refused { .. }));
    if !allowed.gateway_ended
        && !allowed.refused
        && let Some(first) = refused.next()
    {
        report.violation(Rule::RefusesNothingInVain, format!("refused although it could be kept: {first:?}"));
    }
    // What is damaged has a receipt that says so, or none any more.
    if allowed.lost == 0 {
        judge_receipts(history, &mut report);
    }
    report
}

/// What is told to be damaged may be missing, and no more.
fn excuse_lost(report: &mut Report, lost: usize) {
    if lost > 0
        && let Some(missing) = report.broken.get(&Rule::HandedOffIsThere).copied()
        && missing <= lost
    {
        report.broken.remove(&Rule::HandedOffIsThere);
    }
}

/// How a gateway behaves whatever happens to Kafka.
pub fn judge_answers(answers: &Answers, gateway_ended: bool, within: Duration, report: &mut Report) {
    if answers.slowest > within {
        report.violation(Rule::InTime, format!("an answer after {:?}, at most {within:?}", answers.slowest));
    }
    if answers.without_retry_after > 0 {
        let text = format!("{} times 429 or 503 without Retry-After", answers.without_retry_after);
        report.violation(Rule::SaysWhenToRetry, text);
    }
    if answers.broken > 0 && !gateway_ended {
        report.violation(Rule::HoldsConnections, format!("{} connections broke", answers.broken));
    }
}

fn judge_receipts(history: &History, report: &mut Report) {
    let asked = sample(&history.ledger);
    // A binary receipt of a batch has no room for an id, all others do.
    if report.handed_off > 0 && asked.is_empty() {
        let text = format!("{} messages were answered 202, none with a receipt", report.handed_off);
        report.violation(Rule::GivesReceipts, text);
    }
    let mut places: HashMap<&[u8], Vec<(i64, i64)>> = HashMap::with_capacity(history.records.len());
    for record in &history.records {
        let at = (i64::from(record.partition), record.offset);
        places.entry(record.value.as_deref().unwrap_or_default()).or_default().push(at);
    }
    for (id, value) in asked {
        let shown = String::from_utf8_lossy(value);
        let Some(Said { status: 200, body }) = history.receipts.get(id) else {
            let text = format!("{shown}: receipt {id} is answered {:?}", history.receipts.get(id));
            report.violation(Rule::AnswersReceipts, text);
            continue;
        };
        if body["state"] != "delivered" {
            report.violation(Rule::ReceiptsSayDelivered, format!("{shown}: {body}"));
            continue;
        }
        let told = (body["partition"].as_i64().unwrap_or(-1), body["offset"].as_i64().unwrap_or(-1));
        let found = places.get(value).map_or(&[][..], Vec::as_slice);
        if !found.contains(&told) {
            report.violation(Rule::ReceiptsSayWhere, format!("{shown}: {body}, is at {found:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::ledger::Entry;

    const WITHIN: Duration = Duration::from_secs(5);

    fn entry(connection: u32, sequence: u64, key: Option<&str>, value: &str, outcome: Outcome) -> Entry {
        Entry { connection, sequence, key: key.map(|key| key.as_bytes().to_vec()), value: value.into(), outcome }
    }

    fn record(partition: i32, offset: i64, key: Option<&str>, value: &str) -> Record {
        let keyless = Record { partition, offset, ..Record::with_value(value) };
        key.map_or(keyless.clone(), |key| keyless.key(key))
    }

    fn receipt(id: &str) -> Outcome {
        Outcome::HandedOff { receipt: Some(id.to_owned()) }
    }

    fn said(partition: i32, offset: i64) -> Said {
        Said { status: 200, body: json!({"state": "delivered", "partition": partition, "offset": offset}) }
    }

    /// Two connections before, during and after an outage: one with a key, one without.
    fn good() -> History {
        let stored = |partition, offset| Outcome::Stored { partition, offset };
        let unknown = || Outcome::Unknown { why: "504".to_owned() };
        let k = Some("k");
        let entries = vec![
            entry(0, 0, k, "before", stored(0, 0)),
            entry(0, 1, k, "dying", unknown()),
            entry(0, 2, k, "kept", receipt("r2")),
            entry(0, 3, k, "kept, too", receipt("r3")),
            entry(0, 4, k, "after", stored(0, 4)),
            entry(1, 0, None, "plain", stored(1, 0)),
            entry(1, 1, None, "plain, gone", unknown()),
            entry(1, 2, None, "plain, kept", Outcome::HandedOff { receipt: None }),
        ];
        let records = vec![
            record(0, 0, k, "before"),
            record(0, 1, k, "dying"),
            record(0, 2, k, "kept"),
            record(0, 3, k, "kept, too"),
            record(0, 4, k, "after"),
            record(1, 0, None, "plain"),
            record(1, 1, None, "plain, kept"),
        ];
        let answers = Answers { slowest: WITHIN, ..Answers::default() };
        let receipts = [("r2".to_owned(), said(0, 2)), ("r3".to_owned(), said(0, 3))].into();
        History { ledger: Ledger { entries }, answers, records, receipts }
    }

    fn outcome<'h>(history: &'h mut History, value: &str) -> &'h mut Outcome {
        let mut entries = history.ledger.entries.iter_mut();
        &mut entries.find(|entry| entry.value == value.as_bytes()).expect("it was published").outcome
    }

    fn stored<'h>(history: &'h mut History, value: &str) -> &'h mut Record {
        history.records.iter_mut().find(|record| record.value.as_deref() == Some(value.as_bytes())).expect("is stored")
    }

    fn lose(history: &mut History, value: &str) {
        history.records.retain(|record| record.value.as_deref() != Some(value.as_bytes()));
    }

    /// Once more, at the end of the partition.
    fn double(history: &mut History, value: &str) {
        let again = Record { offset: 100, ..stored(history, value).clone() };
        history.records.push(again);
    }

    /// Puts a message elsewhere, and whoever was told where is told that.
    fn place(history: &mut History, value: &str, partition: i32, offset: i64) {
        let record = stored(history, value);
        (record.partition, record.offset) = (partition, offset);
        match outcome(history, value).clone() {
            Outcome::Stored { .. } => *outcome(history, value) = Outcome::Stored { partition, offset },
            Outcome::HandedOff { receipt: Some(id) } => drop(history.receipts.insert(id, said(partition, offset))),
            _ => {}
        }
    }

    /// What is wrong in a history that is good but for one thing.
    type Spoil = fn(&mut History, &mut Allowed);

    const SPOILT: &[(Rule, Spoil)] = &[
        (Rule::StoredIsThere, |history, _| lose(history, "before")),
        (Rule::StoredOnce, |history, _| double(history, "after")),
        (Rule::StoredWhereTold, |history, _| stored(history, "after").offset = 7),
        (Rule::StoredWhereTold, |history, _| stored(history, "plain").partition = 2),
        (Rule::HandedOffIsThere, |history, _| lose(history, "plain, kept")),
        // More than is told.
        (Rule::HandedOffIsThere, |history, allowed| {
            lose(history, "kept");
            lose(history, "plain, kept");
            allowed.lost = 1;
        }),
        // What is told excuses nothing of another kind.
        (Rule::StoredIsThere, |history, allowed| {
            lose(history, "kept");
            lose(history, "before");
            allowed.lost = 1;
        }),
        (Rule::HandedOffOnce, |history, _| double(history, "kept")),
        (Rule::HandedOffOnce, |history, _| double(history, "plain, kept")),
        (Rule::UnknownAtMostOnce, |history, _| double(history, "dying")),
        (Rule::RefusedIsNotThere, |history, allowed| {
            *outcome(history, "dying") = Outcome::Refused { status: 503 };
            allowed.refused = true;
        }),
        (Rule::KeyIsKept, |history, _| stored(history, "before").key = None),
        (Rule::KeyIsKept, |history, _| stored(history, "kept").key = Some(b"other".to_vec())),
        (Rule::KeyIsKept, |history, _| stored(history, "plain, kept").key = Some(b"k".to_vec())),
        (Rule::NobodyElse, |history, _| history.records.push(record(1, 9, None, "never sent"))),
        (Rule::ValuesDiffer, |history, _| {
            let again = entry(1, 3, None, "plain", Outcome::Unknown { why: "504".to_owned() });
            history.ledger.entries.push(again);
        }),
        (Rule::KeyInOnePartition, |history, _| place(history, "after", 1, 9)),
        (Rule::KeyInOnePartition, |history, _| place(history, "kept, too", 1, 9)),
        // 201 after 202, 202 after 202, 202 after 201, and without a key.
        (Rule::InOrder, |history, _| {
            place(history, "after", 0, 3);
            place(history, "kept, too", 0, 4);
        }),
        (Rule::InOrder, |history, _| {
            place(history, "kept", 0, 3);
            place(history, "kept, too", 0, 2);
        }),
        (Rule::InOrder, |history, _| {
            place(history, "before", 0, 2);
            place(history, "kept", 0, 0);
        }),
        (Rule::InOrder, |history, _| {
            place(history, "plain", 1, 1);
            place(history, "plain, kept", 1, 0);
        }),
        (Rule::ProvesSomething, |history, _| {
            let entries = history.ledger.entries.iter_mut();
            for entry in entries.filter(|entry| matches!(entry.outcome, Outcome::HandedOff { .. })) {
                entry.outcome = Outcome::Unknown { why: "504".to_owned() };
            }
        }),
        (Rule::InTime, |history, _| history.answers.slowest = WITHIN + Duration::from_millis(1)),
        (Rule::SaysWhenToRetry, |history, _| history.answers.without_retry_after = 1),
        (Rule::HoldsConnections, |history, _| history.answers.broken = 1),
        (Rule::RefusesNothingInVain, |history, _| {
            *outcome(history, "plain, gone") = Outcome::Refused { status: 503 };
        }),
        (Rule::GivesReceipts, |history, _| {
            for value in ["kept", "kept, too"] {
                *outcome(history, value) = Outcome::HandedOff { receipt: None };
            }
        }),
        (Rule::AnswersReceipts, |history, _| drop(history.receipts.remove("r2"))),
        (Rule::AnswersReceipts, |history, _| history.receipts.get_mut("r3").expect("there").status = 404),
        (Rule::ReceiptsSayDelivered, |history, _| {
            history.receipts.get_mut("r2").expect("there").body["state"] = "pending".into();
        }),
        (Rule::ReceiptsSayWhere, |history, _| drop(history.receipts.insert("r2".to_owned(), said(0, 3)))),
        (Rule::ReceiptsSayWhere, |history, _| drop(history.receipts.insert("r2".to_owned(), said(1, 2)))),
    ];

    #[test]
    fn a_good_history_breaks_nothing_and_one_that_is_spoilt_breaks_the_rule_that_it_is_spoilt_by() {
        let strict = Allowed::nothing(WITHIN);
        let report = judge(&good(), &strict);
        assert_eq!((report.violation_count(), report.stored, report.handed_off), (0, 3, 3), "{report}");
        for (at, (rule, spoil)) in SPOILT.iter().enumerate() {
            let (mut history, mut allowed) = (good(), strict);
            spoil(&mut history, &mut allowed);
            let report = judge(&history, &allowed);
            let broken: Vec<Rule> = report.broken.keys().copied().collect();
            assert_eq!(broken, [*rule], "history {at}: {report}");
            assert!(report.into_result().unwrap_err().to_string().contains(rule.sentence()));
        }
        let spoilt: BTreeSet<Rule> = SPOILT.iter().map(|(rule, _)| *rule).collect();
        let unseen: Vec<&Rule> = Rule::ALL.iter().filter(|rule| !spoilt.contains(rule)).collect();
        assert!(unseen.is_empty(), "no history breaks {unseen:?}");
    }

    #[test]
    fn what_a_case_allows_is_allowed() {
        let cases: [(&str, Spoil); 4] = [
            ("connections of a gateway that ended", |history, allowed| {
                history.answers.broken = 3;
                allowed.gateway_ended = true;
            }),
            ("what a gateway that ended refused", |history, allowed| {
                *outcome(history, "plain, gone") = Outcome::Refused { status: 503 };
                allowed.gateway_ended = true;
            }),
            ("what a full disk refused", |history, allowed| {
                *outcome(history, "plain, gone") = Outcome::Refused { status: 503 };
                allowed.refused = true;
            }),
            ("what was damaged, and less", |history, allowed| {
                lose(history, "kept");
                allowed.lost = 2;
            }),
        ];
        for (what, spoil) in cases {
            let (mut history, mut allowed) = (good(), Allowed::nothing(WITHIN));
            spoil(&mut history, &mut allowed);
            let report = judge(&history, &allowed);
            assert!(report.broken.is_empty(), "{what}: {report}");
        }
    }

    #[test]
    fn receipts_are_asked_for_all_over_a_long_load() {
        let entries = (0..10_000).map(|at| entry(0, at, None, &at.to_string(), receipt(&at.to_string()))).collect();
        let ledger = Ledger { entries };
        let sampled = sample(&ledger);
        assert_eq!((sampled.len(), sampled[0].0, sampled[RECEIPTS_SAMPLED - 1].0), (400, "0", "9975"));
        assert_eq!(sample(&Ledger::default()), []);
    }
}
