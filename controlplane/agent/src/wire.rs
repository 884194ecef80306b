//! The bytes between an agent and those who use its result. `WIRE.md` describes them; this file is it in code.
//!
//! Sans-I/O but for reading and writing whole frames on whatever stream it is given.

use std::io;

use model::ReportedEvent;
use model::ids::Generation;
use model::quota::{Report, Shares};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::limits::FRAME_BYTES_MAX;

/// The version that this code speaks. Another one is refused, with a sentence that says so.
pub const VERSION: u32 = 1;

/// A frame: `length u32` (of what follows), `kind u8`, payload; big endian.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// `h`, the consumer's first.
    Hello(Hello),
    /// `w`, the agent's answer.
    Welcome(Welcome),
    /// `s`: a snapshot file as `model/FORMAT.md` has it, which replaces everything.
    Snapshot(Vec<u8>),
    /// `c`: a [`model::ChangesDoc`] as JSON, which leads on from what the consumer has.
    Changes(Vec<u8>),
    /// `a`, every second: the agent lives.
    Alive(Alive),
    /// `k`: the consumer has this generation in force.
    Applied(Generation),
    /// `f`: the consumer could make nothing of what it was sent; a snapshot is next.
    Failed(Failed),
    /// `e`: the consumer tells what is to stand in the audit log.
    Events(Events),
    /// `r`: it stands there.
    Recorded(Recorded),
    /// `d`, to whoever splits limits: what is wanted here.
    Report(Report),
    /// `l`, its answer.
    Shares(Shares),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub wire: u32,
    /// Who is asking, for people.
    pub node: String,
    /// What it has in force already.
    #[serde(default)]
    pub have: Option<Generation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub wire: u32,
    /// Why the agent hangs up now, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// It takes [`Frame::Events`].
    #[serde(default)]
    pub records: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    pub generation: Generation,
    /// Since the database said so last; `None`: it has not yet.
    pub confirmed_ms_ago: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub generation: Generation,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// At most [`AUDIT_BATCH_EVENTS_MAX`](crate::limits::AUDIT_BATCH_EVENTS_MAX).
    pub events: Vec<ReportedEvent>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Of the batch's last event.
    pub id: String,
}

