//! A head that is recognised as a repetition means exactly what parsing it would have said.

use gafka_http::{BodyKind, Head, HeadLimits, HeadTemplate, parse_head};
use proptest::prelude::*;

fn parsed(bytes: &[u8]) -> Head<'_> {
    parse_head(bytes, &HeadLimits::default()).expect("well-formed").expect("complete")
}

fn template(bytes: &[u8]) -> Option<HeadTemplate> {
    HeadTemplate::of(&parsed(bytes), bytes)
}

const PUBLISH: &[u8] =
    b"POST /v1/msgs/orders/v1 HTTP/1.1\r\nHost: a\r\nAppid: shop\r\nContent-Length: 5\r\nPubkey: secret\r\n\r\nhello";

#[test]
fn the_same_head_is_found_again_with_another_query_and_another_length() {
    let template = template(PUBLISH).expect("a common shape");
    let limits = HeadLimits::default();
    for (query, length) in [("", "5"), ("?key=a%20b", "0"), ("?", "123456789"), ("?key=x&partition=3", "0017")] {
        let text = String::from_utf8_lossy(PUBLISH)
            .replace("/v1 HTTP", &format!("/v1{query} HTTP"))
            .replace("Length: 5", &format!("Length: {length}"));
        let found = template.find(text.as_bytes(), &limits).expect(&text);
        let head = parsed(text.as_bytes());
        assert_eq!(found.query, head.query, "{text}");
        assert_eq!(BodyKind::Length(found.body_bytes as u64), head.body, "{text}");
        assert_eq!(found.head_bytes, head.head_bytes, "{text}");
    }
}

#[test]
fn another_head_is_not_a_repetition() {
    let template = template(PUBLISH).expect("a common shape");
    let text = String::from_utf8_lossy(PUBLISH).into_owned();
    for (from, to) in [
        ("POST", "PUT"),
        ("orders", "orderz"),
        ("/v1 HTTP", "/v10 HTTP"),
        ("/v1 HTTP", "/v1/batch HTTP"),
        ("/v1 HTTP", "/v1?a#b HTTP"),
        ("/v1 HTTP", "/v1?a b HTTP"),
        ("/v1 HTTP", "/v1?\u{e4} HTTP"),
        ("HTTP/1.1", "HTTP/1.0"),
        ("shop", "shoq"),
        ("secret", "secret2"),
        ("secret", "secre"),
        ("Length: 5", "Length: 1234567890"),
        ("Length: 5", "Length: +5"),
        ("Length: 5", "Length: "),
        ("Length: 5", "Length: 5, 5"),
        ("Length: 5\r", "Length: 5\r\nContent-Length: 5\r"),
        ("Length: 5\r", "Length: 5\r\nTransfer-Encoding: chunked\r"),
        ("\r\n\r\nhello", "\r\nX-Tag: a\r\n\r\nhello"),
        ("\r\n\r\nhello", "\r\n"),
        ("POST", "\r\nPOST"),
    ] {
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text, "{from:?} is there");
        assert_eq!(template.find(other.as_bytes(), &HeadLimits::default()), None, "{other:?}");
    }
}

#[test]
fn a_head_that_grew_over_a_limit_is_not_a_repetition() {
    let template = template(PUBLISH).expect("a common shape");
    let text = String::from_utf8_lossy(PUBLISH).replace("/v1 HTTP", "/v1?key=0123456789 HTTP");
    let small = |head_bytes_max, uri_bytes_max| HeadLimits { head_bytes_max, uri_bytes_max, ..HeadLimits::default() };
    assert!(template.find(text.as_bytes(), &small(1000, 1000)).is_some());
    assert_eq!(template.find(text.as_bytes(), &small(100, 1000)), None);
    assert_eq!(template.find(text.as_bytes(), &small(1000, 30)), None);
}

#[test]
fn only_the_common_shape_is_remembered() {
    let text = String::from_utf8_lossy(PUBLISH).into_owned();
    assert!(template(text.as_bytes()).is_some());
    for (from, to) in [
        ("POST", "\r\nPOST"),
        ("/v1/msgs", "http://a/v1/msgs"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: 5\r\n", ""),
        ("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"),
    ] {
        let other = text.replacen(from, to, 1);
        assert!(template(other.as_bytes()).is_none(), "{other:?}");
    }
}

/// Pieces that make heads which are nearly alike.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("?".to_owned()),
        Just(" ".to_owned()),
        Just("\r\n".to_owned()),
        Just("\n".to_owned()),
        Just("Content-Length: 7\r\n".to_owned()),
        Just("Expect: 100-continue\r\n".to_owned()),
        "[ -~]{0,3}",
        "[0-9]{1,10}",
        "\\PC",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn whatever_is_found_parses_to_the_same_request(
        at in any::<prop::sample::Index>(), cut in 0_usize..4, piece in piece(), query in "[?][ -~]{0,12}|"
    ) {
        let template = template(PUBLISH).expect("a common shape");
        let mut bytes = String::from_utf8_lossy(PUBLISH).replace("/v1 HTTP", &format!("/v1{query} HTTP")).into_bytes();
        let at = at.index(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, piece.bytes());
        let limits = HeadLimits::default();
        if let Some(found) = template.find(&bytes, &limits) {
            let head = parse_head(&bytes, &limits).expect("found, so well-formed").expect("found, so complete");
            let first = parsed(PUBLISH);
            prop_assert_eq!(found.query, head.query);
            prop_assert_eq!(found.head_bytes, head.head_bytes);
            prop_assert_eq!(BodyKind::Length(found.body_bytes as u64), head.body);
            prop_assert_eq!(
                (head.method, head.path, head.minor_version, head.keep_alive, head.expect_continue, head.known),
                (first.method, first.path, first.minor_version, first.keep_alive, first.expect_continue, first.known)
            );
        }
    }
}
