//! What a node says about itself.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::{NODE_BYTES_MAX, NODE_ID_BYTES_MAX};
use crate::{NodeWish, RegistryError};

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
    /// Which generation of the tenants the whole node has in force. `None`: none yet, or an older version that does not
    /// say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedGeneration>,
    /// Whether new traffic is welcome. Older versions are always serving, as long as they are registered.
    #[serde(default)]
    pub state: NodeState,
    /// The wish that it obeys, of revision 0 as long as there was none. `None`: it obeys nobody, as older versions do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obeys: Option<NodeWish>,
    /// The last wish that it could not obey, if nothing came of it; it goes on with the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuses: Option<RefusedWish>,
}

/// A wish that a node could not obey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedWish {
    pub revision: u64,
    pub why: String,
}

/// For balancers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    #[default]
    Serving,
    /// It serves what comes, and wants nothing new.
    Draining,
}

impl NodeState {
    pub fn as_str(self) -> &'static str {
        match self {
            NodeState::Serving => "serving",
            NodeState::Draining => "draining",
        }
    }
}

/// A generation of the tenants, as a node announces it. Numbers of different histories cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedGeneration {
    pub history: String,
    pub number: u64,
}

pub(crate) fn check_id(id: &str) -> Result<(), RegistryError> {
    if is_name(id) { Ok(()) } else { Err(RegistryError::BadId { id: shortened(id) }) }
}

pub(crate) fn check_election(election: &str) -> Result<(), RegistryError> {
    if is_name(election) { Ok(()) } else { Err(RegistryError::BadElection { election: shortened(election) }) }
}

/// What is announced, as it is stored.
pub(crate) fn encode(node: &NodeInfo) -> Result<Vec<u8>, RegistryError> {
    check_id(&node.id)?;
    let text = serde_json::to_vec_pretty(node).expect("a node has string keys only");
    if text.len() > NODE_BYTES_MAX {
        return Err(RegistryError::TooLarge { id: node.id.clone(), found: text.len(), limit: NODE_BYTES_MAX });
    }
    Ok(text)
}

/// Names become file names and znodes, so no separator and no leading dot.
fn is_name(name: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let fits = (1..=NODE_ID_BYTES_MAX).contains(&name.len());
    fits && !name.starts_with('.') && name.bytes().all(is_allowed)
}

/// Enough of a bad name to recognise it.
fn shortened(name: &str) -> String {
    name.chars().take(2 * NODE_ID_BYTES_MAX).collect()
}
