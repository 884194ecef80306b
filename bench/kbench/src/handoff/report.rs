//! What was found, as three tables: what is taken, what is delivered, and what on and off differ by.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::flags::HandoffBench;
use super::stage::{Delivered, Done};
use super::{CASES, Case, Sent, What, Who};
use crate::machine::machine;
use crate::rounds::{Counted, DISTURBED_NOTE, Spread};

/// Threads that use less than this part of a message's CPU time are not named.
const THREAD_SHARE_MIN: f64 = 0.03;

/// `place`: the directory and its file system.
pub fn markdown(bench: &HandoffBench, place: &str, cases: &[Case]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "### Hinted handoff\n");
    let _ = writeln!(
        out,
        "{}. Data in {place}. Up to {} rounds of {:?} each, shuffled; medians (min–max) of the quiet ones. Gateways on CPU {}, \
         client and null broker on CPU {}. {} B a message, {}; singles of {} connections, batches of {} (binary, summary) of {}; \
         closed loop, acks=all.\n",
        machine(),
        bench.rounds.rounds,
        bench.rounds.duration,
        bench.rounds.server_cpu,
        bench.rounds.client_cpu,
        bench.size,
        if bench.keys == 0 { "without keys".to_owned() } else { format!("of {} keys", bench.keys) },
        bench.connections,
        bench.batch,
        bench.batch_connections
    );
    taken(&mut out, cases);
    delivered(&mut out, cases);
    on_and_off(&mut out, cases);
    if cases.iter().any(|case| case.counted(case).disturbed) {
        out.push_str(DISTURBED_NOTE);
    }
    out
}

/// What is answered, beside the same messages to Kafka.
fn taken(out: &mut String, cases: &[Case]) {
    out.push_str(
        "| what | messages/s | times the same to Kafka | p50 µs | p99 µs | CPU µs/message | of these by thread | records/commit | \
         foreign cores | quiet |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for case in cases.iter().filter(|case| !matches!(case.what, What::Direct(Who::Off | Who::OffAgain, _))) {
        let base = find(cases, case.what.beside());
        let counted = case.counted(base);
        let of = |figure: &dyn Fn(&Done) -> f64| spread(case, &counted, figure);
        let ratio = ratios(case, base, &counted, |done| done.per_second);
        let of_gateway = |text: String| if case.what == What::Probe { "–".to_owned() } else { text };
        let per_commit = case.rounds.iter().all(|round| round.value.records_per_commit.is_some());
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            case.what.name(),
            of(&|done| done.per_second).show(0),
            of_gateway(ratio.show(2)),
            of(&|done| done.p50_us).show(0),
            of(&|done| done.p99_us).show(0),
            of_gateway(of(&|done| done.cpu_us).show(2)),
            of_gateway(threads(case, &counted, |done| &done.cpu_us_by_thread)),
            if per_commit { of(&|done| done.records_per_commit.unwrap_or(0.0)).show(0) } else { "–".to_owned() },
            foreign(case, &counted),
            counted.show()
        );
    }
}

/// Beside batches to Kafka, which is the least that Kafka can be given so many messages with.
fn delivered(out: &mut String, cases: &[Case]) {
    out.push_str(
        "\n| backlog of | messages | messages/s from Kafka's return until nothing is left | times batches to Kafka | first arrives \
         after s | messages/s from then on | times batches to Kafka | CPU µs/message | of these by thread | doubled | quiet \
         |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let base = find(cases, What::Direct(Who::On, Sent::Batches));
    for sent in [Sent::Singles, Sent::Batches] {
        let case = find(cases, What::Away(sent));
        let counted = case.counted(base);
        let of = |figure: &dyn Fn(&Delivered) -> f64| spread(case, &counted, &|done| of_delivered(done, figure));
        // Beside another figure of the other case.
        let beside = |figure: &dyn Fn(&Delivered) -> f64| {
            Spread::of(counted.indexes.iter().map(|&index| {
                let direct = base.rounds[index].value.per_second.max(f64::EPSILON);
                of_delivered(&case.rounds[index].value, figure) / direct
            }))
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            sent.name(),
            of(&|delivered| delivered.messages as f64).show(0),
            of(&Delivered::per_second).show(0),
            beside(&Delivered::per_second).show(2),
            of(&|delivered| delivered.noticed_seconds).show(2),
            of(&Delivered::per_second_then).show(0),
            beside(&Delivered::per_second_then).show(2),
            of(&|delivered| delivered.cpu_us).show(2),
            threads(case, &counted, |done| match &done.delivered {
                Some(delivered) => &delivered.cpu_us_by_thread,
                None => &NO_THREADS,
            }),
            of(&|delivered| delivered.doubled as f64).show(0),
            counted.show()
        );
    }
}

static NO_THREADS: BTreeMap<String, f64> = BTreeMap::new();

fn of_delivered(done: &Done, figure: &dyn Fn(&Delivered) -> f64) -> f64 {
    done.delivered.as_ref().map_or(0.0, figure)
}

/// Kafka is there, and the feature is on, off, and off at another gateway.
fn on_and_off(out: &mut String, cases: &[Case]) {
    out.push_str(
        "\n| to Kafka | messages/s on | off | off, another gateway | on / off, of medians | on / off in each round | another off / off \
         in each round | CPU µs/message on | off | off, another gateway | CPU on / off in each round | quiet \
         |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for sent in [Sent::Singles, Sent::Batches] {
        let of_all = Who::ALL.map(|who| find(cases, What::Direct(who, sent)));
        let [on, off, again] = of_all;
        let quiet = |index: usize| of_all.iter().all(|case| case.rounds.get(index).is_some_and(|round| round.quiet));
        let counted = Counted::of((0..on.rounds.len()).map(quiet));
        let rate = |done: &Done| done.per_second;
        let cpu = |done: &Done| done.cpu_us;
        let medians = spread(on, &counted, &rate).median / spread(off, &counted, &rate).median.max(f64::EPSILON);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {medians:.3} | {} | {} | {} | {} | {} | {} | {} |",
            sent.name(),
            spread(on, &counted, &rate).show(0),
            spread(off, &counted, &rate).show(0),
            spread(again, &counted, &rate).show(0),
            ratios(on, off, &counted, rate).show(3),
            ratios(again, off, &counted, rate).show(3),
            spread(on, &counted, &cpu).show(2),
            spread(off, &counted, &cpu).show(2),
            spread(again, &counted, &cpu).show(2),
            ratios(on, off, &counted, cpu).show(3),
            counted.show()
        );
    }
}

