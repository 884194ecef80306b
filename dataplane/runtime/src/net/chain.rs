//! A list of `Bytes` as one gathered write: nothing is copied, whatever was written is let go at once.

use bytes::{Buf, Bytes};

use crate::limits::WRITEV_CHUNKS_MAX;

/// Chunks on their way out, at most [`WRITEV_CHUNKS_MAX`] of them shown to the kernel at a time.
pub(super) struct Chain {
    chunks: Vec<Bytes>,
    /// First chunk that is not fully written.
    first: usize,
    /// Describes `chunks[first..]` after `fill`; stale after `advance`.
    iovecs: Vec<libc::iovec>,
}

impl Chain {
    pub fn new(mut chunks: Vec<Bytes>) -> Chain {
        chunks.retain(|chunk| !chunk.is_empty());
        let iovecs = Vec::with_capacity(chunks.len().min(WRITEV_CHUNKS_MAX));
        Chain { chunks, first: 0, iovecs }
    }

    pub fn is_empty(&self) -> bool {
        self.first == self.chunks.len()
    }

    /// The only chunk left, if it is the only one: a plain send does.
    pub fn take_last(&mut self) -> Option<Bytes> {
        if self.chunks.len() - self.first != 1 {
            return None;
        }
        self.first = 0;
        self.chunks.pop()
    }

    /// Describes the next chunks to the kernel.
    pub fn fill(&mut self) {
        self.iovecs.clear();
        self.iovecs.extend(
            self.chunks[self.first..]
                .iter()
                .take(WRITEV_CHUNKS_MAX)
                .map(|chunk| libc::iovec { iov_base: chunk.as_ptr().cast_mut().cast(), iov_len: chunk.len() }),
        );
    }

    /// `byte_count` bytes are out.
    pub fn advance(&mut self, mut byte_count: usize) {
        self.iovecs.clear();
        while byte_count > 0 {
            let chunk = &mut self.chunks[self.first];
            if byte_count < chunk.len() {
                chunk.advance(byte_count);
                return;
            }
            byte_count -= chunk.len();
            *chunk = Bytes::new();
            self.first += 1;
        }
    }
}

// SAFETY: `read_iovec_ptr` points into the heap block of `iovecs`, which does not move when the chain does and is
// not touched while the runtime owns the chain by value. Each iovec points into a `Bytes` of `chunks`, which the
// chain owns: its bytes are on the heap or static, do not move with the handle, are never written (the kernel only
// reads for writev), and live until the chain is dropped; the runtime keeps the chain until the completion, also
// when the waiting future is dropped. `read_iovec_len` is the length of the same vector.
unsafe impl monoio::buf::IoVecBuf for Chain {
    fn read_iovec_ptr(&self) -> *const libc::iovec {
        self.iovecs.as_ptr()
    }

    fn read_iovec_len(&self) -> usize {
        self.iovecs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(chain: &mut Chain) -> Vec<u8> {
        chain.fill();
        assert!(chain.iovecs.len() <= WRITEV_CHUNKS_MAX);
        chain
            .iovecs
            .iter()
            .flat_map(|iovec| {
                // SAFETY: the iovec describes a live chunk of `chain`, which is borrowed here.
                unsafe { std::slice::from_raw_parts(iovec.iov_base.cast::<u8>(), iovec.iov_len) }.to_vec()
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_the_kernel_takes_each_time_the_bytes_come_out_whole_and_in_order(
            sizes in prop::collection::vec(0usize..40, 0..150),
            takes in prop::collection::vec(1usize..400, 1..50),
        ) {
            let mut next = 0u8;
            let chunks: Vec<Bytes> = sizes.iter().map(|&size| {
                (0..size).map(|_| { next = next.wrapping_add(1); next }).collect::<Vec<u8>>().into()
            }).collect();
            let expected: Vec<u8> = chunks.concat();
            let mut chain = Chain::new(chunks);
            let mut written = Vec::new();
            let mut takes = takes.into_iter().cycle();
            while !chain.is_empty() {
                let offered = shown(&mut chain);
                prop_assert!(!offered.is_empty());
                let taken = takes.next().unwrap_or(1).min(offered.len());
                written.extend_from_slice(&offered[..taken]);
                chain.advance(taken);
            }
            prop_assert_eq!(written, expected);
        }
    }

    #[test]
    fn a_single_chunk_is_taken_for_a_plain_send() {
        let mut chain = Chain::new(vec![Bytes::new(), Bytes::from_static(b"all"), Bytes::new()]);
        assert_eq!(chain.take_last(), Some(Bytes::from_static(b"all")));
        assert!(chain.is_empty());
        assert_eq!(Chain::new(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]).take_last(), None);
    }
}
