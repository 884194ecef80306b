//! Protocols: bytes to requests, answers to bytes. HTTP/1.1 today; another is a folder beside `h1` and an arm in the
//! shard's `accept`.

pub mod body;
pub mod conns;
pub mod h1;
