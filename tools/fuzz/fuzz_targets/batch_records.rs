//! A binary batch: nothing panics, and the same comes out whole, in pieces and byte by byte.
#![no_main]

use gafka_fuzz::batch::{BatchParser, records::RecordsParser};
use gafka_fuzz::{BATCH_LIMITS, parse_batch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let parser = || BatchParser::Records(RecordsParser::new(BATCH_LIMITS));
    let whole = parse_batch(parser(), [data].into_iter());
    assert_eq!(parse_batch(parser(), data.chunks(1)), whole);
    assert_eq!(parse_batch(parser(), data.chunks(7)), whole);
});
