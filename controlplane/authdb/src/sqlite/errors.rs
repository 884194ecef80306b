//! What SQLite's codes mean.

use crate::AuthDbError;

impl From<sqlx::Error> for AuthDbError {
    fn from(err: sqlx::Error) -> Self {
        // Extended codes, whose low byte is the primary one: https://www.sqlite.org/rescode.html
        const IOERR_WRITE: u32 = 778;
        const IOERR_FSYNC: u32 = 1034;
        const IOERR_SHMSIZE: u32 = 4874;
        let code = err.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<u32>().ok());
        match code {
            // BUSY, LOCKED
            Some(code) if matches!(code & 0xff, 5 | 6) => AuthDbError::Busy,
            // FULL; and what a file system says that finds out late, or has no room for the index of the WAL.
            Some(IOERR_WRITE | IOERR_FSYNC | IOERR_SHMSIZE) => AuthDbError::DiskFull,
            Some(code) if code & 0xff == 13 => AuthDbError::DiskFull,
            Some(code) if code & 0xff == 8 => AuthDbError::ReadOnly,
            _ => AuthDbError::Database(err.into()),
        }
    }
}

/// Did the statement fail because the row is there already?
pub(super) fn is_unique_violation(err: &sqlx::Error) -> bool {
    err.as_database_error().is_some_and(|e| e.is_unique_violation())
}
