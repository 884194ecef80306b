//! Secrets of apps: made once, shown once, kept as hashes.
//!
//! A secret is 192 random bits, so a plain SHA-256 is a safe thing to keep of it: there is no dictionary to try, and
//! a publish can afford it (a slow password hash per request cannot be afforded). Kafka clients need SCRAM verifiers;
//! they are made from the plain secret in the same moment because it is never seen again.
//!
//! Each side (publish, subscribe) of an app has a current secret and, during a rotation, the previous one. Both work
//! until the previous one is revoked or the next rotation pushes it out.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::limits::{SECRET_BYTES_MAX, SECRET_RANDOM_BYTES};
use crate::scram::{Mechanism, ScramParams, ScramVerifier};

/// A secret as its owner gets to see it, once. `Debug` and `Display` do not show it; `expose` does.
#[derive(Clone, PartialEq, Eq)]
pub struct PlainSecret(String);

impl PlainSecret {
    /// 32 characters of base64url. The caller draws the bytes from the operating system.
    pub fn generate(random: [u8; SECRET_RANDOM_BYTES]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(random))
    }

    /// A secret somebody else chose, for example read back from a credentials file. Visible ASCII without a colon
    /// would do for HTTP; we ask only for what every carrier can hold.
    pub fn from_text(text: &str) -> Option<Self> {
        let fits = (1..=SECRET_BYTES_MAX).contains(&text.len());
        (fits && text.bytes().all(|b| b.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    /// The secret itself. Only for the answer that shows it and for files that are private.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PlainSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainSecret(redacted)")
    }
}

/// SHA-256 of a secret. Not shown by `Debug` either: it is what an attacker would want to compare guesses with.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Constant time: how long it takes says nothing about where two hashes differ.
    pub fn matches(&self, presented: &SecretHash) -> bool {
        self.0.ct_eq(&presented.0).into()
    }

    pub fn to_hex(&self) -> String {
        hex::encode(&self.0)
    }

    pub fn from_hex(text: &str) -> Option<Self> {
        Some(Self(hex::decode(text)?.try_into().ok()?))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(redacted)")
    }
}

impl TryFrom<String> for SecretHash {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::from_hex(&text).ok_or("a secret hash is 64 hexadecimal digits")
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> String {
        hash.to_hex()
    }
}

/// Everything kept of one secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSecret {
    pub sha256: SecretHash,
    pub scram_256: ScramVerifier,
    pub scram_512: ScramVerifier,
}

impl StoredSecret {
    /// Computes for several milliseconds (two PBKDF2): not for a shard.
    pub fn derive(plain: &PlainSecret, params: &ScramParams) -> Self {
        let bytes = plain.0.as_bytes();
        Self {
            sha256: SecretHash::of(bytes),
            scram_256: ScramVerifier::derive(Mechanism::Sha256, bytes, params),
            scram_512: ScramVerifier::derive(Mechanism::Sha512, bytes, params),
        }
    }

    pub fn scram(&self, mechanism: Mechanism) -> &ScramVerifier {
        match mechanism {
            Mechanism::Sha256 => &self.scram_256,
            Mechanism::Sha512 => &self.scram_512,
        }
    }
}

/// The live secrets of one side of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretPair {
    pub current: StoredSecret,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<StoredSecret>,
}

impl SecretPair {
    /// Compares with both, always, so that timing does not tell which one is live.
    pub fn verify(&self, presented: &SecretHash) -> bool {
        let current = self.current.sha256.0.ct_eq(&presented.0);
        let previous = match &self.previous {
            Some(previous) => previous.sha256.0.ct_eq(&presented.0),
            None => self.current.sha256.0.ct_eq(&presented.0) & Choice::from(0),
        };
        (current | previous).into()
    }

    /// Another one for other secrets. Made of the hashes, which nobody can choose.
    pub(crate) fn stamp(&self) -> u64 {
        let part =
            |hash: &SecretHash, at: usize| u64::from_be_bytes(hash.0[at..at + 8].try_into().expect("8 of 32 bytes"));
        let previous = self.previous.as_ref().map_or(0, |previous| part(&previous.sha256, 8));
        part(&self.current.sha256, 0) ^ previous
    }

    /// Both live secrets, the current one first.
    pub fn live(&self) -> impl Iterator<Item = &StoredSecret> {
        std::iter::once(&self.current).chain(self.previous.as_ref())
    }
}

/// Bytes as lower-case hexadecimal in stored data.
pub(crate) mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn encode(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
    }

    pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
        let digits = text.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return None;
        }
        let nibble = |d: u8| char::from(d).to_digit(16).map(|n| n as u8);
        digits.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
    }

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        decode(&text).ok_or_else(|| serde::de::Error::custom("expected an even number of hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SCRAM_ITERATIONS_DEFAULT;

    fn stored(secret: &str) -> StoredSecret {
        let params = ScramParams { salt: vec![1; 16], iterations: SCRAM_ITERATIONS_DEFAULT };
        StoredSecret::derive(&PlainSecret::from_text(secret).unwrap(), &params)
    }

    #[test]
    fn both_secrets_work_during_a_rotation_and_only_then() {
        let alone = SecretPair { current: stored("new"), previous: None };
        let rotating = SecretPair { current: stored("new"), previous: Some(stored("old")) };
        let rows = [
            (&alone, "new", true),
            (&alone, "old", false),
            (&rotating, "new", true),
            (&rotating, "old", true),
            (&rotating, "other", false),
            (&rotating, "", false),
        ];
        for (pair, secret, expected) in rows {
            assert_eq!(pair.verify(&SecretHash::of(secret.as_bytes())), expected, "{secret}");
        }
        assert_eq!(rotating.live().count(), 2);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let plain = PlainSecret::generate([7; SECRET_RANDOM_BYTES]);
        let pair = SecretPair { current: stored(plain.expose()), previous: None };
        let printed = format!("{plain:?} {pair:?}");
        assert!(!printed.contains(plain.expose()));
        assert!(!printed.contains(&pair.current.sha256.to_hex()));
        assert!(printed.contains("redacted"));
    }

    #[test]
    fn generated_secrets_are_32_url_safe_characters() {
        let plain = PlainSecret::generate([0xfb; SECRET_RANDOM_BYTES]);
        assert_eq!(plain.expose().len(), 32);
        assert!(PlainSecret::from_text(plain.expose()).is_some());
        assert!(plain.expose().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        for bad in ["", "with space", "naïve", "a\n"] {
            assert!(PlainSecret::from_text(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn hex_reads_back_what_it_wrote_and_refuses_the_rest() {
        assert_eq!(hex::decode(&hex::encode(&[0, 1, 0xab, 0xff])).unwrap(), [0, 1, 0xab, 0xff]);
        for bad in ["0", "0g", "é0", "0é"] {
            assert_eq!(hex::decode(bad), None, "{bad}");
        }
    }
}
