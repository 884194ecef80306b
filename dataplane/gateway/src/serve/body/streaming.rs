//! A body that is used up while it arrives: framing off, content coding off, into the batch endpoint.
//!
//! ```text
//!   read buffer ─► Content-Length or chunks ─► [gzip, zstd: piece by piece] ─► Feed
//! ```
//!
//! Nothing is copied on the way except what a decoder makes, and every stage can stop in the middle: bytes the feed
//! has no room for stay in the read buffer.

use crate::codes;
use crate::endpoints::Services;
use crate::env::Env;
use crate::exchange::content_encoding::{self, Decoded, Decoder};
use crate::limits::{
    BATCH_DRAIN_BYTES_MAX, BATCH_DRAIN_TIME_MAX, BODY_BYTES_PER_S_MIN, DECODED_BYTES_FREE, DECODED_PIECE_BYTES,
    DECODED_RATIO_MAX, DECODED_TURN_BYTES,
};
use crate::publish::batch::feed::{Feed, Flow};
use crate::refusal::Refusal;
use bytes::{Buf, BytesMut};
use gafka_http::{BodyKind, ChunkedDecoder, HeadError};
use std::time::{Duration, Instant};

/// How far the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    NeedBytes,
    /// No room for what is there already.
    Blocked,
    /// The request has its answer, now or later; the connection goes on to the next or not.
    Done {
        keep_alive: bool,
    },
}

/// A body on its way. One per connection at most.
pub struct Streaming {
    framing: Framing,
    decoding: Option<Decoding>,
    feed: Feed,
    begun: Instant,
    /// When bytes last came.
    received_at: Instant,
    received_bytes: u64,
    /// Time in which we did not want to read.
    blocked_since: Option<Instant>,
    blocked: Duration,
}

enum Framing {
    /// Bytes still to come.
    Length(u64),
    Chunked(ChunkedDecoder),
}

/// A content coding being taken off.
struct Decoding {
    decoder: Decoder,
    plain: Box<[u8]>,
    /// What of `plain` the feed has not taken.
    rest: std::ops::Range<usize>,
    /// The decoder has nothing more to give before it is fed.
    hungry: bool,
    ended: bool,
}

impl Streaming {
    pub fn new(body: BodyKind, decoder: Option<Decoder>, feed: Feed, begun: Instant, now: Instant) -> Streaming {
        let framing = match body {
            BodyKind::None => Framing::Length(0),
            BodyKind::Length(length) => Framing::Length(length),
            BodyKind::Chunked => Framing::Chunked(ChunkedDecoder::new()),
        };
        let decoding = decoder.map(|decoder| Decoding {
            decoder,
            plain: vec![0; DECODED_PIECE_BYTES].into_boxed_slice(),
            rest: 0..0,
            hungry: true,
            ended: false,
        });
        Streaming {
            framing,
            decoding,
            feed,
            begun,
            received_at: now,
            received_bytes: 0,
            blocked_since: None,
            blocked: Duration::ZERO,
        }
    }

    /// Uses up what has arrived, as far as there is room.
    pub fn advance(&mut self, services: &Services, buffer: Option<&mut BytesMut>, now: Instant) -> Progress {
        let mut none = BytesMut::new();
        let buffer = buffer.unwrap_or(&mut none);
        if let Some(since) = self.blocked_since.take() {
            self.blocked += now.saturating_duration_since(since);
        } else if !buffer.is_empty() {
            self.received_at = now;
        }
        if services.env.is_draining() && self.feed.streams() && self.feed.broken_since().is_none() {
            let why = "this gateway is shutting down; nothing of what follows was stored";
            self.feed.fail(&services.env, Refusal::new(codes::DRAINING, why), now);
            self.feed.cut(services.around(), now);
            return Progress::Done { keep_alive: false };
        }
        if self.feed.recheck(services.around(), now) {
            self.feed.cut(services.around(), now);
            return Progress::Done { keep_alive: false };
        }
        let begun = Instant::now();
        let progress = match self.pump(services, buffer, now) {
            Ok(progress) => progress,
            Err(refusal) => {
                // Whatever follows cannot be told from the next request.
                self.feed.fail(&services.env, refusal, now);
                self.feed.cut(services.around(), now);
                Progress::Done { keep_alive: false }
            }
        };
        services.env.turns.note(begun, Instant::now());
        if progress == Progress::Blocked {
            self.blocked_since = Some(now);
        }
        progress
    }

