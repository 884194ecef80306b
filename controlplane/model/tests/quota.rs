//! One number for an app, whatever shards and nodes its clients happen to use.

mod fixture;

use std::collections::VecDeque;
use std::sync::Arc;

use model::Snapshot;
use model::authenticate::Side;
use model::ids::AppId;
use model::quota::lease::{Demand, Lessor, Report, Shares, VALID_MS};
use model::quota::{Limits, Measure, Meter, Quotas, ShardMeter, Subject};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn shop() -> Subject {
    Subject::App { index: 1, app: AppId::new("shop").unwrap() }
}

/// The fixture with these limits on `shop`.
fn snapshot(limits: Limits) -> Snapshot {
    let mut doc = fixture::doc();
    doc.apps[0].limits = limits;
    Snapshot::build(doc).unwrap()
}

fn messages(limit: u64) -> Limits {
    Limits::default().with(Measure::PublishMessages, limit)
}

fn shards(meter: &Arc<Meter>, count: usize) -> Vec<ShardMeter> {
    (0..count).map(|_| ShardMeter::new(Arc::clone(meter), count)).collect()
}

fn report(quotas: &Quotas, snapshot: &Snapshot, now_ns: u64) {
    quotas.report("a", snapshot, |_| 0, now_ns);
}

/// One message of 100 bytes, if it is let through.
fn publish(shard: &ShardMeter, now_ns: u64) -> bool {
    let is_free = shard.check(Side::Publish, 1, 100, now_ns).is_ok();
    if is_free {
        shard.charge(Side::Publish, 1, 100, now_ns);
    }
    is_free
}

#[test]
fn a_second_of_the_rate_passes_at_once_then_the_rate_and_no_more() {
    for shard_count in [1, 2, 8] {
        let meter = Quotas::default().meter(shop(), &messages(5), 0);
        let shard = &shards(&meter, shard_count)[0];
        let at = |now_ns: u64| (0..100).filter(|_| publish(shard, now_ns)).count();
        let counts: Vec<usize> = (10..20).map(|tenth| at(tenth * SECOND / 10)).collect();
        assert_eq!(counts, [5, 1, 0, 1, 0, 1, 0, 1, 0, 1], "{shard_count} shards");
        assert_eq!(at(60 * SECOND), 5, "a minute of silence is worth a second");
    }
}

#[test]
fn what_turned_out_larger_is_paid_for_afterwards_and_the_wait_is_told() {
    let meter = Quotas::default().meter(shop(), &Limits::default().with(Measure::PublishBytes, 1_000), 0);
    let shard = &shards(&meter, 1)[0];
    shard.check(Side::Publish, 1, 10_000, 0).expect("something is left");
    shard.charge(Side::Publish, 1, 10_000, 0);
    let refused = shard.check(Side::Publish, 1, 1, 0).unwrap_err();
    assert_eq!((refused.measure, refused.limit, refused.retry_after_s()), (Measure::PublishBytes, 1_000, 10));
    assert_eq!(refused.to_string(), "app shop may publish 1000 bytes/s, and that is spent; try again in 10 s");
    assert!(shard.check(Side::Publish, 1, 1, 8 * SECOND).is_err());
    assert!(shard.check(Side::Publish, 1, 1, 9 * SECOND + 1).is_ok());
    assert!(shard.check(Side::Subscribe, 1, 1, 0).is_ok(), "reading is another matter");
}

#[test]
fn a_debt_has_an_end_whatever_the_limit_and_the_charge() {
    let meter = Quotas::default().meter(shop(), &Limits::default().with(Measure::PublishBytes, 1), 0);
    let shard = &shards(&meter, 4)[0];
    for _ in 0..3 {
        shard.charge(Side::Publish, 1, u64::MAX, 0);
    }
    assert_eq!(shard.check(Side::Publish, 1, 1, 0).unwrap_err().retry_after_s(), 3_600);
    assert!(shard.check(Side::Publish, 1, 1, 2 * 3_600 * SECOND).is_err());
    assert!(shard.check(Side::Publish, 1, 1, 3 * 3_600 * SECOND).is_ok());
}

