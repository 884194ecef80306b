//! Messages that Kafka could not take: `/v1/handoff`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, NAME, PHYSICAL, ParamDoc, Resource, ResponseDoc,
    Schema, VERSION,
};
use model::ids::{AppId, ClusterName, PhysicalTopic, TopicName, TopicVersion};
use model::naming::physical_topic;
use model::principals::Visible;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Docs, Kept, Selected, Total, Words, whose};
use crate::ManagerState;
use crate::error::ApiError;
use crate::fleet_ask::{P_NODE, UNREACHABLE};
use crate::fleet_pages::P_ROWS;
use crate::handoff::{Answer, Domain, Handoff, HandoffStatus, Parked, ParkedFilter};
use crate::limits::{DOMAINS_SHOWN_MAX, SELECTED_RECEIPTS_MAX, SELECTED_RECORDS_MAX};
use crate::page::P_CURSOR;

const STATE: Schema = Schema::Value(Kind::Word(&["buffering", "draining", "gate", "direct"]));
const DOMAIN: Schema = Schema::Object(&[
    FieldDoc::must("cluster", Schema::Value(NAME), ""),
    FieldDoc::must("physical", Schema::Value(PHYSICAL), "the topic's name in Kafka"),
    FieldDoc::must("partition", Schema::PARTITION, ""),
    FieldDoc::must("appid", Schema::Value(NAME), "who published"),
    FieldDoc::must(
        "state",
        STATE,
        "where new messages go: kept, kept behind what is delivered, held a moment, to Kafka",
    ),
    FieldDoc::must("since", Schema::COUNT, "epoch ms"),
    FieldDoc::must("records", Schema::COUNT, "that wait"),
    FieldDoc::must("bytes", Schema::COUNT, "that wait"),
    FieldDoc::must("why", Schema::TEXT, "what Kafka said, or did not say"),
    FieldDoc::may("drain_bytes_per_s", Schema::COUNT, "left out: nothing is delivered, or nobody knows yet"),
    FieldDoc::may("left_s", Schema::COUNT, "seconds until nothing waits, at this rate; left out: nobody knows"),
]);
const NODE: Schema = Schema::Object(&[
    FieldDoc::must("node", Schema::TEXT, "the gateway's id"),
    FieldDoc::must("enabled", Schema::FLAG, "does it keep publishes that Kafka cannot take"),
    FieldDoc::must("records", Schema::COUNT, "that wait, as far as the caller sees"),
    FieldDoc::must("bytes", Schema::COUNT, "that wait, likewise"),
    FieldDoc::must("domains", Schema::Array(&DOMAIN), "what does not go to Kafka straight away, the most bytes first"),
    FieldDoc::may("domains_left_out", Schema::COUNT, "those beyond the first 1,000"),
    FieldDoc::may("device", Schema::TEXT, "how the journal writes"),
    FieldDoc::may("disk_bytes", Schema::COUNT, "that the journal has"),
    FieldDoc::may("budget_bytes", Schema::COUNT, "that it may have"),
    FieldDoc::may("free_bytes", Schema::COUNT, "on its disk, for everybody"),
    FieldDoc::may("parked", Schema::COUNT, "messages that cannot be delivered and wait for somebody"),
    FieldDoc::may("oldest_at", Schema::COUNT, "when the oldest that waits was accepted, epoch ms"),
]);
const STATUS: Schema = Schema::Object(&[FieldDoc::must("nodes", Schema::Array(&NODE), "by id"), UNREACHABLE]);
const _: () = assert!(DOMAINS_SHOWN_MAX == 1_000, "as the document says");

