//! How an endpoint describes itself. Routers keep one list of these, and OpenAPI, `--help` texts and tests are made
//! from that list: an endpoint that is not described is not routed.

pub use crate::api_schema::{FieldDoc, Schema};
use crate::openapi;
pub use crate::principals::Resource;

/// A request method we route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    Get,
    Put,
    Post,
    Delete,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

/// Which of the three ports answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listener {
    Publish,
    Subscribe,
    Manager,
}

impl Listener {
    pub const ALL: [Listener; 3] = [Listener::Publish, Listener::Subscribe, Listener::Manager];

    pub fn as_str(self) -> &'static str {
        match self {
            Listener::Publish => "publish",
            Listener::Subscribe => "subscribe",
            Listener::Manager => "manager",
        }
    }

    /// Where it listens by default.
    pub fn port(self) -> u16 {
        match self {
            Listener::Publish => 9191,
            Listener::Subscribe => 9192,
            Listener::Manager => 9193,
        }
    }
}

/// Whose credentials are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Auth {
    /// Anybody who can reach the listener.
    None,
    /// `Appid` and `Pubkey`, or Basic.
    Publisher,
    /// `Appid` and `Subkey`, or Basic.
    Subscriber,
    /// At the manager, a platform admin.
    Admin,
    /// At the manager, whoever may see it.
    Read(Resource),
    /// At the manager, whoever may change it.
    Write(Resource),
    /// At the manager, a principal that shows its key: tokens do not do.
    Key,
    /// At the manager, anybody on loopback, and elsewhere who sees every app, or a node.
    Metrics,
}

impl Auth {
    /// Is it one of the manager's, who tells callers apart by their roles?
    pub fn is_managers(self) -> bool {
        !matches!(self, Auth::None | Auth::Publisher | Auth::Subscriber)
    }
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum In {
    Path,
    Query,
    Header,
}

/// What a parameter's text must look like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Text,
    /// Text of so many bytes at most.
    UpTo {
        bytes: usize,
    },
    Integer {
        min: i64,
        max: i64,
    },
    /// More than `max` is taken and counts as `max`.
    Capped {
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    Bool,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Text matching this regular expression.
    Pattern(&'static str),
    /// `30s`, `500ms`, `2m`, or a number of seconds; more than `max_s` seconds is taken and counts as that.
    Duration {
        max_s: u64,
    },
}

/// App ids, topics, groups and clusters, as [`crate::ids`] checks them.
pub const NAME: Kind = Kind::Pattern("^[A-Za-z0-9_-]{1,64}$");
/// Topic versions, likewise.
pub const VERSION: Kind = Kind::Pattern("^v[0-9]{1,9}$");
/// Kafka's topic names, likewise.
pub const PHYSICAL: Kind = Kind::Pattern("^[A-Za-z0-9._-]{1,249}$");

/// One parameter. Path parameters are always required.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParamDoc {
    pub place: In,
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    /// The value in force when it is not given, as text.
    pub default: Option<&'static str>,
    /// Whoever may call the endpoint may not give it, only a platform admin may.
    pub for_admins: bool,
    pub what: &'static str,
}

impl ParamDoc {
    /// An optional query parameter. Add the rest with struct update or [`ParamDoc::or`].
    pub const fn query(name: &'static str, kind: Kind, what: &'static str) -> Self {
        Self { place: In::Query, name, kind, required: false, default: None, for_admins: false, what }
    }

    pub const fn header(name: &'static str, kind: Kind, what: &'static str) -> Self {
        Self { place: In::Header, name, kind, required: false, default: None, for_admins: false, what }
    }

    pub const fn path(name: &'static str, kind: Kind, what: &'static str) -> Self {
        Self { place: In::Path, name, kind, required: true, default: None, for_admins: false, what }
    }

    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Only a platform admin may give it.
    pub const fn for_admins(mut self) -> Self {
        self.for_admins = true;
        self
    }

    /// With this default.
    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }
}

