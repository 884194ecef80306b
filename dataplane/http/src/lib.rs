//! HTTP/1.1 without I/O: bytes in, values and bytes out (RFC 9110, RFC 9112).
//!
//! The gateway's shards feed received bytes to [`parse_head`] and [`ChunkedDecoder`] and write answers with
//! [`response`]; nothing here owns a socket, reads a clock or logs. A request means one thing to everybody on the
//! way or it is refused: every shape that two parsers could read differently (two lengths, a length beside chunked,
//! a bare line feed, folded headers, a space before the colon) is an error and ends the connection.
//!
//! | Module | Story |
//! |---|---|
//! | [`head`] | request line and headers, known headers looked up once |
//! | [`repeat`] | a head like the last one, recognised without parsing |
//! | [`body`] | chunked transfer coding |
//! | [`query`] | form-decoded query pairs, strict path segments |
//! | [`pct`] | the percent codec of `X-Header-NAME` values |
//! | [`auth`] | HTTP Basic |
//! | [`response`] | answers written straight into the send buffer |
//! | [`date`] | `Date`, formatted once a second |
//! | [`json`] | JSON strings, escaped |
//! | [`limits`] | every number that bounds the above |

pub mod auth;
pub mod body;
pub mod date;
mod error;
pub mod head;
pub mod json;
pub mod limits;
pub mod pct;
pub mod query;
pub mod repeat;
pub mod response;

pub use body::{ChunkedDecoder, Progress};
pub use error::HeadError;
pub use head::{BodyKind, Head, Method, parse_head};
pub use limits::HeadLimits;
pub use repeat::{HeadTemplate, Repeat};
