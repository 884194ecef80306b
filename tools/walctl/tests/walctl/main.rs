//! The program, on the journals of released versions and on ones made here.

mod drain;
mod looking;
mod made;
#[path = "../../../../wal/journal/tests/unpack/mod.rs"]
mod unpack;
