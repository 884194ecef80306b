//! `POST /v1/topics/:appid/:topic/:ver`: in Kafka first, then for clients.
//!
//! ```text
//! creating ─► may it be made? ─► creating, was free ─► make it ─► active
//!    │            │ it is there       │                   │ it is there: ours, made by a try before
//!    └─ forgotten ◄ unless adopted    └── gone on with, by the same call or by itself ([`crate::resume`])
//! ```
//! A Kafka topic that nobody registered is somebody's data. It is taken only by whoever says so, or where Kafka has said
//! before that the name is free: then a try of ours made it.

use authdb::{AuthDb, AuthDbError, NewTopic, TopicRow, TopicState};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kafka_admin::{AdminError, TopicAdmin};
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Kind, Listener, Method, NAME, ParamDoc, Resource, ResponseDoc};
use model::doc::TopicDoc;
use model::ids::ClusterName;
use model::limits::{MESSAGE_BYTES_MAX_DEFAULT, MESSAGE_BYTES_MAX_LIMIT};
use model::naming::{physical_topic, physical_topic_for_creation};
use model::topic_options::{Compression, Partitioner, TopicOptions};
use serde::Deserialize;
use serde_json::Value;

use super::{AS_BODY, P_OWNER, P_TOPIC, P_VER, TOPIC_CHANGED, TOPIC_CHANGED_EXAMPLE, endpoint as tie, topic_json};
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::{Flag, Given, TopicPath};
use crate::limits::{BATCH_OVERHEAD_BYTES, PARTITIONS_MAX, REPLICAS_DEFAULT, REPLICAS_MAX, RETENTION_HOURS_MAX};
use crate::{Endpoint, Shared};

pub(super) const P_PARTITIONS: ParamDoc =
    ParamDoc::query("partitions", Kind::Integer { min: 1, max: PARTITIONS_MAX }, "number of partitions");
pub(super) const P_RETENTION_HOURS: ParamDoc = ParamDoc::query(
    "retention.hours",
    Kind::Number { min: -1.0, max: RETENTION_HOURS_MAX },
    "how long messages are kept; fractions are allowed, -1 is forever; not given: the broker's default",
);
pub(super) const P_RETENTION_BYTES: ParamDoc = ParamDoc::query(
    "retention.bytes",
    Kind::Integer { min: -1, max: i64::MAX },
    "how many bytes are kept per partition; -1 is no limit; not given: the broker's default",
);
pub(super) const P_PARTITIONER: ParamDoc = ParamDoc::query(
    "partitioner",
    Kind::Word(&["murmur2", "fnv1a"]),
    "how keys choose partitions: as the Java client, or as the 2017 gateway",
);
pub(super) const P_COMPRESSION: ParamDoc = ParamDoc::query(
    "compression",
    Kind::Word(&["none", "gzip", "snappy", "lz4", "zstd"]),
    "of batches on their way to the broker",
);
pub(super) const P_STRIP_2017_TAGS: ParamDoc =
    ParamDoc::query("strip_2017_tags", Kind::Bool, "messages of the 2017 gateway carry tags in front: strip them");
