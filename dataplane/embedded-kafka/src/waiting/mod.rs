//! Who waits, and for what. Everybody here holds the slot their answer goes to; whoever brings the answer is one level up.
//!
//! ```text
//! disk.rs      for something to become durable        fetches.rs  for records, or for the time to be over
//! tickets.rs   for the group coordinator              delays.rs   for a fault hook's delay to be over
//! slot.rs      the place in a connection's order that all of them wait in
//! ```

pub mod delays;
pub mod disk;
pub mod fetches;
pub mod slot;
pub mod tickets;
