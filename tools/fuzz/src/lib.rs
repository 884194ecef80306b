//! What the fuzz targets share.

/// The gateway's batch formats, by path: they are pure, and a fuzzer should not build the runtime under the gateway.
#[path = "../../../dataplane/gateway/src/publish/format/mod.rs"]
pub mod batch;
#[path = "../../../dataplane/gateway/src/codes.rs"]
#[allow(dead_code, reason = "the formats use a part of the table")]
mod codes;
#[path = "../../../dataplane/gateway/src/due.rs"]
#[allow(dead_code, reason = "the formats use a part of it")]
mod due;
#[path = "../../../dataplane/gateway/src/duration.rs"]
mod duration;

use batch::{BatchLimits, BatchParser};

/// Small enough that the fuzzer reaches every limit.
pub const BATCH_LIMITS: BatchLimits =
    BatchLimits { value_bytes_max: 64, meta_bytes_max: 64, records_max: 8, takes_due: true };

/// What comes out of a batch body that arrives in these pieces.
pub fn parse_batch<'a>(mut parser: BatchParser, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut out = Vec::new();
    for mut input in pieces {
        while let Some(parsed) = parser.next(&mut input) {
            out.push(format!("{parsed:?}"));
        }
        assert!(input.is_empty(), "a parser that yields nothing has used up its input");
    }
    out.extend(parser.end().map(|parsed| format!("{parsed:?}")));
    out
}
