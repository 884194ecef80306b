//! Where fetched components live: outside the checkout, shared by every checkout and every run of one user.
//!
//! ```text
//! $GAFKA_CACHE, else $XDG_CACHE_HOME/gafka, else ~/.cache/gafka
//!   components/kafka-4.4.0/          one directory per component and version, made complete before it gets its name
//!   components/kafka-4.4.0.sums      what was fetched into it, `sha256  file` per line
//!   components/kafka-4.4.0.lock      held while one process fetches, the others wait
//! ```

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The root of the cache; not necessarily there yet.
pub fn root() -> Result<PathBuf> {
    root_from(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn root_from(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    if let Some(root) = variable("GAFKA_CACHE") {
        return Ok(root);
    }
    if let Some(root) = variable("XDG_CACHE_HOME") {
        return Ok(root.join("gafka"));
    }
    let home = variable("HOME").context("none of GAFKA_CACHE, XDG_CACHE_HOME and HOME is set")?;
    Ok(home.join(".cache").join("gafka"))
}

/// The directory all components are in, made if need be.
pub fn components_dir() -> Result<PathBuf> {
    let dir = root()?.join("components");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make the cache {}", dir.display()))?;
    Ok(dir)
}

/// Holds a component's lock until dropped; a second process waits here while the first one fetches.
pub fn exclusive(path: &Path) -> Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// SHA-256 of a file, in lower-case hex.
pub fn sha256_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(hex(&hasher.finalize()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], expected: &str) {
        let lookup =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value));
        assert_eq!(root_from(lookup).unwrap(), PathBuf::from(expected));
    }

    #[test]
    fn the_cache_is_where_the_user_says_else_where_the_desktop_says_else_in_home() {
        let all = [("GAFKA_CACHE", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")];
        check(&all, "/a");
        check(&all[1..], "/b/gafka");
        check(&all[2..], "/c/.cache/gafka");
        assert!(root_from(|_| None).is_err());
    }

    #[test]
    fn checksums_are_those_of_sha256sum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, "abc").unwrap();
        assert_eq!(sha256_of(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
