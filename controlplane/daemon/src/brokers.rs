//! Keys for reaching Kafka brokers, alike in every daemon that does: TLS and login.

use std::io;
use std::path::{Path, PathBuf};

use crate::check::Check;
use crate::keys::Secret;

crate::keys! {
    /// `tls.*`: PEM files for TLS to brokers.
    pub struct Tls {
        /// speak TLS to the brokers
        pub enabled: bool = default("false"),
        /// PEM file with the certificates to trust; empty: this machine's
        pub ca_file: Option<PathBuf> = default(""),
        /// PEM file with our certificate chain, for brokers that ask for one
        pub cert_file: Option<PathBuf> = default(""),
        /// PEM file with the key of tls.cert_file
        pub key_file: Option<PathBuf> = default(""),
    }
}

crate::keys! {
    /// `sasl.*`: how to log in to brokers.
    pub struct Sasl {
        /// how to log in; empty: not at all
        pub mechanism: Option<Mechanism> = default(""),
        /// user to log in as
        pub username: String = default(""),
        /// its password; prefer sasl.password_file
        pub password: Secret = default(""),
        /// file whose first line is the password
        pub password_file: Option<PathBuf> = default(""),
    }
}

crate::words! {
    /// SASL mechanisms a client of ours speaks.
    pub enum Mechanism {
        Plain = "PLAIN",
        ScramSha256 = "SCRAM-SHA-256",
        ScramSha512 = "SCRAM-SHA-512",
    }
}

impl Tls {
    /// Checks the group that stands below `above`: `clusters.main`.
    pub fn check(&self, above: &str, check: &mut Check<'_>) {
        let key = |name: &str| format!("{above}.tls.{name}");
        for (name, file) in [("ca_file", &self.ca_file), ("cert_file", &self.cert_file), ("key_file", &self.key_file)] {
            if let Some(file) = file {
                check.file(&key(name), file);
            }
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            let set = if self.cert_file.is_some() { "cert_file" } else { "key_file" };
            check.mistake(&key(set), "tls.cert_file and tls.key_file go together");
        }
        let files = [("ca_file", &self.ca_file), ("cert_file", &self.cert_file)];
        if let Some((name, _)) = files.iter().find(|(_, file)| file.is_some() && !self.enabled) {
            check.mistake(&key(name), "has no effect while tls.enabled is false");
        }
    }
}

impl Sasl {
    /// Checks the group that stands below `above`: all of it, or nothing.
    pub fn check(&self, above: &str, check: &mut Check<'_>) {
        let key = |name: &str| format!("{above}.sasl.{name}");
        if self.mechanism.is_none() {
            let set = ["username", "password", "password_file"].into_iter().find(|name| check.is_written(&key(name)));
            if let Some(set) = set {
                check.mistake(&key("mechanism"), format!("is required with sasl.{set}"));
            }
            return;
        }
        if self.username.is_empty() {
            check.mistake(&key("username"), "is required with sasl.mechanism");
        }
        match self.password() {
            Ok(password) if password.expose().is_empty() => {
                check.mistake(&key("password"), "sasl.password_file or sasl.password is required");
            }
            Ok(_) => {}
            Err(err) => check.mistake(&key("password_file"), format!("cannot read the file: {err}")),
        }
    }

    /// The password; from its file, if that is where it is.
    pub fn password(&self) -> io::Result<Secret> {
        match &self.password_file {
            None => Ok(self.password.clone()),
            Some(file) => first_line(file).map(Secret::new),
        }
    }
}

fn first_line(file: &Path) -> io::Result<String> {
    let content = std::fs::read_to_string(file)?;
    Ok(content.lines().next().unwrap_or_default().to_owned())
}
