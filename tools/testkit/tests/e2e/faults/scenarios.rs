//! The table of faults: what happens to whom, for how long.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::java;

use super::stage::{NODE_WITH_OWN_DISK, Stage};

/// Which column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Short,
    Full,
}

/// How long a scenario plays.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// Times the fault comes, each time to another victim.
    pub rounds: usize,
    /// How long each lasts.
    pub down: Duration,
    /// How long a publish asks the gateway to try.
    pub publish_timeout: Duration,
    /// How long a broker may be silent before the gateway gives its connection up.
    pub request_timeout: Duration,
    /// From a fault, or from its end, until messages are stored again.
    pub recovers_within: Duration,
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Publishes that give up quickly, so that a fault of seconds shows every answer there is.
const SHORT: Lengths = Lengths {
    rounds: 1,
    down: seconds(3),
    publish_timeout: seconds(3),
    request_timeout: seconds(3),
    recovers_within: seconds(40),
};
/// The gateway as it is configured by default.
const FULL: Lengths = Lengths {
    rounds: 3,
    down: seconds(15),
    publish_timeout: seconds(10),
    request_timeout: seconds(30),
    recovers_within: seconds(90),
};

pub struct Scenario {
    /// What is proved, as an identifier.
    pub name: &'static str,
    pub gateways: usize,
    pub fault: fn(&mut Stage) -> Result<()>,
    short: Lengths,
    full: Lengths,
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_leader_killed_with_kill_9_loses_nothing",
        gateways: 1,
        fault: leader_dies,
        short: SHORT,
        full: FULL,
    },
    Scenario {
        name: "a_broker_frozen_past_the_request_timeout_loses_nothing",
        gateways: 1,
        fault: broker_freezes,
        short: Lengths { down: seconds(8), ..SHORT },
        full: Lengths { rounds: 2, down: seconds(40), ..FULL },
    },
    Scenario {
        name: "leaders_that_move_lose_nothing",
        gateways: 1,
        fault: leaders_move,
        short: Lengths { rounds: 2, ..SHORT },
        full: Lengths { rounds: 12, ..FULL },
    },
    Scenario {
        name: "a_rolling_restart_loses_nothing",
        gateways: 1,
        fault: rolling_restart,
        short: SHORT,
        full: Lengths { rounds: 2, ..FULL },
    },
    Scenario { name: "a_full_disk_loses_nothing", gateways: 1, fault: disk_full, short: SHORT, full: FULL },
    Scenario {
        name: "all_brokers_gone_are_told_by_503_and_lose_nothing",
        gateways: 1,
        fault: all_gone,
        short: Lengths { down: seconds(12), ..SHORT },
        full: Lengths { rounds: 1, down: seconds(70), ..FULL },
    },
    Scenario {
        name: "one_of_two_gateways_killed_with_kill_9_loses_nothing",
        gateways: 2,
        fault: gateway_dies,
        short: SHORT,
        full: Lengths { rounds: 6, down: seconds(5), ..FULL },
    },
];

impl Lengths {
    /// For `[clusters.*]`.
    pub fn request_timeout_line(&self) -> String {
        let _ = self.request_timeout;
        String::new()
    }
}

impl Scenario {
    pub fn lengths(&self, length: Length) -> Lengths {
        match length {
            Length::Short => self.short,
            Length::Full => self.full,
        }
    }
}

/// A leader dies as a machine without power does, and comes back with its disk.
fn leader_dies(stage: &mut Stage) -> Result<()> {
    for round in 0..stage.lengths.rounds {
        let victim = stage.kafka.leader(&stage.topic(), round)?;
        let since = Instant::now();
        stage.kafka.kill(victim)?;
        stage.goes_on("the kill")?;
        stage.hold(since);
        stage.kafka.restart(victim)?;
        stage.in_sync()?;
        stage.goes_on("the restart")?;
    }
    Ok(())
}

