//! Buffers of two sizes, kept per shard.
//!
//! A connection takes one when it has become readable and gives it back before it waits again, so a shard needs as
//! many buffers as it has connections with bytes in hand, not as many as it has connections: 8,000 idle ones hold
//! none, where one parked 16 KiB read each would hold 128 MiB.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use bytes::BytesMut;

use crate::context;
use crate::limits::{BUFFER_LARGE_BYTES, BUFFER_SMALL_BYTES, BUFFERS_FREE_MAX};

/// The free buffers of one shard. Clones are the same pool.
#[derive(Clone, Default)]
pub struct BufferPool {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    small: RefCell<Vec<BytesMut>>,
    large: RefCell<Vec<BytesMut>>,
    allocated_total: Cell<u64>,
    reused_total: Cell<u64>,
    outstanding: Cell<usize>,
}

/// What a pool did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PoolCounters {
    /// Buffers taken from the allocator.
    pub allocated_total: u64,
    /// Buffers handed out again.
    pub reused_total: u64,
    /// Buffers in use now.
    pub outstanding: usize,
    /// Bytes waiting for the next user.
    pub free_bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Small,
    Large,
}

impl Class {
    fn bytes(self) -> usize {
        match self {
            Class::Small => BUFFER_SMALL_BYTES,
            Class::Large => BUFFER_LARGE_BYTES,
        }
    }
}

impl BufferPool {
    /// The pool of the shard this is called on.
    pub fn current() -> BufferPool {
        context::current().pool.clone()
    }

    /// An empty buffer with 16 KiB of room.
    pub fn get_16k(&self) -> PooledBuf {
        self.get(Class::Small)
    }

    /// An empty buffer with 64 KiB of room.
    pub fn get_64k(&self) -> PooledBuf {
        self.get(Class::Large)
    }

    fn get(&self, class: Class) -> PooledBuf {
        let inner = &self.inner;
        let free = inner.free(class).borrow_mut().pop();
        let bytes = match free {
            Some(bytes) => {
                inner.reused_total.set(inner.reused_total.get() + 1);
                bytes
            }
            None => {
                inner.allocated_total.set(inner.allocated_total.get() + 1);
                BytesMut::with_capacity(class.bytes())
            }
        };
        inner.outstanding.set(inner.outstanding.get() + 1);
        PooledBuf { bytes, class, pool: self.inner.clone() }
    }

    pub fn counters(&self) -> PoolCounters {
        let inner = &self.inner;
        PoolCounters {
            allocated_total: inner.allocated_total.get(),
            reused_total: inner.reused_total.get(),
            outstanding: inner.outstanding.get(),
            free_bytes: inner.small.borrow().len() * BUFFER_SMALL_BYTES
                + inner.large.borrow().len() * BUFFER_LARGE_BYTES,
        }
    }
}

impl Inner {
    fn free(&self, class: Class) -> &RefCell<Vec<BytesMut>> {
        match class {
            Class::Small => &self.small,
            Class::Large => &self.large,
        }
    }
}

/// A buffer on loan: a `BytesMut` that returns to its pool when dropped. Bytes split off and frozen stay valid; the
/// pool takes the buffer back only if nothing refers to it any more.
pub struct PooledBuf {
    bytes: BytesMut,
    class: Class,
    pool: Rc<Inner>,
}

impl PooledBuf {
    /// Keeps the bytes for good; the pool allocates another when it needs one.
    pub fn into_inner(mut self) -> BytesMut {
        std::mem::take(&mut self.bytes)
    }
}

impl Deref for PooledBuf {
    type Target = BytesMut;

    fn deref(&self) -> &BytesMut {
        &self.bytes
    }
}

impl DerefMut for PooledBuf {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }
}

impl Drop for PooledBuf {
    fn drop(&mut self) {
        self.pool.outstanding.set(self.pool.outstanding.get() - 1);
        let class_bytes = self.class.bytes();
        self.bytes.clear();
        // A buffer that grew beyond its class is not kept; one whose front was split off is whole again if the
        // split part is gone.
        let whole = self.bytes.capacity() >= class_bytes || self.bytes.try_reclaim(class_bytes);
        if !whole || self.bytes.capacity() > 2 * class_bytes {
            return;
        }
        let mut free = self.pool.free(self.class).borrow_mut();
        if free.len() < BUFFERS_FREE_MAX {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_handed_out_again_empty() {
        let pool = BufferPool::default();
        let mut buf = pool.get_16k();
        buf.extend_from_slice(b"left over");
        let pointer = buf.as_ptr();
        drop(buf);
        let again = pool.get_16k();
        assert_eq!(again.as_ptr(), pointer);
        assert!(again.is_empty());
        assert_eq!(
            pool.counters(),
            PoolCounters { allocated_total: 1, reused_total: 1, outstanding: 1, free_bytes: 0 }
        );
    }

    #[test]
    fn bytes_split_off_survive_and_their_buffer_is_not_pooled_while_they_live() {
        let pool = BufferPool::default();
        let mut buf = pool.get_16k();
        buf.extend_from_slice(&[7; 9000]);
        let kept = buf.split().freeze();
        drop(buf);
        assert_eq!(pool.counters().free_bytes, 0, "the buffer is still referred to");
        let mut other = pool.get_16k();
        other.extend_from_slice(&[9; 9000]);
        assert!(kept.iter().all(|&byte| byte == 7));

        drop(kept);
        let front = other.split();
        drop(front);
        drop(other);
        assert_eq!(pool.counters().free_bytes, BUFFER_SMALL_BYTES, "whole again once the split part is gone");
    }

    #[test]
    fn the_free_list_is_capped_and_grown_or_kept_buffers_do_not_return() {
        let pool = BufferPool::default();
        let many: Vec<_> = (0..BUFFERS_FREE_MAX + 10).map(|_| pool.get_16k()).collect();
        drop(many);
        assert_eq!(pool.counters().free_bytes, BUFFERS_FREE_MAX * BUFFER_SMALL_BYTES);
        let mut grown = pool.get_64k();
        grown.reserve(10 * BUFFER_LARGE_BYTES);
        drop(grown);
        drop(pool.get_64k().into_inner());
        assert_eq!(pool.counters().free_bytes, BUFFERS_FREE_MAX * BUFFER_SMALL_BYTES);
        assert_eq!(pool.counters().outstanding, 0);
    }
}
