//! Exit codes, the same in all our programs.

pub const OK: u8 = 0;
/// The operation failed, in whole or in part.
pub const FAILED: u8 = 1;
/// Arguments or configuration that cannot be.
pub const USAGE: u8 = 2;
pub const NOT_FOUND: u8 = 3;
pub const DENIED: u8 = 4;
/// Nobody there, or no answer in time.
pub const UNREACHABLE: u8 = 5;
/// The wrong cluster, a protected one, a group that is alive.
pub const PRECONDITION: u8 = 6;
/// A check found something to look at.
pub const WARN: u8 = 10;
/// A check found something broken.
pub const CRITICAL: u8 = 11;
