//! What is to be delivered: streams that have something, of what was asked for, of one cluster.

use std::collections::{BTreeMap, BTreeSet};

use journal::queue::{Name, Queue, StreamId};

use crate::backlog::parts;
use crate::cli::Drain;
use crate::dump::is_meant;
use crate::exit::Fault;

/// A stream that has something to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub name: Name,
    pub stream: StreamId,
    pub waiting: u64,
    pub parked: u64,
    pub bytes: u64,
}

impl Planned {
    pub fn cluster(&self) -> &str {
        parts(&self.name).1
    }

    /// As Kafka has it.
    pub fn topic(&self) -> &str {
        parts(&self.name).2
    }
}

/// Messages that would be delivered.
pub fn messages(planned: &[Planned], drain: &Drain) -> u64 {
    planned.iter().map(|one| one.waiting + if drain.include_parked { one.parked } else { 0 }).sum()
}

/// By name: those of one partition follow each other.
pub fn plan(queue: &Queue, drain: &Drain) -> Result<Vec<Planned>, Fault> {
    check_known(queue, drain)?;
    let planned = |(stream, name): (StreamId, &Name)| {
        let backlog = queue.backlog(stream);
        let waiting = backlog.waiting + backlog.taken;
        let parked_bytes: u64 = queue.parked(stream, 0).map(|(_, parked)| parked.extent.bytes).sum();
        let bytes = backlog.waiting_bytes + backlog.taken_bytes + if drain.include_parked { parked_bytes } else { 0 };
        Planned { name: name.clone(), stream, waiting, parked: backlog.parked, bytes }
    };
    let meant = queue.streams().filter(|(_, name)| is_wanted(name, drain)).map(planned);
    let mut all: Vec<Planned> =
        meant.filter(|one| one.waiting > 0 || (drain.include_parked && one.parked > 0)).collect();
    let mut by_cluster: BTreeMap<&str, u64> = BTreeMap::new();
    for one in &all {
        *by_cluster.entry(one.cluster()).or_default() += messages(std::slice::from_ref(one), drain);
    }
    if drain.cluster.is_none() && by_cluster.len() > 1 {
        let counts: Vec<String> = by_cluster.iter().map(|(cluster, count)| format!("{cluster} ({count})")).collect();
        let said = "messages for several clusters wait here, and --bootstrap is one cluster's: name it with --cluster";
        return Err(Fault::Usage(format!("{said}: {}", counts.join(", "))));
    }
    if let Some(cluster) = &drain.cluster {
        all.retain(|one| one.cluster() == cluster);
    }
    all.sort_by(|a, b| (&a.name, a.stream).cmp(&(&b.name, b.stream)));
    Ok(all)
}

fn is_wanted(name: &Name, drain: &Drain) -> bool {
    let is_app = drain.apps.is_empty() || drain.apps.iter().any(|app| is_meant(name, Some(app), None));
    let is_topic = drain.topics.is_empty() || drain.topics.iter().any(|topic| is_meant(name, None, Some(topic)));
    is_app && is_topic
}

/// A name that was mistyped would look like one of which nothing is left.
fn check_known(queue: &Queue, drain: &Drain) -> Result<(), Fault> {
    let names = || queue.streams().map(|(_, name)| name);
    let known = |which: fn(&Name) -> &str| -> String {
        let known: BTreeSet<&str> = names().map(which).collect();
        known.into_iter().collect::<Vec<_>>().join(", ")
    };
    let cluster = drain.cluster.iter().find(|cluster| names().all(|name| parts(name).1 != *cluster));
    let app = drain.apps.iter().find(|app| !names().any(|name| is_meant(name, Some(app), None)));
    let topic = drain.topics.iter().find(|topic| !names().any(|name| is_meant(name, None, Some(topic))));
    let (what, given, known) = match (cluster, app, topic) {
        (Some(cluster), _, _) => ("cluster", cluster, known(|name| parts(name).1)),
        (_, Some(app), _) => ("app", app, known(|name| parts(name).0)),
        (_, _, Some(topic)) => ("topic", topic, known(|name| parts(name).2)),
        (None, None, None) => return Ok(()),
    };
    Err(Fault::NotFound(format!("this journal has nothing of {what} {given}; it knows: {known}")))
}
