//! Processes of one data directory agree on shares of one number, whichever of them comes and goes.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent::shares;
use model::quota::lease::{Demand, SubjectId};
use model::quota::{Measure, Report, Shares};
use tokio::task::JoinHandle;

const KEY: (SubjectId, Measure) = (SubjectId::App(1), Measure::PublishMessages);

/// A process that wants so much of one limit of 100, and the share it has.
struct Process {
    wanted: Arc<Mutex<f64>>,
    share: Arc<Mutex<Option<(f64, u32)>>>,
    task: JoinHandle<()>,
}

impl Process {
    fn start(dir: &Path, name: &str, wanted: f64) -> Process {
        let (wanted, share) = (Arc::new(Mutex::new(wanted)), Arc::new(Mutex::new(None)));
        let (name, wants, has) = (name.to_owned(), Arc::clone(&wanted), Arc::clone(&share));
        let report = move || {
            let held = has.lock().unwrap().map_or(50.0, |(share, _)| share);
            let wanted = *wants.lock().unwrap();
            let demand = Demand { subject: KEY.0, measure: KEY.1, limit: 100, wanted, used: 0, held };
            Report { node: name.clone(), demands: vec![demand] }
        };
        let given = Arc::clone(&share);
        let take = move |shares: &Shares| {
            let share = shares.shares.iter().find(|share| (share.subject, share.measure) == KEY);
            *given.lock().unwrap() = share.map(|share| (share.share, shares.nodes));
        };
        let task = tokio::spawn(shares::keep(dir.to_owned(), report, take));
        Process { wanted, share, task }
    }

    fn want(&self, wanted: f64) {
        *self.wanted.lock().unwrap() = wanted;
    }

    fn share(&self) -> f64 {
        self.share.lock().unwrap().map_or(0.0, |(share, _)| share)
    }

    async fn has(&self, what: &str, range: std::ops::RangeInclusive<f64>) {
        let until = Instant::now() + Duration::from_secs(20);
        while !range.contains(&self.share()) {
            assert!(Instant::now() < until, "{what}: the share is {}, not within {range:?}", self.share());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// As when it is killed: its lock and its connections are gone.
    async fn end(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

#[tokio::test]
async fn shares_follow_demand_and_survive_the_death_of_the_process_that_splits_them() {
    let dir = tempfile::tempdir().unwrap();
    let first = Process::start(dir.path(), "first", 500.0);
    first.has("alone", 99.0..=100.0).await;
    let second = Process::start(dir.path(), "second", 500.0);
    second.has("two that want more", 49.0..=51.0).await;
    first.has("two that want more", 49.0..=51.0).await;
    first.want(10.0);
    second.has("the other wants little", 85.0..=91.0).await;
    first.end().await;
    second.has("the other is gone", 99.0..=100.0).await;
    let third = Process::start(dir.path(), "third", 500.0);
    third.has("a newcomer", 49.0..=51.0).await;
    second.has("beside a newcomer", 49.0..=51.0).await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_gives_nobody_a_share_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("later");
    let process = Process::start(&missing, "one", 500.0);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(process.share(), 0.0);
    std::fs::create_dir(&missing).unwrap();
    process.has("the directory is there", 49.0..=100.0).await;
}
