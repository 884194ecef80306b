//! When a job may be due.

use crate::codes;
use crate::due::shown_time;
use crate::limits::JOB_DUE_MAX_MS;
use crate::refusal::Refusal;

/// Clocks of clients, and the network: what was due so long ago is due now.
const PAST_MS_MAX: i64 = 1_000;

/// Not past, but for what a clock and a network may differ by, and not too far away.
pub fn check(due_ms: i64, now_ms: i64) -> Result<i64, Refusal> {
    match due_ms {
        _ if due_ms < now_ms - PAST_MS_MAX => {
            let sentence = format!("nothing was stored: {} is past", shown_time(due_ms));
            Err(Refusal::new(codes::DUE_PAST, sentence))
        }
        _ if due_ms > now_ms.saturating_add(JOB_DUE_MAX_MS) => {
            let sentence =
                "nothing was stored: it is due in more than ten years; times are RFC 3339, or seconds since 1970";
            Err(Refusal::new(codes::DUE_TOO_FAR, sentence))
        }
        _ => Ok(due_ms),
    }
}

/// Nobody said when.
pub fn missing() -> Refusal {
    Refusal::new(codes::MISSING_DUE, "say when: delay (30s) or due (RFC 3339, or seconds since 1970)")
}