const STATUS_DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/handoff",
    operation: "getHandoff",
    tag: "handoff",
    summary: "What gateways keep of publishes that Kafka could not take",
    details: "Of every gateway that is registered, asked at the same time; who gives no answer within 5 s is named. How disks \
              are is told to whoever sees every app; others see what is of their apps.",
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
                    r#"{"nodes":[{"node":"5f0c9a3e71d2b684","enabled":true,"device":"direct","disk_bytes":67108864,"#,
                    r#""budget_bytes":10737418240,"free_bytes":214748364800,"records":1200,"bytes":614400,"parked":2,"#,
                    r#""oldest_at":1511366400000,"domains":[{"cluster":"main","physical":"shop.orders.v1","partition":3,"#,
                    r#""appid":"shop","state":"draining","since":1511366400000,"records":1200,"bytes":614400,"#,
                    r#""why":"no leader","drain_bytes_per_s":1048576,"left_s":1}]}],"#,
                    r#""unreachable":[{"node":"7d1e","why":"gateway 7d1e gave no answer"}]}"#
                )),
            )],
        ),
        ResponseDoc::bare(404, "no such gateway is registered"),
        ResponseDoc::bare(409, "the gateway that was named keeps no publishes (`no_handoff`)"),
        ResponseDoc::bare(421, "another manager asked this one for what is not its own"),
        ResponseDoc::bare(503, "the registry, or the gateway that was named, is away"),
    ],
};

const ROW: Schema = Schema::Object(&[
    FieldDoc::must("node", Schema::TEXT, "the gateway that has it"),
    FieldDoc::must("receipt", Schema::TEXT, "the id that its publisher was given"),
    FieldDoc::must("appid", Schema::Value(NAME), "who published it"),
    FieldDoc::must("cluster", Schema::Value(NAME), ""),
    FieldDoc::must("physical", Schema::Value(PHYSICAL), "the topic's name in Kafka"),
    FieldDoc::must("partition", Schema::PARTITION, ""),
    FieldDoc::must("accepted_at", Schema::COUNT, "epoch ms"),
    FieldDoc::must("parked_at", Schema::COUNT, "epoch ms"),
    FieldDoc::must("bytes", Schema::COUNT, "of key, value and headers"),
    FieldDoc::must("reason", Schema::TEXT, "why it cannot be delivered, for programs"),
    FieldDoc::must("why", Schema::TEXT, "and for people"),
    FieldDoc::may("key_start_base64", Schema::TEXT, "the first bytes of its key; left out: it has none"),
]);
const PAGE: Schema = Schema::Object(&[
    FieldDoc::must("rows", Schema::Array(&ROW), "of each gateway the oldest first"),
    FieldDoc::may("cursor", Schema::TEXT, "where the next page begins; left out: this is the last one"),
    UNREACHABLE,
]);

const LIST_DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/handoff/parked",
    operation: "listParked",
    tag: "handoff",
    summary: "Messages that were accepted and cannot be delivered, with the reason",
    details: "They wait until somebody replays or drops them. Gateway after gateway, by id; who gives no answer within 5 s is \
              named. What a gateway that is gone has left is told after it was adopted.",
    auth: Auth::Read(Resource::Topics),
    params: &[
        P_NODE,
        ParamDoc::query("appid", NAME, "only those that this app published"),
        ParamDoc::query("topic", NAME, "only those for this topic of the app, with `ver`"),
        ParamDoc::query("ver", VERSION, "of `topic`"),
        ParamDoc::query("physical", PHYSICAL, "only those for this topic, by its name in Kafka"),
        ParamDoc::query("cluster", NAME, "only those for this cluster"),
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
                "the messages, without their values",
                Some(concat!(
                    r#"{"rows":[{"node":"5f0c9a3e71d2b684","receipt":"AZ3c","appid":"shop","cluster":"main","#,
                    r#""physical":"shop.orders.v1","partition":3,"accepted_at":1511366400000,"parked_at":1511366460000,"#,
                    r#""bytes":512,"reason":"no_such_topic","why":"Kafka has no topic shop.orders.v1 any more","#,
                    r#""key_start_base64":"NDI="}],"cursor":"5f0c9a3e71d2b684/17","unreachable":[]}"#
                )),
            )],
        ),
        ResponseDoc::bare(400, "`topic` without `ver` or `appid`, or a cursor of another list"),
        ResponseDoc::bare(404, "no such gateway is registered"),
        ResponseDoc::bare(409, "the gateway that was named keeps no publishes (`no_handoff`)"),
        ResponseDoc::bare(421, "another manager asked this one for what is not its own"),
        ResponseDoc::bare(503, "the registry, or the gateway that was named, is away"),
    ],
};

