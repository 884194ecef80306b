//! `GET /v1/audit`

use authdb::{AuditFilter, AuditRow, Outcome};
use axum::Json;
use axum::extract::State;
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, NAME, ParamDoc, Resource, ResponseDoc, Schema,
};
use model::ids::AppId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint as tie;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::Query;
use crate::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};
use crate::{Endpoint, Shared};

const ROW: Schema = Schema::Object(&[
    FieldDoc::must("num", Schema::COUNT, "grows from row to row"),
    FieldDoc::must("at", Schema::COUNT, "epoch ms"),
    FieldDoc::must("actor", Schema::TEXT, "who did it"),
    FieldDoc::must("request_id", Schema::TEXT, "of the request that asked for it"),
    FieldDoc::must("operation", Schema::TEXT, "what it was"),
    FieldDoc::must("outcome", Schema::Value(Kind::Word(&["done", "denied"])), "was it done"),
    FieldDoc::must("subject", Schema::TEXT, "what it was done to"),
    FieldDoc::must("cascades", Schema::Array(&Schema::TEXT), "what went along"),
    FieldDoc::may("appid", Schema::TEXT, "the app it is about"),
    FieldDoc::may("before", Schema::Any, "how it was"),
    FieldDoc::may("after", Schema::Any, "how it is"),
    FieldDoc::may("generation", Schema::TEXT, "of the change"),
]);
const PAGE: Schema = Schema::Object(&[
    FieldDoc::must("rows", Schema::Array(&ROW), "the newest first"),
    FieldDoc::may("cursor", Schema::COUNT, "where the next page begins"),
]);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/audit",
    operation: "listAudit",
    tag: "audit",
    summary: "Who changed what, and who was refused, the newest first",
    details: "A row is written in the change's own transaction. `before` and `after` hold no secrets and no hashes. The \
              actor is the principal; `app:` and its id of an app; `oidc:` and the subject of a token of another issuer; the \
              address of somebody whose login was refused; `system` of what a process does by itself. What \
              happened to Kafka clients at a proxy (`kafka_login_failed`, `kafka_login_limited`, `kafka_login_refused`, \
              `kafka_session_revoked`, `kafka_groups_deleted`, `kafka_offsets_deleted`) stands under the time when it \
              happened, and `after` says at which node, to whom and how often. Who does not see every app sees what is \
              about theirs.",
    auth: Auth::Read(Resource::Audit),
    params: &[
        ParamDoc::query("appid", NAME, "only what is about this app"),
        ParamDoc::query("actor", Kind::Text, "only what this one did"),
        ParamDoc::query("operation", Kind::Text, "only this: `app.create`, `topic.delete`, `secret.rotate`, …"),
        ParamDoc::query("outcome", Kind::Word(&["done", "denied"]), "only what was done, or refused"),
        ParamDoc::query("from", Kind::Integer { min: 0, max: i64::MAX }, "not before this time, epoch ms"),
        ParamDoc::query("to", Kind::Integer { min: 0, max: i64::MAX }, "before this time, epoch ms"),
        ParamDoc::query("cursor", Kind::Integer { min: 1, max: i64::MAX }, "go on where the page before ended"),
        ParamDoc::query("rows", Kind::Integer { min: 1, max: PAGE_ROWS_MAX }, "rows of a page").or("100"),
    ],
    request: &[],
    responses: &[ResponseDoc::with(
        200,
        "a page of the log",
        &[ContentDoc::json(
            PAGE,
            "the rows, and `cursor` if there are more",
            Some(concat!(
                r#"{"rows":[{"num":7,"at":1511366400000,"actor":"admin","request_id":"5f2c","operation":"grant.delete","#,
                r#""outcome":"done","appid":"audit","subject":"audit may subscribe to shop/orders/v1","#,
                r#""before":{"kind":"subscribe"},"cascades":[],"generation":"3f2a000000000001-17"}],"cursor":7}"#
            )),
        )],
    )],
};
const _: () = assert!(PAGE_ROWS_DEFAULT == 100, "as the document says");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    appid: Option<String>,
    actor: Option<String>,
    operation: Option<String>,
    outcome: Option<String>,
    from: Option<i64>,
    to: Option<i64>,
    cursor: Option<i64>,
    rows: Option<i64>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    caller: Caller,
    Query(params): Query<Params>,
) -> Result<Json<Value>, ApiError> {
    let within = |name: &str, given: Option<i64>, min: i64, max: i64| match given {
        Some(value) if !(min..=max).contains(&value) => {
            Err(ApiError::bad_request("out_of_range", format!("{name} is {value}, allowed are {min} to {max}")))
        }
        given => Ok(given),
    };
    let rows_max = within("rows", params.rows, 1, PAGE_ROWS_MAX)?.unwrap_or(PAGE_ROWS_DEFAULT) as usize;
    let outcome = params.outcome.as_deref().map(|word| {
        Outcome::parse(word)
            .ok_or_else(|| ApiError::bad_request("bad_query", format!("outcome is done or denied, not {word:?}")))
    });
    let filter = AuditFilter {
        app: params.appid.as_deref().map(AppId::new).transpose()?.map(String::from),
        actor: params.actor,
        operation: params.operation,
        outcome: outcome.transpose()?,
        from_ms: within("from", params.from, 0, i64::MAX)?,
        to_ms: within("to", params.to, 0, i64::MAX)?,
        before: within("cursor", params.cursor, 1, i64::MAX)?.map(|num| num as u64),
    };
    let rows = state.db.audit(&filter, &caller.visible, rows_max).await?;
    let mut page = json!({"rows": rows.iter().map(row_json).collect::<Value>()});
    if let Some(last) = rows.last().filter(|_| rows.len() == rows_max) {
        page["cursor"] = last.num.into();
    }
    Ok(Json(page))
}

fn row_json(row: &AuditRow) -> Value {
    let mut value = json!({
        "num": row.num,
        "at": row.at_ms,
        "actor": row.actor,
        "request_id": row.request_id,
        "operation": row.operation,
        "outcome": row.outcome.as_str(),
        "subject": row.subject,
        "cascades": row.cascades,
    });
    let optional = [
        ("appid", (!row.app.is_empty()).then(|| row.app.clone().into())),
        ("before", (!row.before.is_null()).then(|| row.before.clone())),
        ("after", (!row.after.is_null()).then(|| row.after.clone())),
        ("generation", row.generation.map(|generation| generation.to_string().into())),
    ];
    for (name, found) in optional {
        if let Some(found) = found {
            value[name] = found;
        }
    }
    value
}
