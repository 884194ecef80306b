//! `config-reference`: every key with its default, as a TOML file with comments.

use std::fmt::Write;

use super::{Declare, Declared, Kind};
use crate::Daemon;

/// The reference of all keys. It is itself a valid file once the required keys are set.
pub fn reference<D: Daemon>() -> String {
    let declared = Declare::of::<D>();
    let prefix = crate::variable_prefix::<D>();
    let mut out = format!("# {} configuration: every key with its default.\n", D::NAME);
    let mut section = "";
    // In TOML what stands in no table comes before all tables.
    let (plain, in_tables): (Vec<_>, Vec<_>) =
        declared.keys.iter().filter(|key| key.is_variable()).partition(|key| !key.path.contains('.'));
    for key in plain.into_iter().chain(in_tables) {
        let (table, name) = key.path.split_once('.').unwrap_or(("", &key.path));
        if table != section {
            let _ = writeln!(out, "\n[{table}]");
            section = table;
        }
        let flag = if key.is_flag() { format!("--{}  ", key.flag()) } else { String::new() };
        let _ = writeln!(out, "# {}\n# {flag}{}", help(key), key.variable(&prefix));
        let _ = writeln!(out, "{}{name} = {}", if key.default.is_empty() { "# " } else { "" }, literal(key));
    }
    for tables in &declared.tables {
        let _ = writeln!(out, "\n# {}\n[{}.{}]", tables.help, tables.path, tables.example);
        let below = format!("{}.*.", tables.path);
        for (key, name) in declared.keys.iter().filter_map(|key| Some((key, key.path.strip_prefix(&below)?))) {
            let _ = writeln!(out, "# {}\n# {name} = {}", help(key), literal(key));
        }
    }
    out
}

/// The help, and what it does not say itself.
pub(crate) fn help(key: &Declared) -> String {
    let required = if key.required.is_some() { "; required" } else { "" };
    let words = match key.kind {
        Kind::Word(words) => format!(" ({})", words.join(", ")),
        _ => String::new(),
    };
    let live = if key.is_live { "; a SIGHUP obeys a new value" } else { "" };
    format!("{}{words}{required}{live}", key.help)
}

fn literal(key: &Declared) -> String {
    match key.kind {
        Kind::Bool | Kind::Count => key.default.to_owned(),
        Kind::List(_) => {
            let items = key.default.split(',').map(str::trim).filter(|item| !item.is_empty());
            format!("[{}]", items.map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", "))
        }
        _ => format!("{:?}", key.default),
    }
}
