//! Members of one group in a world that changes under them, from a seed: gateways that come, go and crash, rebalances,
//! coordinators that forget, topics deleted and made again with ids and without, logs that grow, expire and are cut back,
//! leaders that move, brokers that are behind, clients that take their time or are gone, requests applied and not
//! answered, answers that come late.
//!
//! [`world`] is the brokers and the wire, [`log`] a partition's log, [`coordinator`] the group as they keep it, [`gateway`] what runs the member.
//!
//! What must hold, whatever the seed:
//! - In the end every record of the topic as it is then was handed out to a client that got it, and is committed.
//! - A commit of the topic as it is never covers a record that no client got.
//! - A member hands out only what is its own, in order and without a gap, and nothing when its coordinator was silent for
//!   a session.
//! - A member of the generation that the group is in hands out nothing that was committed before that generation.
//! - A member that is run before its own deadline, and told nothing new, sends nothing: a driver that waits for the
//!   deadline misses nothing.
//! - In a world without trouble no client gets what another one got, however often members come and go.
//!
//! A failure prints its seed: `GAFKA_SIMULATION_SEED=n cargo test -p kafka-client --lib group::simulation`.
//! `GAFKA_SIMULATION_SECONDS` makes it run for so long instead of for `WORLDS` worlds, `GAFKA_SIMULATION_WORLDS` for as many.

mod coordinator;
mod gateway;
mod log;
mod world;

use std::time::{Duration, Instant};

use self::gateway::Gateway;
use self::world::World;
use super::GroupConfig;
use super::testing::TOPIC;

/// Worlds of every run; `GAFKA_SIMULATION_SECONDS` goes on for longer.
const WORLDS: u64 = 2_000;
/// Events of one world before it calms down, and how long it then has, in virtual time.
const STEPS: usize = 1_200;
const CALM: Duration = Duration::from_secs(90);

/// Short, so that much happens in one world.
const SESSION_TIMEOUT: Duration = Duration::from_secs(4);
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(4);

fn config() -> GroupConfig {
    GroupConfig {
        session_timeout: SESSION_TIMEOUT,
        rebalance_timeout: REBALANCE_TIMEOUT,
        heartbeat_interval: Duration::from_millis(500),
        commit_interval: Duration::from_millis(300),
        fetch_wait: Duration::from_millis(150),
        ..GroupConfig::new("g", TOPIC)
    }
}

struct Simulation {
    world: World,
    gateways: Vec<Option<Gateway>>,
    /// When each place has a gateway again.
    up_at: Vec<Instant>,
    processes: u64,
}

impl Simulation {
    fn new(seed: u64, trouble: bool) -> Simulation {
        let mut world = World::new(seed, trouble);
        let count = [1, 2, 2, 3][world.rng.below(4)];
        let up_at = (0..count).map(|_| world.within(2_000)).collect();
        Simulation { world, gateways: (0..count).map(|_| None).collect(), up_at, processes: seed << 20 }
    }

    fn step(&mut self) {
        self.world.now += Duration::from_millis(1 + self.world.rng.below(40) as u64);
        for (index, place) in self.gateways.iter_mut().enumerate() {
            if place.is_none() && self.up_at[index] <= self.world.now {
                self.processes += 1;
                *place = Some(Gateway::new(index, self.processes, &mut self.world));
            }
        }
        self.world.work(&mut self.gateways);
        for gateway in self.gateways.iter_mut().flatten() {
            gateway.step(&mut self.world);
            self.world.post(gateway);
        }
    }

    /// A gateway crashes, leaves, or is not polled.
    fn move_gateways(&mut self) {
        let world = &mut self.world;
        let index = world.rng.below(self.gateways.len());
        let rarity = if world.trouble { world.rarity * 2 } else { 300 };
        match world.rng.below(rarity) {
            0..=1 if world.trouble && world.may_stop() => {
                self.gateways[index] = None;
                self.up_at[index] = world.within(6_000);
            }
            2..=3 if world.may_stop() => {
                let until = world.within(6_000);
                if let Some(gateway) = self.gateways[index].as_mut().filter(|gateway| !gateway.is_away()) {
                    gateway.leave(until, world.now);
                    world.post(gateway);
                }
            }
            4..=5 => {
                let until = world.within(4_000);
                if let Some(gateway) = self.gateways[index].as_mut() {
                    gateway.nobody_polls(until);
                }
            }
            _ => {}
        }
    }

    /// Everything works, and some gateways stay away for good.
    fn calm_down(&mut self) {
        let now = self.world.now;
        let world = &mut self.world;
        world.calm_down();
        let stays = world.rng.below(self.gateways.len());
        for (index, place) in self.gateways.iter_mut().enumerate() {
            let for_good = index != stays && world.may_stop() && world.rng.below(3) == 0;
            let back = now + if for_good { CALM * 2 } else { Duration::ZERO };
            self.up_at[index] = back;
            let Some(gateway) = place else { continue };
            gateway.nobody_polls(now);
            if for_good && !gateway.is_away() {
                gateway.leave(back, now);
                world.post(gateway);
            } else {
                gateway.stay_away(back);
            }
        }
    }
}

fn run(seed: u64, trouble: bool) {
    let mut simulation = Simulation::new(seed, trouble);
    for _ in 0..STEPS {
        simulation.world.change(&mut simulation.gateways);
        simulation.move_gateways();
        simulation.step();
    }
    simulation.calm_down();
    let (settled, until) = (simulation.world.now + Duration::from_secs(9), simulation.world.now + CALM);
    let mut ended = false;
    while !ended || simulation.world.complaint().is_some() {
        simulation.step();
        simulation.world.heal(&simulation.gateways);
        ended = ended || (simulation.world.now > settled && simulation.world.end(&simulation.gateways));
        assert!(simulation.world.now < until, "{ended}: {:?}", simulation.world.complaint());
    }
    if !trouble {
        assert_eq!(simulation.world.read_more_than_once(), 0, "each once");
    }
}

fn announce(seed: u64, trouble: bool) {
    let result = std::panic::catch_unwind(|| run(seed, trouble));
    if let Err(panic) = result {
        eprintln!("GAFKA_SIMULATION_SEED={seed} (trouble: {trouble})");
        std::panic::resume_unwind(panic);
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn in_a_quiet_world_each_record_is_handed_out_once() {
    for seed in 0..40 {
        announce(seed, false);
    }
}

#[test]
fn whatever_happens_no_record_of_the_topic_as_it_is_is_skipped() {
    if let Some(seed) = setting("GAFKA_SIMULATION_SEED") {
        return announce(seed, true);
    }
    let until = setting("GAFKA_SIMULATION_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let worlds = setting("GAFKA_SIMULATION_WORLDS").unwrap_or(WORLDS);
    let mut seed = 0;
    while until.map_or(seed < worlds, |until| Instant::now() < until) {
        announce(seed, true);
        seed += 1;
    }
    eprintln!("{seed} worlds");
}
