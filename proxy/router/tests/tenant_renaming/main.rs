//! What a broker gets of a tenant's request, and the tenant of its answer, is as if decoded, substituted and encoded: for every
//! API of the rules that is read whole, every version, and whatever pieces bytes arrive in.
//!
//! kafka-protocol is the judge: it knows nothing of shapes and edits. What a name means is told by a table here, not by the
//! model. Seven versions are newer, or older, than kafka-protocol knows; the last test walks those by our own shapes.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../common/mod.rs"]
mod common;
#[macro_use]
mod harness;

mod groups;
mod positions;
mod records;
mod topics;
mod transactions;

use kafka_wire::ApiKey;
use model::Side;
use router::tenant::rename::Called;
use router::tenant::rules::{self, Need};

use crate::harness::*;

#[test]
fn versions_that_kafka_protocol_does_not_know_are_renamed_by_our_own_shapes() {
    for (api, version) in UNKNOWN {
        let rule = rules::of(api.key()).expect("a rule");
        let side = if rule.need == Need::Publish { Side::Publish } else { Side::Subscribe };
        let by_id = matches!(api, ApiKey::OffsetCommit | ApiKey::OffsetFetch | ApiKey::TxnOffsetCommit);
        let has_topics = !rule.request.topics.is_empty();
        let (asked, kept, cut): (Vec<Called>, Vec<Called>, &[&str]) = match by_id {
            true => (
                [ID_SECRET, ID_ORDERS, ID_UNKNOWN, ID_PRICES].map(Called::Id).into(),
                [ID_ORDERS, ID_PRICES].map(Called::Id).into(),
                &["id 31", "100", "id 7f", "100"],
            ),
            false => (
                ["zorro.secret.v1", "orders.v1", "off.v1", "friend.prices.v1"].map(called).into(),
                ["app1.orders.v1", "friend.prices.v1"].map(called).into(),
                &["“zorro.secret.v1”", "29", "“off.v1”", "29"],
            ),
        };
        for piece_bytes in [1, 7, 64, 4096] {
            let what = format!("{api} v{version} in pieces of {piece_bytes}");
            let mut client = Client::new(side);
            let body = Spoken { topics: &asked, ..Spoken::default() }.body(&rule.request, *version);
            let (out, _) = client.send(&request(*api, *version, 7, &body), piece_bytes).expect("a request");
            let (_, body) = request_body(frames(&out)[0].clone());
            let kafka = Spoken { topics: &kept, owned: &["app1.g"], ..Spoken::default() };
            assert_eq!(
                heard(&rule.request, *version, &body),
                heard(&rule.request, *version, &kafka.body(&rule.request, *version)),
                "{what}"
            );

            let said = kafka.body(&rule.response, *version);
            let out = client.receive(&answer(*api, *version, 7, &said), piece_bytes).expect("an answer");
            let (_, body) = answer_body(*api, *version, frames(&out)[0].clone());
            let mut found = heard(&rule.response, *version, &body);
            if has_topics {
                let mut expected: Vec<String> = cut.iter().map(|word| (*word).to_owned()).collect();
                // OffsetFetch names the group before, and says how it is behind its topics.
                let from = found.iter().position(|word| *word == cut[0]).unwrap_or_else(|| panic!("{what}: {found:?}"));
                found.drain(..from);
                found.sort();
                let shown: Vec<_> = match by_id {
                    true => ["id 11", "id 21"].map(str::to_owned).into(),
                    false => ["“orders.v1”", "“friend.prices.v1”"].map(str::to_owned).into(),
                };
                expected.extend(shown);
                let zeros = if *api == ApiKey::OffsetFetch { 3 } else { 2 };
                expected.extend(vec!["0".to_owned(); zeros]);
                expected.sort();
                assert_eq!(found, expected, "{what}");
            } else {
                assert_eq!(found, ["“g”", "0"], "{what}");
            }
        }
    }
}

#[test]
fn no_rule_is_left_out() {
    let here = [
        include_str!("groups.rs"),
        include_str!("positions.rs"),
        include_str!("records.rs"),
        include_str!("topics.rs"),
        include_str!("transactions.rs"),
    ]
    .concat();
    for rule in rules::RULES.iter().filter(|rule| rule.way != rules::Way::Local) {
        assert!(
            here.contains(&format!("check(\n        ApiKey::{},", rule.key.name())),
            "{} is not compared",
            rule.key
        );
    }
}
