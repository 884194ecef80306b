//! What gateways keep for somebody, of two kinds: messages that Kafka could not take, and delayed jobs.
//!
//! What is asked of both alike is written once, over [`Kept`]: `get_kept.rs`, `list_parked.rs`, `change_parked.rs`. A kind has its
//! documents, its words, and its rows as JSON.

mod jobs;
mod messages;

use std::sync::Arc;

use model::api_doc::EndpointDoc;
use model::ids::AppId;
use model::principals::Visible;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ManagerState;
use crate::error::ApiError;
use crate::parked::{Answer, Parking};

pub(super) use jobs::DelayedJobs;
pub(super) use messages::Messages;

/// One kind.
pub(super) trait Kept: 'static {
    /// Where one gateway has it.
    type Store: Parking<Error: Into<ApiError>> + ?Sized;
    /// How that is, and what of it is one app's.
    type Status: Send;
    type Part;
    /// What may be said of those that are parked, as a query has it; names are those of [`Docs::list`].
    type Which: Serialize + DeserializeOwned + Send + Sync;
    /// Which are changed, as a body has it.
    type Body: Serialize + DeserializeOwned + Into<Selected<Self::Which>> + Send;

    const DOCS: Docs;
    const WORDS: Words;
    /// Most parts of a node that are shown.
    const PARTS_SHOWN_MAX: usize;

    fn store(state: &ManagerState) -> Result<&Arc<Self::Store>, ApiError>;

    /// Of the app that is named, or of all that the caller sees.
    fn filter(which: &Self::Which, app: Option<&AppId>, visible: &Visible) -> Result<FilterOf<Self>, ApiError>;

    /// What is parked at a node, as a row.
    fn row(node: &str, parked: &<Self::Store as Parking>::Row) -> Value;

    fn status(store: &Self::Store) -> Answer<'_, Self::Status, ErrorOf<Self>>;

    /// Its id, and whether it takes more.
    fn node(status: &Self::Status) -> (&str, bool);

    fn parts(status: &Self::Status) -> &[Self::Part];

    fn app(part: &Self::Part) -> &str;

    /// Parts that have most of it come first.
    fn weight(part: &Self::Part) -> u64;

    fn part(part: &Self::Part) -> Value;

    /// Numbers of the node; whoever sees some apps only is told the sums of their parts.
    fn totals(status: &Self::Status) -> [Total<Self::Part>; 2];

    /// What is told to whoever sees every app.
    fn of_all(status: &Self::Status) -> Vec<(&'static str, Value)>;
}

pub(super) type FilterOf<K> = <<K as Kept>::Store as Parking>::Filter;
pub(super) type ErrorOf<K> = <<K as Kept>::Store as Parking>::Error;

pub(super) struct Docs {
    pub(super) status: EndpointDoc,
    pub(super) list: EndpointDoc,
    pub(super) replay: EndpointDoc,
    pub(super) drop: EndpointDoc,
}

/// What it is called in answers, in the audit log, and where people read.
pub(super) struct Words {
    /// Field of an answer: how many.
    pub(super) count: &'static str,
    /// Field of a body.
    pub(super) ids: &'static str,
    /// Field of a status, and of how many of them are not shown.
    pub(super) parts: &'static str,
    pub(super) parts_left_out: &'static str,
    pub(super) parked: &'static str,
    /// What may be said of which, where nothing is.
    pub(super) say_which: &'static str,
    /// Operations of the log: that somebody is about to, and what came of it.
    pub(super) replay: (&'static str, &'static str),
    pub(super) drop: (&'static str, &'static str),
}

pub(super) struct Total<P> {
    pub(super) name: &'static str,
    pub(super) of_all: u64,
    pub(super) of_part: fn(&P) -> u64,
}

/// Which are changed: by their ids, by what is said of them, or all.
pub(super) struct Selected<W> {
    pub(super) ids: Option<Vec<String>>,
    pub(super) which: W,
    pub(super) all: bool,
}

/// The guard has asked whether the caller may name this app.
pub(super) fn whose(app: Option<&AppId>, visible: &Visible) -> Visible {
    app.map_or_else(|| visible.clone(), |app| Visible::Apps(vec![app.clone()]))
}

/// What is said of those that are wanted, by the names of the query.
pub(super) fn given<K: Kept>(which: &K::Which) -> Vec<(&'static str, String)> {
    let said = serde_json::to_value(which).expect("what may be said are texts with names");
    let named = K::DOCS.list.query_params();
    named.filter_map(|name| Some((name, said[name].as_str()?.to_owned()))).collect()
}
