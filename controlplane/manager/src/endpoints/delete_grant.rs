//! `DELETE /v1/grants`

use axum::extract::State;
use axum::response::Response;
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, Kind, Listener, Method, NAME, PHYSICAL, ParamDoc, Resource, ResponseDoc, VERSION,
};
use serde_json::json;

use super::create_grant::{BODY, Grant};
use super::{GONE, GONE_EXAMPLE, GONE_PENDING_EXAMPLE, endpoint as tie};
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::Given;
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Delete,
    path: "/v1/grants",
    operation: "deleteGrant",
    tag: "grants",
    summary: "Take a grant back",
    details: "Names exactly the grant that was made, in the body or, for clients that cannot send one, in the query: \
              taking back one version does not touch a grant for every version. Idempotent: 200 too when there is no \
              such grant. Polls that wait on it end.",
    auth: Auth::Write(Resource::Grants),
    params: &[
        ParamDoc::query("kind", Kind::Word(&["subscribe", "raw"]), "which kind of grant"),
        ParamDoc::query("appid", NAME, "who was granted"),
        ParamDoc::query("owner", NAME, "subscribe: the topic's owner"),
        ParamDoc::query("topic", PHYSICAL, "the topic"),
        ParamDoc::query("ver", VERSION, "subscribe: the version"),
        ParamDoc::query("cluster", NAME, "raw: the cluster"),
    ],
    request: &[BODY],
    responses: &[
        ResponseDoc::with(
            200,
            "gone, on every node",
            &[ContentDoc::json(GONE, "whether there was one", Some(GONE_EXAMPLE))],
        ),
        accepted!(GONE, GONE_PENDING_EXAMPLE),
    ],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    Acting(db): Acting,
    Given(grant): Given<Grant>,
) -> Result<Response, ApiError> {
    let grant = grant.parse()?;
    let existed = db.revoke(&grant).await?;
    if existed {
        tracing::info!(%grant, "taken back");
    }
    // Also when it was gone already: a retry of a call whose answer was lost is told the same truth.
    Ok(state.revoke().await.answer(json!({"ok": 1, "existed": existed})))
}
