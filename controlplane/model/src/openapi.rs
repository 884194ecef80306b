//! OpenAPI 3.1 from the list of endpoints. Nothing is written by hand: if the document is wrong, the list is.
//!
//! The three listeners are one document; each operation names the server (port) that answers it. A path and method
//! that several listeners answer in the same way (`GET /alive`) is one operation with several servers.

use serde_json::{Map, Value, json};

use crate::api_doc::{Auth, ContentDoc, EndpointDoc, In, Kind, Listener, Method, ParamDoc, ResponseDoc};

/// The document for these endpoints. `version` is the product's.
pub fn document(endpoints: &[&EndpointDoc], version: &str) -> Value {
    let mut paths = Map::new();
    for doc in endpoints {
        let item = paths.entry(template(doc.path)).or_insert_with(|| json!({}));
        let method = doc.method.as_str().to_ascii_lowercase();
        let operations = item.as_object_mut().expect("a path item is an object");
        match operations.get_mut(&method) {
            Some(same) => same["servers"].as_array_mut().expect("made below").push(server(doc.listener)),
            None => drop(operations.insert(method, operation(doc))),
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "gafka",
            "version": version,
            "summary": "Publish to and subscribe from Kafka over HTTP",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": Listener::ALL.map(server),
        "paths": paths,
        "components": {
            "schemas": {"Error": error_schema()},
            "securitySchemes": security_schemes(),
        },
    })
}

/// `/v1/msgs/:topic` as OpenAPI writes it: `/v1/msgs/{topic}`.
fn template(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment.strip_prefix(':') {
        Some(name) => format!("{{{name}}}"),
        None => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

fn server(listener: Listener) -> Value {
    json!({"url": format!("http://localhost:{}", listener.port()), "description": listener.as_str()})
}

fn operation(doc: &EndpointDoc) -> Value {
    let mut op = Map::new();
    op.insert("operationId".into(), doc.operation.into());
    op.insert("tags".into(), json!([doc.tag]));
    op.insert("summary".into(), doc.summary.into());
    if !doc.details.is_empty() {
        op.insert("description".into(), doc.details.into());
    }
    op.insert("servers".into(), json!([server(doc.listener)]));
    op.insert("security".into(), security(doc.auth));
    if !doc.params.is_empty() {
        op.insert("parameters".into(), doc.params.iter().map(parameter).collect());
    }
    if !doc.request.is_empty() {
        op.insert("requestBody".into(), json!({"content": contents(doc.request)}));
    }
    op.insert("responses".into(), responses(doc));
    Value::Object(op)
}

fn parameter(param: &ParamDoc) -> Value {
    let place = match param.place {
        In::Path => "path",
        In::Query => "query",
        In::Header => "header",
    };
    let mut schema = schema(&param.kind);
    if let Some(default) = param.default {
        schema["default"] = typed_default(&param.kind, default);
    }
    json!({
        "name": param.name,
        "in": place,
        "required": param.required || param.place == In::Path,
        "description": param.what,
        "schema": schema,
    })
}

fn schema(kind: &Kind) -> Value {
    match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Integer { min, max } => json!({"type": "integer", "format": "int64", "minimum": min, "maximum": max}),
        Kind::Number { min } => json!({"type": "number", "minimum": min}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Word(words) => json!({"type": "string", "enum": words}),
        Kind::Pattern(pattern) => json!({"type": "string", "pattern": pattern}),
        Kind::Duration => json!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(ms|s|m|h)?$"}),
    }
}

/// A default has the type of its schema where its text reads as one, and stays text otherwise.
fn typed_default(kind: &Kind, text: &str) -> Value {
    match kind {
        Kind::Integer { .. } | Kind::Number { .. } | Kind::Bool => {
            serde_json::from_str(text).unwrap_or_else(|_| text.into())
        }
        Kind::Text | Kind::Word(_) | Kind::Pattern(_) | Kind::Duration => text.into(),
    }
}

fn contents(contents: &[ContentDoc]) -> Value {
    let media = contents.iter().map(|content| {
        let mut media = match content.media_type {
            "application/json" => json!({"schema": {"description": content.what}}),
            _ => json!({"schema": {"type": "string", "format": "binary", "description": content.what}}),
        };
        if let Some(example) = content.example {
            // A JSON example is shown as JSON; anything else as the text it is.
            media["example"] = match content.media_type {
                "application/json" => serde_json::from_str(example).unwrap_or_else(|_| example.into()),
                _ => example.into(),
            };
        }
        (content.media_type.to_owned(), media)
    });
    Value::Object(media.collect())
}

/// What was described, and what follows from its being HTTP, its method, and the endpoint asking for credentials.
fn responses(doc: &EndpointDoc) -> Value {
    const EVERYWHERE: [ResponseDoc; 2] = [
        ResponseDoc::bare(400, "a parameter is unknown, or a parameter, header or body is malformed"),
        ResponseDoc::bare(501, "`Upgrade: websocket`, or something else that is not supported yet"),
    ];
    const WITH_BODY: [ResponseDoc; 1] = [ResponseDoc::bare(411, "HTTP/1.0 without Content-Length")];
    const WITH_LOGIN: [ResponseDoc; 3] = [
        ResponseDoc::bare(401, "not authenticated")
            .and_headers(&[("WWW-Authenticate", "the way to authenticate that browsers know")]),
        ResponseDoc::bare(403, "not granted, or disabled"),
        ResponseDoc::bare(429, "too many failed logins from this address for this app id")
            .and_headers(&[("Retry-After", "seconds until the count starts afresh")]),
    ];
    let with_login: &[ResponseDoc] = match doc.auth {
        Auth::None => &[],
        Auth::Admin | Auth::Publisher | Auth::Subscriber => &WITH_LOGIN,
    };
    let with_body: &[ResponseDoc] = match doc.method {
        Method::Post | Method::Put => &WITH_BODY,
        Method::Get | Method::Delete => &[],
    };
    let implied = EVERYWHERE.iter().chain(with_body).chain(with_login);
    let said = |status: u16| doc.responses.iter().any(|r| r.status == status);
    let mut all: Vec<&ResponseDoc> = doc.responses.iter().collect();
    all.extend(implied.filter(|r| !said(r.status)));
    all.sort_by_key(|r| r.status);
    Value::Object(all.into_iter().map(|r| (r.status.to_string(), response(r))).collect())
}

fn response(doc: &ResponseDoc) -> Value {
    let mut response = json!({"description": doc.what});
    if !doc.headers.is_empty() {
        let headers = doc
            .headers
            .iter()
            .map(|(name, what)| ((*name).to_owned(), json!({"description": what, "schema": {"type": "string"}})));
        response["headers"] = Value::Object(headers.collect());
    }
    if !doc.content.is_empty() {
        response["content"] = contents(doc.content);
    } else if doc.status >= 400 {
        response["content"] = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}});
    }
    response
}

