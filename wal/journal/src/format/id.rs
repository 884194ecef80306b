//! The file `id`: which journal this directory is, and whose.

use super::{AT_OWN, Bad, JournalId, Magic, array_at, begin, checked, finish, put, u32_at};
use crate::limits::NAME_BYTES_MAX;

const MAGIC: &Magic = b"GAFKAJNL";
const AT_NAME_BYTES: usize = 40;
const AT_NAME: usize = 44;

/// Who a journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: JournalId,
    /// Name of the node.
    pub name: String,
}

impl Identity {
    /// # Panics
    /// When the name is longer than [`NAME_BYTES_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.name.len() <= NAME_BYTES_MAX, "checked where the name was configured");
        let mut header = begin(AT_NAME + self.name.len(), MAGIC);
        put(&mut header, AT_OWN, &self.id);
        put(&mut header, AT_NAME_BYTES, &(self.name.len() as u32).to_le_bytes());
        put(&mut header, AT_NAME, self.name.as_bytes());
        finish(header)
    }

    pub fn decode(bytes: &[u8]) -> Result<Identity, Bad> {
        let header = checked(bytes, MAGIC)?;
        if header.len() < AT_NAME || u32_at(header, AT_NAME_BYTES) as usize != header.len() - AT_NAME {
            return Err(Bad::Field);
        }
        let name = std::str::from_utf8(&header[AT_NAME..]).map_err(|_| Bad::Field)?;
        Ok(Identity { id: array_at(header, AT_OWN), name: name.to_owned() })
    }
}
