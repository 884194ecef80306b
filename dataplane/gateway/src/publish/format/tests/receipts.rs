//! Receipts in every format, and their limits.

use crate::codes;
use bytes::BytesMut;
use expect_test::expect;

use super::*;
use crate::publish::format::limits::{SUMMARY_ERRORS_MAX, SUMMARY_RANGES_MAX};

fn written(receipts: &mut Receipts) -> String {
    let mut out = BytesMut::new();
    while receipts.write_ready(&mut out, 1) > 0 {}
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn receipts_wait_for_those_before_them() {
    let mut receipts = Receipts::new(ReceiptFormat::Ndjson);
    (0..5).for_each(|index| assert_eq!(receipts.open(), index));
    receipts.stored_run(2, 2, 1, 70);
    assert_eq!(written(&mut receipts), "", "records 0 and 1 are not settled");
    receipts.failed_run(1, 1, &error(413, "message_too_large"));
    receipts.stored_run(0, 1, 0, 5);
    receipts.refuse(&error(400, "unknown_field"));
    assert!(!receipts.is_settled());
    expect![[r#"
        {"partition":0,"offset":5}
        {"status":413,"errmsg":"what message_too_large means","code":"message_too_large"}
        {"partition":1,"offset":70}
        {"partition":1,"offset":71}
    "#]]
    .assert_eq(&written(&mut receipts));
    receipts.stored_run(4, 1, 3, -1);
    expect![[r#"
        {"partition":3,"offset":-1}
        {"status":400,"errmsg":"what unknown_field means","code":"unknown_field"}
    "#]]
    .assert_eq(&written(&mut receipts));
    assert!(receipts.is_settled());
    assert!(receipts.is_written());
    assert_eq!((receipts.ok(), receipts.failed(), receipts.status()), (4, 2, 200));
    assert_eq!(receipts.first_error().map(|error| error.code), Some("message_too_large"));
}

#[test]
fn records_that_were_handed_off_have_ids_instead_of_places() {
    let namer = Namer(std::rc::Rc::new(|stream, number| format!("id-{stream}-{number}")));
    let settle = |format: ReceiptFormat| {
        let mut receipts = Receipts::new(format);
        (0..4).for_each(|index| assert_eq!(receipts.open(), index));
        receipts.handed_off_run(1, 2, u32::MAX, 7, &namer);
        receipts.stored_run(0, 1, 3, 9);
        receipts.failed_run(3, 1, &error(503, "handoff_full"));
        assert_eq!((receipts.ok(), receipts.failed(), receipts.status()), (3, 1, 200));
        receipts
    };
    expect![[r#"
        {"partition":3,"offset":9}
        {"status":202,"msg_id":"id-4294967295-7","receipt":"/v1/receipts/id-4294967295-7"}
        {"status":202,"msg_id":"id-4294967295-8","receipt":"/v1/receipts/id-4294967295-8"}
        {"status":503,"errmsg":"what handoff_full means","code":"handoff_full"}
    "#]]
    .assert_eq(&written(&mut settle(ReceiptFormat::Ndjson)));
    let mut out = BytesMut::new();
    settle(ReceiptFormat::Binary).write_ready(&mut out, usize::MAX);
    let statuses: Vec<u16> = out.chunks(14).map(|receipt| u16::from_be_bytes([receipt[0], receipt[1]])).collect();
    assert_eq!(statuses, [201, 202, 202, 503]);
    assert_eq!(out[16..28], [0xff; 12]);
    let mut out = BytesMut::new();
    settle(ReceiptFormat::Summary).write_summary(&mut out);
    expect![[r#"
        {"ok":3,"failed":1,"handed_off":2,"ranges":[{"partition":3,"offset":9,"count":1}],"errors":[{"record":3,"status":503,"code":"handoff_full"}]}
    "#]]
    .assert_eq(std::str::from_utf8(&out).unwrap());
}

#[test]
fn the_request_chooses_the_format() {
    let choose = |summary: bool, accept: &[&str]| {
        ReceiptFormat::choose(summary, accept.iter().map(|value| value.as_bytes())).content_type()
    };
    assert_eq!(choose(false, &[]), "application/x-ndjson");
    assert_eq!(choose(false, &["*/*"]), "application/x-ndjson");
    assert_eq!(choose(false, &["application/vnd.gafka.receipts"]), "application/vnd.gafka.receipts");
    assert_eq!(
        choose(false, &["a/b", "c/d;q=0, Application/Vnd.Gafka.Receipts ; q=0.5"]),
        "application/vnd.gafka.receipts"
    );
    assert_eq!(choose(false, &["application/vnd.gafka.receipts;q=0.0"]), "application/x-ndjson");
    assert_eq!(choose(true, &["application/vnd.gafka.receipts"]), "application/json");
}

#[test]
fn binary_receipts_have_14_bytes_each() {
    let mut receipts = Receipts::new(ReceiptFormat::Binary);
    (0..3).for_each(|_| _ = receipts.open());
    receipts.stored_run(0, 2, 3, 256);
    receipts.failed_run(2, 1, &error(504, "outcome_unknown"));
    let mut out = BytesMut::new();
    assert_eq!(receipts.write_ready(&mut out, usize::MAX), 3);
    assert_eq!(out.len() as u64, receipts.binary_bytes());
    let shown: Vec<String> =
        out.chunks(14).map(|receipt| receipt.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    expect![[r#"
        00c9000000030000000000000100
        00c9000000030000000000000101
        01f8ffffffffffffffffffffffff"#]]
    .assert_eq(&shown.join("\n"));
}

#[test]
fn without_a_stored_record_the_first_error_is_the_answer() {
    let mut receipts = Receipts::new(ReceiptFormat::Summary);
    (0..3).for_each(|_| _ = receipts.open());
    receipts.failed_run(2, 1, &error(400, "later"));
    receipts.failed_run(0, 1, &error(413, "first"));
    receipts.failed_run(1, 1, &error(503, "between"));
    assert_eq!(receipts.status(), 413);
    let mut out = BytesMut::new();
    receipts.write_summary(&mut out);
    expect![[r#"
        {"ok":0,"failed":3,"ranges":[],"errors":[{"record":0,"status":413,"code":"first"},{"record":1,"status":503,"code":"between"},{"record":2,"status":400,"code":"later"}]}
    "#]].assert_eq(std::str::from_utf8(&out).unwrap());
}

#[test]
fn a_summary_joins_what_is_consecutive_in_a_partition() {
    let mut receipts = Receipts::new(ReceiptFormat::Summary);
    (0..12).for_each(|_| _ = receipts.open());
    receipts.stored_run(2, 2, 1, 100);
    receipts.stored_run(0, 2, 0, 7);
    receipts.stored_run(4, 3, 0, 9);
    receipts.stored_run(7, 1, 1, 103);
    receipts.stored_run(8, 1, 2, -1);
    receipts.stored_run(9, 2, 2, -1);
    receipts.refuse(&error(400, "unknown_field"));
    receipts.failed_run(11, 1, &error(504, "outcome_unknown"));
    let mut out = BytesMut::new();
    receipts.write_summary(&mut out);
    expect![[r#"
        {"ok":11,"failed":2,"ranges":[{"partition":0,"offset":7,"count":5},{"partition":1,"offset":100,"count":2},{"partition":1,"offset":103,"count":1},{"partition":2,"offset":-1,"count":3}],"errors":[{"record":11,"status":504,"code":"outcome_unknown"},{"record":12,"status":400,"code":"unknown_field"}]}
    "#]].assert_eq(std::str::from_utf8(&out).unwrap());
    assert!(receipts.is_settled());
    assert_eq!(receipts.status(), 200);
}

#[test]
fn a_summary_is_cut_at_its_limits_and_says_so() {
    let summary = |ranges: usize, errors: usize| {
        let mut receipts = Receipts::new(ReceiptFormat::Summary);
        for range in 0..ranges {
            let record = receipts.open();
            receipts.stored_run(record, 1, 0, range as i64 * 2);
        }
        // The last errors come first, and the first hundred must be shown.
        let first = (0..errors).map(|_| receipts.open()).min().unwrap_or(0);
        for record in (first..first + errors as u64).rev() {
            receipts.failed_run(record, 1, &error(400, "x"));
        }
        let mut out = BytesMut::new();
        receipts.write_summary(&mut out);
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let first_shown = json["errors"].get(0).map_or(0, |error| error["record"].as_u64().unwrap() - first);
        let count = |name: &str| json[name].as_array().unwrap().len();
        (json["ok"].clone(), count("ranges"), count("errors"), first_shown, json.get("truncated").is_some())
    };
    assert_eq!(summary(SUMMARY_RANGES_MAX, SUMMARY_ERRORS_MAX), (1000.into(), 1000, 100, 0, false));
    assert_eq!(summary(SUMMARY_RANGES_MAX + 1, 0), (1001.into(), 1000, 0, 0, true));
    assert_eq!(summary(1, SUMMARY_ERRORS_MAX + 1), (1.into(), 1, 100, 0, true));
    let mut run = Receipts::new(ReceiptFormat::Summary);
    (0..150).for_each(|_| _ = run.open());
    run.failed_run(0, 150, &error(503, "kafka_unavailable"));
    let mut out = BytesMut::new();
    run.write_summary(&mut out);
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((json["errors"].as_array().unwrap().len(), &json["truncated"]), (100, &true.into()));
}

#[test]
fn too_many_different_errors_share_a_sentence() {
    let mut receipts = Receipts::new(ReceiptFormat::Ndjson);
    for index in 0..1000 {
        receipts.refuse(&RecordError::new(codes::UNKNOWN_FIELD, format!("the field f{index} is unknown")));
    }
    let lines = written(&mut receipts);
    assert_eq!(lines.lines().count(), 1000);
    assert!(lines.lines().next().unwrap().contains("f0 is unknown"));
    assert!(lines.lines().last().unwrap().contains("too many different errors"));
}

#[test]
fn delayed_jobs_have_ids_and_times_instead_of_places() {
    const ID: u64 = 5_188_146_770_730_811_648;
    let settle = |format: ReceiptFormat| {
        let mut receipts = Receipts::new(format);
        (0..3).for_each(|index| assert_eq!(receipts.open(), index));
        receipts.delayed(2, ID + 512, 1_795_824_060_007);
        receipts.failed_run(1, 1, &error(400, "due_past"));
        receipts.delayed(0, ID, 1_795_824_060_000);
        let mut first = BytesMut::new();
        if format != ReceiptFormat::Summary {
            assert_eq!(receipts.write_ready(&mut first, 1), 1);
        }
        // Opened when others are written already, so that times and receipts stay in step.
        assert_eq!(receipts.open(), 3);
        receipts.delayed(3, ID + 256, 1_795_824_061_000);
        assert_eq!((receipts.ok(), receipts.failed(), receipts.status()), (3, 1, 200));
        (receipts, first)
    };
    let (mut receipts, first) = settle(ReceiptFormat::Ndjson);
    expect![[r#"
        {"status":201,"id":"5188146770730811648","due":"2026-11-28T00:01:00.000Z"}
        {"status":400,"errmsg":"what due_past means","code":"due_past"}
        {"status":201,"id":"5188146770730812160","due":"2026-11-28T00:01:00.007Z"}
        {"status":201,"id":"5188146770730811904","due":"2026-11-28T00:01:01.000Z"}
    "#]]
    .assert_eq(&(String::from_utf8(first.to_vec()).unwrap() + &written(&mut receipts)));
    assert!(receipts.is_written());
    let (mut receipts, mut bytes) = settle(ReceiptFormat::Binary);
    while receipts.write_ready(&mut bytes, 1) > 0 {}
    let receipt =
        |status: u16, number: i64| [&status.to_be_bytes()[..], &(-1_i32).to_be_bytes(), &number.to_be_bytes()].concat();
    let id = ID as i64;
    assert_eq!(bytes, [receipt(201, id), receipt(400, -1), receipt(201, id + 512), receipt(201, id + 256)].concat());
    let (mut receipts, mut out) = settle(ReceiptFormat::Summary);
    receipts.write_summary(&mut out);
    expect![[r#"
        {"ok":3,"failed":1,"ranges":[],"errors":[{"record":1,"status":400,"code":"due_past"}]}
    "#]]
    .assert_eq(std::str::from_utf8(&out).unwrap());
}
