//! `PUT /v1/apps/:appid/addresses`

use axum::extract::State;
use axum::response::Response;
use model::Addresses;
use model::addresses::AddressRange;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Listener, Method, ResponseDoc, Schema};
use serde::Deserialize;

use super::{APP, APP_EXAMPLE, P_APPID, app_json, endpoint as tie};
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::{AppPath, JsonBody};
use crate::{Endpoint, Shared};

const CHANGE: Schema = Schema::Object(&[FieldDoc::must(
    "addresses",
    Schema::Array(&Schema::TEXT),
    "addresses and ranges, as 192.0.2.7, 10.1.0.0/16 or 2001:db8::/32; none: from everywhere",
)]);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Put,
    path: "/v1/apps/:appid/addresses",
    operation: "setAppAddresses",
    tag: "apps",
    summary: "Set from where an app may be used",
    details: "Replaces the list. From elsewhere right credentials are 403 `address_not_allowed`; polls and batches that are \
              under way end with it. An address is that of the connection, as the gateway sees it.",
    auth: Auth::Admin,
    params: &[P_APPID],
    request: &[ContentDoc::json(CHANGE, "the list", Some(r#"{"addresses":["10.1.0.0/16","192.0.2.7"]}"#))],
    responses: &[
        ResponseDoc::with(200, "set", &[ContentDoc::json(APP, "the app as it is now", Some(APP_EXAMPLE))]),
        accepted!(
            APP,
            r#"{"appid":"shop","cluster":"main","enabled":true,"created_at":1511366400000,"limits":{},
"addresses":["10.1.0.0/16"],"handoff":true,"rotating":[],"secrets":[],
"generation":"3f2a000000000001-17","in_force":false,"lacking":["kateway 7d1e"]}"#
        ),
        ResponseDoc::bare(400, "no list of ranges of addresses"),
        ResponseDoc::bare(404, "no such app"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    addresses: Vec<String>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    Acting(db): Acting,
    AppPath(id): AppPath,
    JsonBody(body): JsonBody<Body>,
) -> Result<Response, ApiError> {
    let ranges = body.addresses.iter().map(|text| text.parse()).collect::<Result<Vec<AddressRange>, _>>();
    let addresses =
        ranges.and_then(Addresses::new).map_err(|err| ApiError::bad_request("bad_address", err.to_string()))?;
    let app = db.set_addresses(&id, &addresses).await?;
    tracing::info!(app = %id, %addresses, "addresses of an app set");
    Ok(state.revoke().await.answer(app_json(&app)))
}