impl Frame {
    pub fn encode(&self) -> Vec<u8> {
        let json = |value: serde_json::Result<Vec<u8>>| value.expect("string keys and no failing serializer");
        let (kind, payload) = match self {
            Frame::Hello(hello) => (b'h', json(serde_json::to_vec(hello))),
            Frame::Welcome(welcome) => (b'w', json(serde_json::to_vec(welcome))),
            Frame::Snapshot(file) => (b's', file.clone()),
            Frame::Changes(changes) => (b'c', changes.clone()),
            Frame::Alive(alive) => (b'a', json(serde_json::to_vec(alive))),
            Frame::Applied(generation) => (b'k', json(serde_json::to_vec(generation))),
            Frame::Failed(failed) => (b'f', json(serde_json::to_vec(failed))),
            Frame::Events(events) => (b'e', json(serde_json::to_vec(events))),
            Frame::Recorded(recorded) => (b'r', json(serde_json::to_vec(recorded))),
            Frame::Report(report) => (b'd', json(serde_json::to_vec(report))),
            Frame::Shares(shares) => (b'l', json(serde_json::to_vec(shares))),
        };
        let mut bytes = Vec::with_capacity(5 + payload.len());
        bytes.extend_from_slice(&(1 + payload.len() as u32).to_be_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(&payload);
        bytes
    }

    /// What follows the length. `None`: a kind of a later version, to be passed over.
    ///
    /// # Errors
    /// A kind of ours with a payload that is none.
    pub fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Option<Frame>> {
        let bad = |err: serde_json::Error| {
            let why = format!("frame {:?} of {} bytes: {err}", char::from(kind), payload.len());
            io::Error::new(io::ErrorKind::InvalidData, why)
        };
        Ok(Some(match kind {
            b'h' => Frame::Hello(serde_json::from_slice(&payload).map_err(bad)?),
            b'w' => Frame::Welcome(serde_json::from_slice(&payload).map_err(bad)?),
            b's' => Frame::Snapshot(payload),
            b'c' => Frame::Changes(payload),
            b'a' => Frame::Alive(serde_json::from_slice(&payload).map_err(bad)?),
            b'k' => Frame::Applied(serde_json::from_slice(&payload).map_err(bad)?),
            b'f' => Frame::Failed(serde_json::from_slice(&payload).map_err(bad)?),
            b'e' => Frame::Events(serde_json::from_slice(&payload).map_err(bad)?),
            b'r' => Frame::Recorded(serde_json::from_slice(&payload).map_err(bad)?),
            b'd' => Frame::Report(serde_json::from_slice(&payload).map_err(bad)?),
            b'l' => Frame::Shares(serde_json::from_slice(&payload).map_err(bad)?),
            _ => return Ok(None),
        }))
    }
}

/// The next frame that this version knows. Not to be cancelled in the middle: bytes would be lost.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    loop {
        let length = stream.read_u32().await? as usize;
        if !(1..=FRAME_BYTES_MAX).contains(&length) {
            let why = format!("a frame of {length} bytes, allowed are 1 to {FRAME_BYTES_MAX}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let kind = stream.read_u8().await?;
        // Grows as bytes come: a length alone reserves nothing.
        let mut payload = Vec::new();
        stream.take(length as u64 - 1).read_to_end(&mut payload).await?;
        if payload.len() + 1 < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(frame) = Frame::decode(kind, payload)? {
            return Ok(frame);
        }
    }
}

pub async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    stream.write_all(&frame.encode()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{AuditEvent, AuditWhat, HistoryId};

    fn reported() -> ReportedEvent {
        let peer = "10.0.0.7:4711".parse().unwrap();
        let event = AuditEvent::new(7, AuditWhat::KafkaLoginFailed, "shop", peer, "why");
        ReportedEvent { id: "gw-1".to_owned(), node: "gw".to_owned(), event }
    }

    #[tokio::test]
    async fn a_welcome_of_before_there_were_events_takes_none() {
        let welcome = Frame::decode(b'w', br#"{"wire":1}"#.to_vec()).unwrap();
        assert_eq!(welcome, Some(Frame::Welcome(Welcome { wire: 1, refused: None, records: false })));
    }

    #[tokio::test]
    async fn every_frame_reads_back_and_kinds_of_later_versions_are_passed_over() {
        let generation = Generation { history: HistoryId::new(7), number: 3 };
        let frames = [
            Frame::Hello(Hello { wire: VERSION, node: "gw".to_owned(), have: Some(generation) }),
            Frame::Welcome(Welcome { wire: VERSION, refused: Some("why".to_owned()), records: true }),
            Frame::Snapshot(b"gafka-snapshot 1".to_vec()),
            Frame::Changes(b"{}".to_vec()),
            Frame::Alive(Alive { generation, confirmed_ms_ago: None }),
            Frame::Applied(generation),
            Frame::Failed(Failed { generation, why: "no".to_owned() }),
            Frame::Events(Events { events: vec![reported()] }),
            Frame::Recorded(Recorded { id: "gw-1".to_owned() }),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            bytes.extend_from_slice(&frame.encode());
            bytes.extend_from_slice(b"\0\0\0\x03?ab");
        }
        let mut stream = bytes.as_slice();
        for frame in &frames {
            assert_eq!(read(&mut stream).await.unwrap(), *frame);
        }
        assert_eq!(read(&mut stream).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_is_no_frame_is_an_error_and_reserves_nothing() {
        let rows: [&[u8]; 5] =
            [b"\0\0\0\0", b"\xff\xff\xff\xffs", b"\0\0\0\x02h{", b"\0\0\0\x09h{}", b"GET / HTTP/1.1\r\n\r\n"];
        for row in rows {
            assert!(read(&mut { row }).await.is_err(), "{row:?}");
        }
    }
}
