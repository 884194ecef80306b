//! Faults on demand, for tests only: `GAFKA_FAULT=panic-shard:1` has shard 1 panic soon after the ready line.
//!
//! A variable and no key: it is in no reference and no schema, and nobody has it in a file by mistake.

use std::str::FromStr;
use std::time::Duration;

/// The variable.
pub const VARIABLE: &str = "GAFKA_FAULT";
/// From the ready line to the fault: time for a test to have requests in flight.
pub const DELAY: Duration = Duration::from_millis(1500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This shard panics.
    PanicShard(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE} is for tests only, and {text:?} is none of its values: use panic-shard:N, N below {shard_count}")]
pub struct UnknownFault {
    text: String,
    shard_count: usize,
}

impl Fault {
    /// What the environment asks for in a process of so many shards; nothing, as a rule.
    pub fn of_environment(shard_count: usize) -> Result<Option<Fault>, UnknownFault> {
        match std::env::var_os(VARIABLE) {
            Some(text) => Fault::parse(&text.to_string_lossy(), shard_count).map(Some),
            None => Ok(None),
        }
    }

    fn parse(text: &str, shard_count: usize) -> Result<Fault, UnknownFault> {
        let shard = text.strip_prefix("panic-shard:").and_then(|shard| usize::from_str(shard).ok());
        let unknown = || UnknownFault { text: text.to_owned(), shard_count };
        shard.filter(|shard| *shard < shard_count).map(Fault::PanicShard).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_done_is_a_fault() {
        assert_eq!(Fault::parse("panic-shard:1", 2), Ok(Fault::PanicShard(1)));
        for text in ["", "1", "panic-shard", "panic-shard:", "panic-shard:2", "panic-shard:-1", "panic-shard:1 "] {
            let unknown = Fault::parse(text, 2).expect_err(text).to_string();
            assert!(unknown.contains("for tests only") && unknown.contains("N below 2"), "{text}: {unknown}");
        }
    }
}