const SELECTION: Schema = Schema::Object(&[
    FieldDoc::may("receipts", Schema::Array(&Schema::TEXT), "these, at most 500; nothing else is said then"),
    FieldDoc::may("topic", Schema::Value(NAME), "those for this topic of the app, with `ver`"),
    FieldDoc::may("ver", Schema::Value(VERSION), "of `topic`"),
    FieldDoc::may("physical", Schema::Value(PHYSICAL), "those for this topic, by its name in Kafka"),
    FieldDoc::may("cluster", Schema::Value(NAME), "those for this cluster"),
    FieldDoc::may("reason", Schema::TEXT, "those with this reason"),
    FieldDoc::may("all", Schema::FLAG, "all of them, where nothing else is said"),
]);
const DONE: Schema = Schema::Object(&[
    FieldDoc::must("node", Schema::TEXT, "the gateway"),
    FieldDoc::must("records", Schema::COUNT, "how many"),
    FieldDoc::must("more", Schema::FLAG, "has it more of them"),
]);
const ANSWER: Schema = Schema::Object(&[
    FieldDoc::must("ok", Schema::Always(1), ""),
    FieldDoc::must("records", Schema::COUNT, "how many, together"),
    FieldDoc::must("more", Schema::FLAG, "are there more of them; the same call goes on"),
    FieldDoc::must("nodes", Schema::Array(&DONE), "each gateway that answered, by id"),
    UNREACHABLE,
]);
const _: () = assert!(SELECTED_RECORDS_MAX == 10_000 && SELECTED_RECEIPTS_MAX == 500, "as the documents say");

