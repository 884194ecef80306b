//! Tenants from elsewhere, all in one change: an import, and tests with many of them.

use model::Side;
use model::doc::{GrantDoc, SnapshotDoc};
use model::ids::{Generation, PhysicalTopic, TopicVersion};

use super::apps::insert_secret_at;
use super::principals::refuse_principals;
use super::quotas::text;
use super::{SqliteAuthDb, changes};
use crate::audit::Entry;
use crate::{AuthDbError, now_ms};

impl SqliteAuthDb {
    pub(super) async fn import(&self, doc: &SnapshotDoc) -> Result<Generation, AuthDbError> {
        let mut change = self.change().await?;
        change.touched.insert(changes::EVERYBODY.to_owned());
        let now = now_ms();
        for app in &doc.apps {
            refuse_principals(change.conn(), app.id.as_str()).await?;
            sqlx::query(
                "INSERT INTO app (num, id, cluster, enabled, scram_salt, scram_iterations, limits, addresses, handoff,
                                  created_at_ms)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(app.index)
            .bind(app.id.as_str())
            .bind(app.cluster.as_str())
            .bind(app.enabled)
            .bind(&app.scram.salt)
            .bind(app.scram.iterations)
            .bind(text(&app.limits, app.limits.is_none()))
            .bind(text(&app.addresses, app.addresses.is_any()))
            .bind(app.handoff)
            .bind(now)
            .execute(change.conn())
            .await?;
            for (side, pair) in [(Side::Publish, &app.publish), (Side::Subscribe, &app.subscribe)] {
                let num = i64::from(app.index);
                insert_secret_at(change.conn(), num, side, "current", &pair.current).await?;
                if let Some(previous) = &pair.previous {
                    insert_secret_at(change.conn(), num, side, "previous", previous).await?;
                }
            }
        }
        for topic in &doc.topics {
            sqlx::query(
                "INSERT INTO topic (num, app_num, name, ver, cluster, state, partitioner, compression, strip_2017_tags,
                                    message_bytes_max, handoff, partitions, replicas, retention_ms, retention_bytes,
                                    limits, created_at_ms)
                 VALUES (?, (SELECT num FROM app WHERE id = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(topic.index)
            .bind(topic.owner.as_str())
            .bind(topic.name.as_str())
            .bind(topic.ver.as_str())
            .bind(topic.cluster.as_str())
            .bind(if topic.enabled { "active" } else { "disabled" })
            .bind(topic.options.partitioner.as_str())
            .bind(topic.options.compression.as_str())
            .bind(topic.options.strip_2017_tags)
            .bind(topic.options.message_bytes_max)
            .bind(topic.options.handoff)
            .bind(topic.partitions)
            .bind(topic.replicas)
            .bind(topic.retention_ms)
            .bind(topic.retention_bytes)
            .bind(text(&topic.limits, topic.limits.is_none()))
            .bind(now)
            .execute(change.conn())
            .await?;
        }
        for grant in &doc.grants {
            match grant {
                GrantDoc::Subscribe { app, owner, topic, ver } => {
                    sqlx::query(
                        "INSERT INTO subscribe_grant VALUES ((SELECT num FROM app WHERE id = ?),
                                                             (SELECT num FROM app WHERE id = ?), ?, ?, ?)",
                    )
                    .bind(app.as_str())
                    .bind(owner.as_str())
                    .bind(topic.as_str())
                    .bind(ver.as_ref().map_or("", TopicVersion::as_str))
                    .bind(now)
                    .execute(change.conn())
                    .await?;
                }
                GrantDoc::RawPublish { app, cluster, topic } => {
                    sqlx::query("INSERT INTO raw_grant VALUES ((SELECT num FROM app WHERE id = ?), ?, ?, ?)")
                        .bind(app.as_str())
                        .bind(cluster.as_str())
                        .bind(topic.as_ref().map_or("", PhysicalTopic::as_str))
                        .bind(now)
                        .execute(change.conn())
                        .await?;
                }
            }
        }
        change.record(Entry {
            operation: "import",
            app: None,
            subject: format!("{} apps, {} topics, {} grants", doc.apps.len(), doc.topics.len(), doc.grants.len()),
            before: serde_json::Value::Null,
            after: serde_json::Value::Null,
            cascades: Vec::new(),
        });
        change.commit().await
    }
}
