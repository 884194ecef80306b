//! What one value alone cannot tell: whether values go together, and whether what they name is there.
//!
//! A daemon's [`check`](crate::Daemon::check) calls these, and says in its own words what only it knows.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustix::fs::Access;

use crate::keys::{Declare, Keys, Mistake, Place, Raw, Written};

/// Where the mistakes of a daemon's checks go.
#[derive(Debug)]
pub struct Check<'a> {
    pub(crate) written: &'a Written,
    pub(crate) shown: &'a str,
    pub(crate) mistakes: &'a mut Vec<Mistake>,
}

/// What one listener asks for.
#[derive(Debug, Clone, Copy)]
pub struct Listener<'a> {
    pub key: &'a str,
    pub address: SocketAddr,
    /// Ports from that of the address upwards.
    pub port_count: u16,
}

impl Check<'_> {
    /// Says that the key cannot be so; told at its line, or at that of its table. Not said of a value that was refused
    /// already, for which its default stands.
    pub fn mistake(&mut self, key: &str, why: impl fmt::Display) {
        if !self.is_refused(key) {
            self.mistakes.push(Mistake::new(self.place(key), None, format!("`{key}`: {why}")));
        }
    }

    /// Whether the key's value was refused by its type.
    pub fn is_refused(&self, key: &str) -> bool {
        crate::keys::mistakes_about(self.mistakes, key)
    }

    /// Whether somebody set the key.
    pub fn is_written(&self, key: &str) -> bool {
        self.written.keys.contains_key(key)
    }

    /// Whether somebody set this key of `K` to something else than its default. A file made from `config-reference` says
    /// all defaults.
    pub fn is_changed<K: Keys>(&self, key: &str) -> bool {
        let Some(entry) = self.written.keys.get(key) else { return false };
        let declared = Declare::of::<K>().keys.into_iter().find(|declared| declared.path == key);
        declared.is_none_or(|declared| entry.raw != Raw::Text(declared.default.to_owned()))
    }

    /// Whether nothing has been found wrong so far; what is expensive to try is tried only then.
    pub fn is_good(&self) -> bool {
        self.mistakes.is_empty()
    }

    fn place(&self, key: &str) -> Place {
        if let Some(entry) = self.written.keys.get(key) {
            return entry.place.clone();
        }
        let mut tables = std::iter::successors(Some(key), |path| path.rsplit_once('.').map(|(table, _)| table));
        let table = tables.find_map(|table| self.written.sections.get(table));
        table.cloned().unwrap_or_else(|| Place::Whole(self.shown.to_owned()))
    }

    /// No two listeners ask for the same port. Port 0 is any free one.
    pub fn listeners(&mut self, listeners: &[Listener<'_>]) {
        for (at, listener) in listeners.iter().enumerate() {
            let Listener { key, address, port_count } = listener;
            if address.port() != 0 && u32::from(address.port()) + u32::from(*port_count) > 1 << 16 {
                self.mistake(key, format!("{port_count} ports from {} on are more than there are", address.port()));
            }
            if let Some(taken) = listeners[..at].iter().find(|taken| collide(taken, listener)) {
                // Told where somebody wrote something, not at a default.
                let is_default = !self.is_written(key) && self.is_written(taken.key);
                let (told, taken) = if is_default { (taken, listener) } else { (listener, taken) };
                let listens = format!("`{}`, which listens on {}", taken.key, shown(taken));
                self.mistake(told.key, format!("{} is taken by {listens}", shown(told)));
            }
        }
    }

    /// One time is shorter than another.
    pub fn shorter(&mut self, key: &str, value: Duration, than_key: &str, than: Duration) {
        if value < than || self.is_refused(key) || self.is_refused(than_key) {
            return;
        }
        // Told where somebody wrote something, not at a default.
        if self.is_written(than_key) && !self.is_written(key) {
            self.mistake(than_key, format!("must be longer than {key}, which is {value:?}"));
        } else {
            self.mistake(key, format!("must be shorter than {than_key}, which is {than:?}"));
        }
    }

    /// The directory is there and can be written, or can be made. Makes nothing. One that is there on a file system that
    /// became read-only is no mistake: it is an incident, in which what is there is served.
    pub fn directory(&mut self, key: &str, dir: &Path) {
        if dir.as_os_str().is_empty() {
            return;
        }
        // A relative path begins where the process was started.
        let standing = dir.ancestors().find(|path| path.exists());
        let standing = standing.unwrap_or_else(|| if dir.is_absolute() { Path::new("/") } else { Path::new(".") });
        let problem = if !standing.is_dir() {
            format!("{} is no directory", standing.display())
        } else if let Err(err) = rustix::fs::access(standing, Access::WRITE_OK | Access::EXEC_OK) {
            if err == rustix::io::Errno::ROFS && standing == dir {
                return;
            }
            let user = rustix::process::geteuid().as_raw();
            format!("user {user} may not write to {}: {}", standing.display(), std::io::Error::from(err))
        } else {
            return;
        };
        let what = if standing == dir { "cannot be used" } else { "cannot be made" };
        self.mistake(key, format!("{what}: {problem}"));
    }

    /// The file can be written to, or made in a directory that is there. Makes nothing.
    pub fn appendable(&mut self, key: &str, file: &Path) {
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let asked = if file.exists() { (file, Access::WRITE_OK) } else { (dir, Access::WRITE_OK | Access::EXEC_OK) };
        if file.is_dir() {
            self.mistake(key, format!("{} is a directory", file.display()));
        } else if !dir.is_dir() {
            self.mistake(key, format!("there is no directory {}", dir.display()));
        } else if let Err(err) = rustix::fs::access(asked.0, asked.1) {
            let user = rustix::process::geteuid().as_raw();
            let err = std::io::Error::from(err);
            self.mistake(key, format!("user {user} may not write to {}: {err}", asked.0.display()));
        }
    }

    /// The file can be read.
    pub fn file(&mut self, key: &str, file: &Path) {
        if let Err(err) = std::fs::File::open(file) {
            self.mistake(key, format!("cannot open the file: {err}"));
        }
    }

    /// Each is what some browser could send as `Origin`.
    pub fn origins(&mut self, key: &str, origins: &[String]) {
        let wrong = origins.iter().filter_map(|origin| Some(format!("`{origin}`: {}", never_an_origin(origin)?)));
        let wrong: Vec<String> = wrong.collect();
        if !wrong.is_empty() {
            self.mistake(key, format!("no browser sends the origin {}", wrong.join("; nor ")));
        }
    }
}

