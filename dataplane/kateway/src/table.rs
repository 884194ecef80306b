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

/// Prints an answer of the manager: an object or an array of objects.
pub fn print(answer: &Value, columns: &[&str], format: Option<Format>) {
    console::print!("{}", render(answer, columns, format.unwrap_or_else(default_format)));
}

fn default_format() -> Format {
    if std::io::stdout().is_terminal() { Format::Table } else { Format::Tsv }
}

/// The same as text.
pub fn render(answer: &Value, columns: &[&str], format: Format) -> String {
    let single = [answer.clone()];
    let rows: &[Value] = answer.as_array().map_or(&single[..], Vec::as_slice);
    match format {
        Format::Json => format!("{}\n", serde_json::to_string_pretty(answer).unwrap_or_default()),
        Format::Jsonl => rows.iter().map(|row| format!("{row}\n")).collect(),
        Format::Name => rows.iter().map(|row| format!("{}\n", cell(row, columns[0]))).collect(),
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
    match row.get(column) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
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
        assert_eq!(render(&rows, &columns, Format::Name), "billing\na\n");
    }
}
