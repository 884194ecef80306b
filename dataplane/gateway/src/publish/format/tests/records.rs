//! Binary records as tables.

use expect_test::{Expect, expect};

use super::*;

/// A binary record with its length, from parts in hexadecimal and text: `00|0000|'abc'`.
fn binary(parts: &str) -> Vec<u8> {
    let body = unframed(parts);
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

fn unframed(parts: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts.split('|') {
        match part.strip_prefix('\'') {
            Some(text) => body.extend_from_slice(text.trim_end_matches('\'').as_bytes()),
            None => body.extend(
                (0..part.len()).step_by(2).map(|at| u8::from_str_radix(&part[at..at + 2], 16).expect("hexadecimal")),
            ),
        }
    }
    body
}

/// Rows are records, or raw bytes after `raw `; rows with `;` are several in one body.
fn check_records(rows: &[&str], expected: Expect) {
    check_records_within(LIMITS, rows, expected);
}

fn check_records_within(limits: BatchLimits, rows: &[&str], expected: Expect) {
    let mut table = String::new();
    for row in rows {
        let body: Vec<u8> = row
            .split(';')
            .flat_map(|record| record.strip_prefix("raw ").map_or_else(|| binary(record), unframed))
            .collect();
        table += &format!("{row}\n");
        for line in outcome_at_every_cut(|| binary_parser(limits), &body) {
            table += &format!("    {line}\n");
        }
    }
    expected.assert_eq(&table);
}

#[test]
fn binary_records_carry_what_their_attributes_say() {
    check_records(
        &[
            "00|0000|'value'",
            "00|0000",
            "01|0000",
            "02|0000019b8f8c6d80|0000|'v'",
            "04|00000003|0000|'v'",
            "08|00000001|'k'|0000|'v'",
            "08|00000000|0000|'v'",
            "0f|0000000000000007|00000003|00000001|'k'|0000",
            "00|0003|0001|'a'|00000001|'1'|0001|'a'|ffffffff|0000|00000000|'v'",
            "00|0000|'a';00|0000|'b';01|0000",
            "00|0000|ff00",
        ],
        expect![[r#"
            00|0000|'value'
                value="value"
            00|0000
                value=""
            01|0000
                value=null
            02|0000019b8f8c6d80|0000|'v'
                value="v" timestamp=1767639903616
            04|00000003|0000|'v'
                value="v" partition=3
            08|00000001|'k'|0000|'v'
                value="v" key="k"
            08|00000000|0000|'v'
                value="v" key=""
            0f|0000000000000007|00000003|00000001|'k'|0000
                value=null key="k" partition=3 timestamp=7
            00|0003|0001|'a'|00000001|'1'|0001|'a'|ffffffff|0000|00000000|'v'
                value="v" [a="1"] [a=null] [=""]
            00|0000|'a';00|0000|'b';01|0000
                value="a"
                value="b"
                value=null
            00|0000|ff00
                value="\xff\x00"
        "#]],
    );
}

#[test]
fn binary_records_that_are_wrong_inside_fail_alone() {
    check_records(
        &[
            "10|0000|'v';00|0000|'next'",
            "80|0000;00|0000|'next'",
            "01|0000|'v'",
            "02|ffffffffffffffff|0000",
            "04|ffffffff|0000",
            "02|00000000",
            "08|00000005|'k'|0000",
            "08|ffffffff|'k'|0000",
            "00|0001|0005|'ab'",
            "00|0001|0001|'a'|00000005|'b'",
            "00|0001|0001|'a'|fffffffe",
            "00|0001|0001|ff|ffffffff",
            "00|ffff|'v'",
            "00|0000|'0123456789012345678901234567890123456789'",
            "00|0000|'01234567890123456789012345678901234567890';00|0000|'next'",
            "08|0000003d|'0123456789012345678901234567890123456789012345678901234567890'|0000",
            "00|0000|'012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789';00|0000|'next'",
            "00|0000;00|0000;00|0000;00|0000;00|0000;00|0000;00|0000",
        ],
        expect![[r#"
            10|0000|'v';00|0000|'next'
                400 invalid_record: attributes 0x10 has bits that must be 0
                value="next"
            80|0000;00|0000|'next'
                400 invalid_record: attributes 0x80 has bits that must be 0
                value="next"
            01|0000|'v'
                400 invalid_record: a null value is followed by bytes
            02|ffffffffffffffff|0000
                400 invalid_field: timestamp must be epoch milliseconds, not negative
            04|ffffffff|0000
                400 invalid_field: partition must not be negative
            02|00000000
                400 invalid_record: a field reaches beyond the end of its record
            08|00000005|'k'|0000
                400 invalid_record: a field reaches beyond the end of its record
            08|ffffffff|'k'|0000
                400 invalid_record: a field reaches beyond the end of its record
            00|0001|0005|'ab'
                400 invalid_record: a field reaches beyond the end of its record
            00|0001|0001|'a'|00000005|'b'
                400 invalid_record: a field reaches beyond the end of its record
            00|0001|0001|'a'|fffffffe
                400 invalid_record: a header value has a negative length
            00|0001|0001|ff|ffffffff
                400 invalid_field: a header name is not UTF-8
            00|ffff|'v'
                400 invalid_record: a field reaches beyond the end of its record
            00|0000|'0123456789012345678901234567890123456789'
                value="0123456789012345678901234567890123456789"
            00|0000|'01234567890123456789012345678901234567890';00|0000|'next'
                413 message_too_large: the value is larger than 40 bytes
                value="next"
            08|0000003d|'0123456789012345678901234567890123456789012345678901234567890'|0000
                413 record_metadata_too_large: key and headers are larger than 60 bytes
            00|0000|'012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789';00|0000|'next'
                413 message_too_large: the value is larger than 40 bytes
                value="next"
            00|0000;00|0000;00|0000;00|0000;00|0000;00|0000;00|0000
                value=""
                value=""
                value=""
                value=""
                value=""
                value=""
                413 too_many_records FATAL: the batch has more than 6 records
        "#]],
    );
}

#[test]
fn binary_records_that_cannot_be_delimited_end_the_batch() {
    check_records(
        &[
            "00|0000|'a';raw 00000000;00|0000|'b'",
            "raw 00000002|0000",
            "raw ffffffff|00|0000",
            "raw 04000001|00|0000",
            "raw 'GET /v1'",
            "00|0000|'a';raw 00",
            "raw 00000005|00|0000|'v'",
            "raw 00001000|00|0000|'v'",
            "raw ",
        ],
        expect![[r#"
            00|0000|'a';raw 00000000;00|0000|'b'
                value="a"
                400 malformed_record FATAL: 0 cannot be the length of a record
            raw 00000002|0000
                400 malformed_record FATAL: 2 cannot be the length of a record
            raw ffffffff|00|0000
                400 malformed_record FATAL: 4294967295 cannot be the length of a record
            raw 04000001|00|0000
                400 malformed_record FATAL: 67108865 cannot be the length of a record
            raw 'GET /v1'
                400 malformed_record FATAL: 1195725856 cannot be the length of a record
            00|0000|'a';raw 00
                value="a"
                400 malformed_record FATAL: the body ends within a record
            raw 00000005|00|0000|'v'
                400 malformed_record FATAL: the body ends within a record
            raw 00001000|00|0000|'v'
                400 malformed_record FATAL: the body ends within a record
            raw 
        "#]],
    );
}

#[test]
fn bit_16_of_a_delayed_job_is_its_time_behind_the_timestamp_and_of_a_message_wrong() {
    let rows = [
        "10|0000019b8f8c6d80|0000|'v'",
        "1f|0000000000000007|0000019b8f8c6d80|00000003|00000001|'k'|0000",
        "10|ffffffffffffffff|0000|'v'",
        "10|7fffffffffffffff|0000",
        "11|0000019b8f8c6d80|0000",
        "00|0000|'neither'",
        "10|0000019b8f8c",
        "20|0000|'v'",
    ];
    check_records_within(
        JOBS,
        &rows,
        expect![[r#"
        10|0000019b8f8c6d80|0000|'v'
            value="v" due=1767639903616
        1f|0000000000000007|0000019b8f8c6d80|00000003|00000001|'k'|0000
            value=null key="k" partition=3 timestamp=7 due=1767639903616
        10|ffffffffffffffff|0000|'v'
            value="v" due=-1
        10|7fffffffffffffff|0000
            value="" due=9223372036854775807
        11|0000019b8f8c6d80|0000
            value=null due=1767639903616
        00|0000|'neither'
            value="neither"
        10|0000019b8f8c
            400 invalid_record: a field reaches beyond the end of its record
        20|0000|'v'
            400 invalid_record: attributes 0x20 has bits that must be 0
    "#]],
    );
    check_records(
        &rows[..2],
        expect![[r#"
        10|0000019b8f8c6d80|0000|'v'
            400 invalid_record: attributes 0x10 has bits that must be 0
        1f|0000000000000007|0000019b8f8c6d80|00000003|00000001|'k'|0000
            400 invalid_record: attributes 0x1f has bits that must be 0
    "#]],
    );
}

#[test]
fn the_largest_delayed_job_that_fits_is_taken() {
    let job = |value: usize| {
        let parts = format!(
            "1f|{}|{}|00000003|0000003c|'{}'|0000|'{}'",
            "00".repeat(8),
            "00".repeat(8),
            "k".repeat(60),
            "v".repeat(value)
        );
        let fits = outcome(binary_parser(JOBS), [&binary(&parts.replacen("1f", "1e", 1))[..]]);
        fits[0].split(' ').next().unwrap_or_default().to_owned()
    };
    assert_eq!(job(40), format!("value=\"{}\"", "v".repeat(40)));
    assert_eq!(job(41), "413");
}