    fn pump(&mut self, services: &Services, buffer: &mut BytesMut, now: Instant) -> Result<Progress, Refusal> {
        let decoded_before = self.decoding.as_ref().map_or(0, |decoding| decoding.decoder.decoded_bytes());
        loop {
            if self.feed.broken_since().is_some() {
                self.decoding = None; // only to be thrown away: not worth decoding
            }
            if let Some(decoding) = &mut self.decoding
                && !decoding.hungry
            {
                if decoding.decoder.decoded_bytes() - decoded_before >= DECODED_TURN_BYTES {
                    self.feed.go_on_next_turn();
                    return Ok(Progress::Blocked);
                }
                match decoding.pass_on(services, &mut self.feed, now) {
                    Ok(Flow::Open) => continue,
                    Ok(Flow::Blocked) => return Ok(Progress::Blocked),
                    Err(refusal) => {
                        self.feed.fail(&services.env, refusal, now);
                        continue; // the framing is sound: the rest is drained
                    }
                }
            }
            let count = self.framing.data(buffer).map_err(Refusal::from)?;
            if count == 0 {
                if !self.framing.is_done() {
                    return Ok(Progress::NeedBytes);
                }
                if let Some(decoding) = &mut self.decoding
                    && !decoding.ended
                {
                    decoding.end_input();
                    continue;
                }
                return Ok(match self.feed.end(services.around(), now) {
                    Flow::Blocked => Progress::Blocked,
                    Flow::Open => Progress::Done { keep_alive: self.feed.keeps_alive() },
                });
            }
            let mut run = &buffer[..count];
            let flow = match &mut self.decoding {
                Some(decoding) => {
                    decoding.feed(run);
                    run = &[];
                    Flow::Open
                }
                None => self.feed.take(services.around(), &mut run, now),
            };
            let used = count - run.len();
            self.framing.consume(buffer, used)?;
            self.received_bytes += used as u64;
            if flow == Flow::Blocked {
                return Ok(Progress::Blocked);
            }
            if self.feed.drained_bytes() > BATCH_DRAIN_BYTES_MAX {
                self.feed.cut(services.around(), now);
                return Ok(Progress::Done { keep_alive: false });
            }
        }
    }

    /// The rest will not come: the answer says what was stored until then, and why no more.
    pub fn cut_short(&mut self, services: &Services, refusal: Refusal, now: Instant) {
        self.feed.fail(&services.env, refusal, now);
        self.feed.cut(services.around(), now);
    }

    /// The client is gone.
    pub fn abandon(&mut self, services: &Services) {
        self.feed.abandon(services.around());
    }

    /// When to give up if nothing more comes. None while it is us who do not read.
    pub fn deadline(&self, env: &Env) -> Option<Instant> {
        if let Some(since) = self.feed.broken_since() {
            return Some(since + BATCH_DRAIN_TIME_MAX);
        }
        if self.blocked_since.is_some() {
            return None;
        }
        if self.feed.streams() {
            return Some(self.received_at + env.config.idle_timeout);
        }
        let earned = Duration::from_millis(self.received_bytes.saturating_mul(1000) / BODY_BYTES_PER_S_MIN);
        Some(self.begun + env.config.body_grace() + earned + self.blocked)
    }
}

impl Framing {
    /// Takes framing off the front of `buffer` until data stands there; how much of it is data in one run.
    fn data(&mut self, buffer: &mut BytesMut) -> Result<usize, HeadError> {
        match self {
            Framing::Length(left) => Ok(buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX))),
            Framing::Chunked(decoder) => {
                let mut at = 0;
                while at < buffer.len() && !decoder.is_done() && decoder.chunk_bytes_left() == 0 {
                    decoder.decode(&buffer[at..=at], &mut |_| {})?;
                    at += 1;
                }
                buffer.advance(at);
                Ok(buffer.len().min(usize::try_from(decoder.chunk_bytes_left()).unwrap_or(usize::MAX)))
            }
        }
    }

    /// So many bytes of the run were used.
    fn consume(&mut self, buffer: &mut BytesMut, count: usize) -> Result<(), Refusal> {
        match self {
            Framing::Length(left) => *left -= count as u64,
            Framing::Chunked(decoder) => {
                decoder.decode(&buffer[..count], &mut |_| {}).map_err(Refusal::from)?;
            }
        }
        buffer.advance(count);
        Ok(())
    }

    fn is_done(&self) -> bool {
        match self {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(decoder) => decoder.is_done(),
        }
    }
}

impl Decoding {
    fn feed(&mut self, bytes: &[u8]) {
        self.decoder.feed(bytes);
        self.hungry = false;
    }

    fn end_input(&mut self) {
        self.decoder.end_input();
        self.ended = true;
        self.hungry = false;
    }

    /// Decodes a piece and gives it to the feed, unless the last is not used up.
    fn pass_on(&mut self, services: &Services, feed: &mut Feed, now: Instant) -> Result<Flow, Refusal> {
        if self.rest.is_empty() {
            match self.decoder.read(&mut self.plain).map_err(|err| content_encoding::malformed(&err))? {
                Decoded::Bytes(count) => self.rest = 0..count,
                Decoded::NeedsInput | Decoded::End => {
                    self.hungry = true;
                    return Ok(Flow::Open);
                }
            }
            let allowed = DECODED_BYTES_FREE.max(self.decoder.fed_bytes().saturating_mul(DECODED_RATIO_MAX));
            if self.decoder.decoded_bytes() > allowed {
                let message = format!("the body decodes to more than {DECODED_RATIO_MAX} times what was sent");
                return Err(Refusal::new(codes::DECODED_BODY_TOO_LARGE, message));
            }
        }
        let mut run = &self.plain[self.rest.clone()];
        let flow = feed.take(services.around(), &mut run, now);
        self.rest.start = self.rest.end - run.len();
        Ok(flow)
    }
}
