//! A manager that dies between any two steps of a change: what it left is brought to an end by the next one, database and
//! Kafka agree in the end, and whoever asks again gets what it asked for.

mod harness;

use std::time::{Duration, Instant};

use harness::Manager;
use model::Snapshot;
use serde_json::Value;

/// A change, and what there is of `shop/orders/v1` and its messages once it was made.
struct Change {
    line: &'static str,
    body: &'static str,
    /// Before it: the topic is there.
    topic: bool,
    /// After it, in the database and in Kafka.
    after: (bool, bool),
    /// What the second try is answered.
    again: &'static [u16],
}

const CREATE: &str = "POST /v1/topics/shop/orders/v1?partitions=4";

const CHANGES: &[Change] = &[
    Change { line: CREATE, body: "", topic: false, after: (true, true), again: &[200, 409] },
    Change {
        line: "DELETE /v1/topics/shop/orders/v1?delete_data=1",
        body: "",
        topic: true,
        after: (false, false),
        again: &[200],
    },
    Change { line: "DELETE /v1/topics/shop/orders/v1", body: "", topic: true, after: (false, true), again: &[200] },
    Change {
        line: "PUT /v1/topics/shop/orders/v1?partitions=9&retention.hours=2",
        body: "",
        topic: true,
        after: (true, true),
        again: &[200],
    },
    Change { line: "DELETE /v1/apps/shop?cascade=1", body: "", topic: true, after: (false, true), again: &[200] },
    Change { line: "PUT /v1/apps/shop", body: r#"{"enabled":false}"#, topic: true, after: (true, true), again: &[200] },
];

/// More places than any change has.
const PLACES_MAX: usize = 30;

async fn shop(change: &Change) -> Manager {
    let manager = Manager::start().await;
    let answer = manager.raw("POST /v1/apps", &[], r#"{"appid":"shop","cluster":"main"}"#).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    if change.topic {
        assert_eq!(manager.raw(CREATE, &[], "").await.status, 200);
    }
    manager
}

async fn state(manager: &Manager) -> Value {
    manager.raw("GET /v1/topics/shop/orders/v1", &[], "").await.json()["state"].clone()
}

/// What there is of the topic, in the database and in Kafka.
async fn found(manager: &Manager) -> (bool, bool) {
    let in_kafka = manager.fake.topics.lock().unwrap().contains_key("shop.orders.v1");
    (!state(manager).await.is_null(), in_kafka)
}

/// Kills a manager at the n-th place of a change and looks what becomes of it. False: the change has no such place.
async fn killed_at(change: &Change, place: usize) -> bool {
    let manager = shop(change).await;
    manager.fake.steps.die_at(place);
    let died = tokio::select! {
        () = manager.fake.steps.dead() => true,
        answer = manager.raw(change.line, &[], change.body) => {
            assert_eq!(answer.status, 200, "{}: {}", change.line, answer.body);
            false
        }
    };
    if !died {
        assert_eq!(found(&manager).await, change.after, "{} is as it should be when nobody dies", change.line);
        return false;
    }
    let what = format!("{} killed at place {place}", change.line);
    let manager = manager.killed_and_started().await;
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let state = state(&manager).await;
        if state != "creating" && state != "deleting" {
            break;
        }
        assert!(Instant::now() < until, "{what}: it is {state} for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (known, in_kafka) = found(&manager).await;
    assert!(in_kafka || !known, "{what}: clients find a topic that Kafka does not have");
    assert!(change.topic || known == in_kafka, "{what}: {known} in the database, {in_kafka} in Kafka");
    let again = manager.raw(change.line, &[], change.body).await;
    assert!(change.again.contains(&again.status), "{what}, asked again: {} {}", again.status, again.body);
    assert_eq!(found(&manager).await, change.after, "{what}, asked again");
    if change.line.starts_with("PUT /v1/topics") {
        assert_eq!(manager.fake.topics.lock().unwrap()["shop.orders.v1"].partitions, 9, "{what}");
        assert_eq!(manager.raw("GET /v1/topics/shop/orders/v1", &[], "").await.json()["partitions"], 9, "{what}");
    }
    let snapshot = Snapshot::build(manager.db.load().await.unwrap()).unwrap();
    let is_seen = snapshot.topic("shop", "orders", "v1").is_some();
    assert_eq!(is_seen, change.after.0, "{what}: what clients see");
    true
}

#[tokio::test]
async fn a_manager_that_dies_between_any_two_steps_of_a_change_leaves_nothing_that_the_next_does_not_finish() {
    for change in CHANGES {
        let tries: Vec<_> = (0..PLACES_MAX).map(|place| killed_at(change, place)).collect();
        let mut places = 0;
        for died in futures_join(tries).await {
            places += usize::from(died);
        }
        assert!((1..PLACES_MAX).contains(&places), "{}: died at {places} places", change.line);
    }
}

/// All of them at the same time.
async fn futures_join(all: Vec<impl Future<Output = bool>>) -> Vec<bool> {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut done = vec![None; all.len()];
    std::future::poll_fn(|context| {
        for (one, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(result) = one.as_mut().poll(context)
            {
                *done = Some(result);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
