//! Exit codes, the same as of all our programs, and the errors that have one of their own.

pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
pub const NOT_FOUND: u8 = 3;
pub const DENIED: u8 = 4;
pub const UNREACHABLE: u8 = 5;
pub const PRECONDITION: u8 = 6;

/// An error whose kind a script wants to know.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Precondition(String),
}

/// What to exit with.
pub fn of(err: &anyhow::Error) -> u8 {
    match err.downcast_ref() {
        Some(Fault::Usage(_)) => USAGE,
        Some(Fault::NotFound(_)) => NOT_FOUND,
        Some(Fault::Denied(_)) => DENIED,
        Some(Fault::Unreachable(_)) => UNREACHABLE,
        Some(Fault::Precondition(_)) => PRECONDITION,
        None => FAILED,
    }
}
