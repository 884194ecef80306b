//! What is wished of a node: `PUT /v1/instances/:id/{drain,undrain,log,options}`, and as 2017 had it for the node that
//! answers, `PUT /v1/options/:option/:value` and `PUT /v1/log/:level`.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::response::Response;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, ParamDoc, ResponseDoc, Schema};
use serde::Deserialize;

use super::endpoint as tie;
use super::instances::{P_ID, STATE};
use crate::auth::Acting;
use crate::error::ApiError;
use crate::fleet::Change;
use crate::input::{JsonBody, path};
use crate::{Endpoint, Shared};

const LOG_LEVEL: &str = "log.level";

const OBEYED: Schema = Schema::Object(&[
    FieldDoc::must("ok", Schema::Always(1), ""),
    FieldDoc::must("id", Schema::TEXT, "the node"),
    FieldDoc::must("revision", Schema::COUNT, "of the wish that it obeys"),
    FieldDoc::must("state", STATE, ""),
]);
const PENDING: Schema = Schema::Object(&[
    FieldDoc::must("ok", Schema::Always(1), ""),
    FieldDoc::must("id", Schema::TEXT, "the node"),
    FieldDoc::must("revision", Schema::COUNT, "of the wish"),
    FieldDoc::must("in_force", Schema::FLAG, "does the node obey it"),
    FieldDoc::must("lacking", Schema::Array(&Schema::TEXT), "the node, as long as it does not"),
]);

const RESPONSES: &[ResponseDoc] = &[
    ResponseDoc::with(
        200,
        "the node obeys",
        &[ContentDoc::json(
            OBEYED,
            "how it is now",
            Some(r#"{"ok":1,"id":"5f0c9a3e71d2b684","revision":2,"state":"serving"}"#),
        )],
    ),
    ResponseDoc::with(
        202,
        "wished, and the node has not said yet that it obeys",
        &[ContentDoc::json(
            PENDING,
            "who lacks it",
            Some(
                r#"{"ok":1,"id":"5f0c9a3e71d2b684","revision":2,"in_force":false,"lacking":["kateway 5f0c9a3e71d2b684"]}"#,
            ),
        )],
    )
    .and_headers(&[("Location", "where to ask whether it does")]),
    ResponseDoc::bare(404, "no such node is registered"),
    ResponseDoc::bare(409, "it cannot obey, or somebody else wished something at the same time"),
    ResponseDoc::bare(503, "the registry or the database is away"),
];

const DRAIN: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Put,
    path: "/v1/instances/:id/drain",
    operation: "drainInstance",
    tag: "instances",
    summary: "Keep new traffic from a node",
    details: "`/readyz` and `/alive` of the node fail from now on, and the registry says `draining`; what comes all the \
              same is served, and the process goes on. A node that starts again is not drained any more.",
    auth: Auth::Admin,
    params: &[P_ID],
    request: &[],
    responses: RESPONSES,
};

const UNDRAIN: EndpointDoc = EndpointDoc {
    path: "/v1/instances/:id/undrain",
    operation: "undrainInstance",
    summary: "Let new traffic come to a drained node again",
    details: "",
    ..DRAIN
};

const OPTIONS: EndpointDoc = EndpointDoc {
    path: "/v1/instances/:id/options",
    operation: "changeInstanceOptions",
    summary: "Change options of a running node",
    details: "Configuration keys that a SIGHUP obeys, too (`kateway config-reference` says which), with values as a flag has them. \
              They lie over the configuration until they are taken back or the process ends.",
    request: &[ContentDoc::json(
        Schema::Map(&Schema::AnyOf(&[Schema::TEXT, Schema::Null])),
        "what changes, by key; null: as it is configured. Options left out stay as they are",
        Some(r#"{"limits.connections_per_app":"500","drain.delay":null}"#),
    )],
    ..DRAIN
};

const LOG: EndpointDoc = EndpointDoc {
    path: "/v1/instances/:id/log",
    operation: "setInstanceLog",
    summary: "Change what a running node logs",
    details: "The same as the option `log.level`.",
    request: &[ContentDoc::json(
        Schema::Object(&[FieldDoc::must("level", Schema::TEXT, "a filter, as the key log.level has it")]),
        "the filter",
        Some(r#"{"level":"info,kateway=debug"}"#),
    )],
    ..DRAIN
};

const OPTION_2017: EndpointDoc = EndpointDoc {
    path: "/v1/options/:option/:value",
    operation: "setOption",
    summary: "Change an option of the node that answers, as 2017 asked for it",
    details: "The options are those of `/v1/instances/:id/options`, where the same can be asked for any node.",
    params: &[ParamDoc::path("option", Kind::Text, "its key"), ParamDoc::path("value", Kind::Text, "as a flag has it")],
    ..DRAIN
};

const LOG_2017: EndpointDoc = EndpointDoc {
    path: "/v1/log/:level",
    operation: "setLog",
    summary: "Change what the node that answers logs, as 2017 asked for it",
    details: "",
    params: &[ParamDoc::path("level", Kind::Text, "a filter, as the key log.level has it")],
    ..DRAIN
};

pub(crate) fn drain() -> Endpoint {
    tie(DRAIN, |state: State<Shared>, db: Acting, Id(id): Id| async move {
        wish(&state, &db, &id, Change::Drain(true)).await
    })
}

pub(crate) fn undrain() -> Endpoint {
    tie(UNDRAIN, |state: State<Shared>, db: Acting, Id(id): Id| async move {
        wish(&state, &db, &id, Change::Drain(false)).await
    })
}

pub(crate) fn options() -> Endpoint {
    type Body = BTreeMap<String, Option<String>>;
    tie(OPTIONS, |state: State<Shared>, db: Acting, Id(id): Id, JsonBody(body): JsonBody<Body>| async move {
        wish(&state, &db, &id, Change::Options(body)).await
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Level {
    level: String,
}

pub(crate) fn log() -> Endpoint {
    tie(LOG, |state: State<Shared>, db: Acting, Id(id): Id, JsonBody(body): JsonBody<Level>| async move {
        wish(&state, &db, &id, one(LOG_LEVEL, &body.level)).await
    })
}

pub(crate) fn option_2017() -> Endpoint {
    tie(OPTION_2017, |state: State<Shared>, db: Acting, Path((key, value)): Path<(String, String)>| async move {
        wish(&state, &db, &state.fleet.this, one(&key, &value)).await
    })
}

pub(crate) fn log_2017() -> Endpoint {
    tie(LOG_2017, |state: State<Shared>, db: Acting, Path(level): Path<String>| async move {
        wish(&state, &db, &state.fleet.this, one(LOG_LEVEL, &level)).await
    })
}

fn one(key: &str, value: &str) -> Change {
    Change::Options(BTreeMap::from([(key.to_owned(), Some(value.to_owned()))]))
}

async fn wish(state: &Shared, db: &Acting, id: &str, change: Change) -> Result<Response, ApiError> {
    state.fleet.wish(&*db.0, id, change).await
}

/// `:id` of a path. Looked for among those that are registered, so any text will do.
struct Id(String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        path::<String, S>(parts, state).await.map(|Path(id)| Id(id))
    }
}
