//! A body that is wanted whole: collected into a buffer of its own, after its size was charged to the memory budget, or
//! piece by piece when its size is not told.

use crate::endpoints::{self, Services};
use crate::env::Env;
use crate::exchange::conn::Conn;
use crate::exchange::{budget_spent, reserve};
use crate::limits::{DISCARD_BYTES_MAX, PUBLISH_OVERHEAD_BYTES};
use crate::refusal::Refusal;
use bytes::{Buf, BytesMut};
use gafka_http::{BodyKind, ChunkedDecoder, Head};
use runtime::budget::Reservation;
use runtime::pool::PooledBuf;

/// A body that did not come with its head.
pub struct Collecting {
    pub head: Vec<u8>,
    pub body: BytesMut,
    pub framing: Framing,
    /// Counted for the body while it is collected; start() takes it over.
    pub reservation: Reservation,
    body_bytes_max: usize,
}

/// How to tell where a body ends.
pub enum Framing {
    /// Of a body being collected: how long it is. Of one being thrown away: how much is still to come.
    Length(usize),
    Chunked(ChunkedDecoder),
}

impl Framing {
    /// How to pass over the body of a refused request; `None` when it is too long for that.
    pub fn to_discard(body: BodyKind) -> Option<Framing> {
        match body {
            BodyKind::None => Some(Framing::Length(0)),
            BodyKind::Length(length) if length <= DISCARD_BYTES_MAX => Some(Framing::Length(length as usize)),
            BodyKind::Length(_) => None,
            BodyKind::Chunked => Some(Framing::Chunked(ChunkedDecoder::with_body_limit(DISCARD_BYTES_MAX))),
        }
    }
}

impl Collecting {
    /// Takes what is buffered; true when the body is whole.
    pub fn take(&mut self, env: &Env, buffer: Option<&mut PooledBuf>) -> Result<bool, Refusal> {
        let Some(buffer) = buffer else { return Ok(self.is_whole()) };
        if matches!(self.framing, Framing::Chunked(_)) {
            self.make_room(env, buffer.len())?;
        }
        match &mut self.framing {
            Framing::Length(length) => {
                let count = buffer.len().min(*length - self.body.len());
                self.body.extend_from_slice(&buffer[..count]);
                buffer.advance(count);
            }
            Framing::Chunked(decoder) => {
                let body = &mut self.body;
                let progress =
                    decoder.decode(buffer, &mut |data| body.extend_from_slice(data)).map_err(|err| {
                        match err.status {
                            413 => Refusal::too_large(self.body_bytes_max).closing(),
                            _ => Refusal::from(&err),
                        }
                    })?;
                buffer.advance(progress.consumed);
                if progress.done {
                    // Sized for what might have come; what came is all that is held from now on.
                    let excess = self.reservation.bytes().saturating_sub(self.body.len() + PUBLISH_OVERHEAD_BYTES);
                    self.reservation.shrink(excess);
                }
            }
        }
        Ok(self.is_whole())
    }

    /// Charges for `more` bytes of a body of unknown length before they are taken. Doubles, so that the body is copied
    /// at most twice in all, and takes just what it needs when there is no room for that.
    fn make_room(&mut self, env: &Env, more: usize) -> Result<(), Refusal> {
        let reserved = self.reservation.bytes();
        let needed = (self.body.len() + more).min(self.body_bytes_max) + PUBLISH_OVERHEAD_BYTES;
        if needed <= reserved {
            return Ok(());
        }
        let wanted = needed.max(2 * reserved).min(self.body_bytes_max + PUBLISH_OVERHEAD_BYTES);
        if self.reservation.grow(wanted - reserved).is_err() {
            self.reservation.grow(needed - reserved).map_err(|refused| budget_spent(env, &refused))?;
        }
        self.body.reserve(self.reservation.bytes() - PUBLISH_OVERHEAD_BYTES - self.body.len());
        Ok(())
    }

    fn is_whole(&self) -> bool {
        match &self.framing {
            Framing::Length(length) => self.body.len() == *length,
            Framing::Chunked(decoder) => decoder.is_done(),
        }
    }
}

/// Admits a request by its head, and makes room for its body.
pub fn begin(services: &Services, conn: &Conn, head: &Head<'_>, head_bytes: &[u8]) -> Result<Collecting, Refusal> {
    let admission = endpoints::check(services, conn, head)?;
    let body_bytes_max = admission.body_bytes_max;
    let (framing, body_bytes) = match head.body {
        BodyKind::Length(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > body_bytes_max {
                return Err(Refusal::too_large(body_bytes_max));
            }
            (Framing::Length(length), length)
        }
        // The size is not known: more is charged as it comes.
        BodyKind::Chunked => (Framing::Chunked(ChunkedDecoder::with_body_limit(body_bytes_max as u64)), 0),
        BodyKind::None => unreachable!("a request without a body is never collected"),
    };
    let reservation = reserve(&services.env, admission.tenant, admission.cluster, body_bytes + PUBLISH_OVERHEAD_BYTES)?;
    Ok(Collecting {
        head: head_bytes.to_vec(),
        body: BytesMut::with_capacity(body_bytes),
        framing,
        reservation,
        body_bytes_max,
    })
}
