//! The list of endpoints, one file each. [`all`] is the only place that routes.

/// A revocation that is not in force everywhere after 5 s: what 200 has, of this schema, and an example of all.
macro_rules! accepted {
    ($schema:expr, $example:expr) => {
        model::api_doc::ResponseDoc::with(
            202,
            "stored, and not in force on every node yet",
            &[ContentDoc::json(
                model::api_doc::Schema::With(&$schema, super::PENDING),
                "what 200 has, and the nodes that lack it",
                Some($example),
            )],
        )
        .and_headers(&[("Location", "where to ask how far it has come")])
    };
}

mod adopt_handoff;
mod change_parked;
mod create_app;
pub(crate) mod create_grant;
mod create_principal;
mod create_token;
pub(crate) mod create_topic;
mod delete_app;
mod delete_grant;
mod delete_principal;
mod delete_tokens;
mod delete_topic;
mod get_app;
mod get_generation;
mod get_kept;
mod get_partitions;
mod get_principal;
mod get_status;
mod get_topic;
mod health;
mod instances;
mod kept;
mod limit_app;
mod limit_topic;
mod list_apps;
mod list_audit;
mod list_clusters;
mod list_grants;
mod list_parked;
mod list_principals;
mod list_topics;
mod one_job;
mod pause_jobs;
mod revoke_secret;
mod rotate_principal_key;
mod rotate_secret;
mod set_addresses;
mod update_app;
mod update_principal;
mod update_topic;
mod wish;

use authdb::{AppInfo, Principal, TopicRow, TopicState};
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use model::api_doc::{ContentDoc, EndpointDoc, FieldDoc, In, Kind, Method, NAME, ParamDoc, Schema, VERSION};
use model::ids::AppId;
use model::limits::{MESSAGE_BYTES_MAX_LIMIT, QUOTA_MAX};
use model::naming::physical_topic;
use model::principals::Role;
use serde_json::{Value, json};

use self::kept::{DelayedJobs, Messages};
use crate::error::ApiError;
use crate::{Endpoint, ManagerState, Shared};

/// In the order of the documentation.
pub(crate) fn all() -> Vec<Endpoint> {
    vec![
        list_apps::endpoint(),
        create_app::endpoint(),
        get_app::endpoint(),
        update_app::endpoint(),
        delete_app::endpoint(),
        limit_app::endpoint(),
        set_addresses::endpoint(),
        rotate_secret::endpoint(),
        revoke_secret::endpoint(),
        list_topics::of_all(),
        list_topics::of_one(),
        get_topic::endpoint(),
        create_topic::endpoint(),
        update_topic::endpoint(),
        limit_topic::endpoint(),
        delete_topic::endpoint(),
        get_partitions::endpoint(),
        list_grants::endpoint(),
        create_grant::endpoint(),
        delete_grant::endpoint(),
        list_principals::endpoint(),
        create_principal::endpoint(),
        get_principal::endpoint(),
        update_principal::endpoint(),
        delete_principal::endpoint(),
        rotate_principal_key::endpoint(),
        create_token::endpoint(),
        delete_tokens::endpoint(),
        get_generation::endpoint(),
        list_audit::endpoint(),
        list_clusters::endpoint(),
        instances::of_all(),
        instances::of_one(),
        wish::drain(),
        wish::undrain(),
        wish::options(),
        wish::log(),
        wish::option_2017(),
        wish::log_2017(),
        get_kept::of::<Messages>(),
        list_parked::of::<Messages>(),
        change_parked::replay::<Messages>(),
        change_parked::drop::<Messages>(),
        adopt_handoff::endpoint(),
        get_kept::of::<DelayedJobs>(),
        list_parked::of::<DelayedJobs>(),
        change_parked::replay::<DelayedJobs>(),
        change_parked::drop::<DelayedJobs>(),
        one_job::show(),
        one_job::delete(),
        one_job::reschedule(),
        one_job::fire(),
        pause_jobs::pause(),
        pause_jobs::resume(),
        pause_jobs::create_2017(),
        get_status::endpoint(),
        health::alive(),
        health::healthz(),
        health::readyz(),
        health::metrics(),
        health::openapi(),
    ]
}

