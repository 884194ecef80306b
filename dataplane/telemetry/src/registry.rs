//! The list of a process's metrics, and their text.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::counter::{CounterKind, SharedCounter};
use crate::family::{AnyFamily, Family, FamilyInner, Kind};
use crate::gauge::GaugeKind;
use crate::histogram::{HistogramKind, Unit};
use crate::labels::Labels;
use crate::limits::LABEL_SETS_DEFAULT;
use crate::{process, text};

/// Where metrics are declared and scraped. Clones are the same registry; one per process, one per test.
#[derive(Clone, Default)]
pub struct Registry {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    families: Vec<Arc<dyn AnyFamily>>,
    with_process: bool,
}

const REFUSED_NAME: &str = "telemetry_label_sets_refused_total";

impl Registry {
    pub fn new() -> Registry {
        Registry::default()
    }

    /// Adds CPU time, memory and descriptors of the process to every scrape.
    pub fn with_process_metrics(self) -> Registry {
        self.lock().with_process = true;
        self
    }

    /// Declares a counter without labels; take each thread's part with [`Family::local`].
    ///
    /// # Panics
    /// As every declaration: when the name is taken or not allowed (counters end in `_total`).
    pub fn counter(&self, name: &'static str, help: &'static str) -> Family<CounterKind, ()> {
        self.counters(name, help)
    }

    /// Declares a counter with labels.
    pub fn counters<L: Labels>(&self, name: &'static str, help: &'static str) -> Family<CounterKind, L> {
        self.counters_capped(name, help, LABEL_SETS_DEFAULT)
    }

    /// As [`Registry::counters`], for at most `label_sets_max` label sets beside the `other` ones.
    pub fn counters_capped<L: Labels>(
        &self,
        name: &'static str,
        help: &'static str,
        label_sets_max: usize,
    ) -> Family<CounterKind, L> {
        assert!(name.ends_with("_total"), "counter {name} ends in _total");
        self.declare(name, help, (), label_sets_max)
    }

    /// Declares a counter that any thread writes.
    pub fn shared_counter(&self, name: &'static str, help: &'static str) -> SharedCounter {
        assert!(name.ends_with("_total"), "counter {name} ends in _total");
        let counter = SharedCounter::default();
        let read = counter.clone();
        self.add_family(Arc::new(Computed {
            name,
            help,
            kind: "counter",
            read: Box::new(move |out| text::sample(out, name, "", "", "", read.value())),
        }));
        counter
    }

    /// Declares a gauge without labels.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Family<GaugeKind, ()> {
        self.gauges(name, help)
    }

    /// Declares a gauge with labels.
    pub fn gauges<L: Labels>(&self, name: &'static str, help: &'static str) -> Family<GaugeKind, L> {
        self.declare(name, help, (), LABEL_SETS_DEFAULT)
    }

    /// Declares a gauge whose values are asked for at each scrape: label set and value. Called while the registry is
    /// locked, so it declares nothing.
    pub fn gauges_from<L: Labels>(
        &self,
        name: &'static str,
        help: &'static str,
        values: impl Fn() -> Vec<(L, f64)> + Send + Sync + 'static,
    ) {
        check_names::<L>(name);
        self.add_family(Arc::new(Computed {
            name,
            help,
            kind: "gauge",
            read: Box::new(move |out| {
                for (labels, value) in values().into_iter().take(LABEL_SETS_DEFAULT) {
                    text::sample(out, name, "", &text::label_pairs(&labels), "", value);
                }
            }),
        }));
    }

    /// Declares a histogram without labels.
    pub fn histogram(&self, name: &'static str, help: &'static str, unit: Unit) -> Family<HistogramKind, ()> {
        self.histograms(name, help, unit, 1)
    }

    /// Declares a histogram with labels; 31 KiB per label set and shard, so the cap is yours to choose.
    pub fn histograms<L: Labels>(
        &self,
        name: &'static str,
        help: &'static str,
        unit: Unit,
        label_sets_max: usize,
    ) -> Family<HistogramKind, L> {
        assert!(name.ends_with(unit.suffix()), "histogram {name} ends in its unit, {}", unit.suffix());
        assert!(!L::NAMES.contains(&"le"), "label le of {name} is the histogram's own");
        self.declare(name, help, unit, label_sets_max)
    }

    /// Everything, sorted by name, as [`crate::CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let inner = self.lock();
        let mut out = String::with_capacity(16 * 1024);
        for family in &inner.families {
            family.render(&mut out);
        }
        if inner.with_process {
            process::render(&mut out);
        }
        text::header(&mut out, REFUSED_NAME, "Label sets counted as other because their family was full.", "counter");
        for family in inner.families.iter().filter(|family| family.refused_total() > 0) {
            let pair = format!("family=\"{}\"", family.name());
            text::sample(&mut out, REFUSED_NAME, "", &pair, "", family.refused_total());
        }
        out
    }

    fn declare<K: Kind, L: Labels>(
        &self,
        name: &'static str,
        help: &'static str,
        spec: K::Spec,
        label_sets_max: usize,
    ) -> Family<K, L> {
        check_names::<L>(name);
        assert!(label_sets_max > 0, "family {name} has room for a series");
        let inner = Arc::new(FamilyInner::new(name, help, spec, label_sets_max));
        self.add_family(inner.clone());
        Family::new(inner)
    }

    fn add_family(&self, family: Arc<dyn AnyFamily>) {
        let name = family.name();
        let families = &mut self.lock().families;
        match families.binary_search_by_key(&name, |family| family.name()) {
            Ok(_) => panic!("metric {name} is declared twice"),
            Err(place) => families.insert(place, family),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_names<L: Labels>(name: &str) {
    assert!(text::is_name(name), "metric name {name:?} has only letters, digits and _");
    for label in L::NAMES {
        assert!(text::is_name(label) && !label.starts_with("__"), "label name {label:?} of {name} is not allowed");
    }
}

struct Computed {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    read: Box<dyn Fn(&mut String) + Send + Sync>,
}

impl AnyFamily for Computed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn refused_total(&self) -> u64 {
        0
    }

    fn render(&self, out: &mut String) {
        text::header(out, self.name, self.help, self.kind);
        (self.read)(out);
    }
}
