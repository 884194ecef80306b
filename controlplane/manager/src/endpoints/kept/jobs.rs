//! Delayed jobs: `/v1/jobs`.

use std::sync::Arc;

use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, NAME, ParamDoc, Resource, ResponseDoc, Schema,
    VERSION,
};
use model::ids::{AppId, TopicName, TopicVersion};
use model::principals::Visible;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Docs, Kept, Selected, Total, Words, whose};
use crate::ManagerState;
use crate::error::ApiError;
use crate::fleet_ask::{P_NODE, UNREACHABLE};
use crate::fleet_pages::P_ROWS;
use crate::jobs::{Answer, JobFilter, JobQueue, Jobs, JobsStatus, ParkedJob};
use crate::limits::{QUEUES_SHOWN_MAX, SELECTED_RECEIPTS_MAX, SELECTED_RECORDS_MAX};
use crate::page::P_CURSOR;

const QUEUE: Schema = Schema::Object(&[
    FieldDoc::must("appid", Schema::Value(NAME), "whose"),
    FieldDoc::must("topic", Schema::Value(NAME), "where they are published when they are due"),
    FieldDoc::must("ver", Schema::Value(VERSION), ""),
    FieldDoc::must("pending", Schema::COUNT, "that wait, also those that are parked"),
    FieldDoc::must("parked", Schema::COUNT, "that cannot fire and wait for somebody"),
    FieldDoc::must("paused", Schema::FLAG, "do they wait, however late"),
]);
const NODE: Schema = Schema::Object(&[
    FieldDoc::must("node", Schema::TEXT, "the gateway's id"),
    FieldDoc::must("enabled", Schema::FLAG, "does it take jobs"),
    FieldDoc::must("pending", Schema::COUNT, "that wait, as far as the caller sees"),
    FieldDoc::must("parked", Schema::COUNT, "likewise"),
    FieldDoc::must("queues", Schema::Array(&QUEUE), "those with anything in them, the most jobs first"),
    FieldDoc::may("queues_left_out", Schema::COUNT, "those beyond the first 1,000"),
    FieldDoc::may("due", Schema::COUNT, "whose time has come and that are not at Kafka"),
    FieldDoc::may("in_flight", Schema::COUNT, "at Kafka, not answered"),
    FieldDoc::may("fired", Schema::COUNT, "since the process started"),
    FieldDoc::may("lost", Schema::COUNT, "that rotted on the disk"),
    FieldDoc::may("memory_bytes", Schema::COUNT, "of those that are in memory, and in the log"),
    FieldDoc::may("tables", Schema::COUNT, "files of those that are not"),
    FieldDoc::may("table_bytes", Schema::COUNT, "of these files"),
    FieldDoc::may("log_segments", Schema::COUNT, "files of the log"),
    FieldDoc::may("log_bytes", Schema::COUNT, "of these files"),
    FieldDoc::may("read_only", Schema::FLAG, "is the disk full, so that nothing is taken"),
]);
const STATUS: Schema = Schema::Object(&[FieldDoc::must("nodes", Schema::Array(&NODE), "by id"), UNREACHABLE]);
const _: () = assert!(QUEUES_SHOWN_MAX == 1_000, "as the document says");

const STATUS_DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/jobs",
    operation: "getJobQueues",
    tag: "jobs",
    summary: "How many delayed jobs wait at the gateways, for which topics",
    details: "Of every gateway that is registered, asked at the same time; who gives no answer within 5 s is named. How stores are \
              is told to whoever sees every app; others see what is of their apps.",
    auth: Auth::Read(Resource::Topics),
    params: &[P_NODE],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "what they keep",
            &[ContentDoc::json(
                STATUS,
                "each gateway",
                Some(concat!(
                    r#"{"nodes":[{"node":"5f0c9a3e71d2b684","enabled":true,"pending":1202,"parked":2,"due":1,"in_flight":1,"#,
                    r#""fired":881,"lost":0,"memory_bytes":614400,"tables":1,"table_bytes":1048576,"log_segments":2,"#,
                    r#""log_bytes":2097152,"read_only":false,"queues":[{"appid":"shop","topic":"orders","ver":"v1","#,
                    r#""pending":1202,"parked":2,"paused":false}]}],"#,
                    r#""unreachable":[{"node":"7d1e","why":"gateway 7d1e gave no answer"}]}"#
                )),
            )],
        ),
        ResponseDoc::bare(404, "no such gateway is registered"),
        ResponseDoc::bare(409, "the gateway that was named keeps no delayed jobs (`no_jobs`)"),
        ResponseDoc::bare(421, "another manager asked this one for what is not its own"),
        ResponseDoc::bare(503, "the registry, or the gateway that was named, is away"),
    ],
};

