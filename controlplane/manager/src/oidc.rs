//! Tokens of somebody else: OpenID Connect (or any other JWT) of the one issuer that is configured, checked against the
//! keys of a file. Off unless it is configured.
//!
//! The file holds a JWKS (RFC 7517), as the issuer publishes it; a copy by whatever fetches files here. It is looked at
//! again a second after the last time, so a replaced file is in force then; one that cannot be read leaves the keys as
//! they were, with a warning.
//!
//! Role and apps are claims of the token, by names that are configured: a text or an array of texts. Of several roles the
//! strongest counts; texts that are no role are passed over. `*` among the apps of a reader is every app. Apps are meant by
//! name here, because the issuer knows nothing else.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use model::denied::Denied;
use model::ids::AppId;
use model::limits::PRINCIPAL_APPS_MAX;
use model::principals::{Role, Visible};
use serde_json::{Map, Value};

use crate::caller::Caller;
use crate::limits::{JWKS_BYTES_MAX, JWKS_LOOKED_AT_EVERY, SUBJECT_BYTES_MAX};
use crate::tokens::{bad, validation};

/// Whose tokens are taken, and what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcConfig {
    pub issuer: String,
    pub audience: String,
    pub jwks_file: PathBuf,
    pub role_claim: String,
    pub apps_claim: String,
}

/// Verifies tokens of the issuer.
pub struct Oidc {
    config: OidcConfig,
    known: Mutex<Known>,
}

struct Known {
    keys: Vec<Jwk>,
    version: Option<Version>,
    looked_at: Instant,
}

/// Length, inode and time of a file: another one when it was replaced.
type Version = (u64, u64, SystemTime);

/// Why a file is no JWKS.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    #[error("cannot read the file")]
    Read(#[source] std::io::Error),
    #[error("the file has more than {JWKS_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the file is no JWKS")]
    NotJwks(#[source] serde_json::Error),
    #[error("the file has no key that is usable here: RSA, P-256, P-384 or Ed25519, for signatures")]
    NoKey,
}

impl Oidc {
    /// # Errors
    /// There are no keys to begin with.
    pub fn new(config: OidcConfig) -> Result<Oidc, JwksError> {
        let (keys, version) = read(&config.jwks_file)?;
        let known = Known { keys, version: Some(version), looked_at: Instant::now() };
        Ok(Oidc { config, known: Mutex::new(known) })
    }

    /// Who a token of this head is of, and what they may do.
    pub(crate) fn verify(&self, token: &[u8], header: &Header) -> Result<Caller, Denied> {
        let key = self.key(header, Instant::now()).ok_or_else(|| bad(&ErrorKind::InvalidSignature))?;
        // The key says which algorithms there are, not the token.
        if !algorithms(&key).contains(&header.alg) {
            return Err(bad(&ErrorKind::InvalidAlgorithm));
        }
        let public = DecodingKey::from_jwk(&key).map_err(|err| bad(err.kind()))?;
        let OidcConfig { issuer, audience, .. } = &self.config;
        let validation = validation(header.alg, issuer, audience, &["exp", "iss", "aud", "sub"]);
        let found = jsonwebtoken::decode::<Map<String, Value>>(token, &public, &validation);
        let claims = found.map_err(|err| bad(err.kind()))?.claims;
        self.caller(&claims)
    }

    fn caller(&self, claims: &Map<String, Value>) -> Result<Caller, Denied> {
        let sub = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        let is_fine = (1..=SUBJECT_BYTES_MAX).contains(&sub.len()) && sub.bytes().all(|b| b.is_ascii_graphic());
        if !is_fine {
            return Err(Denied::BadToken { why: "has a subject that cannot be written down" });
        }
        // No principal and no app has a colon in its name.
        let subject = format!("oidc:{sub}");
        let roles = texts(claims.get(&self.config.role_claim)).into_iter().filter_map(Role::parse);
        let Some(role) = roles.min() else { return Err(Denied::Forbidden { subject }) };
        let apps = texts(claims.get(&self.config.apps_claim));
        let visible = match role {
            Role::Admin => Visible::All,
            Role::Reader if apps.contains(&"*") => Visible::All,
            Role::Owner | Role::Reader => {
                let apps = apps.into_iter().filter_map(|app| AppId::new(app).ok());
                Visible::Apps(apps.take(PRINCIPAL_APPS_MAX).collect())
            }
            Role::Node => Visible::Apps(Vec::new()),
        };
        Ok(Caller { subject, role, visible, stamp: None })
    }

    fn key(&self, header: &Header, now: Instant) -> Option<Jwk> {
        let mut known = self.lock();
        if now.saturating_duration_since(known.looked_at) >= JWKS_LOOKED_AT_EVERY {
            known.looked_at = now;
            self.look_again(&mut known);
        }
        match (&header.kid, known.keys.as_slice()) {
            (Some(kid), keys) => keys.iter().find(|key| key.common.key_id.as_ref() == Some(kid)).cloned(),
            (None, [only]) => Some(only.clone()),
            (None, _) => None,
        }
    }

    fn look_again(&self, known: &mut Known) {
        let file = &self.config.jwks_file;
        let version = version(file).ok();
        if version == known.version {
            return;
        }
        known.version = version;
        match read(file) {
            Ok((keys, version)) => {
                tracing::info!(file = %file.display(), keys = keys.len(), "keys of the token issuer read again");
                (known.keys, known.version) = (keys, Some(version));
            }
            Err(err) => {
                let err = &err as &dyn std::error::Error;
                tracing::warn!(file = %file.display(), err, "keys of the token issuer stay as they were");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One text, or an array's.
fn texts(claim: Option<&Value>) -> Vec<&str> {
    match claim {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn version(file: &Path) -> Result<Version, JwksError> {
    let metadata = fs::metadata(file).map_err(JwksError::Read)?;
    Ok((metadata.len(), metadata.ino(), metadata.modified().map_err(JwksError::Read)?))
}

fn read(file: &Path) -> Result<(Vec<Jwk>, Version), JwksError> {
    let version = version(file)?;
    if version.0 > JWKS_BYTES_MAX {
        return Err(JwksError::TooLarge);
    }
    let bytes = fs::read(file).map_err(JwksError::Read)?;
    let set: JwkSet = serde_json::from_slice(&bytes).map_err(JwksError::NotJwks)?;
    let keys: Vec<Jwk> = set.keys.into_iter().filter(|key| !algorithms(key).is_empty()).collect();
    if keys.is_empty() { Err(JwksError::NoKey) } else { Ok((keys, version)) }
}

/// What a key may have signed with; a shared secret (`oct`) with nothing.
fn algorithms(key: &Jwk) -> Vec<Algorithm> {
    if matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption)) {
        return Vec::new();
    }
    let of_kind: &[Algorithm] = match &key.algorithm {
        AlgorithmParameters::RSA(_) => &[Algorithm::RS256, Algorithm::PS256],
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => &[Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P384 => &[Algorithm::ES384],
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        _ => &[],
    };
    let said = key.common.key_algorithm.map(|algorithm| algorithm.to_string());
    of_kind.iter().copied().filter(|one| said.as_ref().is_none_or(|said| *said == format!("{one:?}"))).collect()
}
