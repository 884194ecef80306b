//! NDJSON lines as tables.

use expect_test::{Expect, expect};

use super::*;

/// Each row is a body.
fn check_ndjson(rows: &[&str], expected: Expect) {
    check_ndjson_within(LIMITS, rows, expected);
}

fn check_ndjson_within(limits: BatchLimits, rows: &[&str], expected: Expect) {
    let mut table = String::new();
    for row in rows {
        table += &format!("{}\n", row.escape_default());
        for line in outcome_at_every_cut(|| ndjson(limits), row.as_bytes()) {
            table += &format!("    {line}\n");
        }
    }
    expected.assert_eq(&table);
}

#[test]
fn ndjson_values_keys_and_positions_are_what_the_line_says() {
    check_ndjson(
        &[
            r#"{"value":"text"}"#,
            r#"{"value":""}"#,
            r#"{"value":null}"#,
            "{}",
            r#" { "value" : "a" , "key" : "k" } "#,
            r#"{"value":"\"\\\/\b\f\n\r\tA\u0041\u00e9\u20ac\ud83d\ude00"}"#,
            r#"{"value_base64":"AAEC/w=="}"#,
            r#"{"value_base64":"AAEC\/w"}"#,
            r#"{"value_base64":""}"#,
            r#"{"value_json":{"a":[1,-2.5e+3,"x\ud800",{}],"b":null}}"#,
            r#"{"value_json":null}"#,
            r#"{"value_json":  [ 1 , 2 ]  }"#,
            r#"{"key":""}"#,
            r#"{"key_base64":"/w=="}"#,
            r#"{"key":null,"partition":null,"timestamp":null,"headers":null,"value_base64":null}"#,
            r#"{"partition":0,"timestamp":0}"#,
            r#"{"partition":2147483647,"timestamp":9223372036854775807}"#,
            r#"{"\u0076alue":"name with escape"}"#,
        ],
        expect![[r#"
            {\"value\":\"text\"}
                value="text"
            {\"value\":\"\"}
                value=""
            {\"value\":null}
                value=null
            {}
                value=null
             { \"value\" : \"a\" , \"key\" : \"k\" } 
                value="a" key="k"
            {\"value\":\"\\\"\\\\\\/\\b\\f\\n\\r\\tA\\u0041\\u00e9\\u20ac\\ud83d\\ude00\"}
                value="\"\\/\x08\x0c\n\r\tAA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"
            {\"value_base64\":\"AAEC/w==\"}
                value="\x00\x01\x02\xff"
            {\"value_base64\":\"AAEC\\/w\"}
                value="\x00\x01\x02\xff"
            {\"value_base64\":\"\"}
                value=""
            {\"value_json\":{\"a\":[1,-2.5e+3,\"x\\ud800\",{}],\"b\":null}}
                value="{\"a\":[1,-2.5e+3,\"x\\ud800\",{}],\"b\":null}"
            {\"value_json\":null}
                value="null"
            {\"value_json\":  [ 1 , 2 ]  }
                value="[ 1 , 2 ]"
            {\"key\":\"\"}
                value=null key=""
            {\"key_base64\":\"/w==\"}
                value=null key="\xff"
            {\"key\":null,\"partition\":null,\"timestamp\":null,\"headers\":null,\"value_base64\":null}
                value=null
            {\"partition\":0,\"timestamp\":0}
                value=null partition=0 timestamp=0
            {\"partition\":2147483647,\"timestamp\":9223372036854775807}
                value=null partition=2147483647 timestamp=9223372036854775807
            {\"\\u0076alue\":\"name with escape\"}
                value="name with escape"
        "#]],
    );
}

#[test]
fn ndjson_headers_come_in_two_forms() {
    check_ndjson(
        &[
            r#"{"headers":{}}"#,
            r#"{"headers":[]}"#,
            r#"{"headers":{"a":"1","b":"\u00e9"}}"#,
            r#"{"headers":[["a","1"],["a",null],["b",{"base64":"/w=="}],["",""]]}"#,
            r#"{"headers": [ [ "a" , "1" ] , [ "b" , { "base64" : "" } ] ] }"#,
            r#"{"headers":{"a":"1","\u0061":"2"}}"#,
            r#"{"headers":{"a":null}}"#,
            r#"{"headers":{"a":1}}"#,
            r#"{"headers":[["a"]]}"#,
            r#"{"headers":[["a","1","2"]]}"#,
            r#"{"headers":[["a",1]]}"#,
            r#"{"headers":[[null,"1"]]}"#,
            r#"{"headers":["a","1"]}"#,
            r#"{"headers":[["a",{"base64":"!"}]]}"#,
            r#"{"headers":[["a",{"base64":"","x":1}]]}"#,
            r#"{"headers":[["a",{"base32":""}]]}"#,
            r#"{"headers":[["a",{}]]}"#,
            r#"{"headers":"a"}"#,
            r#"{"headers":{"a":"\ud800"}}"#,
        ],
        expect![[r#"
            {\"headers\":{}}
                value=null
            {\"headers\":[]}
                value=null
            {\"headers\":{\"a\":\"1\",\"b\":\"\\u00e9\"}}
                value=null [a="1"] [b="\xc3\xa9"]
            {\"headers\":[[\"a\",\"1\"],[\"a\",null],[\"b\",{\"base64\":\"/w==\"}],[\"\",\"\"]]}
                value=null [a="1"] [a=null] [b="\xff"] [=""]
            {\"headers\": [ [ \"a\" , \"1\" ] , [ \"b\" , { \"base64\" : \"\" } ] ] }
                value=null [a="1"] [b=""]
            {\"headers\":{\"a\":\"1\",\"\\u0061\":\"2\"}}
                400 repeated_field: the object of headers repeats a name; repeated headers need the array form
            {\"headers\":{\"a\":null}}
                400 invalid_field: headers must be an object of strings, or an array of [name, string|null] and [name, {"base64": string}]
            {\"headers\":{\"a\":1}}
                400 invalid_field: headers must be an object of strings, or an array of [name, string|null] and [name, {"base64": string}]
            {\"headers\":[[\"a\"]]}
                400 invalid_field: headers must be an object of strings, or an array of [name, string|null] and [name, {"base64": string}]
            {\"headers\":[[\"a\",\"1\",\"2\"]]}
                400 invalid_field: headers must be an object of strings, or an array of [name, string|null] and [name, {"base64": string}]
            {\"headers\":[[\"a\",1]]}
                400 invalid_field: headers must be an object of strings, or an array of [name, string|null] and [name, {"base64": string}]
            {\"headers\":[[null,\"1\"]]}
                400 invalid_field: headers must be an object of strings, or an array of [name, string|null] and [name, {"base64": string}]
            {\"headers\":[\"a\",\"1\"]}
                400 invalid_field: headers must be an object of strings, or an array of [name, string|null] and [name, {"base64": string}]
            {\"headers\":[[\"a\",{\"base64\":\"!\"}]]}
                400 invalid_base64: a base64 field is not base64
            {\"headers\":[[\"a\",{\"base64\":\"\",\"x\":1}]]}
                400 invalid_field: headers must be an object of strings, or an array of [name, string|null] and [name, {"base64": string}]
            {\"headers\":[[\"a\",{\"base32\":\"\"}]]}
                400 invalid_field: headers must be an object of strings, or an array of [name, string|null] and [name, {"base64": string}]
            {\"headers\":[[\"a\",{}]]}
                400 invalid_field: headers must be an object of strings, or an array of [name, string|null] and [name, {"base64": string}]
            {\"headers\":\"a\"}
                400 invalid_field: headers must be an object of strings, or an array of [name, string|null] and [name, {"base64": string}]
            {\"headers\":{\"a\":\"\\ud800\"}}
                400 lone_surrogate: a \u escape is half of a surrogate pair
        "#]],
    );
}

#[test]
fn ndjson_records_that_are_json_but_wrong_fail_alone() {
    check_ndjson(
        &[
            "1\n\"x\"\nnull\n[]\n{}",
            r#"{"valu":"x"}"#,
            r#"{"value":"x","value":"y"}"#,
            r#"{"value":null,"value":null}"#,
            r#"{"value":"x","value_base64":"AA=="}"#,
            r#"{"value":null,"value_json":1}"#,
            r#"{"value":"x","value_base64":"AA==","value_json":1,"value":""}"#,
            r#"{"key":"a","key_base64":"AA=="}"#,
            r#"{"value":1}"#,
            r#"{"value":{"a":1}}"#,
            r#"{"value":true}"#,
            r#"{"value_base64":1}"#,
            r#"{"value_base64":"A"}"#,
            r#"{"value_base64":"AA=A"}"#,
            r#"{"value_base64":"-_=="}"#,
            r#"{"key":1}"#,
            r#"{"partition":-1}"#,
            r#"{"partition":1.0}"#,
            r#"{"partition":1e0}"#,
            r#"{"partition":"1"}"#,
            r#"{"partition":2147483648}"#,
            r#"{"timestamp":-1}"#,
            r#"{"timestamp":9223372036854775808}"#,
            r#"{"timestamp":"2026-11-22T00:00:00Z"}"#,
            r#"{"value":"\ud800"}"#,
            r#"{"value":"\ude00\ud83d"}"#,
            r#"{"value":"\ud83dx"}"#,
            r#"{"value":"\ud83d\u0041"}"#,
            r#"{"\ud800":"x"}"#,
            "{\"value\":\"1\"}\n{\"x\":1}\n{\"value\":\"3\"}\n",
            r#"{"value":"0123456789012345678901234567890123456789"}"#,
            r#"{"value":"01234567890123456789012345678901234567890"}"#,
            r#"{"value_json":"012345678901234567890123456789012345678"}"#,
            r#"{"key":"0123456789012345678901234567890123456789012345678901234567890"}"#,
            r#"{"headers":{"a":"","b":"","c":"","d":"","e":"","f":"","g":""}}"#,
        ],
        expect![[r#"
            1\n\"x\"\nnull\n[]\n{}
                400 invalid_record: a record must be a JSON object
                400 invalid_record: a record must be a JSON object
                400 invalid_record: a record must be a JSON object
                400 invalid_record: a record must be a JSON object
                value=null
            {\"valu\":\"x\"}
                400 unknown_field: the field valu is unknown
            {\"value\":\"x\",\"value\":\"y\"}
                400 repeated_field: the field value is repeated
            {\"value\":null,\"value\":null}
                400 repeated_field: the field value is repeated
            {\"value\":\"x\",\"value_base64\":\"AA==\"}
                400 conflicting_fields: only one of value, value_base64 and value_json may stand
            {\"value\":null,\"value_json\":1}
                400 conflicting_fields: only one of value, value_base64 and value_json may stand
            {\"value\":\"x\",\"value_base64\":\"AA==\",\"value_json\":1,\"value\":\"\"}
                400 conflicting_fields: only one of value, value_base64 and value_json may stand
            {\"key\":\"a\",\"key_base64\":\"AA==\"}
                400 conflicting_fields: only one of key and key_base64 may stand
            {\"value\":1}
                400 invalid_field: value must be a string or null; use value_json for JSON
            {\"value\":{\"a\":1}}
                400 invalid_field: value must be a string or null; use value_json for JSON
            {\"value\":true}
                400 invalid_field: value must be a string or null; use value_json for JSON
            {\"value_base64\":1}
                400 invalid_field: value_base64 must be a string
            {\"value_base64\":\"A\"}
                400 invalid_base64: a base64 field is not base64
            {\"value_base64\":\"AA=A\"}
                400 invalid_base64: a base64 field is not base64
            {\"value_base64\":\"-_==\"}
                400 invalid_base64: a base64 field is not base64
            {\"key\":1}
                400 invalid_field: key must be a string
            {\"partition\":-1}
                400 invalid_field: partition must be an integer from 0 to 2147483647
            {\"partition\":1.0}
                400 invalid_field: partition must be an integer from 0 to 2147483647
            {\"partition\":1e0}
                400 invalid_field: partition must be an integer from 0 to 2147483647
            {\"partition\":\"1\"}
                400 invalid_field: partition must be an integer from 0 to 2147483647
            {\"partition\":2147483648}
                400 invalid_field: partition must be an integer from 0 to 2147483647
            {\"timestamp\":-1}
                400 invalid_field: timestamp must be an integer of epoch milliseconds
            {\"timestamp\":9223372036854775808}
                400 invalid_field: timestamp must be an integer of epoch milliseconds
            {\"timestamp\":\"2026-11-22T00:00:00Z\"}
                400 invalid_field: timestamp must be an integer of epoch milliseconds
            {\"value\":\"\\ud800\"}
                400 lone_surrogate: a \u escape is half of a surrogate pair
            {\"value\":\"\\ude00\\ud83d\"}
                400 lone_surrogate: a \u escape is half of a surrogate pair
            {\"value\":\"\\ud83dx\"}
                400 lone_surrogate: a \u escape is half of a surrogate pair
            {\"value\":\"\\ud83d\\u0041\"}
                400 lone_surrogate: a \u escape is half of a surrogate pair
            {\"\\ud800\":\"x\"}
                400 lone_surrogate: a \u escape is half of a surrogate pair
            {\"value\":\"1\"}\n{\"x\":1}\n{\"value\":\"3\"}\n
                value="1"
                400 unknown_field: the field x is unknown
                value="3"
            {\"value\":\"0123456789012345678901234567890123456789\"}
                value="0123456789012345678901234567890123456789"
            {\"value\":\"01234567890123456789012345678901234567890\"}
                413 message_too_large: the value is larger than 40 bytes
            {\"value_json\":\"012345678901234567890123456789012345678\"}
                413 message_too_large: the value is larger than 40 bytes
            {\"key\":\"0123456789012345678901234567890123456789012345678901234567890\"}
                413 record_metadata_too_large: key and headers are larger than 60 bytes
            {\"headers\":{\"a\":\"\",\"b\":\"\",\"c\":\"\",\"d\":\"\",\"e\":\"\",\"f\":\"\",\"g\":\"\"}}
                413 record_metadata_too_large: key and headers are larger than 60 bytes
        "#]],
    );
}

#[test]
fn ndjson_lines_that_are_not_json_end_the_batch() {
    check_ndjson(
        &[
            "{\"value\":\"1\"}\nnonsense\n{\"value\":\"3\"}\n",
            "{\"value\":\"1\"",
            "{\"value\":\"1\",}",
            "{\"value\":\"1\"}}",
            "{\"value\":\"1\"}{\"value\":\"2\"}",
            "{\"value\":\"1\"} x",
            "{\"value\" \"1\"}",
            "{value:\"1\"}",
            "{'value':'1'}",
            "{\"value\":\"1}",
            "{\"value\":\"a\u{1}b\"}",
            "{\"value\":\"a\tb\"}",
            "{\"value\":\"\\x\"}",
            "{\"value\":\"\\u12\"}",
            "{\"value\":\"\\u12g4\"}",
            "{\"value\":\"\\",
            "{\n\"value\":\"1\"\n}",
            "{\"value_json\":}",
            "{\"value_json\":[1,]}",
            "{\"value_json\":[1 2]}",
            "{\"value_json\":{\"a\"}}",
            "{\"value_json\":[}]}",
            "{\"value_json\":01}",
            "{\"value_json\":1.}",
            "{\"value_json\":.5}",
            "{\"value_json\":+1}",
            "{\"value_json\":-}",
            "{\"value_json\":1e}",
            "{\"value_json\":nul}",
            "{\"value_json\":NaN}",
            "{\"value\":nullx}",
            "{\"unknown\":[}",
            "{\"value\":1,\"value\":tru}",
            "[1",
        ],
        expect![[r#"
            {\"value\":\"1\"}\nnonsense\n{\"value\":\"3\"}\n
                value="1"
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value\":\"1\"
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value\":\"1\",}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value\":\"1\"}}
                400 malformed_record FATAL: the line is not a JSON value: something follows the object
            {\"value\":\"1\"}{\"value\":\"2\"}
                400 malformed_record FATAL: the line is not a JSON value: something follows the object
            {\"value\":\"1\"} x
                400 malformed_record FATAL: the line is not a JSON value: something follows the object
            {\"value\" \"1\"}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {value:\"1\"}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\'value\':\'1\'}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value\":\"1}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value\":\"a\u{1}b\"}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value\":\"a\tb\"}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value\":\"\\x\"}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value\":\"\\u12\"}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value\":\"\\u12g4\"}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value\":\"\\
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\n\"value\":\"1\"\n}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value_json\":}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value_json\":[1,]}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value_json\":[1 2]}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value_json\":{\"a\"}}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value_json\":[}]}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value_json\":01}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value_json\":1.}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value_json\":.5}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value_json\":+1}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value_json\":-}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value_json\":1e}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value_json\":nul}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value_json\":NaN}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value\":nullx}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"unknown\":[}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value\":1,\"value\":tru}
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            [1
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
        "#]],
    );
    let not_utf8 = b"{\"value\":\"1\"}\n{\"value\":\"\xff\"}\n{}\n";
    expect![[r#"
        value="1"
        400 malformed_record FATAL: the line is not a JSON value: it is not UTF-8"#]]
    .assert_eq(&outcome_at_every_cut(|| ndjson(LIMITS), not_utf8).join("\n"));
}

#[test]
fn ndjson_blank_lines_are_no_records() {
    check_ndjson(
        &["", "\n", "\n\r\n \t\n", "\n{}\n\n\r\n{}\r\n", "{}", "{}\n", "  {}  \n  "],
        expect![[r#"

            \n
            \n\r\n \t\n
            \n{}\n\n\r\n{}\r\n
                value=null
                value=null
            {}
                value=null
            {}\n
                value=null
              {}  \n  
                value=null
        "#]],
    );
}

#[test]
fn ndjson_lines_and_batches_have_limits() {
    let tiny = BatchLimits { value_bytes_max: 2, meta_bytes_max: 2, records_max: 3, takes_due: false };
    let long = tiny.line_bytes_max();
    let body = [" ".repeat(long - 2) + "{}", " ".repeat(long - 1) + "{}", "{}".to_owned(), "{}".to_owned()].join("\n");
    let parser = || ndjson(tiny);
    let whole = outcome(parser(), [body.as_bytes()]);
    for piece_bytes in [1, 2, 3, 1000, long - 1, long, long + 1] {
        assert_eq!(outcome(parser(), body.as_bytes().chunks(piece_bytes)), whole, "pieces of {piece_bytes}");
    }
    expect![[r#"
        value=null
        413 message_too_large: the value is larger than 2 bytes
        value=null
        413 too_many_records FATAL: the batch has more than 3 records"#]]
    .assert_eq(&whole.join("\n"));
    let unended = "x".repeat(long + 1);
    expect!["413 message_too_large: the value is larger than 2 bytes"]
        .assert_eq(&outcome(parser(), [unended.as_bytes()]).join("\n"));
}

#[test]
fn ndjson_nesting_is_bounded_by_the_line_not_by_the_stack() {
    let deep = format!("{{\"value_json\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let lines = outcome(ndjson(ROOMY), [deep.as_bytes()]);
    assert!(lines[0].starts_with("value=\"[[["), "{}", &lines[0][..60]);
    let open = format!("{{\"value_json\":{}", "{\"a\":[".repeat(100_000));
    assert!(outcome(ndjson(ROOMY), [open.as_bytes()])[0].contains("FATAL"));
}

#[test]
fn a_line_is_read_where_it_arrived_and_buffers_are_given_back() {
    let mut parser = NdjsonParser::new(ROOMY);
    let body = b"{\"value\":\"here\"}\n".to_vec();
    let mut input = &body[..];
    let value = parser.next(&mut input).unwrap().unwrap().value.unwrap().as_ptr_range();
    assert!(body.as_ptr_range().contains(&value.start), "the value is a slice of the input");
    assert_eq!(parser.held_bytes(), 0);
    let large = format!("{{\"value\":\"\\n{}", "x".repeat(300_000));
    assert!(parser.next(&mut large.as_bytes()).is_none());
    assert!(parser.held_bytes() >= 300_000);
    assert!(parser.next(&mut &b"\"}\n"[..]).unwrap().is_ok());
    assert!(parser.next(&mut &b"{}\n{"[..]).unwrap().is_ok());
    assert!(parser.held_bytes() < 100_000, "{} bytes are still held", parser.held_bytes());
}

#[test]
fn a_byte_order_mark_is_skipped_before_the_first_line_and_nowhere_else() {
    check_ndjson(
        &[
            "\u{feff}{\"value\":\"a\"}\n{\"value\":\"b\"}",
            "\u{feff}{}",
            "\u{feff}",
            "\u{feff} \r\n{}\n",
            "\u{feff}\u{feff}{}\n",
            "\n\u{feff}{}\n",
            "{}\n\u{feff}{}\n",
            "{\"value\":\"\u{feff}\"}\n",
        ],
        expect![[r#"
            \u{feff}{\"value\":\"a\"}\n{\"value\":\"b\"}
                value="a"
                value="b"
            \u{feff}{}
                value=null
            \u{feff}
            \u{feff} \r\n{}\n
                value=null
            \u{feff}\u{feff}{}\n
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            \n\u{feff}{}\n
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {}\n\u{feff}{}\n
                value=null
                400 malformed_record FATAL: the line is not a JSON value: it breaks JSON's grammar
            {\"value\":\"\u{feff}\"}\n
                value="\xef\xbb\xbf"
        "#]],
    );
}

#[test]
fn delayed_jobs_say_when_in_one_way_and_messages_in_none() {
    let rows = [
        r#"{"value":"v","due":"2026-11-28T00:01:00Z"}"#,
        r#"{"due":"2026-11-28T01:01:00.5\u002B01:00","value":"v"}"#,
        r#"{"due":"1795824060"}"#,
        r#"{"due":1795824060}"#,
        r#"{"due":-5}"#,
        r#"{"delay":"30s"}"#,
        r#"{"delay":"250ms"}"#,
        r#"{"delay":"2h"}"#,
        r#"{"delay":30}"#,
        r#"{"delay":"30"}"#,
        r#"{"delay":0}"#,
        r#"{"value":"neither"}"#,
        r#"{"due":null,"delay":null}"#,
        r#"{"due":null,"delay":1}"#,
        r#"{"due":1795824060,"delay":1}"#,
        r#"{"delay":1,"delay":2}"#,
        r#"{"due":"tomorrow"}"#,
        r#"{"due":"2026-11-28T00:01:00"}"#,
        r#"{"due":1.5}"#,
        r#"{"due":true}"#,
        r#"{"due":["1"]}"#,
        r#"{"due":"\ud800"}"#,
        r#"{"delay":"soon"}"#,
        r#"{"delay":-1}"#,
        r#"{"delay":"-1s"}"#,
        r#"{"delay":99999999}"#,
        r#"{"delay":{}}"#,
        r#"{"dealy":1}"#,
    ];
    check_ndjson_within(
        JOBS,
        &rows,
        expect![[r#"
            {\"value\":\"v\",\"due\":\"2026-11-28T00:01:00Z\"}
                value="v" due=1795824060000
            {\"due\":\"2026-11-28T01:01:00.5\\u002B01:00\",\"value\":\"v\"}
                value="v" due=1795824060500
            {\"due\":\"1795824060\"}
                value=null due=1795824060000
            {\"due\":1795824060}
                value=null due=1795824060000
            {\"due\":-5}
                value=null due=-5000
            {\"delay\":\"30s\"}
                value=null delay=30000
            {\"delay\":\"250ms\"}
                value=null delay=250
            {\"delay\":\"2h\"}
                value=null delay=7200000
            {\"delay\":30}
                value=null delay=30000
            {\"delay\":\"30\"}
                value=null delay=30000
            {\"delay\":0}
                value=null delay=0
            {\"value\":\"neither\"}
                value="neither"
            {\"due\":null,\"delay\":null}
                value=null
            {\"due\":null,\"delay\":1}
                value=null delay=1000
            {\"due\":1795824060,\"delay\":1}
                400 conflicting_fields: only one of due and delay may stand
            {\"delay\":1,\"delay\":2}
                400 repeated_field: the field delay is repeated
            {\"due\":\"tomorrow\"}
                400 invalid_field: due must be RFC 3339, or seconds since 1970
            {\"due\":\"2026-11-28T00:01:00\"}
                400 invalid_field: due must be RFC 3339, or seconds since 1970
            {\"due\":1.5}
                400 invalid_field: due must be RFC 3339, or seconds since 1970
            {\"due\":true}
                400 invalid_field: due must be RFC 3339, or seconds since 1970
            {\"due\":[\"1\"]}
                400 invalid_field: due must be RFC 3339, or seconds since 1970
            {\"due\":\"\\ud800\"}
                400 lone_surrogate: a \u escape is half of a surrogate pair
            {\"delay\":\"soon\"}
                400 invalid_field: delay must be seconds, or a duration like 30s, 250ms or 2h, at most a year
            {\"delay\":-1}
                400 invalid_field: delay must be seconds, or a duration like 30s, 250ms or 2h, at most a year
            {\"delay\":\"-1s\"}
                400 invalid_field: delay must be seconds, or a duration like 30s, 250ms or 2h, at most a year
            {\"delay\":99999999}
                400 invalid_field: delay must be seconds, or a duration like 30s, 250ms or 2h, at most a year
            {\"delay\":{}}
                400 invalid_field: delay must be seconds, or a duration like 30s, 250ms or 2h, at most a year
            {\"dealy\":1}
                400 unknown_field: the field dealy is unknown
        "#]],
    );
    check_ndjson(
        &rows[..2],
        expect![[r#"
        {\"value\":\"v\",\"due\":\"2026-11-28T00:01:00Z\"}
            400 unknown_field: the field due is unknown
        {\"due\":\"2026-11-28T01:01:00.5\\u002B01:00\",\"value\":\"v\"}
            400 unknown_field: the field due is unknown
    "#]],
    );
}
