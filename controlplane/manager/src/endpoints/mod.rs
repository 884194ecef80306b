//! The list of endpoints, one file each. [`all`] is the only place that routes.

mod create_app;
mod create_grant;
mod create_topic;
mod delete_app;
mod delete_grant;
mod delete_topic;
mod get_app;
mod get_partitions;
mod get_topic;
mod health;
mod list_apps;
mod list_clusters;
mod list_grants;
mod list_topics;
mod revoke_secret;
mod rotate_secret;
mod update_app;
mod update_topic;

use authdb::AppInfo;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use model::Side;
use model::api_doc::{EndpointDoc, In, Kind, Method, ParamDoc};
use model::doc::TopicDoc;
use model::naming::physical_topic;
use serde_json::{Value, json};

use crate::{Endpoint, Shared};

/// In the order of the documentation.
pub(crate) fn all() -> Vec<Endpoint> {
    vec![
        list_apps::endpoint(),
        create_app::endpoint(),
        get_app::endpoint(),
        update_app::endpoint(),
        delete_app::endpoint(),
        rotate_secret::endpoint(),
        revoke_secret::endpoint(),
        list_topics::of_all(),
        list_topics::of_one(),
        get_topic::endpoint(),
        create_topic::endpoint(),
        update_topic::endpoint(),
        delete_topic::endpoint(),
        get_partitions::endpoint(),
        list_grants::endpoint(),
        create_grant::endpoint(),
        delete_grant::endpoint(),
        list_clusters::endpoint(),
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

const NAME: Kind = Kind::Pattern("^[A-Za-z0-9_-]{1,64}$");
const VERSION: Kind = Kind::Pattern("^v[0-9]{1,9}$");

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
    what: "which of the app's two secrets",
};

/// As clients see an app.
fn app_json(app: &AppInfo) -> Value {
    let rotating: Vec<&str> = app.rotating.iter().map(|side: &Side| side.as_str()).collect();
    json!({
        "appid": app.id,
        "cluster": app.cluster,
        "enabled": app.enabled,
        "created_at": app.created_at_ms,
        "rotating": rotating,
    })
}

/// As clients see a topic version. Absent numbers were never said: Kafka's defaults hold.
fn topic_json(topic: &TopicDoc) -> Value {
    let mut value = json!({
        "appid": topic.owner,
        "topic": topic.name,
        "ver": topic.ver,
        "cluster": topic.cluster,
        "physical": physical_topic(&topic.owner, &topic.name, &topic.ver),
        "enabled": topic.enabled,
        "partitioner": topic.options.partitioner.as_str(),
        "compression": topic.options.compression.as_str(),
        "strip_2017_tags": topic.options.strip_2017_tags,
        "message_bytes_max": topic.options.message_bytes_max,
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

const APP_EXAMPLE: &str =
    r#"{"appid":"shop","cluster":"main","enabled":true,"created_at":1511366400000,"rotating":[]}"#;
const TOPIC_EXAMPLE: &str = r#"{"appid":"shop","topic":"orders","ver":"v1","cluster":"main",
"physical":"shop.orders.v1","enabled":true,"partitions":4,"replicas":3,"partitioner":"murmur2",
"compression":"none","strip_2017_tags":false,"message_bytes_max":1000000}"#;
const OK_EXAMPLE: &str = r#"{"ok":1}"#;
