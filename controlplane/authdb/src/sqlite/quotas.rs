//! Limits of apps and topics, and from where apps may be used.

use model::ids::{AppId, TopicName, TopicVersion};
use model::quota::{Limits, Measure};
use model::{Addresses, TopicDoc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::SqliteAuthDb;
use super::apps::app_num;
use super::rows::bad;
use super::topics;
use crate::audit::Entry;
use crate::topics::shown;
use crate::{AppInfo, AuthDbError, TopicRow, TopicState};

impl SqliteAuthDb {
    pub(super) async fn limit_app(&self, id: &AppId, limits: &[(Measure, u64)]) -> Result<AppInfo, AuthDbError> {
        let mut change = self.change().await?;
        let num = app_num(change.conn(), id).await?;
        let row = sqlx::query("SELECT limits FROM app WHERE num = ?").bind(num).fetch_one(change.conn()).await?;
        let before: Limits = column(&row, "app", "limits")?;
        let after = updated(before, limits);
        if after != before {
            sqlx::query("UPDATE app SET limits = ? WHERE num = ?")
                .bind(text(&after, after.is_none()))
                .bind(num)
                .execute(change.conn())
                .await?;
            change.touch(id);
            change.record(Entry::of("app.limit", id, id).before(json!(before)).after(json!(after)));
            change.commit().await?;
        }
        self.get_app(id).await
    }

    pub(super) async fn limit_topic(
        &self,
        owner: &AppId,
        name: &TopicName,
        ver: &TopicVersion,
        limits: &[(Measure, u64)],
    ) -> Result<TopicRow, AuthDbError> {
        let mut change = self.change().await?;
        let row = topics::find(change.conn(), owner, name, ver).await?;
        let state = row.state;
        if matches!(state, TopicState::Creating | TopicState::Deleting) {
            return Err(AuthDbError::TopicBusy { owner: owner.clone(), name: name.clone(), ver: ver.clone(), state });
        }
        let before = row.doc.limits;
        let after = updated(before, limits);
        if after != before {
            sqlx::query("UPDATE topic SET limits = ? WHERE num = ?")
                .bind(text(&after, after.is_none()))
                .bind(row.doc.index)
                .execute(change.conn())
                .await?;
            change.touch(owner);
            let entry = Entry::of("topic.limit", owner, shown(&row.doc));
            change.record(entry.before(json!(before)).after(json!(after)));
            change.commit().await?;
        }
        Ok(TopicRow { doc: TopicDoc { limits: after, ..row.doc }, ..row })
    }

    pub(super) async fn set_addresses(&self, id: &AppId, addresses: &Addresses) -> Result<AppInfo, AuthDbError> {
        let mut change = self.change().await?;
        let num = app_num(change.conn(), id).await?;
        let row = sqlx::query("SELECT addresses FROM app WHERE num = ?").bind(num).fetch_one(change.conn()).await?;
        let before: Addresses = column(&row, "app", "addresses")?;
        if before != *addresses {
            sqlx::query("UPDATE app SET addresses = ? WHERE num = ?")
                .bind(text(addresses, addresses.is_any()))
                .bind(num)
                .execute(change.conn())
                .await?;
            change.touch(id);
            change.record(Entry::of("app.addresses", id, id).before(json!(before)).after(json!(addresses)));
            change.commit().await?;
        }
        self.get_app(id).await
    }
}

fn updated(mut limits: Limits, with: &[(Measure, u64)]) -> Limits {
    for (measure, limit) in with {
        limits.set(*measure, Some(*limit));
    }
    limits
}

/// As it is stored.
pub(super) fn text(value: &impl Serialize, is_none: bool) -> String {
    if is_none { String::new() } else { serde_json::to_string(value).expect("string keys and no failing serializer") }
}

/// What [`text`] made.
pub(super) fn column<T: DeserializeOwned + Default>(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<T, AuthDbError> {
    let text: &str = row.try_get(column)?;
    if text.is_empty() { Ok(T::default()) } else { serde_json::from_str(text).map_err(|err| bad(table, err)) }
}
