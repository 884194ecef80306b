//! The table of faults: what happens to whom, for how long.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::java;
use testkit::progress::say;

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
    rounds: 2,
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
    /// Absent: nightly only.
    short: Option<Lengths>,
    full: Lengths,
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_leader_killed_with_kill_9_loses_nothing",
        gateways: 1,
        fault: leader_dies,
        short: Some(SHORT),
        full: FULL,
    },
    Scenario {
        name: "a_broker_frozen_past_the_request_timeout_loses_nothing",
        gateways: 1,
        fault: broker_freezes,
        short: Some(Lengths { down: seconds(8), ..SHORT }),
        full: Lengths { rounds: 1, down: seconds(40), ..FULL },
    },
    Scenario {
        name: "leaders_that_move_lose_nothing",
        gateways: 1,
        fault: leaders_move,
        short: Some(Lengths { rounds: 2, ..SHORT }),
        full: Lengths { rounds: 8, ..FULL },
    },
    Scenario {
        name: "a_rolling_restart_loses_nothing",
        gateways: 1,
        fault: rolling_restart,
        short: Some(SHORT),
        full: Lengths { rounds: 1, ..FULL },
    },
    Scenario { name: "a_full_disk_loses_nothing", gateways: 1, fault: disk_full, short: Some(SHORT), full: FULL },
    Scenario {
        name: "all_brokers_gone_are_told_by_503_and_lose_nothing",
        gateways: 1,
        fault: all_gone,
        short: Some(Lengths { down: seconds(12), ..SHORT }),
        full: Lengths { rounds: 1, down: seconds(70), ..FULL },
    },
    Scenario {
        name: "all_brokers_frozen_keep_nobody_waiting_and_lose_nothing",
        gateways: 1,
        fault: all_freeze,
        short: Some(Lengths { down: seconds(8), ..SHORT }),
        full: Lengths { rounds: 1, down: seconds(45), ..FULL },
    },
    Scenario {
        name: "too_few_replicas_store_nothing_and_lose_nothing",
        gateways: 1,
        fault: too_few_left,
        short: Some(Lengths { down: seconds(8), ..SHORT }),
        full: Lengths { rounds: 1, down: seconds(40), ..FULL },
    },
    Scenario {
        name: "one_of_two_gateways_killed_with_kill_9_loses_nothing",
        gateways: 2,
        fault: gateway_dies,
        short: Some(SHORT),
        full: Lengths { rounds: 4, down: seconds(5), ..FULL },
    },
    Scenario {
        name: "faults_in_any_order_lose_nothing",
        gateways: 2,
        fault: any_order,
        short: None,
        full: Lengths { rounds: 8, ..FULL },
    },
];

impl Lengths {
    /// For `[clusters.*]`.
    pub fn request_timeout_line(&self) -> String {
        format!("request_timeout = \"{}s\"\n", self.request_timeout.as_secs())
    }
}

impl Scenario {
    /// Absent when it is not played at that length.
    pub fn lengths(&self, length: Length) -> Option<Lengths> {
        match length {
            Length::Short => self.short,
            Length::Full => Some(self.full),
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

/// Every connection stays open and nobody answers; then all wake up at once.
fn all_freeze(stage: &mut Stage) -> Result<()> {
    let nodes = 1..=stage.kafka.node_count();
    for _ in 0..stage.lengths.rounds {
        let since = Instant::now();
        for node in nodes.clone() {
            stage.kafka.pause(node)?;
            // What is sent to this one meanwhile has nobody to answer it: at a single moment there may be nothing out.
            std::thread::sleep(Duration::from_millis(100));
        }
        stage.hold(since);
        ensure!(stage.running.unknown() > 0, "nothing was in flight");
        ensure!(stage.running.refused() > 200, "only {} refused", stage.running.refused());
        for node in nodes.clone() {
            stage.kafka.resume(node)?;
        }
        stage.in_sync()?;
        stage.goes_on("the thaw")?;
    }
    Ok(())
}

/// One broker of three is left: it may append, yet must not acknowledge (`min.insync.replicas` is 2).
fn too_few_left(stage: &mut Stage) -> Result<()> {
    let nodes = stage.kafka.node_count();
    for round in 0..stage.lengths.rounds {
        let left = stage.kafka.leader(&stage.topic(), round)?;
        let dead: Vec<usize> = (1..=nodes).filter(|node| *node != left).collect();
        let since = Instant::now();
        for node in &dead {
            stage.kafka.kill(*node)?;
        }
        // Whatever was acknowledged while the second one died has been answered by now.
        std::thread::sleep(stage.lengths.publish_timeout);
        let stored = stage.running.stored();
        stage.hold(since);
        ensure!(stage.running.stored() == stored, "{} stored by one broker", stage.running.stored() - stored);
        for node in &dead {
            stage.kafka.restart(*node)?;
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

/// Whatever comes, also two at a time. `GAFKA_SEED` repeats a run, as far as threads and brokers can be repeated.
fn any_order(stage: &mut Stage) -> Result<()> {
    let seed = std::env::var("GAFKA_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(clock_seed);
    say(&format!("  GAFKA_SEED={seed}"));
    let mut dice = Dice(seed);
    let (nodes, topic) = (stage.kafka.node_count(), stage.topic());
    for round in 0..stage.lengths.rounds {
        let (victim, other) = (1 + dice.below(nodes), 1 + dice.below(nodes));
        let fault = dice.below(7);
        say(&format!("  round {round}: fault {fault}, victims {victim} and {other}"));
        match fault {
            0 => stage.kafka.kill(victim)?,
            1 => {
                stage.kafka.pause(victim)?;
                dice.rest();
                // It dies without ever having woken up.
                stage.kafka.kill(victim)?;
            }
            2 => {
                stage.kafka.pause(victim)?;
                dice.rest();
                stage.kafka.resume(victim)?;
                dice.rest();
            }
            3 if other != victim => {
                stage.kafka.kill(victim)?;
                dice.rest();
                stage.kafka.kill(other)?;
            }
            4 if other != victim => {
                stage.kafka.pause(victim)?;
                stage.kafka.kill(other)?;
                dice.rest();
                stage.kafka.resume(victim)?;
            }
            5 => {
                let gateway = victim % stage.gateways.len();
                stage.kafka.kill(other)?;
                stage.gateways[gateway].kill9();
                dice.rest();
                stage.restart_gateway(gateway)?;
            }
            _ => {
                for partition in 0..2 {
                    let next = stage.kafka.leader(&topic, partition)? % nodes + 1;
                    let (partition, next) = (i32::try_from(partition)?, i32::try_from(next)?);
                    java::move_leader(&stage.kafka.bootstrap(), &topic, partition, next)?;
                }
                stage.kafka.hand_over(victim)?;
            }
        }
        dice.rest();
        stage.kafka.restart_dead()?;
        stage.in_sync()?;
        stage.goes_on(&format!("round {round}"))?;
    }
    Ok(())
}

fn clock_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64 | 1
}

/// xorshift64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % end
    }

    /// Up to 6 s, so that a fault meets every state the one before can have led to.
    fn rest(&mut self) {
        std::thread::sleep(Duration::from_millis(self.below(6_000) as u64));
    }
}
