//! OpenAPI 3.1 from the list of endpoints. Nothing is written by hand: if the document is wrong, the list is.
//!
//! The three listeners are one document; each operation names the server (port) that answers it. A path and method
//! that several listeners answer in the same way (`GET /alive`) is one operation with several servers.

use serde_json::{Map, Value, json};

use crate::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, In, Kind, Listener, Method, ParamDoc, Resource, ResponseDoc, Schema,
};
use crate::requests;

/// The document for these endpoints. `version` is the product's. Listeners that answer the same path and method do it in the
/// same way, or under another path: OpenAPI has one operation for both ([`mistakes`](crate::api_doc::mistakes)).
pub fn document(endpoints: &[&EndpointDoc], version: &str) -> Value {
    let mut paths = Map::new();
    for doc in endpoints {
        let item = paths.entry(doc.template()).or_insert_with(|| json!({}));
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
            "schemas": {"Error": of_schema(&[], &Schema::ERROR, Way::Out)},
            "securitySchemes": security_schemes(),
        },
    })
}

fn server(listener: Listener) -> Value {
    json!({"url": format!("http://localhost:{}", listener.port()), "description": listener.as_str()})
}

pub(crate) fn operation(doc: &EndpointDoc) -> Value {
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
        op.insert("requestBody".into(), json!({"content": contents(doc.params, doc.request, Way::In)}));
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
    let mut schema = of_kind(&param.kind);
    if let Some(default) = param.default {
        schema["default"] = typed_default(&param.kind, default);
    }
    json!({
        "name": param.name,
        "in": place,
        "required": param.required || param.place == In::Path,
        "description": description(param),
        "schema": schema,
    })
}

/// What it is, and the limit that is not refused.
fn description(param: &ParamDoc) -> String {
    match param.kind {
        Kind::Capped { max, .. } => format!("{}; more than {max} counts as {max}", param.what),
        Kind::Duration { max_s } => format!("{}; more than {max_s}s counts as {max_s}s", param.what),
        Kind::UpTo { bytes } => format!("{}; at most {bytes} bytes", param.what),
        _ if param.for_admins => format!("{}; only a platform admin may say so", param.what),
        _ => param.what.to_owned(),
    }
}

fn of_kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::UpTo { bytes } => json!({"type": "string", "maxLength": bytes}),
        Kind::Integer { min, max } => json!({"type": "integer", "format": "int64", "minimum": min, "maximum": max}),
        Kind::Capped { min, .. } => json!({"type": "integer", "minimum": min}),
        Kind::Number { min, max } => json!({"type": "number", "minimum": min, "maximum": max}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Word(words) => json!({"type": "string", "enum": words}),
        Kind::Pattern(pattern) => json!({"type": "string", "pattern": pattern}),
        Kind::Duration { .. } => json!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h)?$"}),
    }
}

/// Whether a body comes to us or from us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// JSON Schema (2020-12, which OpenAPI 3.1 takes).
/// `params` are the endpoint's.
fn of_schema(params: &[ParamDoc], schema: &Schema, way: Way) -> Value {
    let of = |schema: &Schema| of_schema(params, schema, way);
    match schema {
        Schema::Bytes => json!({"type": "string", "format": "binary"}),
        // OpenAPI 3.1 has no word for it.
        Schema::Lines(each) => json!({"type": "string", "x-each-line": of(each)}),
        Schema::Any => json!({}),
        Schema::Null => json!({"type": "null"}),
        Schema::Always(number) => json!({"const": number}),
        Schema::Value(kind) => of_kind(kind),
        Schema::Map(each) => json!({"type": "object", "additionalProperties": of(each)}),
        Schema::Array(each) => json!({"type": "array", "items": of(each)}),
        Schema::Tuple(schemas) => {
            let (schemas, count) = (schemas.iter().map(of).collect::<Vec<_>>(), schemas.len());
            json!({"type": "array", "prefixItems": schemas, "items": false, "minItems": count})
        }
        Schema::AnyOf(schemas) => json!({"anyOf": schemas.iter().map(of).collect::<Vec<_>>()}),
        Schema::Parameters => {
            let query = params.iter().filter(|param| param.place == In::Query);
            let fields = query.map(|param| (param.name, of_kind(&param.kind), description(param), param.required));
            object(fields, way)
        }
        Schema::Object(_) | Schema::With(..) => {
            let fields = schema.fields().into_iter();
            object(
                fields.map(|FieldDoc { name, schema, required, what }| {
                    (*name, of(schema), (*what).to_owned(), *required)
                }),
                way,
            )
        }
    }
}

