//! Rows of several tables in one order.

use bytes::Bytes;

use crate::key::Key;
use crate::wheel::Entry;

/// What sorted tables have from a key on, in order: everything before `to`, or the first `rows_max`; and the key before which
/// that is all.
pub fn rows_from(tables: &[&[(Key, u32, Bytes)]], from: Key, to: Key, rows_max: usize) -> (Vec<Entry>, Key) {
    let mut found: Vec<Entry> = Vec::new();
    for table in tables {
        let begin = table.partition_point(|(key, ..)| *key < from);
        let rows = table[begin..].iter().take_while(|(key, ..)| *key < to).take(rows_max);
        found.extend(rows.map(|(key, queue, _)| Entry { key: *key, queue: *queue }));
    }
    found.sort_unstable();
    match found.len() >= rows_max {
        true => {
            found.truncate(rows_max);
            let reached = found.last().map_or(to, |last| last.key.after());
            (found, reached)
        }
        false => (found, to),
    }
}