fn security(auth: Auth) -> Value {
    match auth {
        Auth::None => json!([]),
        Auth::Publisher | Auth::Admin => json!([{"appid": [], "pubkey": []}, {"basic": []}]),
        Auth::Subscriber => json!([{"appid": [], "subkey": []}, {"basic": []}]),
    }
}

fn security_schemes() -> Value {
    let header = |name: &str| json!({"type": "apiKey", "in": "header", "name": name});
    json!({
        "appid": header("Appid"),
        "pubkey": header("Pubkey"),
        "subkey": header("Subkey"),
        "basic": {"type": "http", "scheme": "basic", "description": "app id and secret"},
    })
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["errmsg", "code"],
        "properties": {
            "errmsg": {"type": "string", "description": "a sentence for people"},
            "code": {"type": "string", "pattern": "^[a-z0-9_]+$", "description": "stable, for programs"},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_doc::{Method, mistakes};

    const ALIVE: EndpointDoc = EndpointDoc {
        listener: Listener::Publish,
        method: Method::Get,
        path: "/alive",
        operation: "alive",
        tag: "health",
        summary: "Is the process up",
        details: "",
        auth: Auth::None,
        params: &[],
        request: &[],
        responses: &[ResponseDoc::bare(200, "yes")],
    };

    const PUT_TOPIC: EndpointDoc = EndpointDoc {
        listener: Listener::Manager,
        method: Method::Put,
        path: "/v1/topics/:appid/:topic",
        operation: "updateTopic",
        tag: "topics",
        summary: "Change a topic",
        details: "",
        auth: Auth::Admin,
        params: &[
            ParamDoc::path("appid", Kind::Text, "owner"),
            ParamDoc::path("topic", Kind::Text, "name"),
            ParamDoc::query("partitions", Kind::Integer { min: 1, max: 20 }, "how many").or("1"),
        ],
        request: &[],
        responses: &[ResponseDoc::bare(200, "changed"), ResponseDoc::bare(404, "no such topic")],
    };

    #[test]
    fn an_operation_says_where_who_and_what_can_come_back() {
        let doc = document(&[&ALIVE, &PUT_TOPIC], "1.2.3");
        let put = &doc["paths"]["/v1/topics/{appid}/{topic}"]["put"];
        assert_eq!(put["servers"][0]["url"], "http://localhost:9193");
        assert_eq!(put["parameters"][2]["schema"]["default"], 1);
        assert_eq!(put["parameters"][0]["required"], true);
        let statuses: Vec<&String> = put["responses"].as_object().unwrap().keys().collect();
        assert_eq!(statuses, ["200", "400", "401", "403", "404", "411", "429", "501"]);
        assert_eq!(
            put["responses"]["404"]["content"]["application/json"]["schema"]["$ref"],
            "#/components/schemas/Error"
        );
        let statuses: Vec<&String> = doc["paths"]["/alive"]["get"]["responses"].as_object().unwrap().keys().collect();
        assert_eq!(statuses, ["200", "400", "501"], "every route refuses unknown query names and WebSocket");
        assert_eq!(doc["info"]["version"], "1.2.3");
    }

    #[test]
    fn the_same_path_on_two_listeners_is_one_operation_with_two_servers() {
        let on_manager = EndpointDoc { listener: Listener::Manager, operation: "aliveManager", ..ALIVE };
        let doc = document(&[&ALIVE, &on_manager], "1");
        assert_eq!(doc["paths"]["/alive"]["get"]["servers"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn mistakes_in_a_list_are_all_reported() {
        assert_eq!(mistakes(&[&ALIVE, &PUT_TOPIC]), Vec::<String>::new());
        let wrong =
            EndpointDoc { path: "/v1/topics/:appid/:name", summary: "Change a topic.", responses: &[], ..PUT_TOPIC };
        let found = mistakes(&[&PUT_TOPIC, &wrong]).join("\n");
        for expected in [
            "path parameter name is not described",
            "topic is described as a path parameter but not in the path",
            "without a full stop",
            "no response is described",
            "operation updateTopic is the name of",
            "routed twice",
        ] {
            assert!(found.contains(expected), "{expected:?} is missing from:\n{found}");
        }
    }
}
