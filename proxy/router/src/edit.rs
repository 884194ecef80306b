//! Replacing parts of a frame, its length last; and letting the front of a buffer go.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_wire::limits::FRAME_RESERVE_STEP_BYTES;
use kafka_wire::pieces::{put_count, put_nullable_string, put_string};

/// What is to stand in place of which bytes. Ranges are of the body; one that begins inside another is void, for what it
/// would change is gone.
#[derive(Debug, Default)]
pub struct Edits {
    edits: Vec<(Range<usize>, Piece)>,
}

impl Edits {
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    pub fn bytes(&mut self, range: Range<usize>, bytes: BytesMut) {
        self.edits.push((range, Piece::Many(bytes)));
    }

    pub fn cut(&mut self, range: Range<usize>) {
        self.edits.push((range, Piece::Few { bytes: [0; 5], count: 0 }));
    }

    pub fn int16(&mut self, range: Range<usize>, value: i16) {
        self.few(range, &value.to_be_bytes());
    }

    pub fn int32(&mut self, range: Range<usize>, value: i32) {
        self.few(range, &value.to_be_bytes());
    }

    /// The count of an array.
    pub fn count(&mut self, range: Range<usize>, flexible: bool, count: usize) {
        let mut bytes = BytesMut::with_capacity(5);
        put_count(&mut bytes, flexible, count);
        self.few(range, &bytes);
    }

    pub fn string(&mut self, range: Range<usize>, flexible: bool, text: &str) {
        let mut bytes = BytesMut::with_capacity(text.len() + 5);
        put_string(&mut bytes, flexible, text.as_bytes());
        self.bytes(range, bytes);
    }

    /// These, too.
    pub fn merge(&mut self, other: Edits) {
        self.edits.extend(other.edits);
    }

    /// A text that is none.
    pub fn null_string(&mut self, range: Range<usize>, flexible: bool) {
        let mut bytes = BytesMut::with_capacity(2);
        put_nullable_string(&mut bytes, flexible, None);
        self.few(range, &bytes);
    }

    fn few(&mut self, range: Range<usize>, new: &[u8]) {
        let mut bytes = [0; 5];
        bytes[..new.len()].copy_from_slice(new);
        self.edits.push((range, Piece::Few { bytes, count: new.len() as u8 }));
    }

    /// The frame with the edits made. `body_at` is where the body begins in it.
    pub fn apply(self, frame: &Bytes, body_at: usize) -> Bytes {
        if self.edits.is_empty() {
            return frame.clone();
        }
        let mut out = BytesMut::new();
        self.each_part(frame, body_at, |part, left| {
            out.reserve(left);
            match part {
                Part::Kept(range) => out.put_slice(&frame[range]),
                Part::New(bytes) => out.put_slice(bytes),
            }
        });
        out.freeze()
    }

    /// Of a frame of which only the start is here, length in front, with all edits in it. Ranges are from behind the length.
    /// None: the whole would be longer than a length can say.
    pub fn apply_to_start(self, start: &Bytes, frame_bytes: usize) -> Option<Bytes> {
        let changed = self.apply(start, 4);
        let length = i32::try_from(frame_bytes - 4 + changed.len() - start.len()).ok()?;
        let mut out = BytesMut::from(changed);
        out[..4].copy_from_slice(&length.to_be_bytes());
        Some(out.freeze())
    }

    /// The same for bytes that no frame is around.
    pub fn apply_within(self, bytes: &[u8]) -> BytesMut {
        let mut framed = BytesMut::from(&[0; 4][..]);
        framed.put_slice(bytes);
        let mut changed = BytesMut::from(self.apply(&framed.freeze(), 4));
        changed.advance(4);
        changed
    }

    /// As [`Edits::apply`], in pieces: large parts that stay are not copied.
    pub fn splice(self, frame: &Bytes, body_at: usize, out: &mut Vec<Bytes>) {
        if self.edits.is_empty() {
            out.push(frame.clone());
            return;
        }
        let mut small = BytesMut::new();
        self.each_part(frame, body_at, |part, _| match part {
            Part::Kept(range) if range.len() > COPIED_BYTES_MAX => {
                out.extend((!small.is_empty()).then(|| small.split().freeze()));
                out.push(frame.slice(range));
            }
            Part::Kept(range) => small.put_slice(&frame[range]),
            Part::New(bytes) => small.put_slice(bytes),
        });
        out.extend((!small.is_empty()).then(|| small.freeze()));
    }

