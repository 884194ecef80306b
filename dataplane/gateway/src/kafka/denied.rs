//! What an error of the client says of a record that waits here for as long as it takes: never, or not now.

use std::time::{Duration, Instant};

use kafka_client::ProduceError;

/// A topic that the cluster has denied for so long, and has said nothing else, is gone. Brokers that were all restarted deny
/// every topic for a while.
pub const GONE_AFTER: Duration = Duration::from_secs(30);

/// What an error says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It will never be taken; a stable code for why.
    Never(&'static str),
    /// It is tried again.
    Later,
}

/// Judges an error. `gone_since`: since when the cluster says, and says nothing else, that there is no such topic or partition;
/// the caller forgets it when a record was taken.
pub fn verdict(error: &ProduceError, gone_since: &mut Option<Instant>, now: Instant) -> Verdict {
    match error {
        ProduceError::RecordTooLarge { .. } => Verdict::Never("record_too_large"),
        ProduceError::Rejected { .. } => Verdict::Never("rejected_by_kafka"),
        ProduceError::TopicUnknown | ProduceError::PartitionUnknown { .. } => {
            let since = *gone_since.get_or_insert(now);
            match (now.saturating_duration_since(since) >= GONE_AFTER, error) {
                (false, _) => Verdict::Later,
                (true, ProduceError::TopicUnknown) => Verdict::Never("topic_gone"),
                (true, _) => Verdict::Never("topic_recreated"),
            }
        }
        _ => {
            // An outage in between: what was said before it says nothing of now.
            *gone_since = None;
            Verdict::Later
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by ten minutes without three brokers: one denied the topic while it went down, and again while it came up.
    #[test]
    fn a_topic_is_gone_only_when_nothing_else_was_said_for_long_enough() {
        let begun = Instant::now();
        let half = GONE_AFTER / 2;
        let gone = ProduceError::TopicUnknown;
        let away = ProduceError::Away { why: "nobody leads it".into(), partition: None };
        for (what, said, parks) in [
            ("twice in a while", vec![(0, &gone), (1, &gone)], false),
            ("for long enough", vec![(0, &gone), (1, &gone), (2, &gone)], true),
            ("before an outage and after it", vec![(0, &gone), (1, &away), (2, &gone)], false),
            ("long enough after an outage", vec![(0, &gone), (1, &away), (2, &gone), (4, &gone)], true),
        ] {
            let mut since = None;
            let verdicts = said.iter().map(|(at, error)| verdict(error, &mut since, begun + half * *at));
            let parked = verdicts.filter(|verdict| matches!(verdict, Verdict::Never(_))).count() > 0;
            assert_eq!(parked, parks, "{what}");
        }
    }
}
