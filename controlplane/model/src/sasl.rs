//! The server's half of SASL for apps that speak Kafka: PLAIN (RFC 4616) and SCRAM-SHA-256/512 (RFC 5802, RFC 7677).
//!
//! The user is the app id and the password one of its secrets, the same ones as over HTTP. No message says which side
//! is meant, so the secret does: all live ones are tried, and the one that fits decides whether the session may publish
//! or subscribe. Somebody who made both sides' secrets the same text gets to publish.
//!
//! ```text
//! PLAIN   client  [authzid] NUL app NUL secret              then it is decided
//! SCRAM   client  n,,n=app,r=NONCE
//!         server  r=NONCE+OURS,s=SALT,i=4096
//!         client  c=biws,r=NONCE+OURS,p=PROOF               then it is decided
//!         server  v=SIGNATURE
//! ```
//! Messages in, messages out: who frames them is the connection's business. The server computes no PBKDF2, at most four
//! HMACs a message, so an exchange may run on a shard.
//!
//! An app that is not there is answered as one that is, up to the end: a salt that looks like one and stays the same
//! ([`decoy_key`]), as many computations, and the refusal of a wrong secret. An app that is disabled is told so only after
//! it has proved who it is.
//!
//! An exchange holds on to no snapshot. What the client's first message was answered with is compared with the snapshot
//! that its last one meets: a secret that was revoked in between fails, one that was rotated does not.

mod login;
mod messages;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::authenticate::{Side, enabled};
use crate::denied::{Denied, echo};
use crate::limits::{
    SASL_MESSAGE_BYTES_MAX, SCRAM_ITERATIONS_DEFAULT, SCRAM_NONCE_RANDOM_BYTES, SCRAM_SALT_BYTES, SECRET_BYTES_MAX,
};
use crate::scram::{Mechanism, ScramParams, ScramVerifier};
use crate::secrets::{SecretHash, StoredSecret};
use crate::snapshot::{App, Snapshot};

pub use login::Login;
use messages::{ClientFinal, ClientFirst, PlainMessage, bad};

/// How a client may prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SaslMechanism {
    /// The secret itself: only over TLS or on a trusted network.
    Plain,
    /// A proof that whoever listens can do nothing with.
    Scram(Mechanism),
}

impl SaslMechanism {
    pub const ALL: [SaslMechanism; 3] =
        [SaslMechanism::Plain, SaslMechanism::Scram(Mechanism::Sha256), SaslMechanism::Scram(Mechanism::Sha512)];

