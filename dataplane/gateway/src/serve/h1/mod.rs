//! HTTP/1.1 (RFC 9112).

pub mod conn;
mod input;
mod repeated;
mod write;
