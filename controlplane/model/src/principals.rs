//! Who may do what at the manager. Every endpoint says beside its document what it takes ([`Auth`]); [`may`] is the only
//! place that says who has it.
//!
//! | Role | Sees | Changes |
//! |---|---|---|
//! | `admin` | everything | everything |
//! | `owner` | its apps | topics, secrets and grants of its apps |
//! | `reader` | its apps, or every app | nothing |
//! | `node` | what belongs to no app, nodes too | nothing |
//!
//! An app that presents its own `Pubkey` is a reader of itself: a secret that is on every machine which publishes must
//! not take topics away.
//!
//! What somebody may not see is refused like what they may not change, and like what does not exist: 403.

use crate::api_doc::Auth;
use crate::ids::AppId;

/// What an endpoint is about. Its app is that of the path, for a grant the owner of the topic, and for a list the apps
/// that the caller sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// No app's, and known to everybody: clusters, generations.
    Platform,
    /// How nodes are and where they listen: for nodes, and for whoever sees every app.
    Nodes,
    Apps,
    Secrets,
    Topics,
    Grants,
    Audit,
}

/// What a principal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Admin,
    Owner,
    Reader,
    Node,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Admin, Role::Owner, Role::Reader, Role::Node];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Owner => "owner",
            Role::Reader => "reader",
            Role::Node => "node",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// Whose rows somebody gets to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    /// Those of every app, and those of none.
    All,
    Apps(Vec<AppId>),
}

impl Visible {
    pub fn includes(&self, app: &str) -> bool {
        match self {
            Visible::All => true,
            Visible::Apps(apps) => apps.iter().any(|visible| visible.as_str() == app),
        }
    }
}

/// What a request is about, found before its endpoint is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About<'a> {
    /// This app, there or not.
    App(&'a str),
    /// No app: a list, or nothing that is an app's.
    NoApp,
    /// What only an admin may give, whatever the endpoint is.
    AdminsOnly,
}

/// Whether somebody of this role, who sees these apps, may do what takes `auth`.
pub fn may(role: Role, visible: &Visible, auth: Auth, about: About<'_>) -> bool {
    if role == Role::Admin {
        return true;
    }
    let sees = match about {
        About::App(app) => visible.includes(app),
        About::NoApp => true,
        About::AdminsOnly => false,
    };
    match auth {
        Auth::Read(Resource::Platform) | Auth::Key => sees,
        Auth::Read(Resource::Nodes) => role == Role::Node || *visible == Visible::All,
        Auth::Read(_) => sees && matches!(role, Role::Owner | Role::Reader),
        Auth::Write(_) => sees && role == Role::Owner && matches!(about, About::App(_)),
        Auth::Metrics => role == Role::Node || *visible == Visible::All,
        Auth::Admin => false,
        Auth::None | Auth::Publisher | Auth::Subscriber => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_but_an_admin_changes_what_is_no_apps_or_anothers() {
        let own = Visible::Apps(vec![AppId::new("shop").unwrap()]);
        let write = Auth::Write(Resource::Topics);
        for (role, visible, about, expected) in [
            (Role::Admin, &Visible::All, About::NoApp, true),
            (Role::Admin, &Visible::All, About::AdminsOnly, true),
            (Role::Owner, &own, About::App("shop"), true),
            (Role::Owner, &own, About::App("shop2"), false),
            (Role::Owner, &own, About::App(""), false),
            (Role::Owner, &own, About::NoApp, false),
            (Role::Owner, &own, About::AdminsOnly, false),
            (Role::Reader, &Visible::All, About::App("shop"), false),
            (Role::Node, &own, About::App("shop"), false),
        ] {
            assert_eq!(may(role, visible, write, about), expected, "{role:?} {about:?}");
        }
    }
}
