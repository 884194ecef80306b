//! kproxy for the apps of a kateway, before real Kafka clusters, with other people's clients. Each file is one story.

mod attacks;
mod exactly_once;
mod lifecycle;
mod limits;
mod live;
mod matrix;
mod rest_and_kafka;
mod stage;

use testkit::foreign;
use testkit::kafka::Version;

pub use self::stage::stop;
use crate::faults;
use crate::harness::{Case, case};

const BROKERS: &[&str] = &["bin:kproxy", "bin:kateway", "kafka", "python-clients"];
const OLD: &[&str] = &["bin:kproxy", "bin:kateway", "kafka", "python-clients-old"];
const NODE: &[&str] = &["bin:kproxy", "bin:kateway", "kafka", "kafkajs"];
const GO: &[&str] = &["bin:kproxy", "bin:kateway", "kafka", "kcat", "go"];
const CLIENTS: &[&str] = &["bin:kproxy", "bin:kateway", "kafka", "kcat", "python-clients"];

pub const CASES: &[Case] = &[
    case("confluent_kafka_finds_what_it_finds_at_apache_kafka", BROKERS, || {
        matrix::finds_what_it_finds_at_kafka(foreign::CONFLUENT)
    }),
    case("confluent_kafka_2_3_finds_what_it_finds_at_apache_kafka", OLD, || {
        matrix::finds_what_it_finds_at_kafka(foreign::CONFLUENT_2_3)
    }),
    case("kafka_python_finds_what_it_finds_at_apache_kafka", BROKERS, || {
        matrix::finds_what_it_finds_at_kafka(foreign::KAFKA_PYTHON)
    }),
    case("kafka_python_2_0_finds_what_it_finds_at_apache_kafka", OLD, || {
        matrix::finds_what_it_finds_at_kafka(foreign::KAFKA_PYTHON_2_0)
    }),
    case("aiokafka_finds_what_it_finds_at_apache_kafka", BROKERS, || {
        matrix::finds_what_it_finds_at_kafka(foreign::AIOKAFKA)
    }),
    case("kafkajs_finds_what_it_finds_at_apache_kafka", NODE, || {
        matrix::finds_what_it_finds_at_kafka(foreign::KAFKAJS)
    }),
    case("clients_written_in_go_do_it_too", GO, matrix::clients_written_in_go_do_it_too),
    case("records_are_the_same_under_both_names", CLIENTS, matrix::records_are_the_same_under_both_names),
    case("a_group_goes_on_under_both_names", BROKERS, matrix::a_group_goes_on_under_both_names),
    case("kafka_has_the_app_before_groups_and_topics", BROKERS, matrix::kafka_has_the_app_before_groups_and_topics),
    case("what_rest_published_kafka_clients_read", CLIENTS, rest_and_kafka::what_rest_published_kafka_clients_read),
    case("what_kafka_clients_wrote_rest_reads", BROKERS, rest_and_kafka::what_kafka_clients_wrote_rest_reads),
    case("a_group_moves_between_rest_and_kafka", BROKERS, rest_and_kafka::a_group_moves_between_rest_and_kafka),
    case("a_tenant_can_do_nothing_to_another", BROKERS, attacks::a_tenant_can_do_nothing_to_another),
    case("no_topic_appears_by_being_asked_for", BROKERS, attacks::no_topic_appears_by_being_asked_for),
    case(
        "both_secrets_live_until_the_old_one_is_revoked",
        BROKERS,
        live::both_secrets_live_until_the_old_one_is_revoked,
    ),
    case("a_revoked_grant_ends_who_waits_for_records", BROKERS, live::a_revoked_grant_ends_who_waits_for_records),
    case(
        "a_disabled_app_and_a_wrong_address_are_shown_out",
        BROKERS,
        live::a_disabled_app_and_a_wrong_address_are_shown_out,
    ),
    case(
        "the_manager_waits_for_kproxy_and_names_one_that_is_frozen",
        BROKERS,
        live::the_manager_waits_for_kproxy_and_names_one_that_is_frozen,
    ),
    case("kproxy_serves_without_its_kateway", BROKERS, live::kproxy_serves_without_its_kateway),
    case("an_app_has_one_number_for_rest_and_kafka", BROKERS, limits::an_app_has_one_number_for_rest_and_kafka),
    case("connections_beyond_the_limit_are_told_why", BROKERS, limits::connections_beyond_the_limit_are_told_why),
    case(
        "failed_logins_are_limited_and_the_right_secret_is_not",
        BROKERS,
        limits::failed_logins_are_limited_and_the_right_secret_is_not,
    ),
    case(
        "tenants_are_counted_and_logged_and_their_secrets_are_nowhere",
        BROKERS,
        lifecycle::tenants_are_counted_and_logged_and_their_secrets_are_nowhere,
    ),
    case(
        "an_app_of_another_cluster_is_told_so_and_a_drain_ends_all",
        BROKERS,
        lifecycle::an_app_of_another_cluster_is_told_so_and_a_drain_ends_all,
    ),
    case("a_slow_login_is_waited_for", BROKERS, lifecycle::a_slow_login_is_waited_for),
    Case {
        turn: Some(&faults::TURN),
        ..case("a_tenant_loses_doubles_and_reorders_nothing_when_brokers_and_proxies_die", BROKERS, || {
            faults::with_brokers(Version::Newest, exactly_once::a_tenant_loses_doubles_and_reorders_nothing)
        })
    },
];
