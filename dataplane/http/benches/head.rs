//! What a request costs before anybody looks at it: the head of a publish, and the other byte work of this crate.
//!
//! Sketch for a 170-byte publish head: httparse with SIMD about 90 ns, one line-feed scan about 10 ns, six headers by
//! length and one comparison each about 30 ns. Aim: below 200 ns.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gafka_http::date::HttpDate;
use gafka_http::response::{Connection, ResponseWriter};
use gafka_http::{ChunkedDecoder, HeadLimits, parse_head, pct, query};

const PUBLISH: &[u8] = b"POST /v1/msgs/orders/v1?key=k-4711 HTTP/1.1\r\nHost: 127.0.0.1:9191\r\nAppid: app1\r\n\
    Pubkey: 0123456789abcdef0123456789abcdef\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n";

fn heads(criterion: &mut Criterion) {
    let limits = HeadLimits::default();
    let browser = include_bytes!("../../../tools/fuzz/corpus/http_head/record_headers.bin");
    let mut group = criterion.benchmark_group("parse_head");
    for (name, head) in [("publish", PUBLISH), ("record_headers", &browser[..])] {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| parse_head(black_box(head), &limits)));
    }
    group.bench_function("publish_incomplete", |bencher| {
        bencher.iter(|| parse_head(black_box(&PUBLISH[..PUBLISH.len() - 1]), &limits));
    });
    group.finish();
}

fn bodies(criterion: &mut Criterion) {
    let mut body = BytesMut::new();
    for _ in 0..64 {
        gafka_http::response::chunk(&mut body, &[b'x'; 1024]);
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let mut group = criterion.benchmark_group("chunked");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("64_chunks_of_1_KiB", |bencher| {
        bencher.iter(|| {
            let mut data_bytes = 0;
            let progress = ChunkedDecoder::new().decode(black_box(&body), &mut |run| data_bytes += run.len());
            (progress, data_bytes)
        });
    });
    group.finish();
}

fn answers(criterion: &mut Criterion) {
    let date = HttpDate::from_epoch_s(784_111_777);
    let mut out = BytesMut::with_capacity(1024);
    criterion.bench_function("answer_201", |bencher| {
        bencher.iter(|| {
            out.clear();
            ResponseWriter::start(&mut out, 201, Connection::KEEP, &date)
                .number("X-Partition", black_box(3))
                .number("X-Offset", black_box(123_456_789))
                .header("X-Msg-Id", b"bWFpbi9hcHAxLm9yZGVycy52MS8zLzEyMzQ1Njc4OQ")
                .body("application/json", br#"{"ok":1,"partition":3,"offset":123456789,"timestamp":1795362345000}"#);
            out.len()
        });
    });
    criterion.bench_function("query_pairs", |bencher| {
        bencher.iter(|| query::pairs(black_box("key=k%204711&ack=all&timeout=5s")).filter(Result::is_ok).count());
    });
    criterion.bench_function("pct_decode", |bencher| {
        bencher.iter(|| pct::decode_text(black_box(b"value%20with%2Csome%20escapes")).map(|text| text.len()));
    });
}

criterion_group!(benches, heads, bodies, answers);
criterion_main!(benches);
