//! One request of a tenant costs its shard what its size says, whatever is in it.

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use bytes::{BufMut, BytesMut};
use common::tenant::*;
use kafka_wire::ApiKey;
use kafka_wire::pieces::{put_count, put_string};
use model::Side;
use router::limits::{ASKED_TOPIC_IDS_MAX, TENANT_TOPICS_MAX, UNKNOWN_TOPIC_IDS_MAX};
use router::tenant::ids::TopicIds;
use router::tenant::requests::Turn;

/// Its square would not end in a test's time.
const MANY: usize = TENANT_TOPICS_MAX;

#[test]
fn refusals_in_very_many_groups_are_told_of_at_once() {
    let mut asked = BytesMut::new();
    put_count(&mut asked, true, MANY);
    let mut said = BytesMut::from(&[0; 4][..]);
    put_count(&mut said, true, MANY);
    for at in 0..MANY {
        let group = format!("g{}", at / 2);
        put_string(&mut asked, true, group.as_bytes());
        put_count(&mut asked, true, 1);
        put_string(&mut asked, true, b"zorro.secret.v1");
        // One partition; the ends of topic and group.
        asked.put_slice(&[2, 0, 0, 0, 7, 0, 0]);
        put_string(&mut said, true, format!("app1.{group}").as_bytes());
        // No topic, no error, the group's end.
        said.put_slice(&[1, 0, 0, 0]);
    }
    asked.put_slice(&[0, 0]);
    said.put_slice(&[0]);
    let mut client = Client::new(Side::Subscribe);
    let (out, turn) = client.send(&request(ApiKey::OffsetFetch, 8, 7, &asked), usize::MAX).expect("a request");
    // One request may be larger than what is kept of all.
    assert_eq!((frames(&out).len(), turn), (1, Turn::Room));
    let out = client.receive(&answer(ApiKey::OffsetFetch, 8, 7, &said), usize::MAX).expect("an answer").concat();
    assert_eq!(String::from_utf8_lossy(&out).matches("zorro.secret.v1").count(), MANY);
}

#[test]
fn records_of_very_many_topics_are_counted_at_once() {
    let mut body = BytesMut::from(&[0, 0, 1, 0, 0, 0, 0][..]);
    put_count(&mut body, true, MANY);
    for _ in 0..MANY {
        put_string(&mut body, true, b"orders.v1");
        // One partition with null for records; the ends of partition and topic.
        body.put_slice(&[2, 0, 0, 0, 7, 0, 0, 0]);
    }
    body.put_u8(0);
    let mut client = Client::new(Side::Publish);
    let (out, _) = client.send(&request(ApiKey::Produce, 9, 7, &body), usize::MAX).expect("a request");
    assert_eq!(String::from_utf8_lossy(&out.concat()).matches("app1.orders.v1").count(), MANY);
}

/// Sends the same until no more is taken.
fn fill_up(client: &mut Client, frame: &[u8]) {
    for _ in 0..100 {
        match client.send(frame, usize::MAX).expect("a request").1 {
            Turn::Bytes => assert!(!client.in_flight.is_full()),
            turn => return assert!(turn == Turn::Room && client.in_flight.is_full()),
        }
    }
    panic!("it has all been kept");
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read_from_for_ever() {
    let names = vec![called("zorro.secret.v1"); 10_000];
    let spoken = Spoken { topics: &names, ..Spoken::default() };
    let rule = router::tenant::rules::of(ApiKey::ListOffsets.key()).expect("a rule");
    let frame = request(ApiKey::ListOffsets, 10, 7, &spoken.body(&rule.request, 10));
    let said = answer(ApiKey::ListOffsets, 10, 7, &Spoken::default().body(&rule.response, 10));
    let mut client = Client::new(Side::Subscribe);
    fill_up(&mut client, &frame);
    let (out, turn) = client.send(&frame, usize::MAX).expect("a request");
    assert_eq!((out.len(), turn, client.held_bytes().0), (0, Turn::Room, frame.len()));
    for _ in 0..client.in_flight.count() {
        client.receive(&said, usize::MAX).expect("an answer");
    }
    assert!(client.in_flight.is_empty() && !client.in_flight.is_full());
    let mut out = Vec::new();
    assert_eq!(client.pass_requests(&mut out), Ok(Turn::Bytes));
    assert_eq!(frames(&out).len(), 1, "it goes on where it stood");

    // The same where the proxy answers.
    let mut client = Client::new(Side::Publish);
    let rule = router::tenant::rules::of(ApiKey::OffsetCommit.key()).expect("a rule");
    let frame = request(ApiKey::OffsetCommit, 9, 7, &spoken.body(&rule.request, 9));
    fill_up(&mut client, &frame);
    let count = client.in_flight.count();
    let out = client.receive(&[], 1).expect("answers");
    assert!(frames(&out).len() == count && client.in_flight.is_empty() && !client.in_flight.is_full());
}

fn metadata_of_ids(count: usize) -> bytes::Bytes {
    let mut body = BytesMut::new();
    put_count(&mut body, true, count);
    for at in 0..count {
        body.put_u128(1 << 100 | at as u128);
        body.put_slice(&[0, 0]);
    }
    body.put_slice(&[0, 0, 0]);
    request(ApiKey::Metadata, 12, 7, &body)
}

#[test]
fn ids_are_asked_about_once_and_never_too_many() {
    let mut client = Client::new(Side::Subscribe);
    let (out, turn) = client.send(&metadata_of_ids(ASKED_TOPIC_IDS_MAX), usize::MAX).expect("a request");
    assert_eq!((frames(&out).len(), turn, client.asked_about.len()), (1, Turn::Bytes, ASKED_TOPIC_IDS_MAX));
    client.send(&metadata_of_ids(ASKED_TOPIC_IDS_MAX), usize::MAX).expect("a request");
    assert_eq!(client.asked_about.len(), ASKED_TOPIC_IDS_MAX, "they are known not to be known");
    let mut client = Client::new(Side::Subscribe);
    let err = client.send(&metadata_of_ids(ASKED_TOPIC_IDS_MAX + 1), usize::MAX).expect_err("too many");
    assert_eq!(err.reason(), "malformed_request");
}

#[test]
fn ids_that_clients_make_up_do_not_push_out_those_there_are() {
    let mut known = ids();
    for at in 0..2 * UNKNOWN_TOPIC_IDS_MAX as u128 {
        known.learn_unknown((1 << 100 | at).to_be_bytes());
    }
    assert_eq!(known.name(&ID_ORDERS), Some("app1.orders.v1"));
    let mut found = TopicIds::default();
    found.learn_unknown(ID_ORDERS);
    assert!(found.knows(&ID_ORDERS) && found.name(&ID_ORDERS).is_none());
    found.learn(ID_ORDERS, "app1.orders.v1");
    found.forget_unknown();
    assert_eq!(found.name(&ID_ORDERS), Some("app1.orders.v1"));
}
