//! Properties of the head parser: the cut of the input never matters, nothing panics, and what is accepted reads the
//! same to a second, naive reader. The committed fuzz corpus is replayed through the same checks.

mod common;

use common::{SMALL, corpus, head_outcome};
use expect_test::expect_file;
use gafka_http::{BodyKind, HeadLimits, parse_head};
use proptest::prelude::*;

/// Every prefix is incomplete or gives the very outcome of the whole.
fn assert_cut_does_not_matter(input: &[u8], limits: &HeadLimits) {
    let whole = parse_head(input, limits);
    for cut in 0..input.len() {
        let prefix = &input[..cut];
        match (parse_head(prefix, limits), &whole) {
            (Ok(None), _) => {}
            (part, whole) => assert_eq!(&part, whole, "cut at {cut} of {}", input.escape_ascii()),
        }
    }
}

/// What is accepted splits at CR LF alone into the same headers, and has one length at most.
fn assert_a_naive_reader_agrees(input: &[u8], limits: &HeadLimits) {
    let Ok(Some(head)) = parse_head(input, limits) else { return };
    let text = &input[..head.head_bytes];
    assert!(text.ends_with(b"\r\n\r\n"), "a head ends with an empty line");
    let lines: Vec<&[u8]> = text[..text.len() - 4]
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .skip_while(|line| line.is_empty())
        .skip(1)
        .collect();
    let found: Vec<(String, Vec<u8>)> =
        head.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let naive: Vec<(String, Vec<u8>)> = lines
        .iter()
        .map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').expect("every header line has a colon");
            let name = String::from_utf8(line[..colon].to_vec()).expect("names are ASCII");
            (name, line[colon + 1..].trim_ascii().to_vec())
        })
        .collect();
    assert_eq!(found, naive, "{}", input.escape_ascii());
    let count = |name: &str| head.values(name).count();
    let lengths = count("content-length") + count("transfer-encoding");
    assert_eq!(lengths, usize::from(head.body != BodyKind::None));
    assert_eq!(head.known.host, head.header("host"));
    assert_eq!(head.known.appid, head.header("appid"));
    assert_eq!(head.known.x_tag, head.header("x-tag"));
    assert_eq!(usize::from(head.known.x_header_count), head.x_headers().count());
}

/// Pieces that heads are made of, good and bad.
const PIECES: &[&str] = &[
    "GET",
    "POST",
    "OPTIONS",
    "BREW",
    " ",
    " ",
    " ",
    "/",
    "*",
    "/a?b=c",
    "http://h/p",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/1.7",
    "HTTP/2.0",
    "\r\n",
    "\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "\t",
    "\0",
    ":",
    ": ",
    ",",
    "Host: a\r\n",
    "Host: a\r\n",
    "Host",
    "Content-Length",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding",
    "chunked",
    "5",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "X-Header-A: b\r\n",
    "X-Tag: c\r\n",
    "é",
    "\u{7f}",
    "Appid: x\r\n",
];

fn arbitrary_head() -> impl Strategy<Value = Vec<u8>> {
    let pieces = || prop::collection::vec(prop::sample::select(PIECES), 0..8);
    let well_begun = (
        prop::sample::select(
            &["GET / HTTP/1.1\r\n", "POST /a?b HTTP/1.0\r\n", "PUT http://h HTTP/1.1\r\n", "POST /a HTTP/1.2\r\n", ""]
                [..],
        ),
        prop::sample::select(&["Host: a\r\n", "", "host:\t[::1]:80 \r\n"][..]),
        pieces(),
        prop::sample::select(&["\r\n", "\r\n\r\n", "\n\n", ""][..]),
        prop::collection::vec(any::<u8>(), 0..4),
    );
    well_begun.prop_map(|(line, host, pieces, end, rest)| {
        let mut head = [line, host].concat();
        head.extend(pieces);
        head += end;
        let mut head = head.into_bytes();
        head.extend(rest);
        head
    })
}

#[test]
fn the_fuzz_corpus_has_the_outcomes_it_had() {
    let mut table = String::new();
    for (name, bytes) in corpus("http_head") {
        assert_cut_does_not_matter(&bytes, &HeadLimits::default());
        assert_a_naive_reader_agrees(&bytes, &HeadLimits::default());
        table += &format!("{name}\n    {}\n", head_outcome(&bytes, &HeadLimits::default()));
    }
    expect_file!["corpus/http_head.txt"].assert_eq(&table);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_cut_of_the_input_never_matters(head in arbitrary_head(), uri_bytes_max in 4..20usize, head_bytes_max in 20..120usize, headers_max in 0..6usize) {
        assert_cut_does_not_matter(&head, &HeadLimits::default());
        assert_cut_does_not_matter(&head, &HeadLimits { head_bytes_max, headers_max, uri_bytes_max });
    }

    #[test]
    fn what_is_accepted_reads_the_same_to_a_naive_reader(head in arbitrary_head()) {
        assert_a_naive_reader_agrees(&head, &HeadLimits::default());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        head_outcome(&bytes, &SMALL);
        assert_cut_does_not_matter(&bytes, &SMALL);
    }

    #[test]
    fn one_changed_byte_is_still_read_like_a_naive_reader_does(at in 0..200usize, byte in any::<u8>()) {
        let mut head = b"POST /v1/msgs/orders/v1?key=a HTTP/1.1\r\nHost: gw:9191\r\nAppid: app1\r\nPubkey: secret\r\n\
            Content-Length: 5\r\nX-Header-Trace: a%2Cb\r\nX-Tag: a;b\r\nConnection: close\r\n\r\nhello".to_vec();
        let at = at % head.len();
        head[at] = byte;
        assert_cut_does_not_matter(&head, &HeadLimits::default());
        assert_a_naive_reader_agrees(&head, &HeadLimits::default());
    }
}
