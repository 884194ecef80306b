//! Bounds of a subscription.

use std::time::Duration;

/// Most messages one poll gets, as in 2017; larger values of `batch` mean this.
pub const BATCH_MAX: u32 = 4_000;
/// Default of `max_bytes`: keys, values and headers of one response.
pub const RESPONSE_BYTES_DEFAULT: usize = 4 << 20;
/// Larger values of `max_bytes` mean this.
pub const RESPONSE_BYTES_MAX: usize = 32 << 20;
const _: () = assert!(RESPONSE_BYTES_DEFAULT <= RESPONSE_BYTES_MAX);

/// Default of `wait`.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// Longer values of `wait` mean this, as in 2017.
pub const WAIT_MAX: Duration = Duration::from_secs(120);

/// Polls of one subscription that may wait at once; the next one is refused with 503.
pub const POLLS_WAITING_MAX: usize = 10_000;
/// Bytes handed out and not yet known to have reached the network, per subscription; further polls wait.
pub const HANDED_OUT_BYTES_MAX: usize = 32 << 20;
const _: () = assert!(RESPONSE_BYTES_MAX <= HANDED_OUT_BYTES_MAX);

/// When memory is spent, an answer holds so much all the same; one record whatever its size.
pub const ANSWER_BYTES_MIN: usize = 64 << 10;
/// Bytes of records that a shard decompresses and frames in one turn; then everybody else gets theirs.
pub const TURN_BYTES: usize = 1 << 20;
/// A batch that had no memory to be opened is tried again after this.
pub const SHORT_PAUSE: Duration = Duration::from_millis(20);
/// Records that keep more than so many times their bytes in memory are copied when they are handed out.
pub const PINNED_RATIO_MAX: usize = 2;

/// A group whose clients stopped polling leaves after twice the longest wait, but not before this: joining alone takes
/// three seconds where brokers keep `group.initial.rebalance.delay.ms`, and a poll with `wait=0` would never see a record.
pub const IDLE_MIN: Duration = Duration::from_secs(10);

/// While polls wait for metadata about a topic that was missing, it is looked at so often.
pub const MISSING_PAUSE: Duration = Duration::from_millis(20);

/// Records looked at for one tick's polls before other subscriptions get their turn. Matters to tag filters only.
pub const SCAN_RECORDS_MAX: usize = 20_000;

/// `X-Header-*` of one response together; clients and proxies refuse heads that grow without bound. What does not fit is
/// counted in `X-Headers-Omitted`, and complete in every other framing.
pub const RESPONSE_HEADERS_BYTES_MAX: usize = 16 << 10;
