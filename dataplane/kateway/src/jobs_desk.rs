//! The manager's questions about delayed jobs, answered by the gateway's store.
//!
//! What waits for the disk runs on tokio's blocking threads; the store is asked under its own lock.

use std::sync::Arc;

use gateway::Jobs as Store;
use gateway::delayed::{self, Act, AskError, Deed, Found, JobId, Name, Stage, node_number};
use manager::jobs::{
    Answer, Job, JobAct, JobFilter, JobQueue, JobState, Jobs, JobsError, JobsStatus, ParkedJob, TopicOf,
};
use manager::parked::{Done, Page, Parking, Selection};
use model::ids::{AppId, TopicName, TopicVersion};

const _: () = assert!(manager::limits::JOB_DUE_MAX_MS == gateway::limits::JOB_DUE_MAX_MS);

/// See the module.
pub struct JobsDesk {
    store: Arc<Store>,
    node: String,
    enabled: bool,
}

impl JobsDesk {
    pub fn new(store: Arc<Store>, node: String, enabled: bool) -> JobsDesk {
        JobsDesk { store, node, enabled }
    }

    /// Parked jobs from a number on. A queue whose name is none of ours is nobody's, and not shown.
    fn rows(&self, filter: &JobFilter, from: u64, rows_max: usize) -> Vec<(TopicOf, delayed::Parked)> {
        let wanted = |name: &Name, parked: &delayed::Parked| {
            let Some((topic, ver)) = name.subject.split_once('/') else { return false };
            filter.lets_through(&name.account, topic, ver, &parked.reason.code) && topic_of(name).is_some()
        };
        let rows = self.store.store().parked(from, rows_max, &wanted).into_iter();
        rows.filter_map(|(name, parked)| Some((topic_of(&name)?, parked))).collect()
    }

    /// Numbers of parked jobs that a selection names here, at most so many, and whether there is more.
    fn select(&self, selected: &Selection<JobFilter>, jobs_max: usize) -> Result<(Vec<u64>, bool), JobsError> {
        let mut seqs = match selected {
            Selection::Ids { apps, ids } => {
                let mut seqs = Vec::new();
                for text in ids {
                    let id = JobId::parse(text).ok_or_else(|| JobsError::BadId { id: text.clone() })?;
                    // The first from there on, which is it or is not.
                    let found = self.store.store().parked(id.seq(), 1, &|_, _| true).pop();
                    let is_it = |name: &Name, parked: &delayed::Parked| {
                        let has_its_number = parked.key.seq == id.seq() && apps.includes(&name.account);
                        has_its_number && self.store.id_of(parked.queue, id.seq()) == id
                    };
                    seqs.extend(found.filter(|(name, parked)| is_it(name, parked)).map(|_| id.seq()));
                }
                seqs
            }
            Selection::Matching(filter) => {
                self.rows(filter, 0, jobs_max + 1).iter().map(|(_, parked)| parked.key.seq).collect()
            }
        };
        let more = seqs.len() > jobs_max;
        seqs.truncate(jobs_max);
        Ok((seqs, more))
    }

    async fn change(&self, deed: Deed, selected: &Selection<JobFilter>, jobs_max: usize) -> Result<Done, JobsError> {
        let (seqs, more) = self.select(selected, jobs_max)?;
        let store = Arc::clone(&self.store);
        let changed = blocking(move || store.store().change_parked(deed, &seqs)).await?;
        let count = changed.map_err(|error| JobsError::Store { why: error.to_string() })?;
        Ok(Done { count, more })
    }

    fn shown(&self, of: TopicOf, parked: &delayed::Parked) -> ParkedJob {
        ParkedJob {
            id: self.store.id_of(parked.queue, parked.key.seq).to_string(),
            of,
            due_ms: parked.key.due_ms,
            parked_at_ms: parked.at_ms,
            reason: parked.reason.code.to_string(),
            why: parked.reason.sentence.to_string(),
        }
    }
}

impl Parking for JobsDesk {
    type Filter = JobFilter;
    type Row = ParkedJob;
    type Error = JobsError;

