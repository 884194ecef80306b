//! Hinted handoff: Kafka goes, gateways die, disks fill and rot, while publishers go on. Every 201 and every 202 is in
//! Kafka, in the order of its key, and receipts say where.
//!
//! [`stage`] is what the cases play on and how they are judged; the other files are the cases, by what goes wrong.

mod disks;
mod drain;
mod gateways;
mod outages;
mod parts;
pub mod stage;

use std::time::Duration;

use anyhow::Result;

use self::disks::Injected::{Death, Failure};
use crate::faults::TURN;
use crate::harness::{Case, Run};

pub use self::stage::stop;

const NEEDS: &[&str] = &["bin:kateway", "kafka", "python-clients"];
const NEEDS_WALCTL: &[&str] = &["bin:kateway", "bin:walctl", "kafka", "python-clients"];
const NEEDS_STRACE: &[&str] = &["bin:kateway", "kafka", "python-clients", "strace"];

/// Where a gateway is killed while it writes what it keeps: at a commit, early and later.
const DEATHS: &[&str] = &["msync:signal=SIGKILL:when=1", "msync:signal=SIGKILL:when=2", "msync:signal=SIGKILL:when=7"];
/// One commit fails.
const FAILED_COMMIT: &[&str] = &["msync:error=EIO:when=1"];
/// There is no room for a spare.
const FULL: &[&str] = &["pwritev:error=ENOSPC:when=1"];

/// One at a time, and not beside the faults: each wants all of the machine.
const fn alone(name: &'static str, run: fn() -> Result<()>) -> Case {
    Case { name, needs: NEEDS, nightly: false, run: Run::Function(run), turn: Some(&TURN) }
}

const fn with_strace(name: &'static str, run: fn() -> Result<()>) -> Case {
    Case { needs: NEEDS_STRACE, ..alone(name, run) }
}

const fn nightly(name: &'static str, run: fn() -> Result<()>) -> Case {
    Case { nightly: true, ..alone(name, run) }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub const CASES: &[Case] = &[
    alone("a_kafka_that_dies_and_returns_costs_no_message_and_no_second", || outages::kafka_dies(1, seconds(10))),
    alone("three_brokers_that_die_and_return_cost_no_message", || outages::kafka_dies(3, seconds(8))),
    alone("soon_after_an_outage_nobody_noticed_publishes_go_to_kafka", outages::nobody_published),
    alone("a_gateway_killed_while_it_buffers_loses_nothing", gateways::dies_while_buffering),
    alone("a_gateway_killed_while_it_delivers_loses_and_repeats_nothing", gateways::dies_while_draining),
    alone("a_gateway_that_is_stopped_says_what_it_leaves_and_delivers_it_later", gateways::is_stopped_with_a_backlog),
    Case {
        needs: NEEDS_WALCTL,
        ..alone("what_a_gateway_that_is_gone_left_is_delivered_by_hand_and_its_receipts_say_where", drain::by_hand)
    },
    alone("a_receipt_is_answered_by_any_gateway_or_its_owner_is_away", gateways::are_asked_for_each_other),
    alone("only_partitions_of_a_dead_broker_are_kept_the_others_go_to_kafka", parts::one_broker_dies),
    alone("too_few_replicas_are_an_outage_too", parts::too_few_replicas),
    alone("what_waits_for_a_topic_that_is_deleted_is_parked_and_says_so", parts::topic_goes),
    alone("what_waits_for_an_app_that_may_no_longer_is_parked_and_says_so", parts::grant_goes),
    alone("a_full_disk_is_told_and_what_it_has_is_delivered", disks::is_full),
    with_strace("a_gateway_killed_at_a_commit_loses_nothing_it_promised", || disks::fails(DEATHS, &Death)),
    with_strace("a_commit_that_fails_loses_nothing_and_the_journal_goes_on", || disks::fails(FAILED_COMMIT, &Failure)),
    with_strace("no_room_for_a_spare_loses_nothing", || disks::fails(FULL, &Failure)),
    alone("a_port_that_opens_and_closes_all_the_time_costs_no_message", parts::flaps),
    alone("a_rotten_byte_costs_what_is_told_and_nothing_else", disks::rots),
    alone("a_torn_tail_is_nothing", disks::has_a_torn_tail),
    nightly("a_minute_without_kafka_costs_no_message", || outages::kafka_dies(1, seconds(60))),
    nightly("ten_minutes_without_kafka_cost_no_message", || outages::kafka_dies(3, seconds(600))),
];