const ROW: Schema = Schema::Object(&[
    FieldDoc::must("node", Schema::TEXT, "the gateway that has it"),
    FieldDoc::must("id", Schema::TEXT, "as whoever added it was told"),
    FieldDoc::must("appid", Schema::Value(NAME), "whose"),
    FieldDoc::must("topic", Schema::Value(NAME), ""),
    FieldDoc::must("ver", Schema::Value(VERSION), ""),
    FieldDoc::must("due", Schema::COUNT, "epoch ms"),
    FieldDoc::must("parked_at", Schema::COUNT, "epoch ms"),
    FieldDoc::must("reason", Schema::TEXT, "why it cannot fire, for programs"),
    FieldDoc::must("why", Schema::TEXT, "and for people"),
]);
const PAGE: Schema = Schema::Object(&[
    FieldDoc::must("rows", Schema::Array(&ROW), "of each gateway as they were added"),
    FieldDoc::may("cursor", Schema::TEXT, "where the next page begins; left out: this is the last one"),
    UNREACHABLE,
]);

const LIST_DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/jobs/parked",
    operation: "listParkedJobs",
    tag: "jobs",
    summary: "Delayed jobs whose time came and that cannot fire, with the reason",
    details: "They wait until somebody replays, reschedules or drops them. Gateway after gateway, by id; who gives no answer within \
              5 s is named.",
    auth: Auth::Read(Resource::Topics),
    params: &[
        P_NODE,
        ParamDoc::query("appid", NAME, "only those of this app"),
        ParamDoc::query("topic", NAME, "only those for this topic of the app, with `ver`"),
        ParamDoc::query("ver", VERSION, "of `topic`"),
        ParamDoc::query("reason", Kind::Text, "only those with this reason"),
        P_CURSOR,
        P_ROWS,
    ],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "a page of them",
            &[ContentDoc::json(
                PAGE,
                "the jobs, without their messages",
                Some(concat!(
                    r#"{"rows":[{"node":"5f0c9a3e71d2b684","id":"5188146770730811648","appid":"shop","topic":"orders","#,
                    r#""ver":"v1","due":1511366400000,"parked_at":1511366460000,"reason":"topic_gone","#,
                    r#""why":"topic orders has no version v1"}],"cursor":"5f0c9a3e71d2b684/17","unreachable":[]}"#
                )),
            )],
        ),
        ResponseDoc::bare(400, "`topic` without `ver` or `appid`, or a cursor of another list"),
        ResponseDoc::bare(404, "no such gateway is registered"),
        ResponseDoc::bare(409, "the gateway that was named keeps no delayed jobs (`no_jobs`)"),
        ResponseDoc::bare(421, "another manager asked this one for what is not its own"),
        ResponseDoc::bare(503, "the registry, or the gateway that was named, is away"),
    ],
};

const SELECTION: Schema = Schema::Object(&[
    FieldDoc::may("ids", Schema::Array(&Schema::TEXT), "these, at most 500; nothing else is said then"),
    FieldDoc::may("topic", Schema::Value(NAME), "those for this topic of the app, with `ver`"),
    FieldDoc::may("ver", Schema::Value(VERSION), "of `topic`"),
    FieldDoc::may("reason", Schema::TEXT, "those with this reason"),
    FieldDoc::may("all", Schema::FLAG, "all of them, where nothing else is said"),
]);
const DONE: Schema = Schema::Object(&[
    FieldDoc::must("node", Schema::TEXT, "the gateway"),
    FieldDoc::must("jobs", Schema::COUNT, "how many"),
    FieldDoc::must("more", Schema::FLAG, "has it more of them"),
]);
const ANSWER: Schema = Schema::Object(&[
    FieldDoc::must("ok", Schema::Always(1), ""),
    FieldDoc::must("jobs", Schema::COUNT, "how many, together"),
    FieldDoc::must("more", Schema::FLAG, "are there more of them; the same call goes on"),
    FieldDoc::must("nodes", Schema::Array(&DONE), "each gateway that answered, by id"),
    UNREACHABLE,
]);
const _: () = assert!(SELECTED_RECORDS_MAX == 10_000 && SELECTED_RECEIPTS_MAX == 500, "as the documents say");

