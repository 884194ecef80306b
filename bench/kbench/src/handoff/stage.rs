//! Three gateways, a broker that goes and comes, and the single measurements.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::http::{Connection, Request};

use super::flags::HandoffBench;
use super::{Sent, What, Who};
use crate::cpu::{Sample, Spent};
use crate::gateway::{Gateway, Kept};
use crate::limits::{
    AWAY_SETTLE, AWAY_TIMEOUT, DELIVERED_TIMEOUT, DIRECT_TIMEOUT, HANDOFF_BUDGET_BYTES, LOOK_ARRIVED_EVERY,
    METRICS_SETTLE,
};
use crate::load::Mode;
use crate::measure::ForeignMeter;
use crate::offsets;
use crate::outcome::Figures;
use crate::probe;
use crate::process::TempDir;
use crate::publish::{Kind, message};
use crate::records::Framing;
use crate::servers::{Load, NullBroker};

/// Of every topic; the null broker has as many when it comes back and remembers nothing.
const PARTITIONS: usize = 4;
const APP: &str = "bench";
const TOPIC: &str = "handoff";
/// Answers in a row that say how publishes are answered now: more than there are partitions,
const ANSWERS_ALIKE: usize = 2 * PARTITIONS;
/// and how long each may take.
const ANSWER_MS: u32 = 2_000;

pub struct Stage {
    // Before the broker, so that they end first.
    gateways: [Gateway; 3],
    broker: NullBroker,
    singles: (Kind, Load),
    batches: (Kind, Load),
}

/// What one measurement found.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Messages, or syncs.
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Of the gateway, for each message.
    pub cpu_us: f64,
    /// The same by thread.
    pub cpu_us_by_thread: BTreeMap<String, f64>,
    /// Of the journal.
    pub records_per_commit: Option<f64>,
    /// What came after the outage.
    pub delivered: Option<Delivered>,
}

/// A backlog on its way to Kafka.
#[derive(Debug, Clone, Default)]
pub struct Delivered {
    pub messages: u64,
    /// From the moment the broker listens again until the gateway says that nothing is left.
    pub seconds: f64,
    /// Of these, until the first message arrived.
    pub noticed_seconds: f64,
    /// Messages that arrived more than once.
    pub doubled: u64,
    pub cpu_us: f64,
    pub cpu_us_by_thread: BTreeMap<String, f64>,
}

impl Stage {
    pub fn set_up(kateway: &Path, dir: &Path, bench: &HandoffBench) -> Result<Stage> {
        let broker = NullBroker::start(bench.rounds.client_cpu)?;
        let gateway = |who: Who| -> Result<Gateway> {
            let data_dir = TempDir::inside(dir)?;
            let mut gateway = Gateway::serve(kateway, &broker.kafka, bench.rounds.server_cpu, data_dir, &tables(who))?;
            let app = gateway.new_app(APP)?;
            // A topic of its own in the broker that all have, so that what arrives is counted apart.
            let topic = format!("{TOPIC}-{}", who as usize);
            gateway.new_topic(&app, &topic, PARTITIONS, None)?;
            let sender = gateway.sender(&app, &topic);
            gateway.server.publish_to(sender);
            Ok(gateway)
        };
        let [on, off, off_again] = Who::ALL.map(gateway);
        let single = Kind::single(bench.size).keyed(bench.keys);
        let batch = Kind::batch(usize::from(bench.batch), bench.size, Framing::Binary).keyed(bench.keys);
        let stage = Stage {
            gateways: [on?, off?, off_again?],
            broker,
            singles: (single, bench.load(bench.connections)),
            batches: (batch, bench.load(bench.batch_connections)),
        };
        stage.until_direct()?;
        Ok(stage)
    }

    /// One measurement, and how many CPUs' worth of time others used meanwhile. Before and after it Kafka is there and nothing
    /// waits.
    pub fn measure(&mut self, what: What, dir: &Path) -> Result<(Done, f64)> {
        match what {
            What::Probe => self.probe(dir),
            What::Direct(who, sent) => {
                let (kind, load) = self.sent(sent);
                let figures = self.gateways[who as usize].server.load(kind, Mode::Closed, &load)?;
                Ok((Done::of(&figures), figures.foreign_cores.unwrap_or(0.0)))
            }
            What::Away(sent) => self.outage(sent),
            What::Async => self.asynchronous(),
        }
    }

    fn sent(&self, sent: Sent) -> (Kind, Load) {
        match sent {
            Sent::Singles => self.singles,
            Sent::Batches => self.batches,
        }
    }

    fn probe(&self, dir: &Path) -> Result<(Done, f64)> {
        let (place, load) = (TempDir::inside(dir)?, self.singles.1);
        let probed = probe::measure(&place.path, load.warmup, load.duration)?;
        let at = |quantile| probed.latency.value_at_quantile(quantile) as f64;
        let done = Done { per_second: probed.syncs_per_second, p50_us: at(0.5), p99_us: at(0.99), ..Done::default() };
        Ok((done, probed.foreign_cores))
    }

