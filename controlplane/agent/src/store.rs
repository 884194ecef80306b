//! The last good tenants on disk: a snapshot, and the changes since.
//!
//! ```text
//! snapshot.json                    model::snapshot_file, replaced whole
//! snapshot.5f2c…9a.changes         for the snapshot with this checksum: a line per change, appended and synced
//! snapshot.json.lock               held by the process that writes them
//! ```
//! A change costs its own size, however many tenants there are. When the changes have grown to a quarter of the snapshot,
//! a new snapshot is written by another thread; changes that come meanwhile go to the old file and to the new one, and
//! the rename makes the new pair the one that counts, so after a power cut there is one whole pair or the other.
//!
//! What is read is checked: a change that is cut short, damaged, or leads on from another generation ends the reading,
//! and what came before it counts. `model/FORMAT.md` has the bytes.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use authdb::{AuthDb, AuthDbError, Missing};
use model::ids::Generation;
use model::limits::SNAPSHOT_FILE_BYTES_MAX;
use model::{ChangesDoc, Snapshot, SnapshotDoc, snapshot_file};

use crate::limits::CHANGES_BYTES_MIN;

/// The database at `location` for an agent that keeps its snapshot at `snapshot_path`.
///
/// A missing file is made only where there never was one: if a snapshot says that tenants existed, an empty database
/// would delete them all, so the file is waited for instead.
pub fn open_db(location: &str, snapshot_path: &Path) -> Result<Arc<dyn AuthDb>, AuthDbError> {
    let missing = if snapshot_path.exists() { Missing::IsAnError } else { Missing::Create };
    authdb::at(location, missing)
}

/// What an earlier run left.
pub(crate) struct Found {
    pub snapshot: Snapshot,
    pub base: Base,
    pub changes: VecDeque<ChangesDoc>,
    pub changes_bytes: u64,
}

/// A snapshot that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    checksum: String,
    bytes: u64,
}

/// What was read of a snapshot file, for the wire.
pub(crate) struct Raw {
    pub base: Vec<u8>,
    pub changes: Vec<ChangesDoc>,
}

/// The tenants of an earlier run. Damaged, unreadable or absent: none, and the log says which.
pub(crate) fn read(path: &Path) -> Option<Found> {
    match try_read(path) {
        Ok(Some(found)) => {
            let generation = found.snapshot.generation;
            tracing::info!(path = %path.display(), %generation, "tenants loaded from the last snapshot on disk");
            Some(found)
        }
        Ok(None) => None,
        Err(err) => {
            tracing::error!(path = %path.display(), err, "snapshot on disk is unusable, starting without it");
            None
        }
    }
}

fn try_read(path: &Path) -> Result<Option<Found>, String> {
    let Some(bytes) = read_bounded(path).map_err(|err| err.to_string())? else { return Ok(None) };
    let base = Base::of(&bytes).ok_or("it does not begin with a checksum")?;
    let doc = snapshot_file::decode(&bytes).map_err(|err| crate::with_causes(&err))?;
    drop(bytes);
    let mut snapshot = Snapshot::build(doc).map_err(|err| err.to_string())?;
    let (changes, changes_bytes) = read_changes(&base.changes_path(path), &mut snapshot);
    Ok(Some(Found { snapshot, base, changes, changes_bytes }))
}

fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err),
    };
    let mut bytes = Vec::new();
    (&mut file).take(SNAPSHOT_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SNAPSHOT_FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {SNAPSHOT_FILE_BYTES_MAX} bytes")));
    }
    Ok(Some(bytes))
}

/// Brings the snapshot as far as the changes lead; those that were used, and their bytes.
fn read_changes(path: &Path, snapshot: &mut Snapshot) -> (VecDeque<ChangesDoc>, u64) {
    let bytes = match read_bounded(path) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(err) => {
            tracing::error!(path = %path.display(), %err, "changes on disk cannot be read, going on without them");
            return (VecDeque::new(), 0);
        }
    };
    let (mut used, mut used_bytes) = (VecDeque::new(), 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let next = snapshot_file::decode_changes(line)
            .and_then(|changes| Some((snapshot.apply(changes.clone()).ok()?, changes)));
        let Some((next, changes)) = next else {
            let generation = snapshot.generation;
            tracing::warn!(path = %path.display(), %generation, "changes on disk end in the middle (a crash?)");
            break;
        };
        *snapshot = next;
        used.push_back(changes);
        used_bytes += line.len() as u64;
    }
    (used, used_bytes)
}

impl Base {
    fn of(file: &[u8]) -> Option<Self> {
        let checksum = snapshot_file::checksum(file)?;
        Some(Self { checksum: checksum.chars().take(16).collect(), bytes: file.len() as u64 })
    }

    fn changes_path(&self, snapshot_path: &Path) -> PathBuf {
        snapshot_path.with_extension(format!("{}.changes", self.checksum))
    }
}

/// The files, for the one process that writes them.
pub(crate) struct Store {
    path: PathBuf,
    base: Option<Base>,
    /// What the files say, if they say anything.
    tip: Option<Generation>,
    appending: Option<File>,
    changes: VecDeque<ChangesDoc>,
    changes_bytes: u64,
    /// A new base is being written; changes since its generation.
    rotating: Option<Vec<ChangesDoc>>,
}

/// A new snapshot, written and synced beside the one in force.
pub(crate) struct Written {
    aside: PathBuf,
    base: Base,
    generation: Generation,
}

