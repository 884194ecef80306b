//! Every answer a broker can give to Produce, and to what must come before it: rows of (answers, what is told).

use std::time::Duration;

use kafka_client::{Acks, TopicIdx, TopicState};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};

use crate::brokers::{Brokers, HANG_UP, TOPIC, read_back};
use crate::publisher::{Publisher, config};
use crate::truth::{check, word};

/// Until a record's deadline, where a row does not last.
const LONG: Duration = Duration::from_secs(20);
/// Where it lasts: answered again and again with the same error.
const SHORT: Duration = Duration::from_millis(700);
/// More answers than anybody asks for in that time.
const LASTING: usize = 10_000;

/// One mock cluster, one topic, and as many rows as a test has, each with two partitions and a client of its own. What
/// all of them were told is held against the brokers' logs when the table is done. (A topic per row would be simpler,
/// but the mock often takes a second to make one.)
struct Table {
    brokers: Brokers,
    rows: Vec<Publisher>,
}

const ROWS_MAX: i32 = 40;

impl Table {
    fn new() -> Table {
        let brokers = Brokers::start(3);
        brokers.mock.create_topic(TOPIC, 2 * ROWS_MAX, 3).expect("a topic");
        Table { brokers, rows: Vec::new() }
    }

    /// A new client, and its partitions.
    fn row_begins(&mut self) -> (Publisher, TopicIdx, [i32; 2]) {
        let first = 2 * self.rows.len() as i32;
        assert!(first < 2 * ROWS_MAX, "the table is full");
        let mut publisher = Publisher::new(config(&self.brokers.bootstrap()));
        let topic = publisher.client.topic(TOPIC);
        (publisher, topic, [first, first + 1])
    }

    /// Publishes before, into and after `answers` of `api` and gives what those in the middle were told.
    fn publish_into(&mut self, api: Api, answers: &[Code], acks: Acks, count: usize, timeout: Duration) -> Vec<String> {
        let (mut publisher, topic, partitions) = self.row_begins();
        // ApiVersions and InitProducerId are asked at the beginning.
        if matches!(api, Api::Produce) {
            for partition in partitions {
                publisher.publish(topic, partition, &format!("before-{partition}"), Acks::All, LONG);
            }
            publisher.settle();
        }
        self.brokers.mock.request_errors(api, answers);
        let tags: Vec<u64> =
            (0..count).map(|n| publisher.publish(topic, partitions[0], &format!("amid-{n}"), acks, timeout)).collect();
        publisher.settle();
        self.brokers.mock.clear_request_errors(api);
        let after: Vec<u64> =
            (0..4).map(|n| publisher.publish(topic, partitions[n % 2], &format!("after-{n}"), acks, LONG)).collect();
        publisher.settle();
        for tag in after {
            let outcome = &publisher.outcomes[&tag];
            assert!(outcome.is_ok(), "{acks:?} into {:?}: afterwards all is well, not {outcome:?}", answers.first());
        }
        let mut told: Vec<String> = tags.iter().map(|tag| word(&publisher.outcomes[tag])).collect();
        told.dedup();
        self.rows.push(publisher);
        told
    }

    fn row(&mut self, api: Api, answers: &[Code], acks: Acks, told: &str) {
        assert_eq!(self.publish_into(api, answers, acks, 5, LONG), [told], "{acks:?} into {answers:?}");
    }

    /// The same answer until the deadline.
    fn row_lasting(&mut self, acks: Acks, answer: Code, count: usize, told: &str) {
        let got = self.publish_into(Api::Produce, &vec![answer; LASTING], acks, count, SHORT);
        assert_eq!(got, [told], "{acks:?} into lasting {answer:?}");
    }

    /// Whatever anybody was told is true.
    fn judge(self) {
        let log = read_back(&self.brokers.bootstrap(), TOPIC, 2 * self.rows.len() as i32);
        for (row, publisher) in self.rows.iter().enumerate() {
            let mine = |partition: &i32| *partition as usize / 2 == row;
            let log = log.iter().filter(|(partition, _)| mine(partition));
            let log = log.map(|(partition, log)| (*partition, log.clone())).collect();
            check(&format!("row {row}"), &publisher.sent, &publisher.outcomes, &log);
        }
    }
}

