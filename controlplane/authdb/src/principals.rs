//! Principals: who may call the manager beside the admin, in which role, and for which apps; and the key that signs their
//! tokens.
//!
//! A name is one caller's: no principal has the name of an app, of the admin, or of what the audit log calls others. No
//! snapshot shows any of this, so a change here makes no generation.

use std::fmt;

use model::ids::{AppId, PrincipalName};
use model::limits::PRINCIPAL_APPS_MAX;
use model::principals::{Role, Visible};
use model::secrets::SecretHash;
use serde_json::{Value, json};

use crate::AuthDbError;

/// Actors of the audit log that are no principals.
pub(crate) const RESERVED: [&str; 2] = ["system", "unknown"];

/// A principal to be made.
#[derive(Debug, Clone)]
pub struct NewPrincipal {
    pub name: PrincipalName,
    pub role: Role,
    /// What an owner owns, or a reader sees.
    pub apps: Vec<AppId>,
    /// A reader of all of them, those to come too.
    pub every_app: bool,
}

/// What to change; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct PrincipalUpdate {
    pub role: Option<Role>,
    pub apps: Option<Vec<AppId>>,
    pub every_app: Option<bool>,
    pub enabled: Option<bool>,
}

/// What may be shown of a principal at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub name: PrincipalName,
    pub role: Role,
    pub apps: Vec<AppId>,
    pub every_app: bool,
    pub enabled: bool,
    pub created_at_ms: i64,
    /// Since when its key is its key.
    pub key_at_ms: i64,
}

impl Principal {
    pub fn visible(&self) -> Visible {
        if self.role == Role::Admin || self.every_app { Visible::All } else { Visible::Apps(self.apps.clone()) }
    }
}

/// A principal with what proves that it is one.
#[derive(Debug, Clone)]
pub struct PrincipalLogin {
    pub principal: Principal,
    pub key: SecretHash,
    /// Another one after every change: a token holds for one stamp.
    pub stamp: String,
}

/// An app with what proves that it publishes.
#[derive(Debug, Clone)]
pub struct AppLogin {
    pub id: AppId,
    pub enabled: bool,
    pub keys: Vec<SecretHash>,
}

/// What signs tokens. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// Its name in the head of a token.
    pub kid: String,
    /// Of Ed25519.
    pub seed: [u8; 32],
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl PrincipalUpdate {
    /// What `before` comes to: role, apps, and whether every app. What a new role has no use for is taken away.
    pub(crate) fn of(self, before: &Principal) -> (Role, Vec<AppId>, bool) {
        let role = self.role.unwrap_or(before.role);
        let every_app = self.every_app.unwrap_or(role == Role::Reader && before.every_app && self.apps.is_none());
        let apps = match self.apps {
            Some(apps) => apps,
            None if matches!(role, Role::Owner | Role::Reader) && !every_app => before.apps.clone(),
            None => Vec::new(),
        };
        (role, apps, every_app)
    }
}

/// That a role has apps if it is to have any.
pub(crate) fn check(role: Role, apps: &[AppId], every_app: bool) -> Result<(), AuthDbError> {
    let why = match role {
        Role::Admin if every_app || !apps.is_empty() => "an admin sees every app, and needs none by name",
        Role::Node if every_app || !apps.is_empty() => "a node has nothing to do with apps",
        Role::Owner if every_app => "an owner owns apps by name; who changes every app is an admin",
        Role::Reader if every_app && !apps.is_empty() => "a reader sees every app or some by name, not both",
        _ if apps.len() > PRINCIPAL_APPS_MAX => {
            return Err(AuthDbError::TooMany { what: "apps of one principal", limit: PRINCIPAL_APPS_MAX });
        }
        _ => return Ok(()),
    };
    Err(AuthDbError::BadPrincipal { why })
}

/// For the audit log.
pub(crate) fn json(principal: &Principal) -> Value {
    json!({
        "role": principal.role.as_str(),
        "apps": principal.apps,
        "every_app": principal.every_app,
        "enabled": principal.enabled,
    })
}
