//! The name of an entry of a journal as its publisher sees it, opaque to clients: which node has it, whose it is, which entry.
//!
//! base64url of: version 1 · stream u32 · number u64 (big endian) · 8 bytes of HMAC-SHA-256 over all else · length of the
//! node's id u8 · node's id · app's id. The key is the journal's own id, which nobody is told: an id that was not given out
//! is recognised before anything is looked up, and nobody can walk along the ids of others.

use crate::queue::StreamId;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;
use std::sync::{Arc, OnceLock};

const VERSION: u8 = 1;
const MAC_BYTES: usize = 8;
/// Longest id that is looked at.
const TEXT_BYTES_MAX: usize = 512;

/// What an id says; whether it was given out is [`ReceiptId::is_genuine`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptId {
    pub node: String,
    pub app: String,
    pub stream: StreamId,
    pub sequence: u64,
    mac: [u8; MAC_BYTES],
}

/// What all ids of a journal have in common.
#[derive(Clone)]
pub struct Issuer {
    node: String,
    /// The journal has its id from its first record on. Keyed once: each of many messages a second is named.
    keyed: Arc<OnceLock<Hmac<Sha256>>>,
}

/// The key is nobody's business.
impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({})", self.node)
    }
}

impl Issuer {
    pub fn new(node: String) -> Issuer {
        assert!(node.len() <= usize::from(u8::MAX), "a node's id is short: {node}");
        Issuer { node, keyed: Arc::default() }
    }

    /// The first one counts.
    pub fn set_key(&self, key: [u8; 16]) {
        self.keyed.get_or_init(|| Hmac::new_from_slice(&key).expect("HMAC takes keys of any length"));
    }

    pub fn node(&self) -> &str {
        &self.node
    }

    pub fn issue(&self, app: &str, stream: StreamId, sequence: u64) -> String {
        let mac =
            self.mac(&self.node, app, stream, sequence).expect("what is named is durable, so the journal has its id");
        let mut plain = Vec::with_capacity(22 + self.node.len() + app.len());
        plain.push(VERSION);
        plain.extend_from_slice(&stream.0.to_be_bytes());
        plain.extend_from_slice(&sequence.to_be_bytes());
        plain.extend_from_slice(&mac);
        plain.push(self.node.len() as u8);
        plain.extend_from_slice(self.node.as_bytes());
        plain.extend_from_slice(app.as_bytes());
        URL_SAFE_NO_PAD.encode(plain)
    }

    /// Whether this journal gave it out.
    pub fn is_genuine(&self, id: &ReceiptId) -> bool {
        self.mac(&id.node, &id.app, id.stream, id.sequence) == Some(id.mac)
    }

    fn mac(&self, node: &str, app: &str, stream: StreamId, sequence: u64) -> Option<[u8; MAC_BYTES]> {
        let mut mac = self.keyed.get()?.clone();
        mac.update(&stream.0.to_be_bytes());
        mac.update(&sequence.to_be_bytes());
        mac.update(&[node.len() as u8]);
        mac.update(node.as_bytes());
        mac.update(app.as_bytes());
        mac.finalize().into_bytes().first_chunk().copied()
    }
}

impl ReceiptId {
    /// What a client sent; `None`: it cannot be one.
    pub fn parse(text: &str) -> Option<ReceiptId> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let plain = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (version, rest) = plain.split_first_chunk::<1>()?;
        let (stream, rest) = rest.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (mac, rest) = rest.split_first_chunk::<MAC_BYTES>()?;
        let (node_bytes, rest) = rest.split_first_chunk::<1>()?;
        let (node, app) = rest.split_at_checked(usize::from(node_bytes[0]))?;
        (version[0] == VERSION).then_some(())?;
        Some(ReceiptId {
            node: std::str::from_utf8(node).ok()?.to_owned(),
            app: std::str::from_utf8(app).ok()?.to_owned(),
            stream: StreamId(u32::from_be_bytes(*stream)),
            sequence: u64::from_be_bytes(*sequence),
            mac: *mac,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_what_it_was_made_of_and_whatever_is_changed_in_it_was_not_given_out() {
        let of_key = |key| {
            let issuer = Issuer::new("5f0c9a3e71d2b684".to_owned());
            issuer.set_key(key);
            issuer
        };
        let issuer = of_key([7; 16]);
        let text = issuer.issue("app1", StreamId(3), 1 << 40);
        let id = ReceiptId::parse(&text).expect("an id");
        assert_eq!((&*id.node, &*id.app, id.stream, id.sequence), (issuer.node(), "app1", StreamId(3), 1 << 40));
        assert!(issuer.is_genuine(&id));
        let plain = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for at in 0..plain.len() {
            let mut changed = plain.clone();
            changed[at] ^= 1;
            let id = ReceiptId::parse(&URL_SAFE_NO_PAD.encode(&changed));
            assert!(id.is_none_or(|id| !issuer.is_genuine(&id)), "byte {at}");
        }
        assert!(!of_key([8; 16]).is_genuine(&id), "another journal's");
        assert!(!Issuer::new("5f0c9a3e71d2b684".to_owned()).is_genuine(&id), "a journal with no record");
        for bad in ["", "x", "!!!!", &text[..20], &"A".repeat(600)] {
            assert_eq!(ReceiptId::parse(bad), None, "{bad}");
        }
    }
}
