//! What all three listeners read alike in a request, so that they refuse alike: names and flags of a query, the byte
//! order mark before JSON, `Upgrade: websocket`.
//!
//! Cost where nothing is wrong: comparing a name with the few a route knows. Only a refusal allocates.

use std::fmt;

/// Query names that clients of 2017 send and that change nothing: taken on every route, whatever their value.
pub const WITHOUT_EFFECT: [&str; 3] = ["mux", "use", "limit"];

/// Characters of a client's name that an answer repeats.
const NAME_SHOWN_CHARS: usize = 40;

/// A query name that the route does not know: 400 `unknown_parameter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownParameter {
    shown: String,
    nearest: Option<&'static str>,
}

impl fmt::Display for UnknownParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nearest {
            Some(nearest) => write!(f, "there is no query parameter {} here, the nearest is {nearest}", self.shown),
            None => write!(f, "there is no query parameter {} here, this path takes none", self.shown),
        }
    }
}

impl std::error::Error for UnknownParameter {}

/// Where `name`, decoded, stands among those the route knows; `None` when it is one [`WITHOUT_EFFECT`].
///
/// # Errors
/// It is neither.
pub fn parameter(name: &str, known: &[&'static str]) -> Result<Option<usize>, UnknownParameter> {
    if let Some(at) = known.iter().position(|known| *known == name) {
        return Ok(Some(at));
    }
    if WITHOUT_EFFECT.contains(&name) {
        return Ok(None);
    }
    Err(unknown(name, known))
}

#[cold]
fn unknown(name: &str, known: &[&'static str]) -> UnknownParameter {
    let shown: String = name.chars().take(NAME_SHOWN_CHARS).collect();
    let lower = shown.to_ascii_lowercase();
    let nearest = known.iter().copied().min_by_key(|known| edits(&lower, known));
    UnknownParameter { shown, nearest }
}

/// Letters to insert, remove or replace until `from` is `to` (Levenshtein). At most 40 times 40 steps.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (at, letter) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in to.chars().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[row.len() - 1]
}

/// What a flag may be, for people.
pub const FLAG_VALUES: &str = "0, 1, true or false";

/// A flag of a query; `None` is a 400. What an empty one means is for the listener to say: off on 9191 and 9192, a 400
/// on the manager, where it would decide about deleting.
#[must_use]
pub fn flag(value: &str) -> Option<bool> {
    match value {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// The byte order mark that some editors and shells put before UTF-8.
pub const BOM: &[u8] = b"\xef\xbb\xbf";

/// JSON or NDJSON without its byte order mark (RFC 8259 section 8.1 lets parsers skip it).
#[must_use]
pub fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(BOM).unwrap_or(text)
}

/// Whether a request wants to become a WebSocket, by the values of its `Upgrade` fields. It is refused as long as there
/// is none to become: answered as the plain request it also is, it would take messages for a client that cannot read
/// the answer.
///
/// Any other protocol is ignored (RFC 9110 section 7.8), as is whether `Connection` names `upgrade` and which method
/// and HTTP version it is: a proxy may have dropped or changed those, and refusing touches nothing.
pub fn asks_for_websocket<'v>(upgrades: impl IntoIterator<Item = &'v [u8]>) -> bool {
    let protocols = upgrades.into_iter().flat_map(|value| value.split(|byte| *byte == b','));
    let mut names = protocols.map(|protocol| protocol.split(|byte| *byte == b'/').next().unwrap_or_default());
    names.any(|name| name.trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

/// What the 501 to [`asks_for_websocket`] says.
pub const NO_WEBSOCKET: &str = "WebSocket is not supported by this version of the gateway; poll with plain requests";

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    const PUBLISH: &[&str] = &["key", "partition", "ack", "timestamp", "timeout", "null", "async"];

    fn check(names: &[&str], known: &[&'static str], expected: Expect) {
        let rows = names.iter().map(|name| match parameter(name, known) {
            Ok(Some(at)) => format!("{name}: number {at}\n"),
            Ok(None) => format!("{name}: without effect\n"),
            Err(err) => format!("{name}: {err}\n"),
        });
        expected.assert_eq(&rows.collect::<String>());
    }

    #[test]
    fn an_unknown_query_name_is_refused_with_the_nearest_known_one() {
        check(
            &["key", "async", "mux", "use", "limit", "hh", "keey", "Key", "partitions", "timestmap", "acks", "", "x"],
            PUBLISH,
            expect![[r#"
                key: number 0
                async: number 6
                mux: without effect
                use: without effect
                limit: without effect
                hh: there is no query parameter hh here, the nearest is key
                keey: there is no query parameter keey here, the nearest is key
                Key: there is no query parameter Key here, the nearest is key
                partitions: there is no query parameter partitions here, the nearest is partition
                timestmap: there is no query parameter timestmap here, the nearest is timestamp
                acks: there is no query parameter acks here, the nearest is ack
                : there is no query parameter  here, the nearest is key
                x: there is no query parameter x here, the nearest is key
            "#]],
        );
        check(
            &["mux", "x"],
            &[],
            expect![[r#"
                mux: without effect
                x: there is no query parameter x here, this path takes none
            "#]],
        );
        check(
            &["long_".repeat(1000).as_str()].map(|name| &name[..45]),
            PUBLISH,
            expect![[r#"
                long_long_long_long_long_long_long_long_long_: there is no query parameter long_long_long_long_long_long_long_long_ here, the nearest is null
            "#]],
        );
    }

    #[test]
    fn flags_are_four_words_and_nothing_else() {
        for (value, expected) in [
            ("1", Some(true)),
            ("true", Some(true)),
            ("0", Some(false)),
            ("false", Some(false)),
            ("", None),
            ("True", None),
            ("yes", None),
            ("01", None),
            (" 1", None),
        ] {
            assert_eq!(flag(value), expected, "{value:?}");
        }
    }

    #[test]
    fn websocket_is_found_in_any_list_and_other_protocols_are_not() {
        for (values, expected) in [
            (&["websocket"][..], true),
            (&["WebSocket"], true),
            (&["h2c, \t websocket"], true),
            (&["h2c", "websocket"], true),
            (&["websocket/13"], true),
            (&[], false),
            (&[""], false),
            (&["h2c"], false),
            (&["websockets"], false),
            (&["x/websocket"], false),
        ] {
            assert_eq!(asks_for_websocket(values.iter().map(|value| value.as_bytes())), expected, "{values:?}");
        }
    }

    #[test]
    fn one_byte_order_mark_is_skipped() {
        assert_eq!(without_bom(b"\xef\xbb\xbf{}"), b"{}");
        assert_eq!(without_bom(b"\xef\xbb\xbf\xef\xbb\xbf{}"), b"\xef\xbb\xbf{}");
        assert_eq!(without_bom(b"\xef\xbb{}"), b"\xef\xbb{}");
        assert_eq!(without_bom(b""), b"");
    }
}
