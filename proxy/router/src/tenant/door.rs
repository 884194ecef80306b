//! What a client says before, and again after, it is let in: its versions, its mechanism, its proof. All answered here.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::pieces::{bytes, put_count, put_string};
use kafka_wire::shape::{Shape, walk};
use kafka_wire::shapes::{sasl_authenticate, sasl_handshake};
use kafka_wire::{ApiKey, ErrorCode, WireError, header};
use model::limits::SCRAM_NONCE_RANDOM_BYTES;
use model::sasl::{Login, SaslMechanism, SaslServer, SaslStep, decoy_key};
use model::tenant::is_id_of_cluster;
use model::{Denied, Snapshot};

use crate::rewrite::api_versions::Asker;
use crate::rewrite::text;
use crate::tenant::fill::{ERROR_CODE, Fill};
use crate::tenant::rename::frame;
use crate::tenant::whole::Head;

/// What becomes of a step.
#[derive(Debug)]
pub enum Step {
    /// An answer; the client goes on.
    Answer(BytesMut),
    /// It has proved who it is. Whoever lets it in answers with [`welcome`], or with [`refuse`].
    Proved { login: Login, last: Vec<u8> },
    /// It has not.
    Failed { app: String, denied: Denied },
}

/// One per connection.
#[derive(Debug, Default)]
pub struct Door {
    mechanism: Option<SaslMechanism>,
    exchange: Option<SaslServer>,
    /// A handshake of version 0 is taken: the client is a stranger still.
    takes_bare: bool,
    is_bare: bool,
}

impl Door {
    /// For a client that has not logged in yet.
    pub fn of_stranger() -> Door {
        Door { takes_bare: true, ..Door::default() }
    }

    /// What comes next is a message of the exchange and nothing else: a length, and so many bytes.
    pub fn is_bare(&self) -> bool {
        self.is_bare
    }

    /// Such a message. Whoever is answered gets a length and so many bytes, too; a failure is told by the end.
    pub fn bare_step(
        &mut self,
        message: &[u8],
        snapshot: &Snapshot,
        random: impl FnOnce() -> [u8; SCRAM_NONCE_RANDOM_BYTES],
    ) -> Step {
        let mechanism = self.mechanism.expect("a handshake has named it");
        match self.exchange(mechanism, message, snapshot, random) {
            SaslStep::Challenge(bytes) => Step::Answer(bare(&bytes)),
            SaslStep::Done { last, login } => Step::Proved { login, last },
            SaslStep::Failed { app, denied } => Step::Failed { app, denied },
        }
    }

    /// One of the two requests of a login. `frame` has its length in front.
    pub fn step(
        &mut self,
        head: &Head,
        frame: &Bytes,
        snapshot: &Snapshot,
        random: impl FnOnce() -> [u8; SCRAM_NONCE_RANDOM_BYTES],
    ) -> Result<Step, WireError> {
        let mut body = frame.slice(4..);
        header::decode_request_header(&mut body)?;
        let (version, id) = (head.version, head.correlation_id);
        match head.rule.key {
            ApiKey::SaslHandshake => self.handshake(version, id, &body),
            _ => self.authenticate(version, id, &body, snapshot, random),
        }
    }

    /// SaslHandshake: which mechanism is to come.
    fn handshake(&mut self, version: i16, correlation_id: i32, body: &[u8]) -> Result<Step, WireError> {
        let mut asked = None;
        walk(&sasl_handshake::REQUEST, version, body, |visit| asked = text(body, &visit.range, false))?;
        self.exchange = None;
        let is_bare = version < FRAMED_FROM;
        let takes = self.takes_bare || !is_bare;
        self.mechanism = asked.and_then(SaslMechanism::parse).filter(|_| takes);
        self.is_bare = is_bare && self.mechanism.is_some();
        let error = match self.mechanism {
            Some(_) => ErrorCode::NONE,
            None if takes => ErrorCode::UNSUPPORTED_SASL_MECHANISM,
            None => ErrorCode::UNSUPPORTED_VERSION,
        };
        let shape = &sasl_handshake::RESPONSE;
        let body = Fill::message(shape, version, &mut |field, out| match field.name {
            ERROR_CODE => {
                out.put_i16(error.0);
                true
            }
            "mechanisms" => {
                put_count(out, false, SaslMechanism::ALL.len());
                SaslMechanism::ALL.iter().for_each(|one| put_string(out, false, one.name().as_bytes()));
                true
            }
            _ => false,
        });
        Ok(Step::Answer(frame(ApiKey::SaslHandshake, version, correlation_id, &body)))
    }

