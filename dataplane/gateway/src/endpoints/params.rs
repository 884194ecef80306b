//! Names and flags of a query, refused alike on every route of both listeners.

use crate::codes;
use crate::refusal::Refusal;
use gafka_http::query;
use kafka_client::Acks;
use model::requests;
use std::time::Duration;

/// Where `name` stands among those the endpoint knows; `None` when it is one of 2017 that changes nothing.
pub fn position(name: &str, known: &[&'static str]) -> Result<Option<usize>, Refusal> {
    requests::parameter(name, known).map_err(|err| Refusal::new(codes::UNKNOWN_PARAMETER, err.to_string()))
}

/// A flag; an empty one is off, as in 2017.
pub fn flag(name: &str, value: &str) -> Result<bool, Refusal> {
    if value.is_empty() {
        return Ok(false);
    }
    requests::flag(value).ok_or_else(|| bad_parameter(name, value, requests::FLAG_VALUES))
}

/// `hh`: whether a message may be handed off. 2017 said `n`; an empty one changes nothing.
pub fn hh(value: &str) -> Result<bool, Refusal> {
    match value {
        "" | "y" => Ok(true),
        "n" => Ok(false),
        value => requests::flag(value).ok_or_else(|| bad_parameter("hh", value, "n, y, 0, 1, true or false")),
    }
}

/// The query of an endpoint that takes no parameters.
pub fn none(text: Option<&str>) -> Result<(), Refusal> {
    for pair in query::pairs(text.unwrap_or_default()) {
        let (name, _) = pair.map_err(|_| malformed())?;
        position(&name, &[])?;
    }
    Ok(())
}

pub fn malformed() -> Refusal {
    Refusal::new(codes::BAD_QUERY, "the query has a malformed percent escape")
}

pub fn bad_parameter(name: &str, value: &str, expected: &str) -> Refusal {
    let shown: String = value.chars().take(64).collect();
    Refusal::new(codes::BAD_PARAMETER, format!("{name} is `{shown}`, expected {expected}"))
}

/// `ack` of the query.
pub fn parse_acks(value: &str) -> Result<Acks, Refusal> {
    match value {
        "all" | "" => Ok(Acks::All),
        "local" => Ok(Acks::Leader),
        "none" => Ok(Acks::None),
        _ => Err(bad_parameter("ack", value, "all, local or none")),
    }
}

/// `timeout` of the query.
pub fn parse_timeout(value: &str) -> Result<Duration, Refusal> {
    model::duration::parse(value)
        .filter(|timeout| !timeout.is_zero())
        .ok_or_else(|| bad_parameter("timeout", value, "a duration like 5s or 500ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_one_of_four_words_or_off_when_it_is_empty() {
        for (value, expected) in [
            ("1", Ok(true)),
            ("true", Ok(true)),
            ("0", Ok(false)),
            ("false", Ok(false)),
            ("", Ok(false)),
            ("yes", Err("x is `yes`, expected 0, 1, true or false".to_owned())),
            ("TRUE", Err("x is `TRUE`, expected 0, 1, true or false".to_owned())),
        ] {
            assert_eq!(flag("x", value).map_err(|refusal| refusal.message), expected, "{value:?}");
        }
    }

    #[test]
    fn a_path_without_parameters_refuses_every_name_but_those_of_2017() {
        for (query, expected) in [
            (None, Ok(())),
            (Some(""), Ok(())),
            (Some("&&"), Ok(())),
            (Some("mux=1&use=x&limit=9"), Ok(())),
            (Some("hh=n"), Err("unknown_parameter")),
            (Some("_=17"), Err("unknown_parameter")),
            (Some("%zz"), Err("bad_query")),
        ] {
            assert_eq!(none(query).map_err(|refusal| refusal.code), expected, "{query:?}");
        }
    }
}
