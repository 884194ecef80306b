//! Queries, path segments, header values and credentials: tables and round trips.

use std::borrow::Cow;

use bytes::BytesMut;
use expect_test::{Expect, expect};
use gafka_http::auth::{AuthError, decode_basic};
use gafka_http::{pct, query};
use proptest::prelude::*;

fn check(rows: &[&str], render: impl Fn(&str) -> String, expected: Expect) {
    let table: String = rows.iter().map(|row| format!("{row}\n    {}\n", render(row))).collect();
    expected.assert_eq(&table);
}

#[test]
fn queries_are_form_decoded() {
    let render = |row: &str| {
        let pairs: Vec<String> = query::pairs(row)
            .map(|pair| match pair {
                Ok((name, value)) => format!("{name:?}={:?}", value.escape_ascii().to_string()),
                Err(err) => format!("{}: {err}", err.code()),
            })
            .collect();
        pairs.join(" ")
    };
    assert_eq!(query::pairs("").count(), 0);
    check(
        &[
            "a=1&b=2",
            "a=1&&b=2&",
            "a",
            "a=",
            "=a",
            "a==b=c",
            "a=b+c%2Bd%20e",
            "k%65y=v",
            "k+y=v",
            "key=%ff%00",
            "%ff=1",
            "a=%",
            "a=%4",
            "a=%4g&b=1",
            "a=%+1",
            "a=%%20",
            "a;b=c",
            "a=é",
        ],
        render,
        expect![[r#"
            a=1&b=2
                "a"="1" "b"="2"
            a=1&&b=2&
                "a"="1" "b"="2"
            a
                "a"=""
            a=
                "a"=""
            =a
                ""="a"
            a==b=c
                "a"="=b=c"
            a=b+c%2Bd%20e
                "a"="b c+d e"
            k%65y=v
                "key"="v"
            k+y=v
                "k y"="v"
            key=%ff%00
                "key"="\\xff\\x00"
            %ff=1
                not_utf8: percent-encoded text is not UTF-8
            a=%
                malformed_percent_encoding: a percent sign is not followed by two hexadecimal digits
            a=%4
                malformed_percent_encoding: a percent sign is not followed by two hexadecimal digits
            a=%4g&b=1
                malformed_percent_encoding: a percent sign is not followed by two hexadecimal digits "b"="1"
            a=%+1
                malformed_percent_encoding: a percent sign is not followed by two hexadecimal digits
            a=%%20
                malformed_percent_encoding: a percent sign is not followed by two hexadecimal digits
            a;b=c
                "a;b"="c"
            a=é
                "a"="\\xc3\\xa9"
        "#]],
    );
}

#[test]
fn path_segments_cannot_reach_another_route() {
    let render = |row: &str| {
        let segments: Vec<String> = query::segments(row)
            .map(|segment| match segment {
                Ok(text) => format!("{text:?}"),
                Err(err) => format!("{}: {err}", err.code()),
            })
            .collect();
        segments.join(" ")
    };
    check(
        &[
            "/",
            "/v1/msgs/orders/v1",
            "/v1//msgs/",
            "/a%20b/a+b",
            "/%e6%bc%a2",
            "/a%2Fb",
            "/a%2fb/c",
            "/a%5Cb",
            "/a/../b",
            "/a/%2e%2E/b",
            "/a/./b",
            "/a/.../b",
            "/a%00b",
            "/a%0d%0ab",
            "/a%7fb",
            "/a%ffb",
            "/a%",
            "/%zz",
            "*",
        ],
        render,
        expect![[r#"
            /
                ""
            /v1/msgs/orders/v1
                "v1" "msgs" "orders" "v1"
            /v1//msgs/
                "v1" "" "msgs" ""
            /a%20b/a+b
                "a b" "a+b"
            /%e6%bc%a2
                "漢"
            /a%2Fb
                malformed_path: a path segment holds an encoded slash or control character, or is a dot segment
            /a%2fb/c
                malformed_path: a path segment holds an encoded slash or control character, or is a dot segment "c"
            /a%5Cb
                "a\\b"
            /a/../b
                "a" malformed_path: a path segment holds an encoded slash or control character, or is a dot segment "b"
            /a/%2e%2E/b
                "a" malformed_path: a path segment holds an encoded slash or control character, or is a dot segment "b"
            /a/./b
                "a" malformed_path: a path segment holds an encoded slash or control character, or is a dot segment "b"
            /a/.../b
                "a" "..." "b"
            /a%00b
                malformed_path: a path segment holds an encoded slash or control character, or is a dot segment
            /a%0d%0ab
                malformed_path: a path segment holds an encoded slash or control character, or is a dot segment
            /a%7fb
                malformed_path: a path segment holds an encoded slash or control character, or is a dot segment
            /a%ffb
                not_utf8: percent-encoded text is not UTF-8
            /a%
                malformed_percent_encoding: a percent sign is not followed by two hexadecimal digits
            /%zz
                malformed_percent_encoding: a percent sign is not followed by two hexadecimal digits
            *
                "*"
        "#]],
    );
}

#[test]
fn header_values_are_decoded_strictly() {
    let render = |row: &str| {
        let values: Vec<String> = pct::values(row.as_bytes())
            .map(|value| match value {
                Ok(text) => format!("{text:?}"),
                Err(err) => err.to_string(),
            })
            .collect();
        values.join(" ")
    };
    check(
        &[
            "",
            "plain",
            "a%20b%2Cc%25",
            "a%e2%82%ac",
            "a,b",
            "a, b ,,c",
            "a b",
            "a%",
            "a%2",
            "a%2x",
            "%ff",
            "é",
            "a\u{7f}",
            "a+b;c=\"d\"",
        ],
        render,
        expect![[r#"

                ""
            plain
                "plain"
            a%20b%2Cc%25
                "a b,c%"
            a%e2%82%ac
                "a€"
            a,b
                "a" "b"
            a, b ,,c
                "a" "b" "" "c"
            a b
                a byte that must be percent-encoded (comma, space, control character, non-ASCII) is not
            a%
                a percent sign is not followed by two hexadecimal digits
            a%2
                a percent sign is not followed by two hexadecimal digits
            a%2x
                a percent sign is not followed by two hexadecimal digits
            %ff
                the decoded value is not UTF-8
            é
                a byte that must be percent-encoded (comma, space, control character, non-ASCII) is not
            a
                a byte that must be percent-encoded (comma, space, control character, non-ASCII) is not
            a+b;c="d"
                "a+b;c=\"d\""
        "#]],
    );
}

#[test]
fn header_values_are_encoded_as_the_contract_says() {
    let encode = |value: &[u8]| {
        let mut out = BytesMut::new();
        pct::encode(&mut out, value);
        String::from_utf8(out.to_vec()).unwrap()
    };
    assert_eq!(encode(b""), "");
    assert_eq!(encode(b"plain!~"), "plain!~");
    assert_eq!(encode("a b,c%d\r\n\t\0é\u{7f}".as_bytes()), "a%20b%2Cc%25d%0D%0A%09%00%C3%A9%7F");
    assert_eq!(encode(b"\xff\xfe"), "%FF%FE");
}

#[test]
fn basic_credentials_are_decoded_and_never_printed() {
    let render = |row: &str| match decode_basic(row.as_bytes()) {
        Ok(basic) => {
            format!("{:?} {:?}", basic.user().escape_ascii().to_string(), basic.password().escape_ascii().to_string())
        }
        Err(err) => err.to_string(),
    };
    check(
        &[
            "Basic YXBwOnNlY3JldA==",
            "basic YXBwOnNlY3JldA",
            "BASIC   YXBwOnNlY3JldA==  ",
            "Basic YXBwOmE6Yg==",
            "Basic Og==",
            "Basic YXBw",
            "Basic YXBwOnNlY3JldB==",
            "Basic !!",
            "Basic ",
            "Basic",
            "BasicYXBw",
            "Bearer YXBwOnNlY3JldA==",
            "",
        ],
        render,
        expect![[r#"
            Basic YXBwOnNlY3JldA==
                "app" "secret"
            basic YXBwOnNlY3JldA
                "app" "secret"
            BASIC   YXBwOnNlY3JldA==  
                "app" "secret"
            Basic YXBwOmE6Yg==
                "app" "a:b"
            Basic Og==
                "" ""
            Basic YXBw
                the Basic credentials are not base64 of user:password
            Basic YXBwOnNlY3JldB==
                the Basic credentials are not base64 of user:password
            Basic !!
                the Basic credentials are not base64 of user:password
            Basic 
                the Basic credentials are not base64 of user:password
            Basic
                the only authentication scheme here is Basic
            BasicYXBw
                the only authentication scheme here is Basic
            Bearer YXBwOnNlY3JldA==
                the only authentication scheme here is Basic

                the only authentication scheme here is Basic
        "#]],
    );
    let printed = format!("{:?}", decode_basic(b"Basic YXBwOnNlY3JldA==").unwrap());
    assert_eq!(printed, r#"Basic { user: "app", .. }"#);
    let long = format!("Basic {}", "YTph".repeat(300));
    assert_eq!(decode_basic(long.as_bytes()), Err(AuthError::Malformed));
}

fn percent_encode_all(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
}

proptest! {
    #[test]
    fn header_values_round_trip(value in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut out = BytesMut::new();
        pct::encode(&mut out, &value);
        prop_assert!(pct::is_visible_ascii(&out));
        prop_assert_eq!(pct::decode(&out).unwrap(), Cow::<[u8]>::Borrowed(&value));
        prop_assert_eq!(pct::decode_text(&out).is_ok(), std::str::from_utf8(&value).is_ok());
    }

    #[test]
    fn queries_round_trip(pairs in prop::collection::vec(("[a-z é&=+%]{1,8}", prop::collection::vec(any::<u8>(), 0..20)), 0..5)) {
        let encoded: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{}={}", percent_encode_all(name.as_bytes()), percent_encode_all(value)))
            .collect();
        let decoded: Vec<(String, Vec<u8>)> =
            query::pairs(&encoded.join("&")).map(|pair| pair.unwrap()).map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        prop_assert_eq!(decoded, pairs);
    }

    #[test]
    fn random_text_never_panics(text in "\\PC{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        query::pairs(&text).for_each(drop);
        query::segments(&text).for_each(drop);
        pct::values(&bytes).for_each(drop);
        drop(decode_basic(&bytes));
        drop(decode_basic(&[b"Basic ", &bytes[..]].concat()));
    }
}
