//! `DELETE /v1/apps/:appid`

use axum::extract::State;
use axum::response::Response;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, ParamDoc, ResponseDoc, Schema};
use model::naming::physical_topic;
use serde::Deserialize;
use serde_json::json;

use super::{GONE, P_APPID, endpoint as tie};
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::{AppPath, Flag, Query};
use crate::{Endpoint, Shared};

const GONE_APP: Schema = Schema::With(
    &GONE,
    &[FieldDoc::must("left_in_kafka", Schema::Array(&Schema::TEXT), "Kafka topics that stay, with their messages")],
);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Delete,
    path: "/v1/apps/:appid",
    operation: "deleteApp",
    tag: "apps",
    summary: "Remove an app with its secrets and all grants to it and on it",
    details: "Idempotent: 200 too when there is no such app. Its topics in Kafka stay, with their messages, and so do \
              its consumer groups: while any do, the id stays reserved.",
    auth: Auth::Admin,
    params: &[
        P_APPID,
        ParamDoc::query("cascade", Kind::Bool, "remove the registration of the topics it owns as well").or("0"),
    ],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "gone, on every node",
            &[ContentDoc::json(
                GONE_APP,
                "whether there was one, and the Kafka topics that stay",
                Some(r#"{"ok":1,"existed":true,"left_in_kafka":["shop.orders.v1"]}"#),
            )],
        ),
        accepted!(
            GONE_APP,
            r#"{"ok":1,"existed":true,"left_in_kafka":[],"generation":"3f2a000000000001-17","in_force":false,
"lacking":["kateway 7d1e"]}"#
        ),
        ResponseDoc::bare(409, "it still owns topics and `cascade` is not set"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    cascade: Option<Flag>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    Acting(db): Acting,
    AppPath(id): AppPath,
    Query(params): Query<Params>,
) -> Result<Response, ApiError> {
    let gone = db.delete_app(&id, params.cascade == Some(Flag(true))).await?;
    if let Some(topics) = &gone {
        tracing::info!(app = %id, topics = topics.len(), "app removed");
    }
    let left: Vec<String> =
        gone.iter().flatten().map(|row| physical_topic(&row.doc.owner, &row.doc.name, &row.doc.ver)).collect();
    let body = json!({"ok": 1, "existed": gone.is_some(), "left_in_kafka": left});
    Ok(state.revoke().await.answer(body))
}
