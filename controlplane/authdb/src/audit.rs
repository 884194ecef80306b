//! Who changed what, and what was refused.
//!
//! A change and its row are one transaction: there is no change without a row and no row without its change. Rows say what
//! was there before and after, without secrets and hashes, and what went along by name.
//!
//! What happened at nodes and changed no tenant ([`AuditEvent`]) has rows, too: `after` has the node, the client's address,
//! and how many times it was.

use model::ids::{AppId, Generation};
use model::{AuditEvent, ReportedEvent};
use serde_json::{Value, json};

/// On whose behalf something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub subject: String,
    /// Of the request that asked for it; empty: nobody's.
    pub request_id: String,
}

impl Default for Actor {
    /// The process itself: a first start, something that was left half done.
    fn default() -> Self {
        Self { subject: "system".to_owned(), request_id: String::new() }
    }
}

/// Whose doing an event was: the app's that asked for it, the stranger's at an address, or nobody's but the process's.
pub(crate) fn actor_of(event: &AuditEvent) -> String {
    match event.address() {
        _ if event.what.is_of_app() => format!("app:{}", event.app),
        Some(address) if event.what.is_login() => address.to_string(),
        None if event.what.is_login() => "several addresses".to_owned(),
        _ => Actor::default().subject,
    }
}

/// What an event's row says beside what every row says.
pub(crate) fn details_of(reported: &ReportedEvent) -> Value {
    let ReportedEvent { node, event, .. } = reported;
    let mut details = json!({"node": node, "count": event.count});
    let optional =
        [("peer", event.peer.map(|peer| peer.to_string())), ("side", event.side.map(|side| side.as_str().to_owned()))];
    for (name, value) in optional {
        if let Some(value) = value {
            details[name] = value.into();
        }
    }
    details
}

/// One thing that a change did.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub operation: &'static str,
    pub app: Option<AppId>,
    /// What it was done to, as people call it.
    pub subject: String,
    pub before: Value,
    pub after: Value,
    pub cascades: Vec<String>,
}

impl Entry {
    /// Of something that was not done: what was there before and after says nothing.
    pub(crate) fn nothing() -> Self {
        let (before, after) = (Value::Null, Value::Null);
        Self { operation: "", app: None, subject: String::new(), before, after, cascades: Vec::new() }
    }

    pub(crate) fn of(operation: &'static str, app: &AppId, subject: impl ToString) -> Self {
        let (app, subject) = (Some(app.clone()), subject.to_string());
        Self { operation, app, subject, before: Value::Null, after: Value::Null, cascades: Vec::new() }
    }

    /// Of no app.
    pub(crate) fn about(operation: &'static str, subject: impl ToString) -> Self {
        Self { operation, subject: subject.to_string(), ..Self::nothing() }
    }

    pub(crate) fn before(mut self, before: Value) -> Self {
        self.before = before;
        self
    }

    pub(crate) fn after(mut self, after: Value) -> Self {
        self.after = after;
        self
    }
}

/// Was it done?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Denied,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Denied => "denied",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Outcome::Done, Outcome::Denied].into_iter().find(|outcome| outcome.as_str() == text)
    }
}

/// One row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Grows from row to row.
    pub num: u64,
    pub at_ms: i64,
    pub actor: String,
    pub request_id: String,
    pub operation: String,
    pub outcome: Outcome,
    pub app: String,
    pub subject: String,
    pub before: Value,
    pub after: Value,
    pub cascades: Vec<String>,
    /// Where the change is in force, it is done.
    pub generation: Option<Generation>,
}

/// Which rows; `None`: any.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    pub app: Option<String>,
    pub actor: Option<String>,
    pub operation: Option<String>,
    pub outcome: Option<Outcome>,
    /// Epoch ms, from and (not including) to.
    pub from_ms: Option<i64>,
    pub to_ms: Option<i64>,
    /// Only rows before this one: newer rows come first.
    pub before: Option<u64>,
}
