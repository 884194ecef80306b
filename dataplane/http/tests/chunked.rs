//! Chunked bodies: a table of framings, and that the cut of the input never matters.

mod common;

use common::{chunked_outcome, corpus};
use expect_test::{Expect, expect, expect_file};
use gafka_http::limits::{CHUNK_EXTENSION_BYTES_MAX, CHUNK_EXTENSION_EXCESS_BYTES_MAX, TRAILER_BYTES_MAX};
use gafka_http::{ChunkedDecoder, HeadError};
use proptest::prelude::*;

/// Rows are bodies in which `|` stands for CR LF.
fn check(rows: &[&str], expected: Expect) {
    let mut table = String::new();
    for row in rows {
        let body = row.replace('|', "\r\n").into_bytes();
        let (data, end) = chunked_outcome([&body[..]]);
        table += &format!("{}\n    {:?} {end}\n", row.escape_debug(), data.escape_ascii().to_string());
        assert_cut_does_not_matter(&body);
    }
    expected.assert_eq(&table);
}

fn assert_cut_does_not_matter(body: &[u8]) {
    let whole = chunked_outcome([body]);
    for cut in 0..=body.len() {
        assert_eq!(chunked_outcome([&body[..cut], &body[cut..]]), whole, "cut at {cut} of {}", body.escape_ascii());
    }
    assert_eq!(chunked_outcome(body.chunks(1)), whole, "byte by byte: {}", body.escape_ascii());
}

