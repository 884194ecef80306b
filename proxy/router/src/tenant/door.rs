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
}

impl Door {
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
        self.mechanism = asked.and_then(SaslMechanism::parse).filter(|_| version >= FRAMED_FROM);
        let error = match self.mechanism {
            Some(_) => ErrorCode::NONE,
            None if version < FRAMED_FROM => ErrorCode::UNSUPPORTED_VERSION,
            None => ErrorCode::UNSUPPORTED_SASL_MECHANISM,
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
        let exchange = self.exchange.get_or_insert_with(|| SaslServer::new(mechanism, random(), decoy_key(snapshot)));
        Ok(match exchange.step(message, snapshot) {
            SaslStep::Challenge(bytes) => Step::Answer(answer(version, correlation_id, ErrorCode::NONE, None, &bytes)),
            SaslStep::Done { last, login } => {
                (self.mechanism, self.exchange) = (None, None);
                Step::Proved { login, last }
            }
            SaslStep::Failed { app, denied } => {
                (self.mechanism, self.exchange) = (None, None);
                Step::Failed { app, denied }
            }
        })
    }
}

/// After a handshake of version 0, proofs came without any frame (before KIP-152).
const FRAMED_FROM: i16 = 1;
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