/// Ties a description to its handler: the method comes from the description.
fn endpoint<H, T>(doc: EndpointDoc, handler: H) -> Endpoint
where
    H: Handler<T, Shared>,
    T: 'static,
{
    let filter = match doc.method {
        Method::Get => MethodFilter::GET,
        Method::Put => MethodFilter::PUT,
        Method::Post => MethodFilter::POST,
        Method::Delete => MethodFilter::DELETE,
    };
    Endpoint { doc, route: on(filter, handler) }
}

const P_APPID: ParamDoc = ParamDoc::path("appid", NAME, "the app");
const P_OWNER: ParamDoc = ParamDoc::path("appid", NAME, "the app that owns the topic");
const P_TOPIC: ParamDoc = ParamDoc::path("topic", NAME, "the topic");
const P_VER: ParamDoc = ParamDoc::path("ver", VERSION, "its version");
const P_SIDE: ParamDoc = ParamDoc {
    place: In::Path,
    name: "side",
    kind: Kind::Word(&["publish", "subscribe"]),
    required: true,
    default: None,
    for_admins: false,
    what: "which of the app's two secrets",
};

const P_NAME: ParamDoc = ParamDoc::path("name", NAME, "the principal");
const ROLE: Schema = Schema::Value(Kind::Word(&["admin", "owner", "reader", "node"]));
const PRINCIPAL: Schema = Schema::Object(&[
    FieldDoc::must("name", Schema::Value(NAME), "as it logs in and as the audit log has it"),
    FieldDoc::must("role", ROLE, "what it is for"),
    FieldDoc::must("apps", Schema::Array(&Schema::Value(NAME)), "what an owner owns, or a reader sees"),
    FieldDoc::must("every_app", Schema::FLAG, "does a reader see every app, those to come too"),
    FieldDoc::must("enabled", Schema::FLAG, "may it log in"),
    FieldDoc::must("created_at", Schema::COUNT, "epoch ms"),
    FieldDoc::must("key_at", Schema::COUNT, "since when its key is its key, epoch ms"),
]);
const PRINCIPAL_EXAMPLE: &str = r#"{"name":"shop-team","role":"owner","apps":["shop"],"every_app":false,"enabled":true,
"created_at":1511366400000,"key_at":1511366400000}"#;

const OK: Schema = Schema::Object(&[FieldDoc::must("ok", Schema::Always(1), "")]);
const SIDE: Schema = Schema::Value(Kind::Word(&["publish", "subscribe"]));
const SECRET: Schema = Schema::TEXT;

const APP: Schema = Schema::Object(&[
    FieldDoc::must("appid", Schema::Value(NAME), ""),
    FieldDoc::must("cluster", Schema::Value(NAME), "where its topics are made"),
    FieldDoc::must("enabled", Schema::FLAG, "may it be used"),
    FieldDoc::must("created_at", Schema::COUNT, "epoch ms"),
    FieldDoc::must("limits", LIMITS, "those that are set"),
    FieldDoc::must("addresses", Schema::Array(&Schema::TEXT), "from where it may be used; none: from everywhere"),
    FieldDoc::must("handoff", Schema::FLAG, "may gateways keep what it publishes while Kafka is away"),
    FieldDoc::must("rotating", Schema::Array(&SIDE), "sides whose previous secret still works"),
    FieldDoc::must("secrets", Schema::Array(&LIVE_SECRET), "those that work, of each side the older one first"),
]);
const LIVE_SECRET: Schema = Schema::Object(&[
    FieldDoc::must("side", SIDE, "what it is for"),
    FieldDoc::must("which", Schema::Value(Kind::Word(&["previous", "current"])), "the older or the younger of two"),
    FieldDoc::must("created_at", Schema::COUNT, "epoch ms"),
]);
const LIMIT: Schema = Schema::Value(Kind::Integer { min: 1, max: QUOTA_MAX as i64 });
const LIMITS: Schema = Schema::Object(&[
    FieldDoc::may("publish_messages", LIMIT, "a second"),
    FieldDoc::may("publish_bytes", LIMIT, "a second"),
    FieldDoc::may("subscribe_messages", LIMIT, "a second"),
    FieldDoc::may("subscribe_bytes", LIMIT, "a second"),
    FieldDoc::may("connections", LIMIT, "at one time; of apps only"),
]);
/// Of a delete.
const GONE: Schema = Schema::With(&OK, &[FieldDoc::must("existed", Schema::FLAG, "was there anything")]);
const STATE: Schema = Schema::Value(Kind::Word(&["creating", "active", "disabled", "deleting"]));