/// A body, one way it can be written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ContentDoc {
    pub media_type: &'static str,
    pub what: &'static str,
    pub schema: Schema,
    /// For people; JSON examples must parse (a test of the generator checks them).
    pub example: Option<&'static str>,
}

impl ContentDoc {
    /// A JSON body.
    pub const fn json(schema: Schema, what: &'static str, example: Option<&'static str>) -> Self {
        Self { media_type: "application/json", what, schema, example }
    }

    /// A body that is not JSON.
    pub const fn bytes(media_type: &'static str, what: &'static str) -> Self {
        Self { media_type, what, schema: Schema::Bytes, example: None }
    }
}

/// One answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResponseDoc {
    pub status: u16,
    pub what: &'static str,
    /// Headers that only this answer has, with their meaning.
    pub headers: &'static [(&'static str, &'static str)],
    /// Empty: no body, or the error body for statuses from 400 up.
    pub content: &'static [ContentDoc],
}

impl ResponseDoc {
    /// No body of its own (errors get the error body).
    pub const fn bare(status: u16, what: &'static str) -> Self {
        Self { status, what, headers: &[], content: &[] }
    }

    pub const fn with(status: u16, what: &'static str, content: &'static [ContentDoc]) -> Self {
        Self { status, what, headers: &[], content }
    }

    pub const fn and_headers(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }
}

/// One endpoint: a method on a path of a listener.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EndpointDoc {
    pub listener: Listener,
    pub method: Method,
    /// With parameters as `:name`, e.g. `/v1/msgs/:topic/:ver`.
    pub path: &'static str,
    /// Unique over all listeners, lower camel case: `publishMessage`.
    pub operation: &'static str,
    pub tag: &'static str,
    /// One sentence without a full stop.
    pub summary: &'static str,
    /// More, in CommonMark. May be empty.
    pub details: &'static str,
    pub auth: Auth,
    pub params: &'static [ParamDoc],
    /// Ways to write the request's body; empty: it has none.
    pub request: &'static [ContentDoc],
    /// Beyond 401, 403, 405 and 429, which follow from `auth` and are added by the generator.
    pub responses: &'static [ResponseDoc],
}

impl EndpointDoc {
    /// Names of the path's parameters, in order.
    pub fn path_params(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|segment| segment.strip_prefix(':'))
    }

    /// `/v1/msgs/:topic` as OpenAPI, and others, write it: `/v1/msgs/{topic}`.
    pub fn template(&self) -> String {
        let segments = self.path.split('/').map(|segment| match segment.strip_prefix(':') {
            Some(name) => format!("{{{name}}}"),
            None => segment.to_owned(),
        });
        segments.collect::<Vec<_>>().join("/")
    }

    /// Names of its query parameters, in order.
    pub fn query_params(&self) -> impl Iterator<Item = &'static str> {
        self.params.iter().filter(|param| param.place == In::Query).map(|param| param.name)
    }
}

