//! kproxy before real Kafka clusters, with other people's clients.
//!
//! Each file is one story. Those who only ask share three brokers of Kafka 4.4; those who kill brokers borrow the ones of
//! `faults` and run in the same turn.
//!
//! What is known to go wrong with proxies before Kafka, and where it is shown not to:
//!
//! | what can go wrong | shown by |
//! |---|---|
//! | T1 ApiVersions of an unknown version | `strangers`: 35 in the oldest form, by the broker |
//! | T2 APIs and versions nobody looked at | `addresses`, and `strangers`: not offered, and closed if asked for |
//! | T3 Produce must begin at version 0 | least versions are the broker's: `clients` (librdkafka 2.3 and newer compress) |
//! | T4 the identity of KIP-1242 | `strangers`: the broker's own answer, 129; none at the bootstrap port |
//! | T5 features travel with versions | `exactly_once`, whose transactions are of version 2; router `rewrite/api_versions.rs` |
//! | T6 flexible headers, unknown tagged fields | router `tests/rewriters.rs`, `tests/streaming.rs` |
//! | T7 length of frames, half frames, foreign first bytes | `strangers` |
//! | T8 every host | `hidden` on the wire, `addresses` against Kafka's definitions |
//! | T9 node ids | ids stay: one proxy stands before one cluster; `clients` compares all metadata |
//! | T10 clients are back before the topology is known | `exactly_once` (proxy killed), `secure` (nobody tells) |
//! | T11 cluster id | it is the cluster's: one proxy, one cluster; `strangers` checks that it still identifies |
//! | T12 server names, certificates that change | `secure` |
//! | T13, T14 correlation ids and order | never touched: router `tests/streaming.rs`; acks=0 in its unit tests |
//! | T15 order of producers | `exactly_once`, with the ledger |
//! | T16, T17 shared connections, producer ids of several clusters | not so: a client's connection is one broker's |
//! | T18 fetch sessions | they are between client and broker; every consumer of `clients` and `exactly_once` |
//! | T19 throttling | the broker's answers and pauses pass; nothing is throttled here |
//! | T20 a side that does not read | router `shard/pipe.rs` holds one buffer; no test here |
//! | T21 a lost broker | `operate`: its own connections end and no other |
//! | T22 topic ids | pass as they are; `hidden` asks with them |
//! | T23 names | none are changed |
//! | T24, T25, T26 new groups, share groups, telemetry | pass; `console` (all three kinds of groups), `hidden` (ShareFetch) |
//! | T27 SASL | `secure`: PLAIN and SCRAM pass, the proxy has no credentials |
//! | T28, T29 records | never touched: `clients` compares bytes |
//! | T30 racks and followers | `console`: who is in a follower's rack reads from it |
//! | T31 transactions | `exactly_once` |
//! | T32 measuring what passed by | `operate`: bytes counted are bytes moved |
//! | T33 what HTTP says | `operate`: /readyz follows the brokers |
//! | T34 clients as labels | `operate` |
//!
//! Not hidden: DescribeConfigs of a broker tells an administrator its `listeners`, which is configuration.

mod addresses;
pub mod clients;
mod console;
pub mod exactly_once;
mod hidden;
mod operate;
mod secure;
mod strangers;
pub mod wire;

use anyhow::Result;
use testkit::foreign;
use testkit::kafka::Version;

pub use self::secure::stop;
use crate::faults;
use crate::harness::{Case, Run, case};

const BROKERS: &[&str] = &["bin:kproxy", "kafka", "python-clients"];
const OLD: &[&str] = &["bin:kproxy", "kafka", "python-clients-old"];
const CLIENTS: &[&str] = &["bin:kproxy", "kafka", "kcat", "python-clients", "go"];
const TOOLS: &[&str] = &["bin:kproxy", "kafka", "kafka-tools", "python-clients"];
const CLIENTS_3_9: &[&str] = &["bin:kproxy", "kafka-zk", "kafka", "kcat", "python-clients", "go"];
const CLIENTS_2_7: &[&str] = &["bin:kproxy", "kafka2", "kafka-zk", "kafka", "kcat", "python-clients", "go"];