#[test]
fn bodies_end_where_their_last_chunk_says() {
    check(
        &[
            "0||",
            "5|hello|0||",
            "5|hello|6| world|0||GET / HTTP/1.1|",
            "A|0123456789|00||",
            "a|0123456789|000000||",
            "0000000000000005|hello|0||",
            "5;a=b;c=\"d e\"|hello|0;last||",
            "5 ;a|hello|0||",
            "5\t ; a|hello|0||",
            "5|hello|0|Trailer: x|Another:||",
            "2|||0||",
            "5|hel",
            "5|hello|",
            "5|hello|0|",
            "",
        ],
        expect![[r#"
            0||
                "" ends at 5
            5|hello|0||
                "hello" ends at 15
            5|hello|6| world|0||GET / HTTP/1.1|
                "hello world" ends at 26
            A|0123456789|00||
                "0123456789" ends at 21
            a|0123456789|000000||
                "0123456789" ends at 25
            0000000000000005|hello|0||
                "hello" ends at 30
            5;a=b;c=\"d e\"|hello|0;last||
                "hello" ends at 32
            5 ;a|hello|0||
                "hello" ends at 18
            5\t ; a|hello|0||
                "hello" ends at 20
            5|hello|0|Trailer: x|Another:||
                "hello" ends at 37
            2|||0||
                "\\r\\n" ends at 12
            5|hel
                "hel" incomplete
            5|hello|
                "hello" incomplete
            5|hello|0|
                "hello" incomplete

                "" incomplete
        "#]],
    );
}

#[test]
fn framing_that_readers_disagree_about_is_refused() {
    check(
        &[
            "5\nhello|0||",
            "5\rhello|0||",
            "5|hello\n0||",
            "5|hello0||",
            "5|helloX|0||",
            "5|hello|0\n\n",
            "5|hello|0|\n",
            "|",
            ";a|",
            " 5|hello|0||",
            "5 |hello|0||",
            "+5|hello|0||",
            "-5|hello|0||",
            "0x5|hello|0||",
            "5h|hello|0||",
            "5,5|hello|0||",
            "\0|",
            "5;a\0b|hello|0||",
            "5;a\nb|hello|0||",
            "00000000000000005|hello|0||",
            "ffffffffffffffff|hello",
            "10000000000000000|hello",
            "100001|hello",
            "5|hello|fffffffffffffffc|x",
            "0|Bad Trailer: x||",
            "0| Folded: x||",
            "0|NoColon||",
            "0|: x||",
            "0|A: b\nB: c||",
            "0|A: b\rB: c||",
            "0|A: \0||",
        ],
        expect![[r#"
            5\nhello|0||
                "" 400 malformed_chunk: a chunk size has a byte that is no hexadecimal digit
            5\rhello|0||
                "" 400 malformed_chunk: a carriage return in chunked framing has no line feed behind it
            5|hello\n0||
                "hello" 400 malformed_chunk: the data of a chunk is not followed by CR LF
            5|hello0||
                "hello" 400 malformed_chunk: the data of a chunk is not followed by CR LF
            5|helloX|0||
                "hello" 400 malformed_chunk: the data of a chunk is not followed by CR LF
            5|hello|0\n\n
                "hello" 400 malformed_chunk: a chunk size has a byte that is no hexadecimal digit
            5|hello|0|\n
                "hello" 400 malformed_chunk: a trailer of the chunked body is no header line
            |
                "" 400 malformed_chunk: a chunk does not begin with its size in hexadecimal
            ;a|
                "" 400 malformed_chunk: a chunk does not begin with its size in hexadecimal
             5|hello|0||
                "" 400 malformed_chunk: a chunk does not begin with its size in hexadecimal
            5 |hello|0||
                "" 400 malformed_chunk: only an extension may follow a chunk size and white space
            +5|hello|0||
                "" 400 malformed_chunk: a chunk does not begin with its size in hexadecimal
            -5|hello|0||
                "" 400 malformed_chunk: a chunk does not begin with its size in hexadecimal
            0x5|hello|0||
                "" 400 malformed_chunk: a chunk size has a byte that is no hexadecimal digit
            5h|hello|0||
                "" 400 malformed_chunk: a chunk size has a byte that is no hexadecimal digit
            5,5|hello|0||
                "" 400 malformed_chunk: a chunk size has a byte that is no hexadecimal digit
            \0|
                "" 400 malformed_chunk: a chunk does not begin with its size in hexadecimal
            5;a\0b|hello|0||
                "" 400 malformed_chunk: a chunk extension has a control character
            5;a\nb|hello|0||
                "" 400 malformed_chunk: a chunk extension has a control character
            00000000000000005|hello|0||
                "" 400 malformed_chunk: a chunk size has more than 16 hexadecimal digits
            ffffffffffffffff|hello
                "" 413 body_too_large: the body is larger than 1048576 bytes
            10000000000000000|hello
                "" 400 malformed_chunk: a chunk size has more than 16 hexadecimal digits
            100001|hello
                "" 413 body_too_large: the body is larger than 1048576 bytes
            5|hello|fffffffffffffffc|x
                "hello" 400 malformed_chunk: the chunk sizes of the body overflow
            0|Bad Trailer: x||
                "" 400 malformed_chunk: a trailer of the chunked body is no header line
            0| Folded: x||
                "" 400 malformed_chunk: a trailer of the chunked body is no header line
            0|NoColon||
                "" 400 malformed_chunk: a trailer of the chunked body is no header line
            0|: x||
                "" 400 malformed_chunk: a trailer of the chunked body is no header line
            0|A: b\nB: c||
                "" 400 malformed_chunk: a trailer of the chunked body is no header line
            0|A: b\rB: c||
                "" 400 malformed_chunk: a trailer of the chunked body is no header line
            0|A: \0||
                "" 400 malformed_chunk: a trailer of the chunked body is no header line
        "#]],
    );
}

fn decode(body: &[u8]) -> Result<u64, HeadError> {
    let mut decoder = ChunkedDecoder::new();
    decoder.decode(body, &mut |_| ()).map(|_| decoder.body_bytes())
}

#[test]
fn extensions_and_trailers_have_limits() {
    let with_extension = |bytes: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(bytes - 1)).into_bytes();
    let line_max = CHUNK_EXTENSION_BYTES_MAX as usize;
    assert_eq!(decode(&with_extension(line_max)), Ok(1));
    assert_eq!(decode(&with_extension(line_max + 1)).unwrap_err().code, "chunk_extension_too_long");

    let with_trailer = |bytes: usize| format!("0\r\nA:{}\r\n\r\n", "t".repeat(bytes - 4)).into_bytes();
    let trailer_max = TRAILER_BYTES_MAX as usize;
    assert_eq!(decode(&with_trailer(trailer_max)), Ok(0));
    assert_eq!(decode(&with_trailer(trailer_max + 1)).unwrap_err().status, 431);
}

#[test]
fn a_body_of_extensions_is_refused_but_signed_chunks_are_not() {
    let chunk = |extension_bytes: usize, data_bytes: usize| {
        let data = "d".repeat(data_bytes);
        format!("{data_bytes:x};{}\r\n{data}\r\n", "e".repeat(extension_bytes - 1))
    };
    let refused_at = usize::try_from(CHUNK_EXTENSION_EXCESS_BYTES_MAX).unwrap() / 99;
    assert_eq!(decode(chunk(100, 1).repeat(refused_at).as_bytes()), Ok(refused_at as u64));
    assert_eq!(decode(chunk(100, 1).repeat(refused_at + 1).as_bytes()).unwrap_err().code, "chunk_extension_too_long");
    assert_eq!(decode(chunk(85, 1024).repeat(1000).as_bytes()), Ok(1_024_000));
}

#[test]
fn the_body_limit_is_known_from_the_size_line() {
    let mut decoder = ChunkedDecoder::with_body_limit(10);
    decoder.decode(b"a\r\n0123456789\r\n", &mut |_| ()).unwrap();
    let err = decoder.decode(b"1\r\n", &mut |_| panic!("no data beyond the limit")).unwrap_err();
    assert_eq!((err.status, err.code), (413, "body_too_large"));
}

#[test]
fn the_rest_of_a_chunk_is_a_hint_for_the_next_read() {
    let mut decoder = ChunkedDecoder::new();
    assert_eq!(decoder.chunk_bytes_left(), 0);
    decoder.decode(b"10\r\nabc", &mut |_| ()).unwrap();
    assert_eq!(decoder.chunk_bytes_left(), 13);
}

#[test]
fn an_ended_body_consumes_nothing_more() {
    let mut decoder = ChunkedDecoder::new();
    let progress = decoder.decode(b"0\r\n\r\nrest", &mut |_| ()).unwrap();
    assert_eq!((progress.consumed, progress.done), (5, true));
    let progress = decoder.decode(b"rest", &mut |_| panic!("no data")).unwrap();
    assert_eq!((progress.consumed, progress.done), (0, true));
}

#[test]
fn the_fuzz_corpus_has_the_outcomes_it_had() {
    let mut table = String::new();
    for (name, bytes) in corpus("http_chunked") {
        assert_cut_does_not_matter(&bytes);
        let (data, end) = chunked_outcome([&bytes[..]]);
        table += &format!("{name}\n    {} bytes, {end}\n", data.len());
    }
    expect_file!["corpus/http_chunked.txt"].assert_eq(&table);
}

const PIECES: &[&str] = &[
    "0",
    "1",
    "5",
    "a",
    "ff",
    ";x",
    ";",
    " ",
    "\r\n",
    "\r\n",
    "\r\n",
    "\r",
    "\n",
    "hello",
    "0\r\n\r\n",
    "A: b\r\n",
    "\t",
    "5\r\nhello\r\n",
    "1;e\r\nx\r\n",
    "\0",
    ":",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_was_encoded_is_decoded_at_every_cut(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5), rest in prop::collection::vec(any::<u8>(), 0..5)) {
        let mut body = bytes::BytesMut::new();
        for chunk in &chunks {
            gafka_http::response::chunk(&mut body, chunk);
        }
        gafka_http::response::last_chunk(&mut body, &[("X-Failed", b"0")]);
        let end = format!("ends at {}", body.len());
        body.extend_from_slice(&rest);
        prop_assert_eq!(chunked_outcome([&body[..]]), (chunks.concat(), end));
        assert_cut_does_not_matter(&body);
    }

    #[test]
    fn pieces_of_framing_are_read_the_same_at_every_cut(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12)) {
        assert_cut_does_not_matter(pieces.concat().as_bytes());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        assert_cut_does_not_matter(&bytes);
    }
}
