//! The client's side of SASL: PLAIN (RFC 4616) and SCRAM-SHA-256/512 (RFC 5802, RFC 7677), as Kafka speaks them.
//!
//! Messages in, messages out; who frames them (SaslAuthenticate) is the connection's business. Kafka uses no channel
//! binding and does not apply SASLprep to the password. The salted password costs thousands of hash rounds, so it is
//! kept per (salt, iterations): a client opens many connections to brokers that share one credential store.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

use crate::limits::{SASL_MESSAGE_BYTES_MAX, SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN};
use crate::rng::Rng;

/// How to prove who we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// Name and password as they are; only over TLS or on a trusted network.
    Plain,
    /// Challenge and response; the password never crosses the wire.
    ScramSha256,
    /// As [`Mechanism::ScramSha256`] with SHA-512.
    ScramSha512,
}

impl Mechanism {
    /// All that we speak.
    pub const ALL: [Mechanism; 3] = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];

    /// By its name, in capitals or not.
    pub fn parse(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    /// The name as SaslHandshake carries it.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Credentials of this client at the brokers.
#[derive(Clone)]
pub struct Sasl {
    /// Which exchange.
    pub mechanism: Mechanism,
    /// User name at the brokers.
    pub username: String,
    /// Never printed.
    pub password: String,
}

impl std::fmt::Debug for Sasl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sasl {{ {} as {:?} }}", self.mechanism.name(), self.username)
    }
}

/// Why the exchange cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// The server's message is not what the RFC says.
    #[error("server sent a malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// The server's nonce does not begin with ours: another exchange's answer.
    #[error("server's nonce does not continue ours")]
    Nonce,
    /// Outside of what we compute.
    #[error("server asks for {asked} iterations, {SCRAM_ITERATIONS_MIN} to {SCRAM_ITERATIONS_MAX} are accepted")]
    Iterations {
        /// What the server asked for.
        asked: u32,
    },
    /// The server said `e=`.
    #[error("server refused: {0}")]
    Refused(String),
    /// The server does not know the password's verifier: it may be an impostor.
    #[error("server could not prove that it knows the credentials")]
    ServerSignature,
}

/// Keys derived from the password for one salt; one per client, shared by its connections.
#[derive(Clone, Default)]
pub struct SaltedKeys {
    salt: Vec<u8>,
    iterations: u32,
    client_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl std::fmt::Debug for SaltedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SaltedKeys")
    }
}

/// One exchange on one connection.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Plain,
    First { nonce: String, first_bare: String },
    Final { server_signature: Vec<u8> },
    Done,
}

impl Exchange {
    /// Starts an exchange; the returned bytes are the first message.
    pub(crate) fn start(sasl: &Sasl, rng: &mut Rng) -> (Exchange, Vec<u8>) {
        Self::start_with(sasl, [rng.next(), rng.next(), rng.next()])
    }

    /// The same for whoever has no client, only a connection: `random` comes from the operating system.
    pub fn start_with(sasl: &Sasl, random: [u64; 3]) -> (Exchange, Vec<u8>) {
        Self::start_with_nonce(sasl, STANDARD.encode(random.map(u64::to_be_bytes).concat()))
    }

    fn start_with_nonce(sasl: &Sasl, nonce: String) -> (Exchange, Vec<u8>) {
        match sasl.mechanism {
            Mechanism::Plain => {
                let message = format!("\0{}\0{}", sasl.username, sasl.password).into_bytes();
                (Exchange { mechanism: sasl.mechanism, step: Step::Plain }, message)
            }
            Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
                // saslname: '=' and ',' would end the attribute (RFC 5802 section 5.1).
                let name = sasl.username.replace('=', "=3D").replace(',', "=2C");
                let first_bare = format!("n={name},r={nonce}");
                let message = format!("n,,{first_bare}").into_bytes();
                (Exchange { mechanism: sasl.mechanism, step: Step::First { nonce, first_bare } }, message)
            }
        }
    }

    /// Takes the server's message; `Some` is what to send next, `None` means the exchange is complete.
    pub fn on_message(
        &mut self,
        message: &[u8],
        sasl: &Sasl,
        keys: &mut SaltedKeys,
    ) -> Result<Option<Vec<u8>>, SaslError> {
        if message.len() > SASL_MESSAGE_BYTES_MAX {
            return Err(SaslError::Malformed("too long"));
        }
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Plain | Step::Done => Ok(None),
            Step::First { nonce, first_bare } => {
                let (reply, server_signature) =
                    answer_challenge(self.mechanism, message, &nonce, &first_bare, sasl, keys)?;
                self.step = Step::Final { server_signature };
                Ok(Some(reply))
            }
            Step::Final { server_signature } => {
                check_server_final(message, &server_signature)?;
                Ok(None)
            }
        }
    }
}