    /// A cursor is the number of the last job of the page before.
    fn parked<'a>(
        &'a self,
        filter: &'a JobFilter,
        after: Option<&'a str>,
        rows_max: usize,
    ) -> Answer<'a, Page<ParkedJob>> {
        Box::pin(async move {
            let from = match after {
                None => 0,
                Some(after) => {
                    after.parse::<u64>().ok().and_then(|seq| seq.checked_add(1)).ok_or(JobsError::BadCursor)?
                }
            };
            let rows = self.rows(filter, from, rows_max + 1);
            let page = Page::cut(rows, rows_max, |(_, parked)| parked.key.seq.to_string());
            Ok(page.map(|(of, parked)| Some(self.shown(of, &parked))))
        })
    }

    fn replay<'a>(&'a self, selected: &'a Selection<JobFilter>, count_max: usize) -> Answer<'a, Done> {
        Box::pin(self.change(Deed::Replay, selected, count_max))
    }

    fn discard<'a>(&'a self, selected: &'a Selection<JobFilter>, count_max: usize) -> Answer<'a, Done> {
        Box::pin(self.change(Deed::Drop, selected, count_max))
    }
}

impl Jobs for JobsDesk {
    fn status(&self) -> Answer<'_, JobsStatus> {
        Box::pin(async move {
            let store = self.store.store();
            let counts = store.counts();
            let queue = |seen: delayed::QueueSeen| {
                let of = topic_of(&seen.name)?;
                Some(JobQueue { of, pending: seen.pending, parked: seen.parked, paused: seen.is_paused })
            };
            Ok(JobsStatus {
                node: self.node.clone(),
                enabled: self.enabled,
                pending: counts.pending,
                due: counts.due,
                in_flight: counts.in_flight,
                parked: counts.parked,
                fired: counts.fired,
                lost: counts.lost,
                memory_bytes: counts.memory_bytes,
                tables: counts.tables,
                table_bytes: counts.table_bytes,
                log_segments: store.journal().segments().len() as u64,
                log_bytes: self.store.log_bytes(),
                is_read_only: store.journal().is_read_only(),
                queues: store.queues().into_iter().filter_map(queue).collect(),
            })
        })
    }

    fn is_id(&self, text: &str) -> bool {
        JobId::parse(text).is_some()
    }

    fn may_have(&self, id: &str, node: &str) -> bool {
        JobId::parse(id).is_some_and(|id| id.node() == node_number(node))
    }

    fn act<'a>(&'a self, topic: &'a TopicOf, id: &'a str, act: JobAct) -> Answer<'a, Option<Job>> {
        Box::pin(async move {
            let Some(id) = JobId::parse(id) else { return Ok(None) };
            let act = match act {
                JobAct::Show => Act::Show,
                JobAct::Delete => Act::Delete,
                JobAct::Move(due_ms) => Act::Move(due_ms),
                JobAct::Fire => Act::Fire,
            };
            let (store, name) = (Arc::clone(&self.store), name_of(topic));
            let found = blocking(move || store.ask(&name, id, act)).await?;
            Ok(found.map_err(error)?.map(job))
        })
    }

    fn pause<'a>(&'a self, topic: &'a TopicOf, is_paused: bool) -> Answer<'a, ()> {
        Box::pin(async move {
            let (store, name) = (Arc::clone(&self.store), name_of(topic));
            blocking(move || store.pause(&name, is_paused)).await?.map_err(error)
        })
    }
}

/// Does something that waits for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JobsError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| JobsError::Ending)
}

fn error(error: AskError) -> JobsError {
    match error {
        AskError::TooLate(state) => JobsError::TooLate { state },
        AskError::Store(error) => JobsError::Store { why: error.to_string() },
        AskError::Disk(why) => JobsError::Store { why },
    }
}

fn job(found: Found) -> Job {
    let ended = |state| Job { state, due_ms: None, attempts: 0 };
    let (entry, stage, attempts) = match found {
        Found::Fired => return ended(JobState::Fired),
        Found::Deleted => return ended(JobState::Deleted),
        Found::Waits { entry, stage, attempts } => (entry, stage, attempts),
    };
    let state = match stage {
        Stage::Waiting => JobState::Pending,
        Stage::Firing => JobState::Firing,
        Stage::Parked { reason, at_ms } => {
            JobState::Parked { at_ms, reason: reason.code.to_string(), why: reason.sentence.to_string() }
        }
    };
    Job { state, due_ms: Some(entry.key.due_ms), attempts }
}

/// As queues are called.
fn name_of(topic: &TopicOf) -> Name {
    let TopicOf { app, topic, ver } = topic;
    Name { account: app.as_str().into(), subject: format!("{topic}/{ver}").into() }
}

