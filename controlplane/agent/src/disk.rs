//! The last good snapshot on disk: written whole or not at all, read with suspicion.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use authdb::{AuthDb, AuthDbError, Missing};
use model::limits::SNAPSHOT_FILE_BYTES_MAX;
use model::{Snapshot, SnapshotDoc, snapshot_file};

/// The database at `location` for an agent that keeps its snapshot at `snapshot_path`.
///
/// A missing file is made only where there never was one: if a snapshot says that tenants existed, an empty database
/// would delete them all, so the file is waited for instead.
pub fn open_db(location: &str, snapshot_path: &Path) -> Result<AuthDb, AuthDbError> {
    let missing = if snapshot_path.exists() { Missing::IsAnError } else { Missing::Create };
    AuthDb::at(location, missing)
}

/// The snapshot of an earlier run. Damaged, unreadable or absent: none, and the log says which.
pub(crate) async fn read_snapshot(path: &Path) -> Option<Snapshot> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_blocking(&owned)).await.expect("reading does not panic");
    match read {
        Ok(Some(snapshot)) => {
            let generation = snapshot.generation;
            tracing::info!(path = %path.display(), %generation, "tenants loaded from the last snapshot on disk");
            Some(snapshot)
        }
        Ok(None) => None,
        Err(err) => {
            tracing::error!(path = %path.display(), err, "snapshot on disk is unusable, starting without it");
            None
        }
    }
}

fn read_blocking(path: &Path) -> Result<Option<Snapshot>, String> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err.to_string()),
    };
    let mut bytes = Vec::new();
    (&mut file).take(SNAPSHOT_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|err| err.to_string())?;
    if bytes.len() as u64 > SNAPSHOT_FILE_BYTES_MAX {
        return Err(format!("it has more than {SNAPSHOT_FILE_BYTES_MAX} bytes"));
    }
    let doc = snapshot_file::decode(&bytes).map_err(|err| crate::with_causes(&err))?;
    Snapshot::build(doc).map(Some).map_err(|err| err.to_string())
}

/// Writes aside, syncs, renames, syncs the directory: after a power cut there is the old file or the new one.
pub(crate) async fn write_snapshot(path: &Path, doc: SnapshotDoc) -> io::Result<()> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || write_blocking(&path, &doc)).await.expect("writing does not panic")
}

fn write_blocking(path: &Path, doc: &SnapshotDoc) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    // Processes that share a data directory by mistake must not write into one file.
    aside.push(format!(".{}.new", std::process::id()));
    let aside = PathBuf::from(aside);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(&snapshot_file::encode(doc))?;
        file.sync_all()?;
        fs::rename(&aside, path)
    })();
    if written.is_err() {
        // Best effort: the error that matters is the first one.
        let _ = fs::remove_file(&aside);
        return written;
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
