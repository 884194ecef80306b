//! The record headers a publish asks for with headers of its own.

use crate::codes;
use crate::limits::{RECORD_HEADER_OVERHEAD_BYTES, RECORD_HEADERS_MAX, TAG_BYTES_MAX};
use crate::refusal::Refusal;
use crate::tags;
use gafka_http::{Head, pct};
use kafka_wire::record_batch::HeaderRef;
use smallvec::SmallVec;
use std::ops::Range;

/// The record headers a request asks for.
#[derive(Default)]
pub struct RecordHeaders {
    bytes: Vec<u8>,
    spans: SmallVec<[Span; 8]>,
}

/// Where a record header's name and value stand.
struct Span {
    name: Range<usize>,
    value: Range<usize>,
}

impl RecordHeaders {
    /// `X-Tag: a;b` becomes one record header `tag` each; `X-Header-NAME` becomes `name`; `traceparent` passes through.
    pub fn of(head: &Head<'_>) -> Result<RecordHeaders, Refusal> {
        let mut headers = RecordHeaders::default();
        for tags in head.values("x-tag").take(usize::from(head.known.x_tag_count)) {
            if tags.len() > TAG_BYTES_MAX {
                return Err(Refusal::new(
                    codes::TAG_TOO_LONG,
                    format!("X-Tag is {} bytes, the limit is {TAG_BYTES_MAX}", tags.len()),
                ));
            }
            for tag in tags::split(tags) {
                headers.push("tag", tag)?;
            }
        }
        for (name, field) in head.x_headers() {
            for value in pct::values(field) {
                let value = value.map_err(|err| Refusal::new(codes::BAD_HEADER, format!("X-Header-{name}: {err}")))?;
                headers.push(name, value.as_bytes())?;
            }
        }
        if let Some(traceparent) = head.known.traceparent {
            headers.push("traceparent", traceparent)?;
        }
        Ok(headers)
    }

    /// Whether [`RecordHeaders::of`] would find none.
    pub fn are_none(head: &Head<'_>) -> bool {
        head.known.x_tag_count == 0 && head.known.x_header_count == 0 && head.known.traceparent.is_none()
    }

    /// Bytes they take in a record batch.
    pub fn weight(&self) -> usize {
        self.bytes.len() + self.spans.len() * RECORD_HEADER_OVERHEAD_BYTES
    }

    pub fn refs(&self) -> SmallVec<[HeaderRef<'_>; 8]> {
        self.spans
            .iter()
            .map(|span| HeaderRef {
                name: &self.bytes[span.name.clone()],
                value: Some(&self.bytes[span.value.clone()]),
            })
            .collect()
    }

    fn push(&mut self, name: &str, value: &[u8]) -> Result<(), Refusal> {
        if self.spans.len() == RECORD_HEADERS_MAX {
            return Err(Refusal::new(
                codes::TOO_MANY_HEADERS,
                format!("more than {RECORD_HEADERS_MAX} tags and X-Header-* together"),
            ));
        }
        let start = self.bytes.len();
        self.bytes.extend(name.bytes().map(|byte| byte.to_ascii_lowercase()));
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.spans.push(Span { name: start..middle, value: middle..self.bytes.len() });
        Ok(())
    }
}
