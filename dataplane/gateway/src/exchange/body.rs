//! The body of a request that came whole.

use bytes::Bytes;

/// Still in the read buffer, or collected into its own.
#[derive(Debug)]
pub enum RequestBody<'b> {
    Slice(&'b [u8]),
    Owned(Bytes),
}

impl RequestBody<'_> {
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn as_slice(&self) -> &[u8] {
        match self {
            RequestBody::Slice(bytes) => bytes,
            RequestBody::Owned(bytes) => bytes,
        }
    }
}