/// server-first-message to (client-final-message, the signature the server must show).
fn answer_challenge(
    mechanism: Mechanism,
    message: &[u8],
    nonce: &str,
    first_bare: &str,
    sasl: &Sasl,
    keys: &mut SaltedKeys,
) -> Result<(Vec<u8>, Vec<u8>), SaslError> {
    let server_first = std::str::from_utf8(message).map_err(|_| SaslError::Malformed("not UTF-8"))?;
    let mut attributes = server_first.split(',');
    let first = attributes.next().unwrap_or_default();
    if let Some(why) = first.strip_prefix("e=") {
        return Err(SaslError::Refused(printable(why)));
    }
    if first.starts_with("m=") {
        return Err(SaslError::Malformed("mandatory extension"));
    }
    let server_nonce = first.strip_prefix("r=").ok_or(SaslError::Malformed("no nonce"))?;
    let salt = attributes.next().and_then(|a| a.strip_prefix("s=")).ok_or(SaslError::Malformed("no salt"))?;
    let iterations =
        attributes.next().and_then(|a| a.strip_prefix("i=")).ok_or(SaslError::Malformed("no iteration count"))?;
    if !server_nonce.starts_with(nonce) || server_nonce.len() == nonce.len() {
        return Err(SaslError::Nonce);
    }
    let salt = STANDARD.decode(salt).map_err(|_| SaslError::Malformed("salt is not base64"))?;
    let asked = iterations.parse::<u32>().map_err(|_| SaslError::Malformed("iteration count is no number"))?;
    if !(SCRAM_ITERATIONS_MIN..=SCRAM_ITERATIONS_MAX).contains(&asked) {
        return Err(SaslError::Iterations { asked });
    }
    if keys.salt != salt || keys.iterations != asked || keys.client_key.is_empty() {
        *keys = derive(mechanism, sasl.password.as_bytes(), salt, asked);
    }
    let without_proof = format!("c=biws,r={server_nonce}"); // "biws" is base64 of the header "n,,"
    let auth_message = format!("{first_bare},{server_first},{without_proof}");
    let stored_key = hash(mechanism, &keys.client_key);
    let client_signature = mac(mechanism, &stored_key, auth_message.as_bytes());
    let proof: Vec<u8> =
        keys.client_key.iter().zip(&client_signature).map(|(key, signature)| key ^ signature).collect();
    let server_signature = mac(mechanism, &keys.server_key, auth_message.as_bytes());
    Ok((format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes(), server_signature))
}

fn check_server_final(message: &[u8], server_signature: &[u8]) -> Result<(), SaslError> {
    let text = std::str::from_utf8(message).map_err(|_| SaslError::Malformed("not UTF-8"))?;
    let first = text.split(',').next().unwrap_or_default();
    if let Some(why) = first.strip_prefix("e=") {
        return Err(SaslError::Refused(printable(why)));
    }
    let shown = first.strip_prefix("v=").ok_or(SaslError::Malformed("no server signature"))?;
    let shown = STANDARD.decode(shown).map_err(|_| SaslError::Malformed("signature is not base64"))?;
    if bool::from(shown.ct_eq(server_signature)) { Ok(()) } else { Err(SaslError::ServerSignature) }
}

fn derive(mechanism: Mechanism, password: &[u8], salt: Vec<u8>, iterations: u32) -> SaltedKeys {
    let salted = match mechanism {
        Mechanism::ScramSha512 => pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password, &salt, iterations).to_vec(),
        Mechanism::ScramSha256 | Mechanism::Plain => {
            pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, &salt, iterations).to_vec()
        }
    };
    SaltedKeys {
        client_key: mac(mechanism, &salted, b"Client Key"),
        server_key: mac(mechanism, &salted, b"Server Key"),
        salt,
        iterations,
    }
}

