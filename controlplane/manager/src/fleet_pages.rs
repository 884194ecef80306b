//! A list that every gateway has a part of, page by page: gateway after gateway, in the order of their ids, so that a page goes
//! on where the one before ended. A cursor is a gateway's id, a slash, and the cursor of its own list.

use std::future::Future;
use std::pin::Pin;

use axum::http::StatusCode;
use model::api_doc::{Kind, ParamDoc};
use serde_json::{Value, json};

use crate::ManagerState;
use crate::error::ApiError;
use crate::fleet_ask::{Answers, Asker, Nodes, Question};
use crate::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};

pub(crate) const P_ROWS: ParamDoc =
    ParamDoc::query("rows", Kind::Integer { min: 1, max: PAGE_ROWS_MAX }, "rows of a page").or("100");
const _: () = assert!(PAGE_ROWS_DEFAULT == 100, "as the document says");

/// What is asked for, beside whose.
pub(crate) struct Pages {
    pub(crate) path: &'static str,
    /// As every gateway is asked, but for where and how much.
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) rows: Option<i64>,
    pub(crate) cursor: Option<String>,
}

/// This gateway's own part of a page: its rows, and where it goes on.
pub(crate) type Part<'s> = Pin<Box<dyn Future<Output = Result<(Vec<Value>, Option<String>), ApiError>> + Send + 's>>;

impl ManagerState {
    /// `here`: this gateway's rows behind a cursor of its own list, and at most so many.
    pub(crate) async fn page_of_nodes<'s>(
        &self,
        asker: &Asker,
        nodes: &Nodes,
        pages: Pages,
        here: impl Fn(Option<String>, usize) -> Part<'s> + Send + Sync,
    ) -> Result<Value, ApiError> {
        let Pages { path, query, rows, cursor } = pages;
        let rows_max = match rows.unwrap_or(PAGE_ROWS_DEFAULT) {
            rows if (1..=PAGE_ROWS_MAX).contains(&rows) => rows as usize,
            rows => {
                let message = format!("rows is {rows}, allowed are 1 to {PAGE_ROWS_MAX}");
                return Err(ApiError::bad_request("out_of_range", message));
            }
        };
        let bad = || ApiError::bad_request("bad_cursor", "the cursor is none that a page of this list ended with");
        let (from, mut inner) = match &cursor {
            None => ("", ""),
            Some(cursor) => cursor.split_once('/').ok_or_else(bad)?,
        };
        // A gateway that is gone meanwhile is behind us: what it had is told after it was adopted.
        let ids: Vec<&str> = nodes.ids().filter(|id| *id >= from).collect();
        let (mut page, mut next, mut found) = (Vec::new(), None, Answers::default());
        for (at, id) in ids.iter().enumerate() {
            let after = std::mem::take(&mut inner);
            let after = Some(after).filter(|after| *id == from && !after.is_empty()).map(str::to_owned);
            let room = rows_max - page.len();
            let mut query = query.clone();
            query.push(("rows", room.to_string()));
            query.extend(after.as_ref().map(|after| ("cursor", format!("{id}/{after}"))));
            let question = Question { method: "GET", path: path.to_owned(), query, body: None };
            let part = here(after, room);
            let here = async {
                let (rows, cursor) = part.await?;
                Ok(json!({"rows": rows, "cursor": cursor.map(|cursor| format!("{id}/{cursor}"))}))
            };
            match self.ask_one(asker, nodes, id, &question, here).await {
                Err(err) if nodes.is_one() || err.status == StatusCode::BAD_REQUEST => return Err(err),
                Err(err) => found.take(id, Err(err)),
                Ok(mut answer) => {
                    if let Value::Array(rows) = answer["rows"].take() {
                        page.extend(rows);
                    }
                    next = answer["cursor"].as_str().map(str::to_owned);
                }
            }
            if next.is_none() && page.len() >= rows_max {
                next = ids.get(at + 1).map(|id| format!("{id}/"));
            }
            if next.is_some() {
                break;
            }
        }
        let mut answer = json!({"rows": page, "unreachable": found.unreachable});
        if let Some(cursor) = next {
            answer["cursor"] = cursor.into();
        }
        Ok(answer)
    }
}
