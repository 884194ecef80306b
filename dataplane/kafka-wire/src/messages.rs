//! The messages coded here, one file per API, both sides: what is on the hot path, what must survive anything, and
//! what must not copy its payload. The other APIs are in [`crate::cold`].

pub mod api_versions;
pub mod fetch;
pub mod produce;

pub use api_versions::{ApiRange, ApiVersionsRequest, ApiVersionsResponse};
pub use fetch::{FetchRequest, FetchResponse};
pub use produce::{ProduceRequest, ProduceResponse};