const REPLAY: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Post,
    path: "/v1/handoff/replay",
    operation: "replayParked",
    tag: "handoff",
    summary: "Have parked messages delivered again",
    details: "Behind what waits for their topics, at every gateway or at the one that is named. One call takes at most 10,000 \
              of each gateway; `more` says that there are others. What is not parked is passed over, so repeating is \
              harmless. Who gives no answer within 5 s is named, and may have done it all the same.",
    auth: Auth::Write(Resource::Topics),
    params: &[
        P_NODE,
        ParamDoc::query("appid", NAME, "those that this app published; all but admins have to say whose"),
    ],
    request: &[ContentDoc::json(SELECTION, "which", Some(r#"{"topic":"orders","ver":"v1","reason":"no_such_topic"}"#))],
    responses: &[
        ResponseDoc::with(
            200,
            "done",
            &[ContentDoc::json(
                ANSWER,
                "how many, by gateway",
                Some(concat!(
                    r#"{"ok":1,"records":2,"more":false,"nodes":[{"node":"5f0c9a3e71d2b684","records":2,"more":false}],"#,
                    r#""unreachable":[]}"#
                )),
            )],
        ),
        ResponseDoc::bare(400, "nothing is selected, or what is said contradicts itself"),
        ResponseDoc::bare(404, "no such gateway is registered"),
        ResponseDoc::bare(409, "the gateway that was named keeps no publishes (`no_handoff`)"),
        ResponseDoc::bare(421, "another manager asked this one for what is not its own"),
        ResponseDoc::bare(503, "the registry, the database, or the gateway that was named, is away"),
    ],
};

const DROP: EndpointDoc = EndpointDoc {
    path: "/v1/handoff/drop",
    operation: "dropParked",
    summary: "Let parked messages go for good",
    details: "At every gateway or at the one that is named; nobody can bring them back. One call takes at most 10,000 of each \
              gateway; `more` says that there are others. Repeating is harmless. Who gives no answer within 5 s is named, and \
              may have done it all the same.",
    ..REPLAY
};

/// Which parked messages.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Which {
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    physical: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    receipts: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    physical: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
}

impl From<Body> for Selected<Which> {
    fn from(body: Body) -> Self {
        let Body { receipts, topic, ver, physical, cluster, reason, all } = body;
        Selected { ids: receipts, which: Which { topic, ver, physical, cluster, reason }, all }
    }
}

pub(crate) struct Messages;

impl Kept for Messages {
    type Store = dyn Handoff;
    type Status = HandoffStatus;
    type Part = Domain;
    type Which = Which;
    type Body = Body;

    const DOCS: Docs = Docs { status: STATUS_DOC, list: LIST_DOC, replay: REPLAY, drop: DROP };
    const WORDS: Words = Words {
        count: "records",
        ids: "receipts",
        parts: "domains",
        parts_left_out: "domains_left_out",
        parked: "parked messages",
        say_which: "receipts, a topic, a cluster, a reason, or all",
        replay: ("handoff.replay.begin", "handoff.replay"),
        drop: ("handoff.drop.begin", "handoff.drop"),
    };
    const PARTS_SHOWN_MAX: usize = DOMAINS_SHOWN_MAX;

    fn store(state: &ManagerState) -> Result<&Arc<dyn Handoff>, ApiError> {
        state.handoff()
    }

    fn filter(which: &Which, app: Option<&AppId>, visible: &Visible) -> Result<ParkedFilter, ApiError> {
        let physical = which.physical.as_deref().map(PhysicalTopic::new).transpose()?;
        let topic = match (app, &which.topic, &which.ver) {
            (_, None, None) => physical,
            (Some(app), Some(topic), Some(ver)) if physical.is_none() => {
                Some(PhysicalTopic::new(&physical_topic(app, &TopicName::new(topic)?, &TopicVersion::new(ver)?))?)
            }
            _ => {
                let message = "a topic is named by appid, topic and ver, or by physical";
                return Err(ApiError::bad_request("bad_filter", message));
            }
        };
        let cluster = which.cluster.as_deref().map(ClusterName::new).transpose()?;
        Ok(ParkedFilter { apps: whose(app, visible), cluster, topic, reason: which.reason.clone() })
    }

    fn row(node: &str, parked: &Parked) -> Value {
        let mut value = json!({
            "node": node,
            "receipt": parked.receipt,
            "appid": parked.app,
            "cluster": parked.cluster,
            "physical": parked.topic,
            "partition": parked.partition,
            "accepted_at": parked.accepted_at_ms,
            "parked_at": parked.parked_at_ms,
            "bytes": parked.bytes,
            "reason": parked.reason,
            "why": parked.why,
        });
        if let Some(key) = &parked.key_start {
            value["key_start_base64"] = STANDARD.encode(key).into();
        }
        value
    }

    fn status(store: &dyn Handoff) -> Answer<'_, HandoffStatus> {
        store.status()
    }

    fn node(status: &HandoffStatus) -> (&str, bool) {
        (&status.node, status.enabled)
    }

    fn parts(status: &HandoffStatus) -> &[Domain] {
        &status.domains
    }

    fn app(domain: &Domain) -> &str {
        domain.app.as_str()
    }

    fn weight(domain: &Domain) -> u64 {
        domain.bytes
    }

    fn part(domain: &Domain) -> Value {
        let mut value = json!({
            "cluster": domain.cluster,
            "physical": domain.topic,
            "partition": domain.partition,
            "appid": domain.app,
            "state": domain.state.as_str(),
            "since": domain.since_ms,
            "records": domain.records,
            "bytes": domain.bytes,
            "why": domain.why,
        });
        for (name, number) in [("drain_bytes_per_s", domain.drain_bytes_per_s), ("left_s", domain.left_s)] {
            if let Some(number) = number {
                value[name] = number.into();
            }
        }
        value
    }

    fn totals(status: &HandoffStatus) -> [Total<Domain>; 2] {
        [
            Total { name: "records", of_all: status.records, of_part: |domain| domain.records },
            Total { name: "bytes", of_all: status.bytes, of_part: |domain| domain.bytes },
        ]
    }

    fn of_all(status: &HandoffStatus) -> Vec<(&'static str, Value)> {
        let mut of_all: Vec<(&'static str, Value)> = vec![
            ("device", status.device.as_str().into()),
            ("disk_bytes", status.disk_bytes.into()),
            ("budget_bytes", status.budget_bytes.into()),
            ("free_bytes", status.free_bytes.into()),
            ("parked", status.parked_records.into()),
        ];
        of_all.extend(status.oldest_at_ms.map(|oldest_ms| ("oldest_at", oldest_ms.into())));
        of_all
    }
}
