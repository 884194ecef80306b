//! What the allocator keeps of memory that was freed.

use libmimalloc_sys as _; // mimalloc is linked, whoever is the global allocator

// SAFETY: the signature is that of mimalloc.h; the function may be called by any thread at any time.
unsafe extern "C" {
    /// `mimalloc.h`: frees what this thread's heap and the arenas keep for later, all of it when forced.
    safe fn mi_collect(force: bool);
}

/// Gives memory that this thread freed back to the system. mimalloc does so by itself only while memory is taken and
/// freed: a shard that has become idle would keep what its busiest moment took.
pub fn give_back() {
    mi_collect(false);
}