#[test]
fn a_modest_client_is_served_whole_while_another_shard_is_flooded() {
    let meter = Quotas::default().meter(shop(), &messages(100), 0);
    let shards = shards(&meter, 2);
    let (mut flooded, mut modest, mut refused) = (0, 0, 0);
    for ms in 0..20_000 {
        let now_ns = ms * MS;
        flooded += (0..10).filter(|_| publish(&shards[0], now_ns)).count();
        if ms % 50 == 0 {
            if publish(&shards[1], now_ns) { modest += 1 } else { refused += 1 }
        }
    }
    assert_eq!((modest, refused), (400, 0), "20 a second of 100, all of them");
    assert!((1_500..1_760).contains(&flooded), "the rest and no more: {flooded}");
}

#[test]
fn two_floods_get_half_each() {
    let meter = Quotas::default().meter(shop(), &messages(100), 0);
    let shards = shards(&meter, 2);
    let mut counts = [0, 0];
    for ms in 0..20_000 {
        // The first is always quicker, and ten times as eager.
        counts[0] += (0..10).filter(|_| publish(&shards[0], ms * MS)).count();
        counts[1] += usize::from(publish(&shards[1], ms * MS));
    }
    let total = counts[0] + counts[1];
    assert!((2_000..2_160).contains(&total), "{counts:?}");
    assert!(counts[1] * 10 >= total * 4, "{counts:?}");
}

#[test]
fn a_limit_that_is_set_raised_and_taken_away_holds_from_the_next_report_on() {
    let quotas = Quotas::default();
    let meter = quotas.meter(shop(), &messages(10), 0);
    let shard = &shards(&meter, 1)[0];
    let at = |now_ns: u64| (0..1_000).filter(|_| publish(shard, now_ns)).count();
    assert_eq!(at(SECOND), 10);
    quotas.refresh(&snapshot(messages(100)), SECOND);
    assert_eq!(at(SECOND), 0, "what was spent stays spent");
    assert_eq!(at(2 * SECOND), 100);
    quotas.refresh(&snapshot(Limits::default()), 2 * SECOND);
    assert_eq!(at(2 * SECOND), 1_000);
    quotas.refresh(&snapshot(messages(4)), 3 * SECOND);
    assert_eq!(at(5 * SECOND), 4);
}

#[test]
fn as_many_connections_as_the_limit_says_may_be_and_one_that_is_refused_is_told_so() {
    let quotas = Quotas::default();
    let meter = quotas.meter(shop(), &Limits::default().with(Measure::Connections, 2), 0);
    assert_eq!(meter.connections_max(), 2);
    let refused = meter.refuse_connection().to_string();
    assert_eq!(refused, "app shop may have 2 connections, and that is spent; try again in 1 s");
    quotas.refresh(&snapshot(Limits::default().with(Measure::Connections, 1)), 0);
    assert_eq!(meter.connections_max(), 1);
    quotas.refresh(&snapshot(Limits::default()), 0);
    assert_eq!(meter.connections_max(), u64::MAX);
}

#[test]
fn meters_of_what_is_gone_or_quiet_are_forgotten() {
    let quotas = Quotas::default();
    let snapshot = snapshot(messages(5));
    drop(quotas.meter(shop(), &messages(5), 0));
    report(&quotas, &snapshot, 5 * SECOND);
    assert_eq!(quotas.len(), 1);
    report(&quotas, &snapshot, 30 * SECOND);
    assert_eq!(quotas.len(), 0, "quiet");
    let _held = quotas.meter(shop(), &messages(5), 31 * SECOND);
    report(&quotas, &snapshot, 100 * SECOND);
    assert_eq!(quotas.len(), 1, "a shard holds it");
    quotas.refresh(&Snapshot::empty(), 100 * SECOND);
    assert_eq!(quotas.len(), 0, "gone");
}