/// A leader neither answers nor closes its connections; then it wakes up and does not know what it missed.
fn broker_freezes(stage: &mut Stage) -> Result<()> {
    for round in 0..stage.lengths.rounds {
        let victim = stage.kafka.leader(&stage.topic(), round)?;
        let since = Instant::now();
        stage.kafka.pause(victim)?;
        stage.goes_on("the freeze")?;
        stage.hold(since);
        stage.kafka.resume(victim)?;
        stage.in_sync()?;
        stage.goes_on("the thaw")?;
    }
    Ok(())
}

/// Partitions are handed from one live broker to another.
fn leaders_move(stage: &mut Stage) -> Result<()> {
    let (topic, nodes) = (stage.topic(), stage.kafka.node_count());
    for round in 0..stage.lengths.rounds {
        let partition = round % 4;
        let next = stage.kafka.leader(&topic, partition)? % nodes + 1;
        java::move_leader(&stage.kafka.bootstrap(), &topic, i32::try_from(partition)?, i32::try_from(next)?)?;
        stage.goes_on("the move")?;
    }
    Ok(())
}

/// As an operator changes a setting: one after the other, each when all are in sync.
fn rolling_restart(stage: &mut Stage) -> Result<()> {
    for _ in 0..stage.lengths.rounds {
        for node in 1..=stage.kafka.node_count() {
            stage.kafka.hand_over(node)?;
            stage.goes_on("the stop")?;
            stage.kafka.restart(node)?;
            stage.in_sync()?;
        }
        stage.goes_on("the round")?;
    }
    Ok(())
}

/// A broker cannot append any more, dies of it, and comes back when there is room.
fn disk_full(stage: &mut Stage) -> Result<()> {
    for _ in 0..stage.lengths.rounds {
        let since = Instant::now();
        stage.kafka.fill_disk()?;
        stage.kafka.wait_until_dead(NODE_WITH_OWN_DISK, stage.lengths.recovers_within).context("with its disk full")?;
        stage.goes_on("the death")?;
        stage.hold(since);
        stage.kafka.free_disk()?;
        stage.kafka.restart(NODE_WITH_OWN_DISK)?;
        stage.in_sync()?;
        stage.goes_on("the restart")?;
    }
    Ok(())
}

/// Nobody is there: everyone is told so, in the time he gave, and served again without a restart of the gateway.
fn all_gone(stage: &mut Stage) -> Result<()> {
    let nodes = 1..=stage.kafka.node_count();
    for _ in 0..stage.lengths.rounds {
        let since = Instant::now();
        for node in nodes.clone() {
            stage.kafka.kill(node)?;
        }
        let mut asked = 0;
        while since.elapsed() < stage.lengths.down {
            let started = Instant::now();
            let refused = stage.gateways[0].post(&stage.tenant, "?timeout=2s", format!("nobody is there {asked}"))?;
            ensure!(refused.status == 503, "{}: {}", refused.status, refused.text());
            ensure!(refused.header("retry-after").is_some(), "503 without Retry-After");
            ensure!(started.elapsed() < seconds(5), "answered after {:?}", started.elapsed());
            asked += 1;
        }
        ensure!(asked > 1, "asked {asked} times");
        ensure!(stage.running.refused() > 200, "only {} refused", stage.running.refused());
        for node in nodes.clone() {
            stage.kafka.restart(node)?;
        }
        stage.in_sync()?;
        stage.goes_on("the return")?;
    }
    Ok(())
}

/// The clients of a gateway that dies go on with the other one.
fn gateway_dies(stage: &mut Stage) -> Result<()> {
    for round in 0..stage.lengths.rounds {
        let victim = round % stage.gateways.len();
        let since = Instant::now();
        stage.gateways[victim].kill9();
        stage.goes_on("the kill")?;
        stage.hold(since);
        stage.restart_gateway(victim)?;
        stage.goes_on("the restart")?;
    }
    Ok(())
}
