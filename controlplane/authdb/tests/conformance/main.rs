//! What every tenants' database promises: the docstrings of [`AuthDb`], held. A database is added as [`Sqlite`] is here, by
//! a [`Database`] and its line in the macro. What only one of them does is tested in a file of its own: `tests/sqlite.rs`.

mod admin;
mod apps;
mod atomicity;
mod audit;
mod changes;
mod generations;
mod grants;
mod isolation;
mod pages;
mod principals;
mod quotas;
mod topics;

use std::sync::Arc;

use authdb::{AuthDb, CreatedApp, NewApp, NewTopic, SqliteAuthDb};
use model::doc::{GrantDoc, SnapshotDoc};
use model::ids::{AppId, ClusterName, TopicName, TopicVersion};
use model::topic_options::TopicOptions;
use model::{Credentials, PlainSecret, Side, Snapshot, authenticate};

/// A database that nobody has used yet. Dropped, it is gone.
trait Database {
    async fn fresh() -> Self;

    /// A handle as one more process would have: it shares nothing with the others but the database.
    async fn open(&self) -> Arc<dyn AuthDb>;
}

struct Sqlite(tempfile::TempDir);

impl Database for Sqlite {
    async fn fresh() -> Self {
        Sqlite(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Arc<dyn AuthDb> {
        Arc::new(SqliteAuthDb::open(self.0.path().join("tenants.db").to_str().unwrap()).await.unwrap())
    }
}

macro_rules! conformance {
    ($($file:ident { $($name:ident)* })*) => {
        mod sqlite {
            $(mod $file {
                $(#[tokio::test] async fn $name() {
                    crate::$file::$name(crate::Fixture::<crate::Sqlite>::new().await).await
                })*
            })*
        }
    };
}

conformance! {
    admin {
        of_many_first_starts_one_makes_the_admin
    }
    apps {
        an_app_is_made_with_secrets_that_work_for_http_and_for_kafka_clients
        apps_are_listed_by_id_and_are_what_they_were_told_to_be
        two_secrets_live_during_a_rotation_and_a_third_needs_to_be_told_which_one_dies
        a_deleted_app_leaves_no_secret_grant_or_number_behind
        an_id_whose_app_left_things_in_kafka_is_given_again_only_on_purpose
    }
    topics {
        a_topic_keeps_everything_that_was_said_about_it
        a_topic_is_seen_by_clients_while_it_is_active_or_disabled_and_no_longer
        topics_are_listed_by_owner_name_and_the_number_of_their_version
        names_that_kafka_would_take_for_one_another_are_found
    }
    quotas {
        limits_and_addresses_are_set_one_by_one_seen_by_snapshots_and_written_down
        what_is_no_app_topic_or_change_changes_nothing
    }
    grants {
        grants_are_listed_by_kind_and_grantee_and_of_one_app_alone
        grants_of_a_deleted_topic_do_not_come_back_with_a_new_one
    }
    principals {
        a_principal_is_what_it_was_told_to_be_and_proves_it_with_its_key
        a_name_is_one_callers
        apps_that_do_not_fit_a_role_are_refused
        an_app_that_is_made_again_is_nobodys
        who_does_not_see_everything_is_read_only_what_is_theirs
        tokens_have_one_key_until_it_is_renewed
    }
    pages {
        pages_of_any_size_make_the_list_and_go_on_behind_what_is_gone
    }
    generations {
        every_change_moves_the_generation_by_one_and_nothing_else_moves_it
        a_database_older_than_it_was_seen_goes_on_in_a_history_of_its_own
    }
    changes {
        changes_applied_to_what_was_are_what_is
        changes_that_are_too_many_or_of_another_history_are_not_told
        what_a_change_takes_from_another_app_is_among_the_changes
        an_import_is_one_change_with_everything_in_it
    }
    audit {
        every_change_is_written_down_as_whose_it_was_and_nothing_else_is
        the_log_is_read_from_its_newest_row_by_what_is_asked_for
        the_log_is_read_on_from_a_number_whole_and_in_order
        what_happened_at_nodes_has_one_row_however_often_it_is_told
    }
    atomicity {
        a_call_that_cannot_be_done_says_why_and_leaves_everything_as_it_was
        a_call_that_is_dropped_on_its_way_was_done_whole_or_not_at_all_and_holds_nobody_up
    }
    isolation {
        what_one_process_changed_every_other_one_sees
        a_snapshot_loaded_in_a_storm_of_changes_is_exactly_one_generation
        a_closed_handle_opens_again
    }
}

/// A handle, and what tests ask of it.
struct Fixture<D> {
    db: Arc<dyn AuthDb>,
    database: D,
}

impl<D: Database> Fixture<D> {
    async fn new() -> Self {
        let database = D::fresh().await;
        Self { db: database.open().await, database }
    }

    async fn app(&self, id: &str) -> CreatedApp {
        self.db.create_app(new_app(id)).await.unwrap()
    }

    async fn topic(&self, owner: &str, name: &str, ver: &str) {
        self.db.create_topic(new_topic(owner, name, ver)).await.unwrap();
    }

    async fn generation(&self) -> u64 {
        self.db.generation().await.unwrap().number
    }

    async fn snapshot(&self) -> Snapshot {
        Snapshot::build(self.db.load().await.unwrap()).unwrap()
    }

    async fn opens(&self, app: &str, key: &PlainSecret, side: Side) -> bool {
        let credentials = Credentials { app, key: key.expose().as_bytes() };
        authenticate(&self.snapshot().await, &credentials, side).is_ok()
    }
}

/// What is loaded, without when.
async fn loaded(db: &dyn AuthDb) -> SnapshotDoc {
    SnapshotDoc { made_at_ms: 0, ..db.load().await.unwrap() }
}

fn id(text: &str) -> AppId {
    AppId::new(text).unwrap()
}

fn main_cluster() -> ClusterName {
    ClusterName::new("main").unwrap()
}

fn new_app(text: &str) -> NewApp {
    NewApp { id: id(text), cluster: main_cluster(), publish: None, subscribe: None, reuse: false }
}

fn topic_name(owner: &str, name: &str, ver: &str) -> (AppId, TopicName, TopicVersion) {
    (id(owner), TopicName::new(name).unwrap(), TopicVersion::new(ver).unwrap())
}

fn new_topic(owner: &str, name: &str, ver: &str) -> NewTopic {
    let (owner, name, ver) = topic_name(owner, name, ver);
    NewTopic {
        owner,
        name,
        ver,
        cluster: main_cluster(),
        options: TopicOptions::default(),
        partitions: Some(4),
        replicas: Some(1),
        retention_ms: None,
        retention_bytes: Some(-1),
    }
}

fn subscribe(app: &str, owner: &str, name: &str, ver: Option<&str>) -> GrantDoc {
    GrantDoc::Subscribe {
        app: id(app),
        owner: id(owner),
        topic: TopicName::new(name).unwrap(),
        ver: ver.map(|v| TopicVersion::new(v).unwrap()),
    }
}
