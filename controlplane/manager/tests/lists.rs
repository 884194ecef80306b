//! Lists page by page, while others change what is listed.

mod harness;

use std::collections::BTreeSet;

use authdb::NewApp;
use harness::Manager;
use model::ids::{AppId, ClusterName, TopicName, TopicVersion};
use model::quota::Limits;
use model::{GrantDoc, SnapshotDoc, TopicDoc, TopicOptions};
use serde_json::Value;

const APPS: usize = 60;
const TOPICS: usize = 40;

fn app(index: usize) -> AppId {
    AppId::new(&format!("app-{index:03}")).unwrap()
}

/// Apps with topics, and grants of both kinds: 2,400 topics, 2,400 grants.
async fn crowded() -> Manager {
    let manager = Manager::start().await;
    let cluster = ClusterName::new("main").unwrap();
    for index in 0..APPS {
        let (id, cluster) = (app(index), cluster.clone());
        let new = NewApp { id, cluster, publish: None, subscribe: None, reuse: false };
        manager.db.create_app(new).await.unwrap();
    }
    let mut doc = SnapshotDoc::default();
    for index in 0..APPS * TOPICS {
        let (owner, topic) = (app(index / TOPICS), index % TOPICS);
        // v1, v2, v10, v11: versions are in the order of their numbers.
        let name = TopicName::new(&format!("t-{}", topic / 4)).unwrap();
        let ver = TopicVersion::new(["v1", "v2", "v10", "v11"][topic % 4]).unwrap();
        doc.topics.push(TopicDoc {
            index: index as u32 + 1,
            owner: owner.clone(),
            name: name.clone(),
            ver: ver.clone(),
            cluster: cluster.clone(),
            enabled: true,
            options: TopicOptions::default(),
            partitions: None,
            replicas: None,
            retention_ms: None,
            retention_bytes: None,
            limits: Limits::default(),
        });
        let topic_of_kafka = Some(format!("raw-{topic}").parse().unwrap()).filter(|_| topic != 3);
        doc.grants.push(match topic % 4 {
            3 => GrantDoc::RawPublish { app: owner, cluster: cluster.clone(), topic: topic_of_kafka },
            2 => GrantDoc::Subscribe { app: app((index / TOPICS + 1) % APPS), owner, topic: name, ver: None },
            _ => GrantDoc::Subscribe { app: app((index / TOPICS + 7) % APPS), owner, topic: name, ver: Some(ver) },
        });
    }
    manager.db.import(&doc).await.unwrap();
    manager
}

async fn page(manager: &Manager, path: &str, rows: usize, cursor: Option<&str>) -> (Vec<String>, Option<String>) {
    let mark = if path.contains('?') { '&' } else { '?' };
    let cursor = cursor.map_or(String::new(), |cursor| format!("&cursor={cursor}"));
    let answer = manager.raw(&format!("GET {path}{mark}rows={rows}{cursor}"), &[], "").await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    let page = answer.json();
    let rows = page["rows"].as_array().unwrap().iter().map(Value::to_string).collect();
    (rows, page["cursor"].as_str().map(str::to_owned))
}

async fn all_pages(manager: &Manager, path: &str, rows: usize) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let (page, next) = page(manager, path, rows, cursor.as_deref()).await;
        assert!(page.len() == rows || next.is_none(), "{path}: only the last page is short");
        all.extend(page);
        assert!(all.len() <= 2 * APPS * TOPICS, "{path}: it does not come to its end");
        cursor = next;
        if cursor.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn pages_of_any_size_make_the_whole_list_in_its_order() {
    let manager = crowded().await;
    let paths = ["/v1/apps", "/v1/topics", "/v1/topics/app-007", "/v1/grants", "/v1/grants?appid=app-007"];
    for path in paths {
        let whole = manager.raw(&format!("GET {path}"), &[], "").await.json();
        let whole: Vec<String> = whole.as_array().expect("an array").iter().map(Value::to_string).collect();
        for rows in [7, 40, 999, 1_000] {
            assert_eq!(all_pages(&manager, path, rows).await, whole, "{path} rows={rows}");
        }
        // Exactly as many as there are: there is no further page.
        if whole.len() <= 1_000 {
            assert_eq!(page(&manager, path, whole.len(), None).await, (whole, None), "{path}");
        }
    }
}

#[tokio::test]
async fn while_rows_come_and_go_none_comes_twice_and_none_that_stays_is_missed() {
    let manager = crowded().await;
    let stays = |row: &String| !row.contains("app-010") && !row.contains("new-");
    for path in ["/v1/apps", "/v1/topics", "/v1/grants"] {
        let before: Vec<String> = all_pages(&manager, path, 1_000).await.into_iter().filter(stays).collect();
        let (mut seen, mut cursor, mut round) = (Vec::new(), None, 0);
        loop {
            let (rows, next) = page(&manager, path, 13, cursor.as_deref()).await;
            seen.extend(rows);
            assert!(seen.len() <= 2 * APPS * TOPICS, "{path}: it does not come to its end");
            cursor = next;
            if cursor.is_none() {
                break;
            }
            // Before and behind the cursor, and what it stands on.
            round += 1;
            for id in [format!("aaa-new-{round}"), format!("zzz-new-{round}")] {
                let new = AppId::new(&id).unwrap();
                let cluster = ClusterName::new("main").unwrap();
                let new = NewApp { id: new, cluster, publish: None, subscribe: None, reuse: true };
                let _ = manager.db.create_app(new).await;
            }
            if cursor.as_ref().is_some_and(|cursor| cursor.contains("app-010")) {
                let _ = manager.db.delete_app(&app(10), true).await;
            }
        }
        let distinct: BTreeSet<&String> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "{path}: none comes twice");
        let seen: Vec<String> = seen.iter().filter(|row| stays(row)).cloned().collect();
        assert_eq!(seen, before, "{path}: none is missed, and their order stays");
    }
    assert!(manager.db.get_app(&app(10)).await.is_err(), "what a cursor stood on was removed");
}

#[tokio::test]
async fn a_page_that_cannot_be_is_refused() {
    let manager = Manager::start().await;
    let rows = [
        ("/v1/apps?rows=0", "out_of_range"),
        ("/v1/topics?rows=1001", "out_of_range"),
        ("/v1/apps?rows=x", "bad_query"),
        ("/v1/apps?cursor=a/b", "bad_cursor"),
        ("/v1/apps?cursor=%27--", "bad_cursor"),
        ("/v1/topics?cursor=shop", "bad_cursor"),
        ("/v1/topics?cursor=shop/orders/1", "bad_cursor"),
        ("/v1/grants?cursor=shop/orders/v1", "bad_cursor"),
        ("/v1/grants?cursor=", "bad_cursor"),
        ("/v1/grants?page=2", "unknown_parameter"),
    ];
    for (path, code) in rows {
        let answer = manager.raw(&format!("GET {path}"), &[], "").await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some(code)), "{path}: {}", answer.body);
    }
}