    /// The name in SaslHandshake.
    pub fn name(self) -> &'static str {
        match self {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::Scram(mechanism) => mechanism.as_str(),
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

/// What follows from a client's message.
#[derive(Debug, Clone)]
pub enum SaslStep {
    /// Send this; the client has one more message.
    Challenge(Vec<u8>),
    /// It is who it says it is: send `last`, if [`Login::check`] finds nothing against its address.
    Done { last: Vec<u8>, login: Login },
    /// The exchange is over.
    Failed {
        /// What the client called itself, shortened and printable, for [`crate::login_limiter`] and the log. Empty if it
        /// did not come to that.
        app: String,
        denied: Denied,
    },
}

/// One exchange on one connection.
pub struct SaslServer {
    state: State,
    /// What the client called itself; empty until then.
    app: String,
    server_nonce: String,
    decoy_key: [u8; 32],
}

enum State {
    Plain,
    ClientFirst(Mechanism),
    ClientFinal(Mechanism, Challenged),
    Over,
}

/// What the client's last message has to fit.
struct Challenged {
    /// Base64 of the client's GS2 header, byte for byte.
    channel: String,
    client_nonce: String,
    params: ScramParams,
    /// Both first messages and the comma that follows them.
    auth_message: String,
}

impl SaslServer {
    /// `random` comes from the operating system, for this exchange alone. `decoy_key`: see [`decoy_key`].
    pub fn new(mechanism: SaslMechanism, random: [u8; SCRAM_NONCE_RANDOM_BYTES], decoy_key: [u8; 32]) -> Self {
        let state = match mechanism {
            SaslMechanism::Plain => State::Plain,
            SaslMechanism::Scram(mechanism) => State::ClientFirst(mechanism),
        };
        Self { state, app: String::new(), server_nonce: STANDARD.encode(random), decoy_key }
    }

    /// Takes the client's next message. Any bytes will do; whatever follows after `Done` or `Failed` fails.
    pub fn step(&mut self, message: &[u8], snapshot: &Snapshot) -> SaslStep {
        match self.answer(message, snapshot) {
            Ok(step) => step,
            Err(denied) => SaslStep::Failed { app: echo(&self.app), denied },
        }
    }

    fn answer(&mut self, message: &[u8], snapshot: &Snapshot) -> Result<SaslStep, Denied> {
        let state = std::mem::replace(&mut self.state, State::Over);
        if message.len() > SASL_MESSAGE_BYTES_MAX {
            return Err(bad("the SASL message is too long"));
        }
        let text = std::str::from_utf8(message).map_err(|_| bad("the SASL message is not UTF-8"))?;
        match state {
            State::Plain => self.plain(text, snapshot),
            State::ClientFirst(mechanism) => self.challenge(mechanism, text, snapshot),
            State::ClientFinal(mechanism, challenged) => self.verdict(mechanism, &challenged, text, snapshot),
            State::Over => Err(bad("the SASL exchange is over")),
        }
    }

    fn plain(&mut self, text: &str, snapshot: &Snapshot) -> Result<SaslStep, Denied> {
        let message = PlainMessage::parse(text)?;
        message.app.clone_into(&mut self.app);
        let is_whole = !message.app.is_empty() && !message.secret.is_empty();
        if !is_whole || message.secret.len() > SECRET_BYTES_MAX || !is_itself(message.authzid, message.app) {
            return Err(Denied::NotAuthenticated);
        }
        let presented = SecretHash::of(message.secret.as_bytes());
        let (login, _) = prove(snapshot.app(message.app), |secret| secret.sha256.matches(&presented))?;
        Ok(SaslStep::Done { last: Vec::new(), login })
    }

    fn challenge(&mut self, mechanism: Mechanism, text: &str, snapshot: &Snapshot) -> Result<SaslStep, Denied> {
        let first = ClientFirst::parse(text)?;
        first.app.clone_into(&mut self.app);
        if !is_itself(&first.authzid, &first.app) {
            return Err(Denied::NotAuthenticated);
        }
        // Computed in any case, so that time does not tell either.
        let decoy = decoy_params(&self.decoy_key, &first.app);
        let params = snapshot.app(&first.app).map_or(decoy, |app| app.scram.clone());

        let nonce = format!("{}{}", first.nonce, self.server_nonce);
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&params.salt), params.iterations);
        let auth_message = format!("{},{server_first},", first.bare);
        let channel = STANDARD.encode(first.gs2_header);
        self.state = State::ClientFinal(
            mechanism,
            Challenged { channel, client_nonce: first.nonce.to_owned(), params, auth_message },
        );
        Ok(SaslStep::Challenge(server_first.into_bytes()))
    }

