//! The delayed jobs of a gateway, in memory: the promises of the trait, and nothing on a disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use manager::jobs::{
    Answer, Job, JobAct, JobFilter, JobQueue, JobSelection, JobState, Jobs, JobsDone, JobsError, JobsStatus, ParkedJob,
    ParkedJobs, TopicOf,
};
use model::ids::{AppId, TopicName, TopicVersion};

#[derive(Default)]
pub struct FakeJobs {
    pub node: String,
    pub parked: Mutex<Vec<ParkedJob>>,
    /// Jobs that can be asked for, by their ids.
    pub jobs: Mutex<BTreeMap<String, (TopicOf, Job)>>,
    /// What was done to them, in order.
    pub done: Mutex<Vec<String>>,
    pub at_most: Option<usize>,
    pub fails: Mutex<Option<JobsError>>,
}

pub fn topic_of(app: &str) -> TopicOf {
    TopicOf {
        app: AppId::new(app).unwrap(),
        topic: TopicName::new("orders").unwrap(),
        ver: TopicVersion::new("v1").unwrap(),
    }
}

impl FakeJobs {
    /// A gateway with so many parked jobs of each of these apps, in turns.
    pub fn with_parked(node: &str, apps: &[&str], each: usize) -> FakeJobs {
        let parked = (0..each).flat_map(|round| apps.iter().map(move |app| (round, *app)));
        let parked = parked.map(|(round, app)| ParkedJob {
            id: format!("{node}-{app}-{round}"),
            of: topic_of(app),
            due_ms: 1_511_366_400_000,
            parked_at_ms: 1_511_366_460_000,
            reason: "topic_gone".to_owned(),
            why: "the topic is gone".to_owned(),
        });
        FakeJobs { node: node.to_owned(), parked: Mutex::new(parked.collect()), ..FakeJobs::default() }
    }

    /// One more job, which waits.
    pub fn with_job(self, id: &str, app: &str) -> FakeJobs {
        let job = Job { state: JobState::Pending, due_ms: Some(1_511_366_400_000), attempts: 0 };
        self.jobs.lock().unwrap().insert(id.to_owned(), (topic_of(app), job));
        self
    }

    pub fn ids(&self) -> Vec<String> {
        self.parked.lock().unwrap().iter().map(|row| row.id.clone()).collect()
    }

    pub fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    fn fail(&self) -> Result<(), JobsError> {
        self.fails.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn take(&self, selected: &JobSelection, jobs_max: usize, word: &str) -> Result<JobsDone, JobsError> {
        self.fail()?;
        let is_selected = |row: &ParkedJob| match selected {
            JobSelection::Ids { apps, ids } => apps.includes(row.of.app.as_str()) && ids.contains(&row.id),
            JobSelection::Matching(filter) => lets_through(filter, row),
        };
        let (mut done, limit) = (JobsDone::default(), self.at_most.unwrap_or(jobs_max).min(jobs_max) as u64);
        let mut said = self.done.lock().unwrap();
        self.parked.lock().unwrap().retain(|row| {
            if !is_selected(row) {
                return true;
            }
            if done.jobs == limit {
                done.more = true;
                return true;
            }
            done.jobs += 1;
            said.push(format!("{word} {}", row.id));
            false
        });
        Ok(done)
    }
}

fn lets_through(filter: &JobFilter, row: &ParkedJob) -> bool {
    let TopicOf { app, topic, ver } = &row.of;
    filter.lets_through(app.as_str(), topic.as_str(), ver.as_str(), &row.reason)
}

impl Jobs for FakeJobs {
    fn status(&self) -> Answer<'_, JobsStatus> {
        Box::pin(async {
            self.fail()?;
            let mut queues: BTreeMap<String, JobQueue> = BTreeMap::new();
            for row in &*self.parked.lock().unwrap() {
                let new = || JobQueue { of: row.of.clone(), pending: 10, parked: 0, paused: false };
                let queue = queues.entry(row.of.app.to_string()).or_insert_with(new);
                (queue.pending, queue.parked) = (queue.pending + 1, queue.parked + 1);
            }
            let queues: Vec<JobQueue> = queues.into_values().collect();
            Ok(JobsStatus {
                node: self.node.clone(),
                enabled: true,
                pending: queues.iter().map(|queue| queue.pending).sum(),
                parked: queues.iter().map(|queue| queue.parked).sum(),
                due: 1,
                fired: 2,
                log_bytes: 3,
                queues,
                ..JobsStatus::default()
            })
        })
    }

    /// The cursor is the id of the last row.
    fn parked<'a>(&'a self, filter: &'a JobFilter, after: Option<&'a str>, rows_max: usize) -> Answer<'a, ParkedJobs> {
        Box::pin(async move {
            self.fail()?;
            let parked = self.parked.lock().unwrap();
            let begin = match after {
                None => 0,
                Some(after) => parked.iter().position(|row| row.id == after).ok_or(JobsError::BadCursor)? + 1,
            };
            let wanted = parked[begin..].iter().filter(|row| lets_through(filter, row));
            let mut rows: Vec<ParkedJob> = wanted.take(rows_max + 1).cloned().collect();
            let has_more = rows.len() > rows_max;
            rows.truncate(rows_max);
            let cursor = rows.last().filter(|_| has_more).map(|row| row.id.clone());
            Ok(ParkedJobs { rows, cursor })
        })
    }

    fn replay<'a>(&'a self, selected: &'a JobSelection, jobs_max: usize) -> Answer<'a, JobsDone> {
        Box::pin(async move { self.take(selected, jobs_max, "replay") })
    }

    fn discard<'a>(&'a self, selected: &'a JobSelection, jobs_max: usize) -> Answer<'a, JobsDone> {
        Box::pin(async move { self.take(selected, jobs_max, "drop") })
    }

    fn is_id(&self, text: &str) -> bool {
        text.contains('-')
    }

    /// Ids begin with their node's, or with one that several share.
    fn may_have(&self, id: &str, node: &str) -> bool {
        id.starts_with(&format!("{node}-")) || id.starts_with("shared-")
    }

    fn act<'a>(&'a self, topic: &'a TopicOf, id: &'a str, act: JobAct) -> Answer<'a, Option<Job>> {
        Box::pin(async move {
            self.fail()?;
            let mut jobs = self.jobs.lock().unwrap();
            let Some((_, job)) = jobs.get_mut(id).filter(|(of, _)| of == topic) else { return Ok(None) };
            let before = job.clone();
            if act != JobAct::Show {
                if before.state == JobState::Deleted {
                    return Err(JobsError::TooLate { state: "deleted" });
                }
                self.done.lock().unwrap().push(format!("{act:?} {id}"));
            }
            match act {
                JobAct::Delete => *job = Job { state: JobState::Deleted, due_ms: None, attempts: 0 },
                JobAct::Move(due_ms) => job.due_ms = Some(due_ms),
                JobAct::Show | JobAct::Fire => {}
            }
            Ok(Some(before))
        })
    }

    fn pause<'a>(&'a self, topic: &'a TopicOf, is_paused: bool) -> Answer<'a, ()> {
        Box::pin(async move {
            self.fail()?;
            self.done.lock().unwrap().push(format!("paused={is_paused} {}/{}/{}", topic.app, topic.topic, topic.ver));
            Ok(())
        })
    }
}

/// As a manager takes it.
pub fn shared(fake: FakeJobs) -> (Arc<FakeJobs>, Option<Arc<dyn Jobs>>) {
    let fake = Arc::new(fake);
    (Arc::clone(&fake), Some(fake))
}
