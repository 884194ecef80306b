//! A thread with a ring of its own, on glommio: what runs behind commits and shards.
//!
//! glommio asks for more than it checks, so we check before: it ends the process on a kernel without what it needs
//! ([`executor`]), and panics where a block device does not tell its limits ([`tells_its_limits`]). A ring's thread is never
//! pinned: cores are the shards'.

mod waited;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement};
use io_uring::{IoUring, Probe, opcode};

pub use waited::Ring;

/// Never, in effect. glommio 0.9 takes a turn that was over before it began for one with nothing to do, and sleeps on tasks
/// that are ready (`LocalExecutor::run_task_queues`); on a busy machine a thread loses the milliseconds of a usual turn between
/// the two looks at its clock. So turns end where somebody is woken, or where a task says so.
pub const TURN_MAX: Duration = Duration::from_secs(3600);

/// A ring for this thread, or why there can be none. `memory_bytes` are registered with it for reads that pass the page cache
/// by; they count against the memory that a process may lock, once for each of glommio's three rings.
pub fn executor(name: &str, memory_bytes: usize, depth: usize) -> io::Result<LocalExecutor> {
    let ring = IoUring::new(2)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    if let Some(code) = NEEDED.iter().find(|code| !probe.is_supported(**code)) {
        return Err(io::Error::other(format!("the kernel's io_uring lacks operation {code}")));
    }
    drop(ring);
    let make = || {
        // Without a binding it never spins before it sleeps.
        let builder = LocalExecutorBuilder::new(Placement::Unbound).name(name);
        builder.io_memory(memory_bytes).ring_depth(depth).preempt_timer(TURN_MAX).make().map_err(plain)
    };
    std::panic::catch_unwind(make).unwrap_or_else(|_| Err(io::Error::other("glommio panicked")))
}

/// Without one of these glommio 0.9 ends the process.
const NEEDED: &[u8] = &[
    opcode::Nop::CODE,
    opcode::Readv::CODE,
    opcode::Writev::CODE,
    opcode::Fsync::CODE,
    opcode::ReadFixed::CODE,
    opcode::WriteFixed::CODE,
    opcode::PollAdd::CODE,
    opcode::PollRemove::CODE,
    opcode::SendMsg::CODE,
    opcode::RecvMsg::CODE,
    opcode::Timeout::CODE,
    opcode::TimeoutRemove::CODE,
    opcode::Accept::CODE,
    opcode::LinkTimeout::CODE,
    opcode::Connect::CODE,
    opcode::Fallocate::CODE,
    opcode::OpenAt::CODE,
    opcode::Close::CODE,
    opcode::Statx::CODE,
    opcode::Read::CODE,
    opcode::Write::CODE,
    opcode::Send::CODE,
    opcode::Recv::CODE,
];

/// Whether the block device of a file says what glommio asks it, if there is one. A partition has no queue of its own, and
/// /sys may be hidden; glommio panics then.
pub fn tells_its_limits(file: &fs::File) -> bool {
    const NUMBERS: [&str; 7] = [
        "rotational",
        "minimum_io_size",
        "optimal_io_size",
        "logical_block_size",
        "physical_block_size",
        "max_sectors_kb",
        "max_segment_size",
    ];
    let Ok(meta) = file.metadata() else { return false };
    let device = format!("/sys/dev/block/{}:0", rustix::fs::major(meta.dev()));
    let device = match fs::canonicalize(device) {
        Ok(device) => device,
        Err(err) => return err.kind() == io::ErrorKind::NotFound,
    };
    let says = |name: &str| fs::read_to_string(device.join("queue").join(name)).unwrap_or_default();
    let cache = says("write_cache");
    NUMBERS.iter().all(|name| says(name).trim_matches('\n').parse::<isize>().is_ok())
        && ["write back", "write through"].contains(&cache.trim_matches('\n'))
        && fs::read_dir(device.join("slaves")).is_ok()
}

/// The system's error, with its number.
pub fn plain(err: GlommioError<()>) -> io::Error {
    match err {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        err => io::Error::other(err.to_string()),
    }
}
