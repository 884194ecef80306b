//! What bodies look like, in constants beside the handlers that read and write them. OpenAPI shows it as JSON Schema, and
//! the tests hold examples and answers against it.
//!
//! ```
//! use model::api_doc::{FieldDoc, Kind, Schema};
//!
//! const APP: Schema = Schema::Object(&[
//!     FieldDoc::must("appid", Schema::Value(Kind::Pattern("^[a-z]+$")), "its name"),
//!     FieldDoc::may("enabled", Schema::FLAG, "may it be used"),
//! ]);
//! assert_eq!(APP.accepts(&serde_json::json!({"appid": "shop"})), Ok(()));
//! assert_eq!(APP.accepts(&serde_json::json!({"appid": 7})), Err("appid: 7 is no text".to_owned()));
//! ```

use serde_json::Value;

use crate::api_doc::Kind;

/// What one JSON value looks like; or that there is none, or many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schema {
    /// No JSON: any bytes.
    Bytes,
    /// A JSON value on each line.
    Lines(&'static Schema),
    /// An object of the endpoint's query parameters, all of them optional.
    Parameters,
    /// Any JSON.
    Any,
    Null,
    /// Always this number.
    Always(i64),
    /// As a parameter's, but of JSON's own types: a number is a number.
    Value(Kind),
    /// A request has no fields but these; an answer may come to have more.
    Object(&'static [FieldDoc]),
    /// The object, with more fields.
    With(&'static Schema, &'static [FieldDoc]),
    /// An object of any names.
    Map(&'static Schema),
    Array(&'static Schema),
    /// An array of so many values, one of each.
    Tuple(&'static [Schema]),
    /// What one of these accepts.
    AnyOf(&'static [Schema]),
}

/// One field of an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FieldDoc {
    pub name: &'static str,
    pub schema: Schema,
    pub required: bool,
    pub what: &'static str,
}

impl FieldDoc {
    /// A field that is always there.
    pub const fn must(name: &'static str, schema: Schema, what: &'static str) -> Self {
        Self { name, schema, required: true, what }
    }

    /// A field that may be left out.
    pub const fn may(name: &'static str, schema: Schema, what: &'static str) -> Self {
        Self { name, schema, required: false, what }
    }
}

impl Schema {
    pub const TEXT: Schema = Schema::Value(Kind::Text);
    pub const FLAG: Schema = Schema::Value(Kind::Bool);
    /// A number of things, from 0.
    pub const COUNT: Schema = Schema::Value(Kind::Integer { min: 0, max: i64::MAX });
    /// A number of a partition.
    pub const PARTITION: Schema = Schema::Value(Kind::Integer { min: 0, max: i32::MAX as i64 });
    /// An offset, or -1 where none is known.
    pub const OFFSET: Schema = Schema::Value(Kind::Integer { min: -1, max: i64::MAX });

    /// The body of every refusal.
    pub const ERROR: Schema = Schema::Object(&[
        FieldDoc::must("errmsg", Schema::TEXT, "a sentence for people"),
        FieldDoc::must("code", Schema::Value(Kind::Pattern("^[a-z0-9_]+$")), "stable, for programs"),
    ]);

    /// What `/readyz` says on every listener.
    pub const READINESS: Schema = Schema::Object(&[
        FieldDoc::must("ready", Schema::FLAG, ""),
        FieldDoc::may("draining", Schema::FLAG, "is it on its way to its end"),
        FieldDoc::may("generation", Schema::COUNT, "of the tenants it works with"),
        FieldDoc::may("clusters", Schema::Map(&CLUSTER_HEALTH), "by name"),
        FieldDoc::may("handoff", HANDOFF_HEALTH, "messages that wait for Kafka here, where there are any"),
        FieldDoc::may("jobs", JOBS_HEALTH, "delayed jobs that wait here, where there are any, or were lost"),
        FieldDoc::may("tenants", TENANTS_HEALTH, "how the node stands to the tenants' database; the manager's only"),
    ]);
    /// And when it says no.
    pub const UNREADINESS: Schema = Schema::With(
        &Schema::READINESS,
        &[FieldDoc::must("errmsg", Schema::TEXT, "why not"), FieldDoc::must("code", Schema::TEXT, "`not_ready`")],
    );

    /// Fields of an object.
    pub fn fields(&self) -> Vec<&'static FieldDoc> {
        match self {
            Schema::Object(fields) => fields.iter().collect(),
            Schema::With(base, more) => base.fields().into_iter().chain(*more).collect(),
            _ => Vec::new(),
        }
    }

    /// Says what is wrong with a value, and where. Patterns are not looked at.
    pub fn accepts(&self, value: &Value) -> Result<(), String> {
        let check = |fits: bool, what: &str| if fits { Ok(()) } else { Err(format!("{value} is no {what}")) };
        match self {
            Schema::Bytes | Schema::Lines(_) => Err("no JSON was expected".to_owned()),
            Schema::Any => Ok(()),
            Schema::Null => check(value.is_null(), "null"),
            Schema::Always(number) => check(value.as_i64() == Some(*number), &number.to_string()),
            Schema::Value(kind) => kind_accepts(kind, value),
            Schema::Parameters => check(value.is_object(), "object"),
            Schema::Object(_) | Schema::With(..) => {
                let Some(object) = value.as_object() else { return check(false, "object") };
                let fields = self.fields();
                for field in &fields {
                    match object.get(field.name) {
                        Some(value) => field.schema.accepts(value).map_err(|why| format!("{}: {why}", field.name))?,
                        None if field.required => return Err(format!("{} is missing", field.name)),
                        None => {}
                    }
                }
                let unknown = object.keys().find(|name| !fields.iter().any(|field| field.name == *name));
                unknown.map_or(Ok(()), |name| Err(format!("{name} is not described")))
            }
            Schema::Map(each) => {
                let Some(object) = value.as_object() else { return check(false, "object") };
                object.iter().try_for_each(|(name, value)| each.accepts(value).map_err(|why| format!("{name}: {why}")))
            }
            Schema::Array(each) => {
                let Some(values) = value.as_array() else { return check(false, "array") };
                values.iter().try_for_each(|value| each.accepts(value))
            }
            Schema::Tuple(schemas) => {
                let Some(values) = value.as_array() else { return check(false, "array") };
                check(values.len() == schemas.len(), &format!("array of {}", schemas.len()))?;
                values.iter().zip(*schemas).try_for_each(|(value, schema)| schema.accepts(value))
            }
            Schema::AnyOf(schemas) => {
                let whys: Vec<String> = schemas.iter().filter_map(|schema| schema.accepts(value).err()).collect();
                if whys.len() < schemas.len() { Ok(()) } else { Err(whys.join("; or ")) }
            }
        }
    }
}

const JOBS_HEALTH: Schema = Schema::Object(&[
    FieldDoc::must("pending", Schema::COUNT, "that wait"),
    FieldDoc::must("due", Schema::COUNT, "whose time has come and that are not at Kafka"),
    FieldDoc::must("in_flight", Schema::COUNT, "at Kafka, not answered"),
    FieldDoc::must("parked", Schema::COUNT, "that cannot fire and wait for somebody"),
    FieldDoc::must("lost", Schema::COUNT, "that rotted on the disk"),
]);

const HANDOFF_HEALTH: Schema = Schema::Object(&[
    FieldDoc::must("has_room", Schema::FLAG, "a message more would be taken"),
    FieldDoc::must("partitions", Schema::COUNT, "of apps, whose messages wait"),
    FieldDoc::must("messages", Schema::COUNT, ""),
    FieldDoc::must("bytes", Schema::COUNT, ""),
    FieldDoc::must("since", Schema::AnyOf(&[Schema::OFFSET, Schema::Null]), "epoch ms"),
    FieldDoc::must(
        "left_s",
        Schema::AnyOf(&[Schema::COUNT, Schema::Null]),
        "seconds until all is delivered, as fast as it goes now; null while something is not",
    ),
]);

const TENANTS_HEALTH: Schema = Schema::Object(&[
    FieldDoc::must("generation", Schema::TEXT, "in force, HISTORY-NUMBER"),
    FieldDoc::must("stale_seconds", Schema::COUNT, "since it was last known that there is no newer one"),
    FieldDoc::may("trouble", SINCE, "why nobody can be asked"),
    FieldDoc::may("unwritten", SINCE, "why the snapshot on disk is older than what is in force"),
]);
const SINCE: Schema = Schema::Object(&[
    FieldDoc::must("why", Schema::TEXT, ""),
    FieldDoc::must("seconds", Schema::COUNT, "for how long"),
]);

const CLUSTER_HEALTH: Schema = Schema::Object(&[
    FieldDoc::must("up", Schema::FLAG, "did it answer its last probe"),
    FieldDoc::may("detail", Schema::TEXT, "why not"),
    FieldDoc::may("probed_ms_ago", Schema::COUNT, "left out: no probe has ended yet"),
]);

fn kind_accepts(kind: &Kind, value: &Value) -> Result<(), String> {
    let (fits, what) = match kind {
        Kind::Text | Kind::Pattern(_) | Kind::Duration { .. } => (value.is_string(), "text".to_owned()),
        Kind::UpTo { bytes } => {
            (value.as_str().is_some_and(|text| text.len() <= *bytes), format!("text of up to {bytes} bytes"))
        }
        Kind::Word(words) => {
            (value.as_str().is_some_and(|word| words.contains(&word)), format!("word of {}", words.join(", ")))
        }
        Kind::Bool => (value.is_boolean(), "true or false".to_owned()),
        Kind::Integer { min, max } | Kind::Capped { min, max } => {
            (value.as_i64().is_some_and(|n| (*min..=*max).contains(&n)), format!("integer from {min} to {max}"))
        }
        Kind::Number { min, max } => {
            (value.as_f64().is_some_and(|n| (*min..=*max).contains(&n)), format!("number from {min} to {max}"))
        }
    };
    if fits { Ok(()) } else { Err(format!("{value} is no {what}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const POINT: Schema = Schema::Object(&[
        FieldDoc::must("x", Schema::Value(Kind::Integer { min: 0, max: 9 }), ""),
        FieldDoc::may("name", Schema::Value(Kind::UpTo { bytes: 2 }), ""),
    ]);
    const PLACE: Schema = Schema::With(
        &POINT,
        &[
            FieldDoc::may("tags", Schema::Array(&Schema::AnyOf(&[Schema::TEXT, Schema::Null])), ""),
            FieldDoc::may("pair", Schema::Tuple(&[Schema::TEXT, Schema::Always(1)]), ""),
            FieldDoc::may("by", Schema::Map(&Schema::FLAG), ""),
        ],
    );

    #[test]
    fn what_does_not_fit_is_said_with_its_place() {
        for (value, expected) in [
            (json!({"x": 9, "name": "ab", "tags": ["a", null], "pair": ["a", 1], "by": {"q": true}}), ""),
            (json!({"name": "ab"}), "x is missing"),
            (json!({"x": 10}), "x: 10 is no integer from 0 to 9"),
            (json!({"x": 1, "name": "abc"}), "name: \"abc\" is no text of up to 2 bytes"),
            (json!({"x": 1, "y": 1}), "y is not described"),
            (json!({"x": 1, "tags": [1]}), "tags: 1 is no text; or 1 is no null"),
            (json!({"x": 1, "pair": ["a"]}), "pair: [\"a\"] is no array of 2"),
            (json!({"x": 1, "pair": ["a", 2]}), "pair: 2 is no 1"),
            (json!({"x": 1, "by": {"q": 1}}), "by: q: 1 is no true or false"),
            (json!([]), "[] is no object"),
        ] {
            assert_eq!(PLACE.accepts(&value).err().unwrap_or_default(), expected, "{value}");
        }
    }
}
