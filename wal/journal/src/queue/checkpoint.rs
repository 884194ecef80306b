//! The queue as a checkpoint has it: names, numbers and ends. Not where entries are: that is in the segments' tables, which
//! are read again from the first that is needed.

use super::bodies::{
    Malformed, Reader, put_begins, put_name, put_parked, put_settled, read_name, read_parked_part, read_settled_part,
};
use super::ranges::Done;
use super::stream::Ended;
use super::{Budget, Keeping, Queue};

/// Version 1 did not say where entries may stand that were sent.
const VERSION: u8 = 2;

impl Queue {
    /// Everything of it that segments do not tell.
    pub fn checkpoint(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_u32(&mut out, self.stream_next as usize);
        put_u32(&mut out, self.streams.len());
        for (id, stream) in &self.streams {
            put_u32(&mut out, *id as usize);
            put_name(&mut out, &stream.name);
            put_u64(&mut out, stream.next);
            put_u64(&mut out, stream.done.below());
            let above = stream.done.above();
            put_u32(&mut out, above.len());
            for (first, end) in above {
                put_u64(&mut out, first);
                put_u64(&mut out, end);
            }
            put_u32(&mut out, stream.parked_reasons().count());
            for (sequence, reason, at_ms) in stream.parked_reasons() {
                put_u64(&mut out, sequence);
                put_parked(&mut out, reason, at_ms);
            }
            put_u32(&mut out, stream.ended().len());
            for (first, Ended { count, fate, at_ms }) in stream.ended() {
                put_u64(&mut out, first);
                put_u64(&mut out, count);
                put_settled(&mut out, 0, fate, at_ms);
            }
            put_u32(&mut out, stream.sent.len());
            put_begins(&mut out, &stream.sent);
        }
        out
    }

    /// The queue of a checkpoint; entries are found when the log is told to it.
    pub fn restore(checkpoint: &[u8], budget: Budget, keeping: Keeping) -> Result<Queue, Malformed> {
        let mut queue = Queue::new(budget, keeping);
        let mut reader = Reader::new(checkpoint, "checkpoint of the queue");
        let version = reader.u8()?;
        if !(1..=VERSION).contains(&version) {
            return Err(reader.fail());
        }
        let stream_next = reader.u32()?;
        for _ in 0..reader.u32()? {
            let id = reader.u32()?;
            let name = read_name(&mut reader)?;
            let next = reader.u64()?;
            let below = reader.u64()?;
            let above: Vec<(u64, u64)> = repeat(&mut reader, |reader| Ok((reader.u64()?, reader.u64()?)))?;
            let reasons = repeat(&mut reader, |reader| Ok((reader.u64()?, read_parked_part(reader)?)))?;
            let ends = repeat(&mut reader, |reader| {
                let (first, count) = (reader.u64()?, reader.u64()?);
                let (_, fate, at_ms) = read_settled_part(reader)?;
                Ok((first, Ended { count, fate, at_ms }))
            })?;
            let sent = match version {
                1 => Vec::new(),
                _ => repeat(&mut reader, |reader| Ok((reader.i32()?, reader.i64()?)))?,
            };
            let stream = queue.define(id, name);
            stream.is_defined = true;
            stream.sent = sent.into_iter().collect();
            stream.next = next;
            stream.done = Done::restore(below, above);
            for (sequence, (reason, at_ms)) in reasons {
                stream.park(sequence, reason, at_ms);
            }
            ends.into_iter().for_each(|(first, ended)| stream.restore_end(first, ended));
            let ranges = stream.receipt_ranges();
            queue.receipt_ranges += ranges;
        }
        queue.stream_next = queue.stream_next.max(stream_next);
        match reader.is_empty() {
            true => Ok(queue),
            false => Err(reader.fail()),
        }
    }
}

/// As many as it says, each read before room is made for the next.
fn repeat<T>(
    reader: &mut Reader<'_>,
    mut one: impl FnMut(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = reader.u32()?;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(one(reader)?);
    }
    Ok(all)
}

fn put_u32(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("limits keep counts far below");
    out.extend_from_slice(&count.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}
