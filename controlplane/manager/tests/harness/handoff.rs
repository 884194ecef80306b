//! What a gateway keeps, in memory: the promises of the trait, and nothing on a disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use manager::handoff::{
    Adopted, Answer, Domain, DomainState, Done, Handoff, HandoffError, HandoffStatus, Parked, ParkedFilter, ParkedPage,
    Receipt, ReceiptState, Selection,
};
use model::ids::{AppId, ClusterName, PhysicalTopic};

#[derive(Default)]
pub struct FakeHandoff {
    pub node: String,
    pub parked: Mutex<Vec<Parked>>,
    pub replayed: Mutex<Vec<String>>,
    pub dropped: Mutex<Vec<String>>,
    pub domains: Vec<Domain>,
    /// What dead nodes left, and which nodes have their lock.
    pub left: BTreeMap<String, Adopted>,
    pub living: Vec<String>,
    /// Most that one call does, if less than what it may.
    pub at_most: Option<usize>,
    pub fails: Mutex<Option<HandoffError>>,
}

impl FakeHandoff {
    /// A gateway with so many parked messages of each of these apps, in turns.
    pub fn with_parked(node: &str, apps: &[&str], each: usize) -> FakeHandoff {
        let parked = (0..each).flat_map(|round| apps.iter().map(move |app| (round, *app)));
        let parked = parked.map(|(round, app)| parked_message(&format!("{node}-{app}-{round}"), app)).collect();
        FakeHandoff { node: node.to_owned(), parked: Mutex::new(parked), ..FakeHandoff::default() }
    }

    pub fn receipts(&self) -> Vec<String> {
        self.parked.lock().unwrap().iter().map(|row| row.receipt.clone()).collect()
    }

    fn fail(&self) -> Result<(), HandoffError> {
        self.fails.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn take(&self, selected: &Selection, records_max: usize, into: &Mutex<Vec<String>>) -> Result<Done, HandoffError> {
        self.fail()?;
        let is_selected = |row: &Parked| match selected {
            Selection::Receipts { apps, ids } => apps.includes(row.app.as_str()) && ids.contains(&row.receipt),
            Selection::Matching(filter) => filter.lets_through(row),
        };
        let (mut parked, mut into) = (self.parked.lock().unwrap(), into.lock().unwrap());
        let (mut done, limit) = (Done::default(), self.at_most.unwrap_or(records_max).min(records_max) as u64);
        parked.retain(|row| {
            if !is_selected(row) {
                return true;
            }
            if done.records == limit {
                done.more = true;
                return true;
            }
            done.records += 1;
            into.push(row.receipt.clone());
            false
        });
        Ok(done)
    }
}

pub fn parked_message(receipt: &str, app: &str) -> Parked {
    Parked {
        receipt: receipt.to_owned(),
        app: AppId::new(app).unwrap(),
        cluster: ClusterName::new("main").unwrap(),
        topic: PhysicalTopic::new(&format!("{app}.orders.v1")).unwrap(),
        partition: 3,
        accepted_at_ms: 1_511_366_400_000,
        parked_at_ms: 1_511_366_460_000,
        bytes: 512,
        reason: "no_such_topic".to_owned(),
        why: "Kafka has no such topic".to_owned(),
        key_start: Some(b"42".to_vec()),
    }
}

pub fn domain(app: &str, bytes: u64) -> Domain {
    Domain {
        cluster: ClusterName::new("main").unwrap(),
        topic: PhysicalTopic::new(&format!("{app}.orders.v1")).unwrap(),
        partition: 0,
        app: AppId::new(app).unwrap(),
        state: DomainState::Draining,
        since_ms: 1_511_366_400_000,
        records: bytes / 100,
        bytes,
        why: "no leader".to_owned(),
        drain_bytes_per_s: Some(100),
        left_s: None,
    }
}

impl Handoff for FakeHandoff {
    fn status(&self) -> Answer<'_, HandoffStatus> {
        Box::pin(async {
            self.fail()?;
            Ok(HandoffStatus {
                node: self.node.clone(),
                enabled: true,
                device: "mmap".to_owned(),
                disk_bytes: 1,
                budget_bytes: 2,
                free_bytes: 3,
                records: self.domains.iter().map(|domain| domain.records).sum(),
                bytes: self.domains.iter().map(|domain| domain.bytes).sum(),
                parked_records: self.parked.lock().unwrap().len() as u64,
                oldest_at_ms: Some(1_511_366_400_000),
                domains: self.domains.clone(),
            })
        })
    }

    /// The cursor is the receipt of the last row.
    fn parked<'a>(
        &'a self,
        filter: &'a ParkedFilter,
        after: Option<&'a str>,
        rows_max: usize,
    ) -> Answer<'a, ParkedPage> {
        Box::pin(async move {
            self.fail()?;
            let parked = self.parked.lock().unwrap();
            let begin = match after {
                None => 0,
                Some(after) => parked.iter().position(|row| row.receipt == after).ok_or(HandoffError::BadCursor)? + 1,
            };
            let mut rows: Vec<Parked> =
                parked[begin..].iter().filter(|row| filter.lets_through(row)).take(rows_max + 1).cloned().collect();
            let has_more = rows.len() > rows_max;
            rows.truncate(rows_max);
            let cursor = rows.last().filter(|_| has_more).map(|row| row.receipt.clone());
            Ok(ParkedPage { rows, cursor })
        })
    }

    fn replay<'a>(&'a self, selected: &'a Selection, records_max: usize) -> Answer<'a, Done> {
        Box::pin(async move { self.take(selected, records_max, &self.replayed) })
    }

    fn discard<'a>(&'a self, selected: &'a Selection, records_max: usize) -> Answer<'a, Done> {
        Box::pin(async move { self.take(selected, records_max, &self.dropped) })
    }

    fn adopt<'a>(&'a self, from: &'a str) -> Answer<'a, Adopted> {
        Box::pin(async move {
            self.fail()?;
            let node = || from.to_owned();
            if self.living.contains(&node()) {
                return Err(HandoffError::NodeLives { node: node() });
            }
            self.left.get(from).copied().ok_or_else(|| HandoffError::NoSuchNode { node: node() })
        })
    }

    fn receipt<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Receipt>> {
        Box::pin(async move {
            let parked = self.parked.lock().unwrap();
            let found = parked.iter().find(|row| row.receipt == id);
            Ok(found.map(|row| Receipt {
                app: row.app.clone(),
                state: ReceiptState::Parked { reason: row.reason.clone() },
            }))
        })
    }
}

/// As a manager takes it.
pub fn shared(fake: FakeHandoff) -> (Arc<FakeHandoff>, Option<Arc<dyn Handoff>>) {
    let fake = Arc::new(fake);
    (Arc::clone(&fake), Some(fake))
}