#[test]
fn answers_that_pass_are_retried_until_the_records_are_stored_once() {
    let mut table = Table::new();
    for answer in [
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Code::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID,
        Code::RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED,
        Code::RD_KAFKA_RESP_ERR_INVALID_MSG,
        Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        HANG_UP,
    ] {
        table.row(Api::Produce, &[answer], Acks::All, "stored");
    }
    let many = [
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        HANG_UP,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        HANG_UP,
        HANG_UP,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ];
    table.row(Api::Produce, &many, Acks::All, "stored");
    table.judge();
}

#[test]
fn a_producer_id_the_broker_does_not_like_is_replaced() {
    let mut table = Table::new();
    for answer in [
        Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
        Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING,
        Code::RD_KAFKA_RESP_ERR_PRODUCER_FENCED,
        Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
    ] {
        table.row(Api::Produce, &[answer], Acks::All, "stored");
    }
    table.judge();
}

#[test]
fn the_leader_alone_is_asked_again_only_when_it_has_surely_not_stored() {
    let mut table = Table::new();
    for answer in [
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
        Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Code::RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED,
    ] {
        table.row(Api::Produce, &[answer], Acks::Leader, "stored");
    }
    table.row(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT], Acks::Leader, "unknown");
    table.row(Api::Produce, &[HANG_UP], Acks::Leader, "unknown");
    table.judge();
}

#[test]
fn refusals_for_good_are_told_as_they_are_and_nothing_is_stored() {
    let mut table = Table::new();
    for (answer, told) in [
        (Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "not authorized"),
        (Code::RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE, "rejected UNSUPPORTED_COMPRESSION_TYPE"),
        (Code::RD_KAFKA_RESP_ERR_POLICY_VIOLATION, "rejected POLICY_VIOLATION"),
        (Code::RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS, "rejected INVALID_REQUIRED_ACKS"),
        (Code::RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT, "rejected UNSUPPORTED_FOR_MESSAGE_FORMAT"),
        (Code::RD_KAFKA_RESP_ERR_UNKNOWN, "unknown"),
    ] {
        table.row(Api::Produce, &[answer], Acks::All, told);
    }
    table.judge();
}

#[test]
fn what_is_too_large_or_bad_together_is_sent_in_parts() {
    let mut table = Table::new();
    for answer in [
        Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        Code::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
        Code::RD_KAFKA_RESP_ERR_INVALID_RECORD,
        Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP,
    ] {
        table.row(Api::Produce, &[answer], Acks::All, "stored");
        table.row(Api::Produce, &[answer], Acks::Leader, "stored");
    }
    table.row_lasting(Acks::All, Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 5, "too large");
    table.row_lasting(Acks::All, Code::RD_KAFKA_RESP_ERR_INVALID_RECORD, 5, "rejected INVALID_RECORD");
    table.row_lasting(Acks::All, Code::RD_KAFKA_RESP_ERR_INVALID_MSG, 1, "rejected CORRUPT_MESSAGE");
    table.judge();
}

#[test]
fn an_answer_that_lasts_ends_at_the_deadline_as_unavailable_or_unknown() {
    let mut table = Table::new();
    for (acks, answer, told) in [
        (Acks::All, Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, "unavailable"),
        (Acks::All, Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, "unavailable"),
        (Acks::All, Code::RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED, "unavailable"),
        (Acks::Leader, Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, "unavailable"),
        // With acks=all these are also what a broker says that has appended.
        (Acks::All, Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, "unknown"),
        (Acks::All, Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND, "unknown"),
        (Acks::All, Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, "unknown"),
        (Acks::All, Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR, "unknown"),
        (Acks::All, HANG_UP, "unknown"),
    ] {
        table.row_lasting(acks, answer, 3, told);
    }
    table.judge();
}