    /// Kafka goes, messages are handed off, Kafka comes, they are delivered.
    fn outage(&mut self, sent: Sent) -> Result<(Done, f64)> {
        let (kind, load) = self.sent(sent);
        self.broker.go_away();
        // What is sent on a connection of which the end is not noticed yet is of unknown fate, so it is not handed off.
        sleep(AWAY_SETTLE);
        self.until_answers_are(Who::On, 202, AWAY_TIMEOUT)?;
        let before = self.journal()?;
        let figures = self.hand_off(kind.handed_off(), &load)?;
        // The metrics are of a moment ago.
        sleep(METRICS_SETTLE);
        let after = self.journal()?;
        let kept = self.on().kept()?;
        ensure!(
            kept.records >= figures.messages,
            "{} messages were answered 202 and {} are kept",
            figures.messages,
            kept.records
        );
        let (delivered, foreign_cores) = self.deliver(kept.records)?;
        self.until_direct()?;
        let done = Done {
            records_per_commit: Some((after.0 - before.0) / (after.1 - before.1).max(1.0)),
            delivered: Some(delivered),
            ..Done::of(&figures)
        };
        Ok((done, figures.foreign_cores.unwrap_or(0.0).max(foreign_cores)))
    }

    /// From the moment the broker is back.
    fn deliver(&mut self, messages: u64) -> Result<(Delivered, f64)> {
        let pid = self.on().server.pid();
        let (before, meter) = (Sample::take(pid)?, ForeignMeter::start());
        self.broker.come_back()?;
        let began = Instant::now();
        let patience = |arrived| -> Result<()> {
            ensure!(
                began.elapsed() < DELIVERED_TIMEOUT,
                "{arrived} of {messages} messages arrived within {DELIVERED_TIMEOUT:?}"
            );
            sleep(LOOK_ARRIVED_EVERY);
            Ok(())
        };
        let mut noticed = None;
        // The broker is asked, which costs the gateway nothing.
        let mut arrived = 0;
        while arrived < messages {
            arrived = self.arrived()?;
            if arrived > 0 {
                noticed.get_or_insert_with(|| began.elapsed());
            }
            patience(arrived)?;
        }
        while self.on().kept()?.records > 0 {
            patience(arrived)?;
        }
        let (seconds, foreign_cores) = (began.elapsed().as_secs_f64(), meter.cores());
        let spent = Sample::take(pid)?.since(&before);
        let kept = self.on().kept()?;
        ensure!(kept.parked == 0, "{} of {messages} messages were parked", kept.parked);
        let delivered = Delivered {
            messages,
            seconds,
            noticed_seconds: noticed.map_or(0.0, |noticed| noticed.as_secs_f64()),
            doubled: self.arrived()? - messages,
            cpu_us: per_message(spent.total_ns, messages),
            cpu_us_by_thread: by_thread(&spent, messages),
        };
        Ok((delivered, foreign_cores))
    }

    /// Kafka is there all the time.
    fn asynchronous(&mut self) -> Result<(Done, f64)> {
        let (kind, load) = self.singles;
        let (before, journal) = (self.arrived()?, self.journal()?);
        let figures = self.hand_off(kind.asynchronous(), &load)?;
        let kept = self.until("nothing is left", DELIVERED_TIMEOUT, |stage| {
            let kept = stage.on().kept()?;
            Ok((kept.records == 0).then_some(kept))
        })?;
        ensure!(kept.parked == 0, "{} messages were parked", kept.parked);
        let arrived = self.arrived()? - before;
        ensure!(arrived >= figures.messages, "{} were answered 202 and {arrived} arrived", figures.messages);
        self.until_direct()?;
        sleep(METRICS_SETTLE);
        let after = self.journal()?;
        let records_per_commit = Some((after.0 - journal.0) / (after.1 - journal.1).max(1.0));
        Ok((Done { records_per_commit, ..Done::of(&figures) }, figures.foreign_cores.unwrap_or(0.0)))
    }

    /// A load that is to be kept; when it is not, what the gateway has room for is told.
    fn hand_off(&self, kind: Kind, load: &Load) -> Result<Figures> {
        self.on().server.load(kind, Mode::Closed, load).with_context(|| match self.on().kept() {
            Ok(Kept { records, bytes, budget_bytes, free_bytes, .. }) => format!(
                "not everything was handed off; {records} messages of {bytes} bytes are kept, of {budget_bytes} that may be, \
                 and the disk has {free_bytes} free"
            ),
            Err(err) => format!("not everything was handed off, and what is kept is not known: {err:#}"),
        })
    }

    fn on(&self) -> &Gateway {
        &self.gateways[Who::On as usize]
    }

    /// Messages of the gateway that hands off that the broker has had since it came.
    fn arrived(&self) -> Result<u64> {
        let topic = self.on().server.physical_topic().context("a topic")?;
        offsets::end_of(&self.broker.kafka, topic)
    }