const TOPIC: Schema = Schema::Object(&[
    FieldDoc::must("appid", Schema::Value(NAME), "its owner"),
    FieldDoc::must("topic", Schema::Value(NAME), ""),
    FieldDoc::must("ver", Schema::Value(VERSION), ""),
    FieldDoc::must("cluster", Schema::Value(NAME), "where it is"),
    FieldDoc::must("physical", Schema::Value(model::api_doc::PHYSICAL), "its name in Kafka"),
    FieldDoc::must("enabled", Schema::FLAG, "may it be used"),
    FieldDoc::must("state", STATE, "how far it has come; only an active one can be used"),
    FieldDoc::must("limits", LIMITS, "those that are set"),
    FieldDoc::must("partitioner", Schema::Value(create_topic::P_PARTITIONER.kind), ""),
    FieldDoc::must("compression", Schema::Value(create_topic::P_COMPRESSION.kind), ""),
    FieldDoc::must("strip_2017_tags", Schema::FLAG, ""),
    FieldDoc::must(
        "message_bytes_max",
        Schema::Value(Kind::Integer { min: 1, max: MESSAGE_BYTES_MAX_LIMIT as i64 }),
        "largest message that may be published",
    ),
    FieldDoc::must(
        "handoff",
        Schema::FLAG,
        "may gateways keep what is published to it, if its owner's option says so, too",
    ),
    FieldDoc::may("partitions", Schema::COUNT, "as registered; left out: never said"),
    FieldDoc::may("replicas", Schema::COUNT, "likewise"),
    FieldDoc::may("retention_ms", Schema::OFFSET, "-1: for ever; left out: the broker's default"),
    FieldDoc::may("retention_bytes", Schema::OFFSET, "-1: no limit; left out: the broker's default"),
]);
const RATE: Schema = Schema::Value(Kind::Number { min: 0.0, max: 1e15 });
const RATES: Schema = Schema::Object(&[
    FieldDoc::must("publish_messages", RATE, ""),
    FieldDoc::must("publish_bytes", RATE, ""),
    FieldDoc::must("subscribe_messages", RATE, ""),
    FieldDoc::must("subscribe_bytes", RATE, ""),
]);
/// A topic as it is asked for.
const TOPIC_SEEN: Schema = Schema::With(
    &TOPIC,
    &[FieldDoc::must(
        "rates",
        RATES,
        "what goes through it a second, at the gateway that answers, over the last seconds",
    )],
);
/// A topic after it was made or changed.
const TOPIC_CHANGED: Schema = Schema::With(
    &TOPIC,
    &[
        FieldDoc::must("ok", Schema::Always(1), ""),
        FieldDoc::may("note", Schema::TEXT, "what was done beyond what was asked for"),
    ],
);
/// The parameters of a query as a body.
const AS_BODY: ContentDoc =
    ContentDoc::json(Schema::Parameters, "the query's parameters as an object, instead of a query", None);

/// As clients see an app.
fn app_json(app: &AppInfo) -> Value {
    let rotating: Vec<&str> = app.rotating().iter().map(|side| side.as_str()).collect();
    let secrets = app.secrets.iter().map(|secret| {
        let which = if secret.is_previous { "previous" } else { "current" };
        json!({"side": secret.side.as_str(), "which": which, "created_at": secret.created_at_ms})
    });
    json!({
        "appid": app.id,
        "cluster": app.cluster,
        "enabled": app.enabled,
        "created_at": app.created_at_ms,
        "limits": app.limits,
        "addresses": app.addresses,
        "handoff": app.handoff,
        "rotating": rotating,
        "secrets": secrets.collect::<Value>(),
    })
}

/// As clients see a principal.
fn principal_json(principal: &Principal) -> Value {
    json!({
        "name": principal.name,
        "role": principal.role.as_str(),
        "apps": principal.apps,
        "every_app": principal.every_app,
        "enabled": principal.enabled,
        "created_at": principal.created_at_ms,
        "key_at": principal.key_at_ms,
    })
}

/// The role of this name.
fn role(word: &str) -> Result<Role, ApiError> {
    let unknown = || ApiError::bad_request("bad_principal", format!("{word:?} is none of admin, owner, reader, node"));
    Role::parse(word).ok_or_else(unknown)
}

