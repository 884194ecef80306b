//! Directories that are made here and run later: sealed when made, looked at again before every use.
//!
//! ```text
//! venv/         what is run
//! venv.sums     of BASIS            what it was made from (digest of sources, of wheels)
//!               sha256  path        every file below it; of a symbolic link, its target
//! ```
//!
//! A file that was changed, added or removed, and a basis that is another one, are reasons to make it anew. What an
//! interrupted make left has no seal and is made anew too. Who may write the cache may also write the seal: this finds
//! broken disks, half-done work and helpful hands, not an attacker with our own rights.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache;
use crate::lockfile::Sums;

/// Whether the directory was found as it was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    AsSealed,
    /// There was none.
    First,
    /// There was one that could not be used, for this reason.
    Anew(String),
}

/// Makes sure that `dir` is what `make` made of `basis`; the caller holds a lock on it.
pub fn made(dir: &Path, basis: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<Made> {
    let outcome = match damage(dir, basis)? {
        None => return Ok(Made::AsSealed),
        Some(_) if !dir.exists() => Made::First,
        Some(why) => Made::Anew(why),
    };
    remove_if_there(&seal_path(dir))?;
    remove_if_there(dir)?;
    make(dir)?;
    fs::write(seal_path(dir), format!("of {basis}\n{}", to_text(&sums_of(dir)?)))?;
    Ok(outcome)
}

/// Why `dir` may not be used, if so.
fn damage(dir: &Path, basis: &str) -> Result<Option<String>> {
    let Ok(seal) = fs::read_to_string(seal_path(dir)) else {
        return Ok(Some(format!("{} was not finished", dir.display())));
    };
    let (first, rest) = seal.split_once('\n').unwrap_or((&seal, ""));
    if first.strip_prefix("of ") != Some(basis) {
        return Ok(Some(format!("{} was made from something else", dir.display())));
    }
    let Ok(sealed) = parse(rest) else { return Ok(Some(format!("the seal of {} is damaged", dir.display()))) };
    if !dir.is_dir() {
        return Ok(Some(format!("{} is gone", dir.display())));
    }
    Ok(difference(&sealed, &sums_of(dir)?).map(|what| format!("{} was changed: {what}", dir.display())))
}

fn seal_path(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".sums");
    name.into()
}

/// The first difference, in words.
pub fn difference(wanted: &Sums, found: &Sums) -> Option<String> {
    let changed = wanted.iter().find_map(|(file, sum)| match found.get(file) {
        None => Some(format!("{file} is missing")),
        Some(other) if other != sum => Some(format!("{file} has other bytes")),
        Some(_) => None,
    });
    changed.or_else(|| found.keys().find(|file| !wanted.contains_key(*file)).map(|file| format!("{file} was added")))
}

/// Every file below `dir`, by its path from there.
pub fn sums_of(dir: &Path) -> Result<Sums> {
    let mut sums = Sums::new();
    let mut queue = vec![PathBuf::new()];
    while let Some(below) = queue.pop() {
        let listed = dir.join(&below);
        for entry in fs::read_dir(&listed).with_context(|| format!("cannot list {}", listed.display()))? {
            let entry = entry?;
            let (path, kind) = (below.join(entry.file_name()), entry.file_type()?);
            let name = path.to_str().filter(|name| !name.contains('\n')).context("files have plain names")?;
            if kind.is_dir() {
                queue.push(path);
            } else if kind.is_symlink() {
                sums.insert(name.to_owned(), format!("link to {}", fs::read_link(entry.path())?.display()));
            } else {
                sums.insert(name.to_owned(), cache::sha256_of(&entry.path())?);
            }
        }
    }
    Ok(sums)
}

pub fn to_text(sums: &Sums) -> String {
    sums.iter().map(|(file, sum)| format!("{sum}  {file}\n")).collect()
}

pub fn parse(text: &str) -> Result<Sums> {
    text.lines()
        .map(|line| line.split_once("  ").map(|(sum, file)| (file.to_owned(), sum.to_owned())))
        .collect::<Option<Sums>>()
        .context("a damaged list of checksums")
}

/// A file or a directory.
pub fn remove_if_there(path: &Path) -> Result<()> {
    let removed = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn make(dir: &Path) -> Result<()> {
        fs::create_dir_all(dir.join("lib"))?;
        fs::write(dir.join("lib/Client.class"), "compiled")?;
        fs::write(dir.join("lib/empty"), "")?;
        symlink("lib/Client.class", dir.join("link"))?;
        Ok(())
    }

    /// Makes it, lets `hand` at it, and asks again.
    #[track_caller]
    fn check(hand: impl FnOnce(&Path), expected: Option<&str>) {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("made-1.0");
        assert_eq!(made(&dir, "b", make).unwrap(), Made::First);
        hand(&dir);
        match (made(&dir, "b", make).unwrap(), expected) {
            (Made::AsSealed, None) => {}
            (Made::Anew(why), Some(expected)) => assert!(why.contains(expected), "{why}"),
            (found, expected) => panic!("found {found:?}, expected {expected:?}"),
        }
        assert_eq!(fs::read_to_string(dir.join("lib/Client.class")).unwrap(), "compiled");
        assert_eq!(made(&dir, "b", |_| panic!("made again without a reason")).unwrap(), Made::AsSealed);
    }

    #[test]
    fn what_nobody_touched_is_used() {
        check(|_| {}, None);
    }

    #[test]
    fn a_changed_byte_an_added_a_missing_and_a_redirected_file_are_noticed() {
        check(|dir| fs::write(dir.join("lib/Client.class"), "Compiled").unwrap(), Some("Client.class has other bytes"));
        check(|dir| fs::write(dir.join("lib/Evil.class"), "").unwrap(), Some("lib/Evil.class was added"));
        check(|dir| fs::remove_file(dir.join("lib/empty")).unwrap(), Some("lib/empty is missing"));
        let redirect = |dir: &Path| {
            fs::remove_file(dir.join("link")).unwrap();
            symlink("lib/empty", dir.join("link")).unwrap();
        };
        check(redirect, Some("link has other bytes"));
    }

    #[test]
    fn a_seal_that_is_gone_or_damaged_is_a_reason_too() {
        check(|dir| fs::remove_file(seal_path(dir)).unwrap(), Some("not finished"));
        check(|dir| fs::write(seal_path(dir), "of b\nnonsense").unwrap(), Some("the seal"));
        check(|dir| fs::write(seal_path(dir), "of c\n").unwrap(), Some("made from something else"));
        check(|dir| fs::remove_dir_all(dir.join("lib")).unwrap(), Some("is missing"));
    }

    #[test]
    fn what_was_interrupted_is_not_used() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("made");
        let failing = |dir: &Path| {
            make(dir)?;
            anyhow::bail!("the power went")
        };
        made(&dir, "b", failing).unwrap_err();
        assert!(matches!(made(&dir, "b", make).unwrap(), Made::Anew(why) if why.contains("not finished")));
    }

    #[test]
    fn checksum_lists_survive_a_round_trip() {
        let sums: Sums = [("a b.jar".to_owned(), "00".to_owned())].into();
        assert_eq!(parse(&to_text(&sums)).unwrap(), sums);
    }
}