fn hash(mechanism: Mechanism, data: &[u8]) -> Vec<u8> {
    match mechanism {
        Mechanism::ScramSha512 => Sha512::digest(data).to_vec(),
        Mechanism::ScramSha256 | Mechanism::Plain => Sha256::digest(data).to_vec(),
    }
}

fn mac(mechanism: Mechanism, key: &[u8], data: &[u8]) -> Vec<u8> {
    match mechanism {
        Mechanism::ScramSha512 => {
            let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes keys of any length");
            mac.update(data);
            mac.finalize().into_bytes().to_vec()
        }
        Mechanism::ScramSha256 | Mechanism::Plain => {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
            mac.update(data);
            mac.finalize().into_bytes().to_vec()
        }
    }
}

/// A server's words for a log line: short, one line.
fn printable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(mechanism: Mechanism, username: &str, password: &str) -> Sasl {
        Sasl { mechanism, username: username.into(), password: password.into() }
    }

    fn rfc7677() -> (Sasl, Exchange) {
        let sasl = credentials(Mechanism::ScramSha256, "user", "pencil");
        let (exchange, first) = Exchange::start_with_nonce(&sasl, "rOprNGfwEbeRWgbNEkqO".into());
        assert_eq!(first, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        (sasl, exchange)
    }

    const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn scram_sha_256_speaks_the_example_of_rfc_7677() {
        let (sasl, mut exchange) = rfc7677();
        let mut keys = SaltedKeys::default();
        let last = exchange.on_message(SERVER_FIRST, &sasl, &mut keys).unwrap().unwrap();
        let expected: &[u8] =
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(last, expected);
        let done = exchange.on_message(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", &sasl, &mut keys);
        assert_eq!(done, Ok(None));
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_refused() {
        let (sasl, mut exchange) = rfc7677();
        let mut keys = SaltedKeys::default();
        exchange.on_message(SERVER_FIRST, &sasl, &mut keys).unwrap();
        let wrong = exchange.on_message(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=", &sasl, &mut keys);
        assert!(wrong.is_err(), "{wrong:?}");
    }

    #[test]
    fn malformed_and_hostile_challenges_are_errors() {
        for (challenge, why) in [
            (&b"\xff\xfe"[..], "UTF-8"),
            (b"", "nonce"),
            (b"e=other-error", "refused"),
            (b"m=x,r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=4096", "mandatory"),
            (b"r=somebodyelse,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "nonce"),
            (b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "nonce"),
            (b"r=rOprNGfwEbeRWgbNEkqOx,s=!!,i=4096", "base64"),
            (b"r=rOprNGfwEbeRWgbNEkqOx,s=W22Z", "iteration"),
            (b"r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=many", "number"),
            (b"r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=1", "iterations"),
            (b"r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=4000000000", "iterations"),
        ] {
            let (sasl, mut exchange) = rfc7677();
            let error = exchange.on_message(challenge, &sasl, &mut SaltedKeys::default()).unwrap_err();
            assert!(error.to_string().contains(why), "{error} should mention {why}");
        }
    }

    #[test]
    fn plain_sends_name_and_password_once() {
        let sasl = credentials(Mechanism::Plain, "tim", "tanstaaftanstaaf");
        let (mut exchange, first) = Exchange::start(&sasl, &mut Rng::new(1));
        assert_eq!(first, b"\0tim\0tanstaaftanstaaf");
        assert_eq!(exchange.on_message(b"", &sasl, &mut SaltedKeys::default()), Ok(None));
    }

    #[test]
    fn a_comma_or_equals_sign_in_the_name_is_escaped() {
        let sasl = credentials(Mechanism::ScramSha512, "a=b,c", "x");
        let (_, first) = Exchange::start_with_nonce(&sasl, "N".into());
        assert_eq!(first, b"n,,n=a=3Db=2Cc,r=N");
    }

    #[test]
    fn passwords_are_never_printed() {
        let sasl = credentials(Mechanism::Plain, "tim", "tanstaaf");
        assert!(!format!("{sasl:?}").contains("tanstaaf"));
    }
}
