//! Rotten bytes are put aside for whoever wants to look, and never stop a start.

use std::io;

use bytes::Bytes;
use disk::Open;
use tracing::warn;

use crate::core::{Core, is_full, names};
use crate::limits::QUARANTINE_BYTES_MAX;

fn dir(core: &Core) -> io::Result<()> {
    match core.disk.make_dir(&core.path(names::QUARANTINE)) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| core.persist_dir()),
    }
}

/// Moves a file there.
pub fn set_aside(core: &Core, name: &str) -> io::Result<()> {
    if core.is_looking {
        return Ok(());
    }
    dir(core)?;
    let aside = core.path(names::QUARANTINE);
    core.disk.rename(&core.path(name), &aside.join(name))?;
    core.disk.persist_dir(&aside)?;
    core.persist_dir()?;
    warn!(name, "is rotten, and lies in quarantine now");
    Ok(())
}

/// Copies part of a segment there, once. Without room, or when there is much already, it stays where it is.
pub fn copy(core: &Core, segment: u64, at: u64, bytes: u64) -> io::Result<()> {
    if core.is_looking {
        return Ok(());
    }
    match try_copy(core, segment, at, bytes) {
        Err(err) if is_full(&err) => {
            warn!(segment, at, bytes, %err, "no room for a copy of what is rotten");
            Ok(())
        }
        done => done,
    }
}

fn try_copy(core: &Core, segment: u64, at: u64, bytes: u64) -> io::Result<()> {
    dir(core)?;
    let aside = core.path(names::QUARANTINE);
    let path = aside.join(format!("segment-{segment:016x}-{at:08x}-{bytes:08x}"));
    let mut there = 0;
    for entry in core.disk.list(&aside)? {
        let meta = core.disk.look_at(&aside.join(&entry.name))?;
        if path.file_name().is_some_and(|name| name == &*entry.name) && meta.bytes == bytes {
            return Ok(());
        }
        there += meta.bytes;
    }
    if there + bytes > QUARANTINE_BYTES_MAX {
        warn!(segment, at, bytes, there, "quarantine is full; what is rotten stays where it is");
        return Ok(());
    }
    let rotten = core.disk.open(&core.path(&names::segment(segment)), Open::Existing)?;
    let content = core.read_or_zeros(&rotten, at, bytes as usize)?;
    let file = core.disk.open(&path, Open::Empty)?;
    core.disk.write_all(&file, content, Bytes::new(), 0)?;
    core.disk.persist(&file, 0)?;
    core.disk.persist_dir(&aside)?;
    core.metrics.quarantined_bytes.add(bytes);
    Ok(())
}