    fn verdict(
        &self,
        mechanism: Mechanism,
        challenged: &Challenged,
        text: &str,
        snapshot: &Snapshot,
    ) -> Result<SaslStep, Denied> {
        let last = ClientFinal::parse(text)?;
        // As Kafka compares: older librdkafka says its own part twice (seen of 2.0.2 and 2.3.0). Ours is what makes an exchange
        // one of its kind, and the proof covers all of it.
        let is_fresh = last.nonce.starts_with(&challenged.client_nonce) && last.nonce.ends_with(&self.server_nonce);
        if last.channel != challenged.channel || !is_fresh {
            return Err(Denied::NotAuthenticated);
        }
        let auth_message = format!("{}{}", challenged.auth_message, last.without_proof);
        let auth_message = auth_message.as_bytes();
        // One that is new, gone, or has another salt by now was not the one we asked.
        let app = snapshot.app(&self.app).filter(|app| app.scram == challenged.params);
        let is_right = |secret: &StoredSecret| secret.scram(mechanism).accepts(mechanism, auth_message, &last.proof);
        let (login, secret) = prove(app, is_right)?;
        let signature = secret.scram(mechanism).server_signature(mechanism, auth_message);
        Ok(SaslStep::Done { last: format!("v={}", STANDARD.encode(signature)).into_bytes(), login })
    }
}

impl fmt::Debug for SaslServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslServer").field("app", &echo(&self.app)).finish_non_exhaustive()
    }
}

/// The key of the salts that apps have which are not there: of the history of the tenants, so that all nodes of a fleet
/// say the same about an app, from one generation to the next and after a restart.
///
/// A history is a random number, but no secret: nodes register it and the manager shows it to whoever may look at the
/// platform. Who knows it can tell which app ids exist, and so can whoever compares salts from before and after the
/// database was restored. An id alone opens nothing. Of tenants without a history (it is zero) anybody can tell.
pub fn decoy_key(snapshot: &Snapshot) -> [u8; 32] {
    let hash = Sha256::new_with_prefix(b"gafka SCRAM decoy salts\0");
    hash.chain_update(snapshot.generation.history.to_string()).finalize().into()
}

/// What an app of this name would be challenged with. Ours are all made with the default iteration count.
fn decoy_params(decoy_key: &[u8; 32], app: &str) -> ScramParams {
    let mut mac = Hmac::<Sha256>::new_from_slice(decoy_key).expect("HMAC takes keys of any length");
    mac.update(app.as_bytes());
    let salt = mac.finalize().into_bytes()[..SCRAM_SALT_BYTES].to_vec();
    ScramParams { salt, iterations: SCRAM_ITERATIONS_DEFAULT }
}

/// Nobody acts for somebody else here: the identity asked for is the one that logs in, or none is named.
fn is_itself(authzid: &str, app: &str) -> bool {
    authzid.is_empty() || authzid == app
}

/// Which live secret is right, if any. Four are tried in any case: for those that are not there, and for an app that is
/// not there, it is one that nobody has.
fn prove(app: Option<&App>, is_right: impl Fn(&StoredSecret) -> bool) -> Result<(Login, &StoredSecret), Denied> {
    let nobodys = nobodys_secret();
    let mut proved = None;
    for (side, secret) in four_secrets(app) {
        let is_right = is_right(secret.unwrap_or(&nobodys));
        if is_right && proved.is_none() {
            proved = app.zip(secret).map(|(app, secret)| (app, side, secret));
        }
    }
    let (app, side, secret) = proved.ok_or(Denied::NotAuthenticated)?;
    enabled(app)?;
    Ok((Login::new(app, side, secret.sha256), secret))
}

/// Those of the side that wins first.
fn four_secrets(app: Option<&App>) -> [(Side, Option<&StoredSecret>); 4] {
    let [publish, subscribe] = [Side::Publish, Side::Subscribe].map(|side| app.map(|app| app.secrets(side)));
    [
        (Side::Publish, publish.map(|pair| &pair.current)),
        (Side::Publish, publish.and_then(|pair| pair.previous.as_ref())),
        (Side::Subscribe, subscribe.map(|pair| &pair.current)),
        (Side::Subscribe, subscribe.and_then(|pair| pair.previous.as_ref())),
    ]
}