impl Store {
    /// Goes on with what was found; removes what a process that died left lying about.
    pub(crate) fn new(path: PathBuf, found: Option<(Base, Generation, VecDeque<ChangesDoc>, u64)>) -> Self {
        let mut store = Self {
            path,
            base: None,
            tip: None,
            appending: None,
            changes: VecDeque::new(),
            changes_bytes: 0,
            rotating: None,
        };
        if let Some((base, tip, changes, changes_bytes)) = found {
            (store.base, store.tip) = (Some(base), Some(tip));
            (store.changes, store.changes_bytes) = (changes, changes_bytes);
        }
        store.remove_litter();
        store
    }

    fn remove_litter(&self) {
        let (Some(name), Some(dir)) = (self.path.file_name().and_then(|name| name.to_str()), self.path.parent()) else {
            return;
        };
        let stem = name.strip_suffix(".json").unwrap_or(name);
        let ours = self.base.as_ref().map(|base| base.changes_path(&self.path));
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, found) = (entry.path(), entry.file_name());
            let Some(found) = found.to_str() else { continue };
            let is_aside = found.starts_with(name) && found.ends_with(".new");
            let is_changes = found.starts_with(&format!("{stem}.")) && found.ends_with(".changes");
            if (is_aside || is_changes) && Some(&path) != ours.as_ref() {
                // Best effort: it is in nobody's way but the disk's.
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Appends a change and syncs. Blocks.
    ///
    /// # Errors
    /// The disk's; then the files still say what they said, and a new base is due.
    pub(crate) fn append(&mut self, changes: &ChangesDoc) -> io::Result<()> {
        if self.tip != Some(changes.since) {
            return Err(io::Error::other("the files are behind"));
        }
        let line = snapshot_file::encode_changes(changes);
        let written = self.append_line(&line);
        if let Err(err) = written {
            // What is there of it is cut off when it is read; nothing may follow it.
            self.appending = None;
            self.tip = None;
            return Err(err);
        }
        self.tip = Some(changes.generation);
        self.changes_bytes += line.len() as u64;
        self.changes.push_back(changes.clone());
        if let Some(since) = &mut self.rotating {
            since.push(changes.clone());
        }
        Ok(())
    }

    fn append_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.appending.is_none() {
            let base = self.base.as_ref().ok_or_else(|| io::Error::other("there is no snapshot to change"))?;
            let path = base.changes_path(&self.path);
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            // A tail that could not be read goes before anything stands behind it.
            file.set_len(self.changes_bytes)?;
            let mut file = file;
            io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
            sync_directory(&path)?;
            self.appending = Some(file);
        }
        let file = self.appending.as_mut().expect("opened above");
        file.write_all(line)?;
        file.sync_data()
    }

    /// Is a new base due: because there is none, the files are behind, or the changes have grown?
    pub(crate) fn wants_base(&self, in_force: Generation) -> bool {
        let bytes_max = self.base.as_ref().map_or(0, |base| (base.bytes / 4).max(CHANGES_BYTES_MIN));
        self.rotating.is_none() && (self.tip != Some(in_force) || self.changes_bytes > bytes_max)
    }

    /// Changes from now on are kept for the base that is about to be written.
    pub(crate) fn begin_rotation(&mut self) -> PathBuf {
        self.rotating = Some(Vec::new());
        self.path.clone()
    }

    pub(crate) fn abandon_rotation(&mut self) {
        self.rotating = None;
    }

    /// The new base counts from now on, with the changes that came since. Blocks for a moment.
    pub(crate) fn finish_rotation(&mut self, written: Written) -> io::Result<()> {
        let since = self.rotating.take().unwrap_or_default();
        let Written { aside, base, generation } = written;
        let changes: VecDeque<ChangesDoc> =
            since.into_iter().skip_while(|changes| changes.since != generation).collect();
        let text: Vec<u8> = changes.iter().flat_map(snapshot_file::encode_changes).collect();
        let path = base.changes_path(&self.path);
        let renamed = (|| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&aside, &self.path)?;
            sync_directory(&self.path)?;
            Ok(file)
        })();
        let file = match renamed {
            Ok(file) => file,
            Err(err) => {
                // Best effort: the error that matters is the first one.
                let _ = (fs::remove_file(&aside), fs::remove_file(&path));
                return Err(err);
            }
        };
        let old = self.base.replace(base);
        self.tip = Some(changes.back().map_or(generation, |last| last.generation));
        (self.changes, self.changes_bytes, self.appending) = (changes, text.len() as u64, Some(file));
        if let Some(old) = old.filter(|old| Some(old) != self.base.as_ref()) {
            let _ = fs::remove_file(old.changes_path(&self.path));
        }
        Ok(())
    }

    /// The files' content, to be sent to somebody. `None`: there is nothing that could be sent.
    pub(crate) fn raw(&self) -> Option<Raw> {
        self.tip?;
        let base = read_bounded(&self.path).ok().flatten()?;
        (Base::of(&base) == self.base).then(|| Raw { base, changes: self.changes.iter().cloned().collect() })
    }
}

/// Writes a snapshot beside the one in force and syncs it. Blocks, for seconds if there are a million rows.
pub(crate) fn write_aside(path: &Path, doc: &SnapshotDoc) -> io::Result<Written> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.new", std::process::id()));
    let aside = PathBuf::from(aside);
    let bytes = snapshot_file::encode(doc);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(&bytes)?;
        file.sync_all()
    })();
    if let Err(err) = written {
        // Best effort: the error that matters is the first one.
        let _ = fs::remove_file(&aside);
        return Err(err);
    }
    let base = Base::of(&bytes).expect("it was just encoded");
    Ok(Written { aside, base, generation: doc.generation() })
}

fn sync_directory(of: &Path) -> io::Result<()> {
    let parent = of.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
