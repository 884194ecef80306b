//! Waiting for a condition instead of sleeping for a guess.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Calls `probe` until it yields a value. The error names what was awaited and the last reason it was not there.
pub fn until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(2);
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(err) if Instant::now() >= deadline => bail!("{what}: not within {within:?}; last: {err:#}"),
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// The same for a plain condition.
pub fn until_true(what: &str, within: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    until(what, within, || if condition() { Ok(()) } else { bail!("not yet") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut calls = 0;
        until_true("third call", Duration::from_secs(5), || {
            calls += 1;
            calls == 3
        })
        .unwrap();
        assert_eq!(calls, 3);
    }

    #[test]
    fn a_wait_that_ends_says_what_it_waited_for_and_why_it_failed() {
        let err = until::<()>("the moon", Duration::from_millis(5), || bail!("still cloudy")).unwrap_err();
        assert_eq!(err.to_string(), "the moon: not within 5ms; last: still cloudy");
    }
}
