//! Every bound of this crate, where they can be compared.

use std::time::Duration;

/// Connections the kernel completes for us before `accept` (capped by `net.core.somaxconn`).
pub const LISTEN_BACKLOG: i32 = 4096;
/// Submission queue entries of a shard's ring; 64 bytes each, counted against RLIMIT_MEMLOCK on some kernels.
pub const RING_ENTRIES_DEFAULT: u32 = 1024;
/// monoio raises smaller rings to this.
pub const RING_ENTRIES_MIN: u32 = 256;
/// Completion queue entries per submission entry: thousands of idle connections may become readable at once.
pub const COMPLETIONS_PER_ENTRY: u32 = 4;

/// Buffers for heads and small bodies.
pub const BUFFER_SMALL_BYTES: usize = 16 * 1024;
/// Buffers for pumping and for Kafka frames: below 64 KiB a 64 KiB frame costs 2.4 times the CPU.
pub const BUFFER_LARGE_BYTES: usize = 64 * 1024;
/// Free buffers of each size a shard keeps (4 MiB and 16 MiB); more are given back to the allocator.
pub const BUFFERS_FREE_MAX: usize = 256;

/// Chunks handed to one `writev`; the kernel takes at most 1024.
pub const WRITEV_CHUNKS_MAX: usize = 64;

/// Threads that may wait for the system's name resolution at the same time, for the whole process.
pub const RESOLVER_THREADS_MAX: usize = 4;
/// Names waiting for a resolver thread; beyond that a connect fails at once.
pub const RESOLVER_QUEUE_MAX: usize = 256;
/// An idle resolver thread ends after this.
pub const RESOLVER_IDLE: Duration = Duration::from_secs(30);
/// Addresses of one name that a connect tries in turn.
pub const CONNECT_ADDRESSES_MAX: usize = 8;

/// How long a listener waits for its port. The kernel frees the port of a killed process once the operations of its
/// rings are taken down, some milliseconds after the process is gone: a restart must not fail on that.
pub const BIND_PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries.
pub const BIND_RETRY: Duration = Duration::from_millis(20);

/// How long a listener rests when the process is out of descriptors or memory: the pending connection would
/// otherwise be reported readable for ever.
pub const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Connections accepted in a row before other tasks get a turn.
pub const ACCEPT_BURST_MAX: u32 = 32;

/// Rounds of the run queue that a finished shard gives its tasks to drop what they hold.
pub const CLOSING_ROUNDS_MAX: usize = 64;

/// Eventfds kept for yielding on epoll; more tasks that yield at the same moment open their own.
pub const YIELDERS_IDLE_MAX: usize = 64;

/// Ciphertext a TLS stream writes in one go before it lets the socket work.
pub const TLS_WRITE_BYTES_MAX: usize = 64 * 1024;

const _: () = assert!(RING_ENTRIES_DEFAULT >= RING_ENTRIES_MIN);
const _: () = assert!(BUFFER_SMALL_BYTES < BUFFER_LARGE_BYTES);
const _: () = assert!(WRITEV_CHUNKS_MAX <= 1024);
