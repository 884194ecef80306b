//! Tokens as somebody would make them who has a key, or pretends to.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use authdb::AuthDb;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use manager::{Oidc, OidcConfig};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Head and claims, signed by whatever `sign` does.
pub fn jwt(head: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", base64url(head.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", base64url(&signature))
}

fn part(token: &str, at: usize) -> Value {
    let part = token.split('.').nth(at).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

pub fn head(token: &str) -> Value {
    part(token, 0)
}

pub fn claims(token: &str) -> Value {
    part(token, 1)
}

/// The key that the manager signs with.
pub async fn our_key(db: &dyn AuthDb) -> (String, Ed25519KeyPair) {
    let key = db.token_key().await.unwrap().expect("a token was given out");
    (key.kid, Ed25519KeyPair::from_seed_unchecked(&key.seed).unwrap())
}

/// As the manager would sign it.
pub async fn ours(db: &dyn AuthDb, claims: &Value) -> String {
    let (kid, pair) = our_key(db).await;
    jwt(&json!({"typ": "JWT", "alg": "EdDSA", "kid": kid}), claims, |m| pair.sign(m).as_ref().to_vec())
}

/// Another issuer, with a P-256 key in a file.
pub struct Issuer {
    pair: EcdsaKeyPair,
    kid: String,
    dir: tempfile::TempDir,
}

impl Issuer {
    pub const NAME: &'static str = "https://login.example";
    pub const AUDIENCE: &'static str = "gafka-prod";

    pub fn new() -> Issuer {
        let dir = tempfile::tempdir().unwrap();
        let mut issuer = Issuer { pair: Self::pair(), kid: "k1".to_owned(), dir };
        issuer.publish(issuer.jwk());
        issuer.kid = "k1".to_owned();
        issuer
    }

    fn pair() -> EcdsaKeyPair {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap()
    }

    /// Its public key.
    pub fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": self.kid, "x": x, "y": y})
    }

    pub fn public_bytes(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    /// Puts this key into the file, in place of those so far.
    pub fn publish(&self, jwk: Value) {
        let (file, new) = (self.dir.path().join("jwks.json"), self.dir.path().join("jwks.json.new"));
        fs::write(&new, json!({"keys": [jwk]}).to_string()).unwrap();
        fs::rename(new, file).unwrap();
    }

    /// Makes a new key, under a new name, and publishes it.
    pub fn rotate(&mut self) {
        (self.pair, self.kid) = (Self::pair(), format!("{}-next", self.kid));
        self.publish(self.jwk());
    }

    pub fn oidc(&self) -> Oidc {
        Oidc::new(OidcConfig {
            issuer: Self::NAME.to_owned(),
            audience: Self::AUDIENCE.to_owned(),
            jwks_file: self.dir.path().join("jwks.json"),
            role_claim: "gafka_role".to_owned(),
            apps_claim: "gafka_apps".to_owned(),
        })
        .unwrap()
    }

    pub fn head(&self) -> Value {
        json!({"typ": "JWT", "alg": "ES256", "kid": self.kid})
    }

    /// A token that is good for an hour, with these claims beside the usual or in their place.
    pub fn claims(more: &Value) -> Value {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({"iss": Self::NAME, "aud": Self::AUDIENCE, "iat": now_s, "exp": now_s + 3600});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    pub fn token(&self, more: &Value) -> String {
        jwt(&self.head(), &Self::claims(more), |message| self.sign(message))
    }
}
