//! What a coordinator's error code means for a member, in one table.

use kafka_wire::error_code::ErrorCode;

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    /// Ask the same broker again after a pause.
    Retry,
    /// Ask who coordinates the group now, then again after a pause.
    Moved,
    /// A rebalance began: commit, then join again.
    Rebalance,
    /// This generation is over for us; what we hold may already belong to others. The member id still counts.
    LostGeneration,
    /// As before, and the coordinator no longer knows our member id.
    LostMember,
    /// Only a person can help.
    Fatal,
}

/// As Java's ConsumerCoordinator judges them.
pub(super) fn verdict(code: ErrorCode) -> Verdict {
    match code {
        ErrorCode::NONE => Verdict::Ok,
        ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR | ErrorCode::REQUEST_TIMED_OUT => {
            Verdict::Moved
        }
        ErrorCode::REBALANCE_IN_PROGRESS => Verdict::Rebalance,
        ErrorCode::ILLEGAL_GENERATION => Verdict::LostGeneration,
        ErrorCode::UNKNOWN_MEMBER_ID => Verdict::LostMember,
        code if code.is_retriable() => Verdict::Retry,
        // Among them FENCED_INSTANCE_ID: another process runs under our instance id. Joining again would fence that one,
        // and so on for ever; Java stops here too.
        _ => Verdict::Fatal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_a_coordinator_answers_has_one_meaning() {
        for (code, expected) in [
            (0, Verdict::Ok),
            (14, Verdict::Retry),
            (15, Verdict::Moved),
            (16, Verdict::Moved),
            (22, Verdict::LostGeneration),
            (25, Verdict::LostMember),
            (27, Verdict::Rebalance),
            (30, Verdict::Fatal),
            (81, Verdict::Fatal),
            (82, Verdict::Fatal),
            (88, Verdict::Retry),
        ] {
            assert_eq!(verdict(ErrorCode(code)), expected, "{}", ErrorCode(code).name());
        }
    }
}
