//! Tenants before one cluster: clients log in here as apps, and see of the cluster what is theirs.
//!
//! ```text
//!   door      ApiVersions, SaslHandshake, SaslAuthenticate: answered here, no broker is troubled before a login
//!   requests  each by its rule (rules.rs): names replaced, what is not theirs cut out (rename.rs, messages/)
//!   answers   the same backwards; what was cut out is told of
//!   session   who it is, under which snapshot; asked again at every new one
//! ```
//! A rule lists the fields that carry names; shapes say where they are. Nothing that is not on the list is offered, and a
//! name that is not on it is not passed. Records are neither decoded nor copied: names are spliced around them.
//!
//! Everything here is without sockets and clocks.

pub mod answers;
pub mod door;
pub mod fill;
pub mod found;
pub mod ids;
pub mod messages;
pub mod rename;
pub mod requests;
pub mod rules;
pub mod session;
pub mod versions;
pub mod whole;
