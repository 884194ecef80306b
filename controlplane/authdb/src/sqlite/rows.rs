//! From columns to checked types. What is stored was checked when it went in, and is checked again on its way out:
//! somebody may have edited the file by hand.

use model::scram::ScramVerifier;
use model::secrets::{SecretHash, StoredSecret};
use model::topic_options::{Compression, Partitioner, TopicOptions};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::AuthDbError;

pub(super) fn bad(table: &'static str, why: impl std::fmt::Display) -> AuthDbError {
    AuthDbError::BadRow { table, why: why.to_string() }
}

pub(super) fn unsigned<T: TryFrom<i64>>(table: &'static str, value: i64) -> Result<T, AuthDbError> {
    T::try_from(value).map_err(|_| bad(table, format_args!("{value} is out of range")))
}

pub(super) fn unsigned_column<T: TryFrom<i64>>(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<T, AuthDbError> {
    unsigned(table, row.try_get(column)?)
}

pub(super) fn optional_unsigned(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<Option<u32>, AuthDbError> {
    row.try_get::<Option<i64>, _>(column)?.map(|value| unsigned(table, value)).transpose()
}

/// A text column as one of the checked names.
pub(super) fn name<T: TryFrom<String>>(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<T, AuthDbError>
where
    T::Error: std::fmt::Display,
{
    T::try_from(row.try_get::<String, _>(column)?).map_err(|err| bad(table, err))
}

/// As [`name`], the empty text standing for "every one".
pub(super) fn optional_name<T: TryFrom<String>>(
    row: &SqliteRow,
    table: &'static str,
    column: &'static str,
) -> Result<Option<T>, AuthDbError>
where
    T::Error: std::fmt::Display,
{
    let text: String = row.try_get(column)?;
    if text.is_empty() { Ok(None) } else { T::try_from(text).map(Some).map_err(|err| bad(table, err)) }
}

pub(super) fn stored_secret(row: &SqliteRow) -> Result<StoredSecret, AuthDbError> {
    let sha256: Vec<u8> = row.try_get("sha256")?;
    let sha256 = sha256.try_into().map_err(|_| bad("secret", "sha256 is not 32 bytes long"))?;
    let verifier = |stored, server| -> Result<ScramVerifier, AuthDbError> {
        Ok(ScramVerifier { stored_key: row.try_get(stored)?, server_key: row.try_get(server)? })
    };
    Ok(StoredSecret {
        sha256: SecretHash::from_bytes(sha256),
        scram_256: verifier("scram_256_stored_key", "scram_256_server_key")?,
        scram_512: verifier("scram_512_stored_key", "scram_512_server_key")?,
    })
}

pub(super) fn topic_options(row: &SqliteRow) -> Result<TopicOptions, AuthDbError> {
    let word = |column| row.try_get::<String, _>(column);
    let (partitioner, compression) = (word("partitioner")?, word("compression")?);
    Ok(TopicOptions {
        partitioner: Partitioner::parse(&partitioner).ok_or_else(|| bad("topic", &partitioner))?,
        compression: Compression::parse(&compression).ok_or_else(|| bad("topic", &compression))?,
        strip_2017_tags: row.try_get("strip_2017_tags")?,
        handoff: row.try_get("handoff")?,
        message_bytes_max: unsigned_column(row, "topic", "message_bytes_max")?,
    })
}
