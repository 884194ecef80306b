//! SCRAM arithmetic (RFC 5802, RFC 7677) for SHA-256 and SHA-512. No messages are parsed here, only keys computed.
//!
//! ```text
//! SaltedPassword = PBKDF2(password, salt, iterations)
//! ClientKey = HMAC(SaltedPassword, "Client Key")     StoredKey = H(ClientKey)
//! ServerKey = HMAC(SaltedPassword, "Server Key")
//! ClientProof = ClientKey XOR HMAC(StoredKey, AuthMessage)
//! ```
//! We keep StoredKey and ServerKey. The server's first message names salt and iterations before any password is seen,
//! so an app has one salt and one iteration count for all of its secrets: publish or subscribe, current or previous.

use std::fmt;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

use crate::limits::{SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN};
use crate::secrets::hex;

/// Which hash the exchange uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    Sha256,
    Sha512,
}

impl Mechanism {
    /// The name in SaslHandshake.
    pub fn as_str(self) -> &'static str {
        match self {
            Mechanism::Sha256 => "SCRAM-SHA-256",
            Mechanism::Sha512 => "SCRAM-SHA-512",
        }
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Mechanism::Sha256 => {
                let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
                mac.update(message);
                mac.finalize().into_bytes().to_vec()
            }
            Mechanism::Sha512 => {
                let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes keys of any length");
                mac.update(message);
                mac.finalize().into_bytes().to_vec()
            }
        }
    }

    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Mechanism::Sha256 => Sha256::digest(bytes).to_vec(),
            Mechanism::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn pbkdf2(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Mechanism::Sha256 => pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, salt, iterations).to_vec(),
            Mechanism::Sha512 => pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password, salt, iterations).to_vec(),
        }
    }

    fn digest_bytes(self) -> usize {
        match self {
            Mechanism::Sha256 => 32,
            Mechanism::Sha512 => 64,
        }
    }
}

/// An app's salt and iteration count. Sent to anybody who starts a login, so it is no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramParams {
    #[serde(with = "hex")]
    pub salt: Vec<u8>,
    pub iterations: u32,
}

impl ScramParams {
    /// Stored numbers are checked before they decide how long a login computes.
    pub fn is_sane(&self) -> bool {
        !self.salt.is_empty() && (SCRAM_ITERATIONS_MIN..=SCRAM_ITERATIONS_MAX).contains(&self.iterations)
    }
}

/// What a server keeps of one password for one mechanism. Not the password, but enough to impersonate the server, and
/// to try passwords offline: files that hold it are private and its `Debug` says nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramVerifier {
    #[serde(with = "hex")]
    pub stored_key: Vec<u8>,
    #[serde(with = "hex")]
    pub server_key: Vec<u8>,
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier(redacted)")
    }
}

impl ScramVerifier {
    /// Takes about a millisecond per 4096 iterations. Our own secrets are ASCII, for which SASLprep is the identity.
    pub fn derive(mechanism: Mechanism, password: &[u8], params: &ScramParams) -> Self {
        let salted = mechanism.pbkdf2(password, &params.salt, params.iterations);
        let client_key = mechanism.hmac(&salted, b"Client Key");
        Self { stored_key: mechanism.digest(&client_key), server_key: mechanism.hmac(&salted, b"Server Key") }
    }

    /// Does the proof belong to this password and this exchange?
    pub fn accepts(&self, mechanism: Mechanism, auth_message: &[u8], client_proof: &[u8]) -> bool {
        if client_proof.len() != mechanism.digest_bytes() || self.stored_key.len() != mechanism.digest_bytes() {
            return false;
        }
        let signature = mechanism.hmac(&self.stored_key, auth_message);
        let client_key: Vec<u8> = client_proof.iter().zip(&signature).map(|(p, s)| p ^ s).collect();
        mechanism.digest(&client_key).ct_eq(&self.stored_key).into()
    }

    /// What proves to the client that we hold its verifier.
    pub fn server_signature(&self, mechanism: Mechanism, auth_message: &[u8]) -> Vec<u8> {
        mechanism.hmac(&self.server_key, auth_message)
    }
}

/// The client's half: its proof, and the signature it must see from the server.
pub fn client_proof(
    mechanism: Mechanism,
    password: &[u8],
    params: &ScramParams,
    auth_message: &[u8],
) -> (Vec<u8>, Vec<u8>) {
    let salted = mechanism.pbkdf2(password, &params.salt, params.iterations);
    let client_key = mechanism.hmac(&salted, b"Client Key");
    let signature = mechanism.hmac(&mechanism.digest(&client_key), auth_message);
    let proof = client_key.iter().zip(&signature).map(|(k, s)| k ^ s).collect();
    (proof, mechanism.hmac(&mechanism.hmac(&salted, b"Server Key"), auth_message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    /// RFC 7677 section 3: user "user", password "pencil".
    #[test]
    fn the_exchange_of_rfc_7677_verifies() {
        let params = ScramParams { salt: STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), iterations: 4096 };
        let auth_message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
            .as_bytes();
        let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
        let signature = STANDARD.decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();

        let verifier = ScramVerifier::derive(Mechanism::Sha256, b"pencil", &params);
        assert!(verifier.accepts(Mechanism::Sha256, auth_message, &proof));
        assert_eq!(verifier.server_signature(Mechanism::Sha256, auth_message), signature);
        assert_eq!(client_proof(Mechanism::Sha256, b"pencil", &params, auth_message), (proof, signature));
    }

    #[test]
    fn a_wrong_password_message_mechanism_or_length_is_refused() {
        let params = ScramParams { salt: vec![9; 16], iterations: 4096 };
        for mechanism in [Mechanism::Sha256, Mechanism::Sha512] {
            let verifier = ScramVerifier::derive(mechanism, b"right", &params);
            let (proof, signature) = client_proof(mechanism, b"right", &params, b"exchange");
            assert!(verifier.accepts(mechanism, b"exchange", &proof));
            assert_eq!(verifier.server_signature(mechanism, b"exchange"), signature);
            assert!(!verifier.accepts(mechanism, b"other", &proof));
            assert!(!verifier.accepts(mechanism, b"exchange", &proof[1..]));
            assert!(!verifier.accepts(mechanism, b"exchange", &[]));
            let (wrong, _) = client_proof(mechanism, b"wrong", &params, b"exchange");
            assert!(!verifier.accepts(mechanism, b"exchange", &wrong));
            let other = if mechanism == Mechanism::Sha256 { Mechanism::Sha512 } else { Mechanism::Sha256 };
            assert!(!verifier.accepts(other, b"exchange", &proof));
        }
    }

    #[test]
    fn a_verifier_does_not_print_its_keys() {
        let params = ScramParams { salt: vec![9; 16], iterations: 4096 };
        let verifier = ScramVerifier::derive(Mechanism::Sha256, b"right", &params);
        assert_eq!(format!("{verifier:?}"), "ScramVerifier(redacted)");
    }
}
