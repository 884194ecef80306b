//! What the documents of several endpoints share. An endpoint's own stands beside its handler; the router's list has them
//! all, and OpenAPI is made from it.

use model::api_doc::{EndpointDoc, Kind, ParamDoc};

pub const NAME: Kind = Kind::Pattern("^[A-Za-z0-9_-]{1,64}$");
pub const VERSION: Kind = Kind::Pattern("^v[0-9]+$");

pub const TOPIC: ParamDoc = ParamDoc::path("topic", NAME, "topic name");
pub const VER: ParamDoc = ParamDoc::path("ver", VERSION, "topic version, for example v1");
pub const REQUEST_ID: ParamDoc = ParamDoc::header("X-Request-Id", Kind::Text, "echoed in the answer; made when absent");

pub const CLUSTER: ParamDoc = ParamDoc::path("cluster", NAME, "cluster name");
pub const PHYSICAL: ParamDoc =
    ParamDoc::path("topic", Kind::Pattern("^[A-Za-z0-9._-]{1,249}$"), "topic by its name in Kafka");

pub const CODING: ParamDoc = ParamDoc::header("Content-Encoding", Kind::Word(&["gzip", "zstd"]), "coding of the body");

/// Every endpoint of the two data-plane listeners.
pub fn all() -> Vec<EndpointDoc> {
    crate::endpoints::router::ENDPOINTS.iter().flat_map(|row| row.docs).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::router::{Found, route};
    use model::Side;
    use model::api_doc::Listener;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

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

    /// Takes a string literal off the front of source text, if one begins there that could be a code.
    fn literal(text: &str) -> Option<&str> {
        let (code, _) = text.trim_start().strip_prefix('"')?.split_once('"')?;
        let is_code =
            !code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        is_code.then_some(code)
    }

    /// `(status, code)` wherever the sources make one: `(404, "code"`, `bad_request("code"`, `bad("code"`, and the few
    /// places that keep a code in a table of their own, which are all 400.
    fn made_in(source: &str) -> Vec<(String, String)> {
        let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let with_status = source.split('(').filter_map(|rest| {
            let (status, rest) = rest.trim_start().split_once(',')?;
            let is_status = status.len() == 3 && status.starts_with(['4', '5']) && status.parse::<u16>().is_ok();
            literal(rest).filter(|_| is_status).map(|code| (status, code))
        });
        let markers = ["bad_request(", "bad(", "&mut self."];
        let bad = markers.into_iter().flat_map(|marker| {
            source.split(marker).skip(1).filter_map(move |rest| match marker {
                "&mut self." => literal(rest.split_once(',')?.1).filter(|code| code.starts_with("illegal_")),
                _ => literal(rest),
            })
        });
        let decode_errors = source.split("=> \"").skip(1).filter_map(|rest| {
            let code = rest.split('"').next()?;
            ["malformed_percent_encoding", "not_utf8"].contains(&code).then_some(code)
        });
        let all = with_status.chain(bad.map(|code| ("400", code))).chain(decode_errors.map(|code| ("400", code)));
        all.map(|(status, code)| (status.to_owned(), code.to_owned())).collect()
    }

    fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("tests") {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_code_that_can_be_sent_is_documented_with_its_status_and_no_other() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut files = vec![crates.join("../controlplane/model/src/denied.rs")];
        sources(&crates.join("gateway/src"), &mut files);
        sources(&crates.join("http/src"), &mut files);
        let mut sent = BTreeSet::new();
        for file in &files {
            sent.extend(made_in(&fs::read_to_string(file).unwrap_or_else(|err| panic!("{}: {err}", file.display()))));
        }
        // Not of this listener, turned into another code on the way, or no code at all.
        let elsewhere = [("404", "no_such_cluster"), ("413", "body_too_large")];
        let elsewhere = elsewhere.map(|(status, code)| (status.to_owned(), code.to_owned()));
        sent.retain(|pair| !elsewhere.contains(pair));
        let documented = documented();
        let missing: Vec<_> = sent.difference(&documented).collect();
        let stale: Vec<_> = documented.difference(&sent).collect();
        assert!(missing.is_empty() && stale.is_empty(), "not documented: {missing:?}; never sent: {stale:?}");
        assert!(sent.len() > 80, "the sources were read: {}", sent.len());
    }

    #[test]
    fn the_documented_query_names_are_those_that_are_taken() {
        use crate::endpoints::{batch, publish};
        use crate::subscribe::query;
        for doc in all() {
            let mut named: Vec<&str> = doc.query_params().collect();
            let mut taken: Vec<&str> = match doc.operation {
                "publishMessage" | "publishRawMessage" => publish::PARAMETERS.to_vec(),
                "publishBatch" | "publishRawBatch" => batch::PARAMETERS.to_vec(),
                // Known, and answered with 501 until they exist.
                "pollMessages" => query::PARAMETERS.into_iter().filter(|name| !["ack", "q"].contains(name)).collect(),
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
