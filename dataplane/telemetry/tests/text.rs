//! What a scrape shows, and who may write what.

use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use telemetry::{Registry, Unit, label_set};

label_set! {
    struct Outcome { outcome: &'static str, status: u16 }
}

label_set! {
    struct Topic { topic: Arc<str>, ack: &'static str }
}

fn check(registry: &Registry, expected: Expect) {
    expected.assert_eq(&registry.render());
}

#[test]
fn the_text_is_sorted_typed_and_escaped() {
    let registry = Registry::new();
    let connections = registry.gauge("connections", "Open client connections.");
    let requests = registry.counters::<Outcome>("requests_total", "Requests, with a \\ and\na second line.");
    let topics = registry.counters::<Topic>("topic_bytes_total", "Bytes by topic.");
    let restarts = registry.shared_counter("restarts_total", "Restarts.");
    registry.gauges_from("clusters_up", "Clusters that answer.", || vec![(Topic { topic: "a".into(), ack: "x" }, 1.5)]);
    let latency = registry.histogram("publish_seconds", "Publish latency.", Unit::Seconds);
    let sizes = registry.histogram("batch_bytes", "Batch size.", Unit::Bytes);

    let open = connections.local();
    open.set(3);
    let mut mine = requests.shard();
    mine.get(&Outcome { outcome: "stored", status: 201 }).add(7);
    mine.get(&Outcome { outcome: "denied", status: 403 }).inc();
    topics.shard().get(&Topic { topic: "a\"b\\c\nd".into(), ack: "all" }).add(5);
    restarts.inc();
    let mine = latency.local();
    for us in [90, 100, 101, 1_500, 40_000_000, u64::MAX] {
        mine.record_us(us);
    }
    mine.record_duration(Duration::from_millis(3));
    sizes.local().record(1024);
    check(
        &registry,
        expect![[r##"
            # HELP batch_bytes Batch size.
            # TYPE batch_bytes histogram
            batch_bytes_bucket{le="64"} 0
            batch_bytes_bucket{le="256"} 0
            batch_bytes_bucket{le="1024"} 1
            batch_bytes_bucket{le="4096"} 1
            batch_bytes_bucket{le="16384"} 1
            batch_bytes_bucket{le="65536"} 1
            batch_bytes_bucket{le="262144"} 1
            batch_bytes_bucket{le="1048576"} 1
            batch_bytes_bucket{le="4194304"} 1
            batch_bytes_bucket{le="16777216"} 1
            batch_bytes_bucket{le="+Inf"} 1
            batch_bytes_sum 1024
            batch_bytes_count 1
            # HELP clusters_up Clusters that answer.
            # TYPE clusters_up gauge
            clusters_up{topic="a",ack="x"} 1.5
            # HELP connections Open client connections.
            # TYPE connections gauge
            connections 3
            # HELP publish_seconds Publish latency.
            # TYPE publish_seconds histogram
            publish_seconds_bucket{le="0.0001"} 2
            publish_seconds_bucket{le="0.0002"} 3
            publish_seconds_bucket{le="0.0005"} 3
            publish_seconds_bucket{le="0.001"} 3
            publish_seconds_bucket{le="0.002"} 4
            publish_seconds_bucket{le="0.005"} 5
            publish_seconds_bucket{le="0.01"} 5
            publish_seconds_bucket{le="0.02"} 5
            publish_seconds_bucket{le="0.05"} 5
            publish_seconds_bucket{le="0.1"} 5
            publish_seconds_bucket{le="0.2"} 5
            publish_seconds_bucket{le="0.5"} 5
            publish_seconds_bucket{le="1"} 5
            publish_seconds_bucket{le="2"} 5
            publish_seconds_bucket{le="5"} 5
            publish_seconds_bucket{le="10"} 5
            publish_seconds_bucket{le="30"} 5
            publish_seconds_bucket{le="120"} 6
            publish_seconds_bucket{le="+Inf"} 7
            publish_seconds_sum 137478.958262
            publish_seconds_count 7
            # HELP requests_total Requests, with a \\ and\na second line.
            # TYPE requests_total counter
            requests_total{outcome="denied",status="403"} 1
            requests_total{outcome="stored",status="201"} 7
            # HELP restarts_total Restarts.
            # TYPE restarts_total counter
            restarts_total 1
            # HELP topic_bytes_total Bytes by topic.
            # TYPE topic_bytes_total counter
            topic_bytes_total{topic="a\"b\\c\nd",ack="all"} 5
            # HELP telemetry_label_sets_refused_total Label sets counted as other because their family was full.
            # TYPE telemetry_label_sets_refused_total counter
        "##]],
    );
}

#[test]
fn shards_are_added_up_and_what_an_ended_shard_counted_stays() {
    let registry = Registry::new();
    let requests = registry.counter("requests_total", "Requests.");
    let open = registry.gauge("open", "Open.");
    let latency = registry.histogram("wait_seconds", "Waits.", Unit::Seconds);
    let threads: Vec<_> = (1..=3u64)
        .map(|shard| {
            let (requests, open, latency) = (requests.clone(), open.clone(), latency.clone());
            std::thread::spawn(move || {
                let (requests, open, latency) = (requests.local(), open.local(), latency.local());
                for _ in 0..shard * 1_000 {
                    requests.inc();
                    open.inc();
                    latency.record_us(shard * 100);
                }
                open.dec();
                (requests.value(), open.value())
            })
        })
        .collect();
    let mine = open.local();
    mine.set(2);
    for (thread, shard) in threads.into_iter().zip(1..) {
        assert_eq!(thread.join().expect("shard"), (shard * 1_000, i64::from(shard as i32) * 1_000 - 1));
    }
    for _ in 0..2 {
        assert_eq!(requests.total(&()), 6_000);
        assert_eq!(open.total(&()), 2, "a gauge of a shard that ended is forgotten");
        let waits = latency.total(&());
        assert_eq!((waits.count(), waits.sum()), (6_000, 1_400_000));
        let quantiles = waits.quantiles();
        assert_eq!((quantiles.count, quantiles.p50, quantiles.max), (6_000, 200, 301));
    }
    let again = requests.local();
    again.inc();
    assert_eq!(requests.total(&()), 6_001);
}

#[test]
fn a_full_family_counts_the_rest_as_other_and_says_so() {
    let registry = Registry::new();
    let topics = registry.counters_capped::<Topic>("topic_total", "By topic.", 2);
    let (mut one, mut two) = (topics.shard(), topics.shard());
    for round in 0..3 {
        for name in ["a", "b", "c", "d", "e", "f"] {
            one.get(&Topic { topic: name.into(), ack: "all" }).inc();
            two.get(&Topic { topic: name.into(), ack: if round == 0 { "all" } else { "none" } }).inc();
        }
    }
    check(
        &registry,
        expect![[r##"
        # HELP topic_total By topic.
        # TYPE topic_total counter
        topic_total{topic="a",ack="all"} 4
        topic_total{topic="b",ack="all"} 4
        topic_total{topic="other",ack="all"} 16
        topic_total{topic="other",ack="none"} 12
        # HELP telemetry_label_sets_refused_total Label sets counted as other because their family was full.
        # TYPE telemetry_label_sets_refused_total counter
        telemetry_label_sets_refused_total{family="topic_total"} 4
    "##]],
    );
}

#[test]
fn long_values_are_cut_at_a_character() {
    let registry = Registry::new();
    let topics = registry.counters::<Topic>("topic_total", "By topic.");
    topics.shard().get(&Topic { topic: "ü".repeat(200).into(), ack: "all" }).inc();
    let text = registry.render();
    assert!(text.contains(&format!("topic=\"{}…\"", "ü".repeat(128))), "{text}");
}

#[test]
fn the_process_is_described_when_asked_for() {
    let text = Registry::new().with_process_metrics().render();
    for name in ["process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"] {
        let value: f64 = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {text}"));
        assert!(value >= 0.0);
    }
}

#[test]
#[should_panic(expected = "metric x_total is declared twice")]
fn a_name_is_declared_once() {
    let registry = Registry::new();
    registry.counter("x_total", "X.");
    registry.counter("x_total", "X.");
}

#[test]
#[should_panic(expected = "counter requests ends in _total")]
fn names_follow_the_conventions() {
    Registry::new().counter("requests", "X.");
}

#[test]
fn a_scrape_while_shards_write_sees_counts_that_only_grow() {
    let registry = Registry::new();
    let requests = registry.counter("requests_total", "Requests.");
    let writer = {
        let requests = requests.clone();
        std::thread::spawn(move || {
            let mine = requests.local();
            for _ in 0..200_000 {
                mine.inc();
            }
        })
    };
    let mut last = 0;
    while !writer.is_finished() {
        let now = requests.total(&());
        assert!(now >= last);
        last = now;
    }
    writer.join().expect("writer");
    assert_eq!(requests.total(&()), 200_000);
}

#[test]
fn recording_costs_nanoseconds() {
    let registry = Registry::new();
    let (requests, latency) =
        (registry.counter("requests_total", "R."), registry.histogram("wait_seconds", "W.", Unit::Seconds));
    let (requests, latency) = (requests.local(), latency.local());
    let rounds = 200_000u32;
    let best = (0..5)
        .map(|_| {
            let started = std::time::Instant::now();
            for us in 0..u64::from(rounds) {
                requests.inc();
                latency.record_us(std::hint::black_box(us));
            }
            started.elapsed() / rounds
        })
        .min()
        .expect("five rounds");
    println!("counter and histogram together: {best:?}");
    // A few nanoseconds where it is quiet; a lock or a system call would be far beyond this.
    assert!(best < Duration::from_nanos(100), "{best:?}");
}
