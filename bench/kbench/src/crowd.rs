//! A gateway with so many groups, and polls that wait on each of them: one row of `kbench polls`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cli::Polls;
use crate::delivery;
use crate::gateway::{App, Gateway};
use crate::limits::{GATHER_TIMEOUT, GROUPS_PER_APP_MAX};
use crate::offsets::stable_groups;
use crate::patience::until;
use crate::sockets::{connections_to, open_files};
use crate::waiting::WaitingPolls;

/// The topic that is published to and that nobody polls.
const QUIET_TOPIC: &str = "quiet";
const QUIET_PARTITIONS: usize = 4;
/// What that topic keeps per partition: its messages are never read.
const RETENTION_BYTES: Option<u64> = Some(32 << 20);
/// A group's polls wait from this share of the longest wait up to all of it, so that they do not all end together.
const WAIT_SHARE_MIN: f64 = 0.5;

pub struct Crowd {
    pub groups: usize,
    pub polls: usize,
    // Before the gateway: its clients end first.
    pub waiting: WaitingPolls,
    pub gateway: Gateway,
    /// Publishes to the quiet topic, and has the topic and the group whose latency is measured.
    pub probe: App,
    kafka: SocketAddr,
}

impl Crowd {
    /// Starts the gateway and its clients, and waits until every group is settled and every poll waits.
    pub fn gather(options: &Polls, groups: usize, kateway: &Path, kafka: SocketAddr) -> Result<Crowd> {
        let mut gateway = Gateway::start(kateway, &kafka.to_string(), 1, Some(options.rounds.server_cpu))?;
        // One broker for all: groups of the same name would be one.
        let name = format!("crowd{groups}");
        let probe = gateway.new_app(&format!("{name}-probe"))?;
        gateway.new_topic(&probe, QUIET_TOPIC, QUIET_PARTITIONS, RETENTION_BYTES)?;
        gateway.new_topic(&probe, delivery::TOPIC, 1, RETENTION_BYTES)?;
        gateway.server.publish_to(gateway.sender(&probe, QUIET_TOPIC));
        let polls = options.polls_of(groups);
        let mut requests = Vec::with_capacity(polls);
        for (app_index, first) in (0..groups).step_by(GROUPS_PER_APP_MAX).enumerate() {
            let app = gateway.new_app(&format!("{name}-{app_index}"))?;
            let group_count = GROUPS_PER_APP_MAX.min(groups - first);
            let topic_count = options.topics.min(group_count);
            for topic in 0..topic_count {
                gateway.new_topic(&app, &format!("topic{topic}"), options.partitions, RETENTION_BYTES)?;
            }
            for group in 0..group_count {
                for poll in 0..share(polls, groups, first + group) {
                    let (topic, group) = (format!("topic{}", group % topic_count), format!("group{group}"));
                    requests.push(gateway.poll(&app, &topic, &group, wait_ms(options.wait, requests.len() + poll)));
                }
            }
        }
        ensure!(requests.len() == polls, "{} polls for {polls}", requests.len());
        let waiting = WaitingPolls::start(&gateway.subscribe, &requests, options.rounds.client_cpu)?;
        let crowd = Crowd { groups, polls, waiting, gateway, probe, kafka };
        crowd.wait_until_gathered(&name)?;
        Ok(crowd)
    }

    fn wait_until_gathered(&self, name: &str) -> Result<()> {
        let (what, kafka) = (format!("{} groups", self.groups), self.kafka.to_string());
        let (prefix, groups, polls) = (format!("{name}-"), self.groups as f64, self.polls as f64);
        let pause = Duration::from_millis(200);
        let ((), took) = until(&what, GATHER_TIMEOUT, pause, || {
            let stable = stable_groups(&kafka, &prefix)?;
            let metrics = self.gateway.metrics()?;
            let (open, connected) = (metrics.sum("gateway_subscriptions")?, metrics.sum("gateway_connections")?);
            let gathered = stable == self.groups && open >= groups && connected >= polls;
            Ok(if gathered { Ok(()) } else { Err(format!("{stable} are stable, {connected} connections")) })
        })?;
        eprintln!("{} groups and {} polls wait, after {:.1} s", self.groups, self.polls, took.as_secs_f64());
        Ok(())
    }

    /// That none was lost on the way, and none is busy with errors.
    pub fn check(&self) -> Result<()> {
        let metrics = self.gateway.metrics()?;
        let (open, connected) = (metrics.sum("gateway_subscriptions")?, metrics.sum("gateway_connections")?);
        ensure!(open >= self.groups as f64, "{open} groups of {} are left", self.groups);
        ensure!(connected >= self.polls as f64, "{connected} connections for {} polls", self.polls);
        ensure!(metrics.refused() == 0.0, "the gateway answered {} requests with an error", metrics.refused());
        Ok(())
    }

    /// Connections of the gateway's whole process to the broker.
    pub fn broker_connections(&self) -> Result<usize> {
        Ok(connections_to(self.gateway.server.pid(), self.kafka)?)
    }

    pub fn open_files(&self) -> Result<usize> {
        Ok(open_files(self.gateway.server.pid())?)
    }
}

/// How many of so many things the one at `index` of `of` gets.
fn share(things: usize, of: usize, index: usize) -> usize {
    things / of + usize::from(index < things % of)
}

/// Spread evenly, in an order that has no rhythm in it.
fn wait_ms(longest: Duration, poll: usize) -> u64 {
    let part = (poll as f64 * 0.618_033_988_75).fract();
    (longest.as_secs_f64() * 1e3 * (WAIT_SHARE_MIN + (1.0 - WAIT_SHARE_MIN) * part)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_shared_out_to_the_last() {
        for (things, of) in [(10_000, 2_000), (7, 3), (0, 4), (2, 5)] {
            let shares: Vec<usize> = (0..of).map(|index| share(things, of, index)).collect();
            assert_eq!(shares.iter().sum::<usize>(), things, "{shares:?}");
            assert!(shares.iter().max() <= shares.iter().min().map(|min| min + 1).as_ref(), "{shares:?}");
        }
    }

    #[test]
    fn waits_are_spread_over_the_upper_half() {
        let mut waits: Vec<u64> = (0..1_000).map(|poll| wait_ms(Duration::from_secs(60), poll)).collect();
        waits.sort_unstable();
        assert!(waits[0] >= 30_000 && waits[999] <= 60_000, "{} to {}", waits[0], waits[999]);
        let widest = waits.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(widest.is_some_and(|gap| gap < 200), "{widest:?}");
    }
}
