//! Prometheus text exposition format 0.0.4: names checked, values escaped.

use std::fmt::Write;

use crate::labels::Labels;
use crate::limits::LABEL_VALUE_BYTES_MAX;

/// `{a="1",b="2"}` without the braces.
pub(crate) fn label_pairs<L: Labels>(labels: &L) -> String {
    let mut out = String::new();
    let mut names = L::NAMES.iter();
    labels.values(&mut |value| {
        let name = names.next().expect("as many values as names");
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        put_escaped(&mut out, shortened(value));
        if value.len() > LABEL_VALUE_BYTES_MAX {
            out.push('…');
        }
        out.push('"');
    });
    out
}

fn shortened(value: &str) -> &str {
    let mut end = value.len().min(LABEL_VALUE_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

fn put_escaped(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

pub(crate) fn header(out: &mut String, name: &str, help: &str, kind: &str) {
    out.push_str("# HELP ");
    out.push_str(name);
    out.push(' ');
    for character in help.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    let _ = write!(out, "\n# TYPE {name} {kind}\n");
}

/// One sample; `extra` is a further, already escaped pair such as `le="0.1"`.
pub(crate) fn sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    pairs: &str,
    extra: &str,
    value: impl std::fmt::Display,
) {
    out.push_str(name);
    out.push_str(suffix);
    if !pairs.is_empty() || !extra.is_empty() {
        out.push('{');
        out.push_str(pairs);
        if !pairs.is_empty() && !extra.is_empty() {
            out.push(',');
        }
        out.push_str(extra);
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

/// A metric's or label's name as Prometheus allows it.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
