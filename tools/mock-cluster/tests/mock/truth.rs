//! What publishers were told, held against what lies in the partitions.

use std::collections::BTreeMap;

use kafka_client::{Acks, ProduceError, Stored};

/// One published record; values are unique.
#[derive(Clone, Debug)]
pub struct Sent {
    pub tag: u64,
    pub partition: i32,
    pub value: String,
    pub acks: Acks,
}

/// (offset, value) by partition, as a consumer read them.
pub type Logs = BTreeMap<i32, Vec<(i64, String)>>;

/// Asserts that
/// - told stored: it is there once, at the offset told, and in the order of publishing;
/// - told unknown: it is there once or not at all;
/// - told anything else: it is not there.
pub fn check(context: &str, sent: &[Sent], outcomes: &BTreeMap<u64, Result<Stored, ProduceError>>, logs: &Logs) {
    let mut last: BTreeMap<(i32, i16), (i64, u64)> = BTreeMap::new();
    for sent in sent {
        let at: Vec<i64> = logs
            .get(&sent.partition)
            .map(|log| log.iter().filter(|(_, value)| *value == sent.value).map(|(offset, _)| *offset).collect())
            .unwrap_or_default();
        let told = outcomes.get(&sent.tag);
        let story = format!("{context}: {sent:?} was told {told:?} and lies at {at:?}");
        match told {
            None => panic!("{context}: {sent:?} was never answered"),
            Some(Ok(stored)) => {
                assert_eq!(stored.partition, sent.partition, "{story}");
                assert_eq!(at.len(), 1, "{story}");
                assert!(stored.offset == at[0] || sent.acks == Acks::None && stored.offset == -1, "{story}");
                let kind = (sent.partition, sent.acks as i16);
                if let Some((before, tag)) = last.insert(kind, (at[0], sent.tag)) {
                    assert!(before < at[0], "{story}, before tag {tag}");
                }
            }
            Some(Err(error)) if error.outcome_unknown() => assert!(at.len() <= 1, "{story}"),
            Some(Err(_)) => assert!(at.is_empty(), "{story}"),
        }
    }
    let known: usize = logs.values().map(Vec::len).sum();
    let ours = logs.values().flatten().filter(|(_, value)| sent.iter().any(|sent| sent.value == *value)).count();
    assert_eq!(ours, known, "{context}: somebody else's records");
}

/// One word for an outcome.
pub fn word(outcome: &Result<Stored, ProduceError>) -> String {
    match outcome {
        Ok(_) => "stored".into(),
        Err(ProduceError::Unavailable { .. }) => "unavailable".into(),
        Err(ProduceError::Unknown { .. }) => "unknown".into(),
        Err(ProduceError::RecordTooLarge { .. }) => "too large".into(),
        Err(ProduceError::NotAuthorized { .. }) => "not authorized".into(),
        Err(ProduceError::TopicUnknown) => "topic unknown".into(),
        Err(ProduceError::Rejected { code }) => format!("rejected {}", code.name()),
        Err(other) => format!("{other:?}"),
    }
}