fn shown(listener: &Listener<'_>) -> String {
    let Listener { address, port_count, .. } = listener;
    match port_count {
        0 | 1 => address.to_string(),
        count => format!("{address} to {}", u32::from(address.port()) + u32::from(*count) - 1),
    }
}

fn collide(one: &Listener<'_>, other: &Listener<'_>) -> bool {
    let (ip, other_ip) = (one.address.ip(), other.address.ip());
    let same_ip = ip == other_ip || ip.is_unspecified() || other_ip.is_unspecified();
    let ports = |listener: &Listener<'_>| {
        let first = u32::from(listener.address.port());
        first..first + u32::from(listener.port_count.max(1))
    };
    let (mine, others) = (ports(one), ports(other));
    let overlap = mine.start < others.end && others.start < mine.end;
    one.address.port() != 0 && other.address.port() != 0 && same_ip && overlap
}

/// Why no browser's `Origin` header is ever `origin` (RFC 6454 section 6.2: scheme, host, and a port if unusual).
fn never_an_origin(origin: &str) -> Option<&'static str> {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return Some("expected one like https://console.example.org");
    };
    if scheme.is_empty() || authority.is_empty() {
        return Some("expected one like https://console.example.org");
    }
    if authority.contains(['/', '?', '#', '@']) {
        return Some("it ends with the host or the port, without a slash");
    }
    if origin.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' ' || byte == b'*') {
        return Some("it is lower case, without blanks and wildcards");
    }
    let default_port =
        matches!(scheme, "https") && authority.ends_with(":443") || scheme == "http" && authority.ends_with(":80");
    default_port.then_some("the usual port is left out")
}
