//! Tokens that we give out: a JWT (RFC 7519) signed with Ed25519 by the key in the database, so that every manager of the
//! database takes it.
//!
//! A token says who it is of, and for which stamp of theirs; what they may do is asked of the database with each request.
//! So whatever changes about a principal (key, role, apps, enabled, removed) is the end of its tokens at once, and a new
//! signing key that of all of them.

use std::time::{SystemTime, UNIX_EPOCH};

use authdb::{AuthDb, TokenKey};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use model::denied::Denied;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::limits::TOKEN_LEEWAY_S;

/// Who gives our tokens out, and who they are for: only a manager takes them.
pub const ISSUER: &str = "gafka";
const AUDIENCE: &str = "gafka-manager";

#[derive(Serialize, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    aud: String,
    pub(crate) sub: String,
    /// For people who look into a token; what counts is the database's.
    role: String,
    /// Of the principal when the token was given out.
    pub(crate) stamp: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
}

/// A token and when it ends, in seconds of the epoch.
pub(crate) struct Given {
    pub(crate) token: String,
    pub(crate) expires_at_s: u64,
}

/// Gives the actor of this handle a token.
pub(crate) async fn give(db: &dyn AuthDb, sub: &str, role: &str, stamp: &str, ttl_s: u64) -> Result<Given, ApiError> {
    let mut jti = [0; 16];
    getrandom::fill(&mut jti).map_err(authdb::AuthDbError::Random)?;
    let jti = format!("{:032x}", u128::from_be_bytes(jti));
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let expires_at_s = now_s + ttl_s;
    let key = db.begin_token(&jti, expires_at_s as i64 * 1_000).await?;
    let claims = Claims {
        iss: ISSUER.to_owned(),
        aud: AUDIENCE.to_owned(),
        sub: sub.to_owned(),
        role: role.to_owned(),
        stamp: stamp.to_owned(),
        iat: now_s,
        nbf: now_s,
        exp: expires_at_s,
        jti,
    };
    let header = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::EdDSA) };
    let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(&key.seed));
    Ok(Given { token: token.expect("a seed of 32 bytes signs"), expires_at_s })
}

/// What a token of ours says, if it is one and its time is now.
pub(crate) fn verify(token: &[u8], key: &TokenKey) -> Result<Claims, Denied> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&key.seed).expect("a seed of 32 bytes is a key");
    let public = DecodingKey::from_ed_der(pair.public_key().as_ref());
    let validation = validation(Algorithm::EdDSA, ISSUER, AUDIENCE, &["exp", "nbf", "iss", "aud", "sub"]);
    let found = jsonwebtoken::decode::<Claims>(token, &public, &validation).map_err(|err| bad(err.kind()))?;
    Ok(found.claims)
}

/// What is asked of a token, whoever signed it.
pub(crate) fn validation(algorithm: Algorithm, issuer: &str, audience: &str, required: &[&str]) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = TOKEN_LEEWAY_S;
    validation.validate_nbf = true;
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(required);
    validation
}

/// In words for whoever sent it.
pub(crate) fn bad(kind: &ErrorKind) -> Denied {
    let why = match kind {
        ErrorKind::ExpiredSignature => "has expired",
        ErrorKind::ImmatureSignature => "is not valid yet",
        ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => "is not for this manager",
        _ => "is not one of ours, or was changed on its way",
    };
    Denied::BadToken { why }
}

/// It was one, and is of no use any more.
pub(crate) const VOID: Denied = Denied::BadToken { why: "is void: its principal was changed or removed" };