    /// SaslAuthenticate: a message of the exchange. `random` comes from the operating system.
    fn authenticate(
        &mut self,
        version: i16,
        correlation_id: i32,
        body: &[u8],
        snapshot: &Snapshot,
        random: impl FnOnce() -> [u8; SCRAM_NONCE_RANDOM_BYTES],
    ) -> Result<Step, WireError> {
        let flexible = version >= sasl_authenticate::REQUEST.flexible_from;
        let mut message: &[u8] = &[];
        walk(&sasl_authenticate::REQUEST, version, body, |visit| {
            if visit.depth == 0 {
                message = bytes(&body[visit.range], flexible).unwrap_or_default();
            }
        })?;
        let Some(mechanism) = self.mechanism else {
            return Ok(Step::Answer(answer(
                version,
                correlation_id,
                ErrorCode::ILLEGAL_SASL_STATE,
                Some(NO_MECHANISM),
                &[],
            )));
        };
        Ok(match self.exchange(mechanism, message, snapshot, random) {
            SaslStep::Challenge(bytes) => Step::Answer(answer(version, correlation_id, ErrorCode::NONE, None, &bytes)),
            SaslStep::Done { last, login } => Step::Proved { login, last },
            SaslStep::Failed { app, denied } => Step::Failed { app, denied },
        })
    }

    /// A step of the exchange, which begins with its first message and is forgotten at its end.
    fn exchange(
        &mut self,
        mechanism: SaslMechanism,
        message: &[u8],
        snapshot: &Snapshot,
        random: impl FnOnce() -> [u8; SCRAM_NONCE_RANDOM_BYTES],
    ) -> SaslStep {
        let exchange = self.exchange.get_or_insert_with(|| SaslServer::new(mechanism, random(), decoy_key(snapshot)));
        let step = exchange.step(message, snapshot);
        if !matches!(step, SaslStep::Challenge(_)) {
            (self.mechanism, self.exchange, self.is_bare) = (None, None, false);
        }
        step
    }
}

/// After a handshake of version 0, messages come without any frame (before KIP-152). kafka-python logged in like this until
/// 2.0, and brokers take it to this day.
const FRAMED_FROM: i16 = 1;

/// A message of an exchange without a frame.
pub fn bare(message: &[u8]) -> BytesMut {
    let mut out = BytesMut::with_capacity(4 + message.len());
    put_count(&mut out, false, message.len());
    out.put_slice(message);
    out
}
const NO_MECHANISM: &str = "SaslHandshake has to come first and name a mechanism";

/// The answer to the message that proved it.
pub fn welcome(version: i16, correlation_id: i32, last: &[u8]) -> BytesMut {
    answer(version, correlation_id, ErrorCode::NONE, None, last)
}

/// The answer to one that did not: clients show the sentence to people.
pub fn refuse(version: i16, correlation_id: i32, why: &str) -> BytesMut {
    answer(version, correlation_id, ErrorCode::SASL_AUTHENTICATION_FAILED, Some(why), &[])
}

fn answer(version: i16, correlation_id: i32, error: ErrorCode, why: Option<&str>, message: &[u8]) -> BytesMut {
    let shape: &Shape = &sasl_authenticate::RESPONSE;
    let flexible = version >= shape.flexible_from;
    let body = Fill::message(shape, version, &mut |field, out| {
        match (field.name, why) {
            (ERROR_CODE, _) => out.put_i16(error.0),
            ("error_message", Some(why)) => put_string(out, flexible, why.as_bytes()),
            ("auth_bytes", _) => {
                put_count(out, flexible, message.len());
                out.put_slice(message);
            }
            // Every new snapshot asks again whether the secret is live, so nobody has to come back for that.
            ("session_lifetime_ms", _) => out.put_i64(0),
            _ => return false,
        }
        true
    });
    frame(ApiKey::SaslAuthenticate, version, correlation_id, &body)
}

/// Whether a client that says which broker it means (KIP-1242) has found it: `node` is the one behind this port.
pub fn is_meant(asker: &Asker, body: &[u8], cluster: &str, node: Option<i32>) -> bool {
    let Some((cluster_at, node_at)) = &asker.identity_at else { return true };
    let named = text(body, cluster_at, true).unwrap_or_default();
    let asked = crate::rewrite::int32(body, node_at);
    let is_cluster = named.is_empty() || is_id_of_cluster(named, cluster);
    is_cluster && (asked < 0 || node.is_none_or(|node| node == asked))
}
