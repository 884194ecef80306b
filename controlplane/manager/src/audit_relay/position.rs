//! Up to where the audit log is in its topic, as a file: `{"topic":"main/gafka.audit","history":"3f2a…","num":17}`.
//!
//! Replaced in one step, on disk before the relay goes on, and for this user only. It is no secret, but who may change it
//! may keep rows from the topic.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use model::ids::HistoryId;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    /// `CLUSTER/TOPIC`.
    pub topic: String,
    /// Of the log that `num` counts.
    pub history: HistoryId,
    /// The last row that Kafka has acknowledged; 0: none.
    pub num: u64,
}

impl Position {
    pub(super) fn read(path: &Path) -> io::Result<Option<Position>> {
        match fs::read(path) {
            Ok(content) => Ok(Some(serde_json::from_slice(&content)?)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let aside = path.with_added_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        File::open(path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
    }
}
