//! A request head: nothing panics, the cut of the input never matters, one length at most.
#![no_main]

use gafka_http::{BodyKind, HeadLimits, parse_head, query};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 2048, headers_max: 12, uri_bytes_max: 256 };

fuzz_target!(|data: &[u8]| {
    let whole = parse_head(data, &LIMITS);
    for cut in [data.len() / 3, data.len() / 2, data.len().saturating_sub(1)] {
        match parse_head(&data[..cut], &LIMITS) {
            Ok(None) => {}
            part => assert_eq!(part, whole, "cut at {cut}"),
        }
    }
    let Ok(Some(head)) = whole else { return };
    assert!(data[..head.head_bytes].ends_with(b"\r\n\r\n"));
    let lengths = head.values("content-length").count() + head.values("transfer-encoding").count();
    assert_eq!(lengths, usize::from(head.body != BodyKind::None));
    query::segments(head.path).for_each(drop);
    query::pairs(head.query.unwrap_or_default()).for_each(drop);
    head.x_headers().flat_map(|(_, value)| gafka_http::pct::values(value)).for_each(drop);
});
