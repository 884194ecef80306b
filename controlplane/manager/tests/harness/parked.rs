//! What a gateway keeps, in memory, of either kind: the promises of [`Parking`], and nothing on a disk. And gateways that find
//! each other, each with a manager.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use manager::ManagerState;
use manager::parked::{Answer, Done, Page, Parking, Selection};
use registry::memory::MemoryRegistry;
use registry::{NodeInfo, Registry};
use serde_json::Value;

use super::{Manager, RawAnswer, info};

/// A kind: something that can be parked, and what it is called.
pub trait Kind: Clone + Send + Sync + 'static {
    type Filter: Send + Sync;
    type Error: Clone + Send + Sync;
    /// What a gateway has beside those that are parked.
    type More: Default + Send + Sync;

    const BAD_CURSOR: Self::Error;
    const PATH: &'static str;
    const ID: &'static str;
    const IDS: &'static str;
    const COUNT: &'static str;
    const REASON: &'static str;
    /// What operations of the audit log begin with.
    const OPERATION: &'static str;

    /// One of an app, for its topic orders in version v1.
    fn waiting(id: &str, app: &str) -> Self;
    fn id(&self) -> &str;
    fn app(&self) -> &str;
    fn passes(&self, filter: &Self::Filter) -> bool;
    /// A manager takes it.
    fn put(kept: Arc<Fake<Self>>, state: &mut ManagerState);
}

pub struct Fake<K: Kind> {
    pub node: String,
    pub parked: Mutex<Vec<K>>,
    /// What was done, in order.
    pub done: Mutex<Vec<String>>,
    /// Most that one call does, if less than what it may.
    pub at_most: Option<usize>,
    pub fails: Mutex<Option<K::Error>>,
    pub more: K::More,
}

impl<K: Kind> Default for Fake<K> {
    fn default() -> Self {
        let (node, more) = Default::default();
        Fake { node, parked: Mutex::default(), done: Mutex::default(), at_most: None, fails: Mutex::new(None), more }
    }
}

impl<K: Kind> Fake<K> {
    /// A gateway with so many parked of each of these apps, in turns.
    pub fn with_parked(node: &str, apps: &[&str], each: usize) -> Self {
        let parked = (0..each).flat_map(|round| apps.iter().map(move |app| (round, *app)));
        let parked = parked.map(|(round, app)| K::waiting(&format!("{node}-{app}-{round}"), app)).collect();
        Fake { node: node.to_owned(), parked: Mutex::new(parked), ..Fake::default() }
    }

    pub fn ids(&self) -> Vec<String> {
        self.parked.lock().unwrap().iter().map(|row| row.id().to_owned()).collect()
    }

    pub fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    pub fn fail(&self) -> Result<(), K::Error> {
        self.fails.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    /// As a manager takes it.
    pub async fn manager(self) -> (Arc<Self>, Manager) {
        let kept = Arc::new(self);
        let manager = Manager::start_with(|state| K::put(Arc::clone(&kept), state)).await;
        (kept, manager)
    }

    fn take(&self, selected: &Selection<K::Filter>, count_max: usize, word: &str) -> Result<Done, K::Error> {
        self.fail()?;
        let is_selected = |row: &K| match selected {
            Selection::Ids { apps, ids } => apps.includes(row.app()) && ids.iter().any(|id| id == row.id()),
            Selection::Matching(filter) => row.passes(filter),
        };
        let (mut done, limit) = (Done::default(), self.at_most.unwrap_or(count_max).min(count_max) as u64);
        let mut said = self.done.lock().unwrap();
        self.parked.lock().unwrap().retain(|row| {
            if !is_selected(row) {
                return true;
            }
            if done.count == limit {
                done.more = true;
                return true;
            }
            done.count += 1;
            said.push(format!("{word} {}", row.id()));
            false
        });
        Ok(done)
    }
}

impl<K: Kind> Parking for Fake<K> {
    type Filter = K::Filter;
    type Row = K;
    type Error = K::Error;