fn object(fields: impl Iterator<Item = (&'static str, Value, String, bool)>, way: Way) -> Value {
    let (mut properties, mut needed) = (Map::new(), Vec::new());
    for (name, mut schema, what, required) in fields {
        if !what.is_empty() {
            schema["description"] = what.into();
        }
        properties.insert(name.to_owned(), schema);
        if required {
            needed.push(name);
        }
    }
    let mut object = json!({"type": "object", "properties": properties, "required": needed});
    if way == Way::In {
        object["additionalProperties"] = false.into();
    }
    object
}

/// A default has the type of its schema where its text reads as one, and stays text otherwise.
fn typed_default(kind: &Kind, text: &str) -> Value {
    match kind {
        Kind::Bool => requests::flag(text).map_or_else(|| text.into(), Value::Bool),
        Kind::Integer { .. } | Kind::Capped { .. } | Kind::Number { .. } => {
            serde_json::from_str(text).unwrap_or_else(|_| text.into())
        }
        Kind::Text | Kind::UpTo { .. } | Kind::Word(_) | Kind::Pattern(_) | Kind::Duration { .. } => text.into(),
    }
}

fn contents(params: &[ParamDoc], contents: &[ContentDoc], way: Way) -> Value {
    let media = contents.iter().map(|content| {
        let mut media = json!({"schema": of_schema(params, &content.schema, way)});
        if !content.what.is_empty() {
            media["schema"]["description"] = content.what.into();
        }
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
    const WITH_CONTENT: [ResponseDoc; 2] = [
        ResponseDoc::bare(413, "the body is too large"),
        ResponseDoc::bare(415, "a Content-Type that is not spoken here"),
    ];
    const OF_TENANTS: [ResponseDoc; 1] = [ResponseDoc::bare(503, "the tenants' database does not answer now")
        .and_headers(&[("Retry-After", "seconds until it is worth trying again")])];
    const WITH_LOGIN: [ResponseDoc; 2] = [
        ResponseDoc::bare(401, "not authenticated")
            .and_headers(&[("WWW-Authenticate", "the way to authenticate that browsers know")]),
        ResponseDoc::bare(429, "too many failed logins from this address for this app id")
            .and_headers(&[("Retry-After", "seconds until the count starts afresh")]),
    ];
    let with_login: &[ResponseDoc] = if doc.auth == Auth::None { &[] } else { &WITH_LOGIN };
    let forbidden = ResponseDoc::bare(403, who_may(doc.auth));
    let with_login = with_login.iter().chain((doc.auth != Auth::None).then_some(&forbidden));
    let with_body: &[ResponseDoc] = match doc.method {
        Method::Post | Method::Put => &WITH_BODY,
        Method::Get | Method::Delete => &[],
    };
    let with_content: &[ResponseDoc] = if doc.request.is_empty() { &[] } else { &WITH_CONTENT };
    let of_tenants: &[ResponseDoc] = if doc.auth.is_managers() { &OF_TENANTS } else { &[] };
    let implied = EVERYWHERE.iter().chain(with_body).chain(with_content).chain(with_login).chain(of_tenants);
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
        response["content"] = contents(&[], doc.content, Way::Out);
    } else if doc.status >= 400 {
        response["content"] = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}});
    }
    response
}

fn security(auth: Auth) -> Value {
    match auth {
        Auth::None => json!([]),
        Auth::Publisher | Auth::Key => json!([{"appid": [], "pubkey": []}, {"basic": []}]),
        Auth::Admin | Auth::Read(_) | Auth::Write(_) => {
            json!([{"appid": [], "pubkey": []}, {"basic": []}, {"bearer": []}])
        }
        Auth::Metrics => json!([{}, {"appid": [], "pubkey": []}, {"basic": []}, {"bearer": []}]),
        Auth::Subscriber => json!([{"appid": [], "subkey": []}, {"basic": []}]),
    }
}

/// What a 403 says of an endpoint: whom it is for.
fn who_may(auth: Auth) -> &'static str {
    match auth {
        Auth::None | Auth::Publisher | Auth::Subscriber => "not granted, or disabled",
        Auth::Admin => "disabled, or no platform admin",
        Auth::Read(Resource::Platform) => "disabled",
        Auth::Read(Resource::Nodes) | Auth::Metrics => {
            "disabled, or neither a platform admin nor a reader of every app nor a node"
        }
        Auth::Read(_) => "disabled, or neither a platform admin nor an owner or reader of the app, there or not",
        Auth::Write(_) => "disabled, or neither a platform admin nor an owner of the app, there or not",
        Auth::Key => "disabled, or without a key of its own: a token, an app",
    }
}

