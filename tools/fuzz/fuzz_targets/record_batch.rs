//! A record batch as a broker receives it: what it validates, every reader can read.
#![no_main]

use bytes::Bytes;
use kafka_wire::record_batch;
use libfuzzer_sys::fuzz_target;

const DECOMPRESSED_BYTES_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    drop(record_batch::validate_batch(&bytes));
    for batch in record_batch::batches(bytes).map_while(Result::ok) {
        let valid = batch.validate_records(DECOMPRESSED_BYTES_MAX).is_ok();
        let Ok(records) = batch.records(DECOMPRESSED_BYTES_MAX) else { continue };
        let mut read = 0;
        for record in records.map_while(Result::ok) {
            record.headers.iter().for_each(drop);
            read += 1;
        }
        if valid {
            assert_eq!(read, batch.header.record_count, "validated records can all be read");
        }
    }
});
