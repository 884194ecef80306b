//! A frame under construction whose large parts are linked, not copied.
//!
//! Small fields go into one buffer; a payload is remembered together with the position it belongs to. At the end the
//! buffer is cut at those positions, so the length in front can be written last and a payload is never touched.
//!
//! ```text
//!   buffer   | length | header | ...field | field... |
//!   links                               ^ payload
//!   chain    [ length header ...field ] [ payload ] [ field... ]
//! ```

use bytes::{BufMut, Bytes, BytesMut};

pub(crate) struct Chain {
    /// The copied part. Write fields straight into it.
    pub(crate) buffer: BytesMut,
    links: Vec<(usize, Bytes)>,
    linked_bytes: usize,
}

impl Chain {
    /// An empty frame; the first four bytes are kept for its length.
    pub(crate) fn with_capacity(bytes: usize) -> Chain {
        let mut buffer = BytesMut::with_capacity(bytes + 4);
        buffer.put_i32(0);
        Chain { buffer, links: Vec::new(), linked_bytes: 0 }
    }

    /// Appends a payload: linked when it has at least `link_bytes_min` bytes, copied otherwise.
    pub(crate) fn payload(&mut self, payload: &Bytes, link_bytes_min: usize) {
        if payload.len() < link_bytes_min || payload.is_empty() {
            self.buffer.put_slice(payload);
        } else {
            self.linked_bytes += payload.len();
            self.links.push((self.buffer.len(), payload.clone()));
        }
    }

    /// Writes the length and gives the parts in order, none empty.
    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        let length = self.buffer.len() - 4 + self.linked_bytes;
        let length = i32::try_from(length).expect("a frame of ours is smaller than 2 GiB");
        self.buffer[..4].copy_from_slice(&length.to_be_bytes());
        if self.links.is_empty() {
            return vec![self.buffer.freeze()];
        }
        let mut parts = Vec::with_capacity(2 * self.links.len() + 1);
        let mut cut = 0;
        for (position, payload) in self.links {
            if position > cut {
                parts.push(self.buffer.split_to(position - cut).freeze());
                cut = position;
            }
            parts.push(payload);
        }
        if !self.buffer.is_empty() {
            parts.push(self.buffer.freeze());
        }
        parts
    }

    /// As [`Chain::finish`], for a frame that links nothing.
    pub(crate) fn finish_plain(self) -> Bytes {
        assert!(self.links.is_empty(), "this frame links payloads");
        self.finish().swap_remove(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_frame_in_order_with_its_length() {
        let mut chain = Chain::with_capacity(8);
        chain.buffer.put_slice(b"head");
        chain.payload(&Bytes::from_static(b"LARGE"), 5);
        chain.payload(&Bytes::from_static(b"ALSO BIG"), 5);
        chain.buffer.put_slice(b"tail");
        chain.payload(&Bytes::from_static(b"tiny"), 5);
        chain.payload(&Bytes::new(), 0);
        let parts = chain.finish();
        assert_eq!(parts, [&b"\0\0\0\x19head"[..], b"LARGE", b"ALSO BIG", b"tailtiny"]);
    }
}