fn security_schemes() -> Value {
    let header = |name: &str| json!({"type": "apiKey", "in": "header", "name": name});
    json!({
        "appid": header("Appid"),
        "pubkey": header("Pubkey"),
        "subkey": header("Subkey"),
        "basic": {"type": "http", "scheme": "basic", "description": "app id or principal, and secret"},
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "a token of POST /v1/tokens"},
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
            ParamDoc::query("wait", Kind::Duration { max_s: 30 }, "so long"),
            ParamDoc::query("force", Kind::Bool, "do it").or("0"),
        ],
        request: &[ContentDoc::json(Schema::Parameters, "the same", None)],
        responses: &[ResponseDoc::bare(200, "changed"), ResponseDoc::bare(404, "no such topic")],
    };

    #[test]
    fn an_operation_says_where_who_and_what_can_come_back() {
        let doc = document(&[&ALIVE, &PUT_TOPIC], "1.2.3");
        let put = &doc["paths"]["/v1/topics/{appid}/{topic}"]["put"];
        assert_eq!(put["servers"][0]["url"], "http://localhost:9193");
        assert_eq!(put["parameters"][2]["schema"]["default"], 1);
        assert_eq!(put["parameters"][3]["description"], "so long; more than 30s counts as 30s");
        assert_eq!(put["parameters"][4]["schema"], json!({"type": "boolean", "default": false}));
        let body = &put["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!((&body["type"], &body["additionalProperties"]), (&json!("object"), &json!(false)));
        assert_eq!(body["properties"]["partitions"]["maximum"], 20);
        assert_eq!(put["parameters"][0]["required"], true);
        let statuses: Vec<&String> = put["responses"].as_object().unwrap().keys().collect();
        assert_eq!(statuses, ["200", "400", "401", "403", "404", "411", "413", "415", "429", "501", "503"]);
        assert_eq!(
            put["responses"]["404"]["content"]["application/json"]["schema"]["$ref"],
            "#/components/schemas/Error"
        );
        let statuses: Vec<&String> = doc["paths"]["/alive"]["get"]["responses"].as_object().unwrap().keys().collect();
        assert_eq!(statuses, ["200", "400", "501"], "every route refuses unknown query names and WebSocket");
        assert_eq!(doc["info"]["version"], "1.2.3");
    }

    #[test]
    fn a_body_is_closed_on_its_way_in_and_open_on_its_way_out() {
        const POINT: Schema = Schema::Object(&[
            FieldDoc::must("x", Schema::Value(Kind::Integer { min: 0, max: 9 }), "how far"),
            FieldDoc::may("tags", Schema::Array(&Schema::AnyOf(&[Schema::TEXT, Schema::Null])), ""),
        ]);
        const CONTENT: ContentDoc = ContentDoc::json(POINT, "a point", Some(r#"{"x":1}"#));
        const POST: EndpointDoc = EndpointDoc {
            method: Method::Post,
            request: &[CONTENT],
            responses: &[ResponseDoc::with(200, "yes", &[CONTENT])],
            ..ALIVE
        };
        let op = &document(&[&POST], "1")["paths"]["/alive"]["post"];
        let mut expected = json!({
            "description": "a point",
            "type": "object",
            "required": ["x"],
            "properties": {
                "x": {"type": "integer", "format": "int64", "minimum": 0, "maximum": 9, "description": "how far"},
                "tags": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
            },
        });
        assert_eq!(op["responses"]["200"]["content"]["application/json"]["schema"], expected);
        expected["additionalProperties"] = false.into();
        assert_eq!(op["requestBody"]["content"]["application/json"]["schema"], expected);
        assert_eq!(op["requestBody"]["content"]["application/json"]["example"], json!({"x": 1}));
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
        const UNTYPED: EndpointDoc = EndpointDoc {
            operation: "untyped",
            path: "/untyped",
            request: &[ContentDoc { media_type: "application/json", what: "", schema: Schema::Bytes, example: None }],
            responses: &[ResponseDoc::with(200, "", &[ContentDoc::json(Schema::FLAG, "", Some("1"))])],
            ..ALIVE
        };
        const ELSEWHERE: EndpointDoc =
            EndpointDoc { listener: Listener::Subscribe, operation: "elsewhere", auth: Auth::Admin, ..UNTYPED };
        let found = mistakes(&[&PUT_TOPIC, &wrong, &UNTYPED, &ELSEWHERE]).join("\n");
        for expected in [
            "path parameter name is not described",
            "topic is described as a path parameter but not in the path",
            "without a full stop",
            "no response is described",
            "operation updateTopic is the name of",
            "routed twice",
            "GET /untyped (subscribe): publish answers that path otherwise",
            "a JSON body without a schema",
            "a JSON example is wrong: 1 is no true or false",
        ] {
            assert!(found.contains(expected), "{expected:?} is missing from:\n{found}");
        }
    }
}
