//! `credentials.json` in the data directory: what `quickstart` and a first `serve` made up, kept with mode 0600.
//!
//! It is written before the auth DB learns of the secrets, so that a crash in between leaves secrets that nobody
//! accepts yet, never accepted secrets that nobody knows.

use anyhow::{Context, Result, anyhow, bail};
use daemon::files::write_private;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub const FILE_NAME: &str = "credentials.json";

/// For whoever has named something else.
pub const LOOKS_LIKE: &str = "one looks like {\"man\":\"http://127.0.0.1:9193\",\"admin_appid\":\"admin\",\"admin_key\":\"…\"}, and a \
                              quickstart or a first serve writes it to its data directory, as credentials.json";

/// Names are those of the ready line, plus the admin's.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Credentials {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub man: String,
    /// Where Kafka clients log in as apps.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kproxy: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub appid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pubkey: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subkey: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub topic: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ver: String,
    pub admin_appid: String,
    pub admin_key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials(app {}, admin {})", self.appid, self.admin_appid)
    }
}

impl Credentials {
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(FILE_NAME)
    }

    /// A file that somebody says is one. It is theirs, so nothing is advised to be done to it.
    pub fn named(path: &Path) -> Result<Credentials> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                bail!("there is no file {}; {LOOKS_LIKE}", path.display())
            }
            Err(err) => return Err(err).with_context(|| format!("cannot read {}", path.display())),
        };
        serde_json::from_str(&text)
            .map_err(|err| anyhow!("{} is no credentials file: {err}; {LOOKS_LIKE}", path.display()))
    }

    /// What is in our data directory; `None` when there is no file. A damaged file is an error: its secrets may be in use.
    pub fn load(path: &Path) -> Result<Option<Credentials>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err).with_context(|| format!("cannot read {}", path.display())),
        };
        let credentials = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged; remove it to have new credentials made", path.display()))?;
        Ok(Some(credentials))
    }

    /// Replaces the file in one step, readable by this user only, on disk when it returns.
    pub fn save(&self, path: &Path) -> Result<()> {
        let content = serde_json::to_string_pretty(self)? + "\n";
        write_private(path, content.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Writes the file unless it says this already: a disk that is full or read-only does not stop a start that has nothing
/// to write.
pub fn save_if_new(credentials: &Credentials, before: Option<&Credentials>, path: &Path) -> Result<()> {
    if before == Some(credentials) { Ok(()) } else { credentials.save(path) }
}

/// Held by a process that looks for credentials and makes them. `None`: the directory cannot be written, so nobody makes
/// any.
pub async fn lock(data_dir: &Path) -> Option<File> {
    let path = data_dir.join("credentials.json.lock");
    let held = tokio::task::spawn_blocking(move || {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).ok()?;
        file.lock().ok().map(|()| file)
    });
    held.await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn credentials_survive_a_restart_and_nobody_else_can_read_them() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = Credentials::path(dir.path());
        assert_eq!(Credentials::load(&path).expect("no file"), None);
        let made = Credentials {
            appid: "demo".into(),
            pubkey: "p".into(),
            admin_appid: "admin".into(),
            admin_key: "k".into(),
            ..Credentials::default()
        };
        made.save(&path).expect("saved");
        assert_eq!(Credentials::load(&path).expect("loaded"), Some(made));
        let mode = fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = Credentials::path(dir.path());
        fs::write(&path, "{\"appid\":").expect("written");
        let err = Credentials::load(&path).expect_err("damaged");
        assert!(format!("{err:#}").contains("remove it"), "{err:#}");
    }
}
