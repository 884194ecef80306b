//! Rows for a person or a script: a table on a terminal, tab-separated in a pipe, JSON on request.

use serde_json::Value;
use std::io::IsTerminal;

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Json,
    Jsonl,
    Tsv,
    Name,
}

/// Where nothing is said.
pub fn default_format() -> Format {
    if std::io::stdout().is_terminal() { Format::Table } else { Format::Tsv }
}

/// An answer of the manager, an object or an array of objects, as text. Of `Name`, the columns are those that name a row.
pub fn render(answer: &Value, columns: &[&str], format: Format) -> String {
    let single = [answer.clone()];
    let rows: &[Value] = answer.as_array().map_or(&single[..], Vec::as_slice);
    match format {
        Format::Json => format!("{}\n", serde_json::to_string_pretty(answer).unwrap_or_default()),
        Format::Jsonl => rows.iter().map(|row| format!("{row}\n")).collect(),
        Format::Name => {
            let names = rows.iter().map(|row| {
                let words = columns.iter().filter_map(|column| row.get(column).and_then(text));
                words.collect::<Vec<_>>().join(" ")
            });
            names.filter(|name| !name.is_empty()).map(|name| name + "\n").collect()
        }
        Format::Tsv => rows
            .iter()
            .map(|row| columns.iter().map(|column| cell(row, column)).collect::<Vec<_>>().join("\t") + "\n")
            .collect(),
        Format::Table => table(rows, columns),
    }
}

fn table(rows: &[Value], columns: &[&str]) -> String {
    let mut lines = vec![columns.iter().map(|column| column.to_uppercase()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()));
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    lines
        .iter()
        .map(|line| {
            let padded: Vec<String> = line.iter().zip(&widths).map(|(text, width)| format!("{text:width$}")).collect();
            padded.join("  ").trim_end().to_owned() + "\n"
        })
        .collect()
}

fn cell(row: &Value, column: &str) -> String {
    row.get(column).and_then(text).unwrap_or_else(|| "-".to_owned())
}

/// As it stands in a cell; nothing: there is nothing in it. Fields are `name=value`, one in another `name.name=value`.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(text).collect::<Vec<_>>().join(","),
        Value::Object(_) => {
            let mut pairs = Vec::new();
            fields("", value, &mut pairs);
            pairs.join(" ")
        }
        other => other.to_string(),
    };
    Some(text).filter(|text| !text.is_empty())
}

fn fields(name: &str, value: &Value, pairs: &mut Vec<String>) {
    match value {
        Value::Object(within) => {
            for (field, value) in within {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                fields(&name, value, pairs);
            }
        }
        value => pairs.extend(text(value).map(|text| format!("{name}={text}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn tables_line_up_and_pipes_get_tabs() {
        let rows = json!([{"appid": "billing", "enabled": true}, {"appid": "a", "enabled": false, "note": null}]);
        let columns = ["appid", "enabled", "note"];
        expect![[r#"
            APPID    ENABLED  NOTE
            billing  true     -
            a        false    -
        "#]]
        .assert_eq(&render(&rows, &columns, Format::Table));
        assert_eq!(render(&rows, &columns, Format::Tsv), "billing\ttrue\t-\na\tfalse\t-\n");
        assert_eq!(render(&rows, &columns[..1], Format::Name), "billing\na\n");
    }

    #[test]
    fn names_of_several_words_have_blanks_and_what_has_no_name_has_no_line() {
        let rows = json!([{"appid": "shop", "topic": "orders", "ver": null}, {"enabled": true}, {"topic": "carts"}]);
        assert_eq!(render(&rows, &["appid", "topic", "ver"], Format::Name), "shop orders\ncarts\n");
    }

    #[test]
    fn what_is_in_something_reads_without_braces() {
        for (value, expected) in [
            (json!({"b": 2, "a": {"x": true, "y": {}, "z": null}}), "a.x=true b=2"),
            (json!(["a", 1, [], null]), "a,1"),
            (json!([{"node": "gw-1"}, {"node": "gw-2"}]), "node=gw-1,node=gw-2"),
            (json!({}), "-"),
            (json!([]), "-"),
            (json!(""), "-"),
            (json!(0), "0"),
        ] {
            assert_eq!(cell(&json!({"it": value}), "it"), expected, "{value}");
        }
    }
}