/// What is wrong with a list of endpoints: every mistake, as a sentence. Routers' tests expect none.
pub fn mistakes(endpoints: &[&EndpointDoc]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, doc) in endpoints.iter().enumerate() {
        let name = format!("{} {} ({})", doc.method.as_str(), doc.path, doc.listener.as_str());
        for param in doc.path_params() {
            if !doc.params.iter().any(|p| p.place == In::Path && p.name == param) {
                found.push(format!("{name}: path parameter {param} is not described"));
            }
        }
        for (i, param) in doc.params.iter().enumerate() {
            if param.place == In::Path && !doc.path_params().any(|p| p == param.name) {
                found.push(format!("{name}: {} is described as a path parameter but not in the path", param.name));
            }
            if doc.params[..i].iter().any(|p| (p.place, p.name) == (param.place, param.name)) {
                found.push(format!("{name}: parameter {} is described twice", param.name));
            }
        }
        if doc.summary.is_empty() || doc.summary.ends_with('.') {
            found.push(format!("{name}: the summary is one sentence without a full stop"));
        }
        let has_app = doc.path_params().any(|param| param == "appid");
        match doc.auth {
            Auth::Write(Resource::Grants) => {}
            Auth::Write(_) if !has_app && !doc.query_params().any(|param| param == "appid") => {
                found.push(format!("{name}: whose it is cannot be told, so nobody but an admin may change it"));
            }
            Auth::Read(Resource::Platform | Resource::Nodes) | Auth::Key if has_app => {
                found.push(format!("{name}: names an app and asks for no right to it"));
            }
            _ => {}
        }
        if doc.responses.is_empty() {
            found.push(format!("{name}: no response is described"));
        }
        for (i, response) in doc.responses.iter().enumerate() {
            if doc.responses[..i].iter().any(|r| r.status == response.status) {
                found.push(format!("{name}: response {} is described twice", response.status));
            }
        }
        let contents = doc.request.iter().chain(doc.responses.iter().flat_map(|r| r.content));
        for content in contents {
            found.extend(content_mistake(content).map(|mistake| format!("{name}: {mistake}")));
        }
        for other in &endpoints[..at] {
            if other.operation == doc.operation {
                found.push(format!("{name}: operation {} is the name of {} too", doc.operation, other.path));
            }
            let is_same_path = other.method == doc.method && shape(other.path) == shape(doc.path);
            if is_same_path && other.listener == doc.listener {
                found.push(format!("{name}: routed twice"));
            }
            if is_same_path && other.listener != doc.listener && !answers_alike(other, doc) {
                found.push(format!("{name}: {} answers that path otherwise", other.listener.as_str()));
            }
        }
    }
    found
}

/// They ask the same of a client, and have the same statuses for it.
fn answers_alike(one: &EndpointDoc, other: &EndpointDoc) -> bool {
    let facts = |doc: &EndpointDoc| {
        let operation = openapi::operation(doc);
        let statuses =
            operation["responses"].as_object().map(|responses| responses.keys().cloned().collect::<Vec<_>>());
        (["security", "parameters", "requestBody"].map(|fact| operation[fact].clone()), statuses)
    };
    facts(one) == facts(other)
}

fn content_mistake(content: &ContentDoc) -> Option<String> {
    let is_json = content.media_type == "application/json";
    let (schema, lines): (&Schema, Vec<&str>) = match (is_json, &content.schema) {
        (true, Schema::Bytes | Schema::Lines(_)) => return Some("a JSON body without a schema".to_owned()),
        (true, schema) => (schema, content.example.into_iter().collect()),
        (false, Schema::Lines(each)) => (each, content.example.unwrap_or_default().lines().collect()),
        (false, Schema::Bytes) => return None,
        (false, _) => return Some(format!("a body of {} with a schema of JSON", content.media_type)),
    };
    lines.into_iter().find_map(|text| {
        let value = serde_json::from_str(text).map_err(|_| "it does not parse".to_owned());
        let why = value.and_then(|value| schema.accepts(&value)).err()?;
        Some(format!("a JSON example is wrong: {why}"))
    })
}

/// The path with its parameters' names taken out.
fn shape(path: &str) -> Vec<&str> {
    path.split('/').map(|s| if s.starts_with(':') { ":" } else { s }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{KAFKA_TOPIC_BYTES_MAX, NAME_BYTES_MAX, VERSION_BYTES_MAX};

    #[test]
    fn patterns_of_names_have_the_limits_that_are_checked() {
        assert_eq!(NAME, Kind::Pattern(&*format!("^[A-Za-z0-9_-]{{1,{NAME_BYTES_MAX}}}$").leak()));
        assert_eq!(VERSION, Kind::Pattern(&*format!("^v[0-9]{{1,{}}}$", VERSION_BYTES_MAX - 1).leak()));
        assert_eq!(PHYSICAL, Kind::Pattern(&*format!("^[A-Za-z0-9._-]{{1,{KAFKA_TOPIC_BYTES_MAX}}}$").leak()));
    }
}
