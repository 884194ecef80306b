//! Properties: cuts, round trips, serde_json's opinion, receipts in any order.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

/// Holds the outcome of one line against serde_json: what is JSON, and what an accepted record says.
fn assert_serde_agrees(line: &str) {
    let is_json = serde_json::from_str::<&serde_json::value::RawValue>(line).is_ok();
    let mut parser = NdjsonParser::new(ROOMY);
    let mut input = line.as_bytes();
    assert!(parser.next(&mut input).is_none());
    let Some(parsed) = parser.end() else {
        assert_eq!(line.trim_ascii(), "", "only a blank line is no record");
        return;
    };
    let record = match parsed {
        Err(error) => return assert_eq!(!error.fatal, is_json, "{error}: {line:?}"),
        Ok(record) => record,
    };
    assert!(is_json, "{line:?}");
    // Lone surrogates and numbers beyond f64 within value_json are JSON, but no serde_json::Value.
    let Ok(reference) = serde_json::from_str::<serde_json::Value>(line) else { return };
    let text = |name: &str| reference.get(name).and_then(|value| value.as_str()).map(str::as_bytes);
    if let Some(value) = text("value") {
        assert_eq!(record.value, Some(value), "{line:?}");
    } else if let Some(json) = reference.get("value_json") {
        let raw: serde_json::Value = serde_json::from_slice(record.value.unwrap()).unwrap();
        assert_eq!(raw, *json, "{line:?}");
    } else if text("value_base64").is_none() {
        assert_eq!(record.value, None, "{line:?}");
    }
    if text("key_base64").is_none() {
        assert_eq!(record.key, text("key"), "{line:?}");
    }
    // -0 is a float to serde_json.
    let integer = |value: &serde_json::Value| value.as_i64().or((value.as_f64() == Some(0.0)).then_some(0));
    let number = |name: &str| reference.get(name).and_then(integer);
    assert_eq!(record.partition.map(i64::from), number("partition"), "{line:?}");
    assert_eq!(record.timestamp_ms, number("timestamp"), "{line:?}");
    let headers = reference.get("headers");
    let count = headers.map_or(0, |headers| {
        headers.as_object().map_or(0, |object| object.len()) + headers.as_array().map_or(0, Vec::len)
    });
    assert_eq!(record.headers.len(), count, "{line:?}");
}

/// JSON texts, and with luck almost JSON.
fn json_text() -> impl Strategy<Value = String> {
    let scalars = prop::sample::select(
        &[
            "null",
            "true",
            "false",
            "0",
            "-0",
            "-12",
            "3.25",
            "1e9",
            "2E-3",
            "1e999",
            "01",
            "-",
            "1.",
            "\"\"",
            "\"a\"",
            "\"\\u00e9\\n\"",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\x\"",
            "\"é\"",
            "\"AA==\"",
            "\"a",
            "nul",
            "",
        ][..],
    );
    let leaf = prop_oneof![8 => scalars.prop_map(str::to_owned), 1 => "\"[ -~é€😀]{0,20}\""];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let space = prop::sample::select(&["", "", " ", "\t "][..]);
        let pair = ("\"[a-c]\"", inner.clone()).prop_map(|(name, value)| format!("{name}:{value}"));
        prop_oneof![
            (prop::collection::vec(inner, 0..4), space.clone())
                .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(","))),
            (prop::collection::vec(pair, 0..4), space)
                .prop_map(|(pairs, space)| format!("{{{space}{}{space}}}", pairs.join(&format!("{space},{space}")))),
        ]
    })
}

