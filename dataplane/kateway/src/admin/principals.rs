//! `kateway admin principal`: who may call the manager beside the admin.

use super::call::{Call, Removed};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Debug, Clone, Subcommand)]
pub enum Principal {
    /// Make a principal; its key is shown once.
    Create {
        name: String,
        /// admin, owner, reader or node.
        #[arg(long)]
        role: String,
        #[command(flatten)]
        apps: Apps,
    },
    /// All principals.
    List,
    /// What a principal may do.
    Show { name: String },
    /// Change what it may do; its tokens are void from then on.
    Update {
        name: String,
        /// admin, owner, reader or node.
        #[arg(long)]
        role: Option<String>,
        #[command(flatten)]
        apps: Apps,
        /// May it log in.
        #[arg(long)]
        enabled: Option<bool>,
    },
    /// Remove it; its apps stay.
    Delete { name: String },
    /// Make a new key, shown once; the key so far and its tokens are void.
    Rotate { name: String },
    /// A token for whoever asks (the credentials in use), shown once; KATEWAY_ADMIN_TOKEN takes it.
    Token {
        /// Seconds that it is good for.
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        ttl: u32,
    },
    /// Make every token that was given out so far void.
    VoidTokens,
}

/// Which apps a principal is about.
#[derive(Debug, Clone, Args)]
pub struct Apps {
    /// An app that an owner owns, or a reader sees; repeatable, and all of them are named.
    #[arg(long = "app", value_name = "APPID", conflicts_with = "every_app")]
    apps: Vec<String>,
    /// A reader sees every app, those to come too.
    #[arg(long)]
    every_app: bool,
}

const PRINCIPAL: &[&str] = &["name", "role", "apps", "every_app", "enabled"];
const NEW_PRINCIPAL: &[&str] = &["name", "role", "apps", "every_app", "key"];

impl Principal {
    pub fn call(self) -> Call {
        match self {
            Principal::Create { name, role, apps } => {
                let body = json!({"name": name, "role": role, "apps": apps.apps, "every_app": apps.every_app});
                Call::new("POST", "/v1/principals", NEW_PRINCIPAL).body(body)
            }
            Principal::List => Call::new("GET", "/v1/principals", PRINCIPAL),
            Principal::Show { name } => Call::new("GET", format!("/v1/principals/{name}"), PRINCIPAL),
            Principal::Update { name, role, apps: Apps { apps, every_app }, enabled } => {
                let fields = [
                    ("role", role.map(Value::from)),
                    ("apps", (!apps.is_empty()).then(|| apps.clone().into())),
                    ("every_app", (every_app || !apps.is_empty()).then(|| every_app.into())),
                    ("enabled", enabled.map(Value::from)),
                ];
                let body = fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?)));
                Call::new("PUT", format!("/v1/principals/{name}"), PRINCIPAL).body(Value::Object(body.collect()))
            }
            Principal::Delete { name } => {
                let question = format!("remove principal {name}, its key and its tokens?");
                Call::remove(format!("/v1/principals/{name}"), Removed::new("principal", name)).asking(question)
            }
            Principal::Rotate { name } => Call::new("POST", format!("/v1/principals/{name}/key"), &["name", "key"])
                .asking(format!("make the key of principal {name} and its tokens invalid now?")),
            Principal::Token { ttl } => {
                Call::new("POST", "/v1/tokens", &["name", "expires_at", "token"]).with("ttl", Some(ttl))
            }
            Principal::VoidTokens => Call::new("DELETE", "/v1/tokens", &["ok"])
                .asking("make every token of everybody invalid now?".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_told_what_is_said_and_no_more() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(subcommand)]
            principal: Principal,
        }
        for (line, expected) in [
            (
                "create team --role owner --app shop --app bank",
                r#"POST /v1/principals {"apps":["shop","bank"],"every_app":false,"name":"team","role":"owner"}"#,
            ),
            (
                "create auditor --role reader --every-app",
                r#"POST /v1/principals {"apps":[],"every_app":true,"name":"auditor","role":"reader"}"#,
            ),
            ("update team --enabled false", r#"PUT /v1/principals/team {"enabled":false}"#),
            ("update team --app shop", r#"PUT /v1/principals/team {"apps":["shop"],"every_app":false}"#),
            ("update team --every-app", r#"PUT /v1/principals/team {"every_app":true}"#),
            ("update team --role reader", r#"PUT /v1/principals/team {"role":"reader"}"#),
            ("rotate team", "POST /v1/principals/team/key"),
            ("delete team", "DELETE /v1/principals/team"),
            ("token --ttl 60", "POST /v1/tokens?ttl=60"),
            ("void-tokens", "DELETE /v1/tokens"),
        ] {
            let words = ["principal"].into_iter().chain(line.split(' '));
            let call = <Line as clap::Parser>::try_parse_from(words).unwrap().principal.call();
            assert_eq!(call.shown(), expected);
        }
    }
}
