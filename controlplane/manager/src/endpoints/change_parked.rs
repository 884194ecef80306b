//! `POST /v1/handoff/replay` and `…/drop`, `POST /v1/jobs/replay` and `…/drop`

use axum::Json;
use axum::extract::State;
use model::api_doc::EndpointDoc;
use model::ids::AppId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint as tie;
use super::kept::{FilterOf, Kept, Selected, given, whose};
use crate::auth::Acting;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::fleet_ask::{Asker, Question};
use crate::input::{JsonBody, Query};
use crate::limits::{SELECTED_RECEIPTS_MAX, SELECTED_RECORDS_MAX};
use crate::parked::{Parking, Selection};
use crate::{Endpoint, Shared};

/// What is to be done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Replay,
    Drop,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    node: Option<String>,
    appid: Option<String>,
}

pub(crate) fn replay<K: Kept>() -> Endpoint {
    endpoint::<K>(K::DOCS.replay, Deed::Replay)
}

pub(crate) fn drop<K: Kept>() -> Endpoint {
    endpoint::<K>(K::DOCS.drop, Deed::Drop)
}

fn endpoint<K: Kept>(doc: EndpointDoc, deed: Deed) -> Endpoint {
    let handle = async move |State(state): State<Shared>,
                             acting: Acting,
                             caller: Caller,
                             asker: Asker,
                             Query(params): Query<Params>,
                             JsonBody(body): JsonBody<K::Body>| {
        change::<K>(&state, deed, doc.path, (acting, caller, asker), params, body).await
    };
    tie(doc, handle)
}

async fn change<K: Kept>(
    state: &Shared,
    deed: Deed,
    path: &'static str,
    (acting, caller, asker): (Acting, Caller, Asker),
    params: Params,
    body: K::Body,
) -> Result<Json<Value>, ApiError> {
    let app = params.appid.as_deref().map(AppId::new).transpose()?;
    let said = serde_json::to_value(&body).expect("a selection has string keys only");
    let selected = selection::<K>(body.into(), app.as_ref(), &caller)?;
    let nodes = state.nodes_to_ask(&asker, params.node.as_deref()).await?;
    let query = app.as_ref().map(|app| ("appid", app.to_string())).into_iter().collect();
    let question = Question { method: "POST", path: path.to_owned(), query, body: Some(said.clone()) };
    let here = async {
        let done = do_here::<K>(state, &acting, deed, app.as_ref(), &selected, &said).await?;
        Ok(json!({"nodes": [done]}))
    };
    let answers = state.ask(&asker, &nodes, &question, here).await?;
    let done = answers.nodes();
    let count: u64 = done.iter().filter_map(|done| done[K::WORDS.count].as_u64()).sum();
    let more = done.iter().any(|done| done["more"] == true);
    let mut answer = json!({"ok": 1, "more": more, "nodes": done, "unreachable": answers.unreachable});
    answer[K::WORDS.count] = count.into();
    Ok(Json(answer))
}

/// At this gateway. That it is about to be done is written down before, so that nothing is done without a row.
async fn do_here<K: Kept>(
    state: &Shared,
    Acting(db): &Acting,
    deed: Deed,
    app: Option<&AppId>,
    selected: &Selection<FilterOf<K>>,
    said: &Value,
) -> Result<Value, ApiError> {
    let store = K::store(state)?;
    let (begins, ends) = match deed {
        Deed::Replay => K::WORDS.replay,
        Deed::Drop => K::WORDS.drop,
    };
    let (app, subject) =
        (app.map_or("", AppId::as_str), format!("{} of kateway {}", K::WORDS.parked, state.fleet.this));
    db.record(begins, app, &subject, Value::Null, said.clone()).await?;
    let done = match deed {
        Deed::Replay => store.replay(selected, SELECTED_RECORDS_MAX).await,
        Deed::Drop => store.discard(selected, SELECTED_RECORDS_MAX).await,
    };
    let done = done.map_err(Into::into)?;
    tracing::info!(operation = ends, app, count = done.count, more = done.more, "{} changed", K::WORDS.parked);
    let mut after = json!({"more": done.more});
    after[K::WORDS.count] = done.count.into();
    if let Err(err) = db.record(ends, app, &subject, said.clone(), after.clone()).await {
        tracing::warn!(%err, operation = ends, "what was done has only the row of its beginning in the audit log");
    }
    after["node"] = state.fleet.this.as_str().into();
    Ok(after)
}

fn selection<K: Kept>(
    selected: Selected<K::Which>,
    app: Option<&AppId>,
    caller: &Caller,
) -> Result<Selection<FilterOf<K>>, ApiError> {
    let refused = |message: String| Err(ApiError::bad_request("bad_selection", message));
    let Selected { ids, which, all } = selected;
    let named = K::WORDS.ids;
    let kinds = [ids.is_some(), !given::<K>(&which).is_empty(), all];
    match kinds.iter().filter(|said| **said).count() {
        0 => return refused(format!("say which: {}", K::WORDS.say_which)),
        1 => {}
        _ => return refused(format!("{named}, all, and what is matched are said one at a time")),
    }
    match ids {
        Some(ids) if ids.is_empty() || ids.len() > SELECTED_RECEIPTS_MAX => {
            refused(format!("there are {} {named}, allowed are 1 to {SELECTED_RECEIPTS_MAX}", ids.len()))
        }
        Some(ids) => Ok(Selection::Ids { apps: whose(app, &caller.visible), ids }),
        None => Ok(Selection::Matching(K::filter(&which, app, &caller.visible)?)),
    }
}