pub const CASES: &[Case] = &[
    case("every_address_of_kafkas_messages_is_known_and_every_version", &["bin:kproxy", "kafka"], addresses::are_known),
    case(
        "a_wrong_configuration_is_told_with_its_line",
        &["bin:kproxy"],
        operate::a_wrong_configuration_is_told_with_its_line,
    ),
    case("no_byte_tells_a_client_where_a_broker_is", BROKERS, hidden::nothing_leaks),
    case("clients_of_every_make_do_the_same_through_it", CLIENTS, clients::do_the_same_through_it),
    case("kafkas_own_tools_do_the_same_through_it", TOOLS, console::tools_do_the_same_through_it),
    case("a_consumer_reads_from_the_broker_of_its_rack", TOOLS, console::a_consumer_reads_from_its_rack),
    case("confluent_kafka_finds_the_same_through_it", BROKERS, || {
        clients::finds_what_it_finds_without_it(foreign::CONFLUENT)
    }),
    case("confluent_kafka_2_3_finds_the_same_through_it", OLD, || {
        clients::finds_what_it_finds_without_it(foreign::CONFLUENT_2_3)
    }),
    case("kafka_python_finds_the_same_through_it", BROKERS, || {
        clients::finds_what_it_finds_without_it(foreign::KAFKA_PYTHON)
    }),
    case("kafka_python_2_0_finds_the_same_through_it", OLD, || {
        clients::finds_what_it_finds_without_it(foreign::KAFKA_PYTHON_2_0)
    }),
    case("aiokafka_finds_the_same_through_it", BROKERS, || clients::finds_what_it_finds_without_it(foreign::AIOKAFKA)),
    case("kafkajs_finds_the_same_through_it", &["bin:kproxy", "kafka", "kafkajs"], || {
        clients::finds_what_it_finds_without_it(foreign::KAFKAJS)
    }),
    case("requests_that_old_clients_sent_pass", &["bin:kproxy", "kafka", "python"], || {
        clients::finds_what_it_finds_without_it(foreign::BARE)
    }),
    case(
        "foreign_first_bytes_are_named_and_half_a_request_ends",
        BROKERS,
        strangers::foreign_bytes_are_named_and_half_a_request_ends,
    ),
    case("a_balancer_says_who_the_client_is", BROKERS, strangers::a_balancer_says_who_the_client_is),
    case("old_connections_close_between_two_requests", BROKERS, strangers::old_connections_close_between_two_requests),
    case("a_client_at_the_wrong_broker_is_told_so", BROKERS, strangers::a_client_at_the_wrong_broker_is_told_so),
    case("readiness_follows_the_brokers", BROKERS, operate::readiness_follows_the_brokers),
    case("bytes_counted_are_bytes_moved", BROKERS, operate::bytes_counted_are_bytes_moved),
    case("logins_pass_and_strangers_are_told_nothing", BROKERS, secure::logins_pass_and_strangers_are_told_nothing),
    case("names_tell_brokers_apart_on_one_port", BROKERS, secure::names_tell_brokers_apart),
    case("a_new_certificate_is_for_new_connections", BROKERS, secure::a_new_certificate_is_for_new_connections),
    on_brokers("a_lost_broker_ends_its_own_connections", || {
        faults::with_brokers(Version::Newest, operate::a_lost_broker_ends_its_own_connections)
    }),
    on_brokers("nothing_is_lost_doubled_or_reordered_when_brokers_and_proxies_die", || {
        faults::with_brokers(Version::Newest, exactly_once::nothing_is_lost_doubled_or_reordered)
    }),
    on_brokers("a_drain_costs_clients_a_reconnect", || {
        faults::with_brokers(Version::Newest, exactly_once::a_drain_costs_clients_a_reconnect)
    }),
    nightly("clients_do_the_same_before_kafka_3_9", CLIENTS_3_9, clients::do_the_same_before_kafka_3_9),
    nightly("clients_do_the_same_before_kafka_2_7", CLIENTS_2_7, clients::do_the_same_before_kafka_2_7),
];

const fn on_brokers(name: &'static str, run: fn() -> Result<()>) -> Case {
    Case { turn: Some(&faults::TURN), ..case(name, BROKERS, run) }
}

const fn nightly(name: &'static str, needs: &'static [&'static str], run: fn() -> Result<()>) -> Case {
    Case { nightly: true, run: Run::Function(run), ..case(name, needs, run) }
}