fn find(cases: &[Case], what: What) -> &Case {
    debug_assert!(CASES.contains(&what));
    cases.iter().find(|case| case.what == what).expect("every case is measured in every round")
}

fn spread(case: &Case, counted: &Counted, figure: &dyn Fn(&Done) -> f64) -> Spread {
    Spread::of(counted.indexes.iter().map(|&index| figure(&case.rounds[index].value)))
}

/// Of one case to the other, each within its round.
fn ratios(case: &Case, base: &Case, counted: &Counted, figure: impl Fn(&Done) -> f64) -> Spread {
    Spread::of(
        counted
            .indexes
            .iter()
            .map(|&index| figure(&case.rounds[index].value) / figure(&base.rounds[index].value).max(f64::EPSILON)),
    )
}

fn foreign(case: &Case, counted: &Counted) -> String {
    Spread::of(counted.indexes.iter().map(|&index| case.rounds[index].foreign_cores)).show(2)
}

/// Medians of what each thread used, the most first.
fn threads(case: &Case, counted: &Counted, of: impl Fn(&Done) -> &BTreeMap<String, f64>) -> String {
    let rounds = || counted.indexes.iter().map(|&index| of(&case.rounds[index].value));
    let mut names: Vec<&String> = rounds().flat_map(BTreeMap::keys).collect();
    names.sort_unstable();
    names.dedup();
    let median = |name: &String| Spread::of(rounds().map(|threads| threads.get(name).copied().unwrap_or(0.0))).median;
    let mut found: Vec<(&String, f64)> = names.into_iter().map(|name| (name, median(name))).collect();
    found.sort_by(|one, other| other.1.total_cmp(&one.1));
    let total: f64 = found.iter().map(|(_, us)| us).sum();
    let shown = found.iter().filter(|(_, us)| *us >= total * THREAD_SHARE_MIN && *us > 0.0);
    shown.map(|(name, us)| format!("{name} {us:.2}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::Round;

    fn bench(flags: &str) -> HandoffBench {
        use clap::Parser;
        let args = format!("kbench handoff {flags}");
        let crate::cli::Command::Handoff(bench) = crate::cli::Cli::parse_from(args.split_whitespace()).command else {
            panic!("handoff");
        };
        bench
    }

    fn done(per_second: f64) -> Done {
        let cpu_us_by_thread = [("shard-0".to_owned(), 1.5), ("journal".to_owned(), 0.5), ("idle".to_owned(), 0.01)];
        Done { per_second, cpu_us: 2.0, cpu_us_by_thread: cpu_us_by_thread.into(), ..Done::default() }
    }

    /// Two quiet rounds, the second on a machine twice as slow, and one that was disturbed, in which everything is wrong.
    fn cases() -> Vec<Case> {
        let rounds = |what: What| {
            let (first, second) = match what {
                What::Probe => (5_000.0, 2_500.0),
                What::Direct(Who::On, Sent::Singles) => (1_000.0, 500.0),
                What::Direct(Who::Off, Sent::Singles) => (1_250.0, 500.0),
                What::Direct(Who::OffAgain, Sent::Singles) => (1_000.0, 600.0),
                What::Direct(_, Sent::Batches) => (8_000.0, 4_000.0),
                What::Away(Sent::Singles) => (500.0, 375.0),
                What::Away(Sent::Batches) => (2_000.0, 1_000.0),
                What::Async => (250.0, 125.0),
            };
            let round = |per_second: f64, quiet| {
                let mut value = done(per_second);
                if let What::Away(_) = what {
                    value.records_per_commit = Some(40.0);
                    // A second until Kafka's return is noticed.
                    let (messages, seconds) = (4_000, if per_second > 1_500.0 { 2.0 } else { 3.0 });
                    let cpu_us_by_thread = [("shard-0".to_owned(), 0.75)].into();
                    value.delivered = Some(Delivered {
                        messages,
                        seconds,
                        noticed_seconds: 1.0,
                        doubled: 0,
                        cpu_us: 0.75,
                        cpu_us_by_thread,
                    });
                }
                Round { value, foreign_cores: 0.1, quiet }
            };
            // The probe does not have to be quiet for the others to count.
            vec![round(first, true), round(second, true), round(1.0, what == What::Probe)]
        };
        CASES.into_iter().map(|what| Case { what, rounds: rounds(what) }).collect()
    }

    #[test]
    fn rates_are_compared_within_their_round_and_disturbed_rounds_do_not_count() {
        let text = markdown(&bench("--size 100"), "/data, ext4 on /dev/vda", &cases());
        for row in [
            "Data in /data, ext4 on /dev/vda. Up to 5 rounds of 1.5s each",
            "100 B a message, without keys; singles of 64 connections, batches of 100 (binary, summary) of 16;",
            "| probe: 4 KiB and fdatasync, one writer | 2500 (1–5000) | – |",
            "| singles, to Kafka, handoff on | 750 (500–1000) | 1.00 (1.00–1.00) |",
            // 500 of 1,000 in one round, 375 of 500 in the other: of medians it would be 0.58.
            "| singles, Kafka away: 202 | 438 (375–500) | 0.62 (0.50–0.75) |",
            "| batches, Kafka away: 202 | 1500 (1000–2000) | 0.25 (0.25–0.25) |",
            "| singles, `async=1`: 202, delivered meanwhile | 188 (125–250) | 0.25 (0.25–0.25) |",
            "| 2.00 (2.00–2.00) | shard-0 1.50, journal 0.50 | 40 (40–40) | 0.10 (0.10–0.10) | 2/3 |",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
        assert!(!text.contains("DISTURBED"), "{text}");
    }

    #[test]
    fn a_backlogs_delivery_is_compared_with_batches_to_kafka_from_its_return_and_from_when_that_was_noticed() {
        let text = markdown(&bench(""), "/data", &cases());
        // 4,000 in 3 s of which one was lost: 1,333/s and 2,000/s, beside 8,000/s and 4,000/s.
        let singles = "| singles | 4000 (4000–4000) | 1333 (1333–1333) | 0.25 (0.17–0.33) | 1.00 (1.00–1.00) | 2000 (2000–2000) \
                       | 0.38 (0.25–0.50) | 0.75 (0.75–0.75) | shard-0 0.75 | 0 (0–0) | 2/3 |";
        assert!(text.contains(singles), "{text}");
        let batches = "| batches | 4000 (4000–4000) | 1667 (1333–2000) | 0.29 (0.25–0.33) | 1.00 (1.00–1.00) | 3000 (2000–4000) \
                       | 0.50 (0.50–0.50) |";
        assert!(text.contains(batches), "{text}");
    }

    #[test]
    fn on_and_off_are_told_beside_what_two_that_are_off_differ_by() {
        let text = markdown(&bench(""), "/data", &cases());
        // Medians 750 and 875; in the rounds 0.8 and 1; of the two that are off 0.8 and 1.2.
        let singles = "| singles | 750 (500–1000) | 875 (500–1250) | 800 (600–1000) | 0.857 | 0.900 (0.800–1.000) | 1.000 \
                       (0.800–1.200) | 2.00 (2.00–2.00) |";
        assert!(text.contains(singles), "{text}");
        assert!(text.contains("| 1.000 (1.000–1.000) | 2/3 |"), "{text}");
    }

    #[test]
    fn a_row_that_was_never_quiet_is_marked() {
        let mut cases = cases();
        cases.iter_mut().filter(|case| case.what == What::Async).for_each(|case| case.rounds[0].quiet = false);
        let text = markdown(&bench(""), "/data", &cases);
        assert!(text.contains("delivered meanwhile | 125 (1–250) |") && text.contains("| DISTURBED |"), "{text}");
        assert!(text.ends_with(DISTURBED_NOTE), "{text}");
    }

    #[test]
    fn a_batch_has_several_messages_and_the_limits_of_other_loads_hold() {
        let defaults = bench("");
        assert_eq!((defaults.batch, defaults.size, defaults.connections, defaults.keys), (100, 256, 64, 0));
        let rounds = &defaults.rounds;
        assert_eq!(
            (rounds.duration.as_millis(), rounds.warmup.as_millis()),
            (1_500, 300),
            "not those of other commands"
        );
        assert!(markdown(&bench("--keys 1000"), "/data", &cases()).contains("256 B a message, of 1000 keys;"));
        for bad in ["--batch 1", "--batch 70000", "--rounds 0", "--connections 20001", "--keys 10001", "--duration 2h"]
        {
            let args = format!("kbench handoff {bad}");
            assert!(<crate::cli::Cli as clap::Parser>::try_parse_from(args.split(' ')).is_err(), "{bad}");
        }
    }
}