pub(super) const P_MESSAGE_BYTES_MAX: ParamDoc = ParamDoc::query(
    "message_bytes_max",
    Kind::Integer { min: 1, max: MESSAGE_BYTES_MAX_LIMIT as i64 },
    "largest message that may be published",
);
pub(super) const P_HANDOFF: ParamDoc = ParamDoc::query(
    "handoff",
    Kind::Bool,
    "may a gateway keep a publish in its own journal while Kafka is away; the app has to allow it, too",
);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Post,
    path: "/v1/topics/:appid/:topic/:ver",
    operation: "createTopic",
    tag: "topics",
    summary: "Make a topic version, in Kafka too",
    details: "Answered when every broker shows the topic and publishing to it works. A topic that Kafka has already is \
              taken only with `adopt`, as it is; `note` says so. What was interrupted is gone on with by the same call, \
              or by itself.",
    auth: Auth::Write(Resource::Topics),
    params: &[
        P_OWNER,
        P_TOPIC,
        P_VER,
        P_PARTITIONS.or("1"),
        ParamDoc::query(
            "replicas",
            Kind::Integer { min: 1, max: REPLICAS_MAX },
            "copies of each partition; not given: 3, or as many as there are brokers",
        ),
        P_RETENTION_HOURS,
        P_RETENTION_BYTES,
        ParamDoc::query("cluster", NAME, "where to make it; not given: the app's cluster"),
        P_PARTITIONER.or("murmur2"),
        P_COMPRESSION.or("none"),
        P_STRIP_2017_TAGS.or("0"),
        P_MESSAGE_BYTES_MAX.or("1000000"),
        P_HANDOFF.or("1"),
        ParamDoc::query("adopt", Kind::Bool, "take the topic of this name that Kafka has already, with its messages")
            .or("0")
            .for_admins(),
    ],
    request: &[AS_BODY],
    responses: &[
        ResponseDoc::with(
            200,
            "made; 200 and `ok` as in 2017",
            &[ContentDoc::json(
                TOPIC_CHANGED,
                "the topic version with `\"ok\":1`, and `note` if it was adopted",
                Some(TOPIC_CHANGED_EXAMPLE),
            )],
        ),
        ResponseDoc::bare(404, "no such app or cluster"),
        ResponseDoc::bare(
            409,
            "the topic version exists already, or another one that Kafka takes for the same name, or Kafka has a topic of \
             this name that nobody registered (`kafka_topic_exists`)",
        ),
        ResponseDoc::bare(502, "Kafka refuses"),
        ResponseDoc::bare(503, "Kafka or the database cannot be reached; nothing was made")
            .and_headers(&[("Retry-After", "seconds")]),
        ResponseDoc::bare(504, "Kafka has not finished in time; it is gone on with, and trying again is safe"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    partitions: Option<i64>,
    replicas: Option<i64>,
    #[serde(rename = "retention.hours")]
    retention_hours: Option<f64>,
    #[serde(rename = "retention.bytes")]
    retention_bytes: Option<i64>,
    cluster: Option<String>,
    partitioner: Option<String>,
    compression: Option<String>,
    strip_2017_tags: Option<Flag>,
    message_bytes_max: Option<i64>,
    handoff: Option<Flag>,
    adopt: Option<Flag>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    Acting(db): Acting,
    path: TopicPath,
    Given(params): Given<Params>,
) -> Result<Json<Value>, ApiError> {
    let physical = physical_topic_for_creation(&path.owner, &path.name, &path.ver)?;
    let partitions = partitions(params.partitions)?.unwrap_or(1);
    let retention_ms = retention_ms(params.retention_hours)?;
    let retention_bytes = retention_bytes(params.retention_bytes)?;
    let options = options(
        TopicOptions::default(),
        params.partitioner.as_deref(),
        params.compression.as_deref(),
        params.strip_2017_tags,
        params.message_bytes_max,
        params.handoff,
    )?;
    let cluster_named = params.cluster.as_deref().map(ClusterName::new).transpose()?;
    let app = state.db.get_app(&path.owner).await?;
    let cluster = cluster_named.unwrap_or(app.cluster);
    let admin = state.cluster(&cluster)?;
    match state.db.get_topic(&path.owner, &path.name, &path.ver).await {
        Ok(TopicRow { state: TopicState::Creating, .. }) | Err(_) => {}
        Ok(TopicRow { state: found @ TopicState::Deleting, .. }) => {
            let TopicPath { owner, name, ver } = path;
            return Err(AuthDbError::TopicBusy { owner, name, ver, state: found }.into());
        }
        Ok(_) => return Err(AuthDbError::TopicExists { owner: path.owner, name: path.name, ver: path.ver }.into()),
    }
    refuse_collision(&state, &cluster, &path, &physical).await?;
    let replicas = match replicas(params.replicas)? {
        Some(replicas) => replicas,
        None => admin.broker_count().await?.clamp(1, REPLICAS_DEFAULT) as i16,
    };
    let new = NewTopic {
        owner: path.owner,
        name: path.name,
        ver: path.ver,
        cluster,
        options,
        partitions: Some(partitions),
        replicas: Some(replicas as u32),
        retention_ms,
        retention_bytes,
    };
    let row = db.begin_topic(new).await?;
    let made = make(&*db, admin.as_ref(), &row, params.adopt == Some(Flag(true))).await?;
    let doc = &row.doc;
    if !db.activate_topic(doc, Some(made.partitions), Some(made.replicas)).await? {
        tracing::info!(topic = physical, "topic was made by two calls at once");
    }
    let topic = state.db.get_topic(&doc.owner, &doc.name, &doc.ver).await?;
    tracing::info!(topic = physical, cluster = %doc.cluster, adopted = made.note.is_some(), "topic made");
    state.bring_into_force().await;
    let mut value = topic_json(&topic);
    value["ok"] = 1.into();
    if let Some(note) = made.note {
        value["note"] = note.into();
    }
    Ok(Json(value))
}

/// Kafka's metrics take `.` and `_` for the same, so of two names that differ in nothing else a cluster takes one. Kafka
/// knows topics that are not registered here and has the last word; this says the other's name before anything is made.
async fn refuse_collision(
    state: &Shared,
    cluster: &ClusterName,
    path: &TopicPath,
    physical: &str,
) -> Result<(), ApiError> {
    let folded = physical.replace('.', "_");
    for TopicRow { doc, .. } in state.db.similar_topics(cluster, &path.owner, &path.name, &path.ver).await? {
        let other = physical_topic(&doc.owner, &doc.name, &doc.ver);
        if other != physical && other.replace('.', "_") == folded {
            let message = format!("Kafka takes {physical} and {other}, which is there on {cluster}, for the same name");
            return Err(ApiError::new(StatusCode::CONFLICT, "name_collides", message));
        }
    }
    Ok(())
}

struct Made {
    partitions: u32,
    replicas: u32,
    /// Says that it was there before.
    note: Option<String>,
}

/// What Kafka is told to make.
pub(crate) fn kafka_topic(doc: &TopicDoc, replicas: u32) -> kafka_admin::NewTopic {
    let configs = configs(&doc.options, doc.retention_ms, doc.retention_bytes);
    kafka_admin::NewTopic {
        name: physical_topic(&doc.owner, &doc.name, &doc.ver),
        partitions: doc.partitions.unwrap_or(1) as i32,
        replicas: replicas as i16,
        configs: configs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
    }
}

/// From `creating` to a topic in Kafka. What is refused for good is forgotten; what Kafka may have done is gone on with.
async fn make(db: &dyn AuthDb, admin: &dyn TopicAdmin, row: &TopicRow, adopt: bool) -> Result<Made, ApiError> {
    let topic = kafka_topic(&row.doc, row.doc.replicas.unwrap_or(1));
    if !row.was_free {
        match admin.check_topic(&topic).await {
            Ok(()) => db.topic_is_free(&row.doc).await?,
            Err(AdminError::AlreadyExists { .. }) if adopt => return taken(admin, &topic.name).await,
            Err(err) => {
                db.abandon_topic(&row.doc).await?;
                return Err(match err {
                    AdminError::AlreadyExists { topic } => ApiError::new(
                        StatusCode::CONFLICT,
                        "kafka_topic_exists",
                        format!("Kafka has a topic {topic} that is nobody's here; adopt=1 takes it with its messages"),
                    ),
                    err => err.into(),
                });
            }
        }
    }
    match admin.create_topic(&topic).await {
        Ok(()) => Ok(Made { partitions: topic.partitions as u32, replicas: topic.replicas as u32, note: None }),
        // A try before this one made it.
        Err(AdminError::AlreadyExists { .. }) => {
            let found = admin.describe_topic(&topic.name).await?;
            Ok(Made { partitions: found.partitions.len() as u32, replicas: found.replica_count() as u32, note: None })
        }
        Err(err) => {
            if !matches!(err, AdminError::Timeout { .. }) {
                // Definitely not made: by this try, nor by one before whose name was free.
                if row.was_free {
                    tracing::info!(topic = topic.name, %err, "topic is creating and cannot be made now, trying on");
                } else {
                    db.abandon_topic(&row.doc).await?;
                }
            }
            Err(err.into())
        }
    }
}

async fn taken(admin: &dyn TopicAdmin, name: &str) -> Result<Made, ApiError> {
    let found = admin.describe_topic(name).await?;
    let (partitions, replicas) = (found.partitions.len() as u32, found.replica_count() as u32);
    let note = format!(
        "Kafka topic {name} was there already and is adopted as it is: {partitions} partitions, {replicas} replicas"
    );
    Ok(Made { partitions, replicas, note: Some(note) })
}

/// Topic configurations that follow from what was asked; `None`: the broker's default.
pub(super) fn configs(
    options: &TopicOptions,
    retention_ms: Option<i64>,
    retention_bytes: Option<i64>,
) -> Vec<(String, Option<String>)> {
    let mut configs = Vec::new();
    if let Some(ms) = retention_ms {
        configs.push(("retention.ms".to_owned(), Some(ms.to_string())));
    }
    if let Some(bytes) = retention_bytes {
        configs.push(("retention.bytes".to_owned(), Some(bytes.to_string())));
    }
    if options.message_bytes_max > MESSAGE_BYTES_MAX_DEFAULT {
        let batch = i64::from(options.message_bytes_max) + BATCH_OVERHEAD_BYTES;
        configs.push(("max.message.bytes".to_owned(), Some(batch.to_string())));
    }
    configs
}

pub(super) fn partitions(given: Option<i64>) -> Result<Option<u32>, ApiError> {
    within("partitions", given, 1, PARTITIONS_MAX).map(|partitions| partitions.map(|p| p as u32))
}

fn replicas(given: Option<i64>) -> Result<Option<i16>, ApiError> {
    within("replicas", given, 1, REPLICAS_MAX).map(|replicas| replicas.map(|r| r as i16))
}

pub(super) fn retention_bytes(given: Option<i64>) -> Result<Option<i64>, ApiError> {
    if given == Some(0) {
        return Err(ApiError::bad_request("illegal_retention", "retention.bytes is -1 or more than 0"));
    }
    within("retention.bytes", given, -1, i64::MAX)
}

pub(super) fn retention_ms(hours: Option<f64>) -> Result<Option<i64>, ApiError> {
    let Some(hours) = hours else { return Ok(None) };
    if hours == -1.0 {
        return Ok(Some(-1));
    }
    let ms = (hours * 3_600_000.0).round();
    if !(ms >= 1.0 && hours <= RETENTION_HOURS_MAX) {
        let message = format!("retention.hours is -1, or more than 0 and at most {RETENTION_HOURS_MAX}");
        return Err(ApiError::bad_request("illegal_retention", message));
    }
    Ok(Some(ms as i64))
}

pub(super) fn options(
    before: TopicOptions,
    partitioner: Option<&str>,
    compression: Option<&str>,
    strip_2017_tags: Option<Flag>,
    message_bytes_max: Option<i64>,
    handoff: Option<Flag>,
) -> Result<TopicOptions, ApiError> {
    let unknown = |what: &str, word: &str, allowed: Vec<&str>| {
        ApiError::bad_request("illegal_option", format!("{what} {word:?} is none of: {}", allowed.join(", ")))
    };
    let partitioner = match partitioner {
        None => before.partitioner,
        Some(word) => Partitioner::parse(word)
            .ok_or_else(|| unknown("partitioner", word, Partitioner::ALL.map(Partitioner::as_str).to_vec()))?,
    };
    let compression = match compression {
        None => before.compression,
        Some(word) => Compression::parse(word)
            .ok_or_else(|| unknown("compression", word, Compression::ALL.map(Compression::as_str).to_vec()))?,
    };
    let message_bytes_max = within("message_bytes_max", message_bytes_max, 1, i64::from(MESSAGE_BYTES_MAX_LIMIT))?;
    Ok(TopicOptions {
        partitioner,
        compression,
        strip_2017_tags: strip_2017_tags.map_or(before.strip_2017_tags, |flag| flag.0),
        message_bytes_max: message_bytes_max.map_or(before.message_bytes_max, |bytes| bytes as u32),
        handoff: handoff.map_or(before.handoff, |flag| flag.0),
    })
}

fn within(name: &str, given: Option<i64>, min: i64, max: i64) -> Result<Option<i64>, ApiError> {
    match given {
        Some(value) if !(min..=max).contains(&value) => {
            Err(ApiError::bad_request("out_of_range", format!("{name} is {value}, allowed are {min} to {max}")))
        }
        _ => Ok(given),
    }
}
