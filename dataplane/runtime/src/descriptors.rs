//! How many descriptors this process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Assumed where there is no limit at all.
const UNLIMITED: u64 = 1 << 20;

/// Raises the soft limit (RLIMIT_NOFILE) to the hard one, which needs no privilege; what holds then.
pub fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(UNLIMITED);
    let current = limit.current.unwrap_or(UNLIMITED);
    let raised = current < wanted && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).is_ok();
    let holds = if raised { wanted } else { current };
    usize::try_from(holds).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_holds_afterwards_is_the_one_told() {
        let told = raise_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current.unwrap_or(UNLIMITED), told as u64);
        assert_eq!(raise_limit(), told, "twice is once");
    }
}
