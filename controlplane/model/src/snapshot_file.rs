//! The snapshot as a file: what a gateway starts from when nothing else answers. FORMAT.md has the bytes.
//!
//! ```text
//! gafka-snapshot 1 sha256:5f2c…9a\n      format version, checksum of everything after this line
//! {"generation":7,"made_at_ms":…,"apps":[…],"topics":[…],"grants":[…]}
//! ```
//! A file that is damaged, from the future or cut short is an error that says so; nothing is read out of it. The
//! reader then starts with no snapshot, which refuses everybody, rather than with half of one.
//!
//! Changes since stand in a file of their own, a line each: `sha256:5f2c…9a {"since":…,"parts":[…]}`.

use crate::doc::{ChangesDoc, SnapshotDoc};
use crate::secrets::SecretHash;

/// The format this version writes. It reads this one only; a bump comes with a reader for the old one.
pub const FORMAT: u32 = 1;

const MAGIC: &str = "gafka-snapshot";

/// Why a snapshot file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFileError {
    #[error("snapshot file is empty")]
    Empty,
    #[error("snapshot file does not begin with a {MAGIC} line")]
    NotASnapshot,
    #[error("snapshot file has format {found}, this version reads format {FORMAT}")]
    UnknownFormat { found: String },
    #[error("snapshot file is damaged: its checksum does not match its {body_bytes} bytes of content")]
    Damaged { body_bytes: usize },
    #[error("snapshot file is intact but cannot be understood")]
    Content(#[source] serde_json::Error),
}

pub fn encode(doc: &SnapshotDoc) -> Vec<u8> {
    let body = serde_json::to_vec(doc).expect("a snapshot has string keys only and no failing serializer");
    let mut file = format!("{MAGIC} {FORMAT} sha256:{}\n", SecretHash::of(&body).to_hex()).into_bytes();
    file.extend_from_slice(&body);
    file.push(b'\n');
    file
}

pub fn decode(file: &[u8]) -> Result<SnapshotDoc, SnapshotFileError> {
    if file.is_empty() {
        return Err(SnapshotFileError::Empty);
    }
    let line_end = file.iter().take(128).position(|b| *b == b'\n').ok_or(SnapshotFileError::NotASnapshot)?;
    let line = std::str::from_utf8(&file[..line_end]).map_err(|_| SnapshotFileError::NotASnapshot)?;
    let mut words = line.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(SnapshotFileError::NotASnapshot);
    }
    let format = words.next().unwrap_or_default();
    if format != FORMAT.to_string() {
        return Err(SnapshotFileError::UnknownFormat { found: format.to_owned() });
    }
    let body = &file[line_end + 1..];
    let body = body.strip_suffix(b"\n").ok_or(SnapshotFileError::Damaged { body_bytes: body.len() })?;
    let checksum = words.next().and_then(|word| SecretHash::from_hex(word.strip_prefix("sha256:")?));
    if checksum.is_none_or(|expected| !expected.matches(&SecretHash::of(body))) || words.next().is_some() {
        return Err(SnapshotFileError::Damaged { body_bytes: body.len() });
    }
    serde_json::from_slice(body).map_err(SnapshotFileError::Content)
}

/// The checksum that a snapshot file says it has; not checked here.
pub fn checksum(file: &[u8]) -> Option<&str> {
    let line = file.split(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(line).ok()?.strip_prefix(MAGIC)?.split(' ').nth(2)?.strip_prefix("sha256:")
}

/// A line of a changes file, with its end.
pub fn encode_changes(changes: &ChangesDoc) -> Vec<u8> {
    let body = serde_json::to_vec(changes).expect("changes have string keys only and no failing serializer");
    let mut line = format!("sha256:{} ", SecretHash::of(&body).to_hex()).into_bytes();
    line.extend_from_slice(&body);
    line.push(b'\n');
    line
}

/// `None`: cut short, damaged, or from a version that says it otherwise.
pub fn decode_changes(line: &[u8]) -> Option<ChangesDoc> {
    let line = line.strip_suffix(b"\n")?;
    let split = line.iter().take(128).position(|byte| *byte == b' ')?;
    let (checksum, body) = (&line[..split], &line[split + 1..]);
    let expected = SecretHash::from_hex(std::str::from_utf8(checksum).ok()?.strip_prefix("sha256:")?)?;
    if !expected.matches(&SecretHash::of(body)) {
        return None;
    }
    serde_json::from_slice(body).ok()
}
