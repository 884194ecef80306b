//! Is the caller who it says it is? One hash lookup, one SHA-256, one constant-time comparison.
//!
//! A SHA-256 of a 32-byte secret costs 60 to 250 ns depending on the machine, several percent of a publish. Most
//! requests repeat the credentials of the one before, so each shard keeps a [`CredentialCache`].

use subtle::ConstantTimeEq;

use crate::denied::Denied;
use crate::limits::{CREDENTIAL_CACHE_ENTRIES, CREDENTIALS_REMEMBERED_S, SECRET_BYTES_MAX};
use crate::secrets::{SecretHash, SecretPair};
use crate::siphash::SipKey;
use crate::snapshot::{App, Snapshot};

/// Which of an app's two secrets is asked for: `Pubkey` or `Subkey`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    Publish,
    Subscribe,
}

impl Side {
    pub const ALL: [Side; 2] = [Side::Publish, Side::Subscribe];

    /// The word in paths and stored data.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Publish => "publish",
            Side::Subscribe => "subscribe",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|side| side.as_str() == text)
    }

    /// The 2017 header that carries the secret.
    pub fn key_header(self) -> &'static str {
        match self {
            Side::Publish => "Pubkey",
            Side::Subscribe => "Subkey",
        }
    }
}

/// What a request presents. Borrowed from the request; see [`crate::presented`] for how it gets there.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    pub app: &'a str,
    pub key: &'a [u8],
}

impl std::fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("app", &self.app).finish_non_exhaustive()
    }
}

impl App {
    pub fn secrets(&self, side: Side) -> &SecretPair {
        match side {
            Side::Publish => &self.publish,
            Side::Subscribe => &self.subscribe,
        }
    }
}

/// Checks the credentials against the snapshot.
///
/// An unknown app and a wrong secret take the same path through the hash and get the same answer, so neither says
/// whether the app exists. A disabled app is told so only after it has proved who it is.
pub fn authenticate<'s>(snapshot: &'s Snapshot, credentials: &Credentials<'_>, side: Side) -> Result<&'s App, Denied> {
    if credentials.key.is_empty() || credentials.key.len() > SECRET_BYTES_MAX {
        return Err(Denied::NotAuthenticated);
    }
    let presented = SecretHash::of(credentials.key);
    let app = snapshot.app(credentials.app).ok_or(Denied::NotAuthenticated)?;
    if !app.secrets(side).verify(&presented) {
        return Err(Denied::NotAuthenticated);
    }
    enabled(app)
}

/// As [`authenticate`], without hashing when the same credentials passed lately and the app's secrets are the same.
/// `now_s`: any clock that does not go back.
pub fn authenticate_cached<'s>(
    snapshot: &'s Snapshot,
    cache: &mut CredentialCache,
    credentials: &Credentials<'_>,
    side: Side,
    now_s: u64,
) -> Result<&'s App, Denied> {
    let tag = cache.tag(credentials, side);
    if let Some(app) = snapshot.app(credentials.app)
        && cache.knows(tag, app.secrets(side).stamp(), now_s)
    {
        return enabled(app);
    }
    let app = authenticate(snapshot, credentials, side)?;
    cache.remember(tag, app.secrets(side).stamp(), now_s);
    Ok(app)
}

/// Comes last: only who has proved who it is gets to know.
pub(crate) fn enabled(app: &App) -> Result<&App, Denied> {
    if app.enabled { Ok(app) } else { Err(Denied::AppDisabled { app: app.id.as_str().to_owned() }) }
}

/// Credentials that passed lately. One per shard.
///
/// What is kept is a 128-bit SipHash of side, app id and secret under a key drawn at start: it finds the same
/// credentials again in ~30 ns, and is of no use to whoever reads this memory without the key, or to whoever can
/// choose credentials but not read memory (one in 2^128 guesses matches). Plain secrets are never kept. An entry holds
/// while the app's secrets of that side are what they were, whatever else changes: limits, grants, other apps; a rotated
/// secret or a revoked one is asked about again, and so is everything after [`CREDENTIALS_REMEMBERED_S`]. Only successes are remembered: failures cannot push them out other than
/// by guessing right.
pub struct CredentialCache {
    key: SipKey,
    entries: Box<[Entry]>,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    tag: u128,
    /// [`SecretPair::stamp`].
    stamp: u64,
    /// Until when it holds.
    until_s: u64,
}

impl CredentialCache {
    /// `random` comes from the operating system, once per shard.
    pub fn new(random: [u8; 16]) -> Self {
        Self { key: SipKey::new(random), entries: vec![Entry::default(); CREDENTIAL_CACHE_ENTRIES].into() }
    }

    fn tag(&self, credentials: &Credentials<'_>, side: Side) -> u128 {
        self.key.hash_parts(&[side.as_str().as_bytes(), credentials.app.as_bytes(), credentials.key])
    }

    fn slot(tag: u128) -> usize {
        // The table is a power of two and tags are uniform.
        (tag as usize) & (CREDENTIAL_CACHE_ENTRIES - 1)
    }

    fn knows(&self, tag: u128, stamp: u64, now_s: u64) -> bool {
        let entry = &self.entries[Self::slot(tag)];
        // An empty entry held until second 0.
        now_s < entry.until_s && entry.stamp == stamp && bool::from(entry.tag.ct_eq(&tag))
    }

    fn remember(&mut self, tag: u128, stamp: u64, now_s: u64) {
        self.entries[Self::slot(tag)] = Entry { tag, stamp, until_s: now_s + CREDENTIALS_REMEMBERED_S };
    }
}

impl std::fmt::Debug for CredentialCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CredentialCache(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_that_passed_are_remembered_for_a_while_and_for_these_secrets_only() {
        let mut cache = CredentialCache::new([3; 16]);
        assert!(!cache.knows(0, 0, 0), "nothing is known");
        cache.remember(7, 1, 100);
        for (tag, stamp, now_s, expected) in [
            (7, 1, 100, true),
            (7, 1, 100 + CREDENTIALS_REMEMBERED_S - 1, true),
            (7, 1, 100 + CREDENTIALS_REMEMBERED_S, false),
            (7, 2, 100, false),
            (8, 1, 100, false),
            (7 + CREDENTIAL_CACHE_ENTRIES as u128, 1, 100, false),
        ] {
            assert_eq!(cache.knows(tag, stamp, now_s), expected, "{tag} {stamp} {now_s}");
        }
    }
}