// A fleet.

/// A small generator (splitmix64): the seed is all there is to know.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

struct Node {
    name: String,
    quotas: Quotas,
    shards: Vec<ShardMeter>,
    /// Requests per millisecond, in thousandths.
    wanted: u64,
    owed: u64,
    next_report_ms: u64,
    passed: Vec<u64>,
    asked: u64,
}

impl Node {
    fn new(name: String, nodes: usize, limit: u64, now_ms: u64, report_at_ms: u64) -> Node {
        let quotas = Quotas::default();
        quotas.set_registered(nodes as u32);
        let meter = quotas.meter(shop(), &messages(limit), now_ms * MS);
        let shards = shards(&meter, 2);
        Node { name, quotas, shards, wanted: 0, owed: 0, next_report_ms: report_at_ms, passed: Vec::new(), asked: 0 }
    }
}

struct Fleet {
    snapshot: Snapshot,
    nodes: Vec<Node>,
    lessor: Option<Lessor>,
    /// Answers that arrive a little later, by node.
    under_way: VecDeque<(u64, usize, Shares)>,
    random: Random,
    now_ms: u64,
}

const REPORT_EVERY_MS: u64 = 250;

impl Fleet {
    fn new(seed: u64, nodes: usize, limit: u64) -> Fleet {
        let mut random = Random(seed);
        let nodes =
            (0..nodes).map(|n| Node::new(format!("n{n}"), nodes, limit, 0, random.below(REPORT_EVERY_MS))).collect();
        let lessor = Some(Lessor::default());
        Fleet { snapshot: snapshot(messages(limit)), nodes, lessor, under_way: VecDeque::new(), random, now_ms: 0 }
    }

    fn step(&mut self) {
        let now_ms = self.now_ms;
        let now_ns = now_ms * MS;
        while self.under_way.front().is_some_and(|(at, ..)| *at <= now_ms) {
            let (_, node, shares) = self.under_way.pop_front().expect("just seen");
            self.nodes[node].quotas.take(&shares, now_ns);
        }
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if node.next_report_ms <= now_ms {
                node.next_report_ms = now_ms + REPORT_EVERY_MS;
                let report: Report = node.quotas.report(&node.name, &self.snapshot, |_| 0, now_ns);
                // It goes through the wire as text.
                let report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
                if let Some(lessor) = &mut self.lessor {
                    let shares = lessor.exchange(report, now_ms);
                    self.under_way.push_back((now_ms + 2, index, shares));
                }
            }
            node.owed += node.wanted;
            while node.owed >= 1_000 {
                node.owed -= 1_000;
                node.asked += 1;
                let shard = &node.shards[self.random.below(2) as usize];
                if publish(shard, now_ns) {
                    node.passed.push(now_ms);
                }
            }
        }
        self.now_ms += 1;
    }

    fn run(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }

    fn passed_since(&self, ms: u64) -> u64 {
        self.nodes.iter().map(|node| node.passed.iter().filter(|at| **at >= ms).count() as u64).sum()
    }

    fn count(&self, node: usize, since_ms: u64) -> u64 {
        self.nodes[node].passed.iter().filter(|at| **at >= since_ms).count() as u64
    }
}

#[test]
fn nodes_that_all_want_more_pass_the_limit_together_within_a_tenth() {
    for (seed, nodes, limit) in [(1, 1, 500), (2, 2, 200), (3, 4, 200), (4, 16, 1_000), (5, 50, 100)] {
        let mut fleet = Fleet::new(seed, nodes, limit);
        for (n, node) in fleet.nodes.iter_mut().enumerate() {
            node.wanted = limit * (1 + n as u64 % 5);
        }
        fleet.run(5_000);
        let from = fleet.now_ms;
        fleet.run(20_000);
        let (passed, due) = (fleet.passed_since(from), limit * 20);
        assert!((due * 9..=due * 11).contains(&(passed * 10)), "seed {seed}: {passed} of {due}");
    }
}

