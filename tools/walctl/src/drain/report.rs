//! What is said: how far it is while it goes on, and a row for each stream.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use journal::queue::{Queue, StreamId};
use serde_json::{Value, json};

use super::deliver::{Delivery, End};
use super::plan::Planned;
use crate::backlog::parts;
use crate::cli::Drain;
use crate::rows::Section;

/// Who is done sooner has nothing to say.
const SILENT_FOR: Duration = Duration::from_millis(500);
/// On a terminal, and elsewhere, where each word is a line.
const SAID_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Rows at the end, and what they come to.
pub struct Done {
    pub section: Section,
    pub delivered: u64,
    pub left: u64,
    pub parked: u64,
    /// Nothing is left, and nothing was parked.
    pub is_whole: bool,
}

/// What `--dry-run` shows. `problems`: topics that nothing can be delivered to.
pub fn would_be(planned: &[Planned], problems: &BTreeMap<String, String>, drain: &Drain) -> Section {
    let row = |one: &Planned| {
        let mut row = named(one);
        let delivered = one.waiting + if drain.include_parked { one.parked } else { 0 };
        row["would_deliver"] = delivered.into();
        row["parked"] = if drain.include_parked { 0 } else { one.parked }.into();
        row["bytes"] = one.bytes.into();
        row["why"] = problems.get(one.topic()).map(|why| format!("not now: {why}")).into();
        row
    };
    Section {
        title: "",
        columns: &["app", "cluster", "topic", "partition", "would_deliver", "parked", "bytes", "why"],
        more: &["stream"],
        rows: planned.iter().map(row).collect(),
    }
}

/// What became of them.
pub fn done(planned: &[Planned], ends: &BTreeMap<StreamId, End>, queue: &Queue) -> Done {
    let (mut delivered, mut left, mut parked, mut parked_now) = (0, 0, 0, 0);
    let none = End::default();
    let row = |one: &Planned| {
        let end = ends.get(&one.stream).unwrap_or(&none);
        let backlog = queue.backlog(one.stream);
        let waiting = backlog.waiting + backlog.taken;
        delivered += end.delivered;
        left += waiting;
        parked += backlog.parked;
        parked_now += end.parked;
        let mut row = named(one);
        row["delivered"] = end.delivered.into();
        row["left"] = waiting.into();
        row["parked"] = backlog.parked.into();
        row["why"] = end.why.clone().into();
        row
    };
    let rows = planned.iter().map(row).collect();
    let section = Section {
        title: "",
        columns: &["app", "cluster", "topic", "partition", "delivered", "left", "parked", "why"],
        more: &["stream"],
        rows,
    };
    Done { section, delivered, left, parked, is_whole: left == 0 && parked_now == 0 }
}

fn named(one: &Planned) -> Value {
    let (app, cluster, topic) = parts(&one.name);
    json!({
        "app": app,
        "cluster": cluster,
        "topic": topic,
        // Chosen by key when it is delivered.
        "partition": (one.name.lane >= 0).then_some(one.name.lane),
        "stream": one.stream.0,
    })
}

/// Says how far it is, until it is aborted.
pub async fn watch(delivery: Rc<Delivery>, messages: u64, is_wanted: bool) {
    let is_terminal = io::stderr().is_terminal();
    if !is_terminal && !is_wanted {
        return;
    }
    tokio::time::sleep(SILENT_FOR).await;
    loop {
        let said = format!("{} of {messages} messages delivered", delivery.delivered.get());
        match is_terminal {
            true => eprint!("\r\x1b[K{said}"),
            false => eprintln!("{said}"),
        }
        tokio::time::sleep(if is_terminal { SAID_EVERY } else { LINE_EVERY }).await;
    }
}

/// Takes back what is on the terminal's line.
pub fn clear() {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

/// Epoch ms.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
