//! What is wished of one running node: to be drained, to work with other options than its configuration says.
//!
//! A wish is for one incarnation of a node and goes with its registration: a node that starts again begins with its
//! configuration. It is whole, never a difference, so that a node which missed some obeys the last one. Revisions grow;
//! who changes a wish says which revision comes next, and of two who do so at the same time one is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::WISH_BYTES_MAX;
use crate::{NodeInfo, RegistryError};

/// A wish; the default one is that of a node of which nothing is wished.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeWish {
    /// Greater than that of every wish before it.
    pub revision: u64,
    /// [`NodeInfo::started_at_ms`] of the incarnation that it is for.
    pub started_at_ms: i64,
    /// Say no to new traffic, and serve what comes all the same.
    #[serde(default)]
    pub drain: bool,
    /// Values of configuration keys, in place of the configured ones.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl NodeWish {
    pub fn is_for(&self, node: &NodeInfo) -> bool {
        self.started_at_ms == node.started_at_ms
    }
}

pub(crate) fn encode_wish(id: &str, wish: &NodeWish) -> Result<Vec<u8>, RegistryError> {
    let text = serde_json::to_vec_pretty(wish).expect("a wish has string keys only");
    if text.len() > WISH_BYTES_MAX {
        return Err(RegistryError::WishTooLarge { id: id.to_owned(), found: text.len(), limit: WISH_BYTES_MAX });
    }
    Ok(text)
}

/// Whether `wish` may take the place of `current`; `Ok(false)`: it has already, and the answer was lost.
pub(crate) fn check_next(node: &NodeInfo, current: Option<&NodeWish>, wish: &NodeWish) -> Result<bool, RegistryError> {
    if !wish.is_for(node) {
        return Err(RegistryError::NoSuchNode { kind: node.kind, id: node.id.clone() });
    }
    match current.filter(|current| current.is_for(node)) {
        Some(current) if current == wish => Ok(false),
        Some(current) if current.revision >= wish.revision => {
            Err(RegistryError::Overtaken { kind: node.kind, id: node.id.clone(), revision: current.revision })
        }
        _ => Ok(true),
    }
}