#[test]
fn a_node_alone_with_its_demand_gets_the_whole_limit_and_modest_ones_all_they_want() {
    let mut fleet = Fleet::new(7, 4, 200);
    fleet.nodes[0].wanted = 1_000;
    fleet.run(5_000);
    let from = fleet.now_ms;
    fleet.run(10_000);
    assert!((1_800..2_200).contains(&fleet.count(0, from)), "{}", fleet.count(0, from));
    fleet.nodes[1].wanted = 20; // of 200
    fleet.run(5_000);
    let (from, asked) = (fleet.now_ms, fleet.nodes[1].asked);
    fleet.run(10_000);
    assert_eq!(fleet.count(1, from), fleet.nodes[1].asked - asked, "all of it");
    assert!((1_500..2_000).contains(&fleet.count(0, from)), "{}", fleet.count(0, from));
}

#[test]
fn whatever_demand_nodes_and_lessors_do_the_limit_is_exceeded_by_bursts_only() {
    for seed in 0..60 {
        let (nodes, limit) = (2 + seed as usize % 5, 50 + 50 * (seed % 7));
        let mut fleet = Fleet::new(seed, nodes, limit);
        for _ in 0..60 {
            let pause = 100 + fleet.random.below(1_900);
            let node = fleet.random.below(nodes as u64) as usize;
            match fleet.random.below(8) {
                0 => fleet.lessor = None,
                1 => fleet.lessor = Some(Lessor::default()),
                2 => {
                    // Killed and started anew under the same name.
                    let (name, passed) =
                        (fleet.nodes[node].name.clone(), std::mem::take(&mut fleet.nodes[node].passed));
                    let at = fleet.now_ms + fleet.random.below(REPORT_EVERY_MS);
                    let wanted = fleet.nodes[node].wanted;
                    fleet.nodes[node] = Node { passed, wanted, ..Node::new(name, nodes, limit, fleet.now_ms, at) };
                }
                _ => fleet.nodes[node].wanted = fleet.random.below(3) * limit * 2,
            }
            fleet.run(pause);
        }
        // A second of it may be passed at once, and a node that begins may do that again.
        let mut passed: Vec<u64> = fleet.nodes.iter().flat_map(|node| node.passed.iter().copied()).collect();
        passed.sort_unstable();
        for window_s in [5, 20] {
            let most =
                (0..passed.len()).map(|at| passed[at..].partition_point(|ms| *ms < passed[at] + window_s * 1_000));
            let most = most.max().unwrap_or(0) as u64;
            assert!(most <= (window_s + 3) * limit, "seed {seed}: {most} in {window_s} s, the limit is {limit}");
        }
    }
}

#[test]
fn while_the_lessor_is_away_an_equal_part_is_what_a_node_gives_away() {
    let mut fleet = Fleet::new(11, 4, 400);
    fleet.nodes.iter_mut().for_each(|node| node.wanted = 10);
    fleet.run(3_000);
    fleet.lessor = None;
    fleet.nodes.iter_mut().for_each(|node| node.wanted = 0);
    fleet.nodes[2].wanted = 5_000;
    fleet.run(VALID_MS + 10_000);
    let from = fleet.now_ms;
    fleet.run(10_000);
    assert!((990..1_010).contains(&fleet.count(2, from)), "{}: a quarter of 400, for 10 s", fleet.count(2, from));
    fleet.lessor = Some(Lessor::default());
    fleet.run(2 * VALID_MS);
    let from = fleet.now_ms;
    fleet.run(10_000);
    assert!((3_600..4_100).contains(&fleet.count(2, from)), "{}", fleet.count(2, from));
}