#[test]
fn what_goes_wrong_before_the_first_produce_delays_it_at_most() {
    let mut table = Table::new();
    for answer in [
        Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        Code::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN,
        HANG_UP,
    ] {
        table.row(Api::InitProducerId, &[answer, answer], Acks::All, "stored");
    }
    // Brokers before 2.8 want a permission for it: acks=all goes without.
    table.row(Api::InitProducerId, &[Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED], Acks::All, "stored");
    assert!(!table.rows.last().expect("a row").client.is_idempotent(), "the answer was met");
    // A busy machine makes one more now and then; nothing makes fewer.
    let connects = table.rows.iter().map(|row| row.connects).min().expect("rows");
    for answer in [
        Code::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN,
        Code::RD_KAFKA_RESP_ERR_INVALID_REQUEST,
        HANG_UP,
    ] {
        table.row(Api::ApiVersion, &[answer, answer], Acks::All, "stored");
        // The first is met by version 3, which this broker refuses anyway; the second ends a connection.
        assert!(table.rows.last().expect("a row").connects > connects, "{answer:?} was met");
    }
    table.judge();
}

#[test]
fn what_metadata_says_about_a_topic_is_told_or_waited_out() {
    let mut table = Table::new();
    for (error, lasts, told) in [
        (Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, false, "stored"),
        (Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, true, "unavailable"),
        (Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, true, "not authorized"),
        (Code::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, true, "topic unknown"),
        (Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, true, "topic unknown"),
        (Code::RD_KAFKA_RESP_ERR_UNKNOWN, false, "stored"),
    ] {
        let (mut publisher, topic, partitions) = table.row_begins();
        let say = |error| table.brokers.mock.topic_error(TOPIC, error).expect("an error");
        say(error);
        let timeout = if lasts { SHORT } else { LONG };
        let tag = publisher.publish(topic, partitions[1], "amid", Acks::All, timeout);
        publisher.run(Duration::from_millis(300));
        if !lasts {
            assert!(publisher.outcomes.is_empty(), "{error:?}: {:?}", publisher.outcomes);
            say(Code::RD_KAFKA_RESP_ERR_NO_ERROR);
        }
        publisher.settle();
        assert_eq!(word(&publisher.outcomes[&tag]), told, "{error:?}");
        say(Code::RD_KAFKA_RESP_ERR_NO_ERROR);
        publisher.client.refresh_metadata(std::time::Instant::now());
        publisher.run_until("the topic is known", |it| it.client.topic_state(topic) == TopicState::Known);
        publisher.publish(topic, partitions[0], "after", Acks::All, LONG);
        publisher.settle();
        assert!(publisher.outcomes[&2].is_ok(), "{:?}", publisher.outcomes);
        table.rows.push(publisher);
    }
    table.judge();
}

#[test]
fn every_version_of_produce_and_metadata_that_both_speak_stores() {
    // The mock garbles Produce 5: it leaves out the log start offset.
    let versions = [(3, 1, 0), (4, 4, 1), (6, 7, 2), (7, 8, 3), (8, 9, 4), (9, 10, 4), (10, 12, 4)];
    let mut table = Table::new();
    for (produce, metadata, init) in versions {
        for (api, version) in [(Api::Produce, produce), (Api::Metadata, metadata), (Api::InitProducerId, init)] {
            table.brokers.mock.apiversion(api, Some(0), Some(version)).expect("a version");
        }
        let (mut publisher, topic, partitions) = table.row_begins();
        for n in 0..20 {
            publisher.publish(topic, partitions[n % 2], &format!("v{n}"), [Acks::All, Acks::Leader][n / 2 % 2], LONG);
        }
        publisher.settle();
        assert!(publisher.outcomes.values().all(Result::is_ok), "Produce {produce}: {:?}", publisher.outcomes);
        table.rows.push(publisher);
    }
    table.judge();
}

#[test]
fn brokers_without_producer_ids_are_written_to_without() {
    let mut table = Table::new();
    table.brokers.mock.apiversion(Api::InitProducerId, None, None).expect("no such API");
    let (mut publisher, topic, partitions) = table.row_begins();
    let tag = publisher.publish(topic, partitions[0], "it", Acks::All, LONG);
    publisher.settle();
    assert!(publisher.outcomes[&tag].is_ok());
    table.brokers.mock.request_errors(Api::Produce, &[HANG_UP]);
    let lost = publisher.publish(topic, partitions[0], "lost", Acks::All, LONG);
    publisher.settle();
    assert_eq!(word(&publisher.outcomes[&lost]), "unknown", "no sequence, no retry");
    table.rows.push(publisher);
    table.judge();
}