    /// Tells what the new frame consists of, its length first, and how many bytes are still to come with each.
    fn each_part(mut self, frame: &Bytes, body_at: usize, mut tell: impl FnMut(Part<'_>, usize)) {
        self.edits.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut end = 0;
        self.edits.retain(|(range, _)| {
            let is_free = range.start >= end;
            end = if is_free { range.end } else { end };
            is_free
        });
        let replaced: usize = self.edits.iter().map(|(range, _)| range.len()).sum();
        let new: usize = self.edits.iter().map(|(_, piece)| piece.bytes().len()).sum();
        let mut left = frame.len() - replaced + new;
        let length = i32::try_from(left - 4).expect("a rewritten frame is about as large as before");
        let mut say = |part: Part<'_>, bytes: usize| {
            tell(part, left);
            left -= bytes;
        };
        say(Part::New(&length.to_be_bytes()), 4);
        let mut at = 4;
        for (range, piece) in &self.edits {
            let kept = at..body_at + range.start;
            say(Part::Kept(kept.clone()), kept.len());
            say(Part::New(piece.bytes()), piece.bytes().len());
            at = body_at + range.end;
        }
        say(Part::Kept(at..frame.len()), frame.len() - at);
    }
}

enum Part<'a> {
    Kept(Range<usize>),
    New(&'a [u8]),
}

/// Copying so many bytes is cheaper than carrying them as a piece of their own.
const COPIED_BYTES_MAX: usize = 4096;

/// New bytes, most of them few.
#[derive(Debug)]
enum Piece {
    Few { bytes: [u8; 5], count: u8 },
    Many(BytesMut),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Few { bytes, count } => &bytes[..usize::from(*count)],
            Piece::Many(bytes) => bytes,
        }
    }
}

/// The front of a buffer on its way out: bytes that leave as they are go in one piece, at the latest when this is dropped.
pub struct Front<'a> {
    buffer: &'a mut BytesMut,
    passing: usize,
    out: &'a mut Vec<Bytes>,
}

impl<'a> Front<'a> {
    pub fn new(buffer: &'a mut BytesMut, out: &'a mut Vec<Bytes>) -> Front<'a> {
        Front { buffer, passing: 0, out }
    }

    /// Bytes nobody has decided about.
    pub fn rest(&mut self) -> &mut [u8] {
        &mut self.buffer[self.passing..]
    }

    /// Lets the next bytes pass, at most so many; gives how many there were.
    pub fn pass(&mut self, bytes_max: usize) -> usize {
        let bytes = bytes_max.min(self.buffer.len() - self.passing);
        self.passing += bytes;
        bytes
    }

    /// A whole frame that is not to pass as it is; None while it is not there, with room made for it.
    pub fn hold(&mut self, frame_bytes: usize) -> Option<BytesMut> {
        self.send();
        let missing = frame_bytes.saturating_sub(self.buffer.len());
        if missing > 0 {
            self.buffer.reserve(missing.min(FRAME_RESERVE_STEP_BYTES));
            return None;
        }
        Some(self.buffer.split_to(frame_bytes))
    }

    /// As [`Front::hold`], with room for all of what is missing: only for whom that much was reserved.
    pub fn hold_large(&mut self, frame_bytes: usize) -> Option<BytesMut> {
        self.send();
        let missing = frame_bytes.saturating_sub(self.buffer.len());
        if missing > 0 {
            self.buffer.reserve(missing);
            return None;
        }
        Some(self.buffer.split_to(frame_bytes))
    }

    /// What leaves in its place.
    pub fn put(&mut self, frame: Bytes) {
        self.out.push(frame);
    }

    /// As [`Front::put`], behind what passes.
    pub fn put_behind(&mut self, frame: Bytes) {
        self.send();
        self.out.push(frame);
    }

    /// Where pieces of what leaves go; what passes has gone before.
    pub fn out(&mut self) -> &mut Vec<Bytes> {
        self.send();
        self.out
    }

    fn send(&mut self) {
        if self.passing > 0 {
            self.out.push(self.buffer.split_to(self.passing).freeze());
            self.passing = 0;
        }
    }
}

impl Drop for Front<'_> {
    fn drop(&mut self) {
        self.send();
    }
}