    /// Records and commits of the journal so far.
    fn journal(&self) -> Result<(f64, f64)> {
        let metrics = self.on().metrics()?;
        let of = |what: &str| metrics.one("gateway_handoff", &format!("{{what=\"{what}\"}}"));
        Ok((of("journal_records")?, of("journal_commits")?))
    }

    /// All gateways send to Kafka, and nothing waits.
    fn until_direct(&self) -> Result<()> {
        for who in Who::ALL {
            self.until_answers_are(who, 201, DIRECT_TIMEOUT)?;
        }
        self.until("all partitions are direct", DIRECT_TIMEOUT, |stage| Ok(stage.on().kept()?.is_over().then_some(())))
    }

    /// One message after the other, until so many in a row are answered like this.
    fn until_answers_are(&self, who: Who, status: u16, patience: Duration) -> Result<()> {
        let sender = &self.gateways[who as usize].server.sender;
        let request = Request::post(&format!(
            "/v1/msgs/{}/{}?ack={}&timeout={ANSWER_MS}ms",
            sender.topic, sender.ver, sender.ack
        ))
        .header("Appid", sender.appid.as_str())
        .header("Pubkey", sender.pubkey.as_str())
        .body(message(self.singles.0.size).to_vec());
        let mut connection = Connection::open(&sender.target)?;
        let (began, mut alike) = (Instant::now(), 0);
        while alike < ANSWERS_ALIKE {
            let answer = connection.call(&request)?;
            alike = if answer.status == status { alike + 1 } else { 0 };
            if began.elapsed() > patience {
                bail!("{} answers {} and not {status}: {}", who.name(), answer.status, answer.text());
            }
            if alike == 0 {
                sleep(LOOK_ARRIVED_EVERY);
            }
        }
        Ok(())
    }

    /// Looks again and again.
    fn until<T>(&self, what: &str, patience: Duration, look: impl Fn(&Stage) -> Result<Option<T>>) -> Result<T> {
        let began = Instant::now();
        loop {
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            ensure!(began.elapsed() < patience, "not within {patience:?}: {what}; {:?}", self.on().kept()?);
            sleep(LOOK_ARRIVED_EVERY);
        }
    }
}

/// What a gateway's configuration says of handoff. Its budget is no part of the measurement, so it is large, for a topic as for
/// the disk.
fn tables(who: Who) -> String {
    let enabled = who == Who::On;
    let budget =
        ["bytes_max", "topic_bytes_max", "app_bytes_max"].map(|key| format!("{key} = {HANDOFF_BUDGET_BYTES}\n"));
    format!("[handoff]\nenabled = {enabled}\n{}", budget.concat())
}

fn per_message(ns: u64, messages: u64) -> f64 {
    ns as f64 / 1e3 / messages.max(1) as f64
}

fn by_thread(spent: &Spent, messages: u64) -> BTreeMap<String, f64> {
    spent.by_name.iter().map(|(name, ns)| (name.clone(), per_message(*ns, messages))).collect()
}

impl Done {
    pub fn of(figures: &Figures) -> Done {
        let cpu = figures.cpu.as_ref();
        let messages_per_request = figures.messages as f64 / figures.requests.max(1) as f64;
        let of_message = |us_per_request: f64| us_per_request / messages_per_request.max(f64::EPSILON);
        Done {
            per_second: figures.messages_per_second,
            p50_us: figures.p50_us as f64,
            p99_us: figures.p99_us as f64,
            cpu_us: cpu.map_or(0.0, |cpu| cpu.us_per_message),
            cpu_us_by_thread: cpu.map_or_else(BTreeMap::new, |cpu| {
                cpu.us_per_request_by_thread.iter().map(|(name, us)| (name.clone(), of_message(*us))).collect()
            }),
            records_per_commit: None,
            delivered: None,
        }
    }

    /// A line while it goes on.
    pub fn progress(&self, what: What) -> String {
        let cpu = if what == What::Probe { String::new() } else { format!(", {:.2} µs CPU each", self.cpu_us) };
        let mut line = format!("{}: {:.0}/s{cpu}", what.name(), self.per_second);
        if let Some(Delivered { messages, seconds, noticed_seconds, cpu_us, .. }) = &self.delivered {
            line += &format!(
                "; {messages} delivered in {seconds:.2} s, the first after {noticed_seconds:.2} s, {cpu_us:.2} µs CPU each"
            );
        }
        line
    }
}

impl Delivered {
    /// Messages a second from the moment the broker was back.
    pub fn per_second(&self) -> f64 {
        self.messages as f64 / self.seconds.max(f64::EPSILON)
    }

    /// The same from the moment the gateway had noticed.
    pub fn per_second_then(&self) -> f64 {
        self.messages as f64 / (self.seconds - self.noticed_seconds).max(f64::EPSILON)
    }
}
