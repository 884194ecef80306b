//! `GET /v1/grants`

use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use model::GrantDoc;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, NAME, ParamDoc, Resource, ResponseDoc};
use model::ids::{AppId, ClusterName, PhysicalTopic, TopicName, TopicVersion};
use serde::Deserialize;
use serde_json::Value;

use super::create_grant::{GRANT, grant_json};
use super::endpoint as tie;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::Query;
use crate::page::{Asked, P_CURSOR, P_ROWS, TOO_MANY, list};
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/grants",
    operation: "listGrants",
    tag: "grants",
    summary: "Grants that the caller sees, of one app or of all",
    details: "Of an app's grants there are seen those to it and those on its topics.",
    auth: Auth::Read(Resource::Grants),
    params: &[ParamDoc::query("appid", NAME, "only grants to this app"), P_ROWS, P_CURSOR],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "the grants",
            &[ContentDoc::json(
                list!(GRANT),
                "an array of grants, or a page of it; each as it can be posted and deleted",
                Some(r#"[{"kind":"raw","appid":"ops","cluster":"main"}]"#),
            )],
        ),
        TOO_MANY,
        ResponseDoc::bare(404, "no such app"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    appid: Option<String>,
    rows: Option<i64>,
    cursor: Option<String>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    caller: Caller,
    Query(params): Query<Params>,
) -> Result<Json<Value>, ApiError> {
    let app = params.appid.as_deref().map(AppId::new).transpose()?;
    if let Some(app) = &app {
        state.db.get_app(app).await?;
    }
    let asked = Asked { rows: params.rows, cursor: params.cursor };
    let page = asked.page()?;
    let after = asked.after(parse_cursor)?;
    let rows = state.db.list_grants(app.as_ref(), &caller.visible, after.as_ref(), page.rows_asked()).await?;
    page.answer(rows, grant_json, cursor)
}

/// `subscribe/APPID/OWNER/TOPIC/VER` or `raw/APPID/CLUSTER/TOPIC`; an empty last part stands for all.
fn cursor(grant: &GrantDoc) -> String {
    match grant {
        GrantDoc::Subscribe { app, owner, topic, ver } => {
            format!("subscribe/{app}/{owner}/{topic}/{}", ver.as_ref().map_or("", TopicVersion::as_str))
        }
        GrantDoc::RawPublish { app, cluster, topic } => {
            format!("raw/{app}/{cluster}/{}", topic.as_ref().map_or("", PhysicalTopic::as_str))
        }
    }
}

fn parse_cursor(parts: &[&str]) -> Option<GrantDoc> {
    fn last<T: FromStr>(text: &str) -> Option<Option<T>> {
        if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
    }
    match *parts {
        ["subscribe", app, owner, topic, ver] => Some(GrantDoc::Subscribe {
            app: AppId::new(app).ok()?,
            owner: AppId::new(owner).ok()?,
            topic: TopicName::new(topic).ok()?,
            ver: last(ver)?,
        }),
        ["raw", app, cluster, topic] => Some(GrantDoc::RawPublish {
            app: AppId::new(app).ok()?,
            cluster: ClusterName::new(cluster).ok()?,
            topic: last(topic)?,
        }),
        _ => None,
    }
}
