//! Rows for a person or a script: tables on a terminal, tab-separated in a pipe, and what else is asked for.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use jiff::Timestamp;
use serde_json::{Map, Value};

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    /// Every column.
    Wide,
    Json,
    Jsonl,
    Yaml,
    Tsv,
    /// The first column only.
    Name,
}

/// Rows of one kind. Fields are objects' members; those named `…bytes` are sizes.
#[derive(Debug)]
pub struct Section {
    /// Empty where it is the only one.
    pub title: &'static str,
    pub columns: &'static [&'static str],
    /// In `wide` and `tsv`.
    pub more: &'static [&'static str],
    pub rows: Vec<Value>,
}

/// Prints them.
pub fn print(sections: &[Section], format: Option<Format>) {
    let default = || if io::stdout().is_terminal() { Format::Table } else { Format::Tsv };
    console::print!("{}", render(sections, format.unwrap_or_else(default)));
}

/// The same as text.
pub fn render(sections: &[Section], format: Format) -> String {
    let titled = sections.iter().any(|section| !section.title.is_empty());
    let mut out = String::new();
    match format {
        Format::Json => {
            let whole = match titled {
                true => {
                    Value::Object(sections.iter().map(|one| (one.title.to_owned(), one.rows.clone().into())).collect())
                }
                false => Value::Array(sections.iter().flat_map(|section| section.rows.clone()).collect()),
            };
            let _ = writeln!(out, "{whole:#}");
        }
        Format::Jsonl => {
            for (section, row) in sections.iter().flat_map(|section| section.rows.iter().map(move |row| (section, row)))
            {
                let mut row = row.clone();
                if let (true, Value::Object(fields)) = (titled, &mut row) {
                    fields.insert("kind".to_owned(), section.title.into());
                }
                let _ = writeln!(out, "{row}");
            }
        }
        Format::Yaml => {
            for section in sections {
                if titled {
                    let _ = writeln!(out, "{}:{}", section.title, if section.rows.is_empty() { " []" } else { "" });
                }
                section.rows.iter().for_each(|row| yaml(&mut out, row));
            }
        }
        Format::Tsv => {
            for section in sections {
                for row in &section.rows {
                    let title = titled.then(|| section.title.to_owned());
                    let cells = section.columns.iter().chain(section.more).map(|column| cell(row, column, false));
                    let line: Vec<String> = title.into_iter().chain(cells).collect();
                    out.push_str(&(line.join("\t") + "\n"));
                }
            }
        }
        Format::Name => {
            for section in sections {
                section.rows.iter().for_each(|row| out.push_str(&(cell(row, section.columns[0], false) + "\n")));
            }
        }
        Format::Table | Format::Wide => {
            for section in sections.iter().filter(|section| !section.rows.is_empty()) {
                if titled {
                    let gap = if out.is_empty() { "" } else { "\n" };
                    let _ = writeln!(out, "{gap}{}", section.title.to_uppercase());
                }
                table(&mut out, section, format == Format::Wide);
            }
        }
    }
    out
}

fn table(out: &mut String, section: &Section, is_wide: bool) {
    let more = if is_wide { section.more } else { &[] };
    let columns: Vec<&str> = section.columns.iter().chain(more).copied().collect();
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|column| column.to_uppercase()).collect()];
    lines.extend(section.rows.iter().map(|row| columns.iter().map(|column| cell(row, column, true)).collect()));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for line in &lines {
        let padded: Vec<String> = line.iter().zip(&widths).map(|(text, width)| format!("{text:width$}")).collect();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    }
}

/// A row as an item of a list; values are JSON, which YAML understands.
fn yaml(out: &mut String, row: &Value) {
    let empty = Map::new();
    for (at, (name, value)) in row.as_object().unwrap_or(&empty).iter().enumerate() {
        let _ = writeln!(out, "{} {name}: {value}", if at == 0 { "-" } else { " " });
    }
}

fn cell(row: &Value, column: &str, is_for_people: bool) -> String {
    match row.get(column) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        // One row, one line, whatever somebody sent.
        Some(Value::String(text)) => text.chars().map(|c| if c.is_control() { '·' } else { c }).collect(),
        Some(Value::Number(number)) if is_for_people && column.ends_with("bytes") => {
            number.as_u64().map_or_else(|| number.to_string(), size)
        }
        Some(other) => other.to_string(),
    }
}

/// `4 MiB`, `1.5 KiB`, `17 B`.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut amount, mut unit) = (bytes as f64, 0);
    while amount >= 1024.0 && unit + 1 < units.len() {
        (amount, unit) = (amount / 1024.0, unit + 1);
    }
    match amount.fract() == 0.0 {
        true => format!("{amount} {}", units[unit]),
        false => format!("{amount:.1} {}", units[unit]),
    }
}

/// RFC 3339.
pub fn time(epoch_ms: i64) -> Value {
    match Timestamp::from_millisecond(epoch_ms) {
        Ok(at) => at.to_string().into(),
        Err(_) => epoch_ms.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(titles: [&'static str; 2], format: Format, expected: Expect) {
        let sections = [
            Section {
                title: titles[0],
                columns: &["file", "bytes"],
                more: &["note"],
                rows: vec![
                    json!({"file": "a", "bytes": 4 << 20, "note": "x\ny"}),
                    json!({"file": "bb", "bytes": 1536}),
                ],
            },
            Section { title: titles[1], columns: &["app"], more: &[], rows: vec![] },
        ];
        expected.assert_eq(&render(&sections[..if titles[0].is_empty() { 1 } else { 2 }], format));
    }

    #[test]
    fn one_kind_of_rows_is_a_list() {
        check(
            ["", ""],
            Format::Table,
            expect![[r#"
            FILE  BYTES
            a     4 MiB
            bb    1.5 KiB
        "#]],
        );
        check(
            ["", ""],
            Format::Wide,
            expect![[r#"
            FILE  BYTES    NOTE
            a     4 MiB    x·y
            bb    1.5 KiB  -
        "#]],
        );
        check(["", ""], Format::Tsv, expect![["a\t4194304\tx·y\nbb\t1536\t-\n"]]);
        check(["", ""], Format::Name, expect![["a\nbb\n"]]);
        check(
            ["", ""],
            Format::Jsonl,
            expect![[r#"
            {"bytes":4194304,"file":"a","note":"x\ny"}
            {"bytes":1536,"file":"bb"}
        "#]],
        );
        check(
            ["", ""],
            Format::Yaml,
            expect![[r#"
            - bytes: 4194304
              file: "a"
              note: "x\ny"
            - bytes: 1536
              file: "bb"
        "#]],
        );
    }

    #[test]
    fn several_kinds_have_titles() {
        check(
            ["files", "apps"],
            Format::Table,
            expect![[r#"
            FILES
            FILE  BYTES
            a     4 MiB
            bb    1.5 KiB
        "#]],
        );
        check(["files", "apps"], Format::Tsv, expect![["files\ta\t4194304\tx·y\nfiles\tbb\t1536\t-\n"]]);
        check(
            ["files", "apps"],
            Format::Yaml,
            expect![[r#"
            files:
            - bytes: 4194304
              file: "a"
              note: "x\ny"
            - bytes: 1536
              file: "bb"
            apps: []
        "#]],
        );
    }
}