    /// The cursor is the id of the last row.
    fn parked<'a>(
        &'a self,
        filter: &'a K::Filter,
        after: Option<&'a str>,
        rows_max: usize,
    ) -> Answer<'a, Page<K>, K::Error> {
        Box::pin(async move {
            self.fail()?;
            let parked = self.parked.lock().unwrap();
            let begin = match after {
                None => 0,
                Some(after) => parked.iter().position(|row| row.id() == after).ok_or(K::BAD_CURSOR)? + 1,
            };
            let wanted = parked[begin..].iter().filter(|row| row.passes(filter));
            let rows: Vec<K> = wanted.take(rows_max + 1).cloned().collect();
            Ok(Page::cut(rows, rows_max, |last| last.id().to_owned()))
        })
    }

    fn replay<'a>(&'a self, selected: &'a Selection<K::Filter>, count_max: usize) -> Answer<'a, Done, K::Error> {
        Box::pin(async move { self.take(selected, count_max, "replay") })
    }

    fn discard<'a>(&'a self, selected: &'a Selection<K::Filter>, count_max: usize) -> Answer<'a, Done, K::Error> {
        Box::pin(async move { self.take(selected, count_max, "drop") })
    }
}

/// Gateways that find each other.
pub struct Fleet<K: Kind> {
    pub one: Manager,
    pub two: Manager,
    pub kept: [Arc<Fake<K>>; 2],
    pub registry: MemoryRegistry,
}

impl<K: Kind> Fleet<K> {
    pub async fn start(one: Fake<K>, two: Fake<K>) -> Self {
        let (at_one, one) = one.manager().await;
        let (at_two, ensemble) = (Arc::new(two), one.ensemble.clone());
        let two = Manager::start_with(|state| {
            state.fleet.this = "gw-2".to_owned();
            state.fleet.registry = Some(Arc::new(ensemble.open()));
            K::put(Arc::clone(&at_two), state);
        })
        .await;
        let fleet = Fleet { registry: one.ensemble.open(), one, two, kept: [at_one, at_two] };
        fleet.register("gw-1", &fleet.one.address.to_string()).await;
        fleet.register("gw-2", &fleet.two.address.to_string()).await;
        fleet
    }

    /// Two apps' at both gateways.
    pub async fn with_parked(each: usize) -> Self {
        let kept = |node| Fake::with_parked(node, &["shop", "bank"], each);
        Fleet::start(kept("gw-1"), kept("gw-2")).await
    }

    pub async fn register(&self, id: &str, manager: &str) {
        let addresses = BTreeMap::from([("man".to_owned(), manager.to_owned())]);
        self.registry.register(&NodeInfo { addresses, ..info(id) }).await.unwrap();
    }

    pub fn parked(&self) -> Vec<String> {
        self.kept.iter().flat_map(|kept| kept.ids()).collect()
    }
}

pub async fn get(manager: &Manager, path: &str) -> Value {
    let answer = manager.raw(&format!("GET {path}"), &[], "").await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

/// What the log says of operations that begin so, the oldest first: who, about whom, and what came of it.
pub async fn audit(manager: &Manager, operations: &str) -> Vec<String> {
    let rows = get(manager, "/v1/audit").await["rows"].clone();
    let of = |row: &Value| row["operation"].as_str().is_some_and(|operation| operation.starts_with(operations));
    let rows = rows.as_array().unwrap().iter().filter(|row| of(row)).rev();
    let shown = rows.map(|row| {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        format!("{} {} {} {}", text("actor"), text("operation"), text("appid"), row["after"])
    });
    shown.collect()
}

pub fn told(answer: &RawAnswer) -> String {
    format!("{} {}", answer.status, answer.json()["code"].as_str().unwrap_or_default())
}

/// Rows of a page, by their ids.
pub fn ids<K: Kind>(page: &Value) -> Vec<String> {
    page["rows"].as_array().unwrap().iter().map(|row| row[K::ID].as_str().unwrap().to_owned()).collect()
}
