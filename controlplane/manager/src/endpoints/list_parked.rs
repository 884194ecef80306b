//! `GET /v1/handoff/parked` and `GET /v1/jobs/parked`: gateway after gateway, in the order of their ids, so that a page goes on
//! where the one before ended although each has a list of its own.

use axum::Json;
use axum::extract::State;
use model::ids::AppId;
use serde::Deserialize;
use serde_json::Value;

use super::endpoint as tie;
use super::kept::{Kept, given};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::fleet_ask::Asker;
use crate::fleet_pages::{Pages, Part};
use crate::input::Query;
use crate::parked::Parking;
use crate::{Endpoint, Shared};

/// Beside what the kind has; names that neither has are refused before ([`crate::shell::check_query`]).
#[derive(Deserialize)]
struct Params {
    node: Option<String>,
    appid: Option<String>,
    cursor: Option<String>,
    rows: Option<i64>,
}

pub(crate) fn of<K: Kept>() -> Endpoint {
    tie(K::DOCS.list, handle::<K>)
}

async fn handle<K: Kept>(
    State(state): State<Shared>,
    caller: Caller,
    asker: Asker,
    Query(params): Query<Params>,
    Query(which): Query<K::Which>,
) -> Result<Json<Value>, ApiError> {
    let Params { node, appid, cursor, rows } = params;
    let app = appid.as_deref().map(AppId::new).transpose()?;
    let filter = K::filter(&which, app.as_ref(), &caller.visible)?;
    let mut query = given::<K>(&which);
    query.extend(app.as_ref().map(|app| ("appid", app.to_string())));
    let nodes = state.nodes_to_ask(&asker, node.as_deref()).await?;
    let here = |after: Option<String>, room| -> Part<'_> {
        let (state, filter) = (&state, &filter);
        Box::pin(async move {
            let page = K::store(state)?.parked(filter, after.as_deref(), room).await.map_err(Into::into)?;
            Ok((page.rows.iter().map(|row| K::row(&state.fleet.this, row)).collect(), page.cursor))
        })
    };
    let pages = Pages { path: K::DOCS.list.path, query, rows, cursor };
    state.page_of_nodes(&asker, &nodes, pages, here).await.map(Json)
}
