//! [`AuthDb`] for SQLite: each operation is a method of the same name in the file of its rows.
//!
//! Methods of the type come before those of the trait, so `self.create_app(…)` below is the former. Where it is missing,
//! the compiler says that the function calls itself for ever.

use std::pin::Pin;
use std::sync::Arc;

use model::doc::{ChangesDoc, GrantDoc, SnapshotDoc, TopicDoc};
use model::ids::{AppId, ClusterName, Generation, PrincipalName, TopicName, TopicVersion};
use model::principals::Visible;
use model::quota::Measure;
use model::secrets::PlainSecret;
use model::{Addresses, ReportedEvent, Side};
use serde_json::Value;

use super::SqliteAuthDb;
use crate::{
    Actor, Admin, Answer, AppInfo, AppLogin, AppUpdate, AuditFilter, AuditRow, AuthDb, CreatedApp, NewApp,
    NewPrincipal, NewTopic, Principal, PrincipalLogin, PrincipalUpdate, Retired, Rotation, TokenKey, TopicRow,
    TopicUpdate,
};

impl AuthDb for SqliteAuthDb {
    fn acting(&self, actor: Actor) -> Arc<dyn AuthDb> {
        Arc::new(self.acting(actor))
    }

    fn has_seen(&self, generation: Generation) {
        self.has_seen(generation);
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.close())
    }

    fn generation(&self) -> Answer<'_, Generation> {
        Box::pin(self.generation())
    }

    fn load(&self) -> Answer<'_, SnapshotDoc> {
        Box::pin(self.load())
    }

    fn load_changes(&self, since: Generation) -> Answer<'_, Option<ChangesDoc>> {
        Box::pin(self.load_changes(since))
    }

    fn import<'a>(&'a self, doc: &'a SnapshotDoc) -> Answer<'a, Generation> {
        Box::pin(self.import(doc))
    }

    fn create_app(&self, new: NewApp) -> Answer<'_, CreatedApp> {
        Box::pin(self.create_app(new))
    }

    fn list_apps<'a>(
        &'a self,
        visible: &'a Visible,
        after: Option<&'a AppId>,
        rows_max: usize,
    ) -> Answer<'a, Vec<AppInfo>> {
        Box::pin(self.list_apps(visible, after, rows_max))
    }

    fn get_app<'a>(&'a self, id: &'a AppId) -> Answer<'a, AppInfo> {
        Box::pin(self.get_app(id))
    }

    fn update_app<'a>(&'a self, id: &'a AppId, update: AppUpdate) -> Answer<'a, AppInfo> {
        Box::pin(self.update_app(id, update))
    }

    fn limit_app<'a>(&'a self, id: &'a AppId, limits: &'a [(Measure, u64)]) -> Answer<'a, AppInfo> {
        Box::pin(self.limit_app(id, limits))
    }

    fn set_addresses<'a>(&'a self, id: &'a AppId, addresses: &'a Addresses) -> Answer<'a, AppInfo> {
        Box::pin(self.set_addresses(id, addresses))
    }

    fn delete_app<'a>(&'a self, id: &'a AppId, cascade: bool) -> Answer<'a, Option<Vec<TopicRow>>> {
        Box::pin(self.delete_app(id, cascade))
    }

    fn retired_app<'a>(&'a self, id: &'a AppId) -> Answer<'a, Option<Retired>> {
        Box::pin(self.retired_app(id))
    }

    fn rotate_secret<'a>(
        &'a self,
        id: &'a AppId,
        side: Side,
        chosen: Option<PlainSecret>,
        how: Rotation,
    ) -> Answer<'a, PlainSecret> {
        Box::pin(self.rotate_secret(id, side, chosen, how))
    }

    fn reset_secrets<'a>(
        &'a self,
        id: &'a AppId,
        publish: &'a PlainSecret,
        subscribe: &'a PlainSecret,
    ) -> Answer<'a, ()> {
        Box::pin(self.reset_secrets(id, publish, subscribe))
    }

    fn revoke_previous<'a>(&'a self, id: &'a AppId, side: Side) -> Answer<'a, bool> {
        Box::pin(self.revoke_previous(id, side))
    }

    fn begin_topic(&self, new: NewTopic) -> Answer<'_, TopicRow> {
        Box::pin(self.begin_topic(new))
    }

    fn topic_is_free<'a>(&'a self, topic: &'a TopicDoc) -> Answer<'a, ()> {
        Box::pin(self.topic_is_free(topic))
    }

    fn activate_topic<'a>(
        &'a self,
        topic: &'a TopicDoc,
        partitions: Option<u32>,
        replicas: Option<u32>,
    ) -> Answer<'a, bool> {
        Box::pin(self.activate_topic(topic, partitions, replicas))
    }

    fn abandon_topic<'a>(&'a self, topic: &'a TopicDoc) -> Answer<'a, ()> {
        Box::pin(self.abandon_topic(topic))
    }

    fn similar_topics<'a>(
        &'a self,
        cluster: &'a ClusterName,
        owner: &'a AppId,
        name: &'a TopicName,
        ver: &'a TopicVersion,
    ) -> Answer<'a, Vec<TopicRow>> {
        Box::pin(self.similar_topics(cluster, owner, name, ver))
    }

    fn unfinished_topics(&self) -> Answer<'_, Vec<TopicRow>> {
        Box::pin(self.unfinished_topics())
    }

    fn list_topics<'a>(
        &'a self,
        owner: Option<&'a AppId>,
        visible: &'a Visible,
        after: Option<(&'a AppId, &'a TopicName, &'a TopicVersion)>,
        rows_max: usize,
    ) -> Answer<'a, Vec<TopicRow>> {
        Box::pin(self.list_topics(owner, visible, after, rows_max))
    }

    fn get_topic<'a>(&'a self, owner: &'a AppId, name: &'a TopicName, ver: &'a TopicVersion) -> Answer<'a, TopicRow> {
        Box::pin(self.get_topic(owner, name, ver))
    }

    fn update_topic<'a>(
        &'a self,
        owner: &'a AppId,
        name: &'a TopicName,
        ver: &'a TopicVersion,
        update: TopicUpdate,
    ) -> Answer<'a, TopicRow> {
        Box::pin(self.update_topic(owner, name, ver, update))
    }

    fn limit_topic<'a>(
        &'a self,
        owner: &'a AppId,
        name: &'a TopicName,
        ver: &'a TopicVersion,
        limits: &'a [(Measure, u64)],
    ) -> Answer<'a, TopicRow> {
        Box::pin(self.limit_topic(owner, name, ver, limits))
    }

    fn begin_delete_topic<'a>(&'a self, topic: &'a TopicDoc) -> Answer<'a, ()> {
        Box::pin(self.begin_delete_topic(topic))
    }

    fn delete_topic<'a>(
        &'a self,
        owner: &'a AppId,
        name: &'a TopicName,
        ver: &'a TopicVersion,
        data_is_gone: bool,
    ) -> Answer<'a, bool> {
        Box::pin(self.delete_topic(owner, name, ver, data_is_gone))
    }

    fn grant<'a>(&'a self, grant: &'a GrantDoc) -> Answer<'a, bool> {
        Box::pin(self.grant(grant))
    }

    fn revoke<'a>(&'a self, grant: &'a GrantDoc) -> Answer<'a, bool> {
        Box::pin(self.revoke(grant))
    }

    fn list_grants<'a>(
        &'a self,
        app: Option<&'a AppId>,
        visible: &'a Visible,
        after: Option<&'a GrantDoc>,
        rows_max: usize,
    ) -> Answer<'a, Vec<GrantDoc>> {
        Box::pin(self.list_grants(app, visible, after, rows_max))
    }

    fn admin(&self) -> Answer<'_, Option<Admin>> {
        Box::pin(self.admin())
    }

    fn create_admin<'a>(&'a self, appid: &'a AppId, chosen: Option<PlainSecret>) -> Answer<'a, Option<PlainSecret>> {
        Box::pin(self.create_admin(appid, chosen))
    }

    fn reset_admin<'a>(&'a self, appid: &'a AppId, key: &'a PlainSecret) -> Answer<'a, ()> {
        Box::pin(self.reset_admin(appid, key))
    }

    fn create_principal(&self, new: NewPrincipal) -> Answer<'_, (Principal, PlainSecret)> {
        Box::pin(self.create_principal(new))
    }

    fn list_principals(&self) -> Answer<'_, Vec<Principal>> {
        Box::pin(self.list_principals())
    }

    fn get_principal<'a>(&'a self, name: &'a PrincipalName) -> Answer<'a, Principal> {
        Box::pin(self.get_principal(name))
    }

    fn update_principal<'a>(&'a self, name: &'a PrincipalName, update: PrincipalUpdate) -> Answer<'a, Principal> {
        Box::pin(self.update_principal(name, update))
    }

    fn rotate_principal_key<'a>(&'a self, name: &'a PrincipalName) -> Answer<'a, PlainSecret> {
        Box::pin(self.rotate_principal_key(name))
    }

    fn delete_principal<'a>(&'a self, name: &'a PrincipalName) -> Answer<'a, bool> {
        Box::pin(self.delete_principal(name))
    }

    fn principal_login<'a>(&'a self, name: &'a str) -> Answer<'a, Option<PrincipalLogin>> {
        Box::pin(self.principal_login(name))
    }

    fn app_login<'a>(&'a self, id: &'a str) -> Answer<'a, Option<AppLogin>> {
        Box::pin(self.app_login(id))
    }

    fn token_key(&self) -> Answer<'_, Option<TokenKey>> {
        Box::pin(self.token_key())
    }

    fn begin_token<'a>(&'a self, jti: &'a str, expires_at_ms: i64) -> Answer<'a, TokenKey> {
        Box::pin(self.begin_token(jti, expires_at_ms))
    }

    fn renew_token_key(&self) -> Answer<'_, ()> {
        Box::pin(self.renew_token_key())
    }

    fn audit<'a>(
        &'a self,
        filter: &'a AuditFilter,
        visible: &'a Visible,
        rows_max: usize,
    ) -> Answer<'a, Vec<AuditRow>> {
        Box::pin(self.audit(filter, visible, rows_max))
    }

    fn audit_after(&self, num: u64, rows_max: usize) -> Answer<'_, Vec<AuditRow>> {
        Box::pin(self.audit_after(num, rows_max))
    }

    fn record<'a>(
        &'a self,
        operation: &'static str,
        app: &'a str,
        subject: &'a str,
        before: Value,
        after: Value,
    ) -> Answer<'a, ()> {
        Box::pin(self.record(operation, app, subject, before, after))
    }

    fn record_events<'a>(&'a self, events: &'a [ReportedEvent]) -> Answer<'a, usize> {
        Box::pin(self.record_events(events))
    }

    fn record_denial<'a>(&'a self, operation: &'a str, app: &'a str, subject: &'a str) -> Answer<'a, ()> {
        Box::pin(self.record_denial(operation, app, subject))
    }
}
