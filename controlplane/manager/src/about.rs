//! Which app a request is about, found from its endpoint's document before the endpoint is asked, for callers who may not
//! do everything:
//!
//! - the app of the path, where it has `:appid`;
//! - for a grant, the owner of the topic: who is granted decides nothing, and raw grants are an admin's;
//! - for a list, the app that `appid` in its query asks for, or none.
//!
//! A parameter that is for admins makes the request one, in the query as in a body.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::Uri;
use axum::http::request::Parts;
use model::api_doc::{Auth, EndpointDoc, In, Resource};
use model::doc::GrantDoc;
use model::principals::About;
use serde_json::{Map, Value};

use crate::endpoints::create_grant::Grant;
use crate::error::ApiError;
use crate::input::{Given, decode, parse_json, read_bytes};

/// As [`About`], with a name of its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    App(String),
    NoApp,
    AdminsOnly,
}

impl Found {
    pub(crate) fn as_about(&self) -> About<'_> {
        match self {
            Found::App(app) => About::App(app),
            Found::NoApp => About::NoApp,
            Found::AdminsOnly => About::AdminsOnly,
        }
    }
}

/// What the request is about, and the request as it was.
pub(crate) async fn find(doc: &EndpointDoc, request: Request) -> Result<(Found, Request), ApiError> {
    let (mut parts, body) = request.into_parts();
    let names_app = doc.path_params().any(|param| param == "appid");
    let for_admins: Vec<&str> = doc.params.iter().filter(|param| param.for_admins).map(|param| param.name).collect();
    // Nobody's body is read who is refused without it.
    if for_admins.is_empty() && doc.auth != Auth::Write(Resource::Grants) {
        let found = if names_app { of_path(&mut parts).await? } else { of_query(doc, &parts.uri)? };
        return Ok((found, Request::from_parts(parts, body)));
    }
    let bytes = read_bytes(&parts.headers, body).await?;
    let found = if says_one_of(&for_admins, &parts.uri, &bytes)? {
        Found::AdminsOnly
    } else if names_app {
        of_path(&mut parts).await?
    } else {
        of_grant(Request::from_parts(parts.clone(), Body::from(bytes.clone()))).await?
    };
    Ok((found, Request::from_parts(parts, Body::from(bytes))))
}

async fn of_path(parts: &mut Parts) -> Result<Found, ApiError> {
    let params = RawPathParams::from_request_parts(parts, &()).await;
    let params = params.map_err(|_| ApiError::bad_request("bad_path", "the path cannot be decoded"))?;
    let app = params.iter().find(|(name, _)| *name == "appid").map(|(_, value)| value.to_owned());
    Ok(app.map_or(Found::AdminsOnly, Found::App))
}

fn of_query(doc: &EndpointDoc, uri: &Uri) -> Result<Found, ApiError> {
    if !doc.params.iter().any(|param| param.place == In::Query && param.name == "appid") {
        return Ok(Found::NoApp);
    }
    // Given twice it is refused by whoever reads it.
    let app = pairs(uri)?.into_iter().find(|(name, _)| name == "appid").map(|(_, value)| value);
    Ok(app.map_or(Found::NoApp, Found::App))
}

/// Read as the endpoint reads it, so that both mean the same.
async fn of_grant(request: Request) -> Result<Found, ApiError> {
    let Given(grant) = Given::<Grant>::from_request(request, &()).await?;
    Ok(match grant.parse()? {
        GrantDoc::Subscribe { owner, .. } => Found::App(owner.into()),
        GrantDoc::RawPublish { .. } => Found::AdminsOnly,
    })
}

fn says_one_of(names: &[&str], uri: &Uri, body: &Bytes) -> Result<bool, ApiError> {
    if names.is_empty() {
        return Ok(false);
    }
    let in_query = pairs(uri)?.iter().any(|(name, _)| names.contains(&name.as_str()));
    let in_body = match body.is_empty() {
        true => false,
        false => {
            let fields: Map<String, Value> = parse_json(body)?;
            fields.keys().any(|name| names.contains(&name.as_str()))
        }
    };
    Ok(in_query || in_body)
}

fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
    decode(uri.query().unwrap_or_default())
}