/// Ids of apps that are well formed.
fn app_ids(apps: &[String]) -> Result<Vec<AppId>, ApiError> {
    Ok(apps.iter().map(|app| AppId::new(app)).collect::<Result<_, _>>()?)
}

/// As clients see a topic version. Absent numbers were never said: Kafka's defaults hold.
fn topic_json(row: &TopicRow) -> Value {
    let topic = &row.doc;
    let mut value = json!({
        "appid": topic.owner,
        "topic": topic.name,
        "ver": topic.ver,
        "cluster": topic.cluster,
        "physical": physical_topic(&topic.owner, &topic.name, &topic.ver),
        "enabled": row.state == TopicState::Active,
        "state": row.state.as_str(),
        "limits": topic.limits,
        "partitioner": topic.options.partitioner.as_str(),
        "compression": topic.options.compression.as_str(),
        "strip_2017_tags": topic.options.strip_2017_tags,
        "message_bytes_max": topic.options.message_bytes_max,
        "handoff": topic.options.handoff,
    });
    let numbers = [
        ("partitions", topic.partitions.map(Value::from)),
        ("replicas", topic.replicas.map(Value::from)),
        ("retention_ms", topic.retention_ms.map(Value::from)),
        ("retention_bytes", topic.retention_bytes.map(Value::from)),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            value[name] = number;
        }
    }
    value
}

/// As [`topic_json`], with what goes through it.
fn topic_seen(state: &ManagerState, row: &TopicRow) -> Value {
    let rates = (state.rates)(row.doc.index);
    let tenths = |rate: f64| (rate * 10.0).round() / 10.0;
    let mut value = topic_json(row);
    value["rates"] = json!({
        "publish_messages": tenths(rates.publish_messages),
        "publish_bytes": tenths(rates.publish_bytes),
        "subscribe_messages": tenths(rates.subscribe_messages),
        "subscribe_bytes": tenths(rates.subscribe_bytes),
    });
    value
}

const APP_EXAMPLE: &str = r#"{"appid":"shop","cluster":"main","enabled":true,"created_at":1511366400000,"limits":{},"addresses":[],"handoff":true,"rotating":[],
"secrets":[{"side":"publish","which":"current","created_at":1511366400000}]}"#;
const TOPIC_EXAMPLE: &str = r#"{"appid":"shop","topic":"orders","ver":"v1","cluster":"main",
"physical":"shop.orders.v1","enabled":true,"state":"active","limits":{},"partitions":4,"replicas":3,"partitioner":"murmur2",
"compression":"none","strip_2017_tags":false,"message_bytes_max":1000000,"handoff":true}"#;
const TOPIC_SEEN_EXAMPLE: &str = r#"{"appid":"shop","topic":"orders","ver":"v1","cluster":"main",
"physical":"shop.orders.v1","enabled":true,"state":"active","limits":{},"partitions":4,"replicas":3,
"partitioner":"murmur2","compression":"none","strip_2017_tags":false,"message_bytes_max":1000000,"handoff":true,
"rates":{"publish_messages":12.5,"publish_bytes":4096,"subscribe_messages":0,"subscribe_bytes":0}}"#;
const TOPIC_CHANGED_EXAMPLE: &str = r#"{"appid":"shop","topic":"orders","ver":"v1","cluster":"main",
"physical":"shop.orders.v1","enabled":true,"state":"active","limits":{},"partitions":4,"replicas":3,"partitioner":"murmur2",
"compression":"none","strip_2017_tags":false,"message_bytes_max":1000000,"handoff":true,"ok":1}"#;
const OK_EXAMPLE: &str = r#"{"ok":1}"#;
const GONE_EXAMPLE: &str = r#"{"ok":1,"existed":true}"#;

/// What a 202 has beside what 200 has.
const PENDING: &[FieldDoc] = &[
    FieldDoc::must(
        "generation",
        Schema::AnyOf(&[Schema::TEXT, Schema::Null]),
        "of the change; null: not even that is known",
    ),
    FieldDoc::must("in_force", Schema::FLAG, "does every node have it"),
    FieldDoc::must("lacking", Schema::Array(&Schema::TEXT), "the nodes that lack it"),
];

const GONE_PENDING_EXAMPLE: &str =
    r#"{"ok":1,"existed":true,"generation":"3f2a000000000001-17","in_force":false,"lacking":["kateway 7d1e"]}"#;
