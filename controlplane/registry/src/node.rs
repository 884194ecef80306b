//! What a node says about itself.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::RegistryError;
use crate::limits::NODE_ID_BYTES_MAX;

/// Which program runs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    Kateway,
    Kproxy,
}

impl NodeKind {
    pub const ALL: [NodeKind; 2] = [NodeKind::Kateway, NodeKind::Kproxy];

    pub fn as_str(self) -> &'static str {
        match self {
            NodeKind::Kateway => "kateway",
            NodeKind::Kproxy => "kproxy",
        }
    }
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One running node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    pub kind: NodeKind,
    /// Unique among nodes of its kind: letters, digits, dots, `_` and `-`.
    pub id: String,
    pub zone: String,
    pub version: String,
    pub host: String,
    pub pid: u32,
    /// Epoch ms.
    pub started_at_ms: i64,
    /// Where it listens, by the names of the ready line: `pub`, `sub`, `man`, …
    #[serde(default)]
    pub addresses: BTreeMap<String, String>,
}

/// Ids become file names and znodes, so no separator and no leading dot.
pub(crate) fn check_id(id: &str) -> Result<(), RegistryError> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let fits = (1..=NODE_ID_BYTES_MAX).contains(&id.len());
    if fits && !id.starts_with('.') && id.bytes().all(is_allowed) {
        Ok(())
    } else {
        Err(RegistryError::BadId { id: id.chars().take(2 * NODE_ID_BYTES_MAX).collect() })
    }
}
