//! Signatures of tokens, by ring, which TLS has here already: what `jsonwebtoken` brings along would be a second provider.
//!
//! Only these, and only with a key of their family; HMAC is none of them, so a public key is never taken for a secret.
//!
//! | Algorithm | Signs | Verifies |
//! |---|---|---|
//! | EdDSA (Ed25519) | ours | ours, OpenID Connect |
//! | RS256, PS256 (2,048 to 8,192 bits), ES256, ES384 | – | OpenID Connect |

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{self as curves, Ed25519KeyPair, RsaPublicKeyComponents, UnparsedPublicKey};
use signature::{Signer, Verifier};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // Keys are read from a JWKS, never made into one.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes it the process's. Whoever came first did the same.
pub(crate) fn install() {
    let _ = PROVIDER.install_default();
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    match (algorithm, key.family()) {
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => {
            let pair = Ed25519KeyPair::from_seed_unchecked(key.as_bytes());
            Ok(Box::new(Ed25519(pair.map_err(|_| ErrorKind::InvalidKeyFormat)?)))
        }
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    }
}

struct Ed25519(Ed25519KeyPair);

impl Signer<Vec<u8>> for Ed25519 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl JwtSigner for Ed25519 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let method: Method = match (algorithm, key.family()) {
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => Method::Curve(&curves::ED25519),
        (Algorithm::ES256, AlgorithmFamily::Ec) => Method::Curve(&curves::ECDSA_P256_SHA256_FIXED),
        (Algorithm::ES384, AlgorithmFamily::Ec) => Method::Curve(&curves::ECDSA_P384_SHA384_FIXED),
        (Algorithm::RS256, AlgorithmFamily::Rsa) => Method::Rsa(&curves::RSA_PKCS1_2048_8192_SHA256),
        (Algorithm::PS256, AlgorithmFamily::Rsa) => Method::Rsa(&curves::RSA_PSS_2048_8192_SHA256),
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(Box::new(Public { algorithm: *algorithm, method, key: key.clone() }))
}

enum Method {
    Curve(&'static dyn curves::VerificationAlgorithm),
    Rsa(&'static curves::RsaParameters),
}

struct Public {
    algorithm: Algorithm,
    method: Method,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for Public {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match (&self.method, self.key.kind()) {
            (Method::Curve(curve), DecodingKeyKind::SecretOrDer(key)) => {
                UnparsedPublicKey::new(*curve, key).verify(message, signature)
            }
            (Method::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            _ => return Err(signature::Error::new()),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Public {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
