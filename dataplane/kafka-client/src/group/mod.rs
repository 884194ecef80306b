//! Classic consumer group member and fetcher, on top of [`crate::Client::request`].
