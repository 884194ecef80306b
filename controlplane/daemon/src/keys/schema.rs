//! `config-reference --schema`: the same keys as a JSON Schema, which editors use to complete and check the file.

use serde_json::{Map, Value as Json, json};

use super::reference::help;
use super::{Declare, Declared, Kind};
use crate::Daemon;

/// JSON Schema 2020-12 of the file.
pub fn schema<D: Daemon>() -> String {
    let declared = Declare::of::<D>();
    let prefix = crate::variable_prefix::<D>();
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("{} configuration", D::NAME),
        "type": "object",
        "additionalProperties": false,
        "properties": {},
    });
    for tables in &declared.tables {
        let node = walk(&mut root, &tables.path);
        node["description"] = json!(tables.help);
    }
    for key in &declared.keys {
        let (parent, name) = key.path.rsplit_once('.').unwrap_or(("", &key.path));
        let node = walk(&mut root, parent);
        node["properties"][name] = property(key, &prefix);
    }
    serde_json::to_string_pretty(&root).expect("a document of strings") + "\n"
}

/// The object at the path, made on the way.
fn walk<'a>(root: &'a mut Json, path: &str) -> &'a mut Json {
    let table = || json!({"type": "object", "additionalProperties": false, "properties": {}});
    let mut node = root;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let slot = match part {
            "*" => &mut node["additionalProperties"],
            part => &mut node["properties"][part],
        };
        if !slot.is_object() {
            *slot = table();
        }
        node = slot;
    }
    node
}

fn property(key: &Declared, prefix: &str) -> Json {
    let mut property = kind(key.kind);
    property.insert("description".to_owned(), json!(help(key)));
    if let (Some(Json::Array(words)), true) = (property.get_mut("enum"), key.default.is_empty()) {
        words.push(json!(""));
    }
    if !key.default.is_empty() {
        property.insert("default".to_owned(), default(key));
    }
    if key.is_flag() {
        property.insert("x-flag".to_owned(), json!(format!("--{}", key.flag())));
    }
    if key.is_variable() {
        property.insert("x-variable".to_owned(), json!(key.variable(prefix)));
    }
    property.insert("x-live".to_owned(), json!(key.is_live));
    property.insert("x-required".to_owned(), json!(key.required.is_some()));
    Json::Object(property)
}

fn kind(kind: Kind) -> Map<String, Json> {
    let schema = match kind {
        Kind::Address | Kind::HostPort => {
            json!({"type": "string", "pattern": r"^([0-9A-Za-z._-]+|\[[0-9a-fA-F:.]+\]):\d+$"})
        }
        Kind::Duration => json!({"type": ["string", "integer"], "pattern": r"^\d+(ms|s|m|h|d)?$", "minimum": 0}),
        Kind::Size => {
            json!({"type": ["string", "integer"], "pattern": r"^\d+ *(B|[kK]B|MB|GB|KiB|MiB|GiB)?$", "minimum": 0})
        }
        Kind::Count => json!({"type": ["integer", "string"], "pattern": r"^\d+$", "minimum": 0}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Path | Kind::Text | Kind::Secret => json!({"type": "string"}),
        Kind::Word(words) => json!({"type": "string", "enum": words}),
        Kind::List(item) => json!({"type": "array", "items": Json::Object(self::kind(*item))}),
    };
    let Json::Object(schema) = schema else { unreachable!("each is an object") };
    schema
}

fn default(key: &Declared) -> Json {
    match key.kind {
        Kind::Bool => json!(key.default == "true"),
        Kind::Count => key.default.parse::<u64>().map_or(json!(key.default), |number| json!(number)),
        Kind::List(_) => json!(key.default.split(',').map(str::trim).collect::<Vec<_>>()),
        _ => json!(key.default),
    }
}