/// Lines that look like records.
fn record_line() -> impl Strategy<Value = String> {
    let names = prop::sample::select(
        &[
            "value",
            "value",
            "value_base64",
            "value_json",
            "value_json",
            "key",
            "key_base64",
            "headers",
            "headers",
            "partition",
            "timestamp",
            "other",
            "val\\u0075e",
        ][..],
    );
    let likely = prop::sample::select(
        &[
            "\"text\"",
            "\"a\\tb\"",
            "\"AAEC\"",
            "{\"a\":\"1\"}",
            "[[\"a\",null],[\"b\",{\"base64\":\"AA\"}]]",
            "7",
            "null",
        ][..],
    );
    let value = prop_oneof![3 => likely.prop_map(str::to_owned), 1 => json_text()];
    let field = (names, value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    prop::collection::vec(field, 0..5).prop_map(|fields| format!("{{{}}}", fields.join(",")))
}

/// A record as a client means it.
#[derive(Debug, Clone)]
struct Meant {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    partition: Option<i32>,
    timestamp_ms: Option<i64>,
    due_s: Option<i64>,
}

fn meant() -> impl Strategy<Value = Meant> {
    let bytes =
        || prop_oneof!["[ -~é\\u{1}\\n]{0,12}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..12)];
    let maybe = move || prop::option::of(bytes());
    let headers = prop::collection::vec(("[a-zé\"]{0,6}", prop::option::of(bytes())), 0..6);
    let (partition, timestamp_ms) = (prop::option::of(0..i32::MAX), prop::option::of(0..i64::MAX));
    let due_s = prop::option::of(-1_000_000_000_000..1_000_000_000_000_i64);
    (maybe(), maybe(), headers, partition, timestamp_ms, due_s).prop_map(
        |(key, value, headers, partition, timestamp_ms, due_s)| Meant {
            key,
            value,
            headers,
            partition,
            timestamp_ms,
            due_s,
        },
    )
}

impl Meant {
    /// Text where it is text, else base64.
    fn ndjson(&self) -> String {
        use base64::Engine as _;
        let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let field = |name: &str, bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => format!("\"{name}\":{}", serde_json::to_string(text).unwrap()),
            Err(_) => format!("\"{name}_base64\":\"{}\"", base64(bytes)),
        };
        let header = |(name, value): &(String, Option<Vec<u8>>)| {
            let value = match value.as_deref().map(|bytes| (std::str::from_utf8(bytes), bytes)) {
                None => "null".to_owned(),
                Some((Ok(text), _)) => serde_json::to_string(text).unwrap(),
                Some((Err(_), bytes)) => format!("{{\"base64\":\"{}\"}}", base64(bytes)),
            };
            format!("[{},{value}]", serde_json::to_string(name).unwrap())
        };
        let headers: Vec<String> = self.headers.iter().map(header).collect();
        let mut fields = vec![format!("\"headers\":[{}]", headers.join(","))];
        fields.extend(self.key.as_deref().map(|key| field("key", key)));
        fields.extend(self.value.as_deref().map(|value| field("value", value)));
        fields.extend(self.partition.map(|partition| format!("\"partition\":{partition}")));
        fields.extend(self.timestamp_ms.map(|timestamp_ms| format!("\"timestamp\":{timestamp_ms}")));
        fields.extend(self.due_s.map(|due_s| format!("\"due\":{due_s}")));
        format!("{{{}}}\n", fields.join(","))
    }

    fn binary(&self) -> Vec<u8> {
        let attributes = u8::from(self.value.is_none())
            | u8::from(self.timestamp_ms.is_some()) << 1
            | u8::from(self.partition.is_some()) << 2
            | u8::from(self.key.is_some()) << 3
            | u8::from(self.due_s.is_some()) << 4;
        let mut body = vec![attributes];
        body.extend(self.timestamp_ms.iter().flat_map(|timestamp_ms| timestamp_ms.to_be_bytes()));
        body.extend(self.due_s.iter().flat_map(|due_s| (due_s * 1_000).to_be_bytes()));
        body.extend(self.partition.iter().flat_map(|partition| partition.to_be_bytes()));
        if let Some(key) = &self.key {
            body.extend((key.len() as u32).to_be_bytes());
            body.extend(key);
        }
        body.extend((self.headers.len() as u16).to_be_bytes());
        for (name, value) in &self.headers {
            body.extend((name.len() as u16).to_be_bytes());
            body.extend(name.as_bytes());
            body.extend(value.as_ref().map_or(-1, |value| value.len() as i32).to_be_bytes());
            body.extend(value.iter().flatten());
        }
        body.extend(self.value.iter().flatten());
        [&(body.len() as u32).to_be_bytes()[..], &body].concat()
    }

    fn shown(&self) -> String {
        let headers = self.headers.iter();
        let headers =
            headers.map(|(name, value)| HeaderRef { name: name.as_bytes(), value: value.as_deref() }).collect();
        show(&Ok(ParsedRecord {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
            partition: self.partition,
            timestamp_ms: self.timestamp_ms,
            due: self.due_s.map(Due::of_seconds),
        }))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_was_meant_is_what_comes_out(records in prop::collection::vec(meant(), 0..4)) {
        let meant: Vec<String> = records.iter().map(Meant::shown).collect();
        let body: String = records.iter().map(Meant::ndjson).collect();
        prop_assert_eq!(outcome_at_every_cut(|| ndjson(ROOMY_JOBS), body.as_bytes()), meant.clone());
        let body: Vec<u8> = records.iter().flat_map(Meant::binary).collect();
        prop_assert_eq!(outcome_at_every_cut(|| binary_parser(ROOMY_JOBS), &body), meant);
    }

    #[test]
    fn random_bytes_are_read_the_same_at_every_cut(bytes in prop::collection::vec(any::<u8>(), 0..80), small in prop::collection::vec(0..12u8, 0..60)) {
        outcome_at_every_cut(|| ndjson(LIMITS), &bytes);
        outcome_at_every_cut(|| binary_parser(LIMITS), &bytes);
        outcome_at_every_cut(|| binary_parser(LIMITS), &small);
    }

    #[test]
    fn bodies_of_almost_records_are_read_the_same_at_every_cut(lines in prop::collection::vec(record_line(), 0..4)) {
        outcome_at_every_cut(|| ndjson(LIMITS), lines.join("\n").as_bytes());
    }

    #[test]
    fn receipts_come_out_in_record_order_whatever_order_outcomes_have(
        runs in prop::collection::vec((1..5u64, 0..4i32, any::<bool>()), 1..20).prop_flat_map(|runs| {
            let order: Vec<usize> = (0..runs.len()).collect();
            (Just(runs), Just(order).prop_shuffle())
        }),
        binary in any::<bool>(),
    ) {
        let (runs, order) = runs;
        let format = if binary { ReceiptFormat::Binary } else { ReceiptFormat::Ndjson };
        let mut shuffled = Receipts::new(format);
        let mut straight = Receipts::new(format);
        let mut firsts = Vec::new();
        for (count, ..) in &runs {
            firsts.push((0..*count).map(|_| { straight.open(); shuffled.open() }).min().unwrap());
        }
        let settle = |receipts: &mut Receipts, at: usize| {
            let (count, partition, stored) = runs[at];
            if stored {
                receipts.stored_run(firsts[at], count, partition, at as i64 * 100);
            } else {
                receipts.failed_run(firsts[at], count, &error(503, "kafka_unavailable"));
            }
        };
        let mut out = BytesMut::new();
        for at in order {
            settle(&mut shuffled, at);
            shuffled.write_ready(&mut out, 50);
        }
        while shuffled.write_ready(&mut out, 50) > 0 {}
        (0..runs.len()).for_each(|at| settle(&mut straight, at));
        let mut expected = BytesMut::new();
        straight.write_ready(&mut expected, usize::MAX);
        prop_assert_eq!(out, expected);
        prop_assert!(shuffled.is_written());
        prop_assert_eq!(shuffled.status(), straight.status());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8000))]

    #[test]
    fn serde_json_agrees_on_what_is_json_and_what_it_says(line in prop_oneof![record_line(), json_text()], cut in 0..60usize, junk in "[\\]\\[{}\",:a-f0-9 \\\\u\\t]{0,2}") {
        assert_serde_agrees(&line);
        let cut = (0..=cut.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        assert_serde_agrees(&format!("{}{junk}{}", &line[..cut], &line[cut..]));
        assert_serde_agrees(&line[..cut]);
    }
}
