//! What a gateway keeps of publishes that Kafka could not take.

use std::collections::BTreeMap;
use std::sync::Arc;

use manager::ManagerState;
use manager::handoff::{
    Adopted, Answer, Domain, DomainState, Handoff, HandoffError, HandoffStatus, Parked, ParkedFilter, Receipt,
    ReceiptState,
};
use model::ids::{AppId, ClusterName, PhysicalTopic};

use super::parked::{Fake, Kind};

pub type FakeHandoff = Fake<Parked>;

#[derive(Default)]
pub struct Kept {
    pub domains: Vec<Domain>,
    /// What dead nodes left, and which nodes have their lock.
    pub left: BTreeMap<String, Adopted>,
    pub living: Vec<String>,
}

impl Kind for Parked {
    type Filter = ParkedFilter;
    type Error = HandoffError;
    type More = Kept;

    const BAD_CURSOR: HandoffError = HandoffError::BadCursor;
    const PATH: &'static str = "/v1/handoff";
    const ID: &'static str = "receipt";
    const IDS: &'static str = "receipts";
    const COUNT: &'static str = "records";
    const REASON: &'static str = "no_such_topic";
    const OPERATION: &'static str = "handoff";

    fn waiting(id: &str, app: &str) -> Parked {
        Parked {
            receipt: id.to_owned(),
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

    fn id(&self) -> &str {
        &self.receipt
    }

    fn app(&self) -> &str {
        self.app.as_str()
    }

    fn passes(&self, filter: &ParkedFilter) -> bool {
        filter.lets_through(self)
    }

    fn put(kept: Arc<FakeHandoff>, state: &mut ManagerState) {
        state.handoff = Some(kept);
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
                records: self.more.domains.iter().map(|domain| domain.records).sum(),
                bytes: self.more.domains.iter().map(|domain| domain.bytes).sum(),
                parked_records: self.parked.lock().unwrap().len() as u64,
                oldest_at_ms: Some(1_511_366_400_000),
                domains: self.more.domains.clone(),
            })
        })
    }

    fn adopt<'a>(&'a self, from: &'a str) -> Answer<'a, Adopted> {
        Box::pin(async move {
            self.fail()?;
            let node = || from.to_owned();
            if self.more.living.contains(&node()) {
                return Err(HandoffError::NodeLives { node: node() });
            }
            self.more.left.get(from).copied().ok_or_else(|| HandoffError::NoSuchNode { node: node() })
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
