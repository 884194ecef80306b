//! All series of one metric: who may write which part, how many label sets there may be, and adding them up.
//!
//! ```text
//! Family (shared) ── series {outcome="stored"} ── slot of shard 0, slot of shard 1, sum of shards that ended
//!                 └─ series {outcome="denied"} ── …
//! ShardFamily (one thread): label set → handle on its slot
//! ```
//!
//! The lock is taken when a shard sees a label set for the first time, and by a scrape; never to record.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;

use crate::labels::Labels;
use crate::text;

/// Counter, gauge or histogram: what a shard writes and how parts become a whole.
pub trait Kind: 'static {
    /// One shard's part of one series.
    type Slot: Send + Sync + 'static;
    /// Parts added up.
    type Total: Default + Send + 'static;
    /// What the declaration fixes for all series.
    type Spec: Copy + Send + Sync + 'static;

    const TYPE: &'static str;
    /// Whether the part of a shard that ended still counts.
    const KEEPS_ENDED: bool;

    fn slot(spec: Self::Spec) -> Self::Slot;
    fn add(total: &mut Self::Total, slot: &Self::Slot);
    fn merge(total: &mut Self::Total, other: &Self::Total);
    fn write(out: &mut String, name: &str, pairs: &str, spec: Self::Spec, total: &Self::Total);
}

/// One metric with its series, for any thread. Each shard takes its part with [`Family::shard`].
pub struct Family<K: Kind, L: Labels> {
    inner: Arc<FamilyInner<K>>,
    labels: PhantomData<fn(L)>,
}

impl<K: Kind, L: Labels> Clone for Family<K, L> {
    fn clone(&self) -> Self {
        Family { inner: self.inner.clone(), labels: PhantomData }
    }
}

pub(crate) struct FamilyInner<K: Kind> {
    pub name: &'static str,
    help: &'static str,
    spec: K::Spec,
    label_sets_max: usize,
    series: Mutex<BTreeMap<String, Series<K>>>,
    refused_total: AtomicU64,
}

struct Series<K: Kind> {
    slots: Vec<Arc<K::Slot>>,
    ended: K::Total,
}

impl<K: Kind> Default for Series<K> {
    fn default() -> Self {
        Series { slots: Vec::new(), ended: K::Total::default() }
    }
}

impl<K: Kind> Series<K> {
    /// The sum of all parts; parts whose shard is gone are put aside (counters) or forgotten (gauges).
    fn total(&mut self) -> K::Total {
        let ended = &mut self.ended;
        self.slots.retain(|slot| {
            // We hold the only handle: nobody can write it any more, and nobody can get at it again.
            let live = Arc::strong_count(slot) > 1;
            if !live && K::KEEPS_ENDED {
                K::add(ended, slot);
            }
            live
        });
        let mut total = K::Total::default();
        K::merge(&mut total, ended);
        for slot in &self.slots {
            K::add(&mut total, slot);
        }
        total
    }
}

/// A family without its types, as the registry sees it.
pub(crate) trait AnyFamily: Send + Sync {
    fn name(&self) -> &'static str;
    fn refused_total(&self) -> u64;
    fn render(&self, out: &mut String);
}

impl<K: Kind> FamilyInner<K> {
    pub fn new(name: &'static str, help: &'static str, spec: K::Spec, label_sets_max: usize) -> Self {
        FamilyInner {
            name,
            help,
            spec,
            label_sets_max,
            series: Mutex::new(BTreeMap::new()),
            refused_total: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Series<K>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new slot in the series of these labels; `None` when there are too many series already.
    fn open<L: Labels>(&self, labels: &L, beyond_cap: bool) -> Option<Arc<K::Slot>> {
        let pairs = text::label_pairs(labels);
        let mut series = self.lock();
        if !beyond_cap && !series.contains_key(&pairs) && series.len() >= self.label_sets_max {
            return None;
        }
        let slot = Arc::new(K::slot(self.spec));
        series.entry(pairs).or_default().slots.push(slot.clone());
        Some(slot)
    }
}

impl<K: Kind> AnyFamily for FamilyInner<K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn refused_total(&self) -> u64 {
        self.refused_total.load(Ordering::Relaxed)
    }

    fn render(&self, out: &mut String) {
        text::header(out, self.name, self.help, K::TYPE);
        for (pairs, series) in self.lock().iter_mut() {
            K::write(out, self.name, pairs, self.spec, &series.total());
        }
    }
}

impl<K: Kind, L: Labels> Family<K, L> {
    pub(crate) fn new(inner: Arc<FamilyInner<K>>) -> Self {
        Family { inner, labels: PhantomData }
    }

    /// This thread's part. It cannot leave the thread: one writer per part is what makes recording cheap.
    pub fn shard(&self) -> ShardFamily<K, L> {
        ShardFamily { family: self.clone(), known: HashMap::default(), refused: HashMap::default() }
    }

    /// The sum over all shards for these labels, now.
    pub fn total(&self, labels: &L) -> K::Total {
        self.inner.lock().get_mut(&text::label_pairs(labels)).map(Series::total).unwrap_or_default()
    }
}

impl<K: Kind> Family<K, ()> {
    /// This thread's part of a metric without labels.
    pub fn local(&self) -> Handle<K> {
        self.shard().get(&())
    }
}

/// One thread's parts of a family.
pub struct ShardFamily<K: Kind, L: Labels> {
    family: Family<K, L>,
    known: HashMap<L, Handle<K>>,
    /// Label sets that found the family full, so that they do not ask again; as many as the cap, and once that many
    /// are known every further one counts as refused without being looked up.
    refused: HashMap<L, ()>,
}

impl<K: Kind, L: Labels> ShardFamily<K, L> {
    /// The handle for these labels, or for `other` ones when the family is full. A hash look-up; keep the handle
    /// where it is used a lot.
    pub fn get(&mut self, labels: &L) -> Handle<K> {
        if let Some(handle) = self.known.get(labels) {
            return handle.clone();
        }
        self.find(labels)
    }

    #[cold]
    fn find(&mut self, labels: &L) -> Handle<K> {
        let inner = &self.family.inner;
        let refused_before = self.refused.contains_key(labels);
        if !refused_before && self.refused.len() < inner.label_sets_max {
            if let Some(slot) = inner.open(labels, false) {
                let handle = Handle { slot, local: PhantomData };
                self.known.insert(labels.clone(), handle.clone());
                return handle;
            }
            self.refused.insert(labels.clone(), ());
            inner.refused_total.fetch_add(1, Ordering::Relaxed);
        }
        let other = labels.overflow();
        if let Some(handle) = self.known.get(&other) {
            return handle.clone();
        }
        let slot = inner.open(&other, true).expect("no cap for the other sets");
        let handle = Handle { slot, local: PhantomData };
        self.known.insert(other, handle.clone());
        handle
    }
}

/// One thread's part of one series. Clones write the same part, and stay on the thread.
pub struct Handle<K: Kind> {
    pub(crate) slot: Arc<K::Slot>,
    local: PhantomData<*const ()>,
}

impl<K: Kind> Clone for Handle<K> {
    fn clone(&self) -> Self {
        Handle { slot: self.slot.clone(), local: PhantomData }
    }
}
