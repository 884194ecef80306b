//! A disk of a broker's own, and the day it is full.
//!
//! | this machine | the disk | full by |
//! |---|---|---|
//! | lets us mount | a tmpfs of [`DISK_BYTES`] over the broker's data directory | a file that takes what is left |
//! | does not | the directory itself | `prlimit --fsize`: every write of that process that would grow a file fails |
//!
//! Either way Kafka's append fails with an I/O error, and a broker whose only log directory failed ends itself.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::limits::{DISK_BYTES, SYSTEM_TOOL_WITHIN};
use crate::process::{Process, run, tethered};

const FILLER: &str = "filler-of-the-test-kit";

/// Where one broker keeps its data.
#[derive(Debug)]
pub enum Disk {
    Mounted(Mount),
    Shared,
}

/// A mounted filesystem; unmounted on drop, or by the next run if this one is killed
/// ([`scratch_dir`](crate::process::scratch_dir)).
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
}

impl Disk {
    /// A filesystem of its own at `data` (an empty directory) if this machine permits that.
    pub fn make(data: &Path) -> Self {
        Self::make_of(data, DISK_BYTES)
    }

    /// The same of another size.
    pub fn make_of(data: &Path, bytes: u64) -> Self {
        let mut command = tethered("mount");
        command.args(["-t", "tmpfs", "-o"]).arg(format!("size={bytes}")).arg("gafka-testkit").arg(data);
        match run(command, SYSTEM_TOOL_WITHIN) {
            Ok(_) => Self::Mounted(Mount { at: data.to_owned() }),
            Err(_) => Self::Shared,
        }
    }

    /// From now on nothing can be appended by `broker`.
    pub fn fill(&self, broker: &mut Process) -> Result<()> {
        match self {
            Self::Mounted(mount) => take_the_rest(&mount.at),
            Self::Shared => {
                let mut command = tethered("prlimit");
                command.args(["--fsize=1:unlimited", "--pid"]).arg(broker.id().to_string());
                run(command, SYSTEM_TOOL_WITHIN).map(drop)
            }
        }
    }

    /// Room again; a limited process stays limited until it is started anew.
    pub fn free(&self) -> Result<()> {
        match self {
            Self::Mounted(mount) => fs::remove_file(mount.at.join(FILLER)).context("the disk was not filled"),
            Self::Shared => Ok(()),
        }
    }
}

/// Writes until the filesystem has no byte left.
fn take_the_rest(dir: &Path) -> Result<()> {
    let mut file = File::create(dir.join(FILLER))?;
    let mut piece = &[0x5a; 1 << 20][..];
    let mut written = 0;
    while !piece.is_empty() {
        match file.write(piece) {
            Ok(count) => written += count as u64,
            // Whatever is left is smaller than this piece.
            Err(err) if err.kind() == ErrorKind::StorageFull => piece = &piece[..piece.len() / 2],
            Err(err) => return Err(err).context("cannot fill the disk"),
        }
        if written > DISK_BYTES {
            bail!("{} is larger than {DISK_BYTES} bytes", dir.display());
        }
    }
    Ok(())
}

impl Drop for Mount {
    fn drop(&mut self) {
        unmount(&self.at);
    }
}

/// Lazily, so that a process that still looks into it keeps nobody from cleaning up.
pub(crate) fn unmount(at: &Path) {
    let mut command = tethered("umount");
    command.arg("--lazy").arg(at);
    if let Err(err) = run(command, SYSTEM_TOOL_WITHIN) {
        crate::progress::say(&format!("  {} stays mounted: {err:#}", at.display()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::scratch_dir;

    #[test]
    fn a_full_disk_takes_nothing_until_it_is_freed() {
        let dir = scratch_dir("disk").unwrap();
        let disk = Disk::make(dir.path());
        let Disk::Mounted(_) = &disk else { return };
        let file = dir.path().join("log");
        fs::write(&file, "before").unwrap();
        take_the_rest(dir.path()).unwrap();
        let err = fs::write(dir.path().join("other"), [0; 8192]).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&file).unwrap(), "before");
        disk.free().unwrap();
        // The kernel gives the pages of a removed file back in its own time: on a busy machine not at once.
        let write = || fs::write(dir.path().join("other"), [0; 8192]).is_ok();
        crate::wait::until_true("room on the disk again", Duration::from_secs(10), write).unwrap();
        drop(disk);
        assert!(!file.exists(), "still mounted");
    }
}
