//! Waits that end, and say how far they are.

use std::fmt::Display;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::limits::PROGRESS_EVERY;

/// Asks `look` every `pause` until it says how much time passed meanwhile (`Ok`) or how far it is (`Err`).
pub fn until<T, P: Display>(
    what: &str,
    within: Duration,
    pause: Duration,
    mut look: impl FnMut() -> Result<Result<T, P>>,
) -> Result<(T, Duration)> {
    let started = Instant::now();
    let mut told = started;
    loop {
        match look()? {
            Ok(found) => return Ok((found, started.elapsed())),
            Err(so_far) if started.elapsed() >= within => bail!("{what}: {so_far} after {} s", within.as_secs()),
            Err(so_far) => {
                if told.elapsed() >= PROGRESS_EVERY {
                    eprintln!("{what}: {so_far}, {} s", started.elapsed().as_secs());
                    told = Instant::now();
                }
                sleep(pause);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_what_was_found_or_with_how_far_it_came() {
        let mut left = 3;
        let (found, _) = until("three", Duration::from_secs(60), Duration::ZERO, || {
            left -= 1;
            Ok(if left == 0 { Ok("there") } else { Err(left) })
        })
        .expect("found");
        assert_eq!(found, "there");
        let never = || Ok(Err::<(), _>("2 of 9"));
        let err = until("groups", Duration::ZERO, Duration::ZERO, never).expect_err("never").to_string();
        assert_eq!(err, "groups: 2 of 9 after 0 s");
    }
}
