//! The configuration file: TOML to what was written for each key, and where.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::load::{Entry, Mistake, Place, Written};
use super::{Declare, Kind, Raw, join, nearest};

/// Reads all that the text says. Mistakes are collected; what is wrong is not written.
pub(super) fn read(shown: &str, text: &str, declared: &Declare, written: &mut Written, mistakes: &mut Vec<Mistake>) {
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    let mut walk = Walk { shown, text, declared, written, mistakes };
    for err in syntax_errors {
        let place = walk.place(err.span().map_or(0, |span| span.start));
        walk.mistakes.push(Mistake::new(place, None, err.message()));
    }
    walk.table("", "", document.get_ref());
}

struct Walk<'a> {
    shown: &'a str,
    text: &'a str,
    declared: &'a Declare,
    written: &'a mut Written,
    mistakes: &'a mut Vec<Mistake>,
}

impl Walk<'_> {
    fn place(&self, offset: usize) -> Place {
        let line = 1 + self.text[..offset.min(self.text.len())].matches('\n').count();
        Place::Line(self.shown.to_owned(), line)
    }

    /// `path` as it is written, `pattern` as it is declared: with `*` for the name of a repeated table.
    fn table(&mut self, path: &str, pattern: &str, table: &DeTable<'_>) {
        for (name, entry) in table {
            let place = self.place(name.span().start);
            let name = name.get_ref();
            let is_row = self.declared.tables.iter().any(|tables| tables.path == pattern);
            if is_row {
                self.written.rows.entry(path.to_owned()).or_default().push(name.to_string());
            }
            let pattern = join(pattern, if is_row { "*" } else { name });
            self.entry(&join(path, name), &pattern, place, entry);
        }
    }

    fn entry(&mut self, path: &str, pattern: &str, place: Place, entry: &Spanned<DeValue<'_>>) {
        let declared = self.declared;
        let is_tables = declared.tables.iter().any(|tables| tables.path == pattern);
        let is_section = is_tables || declared.keys.iter().any(|key| key.path.starts_with(&format!("{pattern}.")));
        if let (DeValue::Table(inner), true) = (entry.get_ref(), is_section) {
            self.written.sections.insert(path.to_owned(), place);
            return self.table(path, pattern, inner);
        }
        let Some(key) = declared.keys.iter().find(|key| key.path == pattern) else {
            let message = match is_section {
                true if is_tables => format!("`{path}` must be tables: [{path}.NAME]"),
                true => format!("`{path}` must be a table: [{path}]"),
                false => format!("unknown key `{path}`{}", self.hint(path, pattern)),
            };
            self.mistakes.push(Mistake::new(place, None, message));
            return;
        };
        match read_value(key.kind, entry.get_ref()) {
            Ok(raw) => {
                for mistake in (key.check)(&raw) {
                    let message = format!("`{path}`: {mistake}");
                    self.mistakes.push(Mistake::new(place.clone(), Some(path), message));
                }
                self.written.keys.insert(path.to_owned(), Entry { raw, place });
            }
            Err(message) => self.mistakes.push(Mistake::new(place, Some(path), format!("`{path}`: {message}"))),
        }
    }

    /// The nearest key or table, with the names that were written in place of `*`.
    fn hint(&self, path: &str, pattern: &str) -> String {
        let keys = self.declared.keys.iter().map(|key| key.path.as_str());
        let sections = keys.clone().filter_map(|key| key.split_once('.')).map(|(section, _)| section);
        let Some(near) = nearest(pattern, keys.chain(sections)) else { return String::new() };
        let written: Vec<&str> = path.split('.').collect();
        let segments = near.split('.').enumerate();
        let named = segments.map(|(at, part)| if part == "*" { *written.get(at).unwrap_or(&"NAME") } else { part });
        format!("; did you mean `{}`?", named.collect::<Vec<_>>().join("."))
    }
}

fn read_value(kind: Kind, found: &DeValue<'_>) -> Result<Raw, String> {
    match (kind, found) {
        (Kind::List(item), DeValue::Array(items)) => {
            let items = items.iter().map(|found| match found.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                DeValue::Integer(number) if item.takes_number() => Ok(number.to_string()),
                other => Err(format!("expected {}, found {}", kind.expected(), type_name(other))),
            });
            items.collect::<Result<_, _>>().map(Raw::List)
        }
        (_, DeValue::String(text)) => Ok(Raw::Text(text.to_string())),
        (Kind::Bool, DeValue::Boolean(value)) => Ok(Raw::Text(value.to_string())),
        (_, DeValue::Integer(number)) if kind.takes_number() => Ok(Raw::Text(number.to_string())),
        (_, other) => Err(format!("expected {}, found {}", kind.expected(), type_name(other))),
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
