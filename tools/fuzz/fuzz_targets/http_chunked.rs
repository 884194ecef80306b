//! A chunked body: nothing panics, and the same comes out whole and byte by byte.
#![no_main]

use gafka_http::ChunkedDecoder;
use libfuzzer_sys::fuzz_target;

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Result<(usize, bool), &'static str>) {
    let mut decoder = ChunkedDecoder::with_body_limit(4096);
    let mut data = Vec::new();
    let mut consumed = 0;
    for piece in pieces {
        match decoder.decode(piece, &mut |run| data.extend_from_slice(run)) {
            Ok(progress) => consumed += progress.consumed,
            Err(err) => return (data, Err(err.code)),
        }
    }
    assert!(data.len() as u64 <= decoder.body_bytes(), "never more data than was announced");
    (data, Ok((consumed, decoder.is_done())))
}

fuzz_target!(|data: &[u8]| {
    assert_eq!(decode([data].into_iter()), decode(data.chunks(1)));
});
