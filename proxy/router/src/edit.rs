//! Replacing parts of a frame, its length last; and letting the front of a buffer go.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::limits::FRAME_RESERVE_STEP_BYTES;
use kafka_wire::pieces::{put_count, put_string};

/// What is to stand in place of which bytes. Ranges are of the body and do not overlap.
#[derive(Debug, Default)]
pub struct Edits {
    edits: Vec<(Range<usize>, Piece)>,
}

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

    fn few(&mut self, range: Range<usize>, new: &[u8]) {
        let mut bytes = [0; 5];
        bytes[..new.len()].copy_from_slice(new);
        self.edits.push((range, Piece::Few { bytes, count: new.len() as u8 }));
    }

    /// The frame with the edits made. `body_at` is where the body begins in it.
    pub fn apply(mut self, frame: &Bytes, body_at: usize) -> Bytes {
        if self.edits.is_empty() {
            return frame.clone();
        }
        self.edits.sort_unstable_by_key(|(range, _)| (range.start, range.end));
        let grown: usize = self.edits.iter().map(|(_, piece)| piece.bytes().len()).sum();
        let mut out = BytesMut::with_capacity(frame.len() + grown);
        let mut at = 0;
        for (range, piece) in &self.edits {
            let (start, end) = (body_at + range.start, body_at + range.end);
            out.put_slice(&frame[at..start]);
            out.put_slice(piece.bytes());
            at = end;
        }
        out.put_slice(&frame[at..]);
        let length = i32::try_from(out.len() - 4).expect("a rewritten frame is about as large as before");
        out[..4].copy_from_slice(&length.to_be_bytes());
        out.freeze()
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

    /// What leaves in its place.
    pub fn put(&mut self, frame: Bytes) {
        self.out.push(frame);
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
