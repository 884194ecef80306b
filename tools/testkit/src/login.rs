//! Where a client begins, and as whom: an app and its two secrets, told to every client of the kit in the same way.
//!
//! A client produces with the app's Pubkey and does everything else with its Subkey, as tenants of kproxy do. It is told by
//! an environment variable, so that no secret stands in the list of processes.

use std::process::Command;

use serde_json::json;

/// `{"user":"shop","publish":"…","subscribe":"…","mechanism":"PLAIN"}`; not set: no login.
pub const VARIABLE: &str = "KAFKA_LOGIN";

/// Mechanisms, for whoever spreads them over its clients.
pub const PLAIN: &str = "PLAIN";
pub const SCRAM_256: &str = "SCRAM-SHA-256";
pub const SCRAM_512: &str = "SCRAM-SHA-512";

/// How a client says who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    /// The password of whoever produces.
    pub publish: String,
    /// The password of everybody else.
    pub subscribe: String,
    pub mechanism: &'static str,
}

/// A bootstrap address, and a login where there is one.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    pub bootstrap: &'a str,
    pub login: Option<&'a Login>,
}

impl Login {
    pub fn at<'a>(&'a self, bootstrap: &'a str) -> At<'a> {
        At { bootstrap, login: Some(self) }
    }

    fn to_json(&self) -> String {
        let Self { user, publish, subscribe, mechanism } = self;
        json!({"user": user, "publish": publish, "subscribe": subscribe, "mechanism": mechanism}).to_string()
    }
}

impl At<'_> {
    /// Tells a client of ours how to log in.
    pub fn tell(&self, command: &mut Command) {
        match self.login {
            Some(login) => command.env(VARIABLE, login.to_json()),
            None => command.env_remove(VARIABLE),
        };
    }
}

impl<'a> From<&'a str> for At<'a> {
    fn from(bootstrap: &'a str) -> Self {
        Self { bootstrap, login: None }
    }
}

impl<'a> From<&'a String> for At<'a> {
    fn from(bootstrap: &'a String) -> Self {
        Self { bootstrap, login: None }
    }
}