/// Takes as long to compare with as any. Whether it fits does not matter.
fn nobodys_secret() -> StoredSecret {
    let verifier = |bytes: usize| ScramVerifier { stored_key: vec![0; bytes], server_key: vec![0; bytes] };
    StoredSecret { sha256: SecretHash::from_bytes([0; 32]), scram_256: verifier(32), scram_512: verifier(64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::{AppDoc, SnapshotDoc};
    use crate::secrets::{PlainSecret, SecretPair};
    use crate::{AppId, ClusterName, HistoryId};

    /// The app `user` with the secret `pencil` and the salt of the RFC's example.
    fn rfc_snapshot() -> Snapshot {
        let params = ScramParams { salt: STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), iterations: 4096 };
        let pair = |secret: &str| SecretPair {
            current: StoredSecret::derive(&PlainSecret::from_text(secret).unwrap(), &params),
            previous: None,
        };
        let app = AppDoc {
            index: 1,
            id: AppId::new("user").unwrap(),
            cluster: ClusterName::new("main").unwrap(),
            enabled: true,
            publish: pair("other"),
            subscribe: pair("pencil"),
            scram: params,
            limits: crate::quota::Limits::default(),
            addresses: crate::Addresses::default(),
            handoff: true,
        };
        Snapshot::build(SnapshotDoc { generation: 1, apps: vec![app], ..SnapshotDoc::default() }).unwrap()
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    /// RFC 7677 section 3.
    #[test]
    fn the_server_speaks_the_example_of_rfc_7677() {
        let snapshot = rfc_snapshot();
        let server = SaslServer::new(SaslMechanism::Scram(Mechanism::Sha256), [0; SCRAM_NONCE_RANDOM_BYTES], [0; 32]);
        let mut server = SaslServer { server_nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into(), ..server };

        let SaslStep::Challenge(challenge) = server.step(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", &snapshot) else {
            panic!("no challenge");
        };
        let expected = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(text(&challenge), expected);

        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let SaslStep::Done { last, login } = server.step(last, &snapshot) else { panic!("not logged in") };
        assert_eq!(text(&last), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!((login.app().as_str(), login.side()), ("user", Side::Subscribe));
    }

    #[test]
    fn a_decoy_depends_on_the_history_and_the_app_and_on_nothing_else() {
        let of = |history, generation| {
            let doc = SnapshotDoc { generation, history: HistoryId::new(history), ..SnapshotDoc::default() };
            decoy_key(&Snapshot::build(doc).unwrap())
        };
        assert_eq!(of(7, 1), of(7, 2));
        assert_ne!(of(7, 1), of(8, 1));
        let decoy = decoy_params(&of(7, 1), "nobody");
        assert_eq!(decoy, decoy_params(&of(7, 2), "nobody"));
        assert_ne!(decoy.salt, decoy_params(&of(7, 1), "nobody2").salt);
        assert_ne!(decoy.salt, decoy_params(&of(8, 1), "nobody").salt);
        assert_eq!((decoy.salt.len(), decoy.iterations), (SCRAM_SALT_BYTES, SCRAM_ITERATIONS_DEFAULT));
    }

    #[test]
    fn four_secrets_are_tried_whoever_asks() {
        let tries = |app: Option<&App>, right: &str| {
            let count = std::cell::Cell::new(0);
            let presented = SecretHash::of(right.as_bytes());
            let proved = prove(app, |secret| {
                count.set(count.get() + 1);
                secret.sha256.matches(&presented)
            });
            (count.get(), proved.is_ok())
        };
        let snapshot = rfc_snapshot();
        assert_eq!(tries(snapshot.app("user"), "other"), (4, true));
        assert_eq!(tries(snapshot.app("user"), "pencil"), (4, true));
        assert_eq!(tries(snapshot.app("user"), "wrong"), (4, false));
        assert_eq!(tries(None, "wrong"), (4, false));
    }

    #[test]
    fn a_secret_that_is_not_there_is_not_right_whatever_fits_it() {
        let snapshot = rfc_snapshot();
        let zeros = nobodys_secret();
        assert!(prove(snapshot.app("user"), |secret| *secret == zeros).is_err());
        assert!(prove(None, |_| true).is_err());
    }
}
