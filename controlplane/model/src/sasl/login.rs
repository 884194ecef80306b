//! Who logged in, kept by a connection that outlives the snapshot it was admitted under: every new one is asked again.

use std::net::IpAddr;

use crate::authenticate::{Side, enabled};
use crate::denied::Denied;
use crate::ids::AppId;
use crate::secrets::SecretHash;
use crate::snapshot::{App, Snapshot};

/// An app that proved who it is, and with which secret. `Debug` does not show the secret.
#[derive(Debug, Clone)]
pub struct Login {
    app: AppId,
    index: u32,
    side: Side,
    secret: SecretHash,
}

impl Login {
    pub(super) fn new(app: &App, side: Side, secret: SecretHash) -> Self {
        Self { app: app.id.clone(), index: app.index, side, secret }
    }

    pub fn app(&self) -> &AppId {
        &self.app
    }

    /// [`App::index`].
    pub fn app_index(&self) -> u32 {
        self.index
    }

    /// Whether it may publish or subscribe.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The app under this snapshot, or why it may not be used any more, or not from there.
    ///
    /// To be asked right after the login and at every snapshot since. An app of the same name that was made after this
    /// one was deleted is another one.
    pub fn check<'s>(&self, snapshot: &'s Snapshot, address: IpAddr) -> Result<&'s App, Denied> {
        let app = snapshot.app(self.app.as_str()).filter(|app| app.index == self.index);
        let app = app.ok_or(Denied::NotAuthenticated)?;
        if !app.secrets(self.side).verify(&self.secret) {
            return Err(Denied::NotAuthenticated);
        }
        enabled(app)?;
        if !app.addresses.allow(address) {
            return Err(Denied::AddressNotAllowed { app: app.id.to_string(), address: address.to_canonical() });
        }
        Ok(app)
    }

    /// May a session that began as `before` go on as this (KIP-368)? Only as the same app on the same side; its secret may
    /// be another one.
    pub fn may_follow(&self, before: &Login) -> bool {
        (&self.app, self.index, self.side) == (&before.app, before.index, before.side)
    }
}
