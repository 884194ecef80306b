//! The delayed jobs of a gateway.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use manager::ManagerState;
use manager::jobs::{
    Answer, Job, JobAct, JobFilter, JobQueue, JobState, Jobs, JobsError, JobsStatus, ParkedJob, TopicOf,
};
use model::ids::{AppId, TopicName, TopicVersion};

use super::parked::{Fake, Kind};

pub type FakeJobs = Fake<ParkedJob>;

/// Jobs that can be asked for, by their ids.
pub type Known = Mutex<BTreeMap<String, (TopicOf, Job)>>;

impl Kind for ParkedJob {
    type Filter = JobFilter;
    type Error = JobsError;
    type More = Known;

    const BAD_CURSOR: JobsError = JobsError::BadCursor;
    const PATH: &'static str = "/v1/jobs";
    const ID: &'static str = "id";
    const IDS: &'static str = "ids";
    const COUNT: &'static str = "jobs";
    const REASON: &'static str = "topic_gone";
    const OPERATION: &'static str = "jobs";

    fn waiting(id: &str, app: &str) -> ParkedJob {
        ParkedJob {
            id: id.to_owned(),
            of: topic_of(app),
            due_ms: 1_511_366_400_000,
            parked_at_ms: 1_511_366_460_000,
            reason: "topic_gone".to_owned(),
            why: "the topic is gone".to_owned(),
        }
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn app(&self) -> &str {
        self.of.app.as_str()
    }

    fn passes(&self, filter: &JobFilter) -> bool {
        let TopicOf { app, topic, ver } = &self.of;
        filter.lets_through(app.as_str(), topic.as_str(), ver.as_str(), &self.reason)
    }

    fn put(kept: Arc<FakeJobs>, state: &mut ManagerState) {
        state.jobs = Some(kept);
    }
}

pub fn topic_of(app: &str) -> TopicOf {
    TopicOf {
        app: AppId::new(app).unwrap(),
        topic: TopicName::new("orders").unwrap(),
        ver: TopicVersion::new("v1").unwrap(),
    }
}

impl FakeJobs {
    /// One more job, which waits.
    pub fn with_job(self, id: &str, app: &str) -> FakeJobs {
        let job = Job { state: JobState::Pending, due_ms: Some(1_511_366_400_000), attempts: 0 };
        self.more.lock().unwrap().insert(id.to_owned(), (topic_of(app), job));
        self
    }
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
            let mut jobs = self.more.lock().unwrap();
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
