//! Bodies that did not come with their head: collected whole, or used up while they arrive.

pub mod collecting;
pub mod streaming;
