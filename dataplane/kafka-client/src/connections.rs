//! The connections of one client, by id. An id carries a generation, so that a late word from the driver about a
//! connection that is gone finds nothing.

use crate::connection::Connection;
use crate::limits::CONNECTIONS_MAX;
use crate::types::ConnId;

const INDEX_BITS: u32 = 12;

#[derive(Debug, Default)]
struct Entry {
    generation: u32,
    connection: Option<Connection>,
}

/// A slab of connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

impl Connections {
    /// Makes a connection under a fresh id; None at the limit.
    pub fn insert(&mut self, make: impl FnOnce(ConnId) -> Connection) -> Option<ConnId> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.entries.len() < CONNECTIONS_MAX => {
                self.entries.push(Entry::default());
                self.entries.len() as u32 - 1
            }
            None => return None,
        };
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1) & (u32::MAX >> INDEX_BITS);
        let id = ConnId(entry.generation << INDEX_BITS | index);
        entry.connection = Some(make(id));
        Some(id)
    }

    fn position(&self, id: ConnId) -> Option<usize> {
        let index = (id.0 & ((1 << INDEX_BITS) - 1)) as usize;
        let entry = self.entries.get(index)?;
        (entry.generation == id.0 >> INDEX_BITS && entry.connection.is_some()).then_some(index)
    }

    pub fn get(&self, id: ConnId) -> Option<&Connection> {
        self.entries[self.position(id)?].connection.as_ref()
    }

    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        let index = self.position(id)?;
        self.entries[index].connection.as_mut()
    }

    pub fn remove(&mut self, id: ConnId) -> Option<Connection> {
        let index = self.position(id)?;
        self.free.push(index as u32);
        self.entries[index].connection.take()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.entries.iter().filter_map(|entry| entry.connection.as_ref())
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.entries.iter_mut().filter_map(|entry| entry.connection.as_mut())
    }
}
