//! Raised priority for a plain thread that others wait for, such as one that syncs files.
//!
//! With every core busy, an ordinary thread that wakes from a disk wait is run at the next scheduler tick: measured on
//! two busy cores, a commit then takes 4 ms instead of 0.2 ms. Niceness does not help, because the scheduler weighs
//! it within a session's group only (autogroups). A real-time class does.

use std::io;

/// Puts the calling thread into the round-robin real-time class (`SCHED_RR`, sched(7)) at `level` 1 to 99. Threads it
/// starts are ordinary again. Only for threads that sleep most of the time.
///
/// # Errors
/// Without CAP_SYS_NICE or a fitting RLIMIT_RTPRIO: `PermissionDenied`, an ordinary answer, and nothing has changed.
pub fn realtime(level: u8) -> io::Result<()> {
    let param = libc::sched_param { sched_priority: i32::from(level) };
    // SAFETY: `param` lives through the call, which only reads it; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const param) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_raised_or_told_that_it_may_not_be_and_a_bad_level_is_an_error() {
        std::thread::spawn(|| {
            let policy = || {
                // SAFETY: no pointers; 0 is the calling thread.
                unsafe { libc::sched_getscheduler(0) }
            };
            assert_eq!(realtime(0).expect_err("not a real-time level").kind(), io::ErrorKind::InvalidInput);
            match realtime(1) {
                Ok(()) => assert_eq!(policy(), libc::SCHED_RR | libc::SCHED_RESET_ON_FORK),
                Err(err) => {
                    assert_eq!(err.kind(), io::ErrorKind::PermissionDenied, "{err}");
                    assert_eq!(policy(), libc::SCHED_OTHER);
                }
            }
        })
        .join()
        .expect("the thread ends well");
    }
}