#[test]
fn a_lessor_that_has_just_begun_gives_nobody_more_than_it_has_until_it_must_have_heard_everybody() {
    let demand = Demand {
        subject: shop().id(),
        measure: Measure::PublishMessages,
        limit: 100,
        wanted: 900.0,
        used: 0,
        held: 40.0,
    };
    let report = |held| Report { node: "a".to_owned(), demands: vec![Demand { held, ..demand }] };
    let mut lessor = Lessor::default();
    let mut share = |now_ms, held| lessor.exchange(report(held), now_ms).shares[0].share;
    let first = share(5_000, 40.0);
    assert_eq!(first, 40.0, "another may have the rest");
    assert_eq!(share(5_000 + VALID_MS - 1, first), 40.0);
    assert_eq!(share(5_000 + VALID_MS, first), 100.0, "what another had has run out by now");
}

#[test]
fn connections_of_a_fleet_stay_below_the_limit_and_free_ones_go_where_they_are_wanted() {
    let limits = Limits::default().with(Measure::Connections, 10);
    let snapshot = snapshot(limits);
    let nodes: Vec<Quotas> = (0..2).map(|_| Quotas::default()).collect();
    let meters: Vec<Arc<Meter>> = nodes.iter().map(|quotas| quotas.meter(shop(), &limits, 0)).collect();
    let mut lessor = Lessor::default();
    let mut now_ms = 0;
    let mut used = [0, 0];
    let mut exchange = |used: [u64; 2]| {
        for _ in 0..10 {
            now_ms += REPORT_EVERY_MS;
            for (n, quotas) in nodes.iter().enumerate() {
                let report = quotas.report(&n.to_string(), &snapshot, |_| used[n] as usize, now_ms * MS);
                quotas.take(&lessor.exchange(report, now_ms), now_ms * MS);
            }
        }
    };
    let connect = |used: &mut [u64; 2], node: usize, tries: usize| {
        for _ in 0..tries {
            if used[node] < meters[node].connections_max() {
                used[node] += 1;
            } else {
                meters[node].refuse_connection();
            }
        }
    };
    exchange(used);
    connect(&mut used, 0, 20);
    assert_eq!(used, [5, 0], "half of it, until it is known that it wants more");
    exchange(used);
    connect(&mut used, 0, 3);
    assert_eq!(used, [8, 0], "free ones go where they are wanted");
    exchange(used);
    connect(&mut used, 1, 20);
    exchange(used);
    connect(&mut used, 1, 20);
    connect(&mut used, 0, 20);
    assert!((9..=10).contains(&(used[0] + used[1])), "{used:?}");
    used[0] -= 4;
    let before = used[1];
    connect(&mut used, 1, 1);
    exchange(used);
    connect(&mut used, 1, 20);
    assert!(used[1] >= before + 2 && used[0] + used[1] <= 10, "what was given back can be had elsewhere: {used:?}");
}

#[test]
fn numbers_that_cannot_be_calculated_with_are_passed_over() {
    let demand = |wanted: &str, held: &str, limit: u64| {
        format!(
            r#"{{"node":"n","demands":[{{"subject":{{"app":1}},"measure":"publish_messages","limit":{limit},"wanted":{wanted},"held":{held}}}]}}"#
        )
    };
    for (wanted, held, limit, count) in
        [("1.0", "1.0", 5, 1), ("-1.0", "0", 5, 0), ("0", "-1", 5, 0), ("1", "1", 0, 0), ("1e308", "1e308", 5, 1)]
    {
        let report: Report = serde_json::from_str(&demand(wanted, held, limit)).unwrap();
        let shares = Lessor::default().exchange(report, 0).shares;
        assert_eq!(shares.len(), count, "{wanted} {held} {limit}");
        assert!(shares.iter().all(|share| share.share.is_finite() && share.share <= 5.0), "{shares:?}");
    }
}
