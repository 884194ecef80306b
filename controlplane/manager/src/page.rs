//! Lists, whole or page by page.
//!
//! A page goes on behind the last row of the one before, by name and not by number: whatever is made or removed meanwhile,
//! no row comes twice, and none that was there all the time is missed. Without `rows` and `cursor` the answer is an array
//! of everything, as it was before there were pages, or a refusal if that is too much.

use axum::Json;
use model::api_doc::{Kind, ParamDoc};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::limits::{LIST_ROWS_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX};

pub(crate) const P_CURSOR: ParamDoc = ParamDoc::query("cursor", Kind::Text, "go on where the page before ended");
pub(crate) const P_ROWS: ParamDoc = ParamDoc::query(
    "rows",
    Kind::Integer { min: 1, max: PAGE_ROWS_MAX },
    "a page of so many rows; without `rows` and `cursor` an array of everything",
);
pub(crate) const TOO_MANY: model::api_doc::ResponseDoc =
    model::api_doc::ResponseDoc::bare(400, "more than 10,000 rows, and no page was asked for: `too_many_rows`");

/// The answer of a list: everything as an array, or a page.
macro_rules! list {
    ($row:expr) => {{
        use model::api_doc::{FieldDoc, Schema};
        const ROWS: Schema = Schema::Array(&$row);
        const PAGE: Schema = Schema::Object(&[
            FieldDoc::must("rows", ROWS, "of the page"),
            FieldDoc::may("cursor", Schema::TEXT, "where the next page begins; left out: this is the last one"),
        ]);
        Schema::AnyOf(&[ROWS, PAGE])
    }};
}
pub(crate) use list;

/// What of a list was asked for. Flattened parameters would not be refused by name, so endpoints repeat the two.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) rows: Option<i64>,
    pub(crate) cursor: Option<String>,
}

/// A page, or all.
pub(crate) struct Page {
    rows_max: usize,
    is_page: bool,
}

impl Asked {
    pub(crate) fn page(&self) -> Result<Page, ApiError> {
        let rows = match self.rows {
            Some(rows) if !(1..=PAGE_ROWS_MAX).contains(&rows) => {
                let message = format!("rows is {rows}, allowed are 1 to {PAGE_ROWS_MAX}");
                return Err(ApiError::bad_request("out_of_range", message));
            }
            rows => rows,
        };
        let is_page = rows.is_some() || self.cursor.is_some();
        let rows_max = if is_page { rows.unwrap_or(PAGE_ROWS_DEFAULT) as usize } else { LIST_ROWS_MAX };
        Ok(Page { rows_max, is_page })
    }

    /// The row that the cursor names, by a parser of its parts.
    pub(crate) fn after<T>(&self, parse: impl FnOnce(&[&str]) -> Option<T>) -> Result<Option<T>, ApiError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let parts: Vec<&str> = cursor.split('/').collect();
        let message = "the cursor is none that a page of this list ended with";
        parse(&parts).map(Some).ok_or_else(|| ApiError::bad_request("bad_cursor", message))
    }
}

impl Page {
    /// Rows to ask for: one more than are answered tells whether there are more.
    pub(crate) fn rows_asked(&self) -> usize {
        self.rows_max + 1
    }

    pub(crate) fn answer<T>(
        &self,
        mut rows: Vec<T>,
        row_json: impl Fn(&T) -> Value,
        cursor: impl Fn(&T) -> String,
    ) -> Result<Json<Value>, ApiError> {
        let has_more = rows.len() > self.rows_max;
        rows.truncate(self.rows_max);
        let shown: Value = rows.iter().map(row_json).collect();
        match self.is_page {
            false if has_more => {
                let message =
                    format!("there are more than {LIST_ROWS_MAX}; ask page by page, with rows={PAGE_ROWS_MAX}");
                Err(ApiError::bad_request("too_many_rows", message))
            }
            false => Ok(Json(shown)),
            true => {
                let mut page = json!({"rows": shown});
                if let Some(last) = rows.last().filter(|_| has_more) {
                    page["cursor"] = cursor(last).into();
                }
                Ok(Json(page))
            }
        }
    }
}