fn topic_of(name: &Name) -> Option<TopicOf> {
    let (topic, ver) = name.subject.split_once('/')?;
    Some(TopicOf {
        app: AppId::new(&name.account).ok()?,
        topic: TopicName::new(topic).ok()?,
        ver: TopicVersion::new(ver).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway::JobsConfig;
    use gateway::JobsPlace;
    use gateway::delayed::{NewJob, Outcome, Reason};
    use journal::Waiter;
    use model::principals::Visible;
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    const HOUR_MS: i64 = 3_600_000;

    /// A store on a disk, whose due jobs this test takes instead of a shard.
    struct Bench {
        desk: JobsDesk,
        door: gateway::jobs::desk::Door,
        runtime: tokio::runtime::Runtime,
        _bell: runtime::mailbox::Receiver<()>,
        _dir: tempfile::TempDir,
    }

    fn topic(app: &str) -> TopicOf {
        topic_of(&Name { account: app.into(), subject: "orders/v1".into() }).expect("names")
    }

    fn all() -> JobFilter {
        JobFilter { apps: Visible::All, topic: None, reason: None }
    }

    impl Bench {
        fn start() -> Bench {
            let dir = tempfile::tempdir().expect("a directory");
            let place = JobsPlace { dir: dir.path().join("jobs"), node: "gw-1".to_owned() };
            let (bell, rung) = runtime::mailbox::mailbox(1);
            let config = JobsConfig { enabled: true, free_bytes_min: Some(0) };
            let store = Store::open(&place, &config, vec![bell]).expect("it opens");
            let door = store.door(0);
            let desk = JobsDesk::new(store, "gw-1".to_owned(), true);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            Bench { desk, door, runtime, _bell: rung, _dir: dir }
        }

        fn ask<T>(&self, answer: Answer<'_, T>) -> Result<T, JobsError> {
            self.runtime.block_on(answer)
        }

        /// The id of a job that is due so long from now.
        fn add(&self, app: &str, delay_ms: i64) -> String {
            let (ring, rang) = channel();
            let waiter = Waiter::new(move || ring.send(()).unwrap_or_default());
            let (store, name) = (self.desk.store.store(), name_of(&topic(app)));
            let job = NewJob { due_ms: store.now_ms() + delay_ms, key: None, own: b"message" };
            let seq = store.add(&name, &[job], 0, &waiter).expect("it is taken");
            rang.recv_timeout(Duration::from_secs(10)).expect("it is durable");
            self.desk.store.id_of(store.find(&name).expect("it has a job"), seq).to_string()
        }

        fn state(&self, app: &str, id: &str) -> Option<&'static str> {
            let found = self.ask(self.desk.act(&topic(app), id, JobAct::Show)).expect("an answer");
            found.map(|job| job.state.as_str())
        }

        /// Takes what is due as a shard does; so many.
        fn due(&self, count: usize) -> Vec<(gateway::delayed::DueJob, String)> {
            let (mut due, until) = (Vec::new(), Instant::now() + Duration::from_secs(10));
            while due.len() < count && Instant::now() < until {
                due.extend(self.desk.store.take(&self.door));
                std::thread::sleep(Duration::from_millis(2));
            }
            assert_eq!(due.len(), count);
            let named = due.into_iter().map(|job| {
                let id = self.desk.store.id_of(job.queue, job.key.seq).to_string();
                (job, id)
            });
            named.collect()
        }

        fn park(&self, count: usize) {
            let reason = Reason { code: "topic_gone".into(), sentence: "the topic is gone".into() };
            for (job, _) in self.due(count) {
                let outcome = Outcome::Parked { queue: job.queue, key: job.key, reason: reason.clone() };
                self.desk.store.settle(outcome);
            }
        }

        fn wait_for_parked(&self, count: u64) {
            let until = Instant::now() + Duration::from_secs(10);
            while self.desk.store.store().counts().parked != count {
                assert!(Instant::now() < until, "{:?}", self.desk.store.store().counts());
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    #[test]
    fn one_job_is_seen_and_changed_under_its_own_topic_only() {
        let bench = Bench::start();
        let [moved, deleted, fired] = [(); 3].map(|()| bench.add("shop", HOUR_MS));
        let of = topic("shop");
        assert_eq!((bench.state("shop", &moved), bench.state("bank", &moved)), (Some("pending"), None));
        assert_eq!(bench.state("shop", "5188146770730811648"), None);
        bench.add("bank", HOUR_MS);
        assert_eq!(bench.ask(bench.desk.act(&topic("bank"), &moved, JobAct::Delete)), Ok(None));

        let due_ms = bench.desk.store.store().now_ms() + 2 * HOUR_MS;
        assert!(bench.ask(bench.desk.act(&of, &moved, JobAct::Move(due_ms))).expect("moved").is_some());
        let job = bench.ask(bench.desk.act(&of, &moved, JobAct::Show)).expect("an answer").expect("known");
        assert_eq!((job.state, job.due_ms), (JobState::Pending, Some(due_ms)));

        assert!(bench.ask(bench.desk.act(&of, &deleted, JobAct::Delete)).expect("deleted").is_some());
        assert_eq!(bench.state("shop", &deleted), Some("deleted"));
        let again = bench.ask(bench.desk.act(&of, &deleted, JobAct::Delete));
        assert_eq!(again, Err(JobsError::TooLate { state: "deleted" }));

        assert!(bench.ask(bench.desk.act(&of, &fired, JobAct::Fire)).expect("fired").is_some());
        let due = bench.due(1);
        assert_eq!((&due[0].1, &due[0].0.body[..]), (&fired, &b"message"[..]));
        assert_eq!(bench.state("shop", &fired), Some("firing"));

        assert!(bench.desk.may_have(&moved, "gw-1") && !bench.desk.may_have(&moved, "gw-2"));
        assert!(bench.desk.is_id(&moved) && !bench.desk.is_id("17"));
    }

    #[test]
    fn parked_jobs_are_paged_and_only_those_of_the_selection_are_changed() {
        let bench = Bench::start();
        let shop: Vec<String> = (0..3).map(|_| bench.add("shop", 0)).collect();
        let bank = bench.add("bank", 0);
        bench.park(4);
        bench.wait_for_parked(4);
        let of_shop = JobFilter { apps: Visible::Apps(vec![topic("shop").app]), ..all() };
        let first = bench.ask(bench.desk.parked(&of_shop, None, 2)).expect("a page");
        let rest = bench.ask(bench.desk.parked(&of_shop, first.cursor.as_deref(), 2)).expect("a page");
        let ids: Vec<&String> = first.rows.iter().chain(&rest.rows).map(|row| &row.id).collect();
        assert_eq!((ids, rest.cursor), (shop.iter().collect(), None));
        assert_eq!((first.rows[0].reason.as_str(), first.rows[0].why.as_str()), ("topic_gone", "the topic is gone"));
        assert_eq!(bench.ask(bench.desk.parked(&all(), Some("x"), 2)), Err(JobsError::BadCursor));

        // Another's beside its own, one that waits, and one that is none.
        let waits = bench.add("shop", HOUR_MS);
        let ids = |ids: &[&String]| Selection::Ids {
            apps: of_shop.apps.clone(),
            ids: ids.iter().map(|id| (*id).clone()).collect(),
        };
        let done = bench.ask(bench.desk.discard(&ids(&[&bank, &shop[1], &waits]), 10));
        assert_eq!(done, Ok(Done { count: 1, more: false }));
        let bad = "17".to_owned();
        assert_eq!(bench.ask(bench.desk.discard(&ids(&[&bad]), 10)), Err(JobsError::BadId { id: bad.clone() }));
        assert_eq!((bench.state("shop", &shop[1]), bench.state("shop", &waits)), (Some("deleted"), Some("pending")));

        let done = bench.ask(bench.desk.replay(&Selection::Matching(of_shop), 1));
        assert_eq!(done, Ok(Done { count: 1, more: true }));
        assert_eq!(bench.due(1)[0].1, shop[0], "it is due again");

        let name = &topic("bank");
        assert_eq!(bench.ask(bench.desk.pause(name, true)), Ok(()));
        let status = bench.ask(bench.desk.status()).expect("a status");
        let queues: Vec<_> = status
            .queues
            .iter()
            .map(|queue| (queue.of.app.as_str(), queue.pending, queue.parked, queue.paused))
            .collect();
        assert_eq!(queues, [("shop", 3, 1, false), ("bank", 1, 1, true)]);
        assert_eq!((status.pending, status.parked, status.in_flight, status.log_segments > 0), (4, 2, 1, true));
        assert!(status.log_bytes > 0);
    }
}