const REPLAY: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Post,
    path: "/v1/jobs/replay",
    operation: "replayParkedJobs",
    tag: "jobs",
    summary: "Have parked jobs tried again",
    details: "At every gateway or at the one that is named. One call takes at most 10,000 of each gateway; `more` says that there \
              are others. What is not parked is passed over, so repeating is harmless. Who gives no answer within 5 s is named, \
              and may have done it all the same.",
    auth: Auth::Write(Resource::Topics),
    params: &[P_NODE, ParamDoc::query("appid", NAME, "those of this app; all but admins have to say whose")],
    request: &[ContentDoc::json(SELECTION, "which of them: one of these", Some(r#"{"topic":"orders","ver":"v1"}"#))],
    responses: &[
        ResponseDoc::with(
            200,
            "done, durably",
            &[ContentDoc::json(
                ANSWER,
                "how many",
                Some(
                    r#"{"ok":1,"jobs":2,"more":false,"nodes":[{"node":"5f0c9a3e71d2b684","jobs":2,"more":false}],"unreachable":[]}"#,
                ),
            )],
        ),
        ResponseDoc::bare(400, "nothing, or more than one thing, is said of which (`bad_selection`)"),
        ResponseDoc::bare(404, "no such gateway is registered"),
        ResponseDoc::bare(409, "the gateway that was named keeps no delayed jobs (`no_jobs`)"),
        ResponseDoc::bare(421, "another manager asked this one for what is not its own"),
        ResponseDoc::bare(503, "the registry, the database, or the gateway that was named, is away"),
    ],
};

const DROP: EndpointDoc = EndpointDoc {
    path: "/v1/jobs/drop",
    operation: "dropParkedJobs",
    summary: "Let parked jobs go for good",
    details: "At every gateway or at the one that is named; nobody can bring them back. One call takes at most 10,000 of each \
              gateway; `more` says that there are others. Repeating is harmless. Who gives no answer within 5 s is named, and \
              may have done it all the same.",
    ..REPLAY
};

/// Which parked jobs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Which {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
}

impl From<Body> for Selected<Which> {
    fn from(body: Body) -> Self {
        let Body { ids, topic, ver, reason, all } = body;
        Selected { ids, which: Which { topic, ver, reason }, all }
    }
}

pub(crate) struct DelayedJobs;

impl Kept for DelayedJobs {
    type Store = dyn Jobs;
    type Status = JobsStatus;
    type Part = JobQueue;
    type Which = Which;
    type Body = Body;

    const DOCS: Docs = Docs { status: STATUS_DOC, list: LIST_DOC, replay: REPLAY, drop: DROP };
    const WORDS: Words = Words {
        count: "jobs",
        ids: "ids",
        parts: "queues",
        parts_left_out: "queues_left_out",
        parked: "parked jobs",
        say_which: "ids, a topic, a reason, or all",
        replay: ("jobs.replay.begin", "jobs.replay"),
        drop: ("jobs.drop.begin", "jobs.drop"),
    };
    const PARTS_SHOWN_MAX: usize = QUEUES_SHOWN_MAX;

    fn store(state: &ManagerState) -> Result<&Arc<dyn Jobs>, ApiError> {
        state.jobs()
    }

    fn filter(which: &Which, app: Option<&AppId>, visible: &Visible) -> Result<JobFilter, ApiError> {
        let topic = match (app, &which.topic, &which.ver) {
            (_, None, None) => None,
            (Some(_), Some(topic), Some(ver)) => Some((TopicName::new(topic)?, TopicVersion::new(ver)?)),
            _ => return Err(ApiError::bad_request("bad_filter", "a topic is named by appid, topic and ver")),
        };
        Ok(JobFilter { apps: whose(app, visible), topic, reason: which.reason.clone() })
    }

    fn row(node: &str, parked: &ParkedJob) -> Value {
        json!({
            "node": node,
            "id": parked.id,
            "appid": parked.of.app,
            "topic": parked.of.topic,
            "ver": parked.of.ver,
            "due": parked.due_ms,
            "parked_at": parked.parked_at_ms,
            "reason": parked.reason,
            "why": parked.why,
        })
    }

    fn status(store: &dyn Jobs) -> Answer<'_, JobsStatus> {
        store.status()
    }

    fn node(status: &JobsStatus) -> (&str, bool) {
        (&status.node, status.enabled)
    }

    fn parts(status: &JobsStatus) -> &[JobQueue] {
        &status.queues
    }

    fn app(queue: &JobQueue) -> &str {
        queue.of.app.as_str()
    }

    fn weight(queue: &JobQueue) -> u64 {
        queue.pending
    }

    fn part(queue: &JobQueue) -> Value {
        json!({
            "appid": queue.of.app,
            "topic": queue.of.topic,
            "ver": queue.of.ver,
            "pending": queue.pending,
            "parked": queue.parked,
            "paused": queue.paused,
        })
    }

    fn totals(status: &JobsStatus) -> [Total<JobQueue>; 2] {
        [
            Total { name: "pending", of_all: status.pending, of_part: |queue| queue.pending },
            Total { name: "parked", of_all: status.parked, of_part: |queue| queue.parked },
        ]
    }

    fn of_all(status: &JobsStatus) -> Vec<(&'static str, Value)> {
        let numbers = [
            ("due", status.due),
            ("in_flight", status.in_flight),
            ("fired", status.fired),
            ("lost", status.lost),
            ("memory_bytes", status.memory_bytes),
            ("tables", status.tables),
            ("table_bytes", status.table_bytes),
            ("log_segments", status.log_segments),
            ("log_bytes", status.log_bytes),
        ];
        let numbers = numbers.into_iter().map(|(name, number)| (name, number.into()));
        numbers.chain([("read_only", status.is_read_only.into())]).collect()
    }
}
