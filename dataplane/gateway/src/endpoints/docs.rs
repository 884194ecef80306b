//! What the documents of several endpoints share. An endpoint's own stands beside its handler; the router's list has them
//! all, and OpenAPI is made from it.

use crate::limits::PUBLISH_TIMEOUT_DEFAULT;
use model::api_doc::{self, EndpointDoc, Kind, NAME, ParamDoc, VERSION};

pub const TOPIC: ParamDoc = ParamDoc::path("topic", NAME, "topic name");
pub const VER: ParamDoc = ParamDoc::path("ver", VERSION, "topic version, for example v1");
pub const REQUEST_ID: ParamDoc = ParamDoc::header("X-Request-Id", Kind::Text, "echoed in the answer; made when absent");

pub const CLUSTER: ParamDoc = ParamDoc::path("cluster", NAME, "cluster name");
pub const PHYSICAL: ParamDoc = ParamDoc::path("topic", api_doc::PHYSICAL, "topic by its name in Kafka");

/// At most what the gateway is configured with; this is the default.
pub const TIMEOUT: Kind = Kind::Duration { max_s: PUBLISH_TIMEOUT_DEFAULT.as_secs() };

pub const CODING: ParamDoc = ParamDoc::header("Content-Encoding", Kind::Word(&["gzip", "zstd"]), "coding of the body");

/// What is to happen while Kafka is away.
pub const HH: ParamDoc = ParamDoc::query(
    "hh",
    Kind::Word(&["n", "y", "0", "1", "false", "true"]),
    "n: while Kafka is away answer 503 instead of 202",
)
.or("y");

/// Every endpoint of the two data-plane listeners.
pub fn all() -> Vec<EndpointDoc> {
    crate::endpoints::router::ENDPOINTS.iter().flat_map(|row| row.docs).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes;
    use crate::endpoints::router::{Found, route};
    use model::Side;
    use model::api_doc::Listener;
    use std::collections::BTreeSet;

    #[test]
    fn the_list_has_no_mistakes() {
        let all = all();
        let listed: Vec<&EndpointDoc> = all.iter().collect();
        assert_eq!(model::api_doc::mistakes(&listed), Vec::<String>::new());
    }

    /// `(status, code)` of the status tables in the endpoints' details.
    fn documented() -> BTreeSet<(String, String)> {
        let all = all();
        let rows = all.iter().flat_map(|doc| doc.details.lines()).filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            Some((cells.next()?, cells.next()?))
        });
        let codes = rows.flat_map(|(status, codes)| {
            codes.split(", ").filter_map(move |code| {
                let code = code.trim().strip_prefix('`')?.strip_suffix('`')?;
                Some((status.to_owned(), code.to_owned()))
            })
        });
        codes.collect()
    }

    #[test]
    fn every_code_is_explained_with_its_status_and_no_other() {
        let ours = codes::OURS.iter().map(|code| (code.status, code.name));
        let passed_on = codes::PASSED_ON.iter().flat_map(|(status, names)| names.iter().map(|name| (*status, *name)));
        let sent: BTreeSet<(String, String)> =
            ours.chain(passed_on).map(|(status, name)| (status.to_string(), name.to_owned())).collect();
        let documented = documented();
        let missing: Vec<_> = sent.difference(&documented).collect();
        let stale: Vec<_> = documented.difference(&sent).collect();
        assert!(missing.is_empty() && stale.is_empty(), "not explained: {missing:?}; not in the table: {stale:?}");
    }

    /// What every request may be answered with follows from its being HTTP; what an endpoint's own table says is its own.
    #[test]
    fn every_status_of_an_endpoints_own_table_is_one_of_its_responses() {
        let all = all();
        let document = model::openapi::document(&all.iter().collect::<Vec<_>>(), "0");
        let mut own_tables = 0;
        for doc in &all {
            let own = doc.details.trim_end_matches(include_str!("statuses/any.md"));
            let statuses =
                own.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()?.parse::<u16>().ok());
            let responses = &document["paths"][doc.template()][doc.method.as_str().to_ascii_lowercase()]["responses"];
            for status in statuses {
                own_tables += 1;
                assert!(responses[status.to_string()].is_object(), "{}: {status} is no response", doc.operation);
            }
        }
        assert!(own_tables > 20, "{own_tables} statuses were looked at");
    }

    #[test]
    fn a_code_has_one_status() {
        let mut seen = BTreeSet::new();
        for code in codes::OURS {
            assert!(seen.insert(code.name), "{} is there twice", code.name);
        }
    }

    #[test]
    fn the_documented_query_names_are_those_that_are_taken() {
        use crate::endpoints::{batch, jobs_batch, jobs_query, publish};
        use crate::subscribe::query;
        for doc in all() {
            let mut named: Vec<&str> = doc.query_params().collect();
            let mut taken: Vec<&str> = match doc.operation {
                "publishMessage" | "publishRawMessage" => publish::PARAMETERS.to_vec(),
                "publishBatch" | "publishRawBatch" => batch::PARAMETERS.to_vec(),
                // Known, and answered with 501 until they exist.
                "pollMessages" => query::PARAMETERS.into_iter().filter(|name| !["ack", "q"].contains(name)).collect(),
                "addJob" => jobs_query::ADD.to_vec(),
                "addJobs" => jobs_batch::PARAMETERS.to_vec(),
                "getJobs" => jobs_query::LOOK.to_vec(),
                "deleteJob" | "fireJob" | "replayJob" => jobs_query::NAMED.to_vec(),
                "rescheduleJob" => jobs_query::RESCHEDULE.to_vec(),
                _ => Vec::new(),
            };
            named.sort_unstable();
            taken.sort_unstable();
            assert_eq!(named, taken, "{}", doc.operation);
        }
    }

    #[test]
    fn every_documented_endpoint_is_routed() {
        for doc in all() {
            let side = if doc.listener == Listener::Publish { Side::Publish } else { Side::Subscribe };
            let path = doc.path.replace(":ver", "v1").replace(':', "");
            let method = gafka_http::Method::from_token(doc.method.as_str()).expect("a method the parser knows");
            let found = route(side, method, &path);
            let is_its_own = |operation| operation == doc.operation;
            assert!(
                matches!(found, Ok(Found::Endpoint(row, _)) if row.docs.iter().any(|doc| is_its_own(doc.operation))),
                "{path}"
            );
        }
    }
}
