//! Progress on stderr for anything that takes longer than a person's patience.
//!
//! A quick step prints nothing. A slow one says that it runs, repeats that now and then, and says how long it took.

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Instant;

use crate::limits::{PROGRESS_AFTER, PROGRESS_EVERY};

/// Runs `work`, telling stderr about it if it is slow.
pub fn step<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let (done, ended) = mpsc::channel::<()>();
    let label = what.to_owned();
    let teller = std::thread::spawn(move || {
        let mut pause = PROGRESS_AFTER;
        let mut told = false;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(pause) {
            let seconds = started.elapsed().as_secs();
            say(&if told { format!("  … {label}: {seconds} s so far") } else { format!("  … {label}") });
            told = true;
            pause = PROGRESS_EVERY;
        }
        told
    });
    let result = work();
    drop(done);
    if teller.join().unwrap_or(false) {
        say(&format!("  … {what}: {:.1} s", started.elapsed().as_secs_f64()));
    }
    result
}

/// One line on stderr; a closed stderr is nobody's problem.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
