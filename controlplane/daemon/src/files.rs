//! Files that nobody else may read.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Replaces the file in one step, readable by this user only, on disk when it returns.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("tmp.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

/// Whatever this process makes from now on is for its user alone: segments, journals, databases, logs, sockets.
pub fn make_all_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Makes a directory that nobody else may enter, with what leads there. One that is there already is made private: it
/// holds credentials, hashes and messages. On a file system that is read-only by now it stays as it is.
pub fn make_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mode = fs::metadata(dir)?.permissions().mode();
    if mode & 0o077 != 0 {
        match fs::set_permissions(dir, Permissions::from_mode(mode & !0o077)) {
            Err(err) if err.kind() != io::ErrorKind::ReadOnlyFilesystem => return Err(err),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_private_also_when_it_was_there() {
        let parent = tempfile::tempdir().expect("a directory");
        let mode = |dir: &Path| fs::metadata(dir).expect("there").permissions().mode() & 0o777;
        let (new, open) = (parent.path().join("a/b"), parent.path().join("open"));
        fs::create_dir(&open).expect("made");
        fs::set_permissions(&open, Permissions::from_mode(0o755)).expect("opened");
        for dir in [&new, &open] {
            make_private_dir(dir).expect("made");
            assert_eq!(mode(dir), 0o700, "{dir:?}");
        }
    }

    #[test]
    fn a_private_file_is_replaced_whole_and_read_by_nobody_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret.json");
        write_private(&path, b"a longer first content").expect("written");
        write_private(&path, b"second").expect("written");
        assert_eq!(fs::read(&path).expect("there"), b"second");
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1, "no temporary file is left");
    }
}
